//! Which cluster of the mesh stands for which cluster of the translation.
//!
//! istiod makes one cluster for each port of each Service, `outbound|PORT||HOST`, and one for each subset of a
//! DestinationRule, `outbound|PORT|SUBSET|HOST`. Settings that only some Ingresses ask for are a subset that has all
//! endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ingress_wasm_translate::backend_protocol::{BackendTls, Transport};
use ingress_wasm_translate::objects::Snapshot;
use ingress_wasm_translate::output::{Cluster, Endpoints, LoadBalancing, ServicePortName, Translation};

/// What holds for a cluster where nothing is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a DestinationRule says of requests to a port of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub connect_timeout: Duration,
    pub load_balancing: LoadBalancing,
    pub http2: bool,
    pub tls: Option<Tls>,
    /// Requests are copies of others: the EnvoyFilter has a patch for it.
    pub mirror: bool,
}

/// TLS towards a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tls {
    /// As an Ingress says.
    Backend(Box<BackendTls>),
    /// Of a service that is asked: with this server name, unverified.
    Named(String),
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            connect_timeout: CONNECT_TIMEOUT,
            load_balancing: LoadBalancing::default(),
            http2: false,
            tls: None,
            mirror: false,
        }
    }
}

/// A host that the mesh does not know by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum External {
    /// A name that is resolved.
    Name,
    /// An address.
    Address(String),
}

/// A host of the mesh.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// None: a Service.
    pub external: Option<External>,
    /// What holds for each port.
    pub ports: BTreeMap<u16, Policy>,
    /// What holds for subsets, by name, and the ports they are used with.
    pub subsets: BTreeMap<String, Policy>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    pub host: String,
    pub port: u16,
    pub subset: Option<String>,
}

impl Destination {
    /// The name that istiod gives its cluster.
    pub fn cluster(&self) -> String {
        let Destination { host, port, subset } = self;
        format!("outbound|{port}|{}|{host}", subset.as_deref().unwrap_or_default())
    }
}

/// All clusters of a translation.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// By the name that the translation gives them.
    pub destinations: BTreeMap<String, Destination>,
    /// By name.
    pub hosts: BTreeMap<String, Host>,
}

impl Clusters {
    pub fn new(translation: &Translation, snapshot: &Snapshot) -> Self {
        let mut clusters = Clusters::default();
        // A name without settings in it comes first: what it says holds for the port as such.
        let plain = |name: &str| !name.contains('#') && !name.starts_with("https://");
        let (first, then): (Vec<_>, Vec<_>) = translation.clusters.iter().partition(|(name, _)| plain(name));
        for (name, cluster) in first.into_iter().chain(then) {
            let transport = translation.transports.get(name);
            clusters.add(name, cluster, transport, plain(name), snapshot);
        }
        clusters
    }

    fn add(
        &mut self,
        name: &str,
        cluster: &Cluster,
        transport: Option<&Transport>,
        plain: bool,
        snapshot: &Snapshot,
    ) {
        let (host, port, external) = place(cluster, snapshot);
        let policy = policy(cluster, transport);
        let entry = self.hosts.entry(host.clone()).or_insert_with(|| Host { external, ..Host::default() });
        // A host that is only here for us has no other settings to be kept.
        let base = match entry.ports.get(&port) {
            Some(base) => base.clone(),
            None => {
                let base = if plain || entry.external.is_some() {
                    // What is done to copies must not be done to requests.
                    Policy { mirror: false, ..policy.clone() }
                } else {
                    Policy::default()
                };
                entry.ports.insert(port, base.clone());
                base
            }
        };
        let subset = (policy != base).then(|| policy.name());
        if let Some(subset) = &subset {
            entry.subsets.insert(subset.clone(), policy);
        }
        self.destinations.insert(name.to_owned(), Destination { host, port, subset });
    }

    /// The clusters of mirrors, by their names in the mesh.
    pub fn mirrors(&self) -> impl Iterator<Item = String> {
        let mirrors = self.destinations.values().filter(|destination| {
            let subsets = self.hosts.get(&destination.host).map(|host| &host.subsets);
            let policy = subsets.zip(destination.subset.as_ref()).and_then(|(all, name)| all.get(name));
            policy.is_some_and(|policy| policy.mirror)
        });
        mirrors.map(Destination::cluster)
    }

