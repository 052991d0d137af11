//! Tests of the store: what is wanted, what is ours, what is translated.

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::ApiResource;
use serde_json::{Value, json};

use super::*;
use crate::cluster::raw::Raw;

fn store(options: Options, by_selector: bool) -> Store {
    Store::new(options, AnnotationsPrefix::new("nginx.ingress.kubernetes.io"), by_selector)
}

fn options() -> Options {
    Options { config_map: Some(ObjectName::new("sys", "conf")), ..Options::default() }
}

/// An object as a watch tells of it.
fn there(kind: Kind, value: Value) -> News {
    let resource = match kind {
        Kind::Ingress => ApiResource::erase::<Ingress>(&()),
        Kind::IngressClass => ApiResource::erase::<IngressClass>(&()),
        Kind::Service => ApiResource::erase::<Service>(&()),
        Kind::Secret => ApiResource::erase::<Secret>(&()),
        _ => ApiResource::erase::<ConfigMap>(&()),
    };
    let raw: Raw = serde_json::from_value(value).expect("any value");
    let (name, identity, loaded) =
        raw.decode(&resource, &AnnotationsPrefix::new("nginx.ingress.kubernetes.io"));
    News::There { kind, name, identity, loaded }
}

fn gone(kind: Kind, namespace: &str, name: &str) -> News {
    News::Gone { kind, name: ObjectName::new(namespace, name) }
}

