//! The admission webhook, asked by the API server before an Ingress is written.

use std::net::{SocketAddr, TcpListener};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ingress_wasm_tests::apiserver::ApiServer;
use ingress_wasm_tests::case::Tls;
use ingress_wasm_tests::client::{Connection, Response, Target, WireRequest, once};
use ingress_wasm_tests::tls::TlsTerms;
use serde_json::{Value, json};

use crate::objects::{annotated, certificate, ingress, secret};
use crate::replica::{Terms, free};
use crate::world::World;

const CONFIGURATIONS: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";
const INGRESSES: &str = "ingresses.networking.k8s.io";

/// The name of Service, Secret and ValidatingWebhookConfiguration, and of the certificate.
const ADMISSION: &str = "ingress-wasm-admission";
const HOST: &str = "ingress-wasm-admission.edge.svc";

/// As `envoy/kubernetes` has it.
fn configuration(policy: &str, seconds: u64) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": ADMISSION},
        "webhooks": [{
            "name": "validate.ingress-wasm.io", "matchPolicy": "Equivalent", "sideEffects": "None",
            "failurePolicy": policy, "timeoutSeconds": seconds, "admissionReviewVersions": ["v1"],
            "rules": [{
                "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["ingresses"],
            }],
            "clientConfig": {"service": {
                "name": ADMISSION, "namespace": "edge", "port": 443, "path": "/networking/v1/ingresses",
            }},
        }],
    })
}

/// An API server that asks the webhook at this address.
fn server(policy: &str, address: SocketAddr) -> Result<ApiServer, String> {
    let api = ApiServer::start().map_err(|error| error.to_string())?;
    api.put(configuration(policy, 10))?;
    api.put(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": ADMISSION, "namespace": "edge"},
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": "webhook"}]},
    }))?;
    api.route_service("edge", ADMISSION, address);
    Ok(api)
}

/// Changes the one webhook, and leaves its `caBundle`.
fn set(api: &ApiServer, change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let mut held = api.get(CONFIGURATIONS, "", ADMISSION).ok_or("there is one")?;
    change(&mut held["webhooks"][0]);
    api.put(held)
}

