use super::{load, names, summary};
use crate::objects::{Object, PortRef};

/// An object around further lines, the first of which is line 5.
fn object(api_version: &str, kind: &str, rest: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: web\n{rest}\n")
}

#[test]
fn services() {
    let text = object(
        "v1",
        "Service",
        "spec:\n  clusterIP: None\n  selector: {app: web}\n  ports:\n  - {name: http, port: 80, targetPort: web, appProtocol: h2c}\n  - {port: 53, protocol: UDP, targetPort: 5353}",
    );
    let loaded = load(&text);
    assert_eq!(summary(&loaded.diagnostics), [""; 0]);
    let [Object::Service(service)] = loaded.objects.as_slice() else { panic!("{:?}", loaded.objects) };
    assert_eq!((&service.cluster_ip, &service.external_name), (&None, &None));
    let [http, dns] = service.ports.as_slice() else { panic!("{:?}", service.ports) };
    assert_eq!((http.name.as_str(), http.port, http.protocol.as_str()), ("http", 80, "TCP"));
    assert_eq!(http.target_port, Some(PortRef::Name("web".into())));
    assert_eq!(http.app_protocol.as_deref(), Some("h2c"));
    assert_eq!((dns.protocol.as_str(), &dns.target_port), ("UDP", &Some(PortRef::Number(5353))));

    let external = load(&object("v1", "Service", "spec: {type: ExternalName, externalName: a.example}"));
    let [Object::Service(service)] = external.objects.as_slice() else {
        panic!("{:?}", external.diagnostics)
    };
    assert_eq!(service.external_name.as_deref(), Some("a.example"));
}

