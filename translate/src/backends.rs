//! From the Service and port that an Ingress names to an Envoy cluster with endpoints.

mod asked;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ingress_wasm::config::{Action, HashBy};

use crate::diagnostic::Diagnostic;
use crate::objects::{
    EndpointSlice, Ingress, IngressBackend, ObjectName, PortRef, Service, ServicePort, Snapshot,
};
use crate::output::{Cluster, Endpoint, Endpoints, LoadBalancing, Options, ServicePortName};
use crate::report::Report;
use crate::upstreams::{Upstream, Upstreams, service_port};

pub use asked::Origin;
pub use asked::clusters_asked;

/// The clusters that rules have asked for so far.
pub struct Backends<'s> {
    snapshot: &'s Snapshot,
    options: &'s Options,
    default_connect_timeout: Duration,
    upstreams: &'s Upstreams,
    clusters: BTreeMap<String, Cluster>,
    /// The Ingress that is read.
    reader: Option<&'s ObjectName>,
    /// Services that Ingresses name other than as backends.
    asked: Asked,
}

/// By Ingress, the Services that it names other than as backends; with a port where they are asked by URL.
pub type Asked = BTreeMap<ObjectName, BTreeSet<(ObjectName, Option<u16>)>>;

/// In the name of a cluster: it is a part of the endpoints of another.
const SUBSET: &str = "subset=";

/// The end of what is said of a backend that is not there.
const ANSWERED_503: &str = "requests are answered 503";

/// Where in an Ingress a backend is named.
pub struct Place<'i> {
    /// The Ingress.
    pub ingress: &'i Ingress,
    /// The field, as `spec.rules[0].http.paths[1].backend`.
    pub field: String,
    /// Its line, 0 where not known.
    pub line: u32,
}

impl<'s> Backends<'s> {
    /// No clusters yet.
    pub fn new(
        snapshot: &'s Snapshot,
        options: &'s Options,
        default_connect_timeout: Duration,
        upstreams: &'s Upstreams,
    ) -> Self {
        Backends {
            snapshot,
            options,
            default_connect_timeout,
            upstreams,
            clusters: BTreeMap::new(),
            reader: None,
            asked: Asked::new(),
        }
    }

    /// An Ingress is read from now on.
    pub fn read_for(&mut self, ingress: &'s ObjectName) {
        self.reader = Some(ingress);
    }

    fn note(&mut self, service: &ObjectName, port: Option<u16>) {
        if let Some(reader) = self.reader {
            self.asked.entry(reader.clone()).or_default().insert((service.clone(), port));
        }
    }

