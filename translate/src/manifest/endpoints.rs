//! EndpointSlice, and Endpoints as EndpointSlices.

use std::net::IpAddr;

use crate::objects::{EndpointPort, EndpointSlice, Metadata, ObjectName};

use super::fields::{At, Faults, Unknown};
use super::service::protocol;

/// The label of a slice that names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

const SLICE: [&str; 6] = ["apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"];
const ENDPOINT: [&str; 9] = [
    "addresses",
    "conditions",
    "hostname",
    "targetRef",
    "topology",
    "deprecatedTopology",
    "nodeName",
    "zone",
    "hints",
];
const SUBSET: [&str; 3] = ["addresses", "notReadyAddresses", "ports"];

/// A slice; none where it belongs to no Service, which is told.
pub(super) fn slice(root: &At<'_>, metadata: Metadata, faults: &mut Faults<'_>) -> Option<EndpointSlice> {
    faults.check_fields(root, &SLICE, &[], Unknown::RefuseSlips);
    let addresses_count = match faults.text_field(root, "addressType").as_deref() {
        Some("IPv4" | "IPv6") => true,
        Some("FQDN") => {
            if let Some(at) = root.get("addressType") {
                let what = "addresses that are names are not served; the slice counts as empty";
                faults.warning("address-type-unsupported", &at, what, "use a Service of type ExternalName");
            }
            false
        }
        Some(_) => {
            if let Some(at) = root.get("addressType") {
                faults.error("field-value", &at, "there is no such address type", "write `IPv4` or `IPv6`");
            }
            false
        }
        None => {
            if root.get("addressType").is_none() {
                faults.missing(root, "addressType", "write `IPv4` or `IPv6`");
            }
            false
        }
    };
    let mut addresses = Vec::new();
    if let Some(endpoints) = root.get("endpoints").filter(|at| faults.list(at)) {
        for at in endpoints.items() {
            endpoint(&at, addresses_count, &mut addresses, faults);
        }
    }
    let ports = ports(root, faults);
    let Some(service) = metadata.labels.get(SERVICE_LABEL).filter(|service| !service.is_empty()).cloned()
    else {
        let remedy = format!("give it the label `{SERVICE_LABEL}` with the name of its Service");
        let what = "the slice belongs to no Service; it is passed over";
        faults.warning("endpoint-slice-without-service", root, what, remedy);
        return None;
    };
    Some(EndpointSlice { metadata, service, ports, addresses })
}

fn endpoint(at: &At<'_>, addresses_count: bool, addresses: &mut Vec<String>, faults: &mut Faults<'_>) {
    if !faults.mapping(at) {
        return;
    }
    faults.check_fields(at, &ENDPOINT, &[], Unknown::RefuseSlips);
    // "Nil should be interpreted as ready" (EndpointConditions).
    let ready = match at.get("conditions").filter(|conditions| faults.mapping(conditions)) {
        Some(conditions) => {
            faults.check_fields(&conditions, &["ready", "serving", "terminating"], &[], Unknown::RefuseSlips);
            faults.bool_field(&conditions, "ready").unwrap_or(true)
        }
        None => true,
    };
    let Some(list) = at.get("addresses").filter(|list| faults.list(list)) else { return };
    for at in list.items() {
        if let Some(address) = faults.text(&at)
            && addresses_count
            && check_address(&address, &at, faults)
            && ready
        {
            addresses.push(address);
        }
    }
}

fn check_address(address: &str, at: &At<'_>, faults: &mut Faults<'_>) -> bool {
    let fits = address.parse::<IpAddr>().is_ok();
    if !fits {
        faults.error("address-invalid", at, "this is no IP address", "write an IPv4 or IPv6 address");
    }
    fits
}

/// The TCP ports. A port without a number stands for all ports and leads nowhere.
fn ports(at: &At<'_>, faults: &mut Faults<'_>) -> Vec<EndpointPort> {
    let Some(ports) = at.get("ports").filter(|ports| faults.list(ports)) else { return Vec::new() };
    let mut decoded = Vec::new();
    for at in ports.items() {
        if !faults.mapping(&at) {
            continue;
        }
        faults.check_fields(&at, &["name", "port", "protocol", "appProtocol"], &[], Unknown::RefuseSlips);
        let name = faults.text_field(&at, "name").unwrap_or_default();
        let tcp = protocol(&at, faults) == "TCP";
        if let Some(port) = at.get("port").and_then(|port| faults.port(&port))
            && tcp
        {
            decoded.push(EndpointPort { name, port });
        }
    }
    decoded
}

/// One slice for each subset, named `NAME`, `NAME#1` and so on.
pub(super) fn endpoints(root: &At<'_>, metadata: &Metadata, faults: &mut Faults<'_>) -> Vec<EndpointSlice> {
    faults.check_fields(root, &["apiVersion", "kind", "metadata", "subsets"], &[], Unknown::RefuseSlips);
    let Some(subsets) = root.get("subsets").filter(|subsets| faults.list(subsets)) else { return Vec::new() };
    let mut slices = Vec::new();
    for (index, at) in subsets.items().enumerate() {
        if !faults.mapping(&at) {
            continue;
        }
        faults.check_fields(&at, &SUBSET, &[], Unknown::RefuseSlips);
        let service = metadata.name.name.clone();
        let name = if index == 0 { service.clone() } else { format!("{service}#{index}") };
        let name = ObjectName::new(metadata.name.namespace.clone(), name);
        slices.push(EndpointSlice {
            metadata: Metadata { name, ..metadata.clone() },
            service,
            ports: ports(&at, faults),
            addresses: subset_addresses(&at, faults),
        });
    }
    slices
}

fn subset_addresses(at: &At<'_>, faults: &mut Faults<'_>) -> Vec<String> {
    let Some(list) = at.get("addresses").filter(|list| faults.list(list)) else { return Vec::new() };
    let mut addresses = Vec::new();
    for at in list.items() {
        if !faults.mapping(&at) {
            continue;
        }
        faults.check_fields(&at, &["ip", "hostname", "nodeName", "targetRef"], &[], Unknown::RefuseSlips);
        let Some(ip) = at.get("ip") else {
            faults.missing(&at, "ip", "write an IPv4 or IPv6 address");
            continue;
        };
        if let Some(address) = faults.text(&ip)
            && check_address(&address, &ip, faults)
        {
            addresses.push(address);
        }
    }
    addresses
}
