//! Which Secrets and ConfigMaps objects name: what a client of an API server has to fetch, and no more.
//!
//! Deliberately knows nothing of what they are for. What is named in vain, or may not be used, is named too:
//! the translation says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::annotations::{AnnotationSet, GlobalSettings, Value, ValueGrammar};
use crate::class::{Claim, claim};
use crate::objects::{
    ClassParameters, ConfigMap, Ingress, IngressClass, Kind, ObjectName, ObjectRef, Snapshot,
};
use crate::output::Options;

/// What the command line names.
pub fn of_options(options: &Options) -> BTreeSet<ObjectRef> {
    let named = |kind, name: &Option<ObjectName>| name.clone().map(|name| ObjectRef { kind, name });
    let config_map = named(Kind::ConfigMap, &options.config_map);
    let certificate = named(Kind::Secret, &options.default_certificate);
    config_map.into_iter().chain(certificate).collect()
}

/// What the ConfigMap with the global options names.
pub fn of_config_map(map: &ConfigMap) -> BTreeSet<ObjectRef> {
    let settings = GlobalSettings::read(map);
    let named = |name: Option<(Option<String>, String)>| {
        let (namespace, name) = name?;
        Some(ObjectRef { kind: Kind::ConfigMap, name: ObjectName::new(namespace?, name) })
    };
    named(settings.proxy_set_headers).into_iter().chain(named(settings.add_headers)).collect()
}

/// What an Ingress names.
pub fn of_ingress(ingress: &Ingress) -> BTreeSet<ObjectRef> {
    let own_namespace = &ingress.metadata.name.namespace;
    let mut all = BTreeSet::new();
    for name in ingress.tls.iter().filter_map(|tls| tls.secret_name.as_ref()) {
        let name = ObjectName::new(own_namespace.clone(), name.clone());
        all.insert(ObjectRef { kind: Kind::Secret, name });
    }
    for setting in AnnotationSet::of(ingress, None).iter() {
        let kind = match setting.entry.value {
            ValueGrammar::SecretName { .. } => Kind::Secret,
            ValueGrammar::ConfigMapName => Kind::ConfigMap,
            _ => continue,
        };
        if let Ok(Value::Name { namespace, name }) = setting.parse() {
            let name = ObjectName::new(namespace.unwrap_or_else(|| own_namespace.clone()), name);
            all.insert(ObjectRef { kind, name });
        }
    }
    all
}

/// The ConfigMap with the global options that an IngressClass of ours names as its parameters: that of the class
/// `--ingress-class`, else of the first by name. What the command line names counts before it.
pub fn config_map_of_classes(classes: &Snapshot, options: &Options) -> Option<ObjectName> {
    let ours = |class: &&Arc<IngressClass>| options.controller_classes.contains(&class.controller);
    let map = |class: &Arc<IngressClass>| {
        let parameters = class.parameters.as_ref()?;
        names_config_map(parameters).then(|| parameters.name.clone())
    };
    let main = classes.classes.get(&ObjectName::new("", options.ingress_class.clone()));
    let main = main.filter(ours).and_then(map);
    main.or_else(|| classes.classes.values().filter(ours).find_map(map))
}

/// Whether the parameters of a class are a ConfigMap.
pub(crate) fn names_config_map(parameters: &ClassParameters) -> bool {
    let ClassParameters { api_group, kind, name } = parameters;
    api_group.is_empty() && kind == "ConfigMap" && !name.namespace.is_empty()
}

/// Whether an Ingress is served, as far as the classes of the snapshot say.
pub fn is_ours(ingress: &Ingress, classes: &Snapshot, options: &Options) -> bool {
    matches!(claim(ingress, classes, options), Claim::Ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{merge_into, read};

    fn snapshot(text: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let loaded = read(&Arc::from("t.yaml"), text);
        assert!(loaded.rejected.is_empty() && !loaded.broken, "{:?}", loaded.diagnostics);
        merge_into(&mut snapshot, loaded.objects);
        snapshot
    }

    fn text(references: &BTreeSet<ObjectRef>) -> String {
        references.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_an_ingress_names() {
        let head =
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: a\n  namespace: shop\n";
        let spec = "  defaultBackend: {service: {name: web, port: {number: 80}}}\n";
        let annotated = |annotation: &str| {
            format!("{head}  annotations:\n    nginx.ingress.kubernetes.io/{annotation}\nspec:\n{spec}")
        };
        let cases = [
            (format!("{head}spec:\n{spec}"), ""),
            (
                format!(
                    "{head}spec:\n{spec}  tls:\n  - {{hosts: [a.example], secretName: cert}}\n  - {{}}\n"
                ),
                "Secret shop/cert",
            ),
            (annotated("auth-secret: users"), "Secret shop/users"),
            (annotated("auth-secret: other/users"), "Secret other/users"),
            (annotated("auth-tls-secret: shop/authorities"), "Secret shop/authorities"),
            (annotated("proxy-ssl-secret: shop/client"), "Secret shop/client"),
            (annotated("custom-headers: shop/headers"), "ConfigMap shop/headers"),
            (annotated("auth-proxy-set-headers: shop/headers"), "ConfigMap shop/headers"),
            (annotated("rewrite-target: /x"), ""),
        ];
        for (manifest, expected) in cases {
            let snapshot = snapshot(&manifest);
            let ingress = snapshot.ingresses.values().next().expect("one");
            assert_eq!(text(&of_ingress(ingress)), expected, "{manifest}");
        }
    }

    #[test]
    fn what_options_name() {
        let options =
            Options { default_certificate: Some(ObjectName::new("a", "cert")), ..Options::default() };
        let expected = "Secret a/cert, ConfigMap ingress-nginx/ingress-nginx-controller";
        assert_eq!(text(&of_options(&options)), expected);
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: n}\ndata:\n  \
                   proxy-set-headers: n/request\n  add-headers: n/answer\n  use-http2: \"true\"\n";
        let snapshot = snapshot(map);
        let map = snapshot.config_maps.values().next().expect("one");
        assert_eq!(text(&of_config_map(map)), "ConfigMap n/answer, ConfigMap n/request");
    }
}