    /// What is said of Services as such.
    pub fn upstreams(&self) -> &'s Upstreams {
        self.upstreams
    }

    /// The Ingress that makes this backend a canary, if one does.
    pub fn canary_of(&self, ingress: &Ingress, backend: &IngressBackend) -> Option<&'s ObjectName> {
        let upstream = self.upstreams.get(&service_port(ingress, backend).to_string())?;
        upstream.canary.as_ref().map(|_| &upstream.owner)
    }

    /// Whether a cluster has endpoints, as far as is known before names are resolved.
    pub fn has_endpoints(&self, cluster: &str) -> bool {
        self.clusters.get(cluster).is_some_and(|cluster| match &cluster.endpoints {
            Endpoints::Addresses(addresses) => !addresses.is_empty() || self.only_mesh_knows(cluster),
            Endpoints::Name(_) => true,
        })
    }

    /// The cluster of a mirror, a service like those that are asked.
    ///
    /// # Errors
    ///
    /// Why nothing is mirrored there: the Service is not there, or it leads to the proxy itself.
    pub fn mirror(&mut self, origin: &Origin) -> Result<String, String> {
        let (asked, fault) = self.asked(origin)?;
        if let Some(fault) = fault {
            let fault = fault.consequence.split(':').next().unwrap_or_default().to_owned();
            return Err(fault);
        }
        let name = format!("{asked}#mirror");
        if let Some(cluster) = self.clusters.get(&asked).cloned() {
            let load_balancing = LoadBalancing::RoundRobin;
            self.clusters.insert(name.clone(), Cluster { mirror: true, load_balancing, ..cluster });
        }
        Ok(name)
    }

    /// The cluster of a canary, with the settings of the one it stands beside. None, and a diagnostic, where its
    /// Service is not there.
    pub fn beside(
        &mut self,
        main: &str,
        canary: &Upstream,
        load_balancing: LoadBalancing,
        place: &Place<'_>,
        backend: &IngressBackend,
        report: &mut Report,
    ) -> Option<String> {
        let settings = self.clusters.get(main)?.clone();
        let own = main.split_once('#').map(|(_, own)| format!("#{own}")).unwrap_or_default();
        let name = self.cluster_name(&canary.name, self.default_connect_timeout) + &own;
        if !self.clusters.contains_key(&name) {
            let service = canary.name.clone();
            let endpoints = match self.endpoints(&service, &canary.port) {
                Ok(endpoints) => endpoints,
                Err(diagnostic) => {
                    let found = format!("{}:{}", backend.service, backend.port);
                    let mut diagnostic = diagnostic.field(place.field.clone(), &found);
                    diagnostic.consequence = diagnostic
                        .consequence
                        .replace("requests are answered 503", "all requests go to the main Service");
                    report.ingress(place.ingress, place.line, diagnostic);
                    return None;
                }
            };
            self.clusters.insert(name.clone(), Cluster { service, endpoints, load_balancing, ..settings });
        }
        Some(name)
    }

    /// By what the requests to a cluster are hashed. Where a few endpoints share a value, each such part of the
    /// endpoints is a cluster of its own.
    pub fn hash_by(&mut self, cluster: &str, upstream: &Upstream) -> Option<HashBy> {
        let found = upstream.hash_by.as_ref()?;
        let whole = self.clusters.get(cluster)?.clone();
        let subsets = match (&whole.endpoints, found.subset_size) {
            // A mesh has the endpoints itself, and no such parts of them.
            (Endpoints::Addresses(addresses), Some(size)) if !self.options.mesh => subsets(addresses, size),
            _ => Vec::new(),
        };
        let mark = if cluster.contains('#') { ',' } else { '#' };
        let parts = subsets.into_iter().enumerate().map(|(index, addresses)| {
            let name = format!("{cluster}{mark}{SUBSET}{index}");
            let endpoints = Endpoints::Addresses(addresses);
            self.clusters.insert(name.clone(), Cluster { endpoints, ..whole.clone() });
            name
        });
        Some(HashBy { value: found.value.clone(), subsets: parts.collect() })
    }

    /// All clusters, and who asked for Services other than as backends.
    pub fn finish(self) -> (BTreeMap<String, Cluster>, Asked) {
        (self.clusters, self.asked)
    }

    /// What a rule with this backend does. A backend that is not there makes a rule that answers 503, as
    /// ingress-nginx does, and a diagnostic. Where there is a `stand_in`, the name of a cluster, it answers for
    /// a backend that is not there or has no endpoints.
    pub fn action(
        &mut self,
        place: &Place<'_>,
        backend: &IngressBackend,
        connect_timeout: Duration,
        stand_in: Option<&str>,
        report: &mut Report,
    ) -> Action {
        let service = ObjectName::new(place.ingress.metadata.name.namespace.clone(), backend.service.clone());
        let name = ServicePortName { service, port: backend.port.to_string() };
        let cluster = self.cluster_name(&name, connect_timeout);
        if !self.clusters.contains_key(&cluster) {
            match self.endpoints(&name, &backend.port) {
                Ok(endpoints) => {
                    let service = name.clone();
                    let load_balancing = self.load_balancing(&name);
                    let cluster_of = Cluster {
                        service,
                        connect_timeout,
                        load_balancing,
                        mirror: false,
                        endpoints,
                        tls: None,
                    };
                    self.clusters.insert(cluster.clone(), cluster_of);
                }
                Err(mut diagnostic) => {
                    let reason = diagnostic.consequence.clone();
                    if stand_in.is_some() {
                        diagnostic.consequence = reason.replace(ANSWERED_503, "the default-backend answers");
                    }
                    let found = format!("{}:{}", backend.service, backend.port);
                    let diagnostic = diagnostic.field(place.field.clone(), &found);
                    report.ingress(place.ingress, place.line, diagnostic);
                    return match stand_in {
                        Some(other) => {
                            Action::StandIn { cluster: other.to_owned(), service: name.to_string() }
                        }
                        None => Action::Respond { status: 503, reason },
                    };
                }
            }
        }
        let service = name.to_string();
        if let Some(other) = stand_in
            && self.is_empty(&cluster)
        {
            return Action::StandIn { cluster: other.to_owned(), service };
        }
        let service = if service == cluster { String::new() } else { service };
        Action::Forward { cluster, service, balancing: None }
    }

    /// Whether nothing is said of a Service's endpoints, which a mesh finds by itself: it is taken to have some.
    fn only_mesh_knows(&self, cluster: &Cluster) -> bool {
        let service = &cluster.service.service;
        let first = (service.clone(), String::new());
        let said = self.snapshot.endpoint_slices.range(first..).next();
        self.options.mesh && said.is_none_or(|((name, _), _)| name != service)
    }

    /// Whether a cluster is known to have no endpoints.
    pub fn is_empty(&self, cluster: &str) -> bool {
        let nowhere = |cluster: &Cluster| {
            cluster.endpoints == Endpoints::Addresses(Vec::new()) && !self.only_mesh_knows(cluster)
        };
        self.clusters.get(cluster).is_some_and(nowhere)
    }

    /// The cluster of the Service that answers for others (`default-backend`), by its first port. None where it
    /// cannot be had, which is said in the way of a backend that is not there.
    pub fn stand_in(&mut self, service: ObjectName) -> Result<String, String> {
        self.note(&service, None);
        let found = self.snapshot.services.get(&service);
        let found = found.ok_or_else(|| format!("Service {service} does not exist"))?;
        let port = found.ports.first().ok_or_else(|| format!("Service {service} has no ports"))?;
        let port = PortRef::Number(port.port);
        let name = ServicePortName { service, port: port.to_string() };
        let connect_timeout = self.default_connect_timeout;
        let cluster = self.cluster_name(&name, connect_timeout);
        if !self.clusters.contains_key(&cluster) {
            let endpoints = self.endpoints(&name, &port).map_err(|diagnostic| diagnostic.consequence)?;
            let load_balancing = self.load_balancing(&name);
            self.clusters.insert(
                cluster.clone(),
                Cluster {
                    service: name,
                    connect_timeout,
                    load_balancing,
                    mirror: false,
                    endpoints,
                    tls: None,
                },
            );
        }
        Ok(cluster)
    }

    /// What an API server names a Service by; empty where that is not known.
    pub fn uid(&self, name: &ServicePortName) -> &str {
        self.snapshot.services.get(&name.service).map_or("", |service| &service.metadata.uid)
    }

    fn load_balancing(&self, name: &ServicePortName) -> LoadBalancing {
        self.upstreams.get(&name.to_string()).map(Upstream::load_balancing).unwrap_or_default()
    }

    fn cluster_name(&self, name: &ServicePortName, connect_timeout: Duration) -> String {
        if connect_timeout == self.default_connect_timeout {
            return name.to_string();
        }
        format!("{name}#connect={}s", connect_timeout.as_secs())
    }

    fn endpoints(&self, name: &ServicePortName, port: &PortRef) -> Result<Endpoints, Box<Diagnostic>> {
        if let Some(addresses) = self.options.backends.get(name) {
            return Ok(Endpoints::Addresses(addresses.clone()));
        }
        let Some(service) = self.snapshot.services.get(&name.service) else {
            let consequence = format!("Service {} does not exist: requests are answered 503", name.service);
            return Err(Box::new(
                Diagnostic::warning("service-missing", consequence)
                    .remedy("create the Service in the namespace of the Ingress, or correct the name"),
            ));
        };
        if let Some(external) = &service.external_name {
            return external_name(service, external, port);
        }
        let by_address = self.upstreams.get(&name.to_string()).is_some_and(|found| found.service_upstream);
        if by_address && let Some(address) = cluster_address(service, port) {
            return Ok(Endpoints::Addresses(vec![address]));
        }
        let Some(found) = find_port(service, port) else {
            let known: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
            let consequence =
                format!("Service {} has no port {port}: requests are answered 503", name.service);
            return Err(Box::new(
                Diagnostic::warning("service-port-missing", consequence)
                    .remedy(format!("name one of its ports: {}", known.join(", "))),
            ));
        };
        Ok(Endpoints::Addresses(addresses(self.snapshot, &name.service, found)))
    }
}

