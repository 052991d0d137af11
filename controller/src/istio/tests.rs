use std::collections::BTreeMap;
use std::sync::Arc;

use ingress_wasm_translate::manifest::{merge_into, read};
use ingress_wasm_translate::objects::Snapshot;
use ingress_wasm_translate::output::Options;
use ingress_wasm_translate::translate;
use serde_json::Value;

use super::*;

fn settings() -> Settings {
    Settings {
        namespace: "istio-ingress".to_owned(),
        name: "ingress-wasm".to_owned(),
        selector: BTreeMap::from([("istio".to_owned(), "ingress".to_owned())]),
        http_port: 80,
        https_port: 443,
        revision: None,
        proxy_version: None,
        api: Api::WasmPlugin,
        module: Module {
            url: "oci://registry.example/ingress-wasm:1".to_owned(),
            sha256: None,
            pull_policy: None,
            pull_secret: None,
        },
        phase: Phase::Unspecified,
        priority: None,
        fail_strategy: FailStrategy::FailReload,
        virtual_services: false,
        copy_secrets: false,
    }
}

fn made(manifests: &str, settings: &Settings) -> Result<Objects, IstioError> {
    let mut snapshot = Snapshot::default();
    merge_into(&mut snapshot, read(&Arc::from("t.yaml"), manifests).objects);
    let options = Options { mesh: true, ..Options::default() };
    objects(&translate(&snapshot, &options), &snapshot, settings, &mut Cache::default())
}

fn of_kind<'a>(objects: &'a Objects, kind: &str) -> Vec<&'a Value> {
    objects.objects.iter().filter(|object| object["kind"] == kind).collect()
}

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}, {name: tls, port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: out.example}
";

/// An Ingress of its own host with one backend and these annotations.
fn ingress(name: &str, port: &str, annotations: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  ingressClassName: nginx
  rules: [{{host: {name}.example, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {port}}}}}]}}}}]
"
    )
}

#[test]
fn clusters_have_the_names_that_istiod_gives_them() {
    let prefix = "nginx.ingress.kubernetes.io";
    let cases = [
        ("{name: web, port: {number: 80}}", "", "outbound|80||web.default.svc.cluster.local"),
        ("{name: web, port: {name: tls}}", "", "outbound|443||web.default.svc.cluster.local"),
        ("{name: out, port: {number: 8080}}", "", "outbound|8080||out.example"),
        (
            "{name: web, port: {number: 80}}",
            "proxy-connect-timeout: '7'",
            "outbound|80|connect-7000ms|web.default.svc.cluster.local",
        ),
        (
            "{name: web, port: {number: 443}}",
            "backend-protocol: HTTPS",
            "outbound|443|https|web.default.svc.cluster.local",
        ),
        (
            "{name: web, port: {number: 80}}",
            "backend-protocol: GRPC",
            "outbound|80|grpc|web.default.svc.cluster.local",
        ),
        // What is said of the Service itself needs no subset.
        (
            "{name: web, port: {number: 80}}",
            "upstream-hash-by: $request_uri",
            "outbound|80||web.default.svc.cluster.local",
        ),
    ];
    for (backend, annotation, expected) in cases {
        let annotation = if annotation.is_empty() { String::new() } else { format!("{prefix}/{annotation}") };
        let found = made(&format!("{SERVICES}{}", ingress("a", backend, &annotation)), &settings());
        let found = found.expect("objects");
        let config = of_kind(&found, "WasmPlugin")[0]["spec"]["pluginConfig"].clone();
        let host =
            config["hosts"].as_array().unwrap().iter().find(|host| host["name"] == "a.example").unwrap();
        assert_eq!(host["rules"][0]["action"]["forward"]["cluster"], expected, "{backend} {annotation}");
        // A subset has to be made by a DestinationRule, whose host is that of the cluster.
        let mut parts = expected.split('|').skip(2);
        let (subset, host) = (parts.next().unwrap(), parts.next().unwrap());
        let rules = of_kind(&found, "DestinationRule");
        let makes = |rule: &&Value| {
            rule["spec"]["host"] == host
                && rule["spec"]["subsets"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|found| found["name"] == subset)
        };
        assert!(subset.is_empty() || rules.iter().any(makes), "{expected}: {rules:?}");
    }
}

#[test]
fn hosts_outside_of_the_mesh_are_made_known_to_the_gateway_alone() {
    let auth = "nginx.ingress.kubernetes.io/auth-url: 'https://auth.example/check'";
    let manifests = format!(
        "{SERVICES}{}{}",
        ingress("a", "{name: out, port: {number: 80}}", ""),
        ingress("b", "{name: web, port: {number: 80}}", auth)
    );
    let found = made(&manifests, &settings()).expect("objects");
    let entries: Vec<String> = of_kind(&found, "ServiceEntry")
        .iter()
        .map(|entry| {
            format!("{} {} {}", entry["spec"]["hosts"], entry["spec"]["ports"], entry["spec"]["exportTo"])
        })
        .collect();
    assert_eq!(
        entries,
        [
            r#"["auth.example"] [{"name":"https-443","number":443,"protocol":"HTTPS"}] ["."]"#,
            r#"["out.example"] [{"name":"http-80","number":80,"protocol":"HTTP"}] ["."]"#,
        ]
    );
    let rules = of_kind(&found, "DestinationRule");
    assert_eq!(rules.len(), 1, "{rules:?}");
    assert_eq!(rules[0]["spec"]["trafficPolicy"]["portLevelSettings"][0]["tls"]["sni"], "auth.example");
}

