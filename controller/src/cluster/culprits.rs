//! Which objects a refusal of Envoy is about.

use std::collections::BTreeSet;

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::{Kind, ObjectName, ObjectRef};
use ingress_wasm_translate::output::Translation;

use crate::xds::{Rejection, ResourceType};

/// How many objects are named that may be to blame.
const NAMED: usize = 5;

/// What to say of a refusal, one diagnostic for each object that it is known to be about: by the name of what was
/// refused, or since nothing else has changed. Where it is not known, the objects that have changed are named.
pub fn culprits(
    rejection: &Rejection,
    translation: &Translation,
    changed: &BTreeSet<ObjectRef>,
) -> Vec<Diagnostic> {
    let only = changed.first().filter(|_| changed.len() == 1);
    let diagnostic = |object: Option<ObjectRef>, name: &str| {
        let object = object.or_else(|| only.cloned());
        let mut consequence = format!(
            "Envoy refused the {} {name}: {}; what was served before goes on serving",
            rejection.kind, rejection.message
        );
        if object.is_none() && !changed.is_empty() {
            let named: Vec<String> = changed.iter().take(NAMED).map(ToString::to_string).collect();
            consequence.push_str(&format!("; changed since then: {}", named.join(", ")));
            if let Some(more) = changed.len().checked_sub(NAMED).filter(|more| *more > 0) {
                consequence.push_str(&format!(" and {more} others"));
            }
        }
        let diagnostic = Diagnostic::error("envoy-refused", consequence)
            .remedy("correct or remove the object that changed last, and report this: it should have been found before");
        match object {
            Some(object) => diagnostic.object(object, None),
            None => diagnostic,
        }
    };
    rejection.names.iter().map(|name| diagnostic(object(rejection.kind, name, translation), name)).collect()
}

fn object(kind: ResourceType, name: &str, translation: &Translation) -> Option<ObjectRef> {
    match kind {
        ResourceType::Cluster | ResourceType::Endpoints => {
            let service = translation.clusters.get(name)?.service.service.clone();
            Some(ObjectRef { kind: Kind::Service, name: service })
        }
        ResourceType::Secret => {
            // A certificate is named as its Secret, authorities with a word before and maybe a number behind.
            let (namespace, name) = name.split(':').find_map(|part| part.split_once('/'))?;
            Some(ObjectRef { kind: Kind::Secret, name: ObjectName::new(namespace, name) })
        }
        ResourceType::Listener | ResourceType::Route | ResourceType::Extension => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ingress_wasm_translate::manifest::{merge_into, read};
    use ingress_wasm_translate::objects::Snapshot;
    use ingress_wasm_translate::output::Options;

    use super::*;

    const OBJECTS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: d}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, namespace: d}
spec:
  ingressClassName: nginx
  defaultBackend: {service: {name: web, port: {number: 80}}}
";

    #[test]
    fn who_is_to_blame() {
        let mut snapshot = Snapshot::default();
        merge_into(&mut snapshot, read(&Arc::from("t.yaml"), OBJECTS).objects);
        let translation = ingress_wasm_translate::translate(&snapshot, &Options::default());
        let ingress = |name: &str| ObjectRef { kind: Kind::Ingress, name: ObjectName::new("d", name) };
        let one = BTreeSet::from([ingress("a")]);
        let many: BTreeSet<ObjectRef> = ["a", "b", "c", "d", "e", "f", "g"].map(ingress).into();
        let none = BTreeSet::new();
        let cases = [
            (ResourceType::Cluster, "d/web:80", &many, "Service d/web", ""),
            (ResourceType::Cluster, "d/gone:80", &one, "Ingress d/a", ""),
            (ResourceType::Secret, "d/cert", &many, "Secret d/cert", ""),
            (ResourceType::Secret, "clients:d/ca:1", &many, "Secret d/ca", ""),
            (ResourceType::Secret, "default-certificate", &none, "", ""),
            (ResourceType::Extension, "ingress-wasm", &one, "Ingress d/a", ""),
            (ResourceType::Extension, "ingress-wasm", &many, "", "Ingress d/d, Ingress d/e and 2 others"),
        ];
        for (kind, name, changed, expected, says) in cases {
            let rejection = Rejection { kind, names: vec![name.to_owned()], message: "no".to_owned() };
            let said = culprits(&rejection, &translation, changed);
            let [diagnostic] = &said[..] else { panic!("{said:?}") };
            let object = diagnostic.object.as_ref().map(ToString::to_string).unwrap_or_default();
            assert_eq!(object, expected, "{kind} {name}");
            assert!(diagnostic.consequence.ends_with(says), "{}", diagnostic.consequence);
        }
    }
}