/// The ready addresses of a Service's port, by its EndpointSlices.
pub fn addresses(snapshot: &Snapshot, service: &ObjectName, port: &ServicePort) -> Vec<Endpoint> {
    let mut addresses: Vec<Endpoint> = slices(snapshot, service)
        .flat_map(|slice| {
            let ports = slice.ports.iter().filter(|found| found.name == port.name).map(|found| found.port);
            ports.flat_map(|port| {
                slice.addresses.iter().map(move |address| Endpoint { address: address.clone(), port })
            })
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The ready addresses of a Service with a port of the caller's.
pub fn pods(snapshot: &Snapshot, service: &ObjectName, port: u16) -> Vec<Endpoint> {
    let addresses = slices(snapshot, service).flat_map(|slice| slice.addresses.iter());
    let mut pods: Vec<Endpoint> =
        addresses.map(|address| Endpoint { address: address.clone(), port }).collect();
    pods.sort();
    pods.dedup();
    pods
}

/// Whether a cluster is a part of the endpoints of another, by its name.
pub fn is_subset(cluster: &str) -> bool {
    cluster.contains(SUBSET)
}

/// The EndpointSlices of a Service.
pub fn slices<'s>(
    snapshot: &'s Snapshot,
    service: &'s ObjectName,
) -> impl Iterator<Item = &'s EndpointSlice> {
    let first = (service.clone(), String::new());
    let slices = snapshot.endpoint_slices.range(first..);
    slices.take_while(move |((name, _), _)| name == service).map(|(_, slice)| &**slice)
}

/// Parts of `size` endpoints each; the last one is filled up from the beginning (`chashsubset.lua`).
fn subsets(addresses: &[Endpoint], size: usize) -> Vec<Vec<Endpoint>> {
    let size = size.max(1);
    let filled = |part: &[Endpoint]| {
        let more = addresses.iter().take(size - part.len());
        let mut part = part.to_vec();
        part.extend(more.cloned());
        part.sort();
        part.dedup();
        part
    };
    addresses.chunks(size).map(filled).collect()
}

pub fn find_port<'a>(service: &'a Service, port: &PortRef) -> Option<&'a ServicePort> {
    service.ports.iter().find(|found| match port {
        PortRef::Number(number) => found.port == *number,
        PortRef::Name(name) => found.name == *name,
    })
}

