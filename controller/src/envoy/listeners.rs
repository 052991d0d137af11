//! Listeners: where connections are taken and how their bytes become requests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ingress_wasm_translate::connections::ClientConnections;

use super::clusters::BUFFER;
use super::connection_manager::{Source, connection_manager};
use super::names::{HTTP_LISTENER, HTTPS_LISTENER, PROBE_LISTENER};
use super::pb::{core, duration, listener, number, pack_any, pipe, proxy_protocol, tcp};
use super::tls::{Managers, TlsPlan};

/// Which listeners there are, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listeners {
    /// Plain HTTP.
    pub http: Option<Bind>,
    /// TLS, with HTTP/2 and HTTP/1.1.
    pub https: Option<Bind>,
    /// Where requests of clients are logged; none: nowhere.
    pub access_log: Option<PathBuf>,
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
            // The listener's own, whatever the PROXY protocol says.
            0 => "%DOWNSTREAM_DIRECT_LOCAL_PORT%".to_owned(),
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
    /// TLS where clients are asked for a certificate.
    HttpsAsking,
    Probe,
}

impl Kind {
    /// The listener's name, and the scheme as the filter is told it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Http => HTTP_LISTENER,
            Kind::Https | Kind::HttpsAsking => HTTPS_LISTENER,
            Kind::Probe => PROBE_LISTENER,
        }
    }
}

/// The listeners without TLS as messages.
pub(super) fn plain_listeners(
    listeners: &Listeners,
    source: &Source,
    clients: &ClientConnections,
) -> Vec<listener::Listener> {
    let Listeners { http, https: _, access_log, probe } = listeners;
    let plain = |kind: Kind, address, port: &str| {
        let log = access_log.as_deref().filter(|_| kind != Kind::Probe);
        let chain = listener::FilterChain {
            filters: vec![manager(kind, port, source, log, clients)],
            ..listener::FilterChain::default()
        };
        let plain = listener::Listener { filter_chains: vec![chain], ..listener(kind, address) };
        if kind == Kind::Probe { plain } else { proxied(plain, clients) }
    };
    let http = http.map(|bind| plain(Kind::Http, bind.message(), &bind.port()));
    let probe = probe.as_ref().map(|path| plain(Kind::Probe, pipe(path), "0"));
    [http, probe].into_iter().flatten().collect()
}

/// The connection managers of the TLS listener.
pub(super) fn https_managers(
    bind: Bind,
    source: &Source,
    log: Option<&Path>,
    clients: &ClientConnections,
) -> Managers {
    let manager = |kind| manager(kind, &bind.port(), source, log, clients);
    Managers { plain: manager(Kind::Https), asking: manager(Kind::HttpsAsking) }
}

/// The TLS listener as a message.
pub(super) fn https_listener(
    bind: Bind,
    managers: &Managers,
    plan: &TlsPlan,
    source: CertificateSource,
    clients: &ClientConnections,
) -> listener::Listener {
    let https = listener::Listener {
        listener_filters: vec![TlsPlan::inspector()],
        filter_chains: plan.filter_chains(managers, source == CertificateSource::Server),
        filter_chain_matcher: Some(plan.matcher()),
        ..listener(Kind::Https, bind.message())
    };
    proxied(https, clients)
}

/// The listener, with the PROXY protocol at the beginning of each connection where it is asked for.
fn proxied(mut listener: listener::Listener, clients: &ClientConnections) -> listener::Listener {
    if let Some(time) = clients.proxy_protocol {
        let config = pack_any(proxy_protocol::ProxyProtocol::default());
        let filter = listener::ListenerFilter {
            name: "envoy.filters.listener.proxy_protocol".to_owned(),
            config_type: Some(listener::listener_filter::ConfigType::TypedConfig(config)),
            ..listener::ListenerFilter::default()
        };
        listener.listener_filters.insert(0, filter);
        listener.listener_filters_timeout = duration(time);
    }
    listener
}

/// Where Envoy gets certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CertificateSource {
    /// The xDS server.
    Server,
    /// The bootstrap.
    Bootstrap,
}

fn manager(
    kind: Kind,
    port: &str,
    source: &Source,
    log: Option<&Path>,
    clients: &ClientConnections,
) -> listener::Filter {
    listener::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(connection_manager(
            kind, port, source, log, clients,
        )))),
    }
}

fn listener(kind: Kind, address: core::Address) -> listener::Listener {
    use listener::listener::ConnectionBalanceConfig;
    use listener::listener::connection_balance_config::{BalanceType, ExactBalance};

    listener::Listener {
        name: kind.name().to_owned(),
        address: Some(address),
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
