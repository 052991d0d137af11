//! What a translation gives: the plugin configuration, what Envoy itself needs, and diagnostics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ingress_wasm::config::PluginConfig;

use crate::backend_protocol::Transports;
use crate::certificates::{Certificate, Certificates};
use crate::client_certificates::ClientAuthorities;
use crate::connections::Connections;
use crate::diagnostic::Diagnostic;
use crate::host_ciphers::CiphersByHost;
use crate::jwt::Jwt;
use crate::objects::{ObjectName, ObjectRef};
use crate::passthrough::Passthrough;
use crate::rate_limits::Descriptor;
use crate::tls::TlsSettings;

/// Choices that are made on the command line and not in objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The class of the Ingresses to serve (`--ingress-class`).
    pub ingress_class: String,
    /// `spec.controller` of the IngressClasses that are ours.
    pub controller_classes: Vec<String>,
    /// The ConfigMap with ingress-nginx's global options (`--config-map`).
    pub config_map: Option<ObjectName>,
    /// Also serve Ingresses that name no class, whether or not a default class exists
    /// (`--watch-ingress-without-class`).
    pub ingress_without_class: bool,
    /// The IngressClass of that name is ours whatever its controller (`--ingress-class-by-name`).
    pub class_by_name: bool,
    /// The Service that answers what no rule takes (`--default-backend-service`); none: 404 by the filter.
    pub default_backend: Option<ObjectName>,
    /// The Secret with the certificate of hosts that have none of their own (`--default-ssl-certificate`).
    pub default_certificate: Option<ObjectName>,
    /// An Istio gateway carries the translation out: what it cannot honour is said.
    pub mesh: bool,
    /// Envoy's listeners set the private header `x-ingress-wasm-connection`.
    pub connection_header: bool,
    /// Requests are counted by Ingress, Service, status and decision.
    pub statistics: bool,
    /// What is decided of each request is left for an access log.
    pub log_fields: bool,
    /// Addresses that stand in for those of a Service's port, whether or not the Service exists
    /// (`--backend`, `--demo-backends`).
    pub backends: BTreeMap<ServicePortName, Vec<Endpoint>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            ingress_class: "nginx".to_owned(),
            controller_classes: vec![
                "k8s.io/ingress-nginx".to_owned(),
                "ingress-wasm.io/controller".to_owned(),
            ],
            config_map: Some(ObjectName::new("ingress-nginx", "ingress-nginx-controller")),
            ingress_without_class: false,
            class_by_name: false,
            default_backend: None,
            default_certificate: None,
            mesh: false,
            connection_header: true,
            statistics: false,
            log_fields: false,
            backends: BTreeMap::new(),
        }
    }
}

/// A port of a Service as a backend names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service.
    pub service: ObjectName,
    /// The port as the Ingress names it: its number or its name.
    pub port: String,
}

impl std::fmt::Display for ServicePortName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.service, self.port)
    }
}

/// What one set of objects comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// What the filter loads.
    pub config: PluginConfig,
    /// The clusters that `config` names, by name: `namespace/service:port`, and `#settings` after it where an
    /// Ingress asks for settings of its own.
    pub clusters: BTreeMap<String, Cluster>,
    /// How clusters are spoken to that are not by HTTP/1.1 in plain text, by name.
    pub transports: Transports,
    /// The route profiles that `config` names, by name. The default route is not among them.
    pub route_profiles: BTreeMap<String, RouteProfile>,
    /// The settings of the default route.
    pub default_profile: RouteProfile,
    /// Those of [`KEPT_BACK`] that the filter deals with, since some rule passes them on. All others Envoy's routes
    /// take away.
    pub passed_headers: BTreeSet<String>,
    /// The certificates of hosts; a host that is not in it has that of its wildcard, else the default one.
    pub certificates: Certificates,
    /// The default certificate; none: one that the controller makes itself.
    pub default_certificate: Option<Arc<Certificate>>,
    /// By which authorities certificates of clients are checked, for hosts that ask for them.
    pub client_authorities: ClientAuthorities,
    /// The clusters that get TLS connections unopened, by host.
    pub passthrough: Passthrough,
    /// How TLS is spoken with clients.
    pub tls: TlsSettings,
    /// The ciphers of hosts that have some of their own.
    pub host_ciphers: CiphersByHost,
    /// How connections are kept, and what is sent over them compressed.
    pub connections: Connections,
    /// Everything its author should know, in order of file, line and object.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that are not served as they stand, for which an earlier version should go on serving.
    pub rejected: Vec<ObjectRef>,
}

impl Translation {
    /// Some affinity cookie may hold an endpoint, which takes routes with Envoy's filter for sessions.
    pub fn keeps_endpoints(&self) -> bool {
        self.config.balancing.iter().any(|balancing| {
            let canary = balancing.canary.as_ref().and_then(|canary| canary.affinity.as_ref());
            let mut affinities = balancing.affinity.iter().chain(canary);
            affinities.any(|affinity| affinity.endpoint_secret.is_some())
        })
    }

