//! From the URL of a service that the filter asks by itself to an Envoy cluster.

use std::borrow::Cow;
use std::net::IpAddr;

use ingress_wasm::config::{Host, PolicySet};

use super::{Backends, addresses, find_port, leads_home, pods};
use crate::diagnostic::Diagnostic;
use crate::objects::{ObjectName, PortRef};
use crate::output::{Cluster, Endpoint, Endpoints, ServicePortName, UpstreamTls};

/// Scheme, host and port of a service that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// TLS is spoken.
    pub tls: bool,
    /// A name or an address, in lower case.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Origin {
    /// The Service that the name of the host stands for in a cluster: `NAME.NAMESPACE.svc`, with or without the
    /// usual domain behind it.
    fn service(&self) -> Option<ObjectName> {
        let host = self.host.strip_suffix('.').unwrap_or(&self.host);
        let short = host.strip_suffix(".cluster.local").unwrap_or(host);
        let (name, namespace) = short.strip_suffix(".svc")?.split_once('.')?;
        (!name.is_empty() && !namespace.contains('.') && !namespace.is_empty())
            .then(|| ObjectName::new(namespace, name))
    }

    /// The name of its cluster where it is not that of a Service spoken to in plain text.
    pub fn cluster_name(tls: bool, host: &str, port: u16) -> String {
        format!("{}://{host}:{port}", if tls { "https" } else { "http" })
    }
}

impl Backends<'_> {
    /// The cluster of a service that is asked: of the endpoints of a Service, of an address, or of a name that
    /// Envoy resolves. Where a Service is not there the cluster is empty, and the diagnostic says so.
    ///
    /// # Errors
    ///
    /// Why it is not asked: it leads to the proxy itself.
    pub fn asked(&mut self, origin: &Origin) -> Result<(String, Option<Diagnostic>), String> {
        let Origin { tls, host, port } = origin;
        let service = origin.service();
        if let Some(service) = &service {
            self.note(service, Some(*port));
        }
        let name = match &service {
            Some(service) if !tls => {
                ServicePortName { service: service.clone(), port: port.to_string() }.to_string()
            }
            _ => Origin::cluster_name(*tls, host, *port),
        };
        let (endpoints, diagnostic) = match &service {
            Some(service) => self.of_service(service, *port)?,
            None if leads_home(host) => {
                return Err(format!("{host} leads to the proxy itself"));
            }
            None => {
                let endpoint = Endpoint { address: host.clone(), port: *port };
                let is_address = host.parse::<IpAddr>().is_ok();
                let addresses = || Endpoints::Addresses(vec![endpoint.clone()]);
                (if is_address { addresses() } else { Endpoints::Name(endpoint.clone()) }, None)
            }
        };
        let service = service.unwrap_or_else(|| ObjectName::new("", host.clone()));
        let service = ServicePortName { service, port: port.to_string() };
        let (connect_timeout, load_balancing) = (self.default_connect_timeout, self.load_balancing(&service));
        self.clusters.entry(name.clone()).or_insert_with(|| Cluster {
            service,
            connect_timeout,
            load_balancing,
            mirror: false,
            endpoints,
            tls: tls.then(|| UpstreamTls { server_name: host.clone(), verified: false }),
        });
        Ok((name, diagnostic))
    }

    /// The cluster of a service that keys are fetched from; its certificate is verified.
    ///
    /// # Errors
    ///
    /// As [`Backends::asked`].
    pub fn keys(&mut self, origin: &Origin) -> Result<(String, Option<Diagnostic>), String> {
        self.verified(origin, "jwks")
    }

    /// The cluster of the service that limits requests, which speaks HTTP/2; with TLS its certificate is verified.
    ///
    /// # Errors
    ///
    /// As [`Backends::asked`].
    pub fn rate_limits(&mut self, origin: &Origin) -> Result<(String, Option<Diagnostic>), String> {
        self.verified(origin, "rate-limits")
    }

    fn verified(&mut self, origin: &Origin, purpose: &str) -> Result<(String, Option<Diagnostic>), String> {
        let (asked, diagnostic) = self.asked(origin)?;
        let name = format!("{asked}#{purpose}");
        if let Some(mut cluster) = self.clusters.get(&asked).cloned() {
            if let Some(tls) = &mut cluster.tls {
                tls.verified = true;
            }
            self.clusters.insert(name.clone(), cluster);
        }
        Ok((name, diagnostic))
    }

    /// The clusters are those of a mesh.
    pub fn in_mesh(&self) -> bool {
        self.options.mesh
    }

    /// The names of the clusters that `asked` makes for hosts whose names stand in place of `$host`.
    pub fn asked_by_host(&self, tls: bool, host: &str, port: u16) -> String {
        Origin::cluster_name(tls, host, port)
    }

    fn of_service(&self, service: &ObjectName, port: u16) -> Result<(Endpoints, Option<Diagnostic>), String> {
        let name = ServicePortName { service: service.clone(), port: port.to_string() };
        if let Some(addresses) = self.options.backends.get(&name) {
            return Ok((Endpoints::Addresses(addresses.clone()), None));
        }
        let nobody = |consequence: String, remedy: &str| {
            let diagnostic = Diagnostic::warning("service-missing", consequence).remedy(remedy);
            Ok((Endpoints::Addresses(Vec::new()), Some(diagnostic)))
        };
        let Some(found) = self.snapshot.services.get(service) else {
            let consequence = format!(
                "Service {service} does not exist: nobody can be asked, and requests are answered 500"
            );
            return nobody(consequence, "create the Service, or correct its name");
        };
        if let Some(external) = &found.external_name {
            if leads_home(external) {
                return Err(format!("Service {service} leads to the proxy itself"));
            }
            // A name in the place of another: the port is the one that was asked for.
            return Ok((Endpoints::Name(Endpoint { address: external.clone(), port }), None));
        }
        if let Some(found) = find_port(found, &PortRef::Number(port)) {
            return Ok((Endpoints::Addresses(addresses(self.snapshot, service, found)), None));
        }
        if found.cluster_ip.is_none() && found.ports.is_empty() {
            // Without an address of its own its name stands for the pods, whatever the port.
            return Ok((Endpoints::Addresses(pods(self.snapshot, service, port)), None));
        }
        let consequence = format!(
            "Service {service} has no port {port}: nobody can be asked, and requests are answered 500"
        );
        nobody(consequence, "name one of its ports in the URL")
    }
}

/// The clusters of services that policies ask for requests to a host.
pub fn clusters_asked<'a>(policies: &'a PolicySet, host: &'a Host) -> Vec<Cow<'a, str>> {
    let Some(auth) = &policies.external_auth else { return Vec::new() };
    if !auth.cluster.contains("$host") {
        return vec![Cow::Borrowed(&auth.cluster)];
    }
    let names = std::iter::once(&host.name).chain(host.aliases.iter().map(|alias| &alias.name));
    names.map(|name| Cow::Owned(auth.cluster.replace("$host", name))).collect()
}