fn bundle(api: &ApiServer) -> String {
    let held = api.get(CONFIGURATIONS, "", ADMISSION).unwrap_or_default();
    let text = held["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
    String::from_utf8(STANDARD.decode(text).unwrap_or_default()).unwrap_or_default()
}

/// What a client of the API server gets for an Ingress that it makes, or changes.
fn write(api: &ApiServer, ingress: &Value, query: &str) -> Result<Response, String> {
    let address: SocketAddr = api.url().trim_start_matches("http://").parse().map_err(|_| "an address")?;
    let name = ingress["metadata"]["name"].as_str().unwrap_or_default();
    let path = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let (method, path) = match api.get(INGRESSES, "default", name) {
        Some(_) => ("PUT", format!("{path}/{name}{query}")),
        None => ("POST", format!("{path}{query}")),
    };
    let request = WireRequest::new(method, "api", &path).header("content-type", "application/json");
    once(&Target::plain(address), &request.body(ingress.to_string().into_bytes()))
        .map_err(|error| error.to_string())
}

fn message(response: &Response) -> String {
    let status: Value = serde_json::from_str(&response.text()).unwrap_or_default();
    status["message"].as_str().unwrap_or_default().to_owned()
}

/// Path and type contradict each other: an error, not only a warning.
fn bad(name: &str) -> Value {
    let mut bad = annotated(ingress(name, "web"), &[("use-regex", "true")]);
    bad["spec"]["rules"][0]["http"]["paths"][0]["path"] = "/(((".into();
    bad["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = "ImplementationSpecific".into();
    bad
}

/// The common name of the certificate that the webhook shows.
fn shown(address: SocketAddr) -> Option<String> {
    let tls = TlsTerms { server_name: HOST.to_owned(), terms: Tls::default(), certificate: None };
    let target = Target { tls: Some(tls), ..Target::plain(address) };
    Connection::open(&target).ok()?.tls()?.certificate_cn.clone()
}

/// Waits until the API server reaches the webhook: what it cannot be asked about is refused with `Fail`.
fn wait_admits(world: &mut World, name: &str) -> Result<(), String> {
    let mut last = String::new();
    world
        .wait("a good Ingress is admitted", |world| {
            let answer = write(double(world), &ingress(name, "web"), "?dryRun=All");
            last = answer.as_ref().map_or_else(Clone::clone, message);
            answer.is_ok_and(|answer| answer.status == 201)
        })
        .map_err(|error| format!("{error}\nthe last answer: {last}"))
}

/// These tests are against the double: only a cluster leads a real API server to a Service.
fn double(world: &World) -> &ApiServer {
    world.api.double().expect("the double")
}

fn start(api: ApiServer, arguments: &[&str]) -> Result<World, String> {
    let mut world = World::start_as(api, &[], &Terms { arguments, pod: Some("one") })?;
    world.wait_ready()?;
    Ok(world)
}

pub fn bad_ingresses_are_refused_and_good_ones_pass() -> Result<(), String> {
    let address = free()?;
    let mut world = start(server("Fail", address)?, &["--validating-webhook", &address.to_string()])?;
    wait_admits(&mut world, "good")?;

    let refused = write(double(&world), &bad("bad"), "")?;
    let said = message(&refused);
    assert_eq!(refused.status, 400, "{said}");
    let begin = "admission webhook \"validate.ingress-wasm.io\" denied the request: ";
    assert!(said.starts_with(begin) && said.contains("/((("), "{said}");
    assert_eq!(world.api.get(INGRESSES, "default", "bad"), None, "it is not there");

    assert_eq!(write(double(&world), &ingress("good", "web"), "")?.status, 201);
    world.wait_answer("good.example", "web")?;
    let spoilt = write(double(&world), &bad("good"), "")?;
    assert_eq!(spoilt.status, 400, "{}", message(&spoilt));
    world.wait_answer("good.example", "web")?;

    let odd = annotated(ingress("odd", "web"), &[("proxy-read-timeout", "soon")]);
    let odd = write(double(&world), &odd, "")?;
    assert_eq!(odd.status, 201, "a warning is no error: {}", message(&odd));
    let warning = odd.header("warning").unwrap_or_default();
    assert!(warning.starts_with("299 - \"") && warning.contains("proxy-read-timeout"), "{warning}");

    // Nobody to ask.
    world.replica.controller.kill();
    let unasked = write(double(&world), &ingress("more", "web"), "")?;
    let said = message(&unasked);
    assert_eq!(unasked.status, 500, "{said}");
    assert!(said.contains("failed calling webhook \"validate.ingress-wasm.io\""), "{said}");
    set(double(&world), |hook| hook["failurePolicy"] = "Ignore".into())?;
    assert_eq!(write(double(&world), &bad("unchecked"), "")?.status, 201);
    assert_eq!(write(double(&world), &ingress("more", "web"), "")?.status, 201);

    // One that was let in is reported and harms no other.
    world.replica.start_controller()?;
    world.wait_answer("more.example", "web")
}

pub fn without_the_flag_there_is_no_webhook() -> Result<(), String> {
    let address = free()?;
    let mut world = start(server("Ignore", address)?, &[])?;
    assert!(std::net::TcpStream::connect(address).is_err());
    assert_eq!(write(double(&world), &bad("bad"), "")?.status, 201);
    assert_eq!(write(double(&world), &ingress("good", "web"), "")?.status, 201);
    world.wait_answer("good.example", "web")?;
    assert_eq!(world.api.get("secrets", "edge", ADMISSION), None, "no certificate is made");
    assert_eq!(bundle(double(&world)), "");
    Ok(())
}

/// One that takes connections and says nothing.
pub fn silent_webhook_holds_up_writes_for_its_time() -> Result<(), String> {
    let silent = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = silent.local_addr().map_err(|error| error.to_string())?;
    let api = server("Fail", address)?;
    api.put(configuration("Fail", 1))?;
    let refused = write(&api, &ingress("shop", "web"), "")?;
    let said = message(&refused);
    assert_eq!(refused.status, 500, "{said}");
    assert!(said.contains("context deadline exceeded"), "{said}");
    set(&api, |hook| hook["failurePolicy"] = "Ignore".into())?;
    assert_eq!(write(&api, &ingress("shop", "web"), "")?.status, 201);
    Ok(())
}

pub fn certificate_of_files_is_followed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (chain, key) = (folder.path().join("cert"), folder.path().join("key"));
    let place = |common: &str| -> Result<String, String> {
        let made = certificate("made", HOST, common)?;
        let field = |name: &str| {
            let text = made["data"][name].as_str().unwrap_or_default();
            STANDARD.decode(text).map_err(|error| error.to_string())
        };
        let written = std::fs::write(&key, field("tls.key")?).and(std::fs::write(&chain, field("tls.crt")?));
        written.map_err(|error| error.to_string())?;
        Ok(made["data"]["tls.crt"].as_str().unwrap_or_default().to_owned())
    };
    let address = free()?;
    let api = server("Fail", address)?;
    let first = place("first")?;
    set(&api, |hook| hook["clientConfig"]["caBundle"] = first.into())?;
    let (chain_path, key_path) = (chain.display().to_string(), key.display().to_string());
    let arguments = [
        "--validating-webhook",
        &address.to_string(),
        "--validating-webhook-certificate",
        &chain_path,
        "--validating-webhook-key",
        &key_path,
    ];
    let mut world = start(api, &arguments)?;
    wait_admits(&mut world, "good")?;
    assert_eq!(shown(address).as_deref(), Some("first"));
    let second = place("second")?;
    set(double(&world), |hook| hook["clientConfig"]["caBundle"] = second.into())?;
    world.wait("the new certificate is shown", |_| shown(address).as_deref() == Some("second"))?;
    wait_admits(&mut world, "good")?;
    // What cannot be used leaves the one before.
    std::fs::write(&chain, "no certificate").map_err(|error| error.to_string())?;
    world.wait("it is said", |world| {
        world
            .replica
            .controller_log()
            .contains("the certificate of the admission webhook cannot be had or renewed")
    })?;
    assert_eq!(shown(address).as_deref(), Some("second"));
    wait_admits(&mut world, "good")
}

pub fn certificate_is_renewed_before_its_end() -> Result<(), String> {
    let address = free()?;
    let mut world = start(server("Fail", address)?, &["--validating-webhook", &address.to_string()])?;
    wait_admits(&mut world, "good")?;
    let first = bundle(double(&world));
    assert_eq!(first.matches("BEGIN CERTIFICATE").count(), 1, "{first}");
    // As if the month before its end had begun.
    let mut held = world.api.get("secrets", "edge", ADMISSION).ok_or("a Secret is made")?;
    let ends = &mut held["metadata"]["annotations"]["ingress-wasm.io/certificate-ends"];
    assert!(ends.is_string(), "{ends}");
    *ends = "2020-01-01T00:00:00Z".into();
    world.api.put(held)?;
    world.wait("the API server is told of a new authority", |world| {
        let now = bundle(double(world));
        now != first && now.matches("BEGIN CERTIFICATE").count() == 2 && now.contains(first.trim())
    })?;
    wait_admits(&mut world, "good")?;
    let renewed = world.api.get("secrets", "edge", ADMISSION).ok_or("the Secret is there")?;
    let ends = renewed["metadata"]["annotations"]["ingress-wasm.io/certificate-ends"].as_str();
    assert!(ends.is_some_and(|ends| !ends.starts_with("2020")), "{ends:?}");
    // Once the authority before is gone, only the new certificate is trusted: it is what is shown.
    let newest = bundle(double(&world));
    let newest = newest.split_inclusive("-----END CERTIFICATE-----").next().unwrap_or_default().to_owned();
    let only =
        |api: &ApiServer| set(api, |hook| hook["clientConfig"]["caBundle"] = STANDARD.encode(&newest).into());
    world.wait("the new certificate is shown", |world| {
        only(double(world)).is_ok()
            && write(double(world), &ingress("good", "web"), "?dryRun=All")
                .is_ok_and(|answer| answer.status == 201)
    })?;
    // A Secret of somebody else is used as it is.
    let taken = certificate(ADMISSION, HOST, "others")?;
    let mut others = secret(ADMISSION, "kubernetes.io/tls", &[]);
    others["metadata"]["namespace"] = "edge".into();
    others["data"] = taken["data"].clone();
    world.api.delete("secrets", "edge", ADMISSION);
    world.api.put(others)?;
    set(double(&world), |hook| hook["clientConfig"]["caBundle"] = taken["data"]["tls.crt"].clone())?;
    world.wait("that one is shown", |_| shown(address).as_deref() == Some("others"))?;
    wait_admits(&mut world, "good")
}
