//! Clusters and their endpoints.
//!
//! Deliberately knows nothing of which requests go where.

use std::time::Duration;

use ingress_wasm_translate::backend_protocol::Transport;
use ingress_wasm_translate::connections::BackendConnections;
use ingress_wasm_translate::output::{Cluster, Endpoint, Endpoints, LoadBalancing, UpstreamTls};

use super::backend_tls::{SecretSource, backend_tls, is_for};
use super::pb::{
    Any, ads, boolean, cluster, core, duration, endpoint, hcm, number, pack_any, seconds, tcp, tls,
    upstream_http,
};

use super::upstream_filters::{as_mirror, without_hash};

/// How much of a body one connection holds back while the other side is slow, in bytes.
pub(super) const BUFFER: u32 = 256 * 1024;

/// The most that the headers of an answer may take, in KiB: more than any `proxy-buffer-size` that is of use. Envoy's own
/// limit is 60.
const ANSWER_HEADERS: u32 = 1024;

/// The most lines that they may have. nginx counts bytes only, Envoy's own limit is 100.
const ANSWER_LINES: u32 = 10_000;

/// How long Envoy waits for the endpoints of a cluster before it serves without.
const ENDPOINTS_PATIENCE: Duration = Duration::from_secs(15);

/// Where a cluster gets its endpoints from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discovery {
    /// The xDS server.
    Eds,
    /// The cluster itself.
    Inline,
}

/// A cluster of a translation.
pub(super) fn cluster(
    name: &str,
    settings: &Cluster,
    transport: Option<&Transport>,
    discovery: Discovery,
    secrets: SecretSource,
    connections: &BackendConnections,
) -> cluster::Cluster {
    use cluster::cluster::{
        ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
    };

    let http2 = transport.is_some_and(|transport| transport.http2);
    let mut message = cluster::Cluster {
        name: name.to_owned(),
        connect_timeout: duration(settings.connect_timeout),
        per_connection_buffer_limit_bytes: number(BUFFER),
        lb_policy: match settings.load_balancing {
            LoadBalancing::RoundRobin => LbPolicy::RoundRobin,
            LoadBalancing::LeastRequest => LbPolicy::LeastRequest,
            LoadBalancing::Hash => LbPolicy::RingHash,
        }
        .into(),
        circuit_breakers: Some(without_limits()),
        typed_extension_protocol_options: [http_options(protocol(
            http2,
            match settings.load_balancing {
                _ if settings.mirror => as_mirror(),
                LoadBalancing::Hash => without_hash(),
                LoadBalancing::RoundRobin | LoadBalancing::LeastRequest => Vec::new(),
            },
            connections,
        ))]
        .into(),
        transport_socket: transport
            .and_then(|transport| Some(backend_tls(transport.tls.as_deref()?, transport.http2, secrets)))
            .or_else(|| settings.tls.as_ref().map(|tls| speaks_tls(tls, http2))),
        ..cluster::Cluster::default()
    };
    let (kind, assignment) = match &settings.endpoints {
        Endpoints::Addresses(_) if discovery == Discovery::Eds => {
            message.eds_cluster_config = Some(EdsClusterConfig {
                eds_config: Some(ads(ENDPOINTS_PATIENCE)),
                service_name: name.to_owned(),
            });
            (DiscoveryType::Eds, None)
        }
        Endpoints::Addresses(addresses) => (DiscoveryType::Static, Some(assignment(name, addresses))),
        Endpoints::Name(named) => {
            message.dns_lookup_family = DnsLookupFamily::V4Preferred.into();
            // A configuration that holds everything is all there at the start.
            message.wait_for_warm_on_init = boolean(discovery == Discovery::Eds);
            (DiscoveryType::StrictDns, Some(assignment(name, std::slice::from_ref(named))))
        }
    };
    message.load_assignment = assignment;
    message.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    message
}

/// The form of a cluster for an Envoy that starts; none: as it is. Its name is resolved later, since Envoy would not begin
/// to serve before: one name server that does not answer would keep everybody out. What comes or changes later waits
/// for its name, so that no request finds it without, and everything after it waits, too: for as long as
/// [`DNS_PATIENCE`] says.
///
/// [`DNS_PATIENCE`]: super::bootstrap::DNS_PATIENCE
pub(super) fn at_start(cluster: cluster::Cluster) -> Option<cluster::Cluster> {
    cluster.wait_for_warm_on_init?;
    Some(cluster::Cluster { wait_for_warm_on_init: boolean(false), ..cluster })
}

/// Names a file with the certificates of authorities in place of the system's, as for OpenSSL.
const AUTHORITIES_FILE: &str = "SSL_CERT_FILE";

