use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::output::{Options, Translation};

fn ingress(name: &str, path: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| (format!("nginx.ingress.kubernetes.io/{key}"), json!(value)))
        .collect();
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let paths = json!([{"path": path, "pathType": "Prefix", "backend": backend}]);
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": name, "annotations": annotations, "creationTimestamp": "2020-01-01T00:00:00Z",
        },
        "spec": {
            "ingressClassName": "nginx",
            "rules": [{"host": "a.example", "http": {"paths": paths}}],
        },
    })
}

fn secret(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": name}, "stringData": data})
}

/// Secrets `ca`, `pair`, `all` and `broken`.
fn secrets() -> Vec<Value> {
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new(vec!["web.internal".to_owned()]).expect("names");
    let pem = parameters.self_signed(&key).expect("signed").pem();
    let key = key.serialize_pem();
    vec![
        secret("ca", &json!({"ca.crt": pem})),
        secret("pair", &json!({"tls.crt": pem, "tls.key": key})),
        secret("all", &json!({"ca.crt": pem, "tls.crt": pem, "tls.key": key})),
        secret("broken", &json!({"ca.crt": pem, "tls.crt": pem, "tls.key": "nothing"})),
        secret("empty", &json!({"auth": "x"})),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
        }),
    ]
}

fn translate(objects: Vec<Value>, option: Option<(&str, &str)>) -> Translation {
    let mut snapshot = Snapshot::default();
    let map = option.map(|(name, value)| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {name: value},
            "metadata": {"namespace": "ingress-nginx", "name": "ingress-nginx-controller"},
        })
    });
    for object in secrets().into_iter().chain(objects).chain(map) {
        let loaded = crate::manifest::read(&"test.json".into(), &object.to_string());
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        loaded.objects.into_iter().for_each(|object| drop(snapshot.insert(object)));
    }
    let translation = crate::translate(&snapshot, &Options::default());
    let shown = format!("{translation:?}{}", serde_json::to_string(&translation.config).expect("JSON"));
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    translation
}

/// How the rule for a path is spoken to: `denied`, `plain`, or the protocol and what is special about TLS.
fn shown(translation: &Translation, path: &str) -> String {
    let mut rules = translation.config.hosts.iter().flat_map(|host| &host.rules);
    let rule = rules.find(|rule| rule.path == path && !rule.ingress.is_empty()).expect(path);
    let policies = &translation.config.policies[rule.policies];
    if policies.denied.is_some() {
        return "denied".to_owned();
    }
    let Action::Forward { cluster, service, .. } = &rule.action else { panic!("{rule:?}") };
    assert!(translation.clusters.contains_key(cluster), "{cluster}");
    let service = if service.is_empty() { cluster } else { service };
    assert_eq!(service, "default/web:80");
    let mut text = String::new();
    let name = match &policies.tls_cluster_suffix {
        Some(suffix) => {
            assert!(!translation.transports.contains_key(cluster), "{cluster}");
            text.push_str("auto ");
            format!("{cluster}{suffix}")
        }
        None => cluster.clone(),
    };
    assert!(translation.clusters.contains_key(&name), "{name}");
    let Some(Transport { http2, tls }) = translation.transports.get(&name) else { return "plain".to_owned() };
    text.push_str(if *http2 { "h2" } else { "h1" });
    let Some(tls) = tls else { return text };
    let BackendTls { server_name, verify, certificate, oldest, newest, ciphers } = &**tls;
    text.push_str(&format!(" tls {oldest:?}-{newest:?}"));
    text.extend(server_name.iter().map(|name| format!(" sni={name}")));
    text.extend(verify.iter().map(|verify| format!(" verify={}/{}", verify.name, verify.depth)));
    text.extend(certificate.iter().map(|certificate| format!(" shows={}", certificate.secret.name)));
    text.extend(ciphers.iter().map(|cipher| format!(" {cipher}")));
    text
}