    /// The name in the mesh of a cluster of the translation. One that has `$host` in it stands for many.
    pub fn renamed(&self, name: &str) -> String {
        if let Some(destination) = self.destinations.get(name) {
            return destination.cluster();
        }
        let (host, port) =
            name.split_once("://").and_then(|(_, rest)| rest.rsplit_once(':')).unwrap_or((name, "80"));
        format!("outbound|{port}||{host}")
    }
}

/// Host and port of a cluster in the mesh.
fn place(cluster: &Cluster, snapshot: &Snapshot) -> (String, u16, Option<External>) {
    let ServicePortName { service, port } = &cluster.service;
    let number = || {
        let found = snapshot.services.get(service).and_then(|service| {
            service.ports.iter().find(|found| found.port.to_string() == *port || found.name == *port)
        });
        found.map_or_else(|| port.parse().unwrap_or(80), |found| found.port)
    };
    match &cluster.endpoints {
        Endpoints::Name(named) => outside(&named.address, named.port),
        Endpoints::Addresses(addresses) if service.namespace.is_empty() => match addresses.first() {
            Some(endpoint) => outside(&endpoint.address, endpoint.port),
            None => outside(&service.name, number()),
        },
        Endpoints::Addresses(_) => {
            (format!("{}.{}.svc.cluster.local", service.name, service.namespace), number(), None)
        }
    }
}

fn outside(name: &str, port: u16) -> (String, u16, Option<External>) {
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.parse::<IpAddr>().is_ok() {
        let label = bare.replace(['.', ':'], "-");
        return (
            format!("address-{label}.ingress-wasm.internal"),
            port,
            Some(External::Address(bare.to_owned())),
        );
    }
    let short = bare.strip_suffix(".cluster.local").unwrap_or(bare);
    if short.ends_with(".svc") {
        return (format!("{short}.cluster.local"), port, None);
    }
    (bare.to_ascii_lowercase(), port, Some(External::Name))
}

fn policy(cluster: &Cluster, transport: Option<&Transport>) -> Policy {
    let backend = transport.and_then(|transport| transport.tls.as_deref());
    let named = || cluster.tls.as_ref().map(|tls| Tls::Named(tls.server_name.clone()));
    Policy {
        connect_timeout: cluster.connect_timeout,
        load_balancing: cluster.load_balancing,
        mirror: cluster.mirror,
        http2: transport.is_some_and(|transport| transport.http2),
        tls: backend.map(|tls| Tls::Backend(Box::new(tls.clone()))).or_else(named),
    }
}

impl Policy {
    /// A name for a subset with these settings: a label of DNS, other for other settings.
    fn name(&self) -> String {
        let Policy { connect_timeout, load_balancing, http2, tls, mirror } = self;
        let mut parts = Vec::new();
        if *mirror {
            parts.push("mirror".to_owned());
        }
        match (http2, tls.is_some()) {
            (false, false) => {}
            (false, true) => parts.push("https".to_owned()),
            (true, false) => parts.push("grpc".to_owned()),
            (true, true) => parts.push("grpcs".to_owned()),
        }
        match tls {
            None => {}
            Some(Tls::Backend(tls)) if **tls == BackendTls::default() => {}
            // Names of Secrets and not their content, so that a new version changes nothing.
            Some(Tls::Backend(tls)) => parts.push(super::short_hash(&describe(tls))),
            Some(Tls::Named(name)) => parts.push(super::short_hash(name)),
        }
        match load_balancing {
            LoadBalancing::RoundRobin => {}
            LoadBalancing::LeastRequest => parts.push("least-request".to_owned()),
            LoadBalancing::Hash => parts.push("hash".to_owned()),
        }
        if *connect_timeout != CONNECT_TIMEOUT {
            parts.push(format!("connect-{}ms", connect_timeout.as_millis()));
        }
        if parts.is_empty() { "plain".to_owned() } else { parts.join("-") }
    }
}

fn describe(tls: &BackendTls) -> String {
    let BackendTls { server_name, verify, certificate, oldest, newest, ciphers } = tls;
    let verify = verify.as_ref().map(|verify| (&verify.secret, &verify.name, verify.depth));
    let certificate = certificate.as_ref().map(|certificate| &certificate.secret);
    format!("{server_name:?}{verify:?}{certificate:?}{oldest:?}{newest:?}{ciphers:?}")
}