/// Whether a name is that of the proxy's own host, where its administration may listen. ingress-nginx refuses
/// the same (`endpointslices.go`).
fn leads_home(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let address = name.parse::<IpAddr>().map(|address| address.to_canonical());
    let local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    match address {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => local(&name.to_ascii_lowercase()),
    }
}

/// The cluster address of a Service, with the port that it has there.
pub fn cluster_address(service: &Service, port: &PortRef) -> Option<Endpoint> {
    let address = service.cluster_ip.clone().filter(|address| address.parse::<IpAddr>().is_ok())?;
    let port = match (port, find_port(service, port)) {
        (_, Some(found)) => found.port,
        (PortRef::Number(number), None) => *number,
        (PortRef::Name(_), None) => return None,
    };
    Some(Endpoint { address, port })
}

/// A Service of type ExternalName: Envoy resolves the name. The port is that of the Ingress, or that of the
/// Service's port of that name.
fn external_name(service: &Service, external: &str, port: &PortRef) -> Result<Endpoints, Box<Diagnostic>> {
    if leads_home(external) {
        let name = &service.metadata.name;
        let consequence = format!("Service {name} leads to the proxy itself: requests are answered 503");
        return Err(Box::new(
            Diagnostic::error("external-name-loopback", consequence)
                .remedy("give externalName a name or an address outside of the proxy"),
        ));
    }
    let number = match (port, find_port(service, port)) {
        (_, Some(found)) => match found.target_port {
            Some(PortRef::Number(target)) => target,
            _ => found.port,
        },
        (PortRef::Number(number), None) => *number,
        (PortRef::Name(name), None) => {
            let name_of = &service.metadata.name;
            let consequence =
                format!("Service {name_of} has no port named {name}: requests are answered 503");
            return Err(Box::new(
                Diagnostic::warning("service-port-missing", consequence)
                    .remedy("give the port by its number"),
            ));
        }
    };
    Ok(Endpoints::Name(Endpoint { address: external.to_owned(), port: number }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::manifest::{merge_into, read};

    const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80, targetPort: named}, {name: tls, port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-2}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tls, port: 8443}]
