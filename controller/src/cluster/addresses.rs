//! The addresses at which clients reach the controller, as ingress-nginx finds them (`status.go`): those of a Service,
//! those of the command line, or those of the nodes that the controller's pods are on.
//!
//! Deliberately knows nothing of what is done with them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ingress_wasm_translate::objects::ObjectName;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client};

use super::StatusSettings;

/// An address in the status of an Ingress. In order of host name, then IP, as ingress-nginx writes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A name; empty where there is an IP.
    pub hostname: String,
    /// An IP; empty where there is a name.
    pub ip: String,
}

/// Why addresses are not known.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum Unknown {
    #[error("{0}")]
    Kube(#[from] kube::Error),
    #[error("the API server does not answer in time")]
    NoAnswer,
    #[error("the Service {0} of --publish-service does not exist")]
    NoService(ObjectName),
    #[error("the Service {0} of --publish-service has no address: it is of type {1} without a cluster IP")]
    NoAddress(ObjectName, String),
    #[error(
        "POD_NAME and POD_NAMESPACE are not set and no such pod is found: set --publish-service or --publish-status-address"
    )]
    NoPod,
}

/// The pod that this runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPod {
    /// Its namespace: `POD_NAMESPACE`, else that of the service account, else the one the client is configured with.
    pub namespace: String,
    /// Its name: `POD_NAME`; none outside of a cluster.
    pub name: Option<String>,
}

impl OwnPod {
    /// From the environment.
    pub fn find(client: &Client) -> OwnPod {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let namespace = variable("POD_NAMESPACE").unwrap_or_else(|| client.default_namespace().to_owned());
        OwnPod { namespace, name: variable("POD_NAME") }
    }

    /// A name that no other replica has.
    pub fn identity(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            format!("{host}_{}", std::process::id())
        })
    }

    /// The pods of this controller that are not about to end: those with the labels of the own one.
    async fn replicas(&self, client: &Client) -> Result<Vec<Pod>, Unknown> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let own = match &self.name {
            Some(name) => pods.get_opt(name).await?,
            None => None,
        };
        let mut labels = own.and_then(|pod| pod.metadata.labels).ok_or(Unknown::NoPod)?;
        // These change with each roll-out.
        for label in ["pod-template-hash", "controller-revision-hash", "pod-template-generation"] {
            labels.remove(label);
        }
        let selector: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let all = pods.list(&ListParams::default().labels(&selector.join(","))).await?;
        let lives = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
        };
        Ok(all.items.into_iter().filter(lives).collect())
    }

    /// Whether another pod of this controller goes on.
    ///
    /// # Errors
    ///
    /// Where the pods cannot be read.
    pub async fn has_others(&self, client: &Client) -> Result<bool, Unknown> {
        let replicas = self.replicas(client).await?;
        Ok(replicas.iter().any(|pod| pod.metadata.name != self.name))
    }
}

/// The addresses to publish, in order and without repetitions.
///
/// # Errors
///
/// Where they are not known at present.
pub async fn find(client: &Client, settings: &StatusSettings, own: &OwnPod) -> Result<Vec<Address>, Unknown> {
    let mut found = if !settings.publish_addresses.is_empty() {
        settings.publish_addresses.iter().filter_map(|text| address(text)).collect()
    } else if let Some(name) = &settings.publish_service {
        let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
        let service = services.get_opt(&name.name).await?;
        of_service(name, &service.ok_or_else(|| Unknown::NoService(name.clone()))?)?
    } else {
        of_nodes(client, settings, own).await?
    };
    found.sort();
    found.dedup();
    Ok(found)
}

/// A name or an IP.
fn address(text: &str) -> Option<Address> {
    let text = text.trim().to_owned();
    match text.parse::<IpAddr>() {
        _ if text.is_empty() => None,
        Ok(_) => Some(Address { hostname: String::new(), ip: text }),
        Err(_) => Some(Address { hostname: text, ip: String::new() }),
    }
}

fn of_service(name: &ObjectName, service: &Service) -> Result<Vec<Address>, Unknown> {
    let spec = service.spec.clone().unwrap_or_default();
    let external: Vec<Address> =
        spec.external_ips.iter().flatten().filter_map(|text| address(text)).collect();
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let cluster_ip = || match spec.cluster_ip.as_deref() {
        None | Some("" | "None") => Err(Unknown::NoAddress(name.clone(), kind.to_owned())),
        Some(ip) => Ok(address(ip).into_iter().collect()),
    };
    match kind {
        "ExternalName" => Ok(spec.external_name.as_deref().and_then(address).into_iter().collect()),
        "LoadBalancer" => {
            let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let balancers = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
            let texts = balancers.filter_map(|balancer| {
                balancer.ip.as_deref().filter(|ip| !ip.is_empty()).or(balancer.hostname.as_deref())
            });
            Ok(texts.filter_map(address).chain(external).collect())
        }
        "NodePort" if !external.is_empty() => Ok(external),
        _ => cluster_ip(),
    }
}