/// Where systems keep the certificates of authorities.
const AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificate has to be for this name, and signed by an authority that the system knows.
fn verification(name: &str) -> tls::common_tls_context::ValidationContextType {
    use core::data_source::Specifier;

    let exists = |file: &String| std::path::Path::new(file).exists();
    let file = match std::env::var(AUTHORITIES_FILE) {
        Ok(named) if !named.is_empty() => Some(named).filter(exists),
        _ => AUTHORITIES.iter().map(|file| (*file).to_owned()).find(exists),
    };
    let context = match file {
        Some(file) => tls::CertificateValidationContext {
            trusted_ca: Some(core::DataSource {
                specifier: Some(Specifier::Filename(file)),
                ..core::DataSource::default()
            }),
            match_typed_subject_alt_names: vec![is_for(name)],
            ..tls::CertificateValidationContext::default()
        },
        // Nobody is believed: no certificate has this digest.
        None => tls::CertificateValidationContext {
            verify_certificate_hash: vec!["00".repeat(32)],
            ..tls::CertificateValidationContext::default()
        },
    };
    tls::common_tls_context::ValidationContextType::ValidationContext(context)
}

/// TLS towards endpoints.
fn speaks_tls(settings: &UpstreamTls, http2: bool) -> core::TransportSocket {
    let context = tls::UpstreamTlsContext {
        sni: settings.server_name.clone(),
        common_tls_context: Some(tls::CommonTlsContext {
            alpn_protocols: http2.then(|| "h2".to_owned()).into_iter().collect(),
            validation_context_type: settings.verified.then(|| verification(&settings.server_name)),
            ..tls::CommonTlsContext::default()
        }),
        ..tls::UpstreamTlsContext::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(context))),
    }
}

/// The endpoints of the cluster `name`, all of one weight.
pub(super) fn assignment(name: &str, endpoints: &[Endpoint]) -> endpoint::ClusterLoadAssignment {
    use endpoint::lb_endpoint::HostIdentifier;

    let lb_endpoints = endpoints
        .iter()
        .map(|Endpoint { address, port }| endpoint::LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(endpoint::Endpoint {
                address: Some(tcp(address.clone(), *port)),
                ..endpoint::Endpoint::default()
            })),
            ..endpoint::LbEndpoint::default()
        })
        .collect();
    endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints,
            ..endpoint::LocalityLbEndpoints::default()
        }],
        ..endpoint::ClusterLoadAssignment::default()
    }
}

/// nginx limits neither connections nor requests towards a backend.
fn without_limits() -> cluster::CircuitBreakers {
    cluster::CircuitBreakers {
        thresholds: vec![cluster::circuit_breakers::Thresholds {
            priority: core::RoutingPriority::Default.into(),
            max_connections: number(u32::MAX),
            max_pending_requests: number(u32::MAX),
            max_requests: number(u32::MAX),
            max_retries: number(u32::MAX),
            ..cluster::circuit_breakers::Thresholds::default()
        }],
        ..cluster::CircuitBreakers::default()
    }
}

/// HTTP/1.1 towards backends, as nginx speaks it, or HTTP/2.
pub(super) fn protocol(
    http2: bool,
    http_filters: Vec<hcm::HttpFilter>,
    connections: &BackendConnections,
) -> upstream_http::HttpProtocolOptions {
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream_http::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};

    let protocol = if http2 {
        ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions::default())
    } else {
        ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions {
            enable_trailers: true,
            ..core::Http1ProtocolOptions::default()
        })
    };
    upstream_http::HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: duration(connections.keep_alive),
            max_requests_per_connection: if connections.keep {
                connections.requests.and_then(number)
            } else {
                number(1)
            },
            max_connection_duration: connections.lifetime.and_then(duration),
            max_response_headers_kb: number(ANSWER_HEADERS),
            max_headers_count: number(ANSWER_LINES),
            ..core::HttpProtocolOptions::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(protocol),
        })),
        http_filters,
        ..upstream_http::HttpProtocolOptions::default()
    }
}

/// The name under which a cluster has them, and their packed form.
pub(super) fn http_options(options: upstream_http::HttpProtocolOptions) -> (String, Any) {
    ("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), pack_any(options))
}

/// The cluster that reaches the xDS server.
pub(super) fn xds_cluster(name: &str, address: core::Address) -> cluster::Cluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    use endpoint::lb_endpoint::HostIdentifier;
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream_http::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};

    let options = upstream_http::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions {
                // Notices a server that is gone without having said so.
                connection_keepalive: Some(core::KeepaliveSettings {
                    interval: seconds(30),
                    timeout: seconds(10),
                    ..core::KeepaliveSettings::default()
                }),
                ..core::Http2ProtocolOptions::default()
            })),
        })),
        ..upstream_http::HttpProtocolOptions::default()
    };
    cluster::Cluster {
        name: name.to_owned(),
        connect_timeout: seconds(1),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(endpoint::ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![endpoint::LocalityLbEndpoints {
                lb_endpoints: vec![endpoint::LbEndpoint {
                    host_identifier: Some(HostIdentifier::Endpoint(endpoint::Endpoint {
                        address: Some(address),
                        ..endpoint::Endpoint::default()
                    })),
                    ..endpoint::LbEndpoint::default()
                }],
                ..endpoint::LocalityLbEndpoints::default()
            }],
            ..endpoint::ClusterLoadAssignment::default()
        }),
        typed_extension_protocol_options: [(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            pack_any(options),
        )]
        .into(),
        track_cluster_stats: None,
        wait_for_warm_on_init: boolean(true),
        ..cluster::Cluster::default()
    }
}
