//! Tests of reviews.

use std::sync::Arc;

use ingress_wasm_translate::manifest::{merge_into, read};
use ingress_wasm_translate::objects::Snapshot;
use ingress_wasm_translate::output::Options;
use serde_json::{Value, json};

use super::*;
use crate::cluster::raw::AnnotationsPrefix;

fn view(manifests: &str) -> View {
    let mut snapshot = Snapshot::default();
    let loaded = read(&Arc::from("t.yaml"), manifests);
    merge_into(&mut snapshot, loaded.objects);
    View {
        snapshot: Arc::new(snapshot),
        options: Options::default(),
        namespaces: None,
        prefix: AnnotationsPrefix::new("nginx.ingress.kubernetes.io"),
    }
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                       spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}\n";

fn ingress(annotations: Value, path: &str) -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "shop", "annotations": annotations},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": "a.example", "http": {"paths": [
            {"path": path, "pathType": "ImplementationSpecific",
             "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]},
    })
}

fn ask(view: &View, object: Value, old: Value) -> Verdict {
    let question = Question {
        api_version: "networking.k8s.io/v1".to_owned(),
        namespace: "shop".to_owned(),
        object,
        old,
    };
    review(view, None, &question)
}

const REGEX: &str = "nginx.ingress.kubernetes.io/use-regex";

#[test]
fn a_good_one_is_allowed() {
    assert_eq!(ask(&view(SERVICE), ingress(json!({}), "/"), Value::Null), Verdict::Allowed(Vec::new()));
}

#[test]
fn an_error_is_refused_with_field_value_and_remedy() {
    let bad = ingress(json!({REGEX: "true"}), "/two(");
    let Verdict::Refused(message, _) = ask(&view(SERVICE), bad.clone(), Value::Null) else {
        panic!("not refused");
    };
    for part in ["spec.rules[0].http.paths[0].path", "/two("] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // What was so before may have its labels changed.
    let Verdict::Allowed(warnings) = ask(&view(SERVICE), bad.clone(), bad) else { panic!("refused") };
    assert!(warnings.iter().any(|warning| warning.contains("/two(")), "{warnings:?}");
}

#[test]
fn what_differs_is_a_warning() {
    let odd = ingress(json!({"nginx.ingress.kubernetes.io/rewrite-targett": "/x"}), "/");
    let Verdict::Allowed(warnings) = ask(&view(SERVICE), odd, Value::Null) else { panic!("refused") };
    assert!(warnings.iter().any(|warning| warning.contains("rewrite-target")), "{warnings:?}");
}

#[test]
fn what_may_come_yet_is_no_reason() {
    let auth = json!({
        "nginx.ingress.kubernetes.io/auth-type": "basic",
        "nginx.ingress.kubernetes.io/auth-secret": "users",
    });
    assert_eq!(ask(&view(SERVICE), ingress(auth, "/"), Value::Null), Verdict::Allowed(Vec::new()));
    let Verdict::Allowed(warnings) = ask(&view(""), ingress(json!({}), "/"), Value::Null) else {
        panic!("refused");
    };
    assert!(warnings.iter().any(|warning| warning.contains("Service shop/web")), "{warnings:?}");
}

#[test]
fn others_are_of_no_concern() {
    let mut other = ingress(json!({REGEX: "true"}), "/two(");
    other["spec"]["ingressClassName"] = "traefik".into();
    assert_eq!(ask(&view(SERVICE), other, Value::Null), Verdict::Foreign);
    let mut ending = ingress(json!({REGEX: "true"}), "/two(");
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(ask(&view(SERVICE), ending, Value::Null), Verdict::Foreign);
    let mut elsewhere = view(SERVICE);
    elsewhere.namespaces = Some(BTreeSet::new());
    assert_eq!(ask(&elsewhere, ingress(json!({REGEX: "true"}), "/two("), Value::Null), Verdict::Foreign);
}

#[test]
fn odd_objects_are_no_panics() {
    let view = view(SERVICE);
    for odd in [json!(null), json!({}), json!([]), json!({"metadata": {}}), json!({"metadata": {"name": 3}})]
    {
        let verdict = ask(&view, odd.clone(), Value::Null);
        assert!(!matches!(verdict, Verdict::Allowed(_)), "{odd}: {verdict:?}");
    }
    let mut generated = ingress(json!({}), "/");
    generated["metadata"] = json!({"generateName": "a-"});
    assert_eq!(ask(&view, generated, Value::Null), Verdict::Allowed(Vec::new()));
    // It does not decode and is ours all the same.
    let mut bad = ingress(json!({}), "/");
    bad["spec"]["rules"] = json!("none");
    assert!(matches!(ask(&view, bad, Value::Null), Verdict::Refused(..)));
}

#[test]
fn conflicts_with_what_is_served_are_seen() {
    let other = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: b\n  namespace: shop\n  \
                 creationTimestamp: \"2020-01-01T00:00:00Z\"\nspec:\n  ingressClassName: nginx\n  rules:\n  - host: a.example\n    http:\n      paths:\n      \
                 - {path: /, pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}\n";
    let view = view(&format!("{SERVICE}---\n{other}"));
    let Verdict::Allowed(warnings) = ask(&view, ingress(json!({}), "/"), Value::Null) else {
        panic!("refused")
    };
    assert!(warnings.iter().any(|warning| warning.contains("path-conflict")), "{warnings:?}");
}

/// How long a review takes with 10,000 Ingresses, on standard error.
#[test]
#[ignore = "a measurement: cargo test -p ingress-wasm-controller --release --lib -- --ignored --nocapture reviews"]
fn reviews_among_ten_thousand() {
    let mut manifests = String::new();
    for number in 0..10_000 {
        manifests.push_str(&format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: shop}}\nspec: {{clusterIP: 10.0.0.1, ports: [{{port: 80}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{number}-x, namespace: shop, labels: {{kubernetes.io/service-name: s{number}}}}}\n\
             addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [10.0.0.2]}}]\n\
             ---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i{number}, namespace: shop}}\nspec:\n  ingressClassName: nginx\n  rules:\n  \
             - host: h{number}.example\n    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: s{number}, port: {{number: 80}}}}}}}}]}}\n"
        ));
    }
    let view = view(&manifests);
    let began = std::time::Instant::now();
    for _ in 0..20 {
        let verdict = ask(&view, ingress(json!({REGEX: "true"}), "/two("), Value::Null);
        assert!(matches!(verdict, Verdict::Refused(..)));
    }
    eprintln!("{:?} a review", began.elapsed() / 20);
}