/// Of the nodes of all ready pods.
async fn of_nodes(client: &Client, settings: &StatusSettings, own: &OwnPod) -> Result<Vec<Address>, Unknown> {
    let pods = own.replicas(client).await?;
    let ready = pods.iter().filter(|pod| is_ready(pod));
    let names: BTreeSet<String> = ready.filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
    let nodes: Api<Node> = Api::all(client.clone());
    let mut found = Vec::new();
    for name in names {
        let node = nodes.get_opt(&name).await?;
        found.extend(node.and_then(|node| of_node(&node, settings.internal_addresses)));
    }
    Ok(found)
}

fn is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let conditions = status.conditions.iter().flatten();
    status.phase.as_deref() == Some("Running")
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The external address of a node, or the internal one where it is asked for or there is no other.
fn of_node(node: &Node, internal: bool) -> Option<Address> {
    let addresses: Vec<_> = node.status.iter().flat_map(|status| status.addresses.iter().flatten()).collect();
    let of = |kind: &str| {
        addresses.iter().filter(|address| address.type_ == kind).find_map(|found| address(&found.address))
    };
    let external = if internal { None } else { of("ExternalIP") };
    external.or_else(|| of("InternalIP"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(addresses: &[Address]) -> String {
        let text = |address: &Address| {
            if address.ip.is_empty() { format!("name {}", address.hostname) } else { address.ip.clone() }
        };
        addresses.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn addresses_of_services() {
        let cases = [
            (json!({"spec": {"clusterIP": "10.0.0.1"}}), "10.0.0.1"),
            (
                json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "externalIPs": ["1.1.1.1"]}}),
                "10.0.0.1",
            ),
            (json!({"spec": {"type": "ClusterIP", "clusterIP": "None"}}), "none"),
            (json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1"}}), "10.0.0.1"),
            (
                json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "externalIPs": ["1.1.1.1"]}}),
                "1.1.1.1",
            ),
            (json!({"spec": {"type": "ExternalName", "externalName": "edge.example"}}), "name edge.example"),
            (json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}}), ""),
            (
                json!({"spec": {"type": "LoadBalancer", "externalIPs": ["9.9.9.9", "1.2.3.4"]},
                       "status": {"loadBalancer": {"ingress": [
                           {"ip": "1.2.3.4"}, {"hostname": "lb.example"}, {"ip": "", "hostname": "b.example"}]}}}),
                "1.2.3.4 name lb.example name b.example 9.9.9.9 1.2.3.4",
            ),
            (json!({}), "none"),
        ];
        for (service, expected) in cases {
            let parsed: Service = serde_json::from_value(service.clone()).expect("a Service");
            let found = of_service(&ObjectName::new("a", "b"), &parsed);
            assert_eq!(found.map_or_else(|_| "none".to_owned(), |found| text(&found)), expected, "{service}");
        }
    }

    #[test]
    fn addresses_of_nodes() {
        let node = |addresses: Value| -> Node {
            serde_json::from_value(json!({"status": {"addresses": addresses}})).expect("a Node")
        };
        let external = json!({"type": "ExternalIP", "address": "1.1.1.1"});
        let internal = json!({"type": "InternalIP", "address": "10.0.0.1"});
        let name = json!({"type": "Hostname", "address": "n1"});
        let cases = [
            (json!([name, internal, external]), false, "1.1.1.1"),
            (json!([name, internal, external]), true, "10.0.0.1"),
            (json!([name, internal]), false, "10.0.0.1"),
            (json!([name]), false, "none"),
        ];
        for (addresses, internally, expected) in cases {
            let found = of_node(&node(addresses.clone()), internally);
            assert_eq!(found.map_or("none".to_owned(), |address| address.ip), expected, "{addresses}");
        }
    }

    #[test]
    fn addresses_of_the_command_line() {
        let cases = [
            ("1.2.3.4", "1.2.3.4"),
            (" edge.example ", "name edge.example"),
            ("2001:db8::1", "2001:db8::1"),
            (" ", ""),
        ];
        for (written, expected) in cases {
            assert_eq!(text(&address(written).into_iter().collect::<Vec<_>>()), expected, "{written:?}");
        }
    }
}
