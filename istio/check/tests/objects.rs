//! Every object that the product writes for a conformance case, and for the example, goes through the types that are
//! generated from the CRDs, and comes out as it went in: nothing in it is unknown to the CRD, of another type, or a value
//! that is not in a list of them.
//!
//! The product is the one that `$INGRESS_WASM_BIN` names.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kcr_extensions_istio_io::v1alpha1::wasmplugins::WasmPlugin;
use kcr_networking_istio_io::v1::destinationrules::DestinationRule;
use kcr_networking_istio_io::v1::gateways::Gateway;
use kcr_networking_istio_io::v1::serviceentries::ServiceEntry;
use kcr_networking_istio_io::v1::virtualservices::VirtualService;
use kcr_networking_istio_io::v1alpha3::envoyfilters::EnvoyFilter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the product writes for these manifests.
fn translate(manifests: &str, options: &[&str]) -> Vec<Value> {
    let binary = std::env::var_os("INGRESS_WASM_BIN").expect("INGRESS_WASM_BIN names the product");
    let mut child = Command::new(binary)
        .args(["translate", "--output", "istio", "-"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the product starts");
    child.stdin.take().expect("a pipe").write_all(manifests.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).expect("UTF-8")).expect("YAML")
}

/// Through the type, and back.
fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<(), String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    let back = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    if back == *object { Ok(()) } else { Err(format!("not all of it is known:\n{back}")) }
}

fn check(object: &Value) -> Result<(), String> {
    let kind = (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    match kind {
        ("networking.istio.io/v1", "DestinationRule") => through::<DestinationRule>(object),
        ("networking.istio.io/v1", "Gateway") => through::<Gateway>(object),
        ("networking.istio.io/v1", "ServiceEntry") => through::<ServiceEntry>(object),
        ("networking.istio.io/v1", "VirtualService") => through::<VirtualService>(object),
        ("networking.istio.io/v1alpha3", "EnvoyFilter") => through::<EnvoyFilter>(object),
        ("extensions.istio.io/v1alpha1", "WasmPlugin") => through::<WasmPlugin>(object),
        ("extensions.istio.io/v1alpha1", "TrafficExtension") => traffic_extension(object),
        other => Err(format!("no type for {other:?}")),
    }
}

/// There is no generated type for it: its `wasm` has the fields that stand in a WasmPlugin beside its place.
fn traffic_extension(object: &Value) -> Result<(), String> {
    let mut plugin = object.clone();
    plugin["kind"] = "WasmPlugin".into();
    let wasm = plugin["spec"]["wasm"].take();
    let spec = plugin["spec"].as_object_mut().ok_or("no spec")?;
    spec.remove("wasm");
    let beside = ["selector", "targetRefs", "phase", "priority", "match"];
    for (key, value) in wasm.as_object().ok_or("no wasm")? {
        if beside.contains(&key.as_str()) || spec.insert(key.clone(), value.clone()).is_some() {
            return Err(format!("{key} does not belong into wasm"));
        }
    }
    through::<WasmPlugin>(&plugin)
}

fn check_all(name: &str, objects: &[Value], seen: &mut BTreeMap<String, usize>) {
    for object in objects {
        if let Err(fault) = check(object) {
            panic!("{name}: {fault}\n{object:#}");
        }
        *seen.entry(object["kind"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
}

/// The manifests of a case, with the Services that its runner would make.
fn manifests(case: &Value) -> String {
    let mut text = case["manifests"].as_str().unwrap_or_default().to_owned();
    for service in case["services"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let (name, port) = service.split_once(':').unwrap_or((service, "80"));
        let port: u16 = port.parse().expect("a port");
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"name": "http", "port": port}]},
        });
        text.push_str(&format!("\n---\n{object}\n"));
    }
    text
}

#[test]
fn objects_of_all_conformance_cases_are_what_the_crds_demand() {
    let mut seen = BTreeMap::new();
    let folder = repository().join("tests/conformance");
    for entry in std::fs::read_dir(&folder).expect("cases") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let cases: Vec<Value> = serde_saphyr::from_str(&text).expect("cases");
        for case in cases {
            let objects = translate(&manifests(&case), &["--istio-virtual-services"]);
            check_all(case["name"].as_str().unwrap_or_default(), &objects, &mut seen);
        }
    }
    for kind in ["DestinationRule", "EnvoyFilter", "Gateway", "ServiceEntry", "VirtualService", "WasmPlugin"] {
        assert!(seen.contains_key(kind), "no {kind} was looked at: {seen:?}");
    }
}

#[test]
fn every_option_gives_what_the_crds_demand() {
    let shop = std::fs::read_to_string(repository().join("istio/example/shop.yaml")).expect("the example");
    let mut seen = BTreeMap::new();
    let sha256 = "0".repeat(64);
    for options in [
        &["--istio-api", "traffic-extension", "--istio-phase", "authn", "--istio-priority", "-5"][..],
        &["--istio-phase", "authz", "--istio-fail-strategy", "fail-close", "--istio-module-sha256", &sha256],
        &["--istio-phase", "stats", "--istio-pull-policy", "always", "--istio-pull-secret", "pull"],
        &["--istio-pull-policy", "if-not-present", "--istio-revision", "canary"],
        &["--istio-proxy-version", "^1\\.2[6-9]", "--istio-http-port", "8080", "--istio-https-port", "8443"],
    ] {
        check_all(&format!("{options:?}"), &translate(&shop, options), &mut seen);
    }
    assert!(seen.contains_key("TrafficExtension"), "{seen:?}");
}

#[test]
fn what_a_crd_does_not_know_is_found() {
    let gateway = |spec: Value| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "a"}, "spec": spec})
    };
    let server = |tls: Value| {
        json!({"servers": [{"port": {"number": 443, "name": "a", "protocol": "HTTPS"}, "hosts": ["a"], "tls": tls}]})
    };
    assert_eq!(check(&gateway(server(json!({"mode": "SIMPLE"})))), Ok(()));
    for wrong in [server(json!({"mode": "EASY"})), server(json!({"moed": "SIMPLE"})), json!({"selector": 3})] {
        assert!(check(&gateway(wrong.clone())).is_err(), "{wrong}");
    }
}