    /// Whether the two differ at most in what is said of the objects.
    pub fn serves_like(&self, other: &Translation) -> bool {
        // Named one by one, so that a field that is added has to be thought of.
        let Translation {
            config,
            clusters,
            transports,
            route_profiles,
            default_profile,
            passed_headers,
            certificates,
            default_certificate,
            client_authorities,
            passthrough,
            tls,
            host_ciphers,
            connections,
            diagnostics: _,
            rejected: _,
        } = self;
        *config == other.config
            && *clusters == other.clusters
            && *transports == other.transports
            && *route_profiles == other.route_profiles
            && *default_profile == other.default_profile
            && *passed_headers == other.passed_headers
            && *certificates == other.certificates
            && *default_certificate == other.default_certificate
            && *client_authorities == other.client_authorities
            && *passthrough == other.passthrough
            && *tls == other.tls
            && *host_ciphers == other.host_ciphers
            && *connections == other.connections
    }
}

/// A group of endpoints with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The Service's port behind it.
    pub service: ServicePortName,
    /// How long a connection may take to be made (`proxy-connect-timeout`).
    pub connect_timeout: Duration,
    /// How a request's endpoint is chosen.
    pub load_balancing: LoadBalancing,
    /// Its requests are copies of others (`mirror-target`).
    pub mirror: bool,
    /// Where its endpoints come from.
    pub endpoints: Endpoints,
    /// TLS is spoken; none: plain text.
    pub tls: Option<UpstreamTls>,
}

/// How TLS is spoken with endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that is asked for (SNI).
    pub server_name: String,
    /// The certificate has to be for that name, and signed by an authority that the system knows. Otherwise it is not
    /// looked at, as in nginx unless told otherwise.
    pub verified: bool,
}

/// How Envoy chooses among the endpoints of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadBalancing {
    /// Endpoints take turns.
    #[default]
    RoundRobin,
    /// Of two at random, the one with fewer requests at the time.
    LeastRequest,
    /// By the hash in the private header `x-ingress-wasm-hash`; by chance where there is none. Few requests move
    /// to another endpoint when endpoints come or go.
    Hash,
}

/// Where the endpoints of a cluster come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    /// These addresses, told to Envoy by EDS. May be empty: requests are answered 503.
    Addresses(Vec<Endpoint>),
    /// A name that Envoy resolves (a Service of type ExternalName).
    Name(Endpoint),
}

/// An address and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// An IP address; a host name in [`Endpoints::Name`].
    pub address: String,
    /// The port.
    pub port: u16,
}

/// Where copies of requests go. Their path the filter tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Name of the cluster, which is one for mirrors.
    pub cluster: String,
    /// The Host of the copies (`mirror-host`).
    pub host: String,
    /// They have the bodies of the requests (`mirror-request-body`).
    pub body: bool,
}

/// Headers of a backend's answer that nginx keeps from clients (`proxy_pass_header`).
pub const KEPT_BACK: &[&str] = &[
    "x-pad",
    "x-accel-expires",
    "x-accel-redirect",
    "x-accel-limit-rate",
    "x-accel-buffering",
    "x-accel-charset",
];

/// Settings that only an Envoy route can carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteProfile {
    /// Longest time between two reads from the backend (`proxy-read-timeout`); 504 after it.
    pub read_timeout: Duration,
    /// Longest time between two writes to the backend (`proxy-send-timeout`).
    pub send_timeout: Duration,
    /// When another endpoint is tried.
    pub next_upstream: NextUpstream,
    /// Where copies of requests go (`mirror-target`).
    pub mirror: Option<Mirror>,
    /// Which token a request needs (`ingress-wasm.io/jwt-…`).
    pub jwt: Option<Jwt>,
    /// What the rate limit service is asked of a request; empty: it is not.
    pub limits: Vec<Descriptor>,
}

/// When another endpoint is tried, or the only one once more (`proxy-next-upstream`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextUpstream {
    /// There is no connection, or it breaks before an answer has come.
    pub error: bool,
    /// The connection or the answer takes too long.
    pub timeout: bool,
    /// The answer is none that can be read.
    pub invalid_header: bool,
    /// Answers with one of these statuses, ascending.
    pub statuses: Vec<u16>,
    /// Requests that may not be repeated (POST, LOCK, PATCH) are, although they were sent.
    pub non_idempotent: bool,
    /// How many tries there are, the first included.
    pub tries: u32,
}

impl Default for RouteProfile {
    /// The defaults of ingress-nginx.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        RouteProfile {
            read_timeout: minute,
            send_timeout: minute,
            next_upstream: NextUpstream::default(),
            mirror: None,
            jwt: None,
            limits: Vec::new(),
        }
    }
}

impl Default for NextUpstream {
    /// The defaults of ingress-nginx.
    fn default() -> Self {
        NextUpstream {
            error: true,
            timeout: true,
            invalid_header: false,
            statuses: Vec::new(),
            non_idempotent: false,
            tries: 3,
        }
    }
}