endpoints: [{addresses: [10.0.0.2]}, {addresses: [10.0.0.1]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: x, namespace: other, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.9.9.9]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: y, labels: {kubernetes.io/service-name: web-2}}
addressType: IPv4
ports: [{port: 9090}]
endpoints: [{addresses: [10.0.0.3]}]
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: out.example, ports: [{name: http, port: 80, targetPort: 8080}, {name: named, port: 81, targetPort: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: home}
spec: {type: ExternalName, externalName: localhost}
";

    /// The endpoints of a backend, or the code of the diagnostic.
    fn endpoints(service: &str, port: &str, options: &Options) -> String {
        let mut snapshot = Snapshot::default();
        merge_into(&mut snapshot, read(&Arc::from("t.yaml"), OBJECTS).objects);
        let upstreams = Upstreams::default();
        let backends = Backends::new(&snapshot, options, Duration::from_secs(5), &upstreams);
        let name = ServicePortName { service: ObjectName::new("default", service), port: port.to_owned() };
        let port = port.parse().map_or_else(|_| PortRef::Name(port.to_owned()), PortRef::Number);
        let text = |Endpoint { address, port }: &Endpoint| format!("{address}:{port}");
        match backends.endpoints(&name, &port) {
            Ok(Endpoints::Addresses(addresses)) => addresses.iter().map(text).collect::<Vec<_>>().join(" "),
            Ok(Endpoints::Name(name)) => format!("name {}", text(&name)),
            Err(diagnostic) => diagnostic.code.to_owned(),
        }
    }

    #[test]
    fn services_and_ports() {
        let cases = [
            ("web", "80", "10.0.0.1:8080 10.0.0.2:8080"),
            ("web", "http", "10.0.0.1:8080 10.0.0.2:8080"),
            ("web", "tls", "10.0.0.1:8443 10.0.0.2:8443"),
            ("web", "8080", "service-port-missing"),
            ("web", "named", "service-port-missing"),
            // A name that another begins with takes nothing from it.
            ("web-2", "80", "10.0.0.3:9090"),
            ("web-", "80", "service-missing"),
            ("out", "80", "name out.example:8080"),
            ("out", "http", "name out.example:8080"),
            ("out", "named", "name out.example:81"),
            ("out", "8443", "name out.example:8443"),
            ("out", "https", "service-port-missing"),
            ("home", "80", "external-name-loopback"),
        ];
        for (service, port, expected) in cases {
            assert_eq!(endpoints(service, port, &Options::default()), expected, "{service}:{port}");
        }
    }

    #[test]
    fn addresses_of_the_command_line_count_first() {
        let mut options = Options::default();
        for (service, port) in [("web", "80"), ("gone", "http"), ("out", "80"), ("home", "80")] {
            let name =
                ServicePortName { service: ObjectName::new("default", service), port: port.to_owned() };
            let endpoint = Endpoint { address: "127.0.0.1".to_owned(), port: 4711 };
            options.backends.insert(name, vec![endpoint]);
            assert_eq!(endpoints(service, port, &options), "127.0.0.1:4711", "{service}:{port}");
        }
        assert_eq!(
            endpoints("web", "http", &options),
            "10.0.0.1:8080 10.0.0.2:8080",
            "by the name as written"
        );
    }

    #[test]
    fn names_that_lead_home() {
        let home = [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
        ];
        for name in home {
            assert!(leads_home(name), "{name}");
        }
        for name in
            ["localhost.example", "notlocalhost", "128.0.0.1", "10.0.0.1", "fd00::1", "web.default.svc"]
        {
            assert!(!leads_home(name), "{name}");
        }
    }
}