#[test]
fn protocols_and_settings_of_tls() {
    let https = ("backend-protocol", "HTTPS");
    let with = |name| ("proxy-ssl-secret", name);
    let on = ("proxy-ssl-verify", "on");
    let name = ("proxy-ssl-name", "web.internal");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "plain"),
        (&[("backend-protocol", "http")], "plain"),
        (&[("backend-protocol", "SPDY")], "plain"),
        (&[("backend-protocol", "FCGI")], "denied"),
        (&[("backend-protocol", "GRPC")], "h2"),
        (&[("backend-protocol", "grpcs")], "h2 tls V1_2-V1_3"),
        (&[https], "h1 tls V1_2-V1_3"),
        (&[("backend-protocol", "AUTO_HTTP")], "auto h1 tls V1_2-V1_3"),
        // Without TLS its settings change nothing, but a Secret that cannot be used denies.
        (&[with("default/ca")], "plain"),
        (&[with("default/nowhere")], "denied"),
        (&[https, with("default/pair")], "h1 tls V1_2-V1_3 shows=pair"),
        (&[https, with("default/ca")], "h1 tls V1_2-V1_2"),
        (&[https, with("default/all"), ("proxy-ssl-protocols", "TLSv1.3")], "h1 tls V1_3-V1_3 shows=all"),
        (&[https, with("default/ca"), ("proxy-ssl-protocols", "TLSv1.3 TLSv1.2")], "h1 tls V1_2-V1_3"),
        (&[https, with("default/ca"), on, name], "h1 tls V1_2-V1_2 verify=web.internal/1"),
        (
            &[https, with("default/ca"), on, name, ("proxy-ssl-verify-depth", "3")],
            "h1 tls V1_2-V1_2 verify=web.internal/3",
        ),
        // The name of nginx's upstream, as in ingress-nginx.
        (&[https, with("default/ca"), on], "h1 tls V1_2-V1_2 verify=upstream_balancer/1"),
        (
            &[https, with("default/ca"), name, ("proxy-ssl-server-name", "on")],
            "h1 tls V1_2-V1_2 sni=web.internal",
        ),
        (
            &[https, with("default/ca"), ("proxy-ssl-ciphers", "AES128-SHA:!aNULL")],
            "h1 tls V1_2-V1_2 AES128-SHA",
        ),
        // What was to be checked is never left unchecked.
        (&[https, with("default/pair"), on], "denied"),
        (&[https, with("default/broken")], "denied"),
        (&[https, with("default/empty")], "denied"),
        (&[https, with("other/ca")], "denied"),
        (&[https, with("ca")], "denied"),
        (&[https, with("default/ca"), on, ("proxy-ssl-name", "$host")], "denied"),
    ];
    for (annotations, expected) in cases {
        let translation = translate(vec![ingress("i", "/", annotations)], None);
        assert_eq!(shown(&translation, "/"), *expected, "{annotations:?}: {:?}", translation.diagnostics);
        let told =
            translation.diagnostics.iter().any(|told| told.severity == crate::diagnostic::Severity::Error);
        assert_eq!(told, *expected == "denied", "{annotations:?}: {:?}", translation.diagnostics);
    }
}

#[test]
fn a_host_hands_its_settings_to_other_ingresses() {
    let https = ("backend-protocol", "HTTPS");
    let own = [
        https,
        ("proxy-ssl-secret", "default/ca"),
        ("proxy-ssl-name", "one.internal"),
        ("proxy-ssl-verify", "on"),
    ];
    let objects = || vec![ingress("z", "/", &own), ingress("a", "/a", &[https]), ingress("b", "/b", &[])];
    let translation = translate(objects(), None);
    assert_eq!(shown(&translation, "/a"), "h1 tls V1_2-V1_2 verify=one.internal/1");
    assert_eq!(shown(&translation, "/b"), "plain");
    let translation = translate(objects(), Some(("proxy-ssl-location-only", "true")));
    assert_eq!(shown(&translation, "/"), "h1 tls V1_2-V1_2 verify=one.internal/1");
    assert_eq!(shown(&translation, "/a"), "h1 tls V1_2-V1_3");
}

#[test]
fn the_content_of_secrets_is_not_in_names() {
    let annotations = [("backend-protocol", "HTTPS"), ("proxy-ssl-secret", "default/all")];
    let names = || {
        let translation = translate(vec![ingress("i", "/", &annotations)], None);
        translation.transports.keys().cloned().collect::<Vec<_>>()
    };
    // Each time with other keys.
    assert_eq!(names(), names());
}
