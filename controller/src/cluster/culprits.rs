//! Which objects a refusal of Envoy is about.

use std::collections::BTreeSet;

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::{Kind, ObjectName, ObjectRef};
use ingress_wasm_translate::output::Translation;

use super::store::Changes;
use crate::envoy::DEFAULT_CERTIFICATE;
use crate::xds::{Rejection, ResourceType};

/// How many objects are named that may be to blame.
const NAMED: usize = 5;

/// Whom a refusal is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blame {
    /// These, each with what was refused of it.
    Certain(Vec<(ObjectRef, String)>),
    /// One or some of these, two at least.
    Among(BTreeSet<ObjectRef>),
    /// Nothing that could be left out.
    Unknown,
}

/// Whom a refusal is about: by the name of what was refused, or since nothing else has changed.
pub fn blame(rejection: &Rejection, translation: &Translation, changes: &Changes) -> Blame {
    let named: Vec<(ObjectRef, String)> = rejection
        .names
        .iter()
        .flat_map(|name| {
            let what = format!("{} {name}", rejection.kind);
            of_resource(rejection.kind, name, translation, changes)
                .into_iter()
                .map(move |one| (one, what.clone()))
        })
        .collect();
    if rejection.by_name && !named.is_empty() || named.len() == 1 {
        return Blame::Certain(named);
    }
    let mut suspects: BTreeSet<ObjectRef> = named.into_iter().map(|(object, _)| object).collect();
    if suspects.is_empty() {
        // Services, their endpoints and classes are seldom what a refusal is about, and much depends on them.
        let likely =
            |object: &&ObjectRef| matches!(object.kind, Kind::Ingress | Kind::Secret | Kind::ConfigMap);
        suspects = changes.keys().filter(likely).cloned().collect();
        if suspects.is_empty() {
            suspects = changes.keys().cloned().collect();
        }
    }
    match suspects.len() {
        0 => Blame::Unknown,
        1 => Blame::Certain(suspects.into_iter().map(|object| (object, part_of(rejection))).collect()),
        _ => Blame::Among(suspects),
    }
}

/// The objects that a resource is made of, as far as they may be to blame.
fn of_resource(
    kind: ResourceType,
    name: &str,
    translation: &Translation,
    changes: &Changes,
) -> Vec<ObjectRef> {
    match kind {
        ResourceType::Cluster | ResourceType::Endpoints => {
            let Some(cluster) = translation.clusters.get(name) else { return Vec::new() };
            let service = ObjectRef { kind: Kind::Service, name: cluster.service.service.clone() };
            // What a cluster is like, Ingresses say more often than Services do.
            let here = |object: &&ObjectRef| {
                object.kind == Kind::Ingress && object.name.namespace == service.name.namespace
            };
            let ingresses: Vec<ObjectRef> = changes.keys().filter(here).cloned().collect();
            match ingresses.len() {
                1 if !changes.contains_key(&service) => ingresses,
                _ => vec![service],
            }
        }
        ResourceType::Secret if name == DEFAULT_CERTIFICATE => {
            let default = translation.default_certificate.as_deref();
            let secret = |name: ObjectName| ObjectRef { kind: Kind::Secret, name };
            default.map(|default| secret(default.secret.clone())).into_iter().collect()
        }
        ResourceType::Secret => {
            // A certificate is named as its Secret, authorities with a word before and maybe a number behind.
            let named = name.split(':').find_map(|part| part.split_once('/'));
            named
                .map(|(namespace, name)| ObjectRef {
                    kind: Kind::Secret,
                    name: ObjectName::new(namespace, name),
                })
                .into_iter()
                .collect()
        }
        ResourceType::Listener | ResourceType::Route | ResourceType::Extension => Vec::new(),
    }
}

/// What was refused of an object that was not named.
pub fn part_of(rejection: &Rejection) -> String {
    format!("{} that it is part of", rejection.kind)
}

/// What to say of an object that is left out.
pub fn left_out(object: &ObjectRef, what: &str, message: &str, has_good: bool) -> Diagnostic {
    let consequence = format!("Envoy refused the {what}: {message}; {}", stands_in(object, has_good));
    Diagnostic::error("envoy-refused", consequence).object(object.clone(), None).remedy(
        "correct it: it is tried again when it changes; and report this, it should have been found before",
    )
}

/// What to say to an Ingress that names an object that is left out.
pub fn user(ingress: &ObjectName, object: &ObjectRef, message: &str, has_good: bool) -> Diagnostic {
    let consequence =
        format!("Envoy refused {object}, which is named here: {message}; {}", stands_in(object, has_good));
    Diagnostic::error("envoy-refused", consequence)
        .object(ObjectRef { kind: Kind::Ingress, name: ingress.clone() }, None)
        .remedy(format!("correct {object}: it is tried again when it changes"))
}