#[test]
fn a_large_configuration_is_compressed() {
    let mut manifests = SERVICES.to_owned();
    for index in 0..1000 {
        manifests.push_str(&ingress(&format!("shop-{index}"), "{name: web, port: {number: 80}}", ""));
    }
    let found = made(&manifests, &settings()).expect("objects");
    let config = &of_kind(&found, "WasmPlugin")[0]["spec"]["pluginConfig"];
    assert!(config["hosts"].is_null() && config["compressed"].is_string());
    let read = ingress_wasm::config::from_slice(config.to_string().as_bytes()).expect("the filter reads it");
    assert_eq!(read.hosts.len(), 1001);
}

#[test]
fn ten_thousand_ingresses_with_five_paths_fit_into_one_object() {
    use ingress_wasm::config::{Action, Host, PathType, PluginConfig, Rule};

    let mut config = PluginConfig {
        version: ingress_wasm::config::SCHEMA_VERSION,
        generation: String::new(),
        global: Default::default(),
        credentials: BTreeMap::new(),
        api_keys: Default::default(),
        policies: Vec::new(),
        balancing: Vec::new(),
        hosts: Vec::new(),
        parts: Vec::new(),
        part: None,
    };
    for index in 0_u32..10_000 {
        // Names that have little in common, as those of people.
        let noise = short_hash(&format!("{index}"));
        let rules = (0..5).map(|path| Rule {
            ingress: format!("team-{}/{noise}-{index}", index % 300),
            path: format!("/{}/v{path}", short_hash(&format!("{index}{path}"))),
            path_type: PathType::Prefix,
            policies: 0,
            action: Action::Forward {
                cluster: format!("outbound|80||svc-{noise}.team-{}.svc.cluster.local", index % 300),
                service: format!("team-{}/svc-{noise}:80", index % 300),
                balancing: None,
            },
        });
        config.hosts.push(Host {
            name: format!("{noise}.{index}.example.com"),
            rules: rules.collect(),
            path_matching: Default::default(),
            app_root: None,
            tls: true,
            aliases: Vec::new(),
            redirect_to: None,
            client_certificate: None,
            script: None,
            locations: Vec::new(),
        });
    }
    let object = plugin::plugin(&config, &settings()).expect("it fits");
    let size = object.to_string().len();
    assert!(size < OBJECT_LIMIT, "{size}");
}

#[test]
fn too_large_a_configuration_is_refused() {
    let found =
        made(&format!("{SERVICES}{}", ingress("a", "{name: web, port: {number: 80}}", "")), &settings());
    let config = of_kind(&found.expect("objects"), "WasmPlugin")[0]["spec"]["pluginConfig"].clone();
    let mut config = ingress_wasm::config::from_slice(config.to_string().as_bytes()).expect("it is read");
    // Text that has little in common with itself.
    config.generation = (0..400_000).map(|index| short_hash(&index.to_string())).collect();
    let error =
        plugin::plugin(&config, &settings()).expect_err("an API server would not take it").to_string();
    assert!(error.contains("--ingress-class"), "{error}");
}

#[test]
fn yaml_is_read_as_it_was_meant() {
    let objects = [
        serde_json::json!({"a": "no", "b": "1e3", "c": "- x: y", "d": "", "e": null, "f": [], "g": {}}),
        serde_json::json!({"text": "line\r\nline\n", "regex": "(?i)(?:|[^a\\/].*)", "star": "*", "n": 12, "z": "0x1F"}),
    ];
    let text = to_yaml(&objects).expect("YAML");
    let documents: Vec<&str> = text.split("---\n").skip(1).collect();
    assert_eq!(documents.len(), 2, "{text}");
    for (document, object) in documents.iter().zip(&objects) {
        let read: serde_json::Value = serde_saphyr::from_str(document).expect(document);
        assert_eq!(read, *object, "{document}");
    }
}

/// `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn the_example_is_current() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio/example");
    let manifests = std::fs::read_to_string(folder.join("shop.yaml")).expect("the manifests");
    let path = folder.join("gateway.yaml");
    let mut snapshot = Snapshot::default();
    merge_into(&mut snapshot, read(&Arc::from("shop.yaml"), &manifests).objects);
    // As the command line has it.
    let options = Options { mesh: true, statistics: true, ..Options::default() };
    let made = objects(&translate(&snapshot, &options), &snapshot, &settings(), &mut Cache::default())
        .expect("objects");
    let made = to_yaml(&made.objects).expect("YAML");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let found = std::fs::read_to_string(&path).expect("the example");
    assert!(
        found == made,
        "istio/example/gateway.yaml is not current: UPDATE_GOLDEN=1 cargo test -p ingress-wasm-controller --lib istio"
    );
}
