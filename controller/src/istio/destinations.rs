//! ServiceEntries for hosts that the mesh does not know, and DestinationRules for what Ingresses ask of backends.
//!
//! All hold for the gateway's namespace only (`exportTo`): nobody else in the mesh is concerned.

use ingress_wasm_translate::backend_protocol::BackendTls;
use ingress_wasm_translate::output::LoadBalancing;
use serde_json::{Value, json};

use super::clusters::{Clusters, External, Host, Policy, Tls};
use super::credentials::Credentials;
use super::{Settings, short_hash};
use crate::envoy::HASH_HEADER;

const API: &str = "networking.istio.io/v1";

/// One for each host outside of the mesh.
pub(super) fn service_entries(clusters: &Clusters, settings: &Settings) -> Vec<Value> {
    let outside =
        clusters.hosts.iter().filter_map(|(name, host)| Some((name, host, host.external.as_ref()?)));
    outside
        .map(|(name, host, external)| {
            let ports: Vec<Value> = host
                .ports
                .iter()
                .map(|(number, policy)| {
                    let protocol = if policy.tls.is_some() { "HTTPS" } else { "HTTP" };
                    let name = format!("{}-{number}", protocol.to_ascii_lowercase());
                    json!({"number": number, "name": name, "protocol": protocol})
                })
                .collect();
            let mut spec = json!({
                "hosts": [name],
                "exportTo": ["."],
                "location": "MESH_EXTERNAL",
                "resolution": "DNS",
                "ports": ports,
            });
            if let External::Address(address) = external {
                spec["resolution"] = "STATIC".into();
                spec["endpoints"] = json!([{"address": address}]);
            }
            settings.object(API, "ServiceEntry", &short_hash(name), spec)
        })
        .collect()
}

/// One for each host of which something is said that the mesh would not do by itself.
pub(super) fn destination_rules(
    clusters: &Clusters,
    settings: &Settings,
    credentials: &mut Credentials<'_>,
) -> Vec<Value> {
    let asked = |host: &&Host| {
        !host.subsets.is_empty() || host.ports.values().any(|policy| *policy != Policy::default())
    };
    let hosts = clusters.hosts.iter().filter(|(_, host)| asked(host));
    hosts
        .map(|(name, host)| {
            let mut spec = json!({"host": name, "exportTo": ["."]});
            let levels: Vec<Value> = host
                .ports
                .iter()
                .filter(|(_, policy)| **policy != Policy::default())
                .map(|(port, policy)| {
                    let mut level = traffic_policy(policy, credentials);
                    level["port"] = json!({"number": port});
                    level
                })
                .collect();
            if !levels.is_empty() {
                spec["trafficPolicy"] = json!({"portLevelSettings": levels});
            }
            let subsets: Vec<Value> = host
                .subsets
                .iter()
                .map(|(subset, policy)| {
                    json!({"name": subset, "trafficPolicy": subset_policy(host, policy, credentials)})
                })
                .collect();
            if !subsets.is_empty() {
                spec["subsets"] = subsets.into();
            }
            settings.object(API, "DestinationRule", &short_hash(name), spec)
        })
        .collect()
}

/// That of a subset. istiod merges it into that of the host, of which the levels of ports go before what a subset
/// says for all of them: so it says it for each port too.
fn subset_policy(host: &Host, policy: &Policy, credentials: &mut Credentials<'_>) -> Value {
    let mut all = traffic_policy(policy, credentials);
    let said: Vec<Value> = host
        .ports
        .iter()
        .filter(|(_, base)| **base != Policy::default())
        .map(|(port, _)| {
            let mut level = traffic_policy(policy, credentials);
            level["port"] = json!({"number": port});
            level
        })
        .collect();
    if !said.is_empty() {
        all["portLevelSettings"] = said.into();
    }
    all
}

fn traffic_policy(policy: &Policy, credentials: &mut Credentials<'_>) -> Value {
    let Policy { connect_timeout, load_balancing, http2, tls, mirror: _ } = policy;
    let balancer = match load_balancing {
        LoadBalancing::RoundRobin => json!({"simple": "ROUND_ROBIN"}),
        LoadBalancing::LeastRequest => json!({"simple": "LEAST_REQUEST"}),
        LoadBalancing::Hash => json!({"consistentHash": {"httpHeaderName": HASH_HEADER}}),
    };
    let mut pool = json!({"tcp": {"connectTimeout": format!("{}ms", connect_timeout.as_millis())}});
    if *http2 {
        pool["http"] = json!({"h2UpgradePolicy": "UPGRADE"});
    }
    let mut found = json!({"loadBalancer": balancer, "connectionPool": pool});
    match tls {
        None => {}
        Some(Tls::Named(name)) => {
            found["tls"] = json!({"mode": "SIMPLE", "sni": name, "insecureSkipVerify": true});
        }
        Some(Tls::Backend(tls)) => found["tls"] = backend_tls(tls, credentials),
    }
    found
}

fn backend_tls(tls: &BackendTls, credentials: &mut Credentials<'_>) -> Value {
    let BackendTls { server_name, verify, certificate, oldest: _, newest: _, ciphers: _ } = tls;
    let secret = certificate
        .as_ref()
        .map(|certificate| &certificate.secret)
        .or(verify.as_ref().map(|verify| &verify.secret));
    let mode = if certificate.is_some() { "MUTUAL" } else { "SIMPLE" };
    let mut found = json!({"mode": mode});
    if let Some(secret) = secret {
        found["credentialName"] = credentials.of(secret).into();
    }
    if let Some(name) = server_name {
        found["sni"] = name.as_str().into();
    }
    match verify {
        Some(verify) => found["subjectAltNames"] = json!([verify.name]),
        None => found["insecureSkipVerify"] = true.into(),
    }
    found
}
