//! Listeners: where connections are taken and how their bytes become requests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::clusters::BUFFER;
use super::connection_manager::{Source, connection_manager};
use super::names::{DEFAULT_CERTIFICATE, HTTP_LISTENER, HTTPS_LISTENER, PROBE_LISTENER};
use super::pb::{ads, core, inline, listener, number, pack_any, pipe, tcp, tls};
use crate::certificate::Certificate;

/// Which listeners there are, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listeners {
    /// Plain HTTP.
    pub http: Option<Bind>,
    /// TLS, with HTTP/2 and HTTP/1.1.
    pub https: Option<Bind>,
    /// A Unix socket on which each worker says which configuration it serves.
    pub probe: Option<PathBuf>,
}

/// Where a listener takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The address; port 0 asks for a free one.
    pub address: SocketAddr,
    /// The port that clients are told and believed to have used, where it is another (a container's 8080
    /// behind a Service's 80). Absent: the port of the connection.
    pub public_port: Option<u16>,
}

impl From<SocketAddr> for Bind {
    fn from(address: SocketAddr) -> Bind {
        Bind { address, public_port: None }
    }
}

impl Bind {
    /// The port as the filter is told it: text, or Envoy's command for what only the connection knows.
    fn port(&self) -> String {
        match self.public_port.unwrap_or(self.address.port()) {
            0 => "%DOWNSTREAM_LOCAL_PORT%".to_owned(),
            port => port.to_string(),
        }
    }

    fn message(&self) -> core::Address {
        let mut address = tcp(self.address.ip().to_string(), self.address.port());
        if let Some(core::address::Address::SocketAddress(socket)) = &mut address.address {
            // `[::]` takes IPv4 as well, as nginx with both listens does.
            socket.ipv4_compat = self.address.is_ipv6() && self.address.ip().is_unspecified();
        }
        address
    }
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Https,
    Probe,
}

impl Kind {
    /// The listener's name, and the scheme as the filter is told it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Http => HTTP_LISTENER,
            Kind::Https => HTTPS_LISTENER,
            Kind::Probe => PROBE_LISTENER,
        }
    }
}

/// The listeners as messages.
pub(super) fn listeners(listeners: &Listeners, source: &Source) -> Vec<listener::Listener> {
    let Listeners { http, https, probe } = listeners;
    let http = http.map(|bind| listener(Kind::Http, bind.message(), &bind.port(), source));
    let https = https.map(|bind| listener(Kind::Https, bind.message(), &bind.port(), source));
    let probe = probe.as_ref().map(|path| listener(Kind::Probe, pipe(path), "0", source));
    [http, https, probe].into_iter().flatten().collect()
}

fn listener(kind: Kind, address: core::Address, port: &str, source: &Source) -> listener::Listener {
    use listener::listener::ConnectionBalanceConfig;
    use listener::listener::connection_balance_config::{BalanceType, ExactBalance};

    let manager = listener::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(connection_manager(
            kind, port, source,
        )))),
    };
    let chain = listener::FilterChain {
        filters: vec![manager],
        transport_socket: (kind == Kind::Https).then(|| server_tls(source)),
        ..listener::FilterChain::default()
    };
    listener::Listener {
        name: kind.name().to_owned(),
        address: Some(address),
        filter_chains: vec![chain],
        per_connection_buffer_limit_bytes: number(BUFFER),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        // Each probe connection has to reach another worker.
        connection_balance_config: (kind == Kind::Probe).then_some(ConnectionBalanceConfig {
            balance_type: Some(BalanceType::ExactBalance(ExactBalance {})),
        }),
        ignore_global_conn_limit: kind == Kind::Probe,
        ..listener::Listener::default()
    }
}

/// TLS towards clients, as ingress-nginx offers it: 1.2 and 1.3, HTTP/2 first.
fn server_tls(source: &Source) -> core::TransportSocket {
    use tls::tls_parameters::TlsProtocol;

    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(tls::TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..tls::TlsParameters::default()
            }),
            tls_certificate_sds_secret_configs: vec![tls::SdsSecretConfig {
                name: DEFAULT_CERTIFICATE.to_owned(),
                // Without a source, the name is that of a static secret.
                sds_config: matches!(source, Source::Ads).then(|| ads(Duration::ZERO)),
            }],
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ..tls::CommonTlsContext::default()
        }),
        ..tls::DownstreamTlsContext::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(context))),
    }
}

/// The certificate of the TLS listener.
pub(super) fn secret(certificate: &Certificate) -> tls::Secret {
    let Certificate { chain, key } = certificate;
    tls::Secret {
        name: DEFAULT_CERTIFICATE.to_owned(),
        r#type: Some(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: Some(inline(chain.clone())),
            private_key: Some(inline(key.clone())),
            ..tls::TlsCertificate::default()
        })),
    }
}