fn stands_in(object: &ObjectRef, has_good: bool) -> &'static str {
    match object.kind {
        _ if has_good => "its last good version goes on serving, and everything else as it is now",
        Kind::Ingress => "its requests are answered 503, and everything else is served",
        _ => "it is left out, and everything else is served",
    }
}

/// What to say of a refusal of which it is not known what it is about.
pub fn unexplained(rejection: &Rejection, changes: &Changes) -> Vec<Diagnostic> {
    let diagnostic = |name: &String| {
        let mut consequence = format!(
            "Envoy refused the {} {name}: {}; what was served before goes on serving",
            rejection.kind, rejection.message
        );
        if !changes.is_empty() {
            let named: Vec<String> = changes.keys().take(NAMED).map(ToString::to_string).collect();
            consequence.push_str(&format!("; changed since then: {}", named.join(", ")));
            if let Some(more) = changes.len().checked_sub(NAMED).filter(|more| *more > 0) {
                consequence.push_str(&format!(" and {more} others"));
            }
        }
        Diagnostic::error("envoy-refused", consequence)
            .remedy("correct or remove the object that changed last, and report this: it should have been found before")
    };
    rejection.names.iter().map(diagnostic).collect()
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

    fn reference(kind: Kind, name: &str) -> ObjectRef {
        ObjectRef { kind, name: ObjectName::new("d", name) }
    }

    fn changes(objects: &[ObjectRef]) -> Changes {
        objects.iter().map(|object| (object.clone(), None)).collect()
    }

    #[test]
    fn who_is_to_blame() {
        let mut snapshot = Snapshot::default();
        merge_into(&mut snapshot, read(&Arc::from("t.yaml"), OBJECTS).objects);
        let translation = ingress_wasm_translate::translate(&snapshot, &Options::default());
        let ingress = |name: &str| reference(Kind::Ingress, name);
        let one = changes(&[ingress("a")]);
        let many = changes(&["a", "b", "c", "d", "e", "f", "g"].map(ingress));
        let with_service = changes(&[ingress("a"), reference(Kind::Service, "web")]);
        let none = Changes::new();
        let (cluster, secret) = (ResourceType::Cluster, ResourceType::Secret);
        let (route, extension) = (ResourceType::Route, ResourceType::Extension);
        let cases = [
            (cluster, &["d/web:80"][..], true, &many, "Service d/web"),
            (cluster, &["d/web:80"], true, &one, "Ingress d/a"),
            (cluster, &["d/web:80"], true, &with_service, "Service d/web"),
            (cluster, &["d/gone:80"], true, &one, "Ingress d/a"),
            (secret, &["d/cert"], true, &many, "Secret d/cert"),
            (secret, &["clients:d/ca:1"], true, &many, "Secret d/ca"),
            (secret, &["d/cert", "d/other"], true, &many, "Secret d/cert, Secret d/other"),
            (secret, &["d/cert", "d/other"], false, &many, "among Secret d/cert, Secret d/other"),
            (secret, &["default-certificate"], true, &none, "unknown"),
            (extension, &["ingress-wasm"], true, &one, "Ingress d/a"),
            (route, &["ingress-wasm"], true, &with_service, "Ingress d/a"),
            (
                route,
                &["ingress-wasm"],
                true,
                &many,
                "among Ingress d/a, Ingress d/b, Ingress d/c, Ingress d/d, Ingress d/e, Ingress d/f, Ingress d/g",
            ),
            (route, &["ingress-wasm"], true, &none, "unknown"),
        ];
        for (kind, names, by_name, changes, expected) in cases {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let rejection = Rejection { kind, names, by_name, message: "no".to_owned() };
            let list = |objects: Vec<String>| objects.join(", ");
            let found = match blame(&rejection, &translation, changes) {
                Blame::Certain(objects) => {
                    list(objects.iter().map(|(object, _)| object.to_string()).collect())
                }
                Blame::Among(objects) => {
                    format!("among {}", list(objects.iter().map(ToString::to_string).collect()))
                }
                Blame::Unknown => "unknown".to_owned(),
            };
            assert_eq!(found, expected, "{rejection:?} {changes:?}");
        }
    }

    #[test]
    fn what_is_not_explained_names_what_has_changed() {
        let many = changes(&["a", "b", "c", "d", "e", "f", "g"].map(|name| reference(Kind::Ingress, name)));
        let rejection = Rejection {
            kind: ResourceType::Route,
            names: vec!["routes".to_owned()],
            by_name: false,
            message: "no".to_owned(),
        };
        let said = unexplained(&rejection, &many);
        let [diagnostic] = &said[..] else { panic!("{said:?}") };
        let says = "Ingress d/a, Ingress d/b, Ingress d/c, Ingress d/d, Ingress d/e and 2 others";
        assert!(diagnostic.consequence.ends_with(says), "{}", diagnostic.consequence);
    }
}
