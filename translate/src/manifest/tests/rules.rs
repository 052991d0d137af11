use super::{BACKEND, ingress, load, summary, v1, v1_path, v1beta1};
use crate::objects::{IngressApi, PathType, PortRef};

#[test]
fn a_whole_ingress() {
    let text = v1(
        "ingressClassName: nginx\ndefaultBackend: {service: {name: d, port: {name: http}}}\ntls:\n- hosts: [a.example]\n  secretName: cert\nrules:\n- host: a.example\n  http:\n    paths:\n    - path: /x\n      pathType: Exact\n      backend: {service: {name: web, port: {number: 80}}}\n    - pathType: ImplementationSpecific\n      backend: {resource: {apiGroup: x, kind: Bucket, name: y}}\n- host: '*.example'",
    );
    let loaded = load(&text);
    assert_eq!(summary(&loaded.diagnostics), [""; 0], "{text}");
    let ingress = ingress(&loaded);
    assert_eq!(ingress.api, IngressApi::NetworkingV1);
    assert_eq!(ingress.class_name.as_deref(), Some("nginx"));
    assert_eq!(ingress.default_backend.as_ref().map(|b| b.port.clone()), Some(PortRef::Name("http".into())));
    assert_eq!(ingress.tls[0].secret_name.as_deref(), Some("cert"));
    assert_eq!(ingress.rules[0].line, 12);
    let [exact, resource] = ingress.rules[0].paths.as_slice() else { panic!("{:?}", ingress.rules) };
    assert_eq!((exact.path.as_deref(), exact.path_type, exact.line), (Some("/x"), Some(PathType::Exact), 15));
    assert_eq!(exact.backend.as_ref().map(|b| b.port.clone()), Some(PortRef::Number(80)));
    assert_eq!((resource.path.as_deref(), &resource.backend), (None, &None));
    assert_eq!(ingress.rules[1].host.as_deref(), Some("*.example"));
}

#[test]
fn early_versions() {
    let spec = "backend: {serviceName: d, servicePort: http}\nrules:\n- http:\n    paths:\n    - path: /x\n      backend: {serviceName: web, servicePort: 80}";
    for (version, api) in [
        ("networking.k8s.io/v1beta1", IngressApi::NetworkingV1beta1),
        ("extensions/v1beta1", IngressApi::ExtensionsV1beta1),
    ] {
        let loaded = load(&v1beta1(spec).replace("networking.k8s.io/v1beta1", version));
        assert_eq!(summary(&loaded.diagnostics), [""; 0], "{version}");
        let ingress = ingress(&loaded);
        assert_eq!(ingress.api, api, "{version}");
        assert_eq!(
            ingress.default_backend.as_ref().map(|b| b.port.clone()),
            Some(PortRef::Name("http".into()))
        );
        let path = &ingress.rules[0].paths[0];
        assert_eq!(path.path_type, None, "{version}");
        assert_eq!(path.backend.as_ref().map(|b| b.port.clone()), Some(PortRef::Number(80)), "{version}");
    }
}

