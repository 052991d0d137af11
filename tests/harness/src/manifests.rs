//! What the runner has to know of manifests, and the manifests it writes itself.
//!
//! It reads no more of an object than its name, its hosts and its backends; what an object means is the
//! product's business. Manifests that are broken on purpose are fine: nothing is known of them then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::case::Case;

/// What can be seen in the objects of a case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// `Kind/namespace/name` of each object.
    pub objects: BTreeSet<String>,
    /// Hosts of rules, TLS sections and requests, in lower case and without a port.
    pub hosts: BTreeSet<String>,
    /// Whether an Ingress takes requests for hosts it does not name.
    pub catch_all: bool,
    /// Services that an Ingress names as the backend of a rule or as default backend, and that nothing calls
    /// by their DNS name besides.
    pub backends: BTreeSet<String>,
}

/// Looks into the objects of a case.
pub fn facts(case: &Case) -> Facts {
    let mut facts = Facts::default();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&case.manifests).unwrap_or_default();
    for object in &documents {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        facts.objects.insert(format!("{kind}/{namespace}/{name}"));
        if kind == "Ingress" {
            ingress(&object["spec"], &mut facts);
        }
    }
    let requested = case.requests.iter().map(|request| request.url.host.as_str());
    facts.hosts.extend(requested.map(|host| host.split(':').next().unwrap_or(host).to_lowercase()));
    let config = case.config.values().map(String::as_str).collect::<Vec<_>>().join("\n");
    facts.backends.retain(|name| {
        let called = [format!("{name}.default.svc"), format!("ENDPOINT({name})")];
        !called.iter().any(|call| case.manifests.contains(call) || config.contains(call))
    });
    facts
}

fn ingress(spec: &Value, facts: &mut Facts) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let defaults = [&spec["defaultBackend"], &spec["backend"]];
    facts.backends.extend(defaults.into_iter().filter_map(backend_service));
    let rules = list(&spec["rules"]);
    facts.catch_all |= rules.is_empty();
    for rule in rules {
        match rule["host"].as_str().filter(|host| !host.is_empty() && *host != "*") {
            Some(host) => drop(facts.hosts.insert(host.to_lowercase())),
            None => facts.catch_all = true,
        }
        let paths = list(&rule["http"]["paths"]);
        facts.backends.extend(paths.iter().filter_map(|path| backend_service(&path["backend"])));
    }
    for tls in list(&spec["tls"]) {
        facts.hosts.extend(list(&tls["hosts"]).iter().filter_map(Value::as_str).map(str::to_lowercase));
    }
}

fn backend_service(backend: &Value) -> Option<String> {
    let name = backend["service"]["name"].as_str().or(backend["serviceName"].as_str())?;
    Some(name.to_owned())
}

/// A service with endpoints, as it is written for the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service<'a> {
    /// Its name in the namespace `default`.
    pub name: &'a str,
    /// Its only port.
    pub port: u16,
    /// The addresses of its ready endpoints.
    pub endpoints: Vec<SocketAddr>,
    /// Whether it has a cluster address.
    pub cluster_ip: bool,
}

/// Services and EndpointSlices as a YAML stream. Each endpoint has a slice of its own, since all endpoints of
/// a slice share their ports.
pub fn services(services: &[Service<'_>]) -> String {
    let mut documents = Vec::new();
    for (number, service) in services.iter().enumerate() {
        let cluster_ip = match service.cluster_ip {
            true => format!("10.96.{}.{}", number / 250, number % 250 + 1),
            false => "None".to_owned(),
        };
        documents.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": service.name, "namespace": "default"},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": cluster_ip,
                "selector": {"app": service.name},
                "ports": [{"name": "http", "port": service.port, "targetPort": 8080, "protocol": "TCP"}],
            },
        }));
        let slice = |index: usize, port: Option<u16>, endpoints: Value| {
            json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{index}", service.name),
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": service.name},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port.unwrap_or(8080), "protocol": "TCP"}],
                "endpoints": endpoints,
            })
        };
        if service.endpoints.is_empty() {
            documents.push(slice(0, None, json!([])));
        }
        for (index, address) in service.endpoints.iter().enumerate() {
            let endpoints = json!([{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}]);
            documents.push(slice(index, Some(address.port()), endpoints));
        }
    }
    stream(&documents)
}

