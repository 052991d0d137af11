use std::fmt::Write as _;
use std::time::Instant;

use super::load;

/// As many Ingresses with five paths each.
fn manifests(count: usize) -> String {
    let mut text = String::new();
    for index in 0..count {
        let _ = write!(
            text,
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: app-{index}\n  namespace: team-{}\n  \
             labels:\n    app.kubernetes.io/name: app-{index}\n    app.kubernetes.io/managed-by: Helm\n  annotations:\n    \
             nginx.ingress.kubernetes.io/rewrite-target: /$2\n    nginx.ingress.kubernetes.io/use-regex: \"true\"\n    \
             nginx.ingress.kubernetes.io/proxy-body-size: 8m\n    cert-manager.io/cluster-issuer: letsencrypt-prod\nspec:\n  \
             ingressClassName: nginx\n  tls:\n  - hosts:\n    - app-{index}.example.com\n    secretName: app-{index}-tls\n  \
             rules:\n  - host: app-{index}.example.com\n    http:\n      paths:\n",
            index % 50,
        );
        for path in 0..5 {
            let _ = write!(
                text,
                "      - path: /api/v{path}(/|$)(.*)\n        pathType: ImplementationSpecific\n        backend:\n          \
                 service:\n            name: app-{index}-svc-{path}\n            port:\n              number: 80{path}\n"
            );
        }
        text.push_str("---\n");
    }
    text
}

/// The same objects as one JSON list.
fn as_json(text: &str) -> String {
    let objects: Vec<_> = text
        .split("---\n")
        .filter(|document| !document.is_empty())
        .map(|document| {
            let line = |start: &str| {
                document.lines().find_map(|line| line.trim().strip_prefix(start)).unwrap_or_default().to_owned()
            };
            let path = |index: usize| {
                serde_json::json!({"path": format!("/api/v{index}(/|$)(.*)"), "pathType": "ImplementationSpecific",
                    "backend": {"service": {"name": format!("svc-{index}"), "port": {"number": 80 + index}}}})
            };
            serde_json::json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": line("name: "), "namespace": line("namespace: "),
                    "annotations": {"nginx.ingress.kubernetes.io/rewrite-target": "/$2", "nginx.ingress.kubernetes.io/use-regex": "true"}},
                "spec": {"ingressClassName": "nginx",
                    "rules": [{"host": line("- host: "), "http": {"paths": (0..5).map(path).collect::<Vec<_>>()}}]},
            })
        })
        .collect();
    serde_json::to_string_pretty(&serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}))
        .unwrap()
}

#[test]
fn large_texts_load_in_full() {
    let text = manifests(200);
    for text in [&text, &as_json(&text)] {
        let loaded = load(text);
        assert_eq!((loaded.objects.len(), loaded.diagnostics.as_slice()), (200, &[][..]));
    }
}

/// Run by hand: `cargo test --release -p ingress-wasm-translate -- --ignored --nocapture reading_speed`.
#[test]
#[ignore = "prints times, which mean something in release mode only"]
fn reading_speed() {
    let yaml = manifests(10_000);
    let json = as_json(&yaml);
    for (format, text) in [("YAML", &yaml), ("JSON", &json)] {
        for _ in 0..3 {
            let start = Instant::now();
            let loaded = load(text);
            let elapsed = start.elapsed();
            assert_eq!(loaded.objects.len(), 10_000);
            println!("{format}: {:.1} MB in {elapsed:.2?}", text.len() as f64 / 1e6);
        }
    }
}
