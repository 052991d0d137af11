//! Service.

use crate::objects::{Metadata, Service, ServicePort};

use super::fields::{At, Faults, Unknown};
use super::ingress::port_ref;

/// Fields of `ServiceSpec`.
const SPEC: [&str; 21] = [
    "ports",
    "selector",
    "clusterIP",
    "clusterIPs",
    "type",
    "externalIPs",
    "sessionAffinity",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "publishNotReadyAddresses",
    "sessionAffinityConfig",
    "ipFamilies",
    "ipFamilyPolicy",
    "ipFamily",
    "allocateLoadBalancerNodePorts",
    "loadBalancerClass",
    "internalTrafficPolicy",
    "trafficDistribution",
];

const PORT: [&str; 6] = ["name", "protocol", "appProtocol", "port", "targetPort", "nodePort"];

pub(super) fn service(root: &At<'_>, metadata: Metadata, faults: &mut Faults<'_>) -> Service {
    let mut service = Service { metadata, external_name: None, cluster_ip: None, ports: Vec::new() };
    faults.check_fields(
        root,
        &["apiVersion", "kind", "metadata", "spec", "status"],
        &[],
        Unknown::RefuseSlips,
    );
    let Some(spec) = root.get("spec") else {
        faults.missing(root, "spec", "write the ports below `spec:`");
        return service;
    };
    if !faults.mapping(&spec) {
        return service;
    }
    faults.check_fields(&spec, &SPEC, &[], Unknown::RefuseSlips);
    let external = faults.text_field(&spec, "type").as_deref() == Some("ExternalName");
    if external {
        service.external_name = faults.text_field(&spec, "externalName").filter(|name| !name.is_empty());
        if service.external_name.is_none() {
            faults.missing(&spec, "externalName", "write the host name that the Service stands for");
        }
    }
    let cluster_ip = faults.text_field(&spec, "clusterIP").filter(|ip| !ip.is_empty());
    let headless = cluster_ip.as_deref() == Some("None");
    service.cluster_ip = cluster_ip.filter(|_| !headless);
    if let Some(ports) = spec.get("ports").filter(|ports| faults.list(ports)) {
        service.ports = ports.items().filter_map(|at| port(&at, faults)).collect();
    }
    if spec.get("ports").is_none_or(|ports| ports.items().next().is_none()) && !external && !headless {
        faults.missing(&spec, "ports", "write at least one port");
    }
    service
}

fn port(at: &At<'_>, faults: &mut Faults<'_>) -> Option<ServicePort> {
    if !faults.mapping(at) {
        return None;
    }
    faults.check_fields(at, &PORT, &[], Unknown::RefuseSlips);
    let Some(number) = at.get("port") else {
        faults.missing(at, "port", "write the port of the Service");
        return None;
    };
    Some(ServicePort {
        name: faults.text_field(at, "name").unwrap_or_default(),
        port: faults.port(&number)?,
        target_port: match at.get("targetPort") {
            Some(target) => Some(port_ref(&target, faults)?),
            None => None,
        },
        app_protocol: faults.text_field(at, "appProtocol").filter(|protocol| !protocol.is_empty()),
        protocol: protocol(at, faults),
    })
}

/// `protocol`, which is TCP where nothing is written.
pub(super) fn protocol(at: &At<'_>, faults: &mut Faults<'_>) -> String {
    let Some(field) = at.get("protocol") else { return "TCP".to_owned() };
    let protocol = faults.text(&field).unwrap_or_default();
    if !matches!(protocol.as_str(), "" | "TCP" | "UDP" | "SCTP") && field.node.text().is_some() {
        faults.error("field-value", &field, "there is no such protocol", "write `TCP`, `UDP` or `SCTP`");
    }
    if protocol.is_empty() { "TCP".to_owned() } else { protocol }
}