fn ingress(namespace: &str, name: &str, class: &str, tls: &str, path: &str, version: &str) -> Value {
    let annotations =
        if path.contains('(') { json!({"nginx.ingress.kubernetes.io/use-regex": "true"}) } else { json!({}) };
    json!({
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": version, "annotations": annotations},
        "spec": {
            "ingressClassName": class,
            "tls": [{"hosts": [format!("{name}.example")], "secretName": tls}],
            "rules": [{"host": format!("{name}.example"), "http": {"paths": [
                {"path": path, "pathType": "ImplementationSpecific",
                 "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}],
        },
    })
}

fn class(name: &str, controller: &str) -> News {
    there(Kind::IngressClass, json!({"metadata": {"name": name}, "spec": {"controller": controller}}))
}

fn wanted(store: &Store) -> String {
    let all = store.wanted();
    let text =
        all.names.iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind} {name}")));
    text.collect::<Vec<_>>().join(", ")
}

fn ours(store: &mut Store) -> String {
    store.identities().keys().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The rules that are served, as `host path`, but for those that no Ingress wrote.
fn served(store: &mut Store) -> String {
    let translation = store.translate();
    let hosts = translation.config.hosts.iter().filter(|host| host.name != "*");
    let rules = hosts.flat_map(|host| host.rules.iter().map(move |rule| (host, rule)));
    let rules =
        rules.filter(|(_, rule)| rule.path != "/").map(|(host, rule)| format!("{} {}", host.name, rule.path));
    rules.collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_named_is_wanted() {
    let mut store = store(options(), false);
    assert_eq!(wanted(&store), "ConfigMap sys/conf");
    assert!(store.changed().wanted);

    store.take(there(Kind::Ingress, ingress("d", "a", "nginx", "cert", "/a", "1")));
    assert_eq!(wanted(&store), "Secret d/cert, ConfigMap sys/conf");
    assert_eq!(store.unanswered().map(ToString::to_string).as_deref(), Some("Secret d/cert"));
    store.take(gone(Kind::Secret, "d", "cert"));
    store.take(there(
        Kind::ConfigMap,
        json!({
            "metadata": {"name": "conf", "namespace": "sys"}, "data": {"add-headers": "sys/headers"},
        }),
    ));
    assert_eq!(wanted(&store), "Secret d/cert, ConfigMap sys/conf, ConfigMap sys/headers");
    store.take(gone(Kind::ConfigMap, "sys", "headers"));
    assert_eq!(store.unanswered(), None);

    // A second Ingress names the same Secret; with the last one it is forgotten.
    store.take(there(Kind::Ingress, ingress("d", "b", "nginx", "cert", "/b", "1")));
    store.take(gone(Kind::Ingress, "d", "a"));
    assert!(wanted(&store).starts_with("Secret d/cert,"), "{}", wanted(&store));
    store.take(gone(Kind::ConfigMap, "sys", "conf"));
    store.take(gone(Kind::Ingress, "d", "b"));
    assert_eq!(wanted(&store), "ConfigMap sys/conf");
}

#[test]
fn what_nothing_names_is_not_kept() {
    let secret = || there(Kind::Secret, json!({"metadata": {"name": "cert", "namespace": "d"}, "data": {}}));
    let mut store = store(options(), false);
    store.changed();
    store.take(secret());
    assert!(!store.changed().objects, "a Secret that came late");
    store.take(there(Kind::Ingress, ingress("d", "a", "nginx", "cert", "/a", "1")));
    store.take(secret());
    store.take(gone(Kind::Ingress, "d", "a"));
    let (snapshot, _) = store.catalog.snapshot();
    assert!(snapshot.secrets.is_empty(), "{snapshot:?}");
}

#[test]
fn ingresses_of_others_are_not_ours() {
    let mut store = store(options(), false);
    store.take(class("edge", "example.com/other"));
    store.take(there(Kind::Ingress, ingress("d", "a", "edge", "cert", "/a", "1")));
    assert_eq!((ours(&mut store).as_str(), wanted(&store).as_str()), ("", "ConfigMap sys/conf"));
    store.take(class("edge", "ingress-wasm.io/controller"));
    assert_eq!(ours(&mut store), "d/a");
    assert_eq!(wanted(&store), "Secret d/cert, ConfigMap sys/conf");
    store.take(gone(Kind::IngressClass, "", "edge"));
    assert_eq!((ours(&mut store).as_str(), wanted(&store).as_str()), ("", "ConfigMap sys/conf"));
}

#[test]
fn a_status_is_no_change() {
    let mut store = store(options(), false);
    store.take(there(Kind::Ingress, ingress("d", "a", "nginx", "cert", "/a", "1")));
    store.changed();
    let mut value = ingress("d", "a", "nginx", "cert", "/a", "2");
    value["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    store.take(there(Kind::Ingress, value.clone()));
    assert_eq!(store.changed(), Changed { objects: false, identities: true, wanted: false });
    let identities = store.identities();
    let identity = identities.values().next().expect("one");
    assert_eq!((identity.resource_version.as_str(), &identity.status), ("2", &value["status"]));
    store.take(there(Kind::Ingress, value));
    assert_eq!(store.changed(), Changed::default(), "listed again");
}

#[test]
fn a_bad_version_leaves_the_good_one() {
    let mut store = store(options(), false);
    store.take(there(Kind::Ingress, ingress("d", "a", "nginx", "cert", "/good", "1")));
    assert_eq!(served(&mut store), "a.example /good");
    store.take(there(Kind::Ingress, ingress("d", "a", "nginx", "new", "/bad(", "2")));
    assert_eq!(served(&mut store), "a.example /good");
    assert_eq!(ours(&mut store), "d/a");
    assert!(wanted(&store).starts_with("Secret d/cert, Secret d/new"), "of both: {}", wanted(&store));
    // Not even an Ingress: an API server lets that through only for a kind without validation.
    let mut value = ingress("d", "a", "nginx", "cert", "/x", "3");
    value["spec"]["rules"] = json!("none");
    store.take(there(Kind::Ingress, value));
    assert_eq!((served(&mut store).as_str(), ours(&mut store).as_str()), ("a.example /good", "d/a"));
    assert!(wanted(&store).contains("Secret d/cert"), "what the good one names: {}", wanted(&store));
    assert!(!wanted(&store).contains("Secret d/new"), "of the bad one: {}", wanted(&store));
    store.take(there(Kind::Ingress, ingress("d", "a", "nginx", "other", "/mended", "4")));
    assert_eq!(served(&mut store), "a.example /mended");
    assert_eq!(wanted(&store), "Secret d/other, ConfigMap sys/conf");
    store.take(gone(Kind::Ingress, "d", "a"));
    assert_eq!(served(&mut store), "");
}

#[test]
fn namespaces_by_selector() {
    let mut store = store(options(), true);
    let chosen = |name: &str, chosen| News::Namespace { name: name.to_owned(), chosen };
    store.take(there(Kind::Ingress, ingress("d", "a", "nginx", "cert", "/a", "1")));
    store.take(there(Kind::Ingress, ingress("e", "b", "nginx", "cert", "/b", "1")));
    assert_eq!((served(&mut store).as_str(), ours(&mut store).as_str()), ("", ""));
    store.take(chosen("d", true));
    assert_eq!((served(&mut store).as_str(), ours(&mut store).as_str()), ("a.example /a", "d/a"));
    assert!(wanted(&store).starts_with("Secret d/cert, ConfigMap"), "{}", wanted(&store));
    store.take(chosen("e", true));
    store.take(chosen("d", false));
    assert_eq!((served(&mut store).as_str(), ours(&mut store).as_str()), ("b.example /b", "e/b"));
    store.take(there(Kind::Ingress, ingress("d", "a", "nginx", "cert", "/new", "2")));
    assert_eq!(served(&mut store), "b.example /b");
    store.take(chosen("d", true));
    assert_eq!(served(&mut store), "a.example /new, b.example /b");
}

#[test]
fn another_prefix_is_shown_in_what_is_said() {
    let prefix = AnnotationsPrefix::new("edge.example");
    let mut store = Store::new(options(), prefix.clone(), false);
    let mut value = ingress("d", "a", "nginx", "cert", "/a", "1");
    value["metadata"]["annotations"] = json!({"edge.example/ssl-redirect": "maybe"});
    let raw: Raw = serde_json::from_value(value).expect("any value");
    let (name, identity, loaded) = raw.decode(&ApiResource::erase::<Ingress>(&()), &prefix);
    store.take(News::There { kind: Kind::Ingress, name, identity, loaded });
    let said = store.translate().diagnostics;
    assert!(
        said.iter()
            .any(|diagnostic| diagnostic.field == "metadata.annotations[\"edge.example/ssl-redirect\"]"),
        "{said:?}"
    );
}

#[test]
fn a_class_may_name_the_config_map() {
    let class = |map: Option<&str>| {
        let parameters = map
            .map(|name| json!({"kind": "ConfigMap", "name": name, "namespace": "sys", "scope": "Namespace"}));
        let spec = json!({"controller": "k8s.io/ingress-nginx", "parameters": parameters});
        there(Kind::IngressClass, json!({"metadata": {"name": "nginx"}, "spec": spec}))
    };
    let map = |name: &str| {
        let data = json!({"add-headers": "sys/headers"});
        there(Kind::ConfigMap, json!({"metadata": {"name": name, "namespace": "sys"}, "data": data}))
    };
    let mut store = store(Options { config_map: None, ..Options::default() }, false);
    store.take(class(Some("one")));
    store.take(map("one"));
    assert_eq!(wanted(&store), "ConfigMap sys/headers, ConfigMap sys/one");
    assert_eq!(store.wanted().must, Some(ObjectName::new("sys", "one")));
    store.take(class(Some("two")));
    assert_eq!(wanted(&store), "ConfigMap sys/two");
    store.take(class(None));
    assert_eq!((wanted(&store), store.wanted().must), (String::new(), None));

    let mut store = self::store(options(), false);
    store.take(class(Some("one")));
    assert_eq!(wanted(&store), "ConfigMap sys/conf", "the command line counts");
}
