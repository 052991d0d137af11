//! What the controller writes for the gateway of a mesh.

use std::collections::BTreeSet;
use std::process::Command;

use base64::Engine;
use ingress_wasm_tests::apiserver::{Answer, Rule};
use ingress_wasm_tests::client::{Connection, Target, WireRequest, once};
use ingress_wasm_tests::istio::{free_addresses, istiod};
use ingress_wasm_tests::product::{Product, binary};
use serde_json::{Value, json};

use crate::gateway::{ALL, ENTRIES, FILTERS, GATEWAYS, Gateway, NAMESPACE, PLUGINS, RULES, SECRETS};
use crate::objects::{annotated, certificate, ingress, options, secret, service};
use crate::world::answer;

const INGRESSES: &str = "ingresses.networking.k8s.io";

/// An Ingress whose backend is spoken to by TLS: that takes a subset.
fn over_tls(name: &str) -> Value {
    annotated(ingress(name, "web"), &[("backend-protocol", "HTTPS")])
}

fn rule(verb: &str, resource: &str, times: Option<u32>, answer: Answer) -> Rule {
    Rule { verb: Some(verb.to_owned()), resource: Some(resource.to_owned()), namespace: None, times, answer }
}

/// How often something was written.
fn writes(gateway: &Gateway) -> u64 {
    ALL.iter().flat_map(|kind| ["patch", "delete"].map(|verb| gateway.api.count(verb, kind))).sum()
}

pub fn objects_are_live() -> Result<(), String> {
    let mut gateway = Gateway::new(&[ingress("shop", "web")])?;
    gateway.wait_config("shop.example")?;
    for kind in [GATEWAYS, FILTERS, PLUGINS] {
        let object = gateway.get(kind, "ingress-wasm").ok_or_else(|| format!("no {kind}"))?;
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "ingress-wasm", "{kind}");
        assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "ingress-wasm", "{kind}");
        assert_eq!(metadata["annotations"]["ingress-wasm.io/owner"], "default/ingress-wasm-leader", "{kind}");
        assert_eq!(metadata["managedFields"][0]["manager"], "ingress-wasm", "{kind}");
    }
    assert_eq!(gateway.list(RULES), Vec::<Value>::new());
    gateway.api.put(over_tls("shop"))?;
    gateway.wait_config("outbound|80|https|web.default.svc.cluster.local")?;
    assert_eq!(gateway.subsets(), ["https"]);
    let external = annotated(ingress("asked", "web"), &[("auth-url", "http://auth.example/check")]);
    gateway.api.put(external)?;
    gateway.wait_config("outbound|80||auth.example")?;
    assert_eq!(gateway.list(ENTRIES).len(), 1);
    assert!(gateway.api.delete(INGRESSES, "default", "asked"));
    assert!(gateway.api.delete(INGRESSES, "default", "shop"));
    gateway.wait("what is not used any more goes", |gateway| {
        gateway.list(ENTRIES).is_empty() && gateway.list(RULES).is_empty()
    })?;
    assert!(!gateway.config().contains("example"), "{}", gateway.config());
    // A status that is written and nothing more: no write follows.
    gateway.api.put(ingress("last", "web"))?;
    gateway.wait_config("last.example")?;
    gateway.wait("the status is written", |gateway| {
        let last = gateway.api.get(INGRESSES, "default", "last").unwrap_or_default();
        last["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.7"
    })?;
    let before = writes(&gateway);
    gateway.api.put(annotated(ingress("last", "web"), &[("ssl-redirect", "true")]))?;
    gateway.api.put(ingress("more", "web"))?;
    gateway.wait_config("more.example")?;
    let after = writes(&gateway) - before;
    assert!((1..=2).contains(&after), "{after} writes: only the plugin has changed");
    Ok(())
}

