//! The EnvoyFilter: what no other object of Istio can say.
//!
//! istiod merges as protocol buffers do: lists grow, and neither `false` nor zero replaces anything. So the virtual
//! hosts that istiod makes are taken away and ours put in their place, and settings that are on stay on.

use ingress_wasm_translate::output::Translation;
use serde_json::{Value, json};

use super::clusters::Clusters;
use super::gateway::Server;
use super::{IstioError, Settings};
use crate::envoy::{
    asking_chain_patch, client_certificate_filter, compressor_filters, connection_manager_patch,
    mirror_cluster_patch, route_configuration_patch, router_patch, session_filter_patch, virtual_host,
};

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const ROUTER: &str = "envoy.filters.http.router";

/// The patches of the gateway.
pub(super) fn envoy_filter(
    translation: &Translation,
    clusters: &Clusters,
    servers: &[Server],
    settings: &Settings,
) -> Result<Value, IstioError> {
    let clients = &translation.connections.clients;
    let manager = connection_manager_patch(settings.http_port, clients)?;
    let mut profiles = translation.route_profiles.clone();
    for mirror in profiles.values_mut().filter_map(|profile| profile.mirror.as_mut()) {
        mirror.cluster = clusters.renamed(&mirror.cluster);
    }
    let host = virtual_host(translation, &profiles)?;
    let routes = route_configuration_patch(translation)?;
    let router =
        json!({"listener": {"filterChain": {"filter": {"name": MANAGER, "subFilter": {"name": ROUTER}}}}});
    let mut patches = vec![
        patch(
            settings,
            "NETWORK_FILTER",
            json!({"listener": {"filterChain": {"filter": {"name": MANAGER}}}}),
            "MERGE",
            Some(json!({"name": MANAGER, "typed_config": manager})),
        ),
        patch(
            settings,
            "HTTP_FILTER",
            router.clone(),
            "MERGE",
            Some(json!({"name": ROUTER, "typed_config": router_patch()?})),
        ),
    ];
    if translation.keeps_endpoints() {
        // Behind the WasmPlugin, which says what it is to do.
        let filter = session_filter_patch()?;
        patches.push(patch(settings, "HTTP_FILTER", router, "INSERT_BEFORE", Some(filter)));
    }
    let at = json!({"listener": {"filterChain": {"filter": {"name": MANAGER}}}});
    if !translation.client_authorities.is_empty() {
        let filter = client_certificate_filter()?;
        patches.push(patch(settings, "HTTP_FILTER", at.clone(), "INSERT_FIRST", Some(filter)));
    }
    for Server { hosts, asks, .. } in servers {
        // The chain of a server has all its hosts.
        if let (Some(asks), Some(host)) = (asks, hosts.first()) {
            let at = json!({"listener": {"filterChain": {"sni": host}}});
            let value = asking_chain_patch(asks.depth)?;
            patches.push(patch(settings, "FILTER_CHAIN", at, "MERGE", Some(value)));
        }
    }
    // Each goes before those that are there: the last one is the first.
    for filter in compressor_filters(clients)?.into_iter().rev() {
        patches.push(patch(settings, "HTTP_FILTER", at.clone(), "INSERT_FIRST", Some(filter)));
    }
    for cluster in clusters.mirrors() {
        let value = mirror_cluster_patch(&translation.connections.backends)?;
        let at = json!({"cluster": {"name": cluster}});
        patches.push(patch(settings, "CLUSTER", at, "MERGE", Some(value)));
    }
    for port in [settings.http_port, settings.https_port] {
        let at = json!({"routeConfiguration": {"portNumber": port}});
        patches.push(patch(settings, "ROUTE_CONFIGURATION", at.clone(), "MERGE", Some(routes.clone())));
        patches.push(patch(settings, "VIRTUAL_HOST", at.clone(), "REMOVE", None));
        patches.push(patch(settings, "VIRTUAL_HOST", at, "ADD", Some(host.clone())));
    }
    let spec = json!({
        "workloadSelector": {"labels": settings.selector},
        "configPatches": patches,
    });
    Ok(settings.object("networking.istio.io/v1alpha3", "EnvoyFilter", "", spec))
}

fn patch(
    settings: &Settings,
    apply_to: &str,
    mut matches: Value,
    operation: &str,
    value: Option<Value>,
) -> Value {
    matches["context"] = "GATEWAY".into();
    if let Some(version) = &settings.proxy_version {
        matches["proxy"] = json!({"proxyVersion": version});
    }
    let mut patch = json!({"operation": operation});
    if let Some(value) = value {
        patch["value"] = value;
    }
    json!({"applyTo": apply_to, "match": matches, "patch": patch})
}