#[test]
fn endpoints_of_both_kinds() {
    let slice = "addressType: IPv4\nports: [{name: http, port: 8080}, {port: 53, protocol: UDP}, {name: all}]\nendpoints:\n- {addresses: [192.0.2.1], conditions: {ready: true}}\n- {addresses: [192.0.2.2], conditions: {ready: false}}\n- {addresses: [192.0.2.3], conditions: {}}\n- {addresses: [192.0.2.4]}";
    for version in ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"] {
        let text = object(version, "EndpointSlice", slice)
            .replace("name: web\n", "name: web-1\n  labels: {kubernetes.io/service-name: web}\n");
        let loaded = load(&text);
        assert_eq!(summary(&loaded.diagnostics), [""; 0], "{version}");
        let [Object::EndpointSlice(slice)] = loaded.objects.as_slice() else {
            panic!("{:?}", loaded.objects)
        };
        assert_eq!(slice.service, "web");
        assert_eq!(slice.addresses, ["192.0.2.1", "192.0.2.3", "192.0.2.4"], "{version}");
        let ports: Vec<_> = slice.ports.iter().map(|port| (port.name.as_str(), port.port)).collect();
        assert_eq!(ports, [("http", 8080)], "{version}");
    }
    let subsets = "subsets:\n- addresses: [{ip: 192.0.2.1}]\n  notReadyAddresses: [{ip: 192.0.2.2}]\n  ports: [{port: 80}]\n- addresses: [{ip: '2001:db8::1', nodeName: n}]\n  ports: [{name: x, port: 81}]";
    let loaded = load(&object("v1", "Endpoints", subsets));
    assert_eq!(summary(&loaded.diagnostics), [""; 0]);
    let found: Vec<_> = loaded
        .objects
        .iter()
        .map(|object| match object {
            Object::EndpointSlice(s) => {
                format!("{} {} {:?} {}", s.metadata.name, s.service, s.addresses, s.ports[0].port)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, ["default/web web [\"192.0.2.1\"] 80", "default/web#1 web [\"2001:db8::1\"] 81"]);
}

#[test]
fn secrets_and_config_maps() {
    let text = object(
        "v1",
        "Secret",
        "type: kubernetes.io/tls\ndata:\n  a: aGVsbG8=\n  b: |\n    aGVs\n    bG8=\n  c: ''\n  d:\nstringData: {a: plain}\nimmutable: true",
    );
    let loaded = load(&text);
    assert_eq!(summary(&loaded.diagnostics), [""; 0]);
    let [Object::Secret(secret)] = loaded.objects.as_slice() else { panic!("{:?}", loaded.objects) };
    let data: Vec<_> = secret.data.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    assert_eq!(data, [("a", &b"plain"[..]), ("b", b"hello"), ("c", b""), ("d", b"")]);
    assert_eq!(secret.type_, "kubernetes.io/tls");

    let loaded = load(&object("v1", "ConfigMap", "data: {a: '1', b: 8, c: }\nbinaryData: {x: AA==}"));
    assert_eq!(summary(&loaded.diagnostics), ["warning data-not-string 5 data[\"b\"]"]);
    let [Object::ConfigMap(map)] = loaded.objects.as_slice() else { panic!("{:?}", loaded.objects) };
    let data: Vec<_> = map.data.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(data, ["a=1", "b=8", "c="]);
}

#[test]
fn ingress_classes() {
    for version in ["networking.k8s.io/v1", "networking.k8s.io/v1beta1"] {
        let loaded = load(&object(
            version,
            "IngressClass",
            "spec: {controller: k8s.io/ingress-nginx, parameters: {}}",
        ));
        assert_eq!(names(&loaded), ["IngressClass web"], "{version} {:?}", loaded.diagnostics);
        let [Object::IngressClass(class)] = loaded.objects.as_slice() else { panic!("{version}") };
        assert_eq!(class.controller, "k8s.io/ingress-nginx", "{version}");
    }
}

#[test]
fn faults() {
    // API version and kind, further lines, `severity code line field`, whether an object comes out
    let slice = "addressType: IPv4\nendpoints:";
    let cases = [
        (
            "v1",
            "Service",
            "spec: {ports: [{port: 0}]}".to_owned(),
            "error port-invalid 5 spec.ports[0].port",
            false,
        ),
        (
            "v1",
            "Service",
            "spec: {ports: [{name: a}]}".into(),
            "error field-missing 5 spec.ports[0].port",
            false,
        ),
        ("v1", "Service", "spec: {}".into(), "error field-missing 5 spec.ports", false),
        (
            "v1",
            "Service",
            "spec: {type: ExternalName}".into(),
            "error field-missing 5 spec.externalName",
            false,
        ),
        (
            "v1",
            "Service",
            "spec: {ports: [{port: 80, targetport: 81}]}".into(),
            "error field-unknown 5 spec.ports[0].targetport",
            false,
        ),
        (
            "v1",
            "Service",
            "spec: {ports: [{port: 80}], brandNewThing: 1}".into(),
            "warning field-unknown 5 spec.brandNewThing",
            true,
        ),
        (
            "v1",
            "Service",
            "spec: {ports: [{port: 80, protocol: HTTP}]}".into(),
            "error field-value 5 spec.ports[0].protocol",
            false,
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "endpoints: []".into(),
            "error field-missing 1 addressType",
            false,
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            format!("{slice} [{{addresses: [a.example]}}]"),
            "error address-invalid 6 endpoints[0].addresses[0]",
            false,
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            format!("{slice} [{{addresses: [192.0.2.1], conditions: {{ready: '1'}}}}]"),
            "error field-type 6 endpoints[0].conditions.ready",
            false,
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            slice.into(),
            "warning endpoint-slice-without-service 1",
            false,
        ),
        (
            "v1",
            "Endpoints",
            "subsets: [{addresses: [{}]}]".into(),
            "error field-missing 5 subsets[0].addresses[0].ip",
            false,
        ),
        ("v1", "Endpoints", "subset: []".into(), "error field-unknown 5 subset", false),
        (
            "networking.k8s.io/v1",
            "IngressClass",
            "spec: {}".into(),
            "error field-missing 5 spec.controller",
            false,
        ),
        ("v1", "ConfigMap", "Data: {a: b}".into(), "error field-unknown 5 Data", false),
        ("v1", "ConfigMap", "data: [a]".into(), "error field-type 5 data", false),
        ("v1", "ConfigMap", "data: {a: x, a: y}".into(), "error key-duplicate 5 data.a", false),
        ("v1", "ConfigMap", "data: {a: {b: c}}".into(), "error field-type 5 data[\"a\"]", false),
        ("v1", "ConfigMap", "metadata: {name: b}".into(), "error key-duplicate 5 metadata", false),
    ];
    for (version, kind, rest, expected, object_comes_out) in cases {
        let text = object(version, kind, &rest);
        let loaded = load(&text);
        assert_eq!(summary(&loaded.diagnostics).first().map(String::as_str), Some(expected), "{text}");
        assert_eq!(loaded.objects.len(), usize::from(object_comes_out), "{text}");
    }
}

#[test]
fn no_diagnostic_tells_a_secret() {
    const VALUE: &str = "hunter2!";
    let cases = [
        format!("data: {{auth: {VALUE}}}"),
        format!("data: {VALUE}"),
        format!("type: [{VALUE}]"),
        format!("data: {{auth: [{VALUE}]}}"),
        format!("data:\n  auth: \"{VALUE}"),
        format!("data:\n  auth: *{VALUE}"),
        format!("data:\n  auth: !{VALUE} x"),
        format!("data:\n  auth: x: {VALUE}"),
        format!("data:\n  auth: {VALUE}\n  auth: {VALUE}"),
        format!("data:\n  {VALUE}"),
    ];
    for rest in cases {
        for text in
            [object("v1", "Secret", &rest), object("v1", "Secret", &rest).replace("name: web", "name: 'web'")]
        {
            let loaded = load(&text);
            assert!(!loaded.diagnostics.is_empty(), "{text}");
            assert!(loaded.objects.is_empty(), "{text}");
            for diagnostic in &loaded.diagnostics {
                assert!(!format!("{diagnostic} {diagnostic:?}").contains("hunter2"), "{text}\n{diagnostic}");
            }
        }
    }
    let number = load(&object("v1", "Secret", "stringData: {password: 4711}"));
    assert_eq!(summary(&number.diagnostics), ["warning data-not-string 5 stringData[\"password\"]"]);
    assert!(!format!("{:?} {:?}", number.diagnostics, number.objects).contains("4711"));
}