pub fn drift_is_repaired() -> Result<(), String> {
    let mut gateway = Gateway::new(&[over_tls("shop")])?;
    gateway.wait_config("shop.example")?;
    let rule = gateway.list(RULES).remove(0);
    let name = rule["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    assert!(gateway.api.delete(RULES, NAMESPACE, &name));
    gateway.wait("what was removed is there again", |gateway| gateway.get(RULES, &name).is_some())?;
    let mut filter = gateway.get(FILTERS, "ingress-wasm").unwrap_or_default();
    let good = filter["spec"].clone();
    filter["spec"]["configPatches"] = json!([]);
    filter["metadata"]["labels"]["team"] = "edge".into();
    filter["metadata"]["annotations"]["note"] = "mine".into();
    gateway.api.put(filter)?;
    gateway.wait("what was changed is as it was", |gateway| {
        gateway.get(FILTERS, "ingress-wasm").is_some_and(|filter| filter["spec"] == good)
    })?;
    let filter = gateway.get(FILTERS, "ingress-wasm").unwrap_or_default();
    assert_eq!(filter["metadata"]["labels"]["team"], "edge", "what others added stays");
    assert_eq!(filter["metadata"]["annotations"]["note"], "mine");
    gateway.wait("it is counted", |gateway| {
        let metrics = gateway.replicas[0].ask("/metrics").map(|(_, text)| text).unwrap_or_default();
        metrics.contains("istio_writes_total{kind=\"EnvoyFilter\",outcome=\"repaired\"} 1")
    })?;
    // Labels of others alone are no reason to write.
    let before = writes(&gateway);
    let mut gateways = gateway.get(GATEWAYS, "ingress-wasm").unwrap_or_default();
    gateways["metadata"]["labels"]["team"] = "edge".into();
    gateway.api.put(gateways)?;
    gateway.api.put(ingress("more", "web"))?;
    gateway.wait_config("more.example")?;
    assert_eq!(writes(&gateway) - before, 1, "the plugin alone");
    Ok(())
}

pub fn foreign_objects_are_left_alone() -> Result<(), String> {
    let foreign = |kind: &str, version: &str, name: &str, labels: Value| {
        json!({
            "apiVersion": format!("networking.istio.io/{version}"), "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {"workloadSelector": {"labels": {"app": "theirs"}}},
        })
    };
    let another =
        json!({"app.kubernetes.io/managed-by": "ingress-wasm", "app.kubernetes.io/instance": "another"});
    let objects = [
        foreign("EnvoyFilter", "v1alpha3", "ingress-wasm", json!({})),
        foreign("DestinationRule", "v1", "mine", json!({})),
        foreign("DestinationRule", "v1", "another", another),
        ingress("shop", "web"),
    ];
    let mut gateway = Gateway::without(&objects)?;
    let before = gateway.get(FILTERS, "ingress-wasm");
    gateway.start(&[])?;
    gateway.wait("it is said", |gateway| {
        gateway.replicas[0].log().contains("an object of that name that is not ours")
    })?;
    gateway.wait("it is not ready", |gateway| gateway.replicas[0].readyz() == 503)?;
    let said = gateway.replicas[0].ask("/readyz")?.1;
    assert!(said.contains("EnvoyFilter istio-ingress/ingress-wasm"), "{said}");
    assert_eq!(gateway.get(FILTERS, "ingress-wasm"), before, "it is not touched");
    assert_eq!(gateway.get(PLUGINS, "ingress-wasm"), None, "nothing that needs it is written");
    // Labelled, it is taken over.
    let labels =
        json!({"app.kubernetes.io/managed-by": "ingress-wasm", "app.kubernetes.io/instance": "ingress-wasm"});
    gateway.api.put(foreign("EnvoyFilter", "v1alpha3", "ingress-wasm", labels))?;
    gateway.wait("ready", |gateway| gateway.replicas[0].readyz() == 200)?;
    gateway.wait_config("shop.example")?;
    for name in ["mine", "another"] {
        assert!(gateway.get(RULES, name).is_some(), "{name} stays");
    }
    Ok(())
}

pub fn another_controller_of_the_same_name_is_refused() -> Result<(), String> {
    let mut gateway = Gateway::new(&[ingress("shop", "web")])?;
    gateway.wait_config("shop.example")?;
    let before = gateway.get(PLUGINS, "ingress-wasm");
    gateway.start(&["--election-id", "second", "--ingress-class", "other"])?;
    gateway.wait("it is said", |gateway| {
        gateway.replicas[1].log().contains("the controller that holds the Lease default/ingress-wasm-leader")
    })?;
    assert_eq!(gateway.get(PLUGINS, "ingress-wasm"), before);
    assert_eq!(gateway.replicas[1].readyz(), 503);
    // With a name of its own it has objects of its own.
    gateway.start(&["--election-id", "third", "--ingress-class", "other", "--istio-name", "other"])?;
    gateway.wait("ready", |gateway| gateway.replicas[2].readyz() == 200)?;
    assert!(gateway.get(PLUGINS, "other").is_some());
    assert_eq!(gateway.get(PLUGINS, "ingress-wasm"), before);
    Ok(())
}

pub fn another_replica_takes_over() -> Result<(), String> {
    let mut gateway = Gateway::new(&[over_tls("shop")])?;
    gateway.wait_config("shop.example")?;
    gateway.start(&[])?;
    gateway
        .wait("both are ready", |gateway| gateway.replicas.iter().all(|replica| replica.readyz() == 200))?;
    let before = writes(&gateway);
    gateway.replicas[0].process.kill();
    gateway.wait("the other leads", |gateway| {
        gateway.replicas[1].log().contains("leading: this replica writes")
    })?;
    gateway.api.put(ingress("more", "web"))?;
    gateway.wait_config("more.example")?;
    assert_eq!(writes(&gateway) - before, 1, "what is there already is not written again");
    gateway.api.put(ingress("shop", "web"))?;
    gateway.wait("it removes what the first one wrote", |gateway| gateway.list(RULES).is_empty())
}

pub fn errors_of_the_api_server_are_survived() -> Result<(), String> {
    let mut gateway = Gateway::new(&[ingress("shop", "web")])?;
    gateway.wait_config("shop.example")?;
    let answers =
        [Answer::Fail, Answer::Unavailable, Answer::TooMany { seconds: 0 }, Answer::Cut { bytes: 20 }];
    for (round, answer) in answers.into_iter().enumerate() {
        gateway.api.rule(rule("patch", PLUGINS, Some(2), answer));
        let name = format!("round-{round}");
        gateway.api.put(ingress(&name, "web"))?;
        gateway.wait_config(&format!("{name}.example"))?;
        gateway.api.clear_rules();
    }
    assert_eq!(gateway.replicas[0].readyz(), 200, "what was written serves");
    // What is forbidden is said of the Ingress that asks for it, and nothing is half done.
    gateway.api.rule(rule("patch", RULES, None, Answer::Forbidden));
    gateway.api.put(over_tls("closed"))?;
    gateway.wait("it is said by an Event", |gateway| {
        gateway
            .api
            .list("events.events.k8s.io")
            .iter()
            .any(|event| event["regarding"]["name"] == "closed" && event["reason"] == "IstioRefused")
    })?;
    assert!(!gateway.config().contains("closed.example"), "its cluster is not there");
    gateway.api.clear_rules();
    gateway.wait_config("closed.example")?;
    gateway.wait("nothing is refused any more", |gateway| {
        let metrics = gateway.replicas[0].ask("/metrics").map(|(_, text)| text).unwrap_or_default();
        metrics.contains("ingress_wasm_controller_last_accepted 1")
    })
}

pub fn secrets_are_copied() -> Result<(), String> {
    let with_tls = |mut ingress: Value| {
        ingress["spec"]["tls"] = json!([{"hosts": ["shop.example"], "secretName": "cert"}]);
        ingress
    };
    let first = certificate("cert", "shop.example", "first")?;
    let mut gateway = Gateway::new(&[with_tls(ingress("shop", "web")), first.clone()])?;
    let copied = |gateway: &Gateway, name: &str| gateway.get(SECRETS, name).map(|copy| copy["data"].clone());
    gateway.wait("it is copied", |gateway| {
        copied(gateway, "default.cert").is_some_and(|data| data == first["data"])
    })?;
    let servers = gateway.get(GATEWAYS, "ingress-wasm").unwrap_or_default()["spec"]["servers"].to_string();
    assert!(servers.contains(r#""credentialName":"default.cert""#), "{servers}");
    let second = certificate("cert", "shop.example", "second")?;
    gateway.api.put(second.clone())?;
    gateway.wait("the renewed one is copied", |gateway| {
        copied(gateway, "default.cert").is_some_and(|data| data == second["data"])
    })?;
    // With authorities of clients there is another, which has both.
    let pem = |object: &Value| {
        let data = object["data"]["tls.crt"].as_str().unwrap_or_default();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default())
    };
    let authorities = pem(&certificate("x", "ca.example", "ca")?).map_err(|error| error.to_string())?;
    gateway.api.put(secret("ca", "Opaque", &[("ca.crt", &authorities)]))?;
    let asking = annotated(ingress("shop", "web"), &[("auth-tls-secret", "default/ca")]);
    gateway.api.put(with_tls(asking))?;
    gateway.wait("both are copied", |gateway| {
        let copy = copied(gateway, "default.cert.with.default.ca");
        copy.is_some_and(|data| data["tls.key"] == second["data"]["tls.key"] && data["ca.crt"].is_string())
    })?;
    let key = second["data"]["tls.key"].as_str().unwrap_or_default();
    assert!(!gateway.replicas[0].log().contains(key), "no key is logged");
    gateway.api.put(ingress("shop", "web"))?;
    gateway.wait("copies go", |gateway| gateway.list(SECRETS).is_empty())?;
    assert!(gateway.api.get(SECRETS, "default", "cert").is_some(), "what was copied stays");
    Ok(())
}

/// Clusters that the plugin names and no object makes.
fn missing(gateway: &Gateway) -> Vec<String> {
    let config = gateway.config();
    let named: BTreeSet<&str> = config.split('"').filter(|text| text.starts_with("outbound|")).collect();
    let (subsets, entries) = (gateway.subsets(), gateway.list(ENTRIES));
    let is_there = |name: &&&str| {
        let parts: Vec<&str> = name.split('|').collect();
        let [_, _, subset, host] = parts[..] else { return false };
        let known = host.ends_with(".svc.cluster.local")
            || entries.iter().any(|entry| entry["spec"]["hosts"][0] == host);
        known && (subset.is_empty() || subsets.iter().any(|found| found == subset))
    };
    let found: Vec<String> =
        named.iter().filter(|name| !is_there(name)).map(|name| (*name).to_owned()).collect();
    // What was looked at one after the other counts where the plugin has not changed meanwhile.
    if gateway.config() == config { found } else { Vec::new() }
}

pub fn what_the_filter_names_is_always_there() -> Result<(), String> {
    let mut gateway = Gateway::new(&[ingress("shop", "web")])?;
    let forms: [(&[(&str, &str)], &str); 4] = [
        (&[("backend-protocol", "HTTPS")], "outbound|80|https|"),
        (
            &[("proxy-connect-timeout", "7"), ("auth-url", "http://auth.example/check")],
            "outbound|80|connect-7000ms|",
        ),
        (&[("backend-protocol", "GRPC"), ("auth-url", "http://other.example/check")], "outbound|80|grpc|"),
        (&[], "outbound|80||web"),
    ];
    for (annotations, expected) in forms {
        gateway.api.put(annotated(ingress("shop", "web"), annotations))?;
        let mut lost = Vec::new();
        gateway.wait(expected, |gateway| {
            lost.extend(missing(gateway));
            gateway.config().contains(expected)
        })?;
        gateway.wait("what is not used any more goes", |gateway| {
            lost.extend(missing(gateway));
            let wanted = usize::from(!annotations.is_empty());
            gateway.subsets().len() == wanted
        })?;
        assert_eq!(lost, Vec::<String>::new(), "{expected}");
    }
    Ok(())
}

pub fn what_is_written_serves() -> Result<(), String> {
    let mut gateway = Gateway::without(&[
        annotated(ingress("shop", "web"), &[("proxy-connect-timeout", "7")]),
        annotated(ingress("denied", "web"), &[("denylist-source-range", "0.0.0.0/0")]),
        options(&json!({"use-gzip": "true", "keep-alive-requests": "3"})),
    ])?;
    let filter = Command::new(binary()?).args(["filter", "--output"]).arg(gateway.module()).status();
    assert!(filter.map_err(|error| error.to_string())?.success());
    gateway.start(&[])?;
    gateway.wait("ready", |gateway| gateway.replicas[0].readyz() == 200)?;
    gateway.wait_config("shop.example")?;
    let objects: Vec<Value> = ALL.iter().flat_map(|kind| gateway.list(kind)).collect();
    let mut cluster = vec![service("web")];
    cluster.extend(gateway.api.list("endpointslices.discovery.k8s.io"));
    let addresses = free_addresses();
    let bootstrap = istiod::bootstrap(&objects, &cluster, addresses)?;
    let path = gateway.file("gateway.json");
    std::fs::write(&path, format!("{bootstrap:#}")).map_err(|error| error.to_string())?;
    let _envoy = Product::envoy(&path, addresses.http, addresses.https, addresses.admin)?;
    let ask = |host: &str| {
        once(&Target::plain(addresses.http), &WireRequest::new("GET", host, "/"))
            .map(|response| answer(&response))
    };
    for (host, expected) in [("shop.example", "web"), ("denied.example", "403"), ("nobody.example", "404")] {
        assert_eq!(ask(host).map_err(|error| error.to_string())?, expected, "{host}");
    }
    // What the ConfigMap says of connections holds.
    let request = WireRequest::new("GET", "shop.example", "/").header("accept-encoding", "gzip");
    let mut connection =
        Connection::open(&Target::plain(addresses.http)).map_err(|error| error.to_string())?;
    for last in [false, false, true] {
        let response = connection.exchange(&request).map_err(|error| error.to_string())?;
        assert_eq!(response.header("content-encoding").as_deref(), Some("gzip"));
        assert_eq!(response.header("connection").as_deref() == Some("close"), last);
    }
    Ok(())
}