/// The controller's ConfigMap.
pub fn config_map(data: &BTreeMap<String, String>) -> String {
    stream(&[json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ingress-nginx-controller", "namespace": "ingress-nginx"},
        "data": data,
    })])
}

/// JSON documents make a YAML stream, and need no care for quoting.
fn stream(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("---\n{document:#}\n")).collect()
}

/// Puts addresses in the place of `ENDPOINT(NAME)`; names without an address stay as they are.
pub fn replace_endpoints(text: &str, addresses: &BTreeMap<&str, SocketAddr>) -> String {
    addresses.iter().fold(text.to_owned(), |text, (name, address)| {
        text.replace(&format!("ENDPOINT({name})"), &address.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(manifests: &str, url: &str) -> Case {
        let text = format!(
            "- name: a\n  source: s\n  area: x\n  manifests: {}\n  requests: [{{url: '{url}'}}]\n",
            serde_json::to_string(manifests).unwrap()
        );
        crate::case::parse(&text).unwrap().remove(0)
    }

    fn names(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    #[test]
    fn objects_hosts_and_backends_are_seen() {
        let manifests = r"
kind: Ingress
metadata: {name: one, annotations: {auth-url: 'http://auth.default.svc.cluster.local/'}}
spec:
  tls: [{hosts: [T.example]}]
  rules:
  - host: A.example
    http: {paths: [{backend: {service: {name: web}}}, {backend: {service: {name: auth}}}]}
---
kind: Ingress
metadata: {name: two, namespace: other}
spec:
  backend: {serviceName: old}
  rules: [{host: b.example}]
";
        let facts = facts(&case(manifests, "https://C.example:8443/x"));
        assert_eq!(names(&facts.objects), ["Ingress/default/one", "Ingress/other/two"]);
        assert_eq!(names(&facts.hosts), ["a.example", "b.example", "c.example", "t.example"]);
        assert_eq!(names(&facts.backends), ["old", "web"], "a called service is reached for other reasons");
        assert!(!facts.catch_all);
    }

    #[test]
    fn catch_all_is_seen() {
        let cases = [
            ("kind: Ingress\nspec: {defaultBackend: {service: {name: web}}}", true),
            ("kind: Ingress\nspec: {rules: [{http: {paths: []}}]}", true),
            ("kind: Ingress\nspec: {rules: [{host: '*', http: {paths: []}}]}", true),
            ("kind: Ingress\nspec: {rules: [{host: a, http: {paths: []}}]}", false),
            ("kind: Secret", false),
            ("kind: [broken", false),
        ];
        for (manifests, expected) in cases {
            assert_eq!(facts(&case(manifests, "http://a/")).catch_all, expected, "{manifests}");
        }
    }

    #[test]
    fn written_services_can_be_read() {
        let address: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        let web = Service { name: "web", port: 80, endpoints: vec![address, address], cluster_ip: true };
        let none = Service { name: "none", port: 81, endpoints: vec![], cluster_ip: false };
        let objects: Vec<Value> = serde_saphyr::from_multiple(&services(&[web, none])).unwrap();
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Service", "EndpointSlice", "EndpointSlice", "Service", "EndpointSlice"]);
        assert_eq!(objects[1]["ports"][0]["port"], 4711);
        assert_eq!(objects[3]["spec"]["clusterIP"], "None");
        assert_eq!(objects[4]["endpoints"], json!([]));
        let data = [("key".to_owned(), "a: \"b\"\n# c".to_owned())].into();
        let map: Value = serde_saphyr::from_str(&config_map(&data)).unwrap();
        assert_eq!(map["data"]["key"], "a: \"b\"\n# c");
    }

    #[test]
    fn endpoints_are_replaced() {
        let addresses = [("web", "127.0.0.1:1".parse().unwrap())].into();
        let text = replace_endpoints("http://ENDPOINT(web)/ ENDPOINT(other)", &addresses);
        assert_eq!(text, "http://127.0.0.1:1/ ENDPOINT(other)");
    }
}