#[test]
fn faults_that_cost_the_ingress() {
    let rule = |rule: &str| v1(&format!("rules:\n- {rule}"));
    let path = |entry: &str| v1_path(&format!("{entry}\n{BACKEND}"));
    let backend = |backend: &str| v1_path(&format!("path: /\npathType: Prefix\nbackend: {backend}"));
    let early = |backend: &str| v1beta1(&format!("backend: {backend}"));
    let p = "spec.rules[0].http.paths[0]";
    let b = "spec.rules[0].http.paths[0].backend";
    // text, `code line field`
    let cases: Vec<(String, String)> = vec![
        (rule("Host: a.example"), "field-unknown 7 spec.rules[0].Host".into()),
        (rule("hosts: a.example"), "field-unknown 7 spec.rules[0].hosts".into()),
        (rule("paths: []"), "field-unknown 7 spec.rules[0].paths".into()),
        (
            v1("rule: []\ndefaultBackend: {service: {name: a, port: {number: 1}}}"),
            "field-unknown 6 spec.rule".into(),
        ),
        (
            v1("backend: {serviceName: a, servicePort: 1}\nrules: [{host: a}]"),
            "field-unknown 6 spec.backend".into(),
        ),
        (v1("rules: [{host: a}]") + "Status: {}\n", "field-unknown 7 Status".into()),
        (rule("host: a.example\n  host: b.example"), "key-duplicate 8 spec.rules[0].host".into()),
        (rule("host: 5"), "field-type 7 spec.rules[0].host".into()),
        (rule("host: [a]"), "field-type 7 spec.rules[0].host".into()),
        (rule("host: a_b.example"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("host: a..example"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("host: '*'"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("host: 'a.*.example'"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("host: -a.example"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("host: a.example:80"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("host: http://a.example"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("host: bücher.example"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("host: 192.0.2.1"), "host-invalid 7 spec.rules[0].host".into()),
        (rule("http: {}"), "field-missing 7 spec.rules[0].http.paths".into()),
        (rule("http: {paths: []}"), "field-missing 7 spec.rules[0].http.paths".into()),
        (rule("http: {path: /}"), "field-unknown 7 spec.rules[0].http.path".into()),
        (v1("rules: {host: a}"), "field-type 6 spec.rules".into()),
        (v1("rules: [a]"), "field-type 6 spec.rules[0]".into()),
        (v1("rules: []"), "field-missing 5 spec.rules".into()),
        (v1("ingressClassName: Nginx!\nrules: [{host: a}]"), "name-invalid 6 spec.ingressClassName".into()),
        (v1("rules: [{host: a}]\ntls: [{hosts: ['']}]"), "host-invalid 7 spec.tls[0].hosts[0]".into()),
        (v1("rules: [{host: a}]\ntls: [{hosts: a}]"), "field-type 7 spec.tls[0].hosts".into()),
        (v1("rules: [{host: a}]\ntls: [{secretName: a/b}]"), "name-invalid 7 spec.tls[0].secretName".into()),
        (v1("rules: [{host: a}]\ntls: [{host: a}]"), "field-unknown 7 spec.tls[0].host".into()),
        (path("path: /"), format!("field-missing 9 {p}.pathType")),
        (path("path: /\npathType: prefix"), format!("path-type-invalid 10 {p}.pathType")),
        (path("path: x\npathType: Prefix"), format!("path-not-absolute 9 {p}.path")),
        (path("path: ^/x\npathType: ImplementationSpecific"), format!("path-not-absolute 9 {p}.path")),
        (path("path: ''\npathType: Exact"), format!("path-not-absolute 9 {p}.path")),
        (path("pathType: Exact"), format!("field-missing 9 {p}.path")),
        (path("path: 5\npathType: Exact"), format!("field-type 9 {p}.path")),
        (path("path: /a//b\npathType: Prefix"), format!("path-invalid 9 {p}.path")),
        (path("path: /a/..\npathType: Exact"), format!("path-invalid 9 {p}.path")),
        (path("path: /\npathType: Exact\nbackends: {}"), format!("field-unknown 11 {p}.backends")),
        (v1_path("path: /\npathType: Exact"), format!("field-missing 9 {p}.backend")),
        (backend("{}"), format!("field-missing 11 {b}.service")),
        (backend("web"), format!("field-type 11 {b}")),
        (backend("{serviceName: web, servicePort: 80}"), format!("field-unknown 11 {b}.serviceName")),
        (backend("{service: {name: web}}"), format!("field-missing 11 {b}.service.port")),
        (backend("{service: {port: {number: 80}}}"), format!("field-missing 11 {b}.service.name")),
        (backend("{service: {name: web, port: 80}}"), format!("field-type 11 {b}.service.port")),
        (backend("{service: {name: web, port: {}}}"), format!("field-missing 11 {b}.service.port.number")),
        (
            backend("{service: {name: web, port: {number: '80'}}}"),
            format!("field-type 11 {b}.service.port.number"),
        ),
        (
            backend("{service: {name: web, port: {number: 80.5}}}"),
            format!("field-type 11 {b}.service.port.number"),
        ),
        (
            backend("{service: {name: web, port: {number: 0}}}"),
            format!("port-invalid 11 {b}.service.port.number"),
        ),
        (
            backend("{service: {name: web, port: {number: 65536}}}"),
            format!("port-invalid 11 {b}.service.port.number"),
        ),
        (
            backend("{service: {name: web, port: {number: -1}}}"),
            format!("port-invalid 11 {b}.service.port.number"),
        ),
        (
            backend("{service: {name: web, port: {nummer: 80}}}"),
            format!("field-unknown 11 {b}.service.port.nummer"),
        ),
        (
            backend("{service: {name: web, port: {name: '80'}}}"),
            format!("port-invalid 11 {b}.service.port.name"),
        ),
        (
            backend("{service: {name: web, port: {name: a, number: 1}}}"),
            format!("port-invalid 11 {b}.service.port.name"),
        ),
        (
            backend("{service: {name: ns/web, port: {number: 80}}}"),
            format!("name-invalid 11 {b}.service.name"),
        ),
        (
            backend("{service: {name: a, port: {number: 1}}, resource: {}}"),
            format!("field-value 11 {b}.resource"),
        ),
        (early("{service: {name: web}}"), "field-unknown 6 spec.backend.service".into()),
        (early("{serviceName: web}"), "field-missing 6 spec.backend.servicePort".into()),
        (early("{serviceName: web, servicePort: '80'}"), "port-invalid 6 spec.backend.servicePort".into()),
        (early("{serviceName: web, servicePort: 99999}"), "port-invalid 6 spec.backend.servicePort".into()),
        (v1("rules: [{host: a}]").replace("name: web", "name: Web_1"), "name-invalid 4 metadata.name".into()),
        (
            v1("rules: [{host: a}]").replace("name: web", "name: web\n  annotation: {a: b}"),
            "field-unknown 5 metadata.annotation".into(),
        ),
        (
            v1("rules: [{host: a}]").replace("name: web", "name: web\n  annotations: {a: [b]}"),
            "field-type 5 metadata.annotations[\"a\"]".into(),
        ),
    ];
    for (text, expected) in cases {
        let loaded = load(&text);
        let found = summary(&loaded.diagnostics);
        let fault = format!("error {expected}");
        // The first counts; a second one may follow from it, such as a rule that lost its only field.
        assert_eq!(found.first(), Some(&fault), "{text}\n{found:?}");
        assert!(loaded.objects.is_empty(), "{text}");
        assert_eq!(loaded.rejected.len(), 1, "{text}");
        for diagnostic in &loaded.diagnostics {
            assert!(diagnostic.consequence.ends_with("; the Ingress is not loaded"), "{diagnostic}");
            assert!(!diagnostic.remedy.is_empty(), "{diagnostic}");
        }
    }
}

#[test]
fn a_slip_is_named_with_what_was_meant() {
    let loaded = load(&v1("rules:\n- Host: a.example"));
    assert_eq!(
        loaded.diagnostics[0].to_string(),
        "error[field-unknown]: unknown field `Host`; did you mean `host`; the Ingress is not loaded\n  \
         object: Ingress default/web\n      at: a.yaml:7\n   field: spec.rules[0].Host\n    help: write `host`"
    );
}

#[test]
fn what_is_taken_with_a_warning() {
    let annotations = |text: &str| {
        v1("rules: [{host: a}]").replace("name: web", &format!("name: web\n  annotations: {{{text}}}"))
    };
    let cases = [
        (v1("rules: [{host: Shop.Example}]"), "host-uppercase 6 spec.rules[0].host", "shop.example"),
        (annotations("a/b: true"), "annotation-not-string 5 metadata.annotations[\"a/b\"]", "true"),
        (annotations("a/b: 010"), "annotation-not-string 5 metadata.annotations[\"a/b\"]", "010"),
        (annotations("a/b: 1.50"), "annotation-not-string 5 metadata.annotations[\"a/b\"]", "1.50"),
        (annotations("a/b: on"), "annotation-not-string 5 metadata.annotations[\"a/b\"]", "on"),
    ];
    for (text, expected, value) in cases {
        let loaded = load(&text);
        assert_eq!(summary(&loaded.diagnostics), [format!("warning {expected}")], "{text}");
        let ingress = ingress(&loaded);
        let annotation = ingress.metadata.annotations.get("a/b").map(|annotation| annotation.value.as_str());
        assert_eq!(annotation.or(ingress.rules[0].host.as_deref()), Some(value), "{text}");
    }
}

#[test]
fn what_needs_no_word() {
    let metadata =
        |text: &str| v1("rules: [{host: a}]").replace("name: web", &format!("name: web\n  {text}"));
    let cases = [
        metadata("annotations: {a: '1', b: \"true\", c: text, d: |\n    x\n  }")
            .replace("d: |\n    x\n  ", ""),
        metadata("annotations:"),
        metadata("annotations: {a: }"),
        metadata("creationTimestamp: null"),
        metadata("somethingNew: {x: 1}"),
        metadata("managedFields: [{manager: kubectl, fieldsV1: {f:spec: {}}}]"),
        v1("rules: [{host: a}]") + "status: {Host: 1, loadBalancer: {ingress: [{ip: 192.0.2.1}]}}\n",
        v1("rules: [{host: ''}]"),
        v1("rules: [{host: null}]"),
        v1("rules: [{host: '*.a.example'}]\ntls: [{}]\ningressClassName:"),
        v1_path(&format!("path: /a/(.*)//x\npathType: ImplementationSpecific\n{BACKEND}")),
    ];
    for text in cases {
        let loaded = load(&text);
        assert_eq!(summary(&loaded.diagnostics), [""; 0], "{text}");
        assert_eq!(loaded.objects.len(), 1, "{text}");
    }
}
