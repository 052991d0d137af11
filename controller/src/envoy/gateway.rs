//! What the configuration of a gateway that somebody else makes, such as Istio, lacks for our filter: messages that
//! are merged into its own.
//!
//! Deliberately knows nothing of how they get there.

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use ingress_wasm_translate::connections::{BackendConnections, ClientConnections};
use ingress_wasm_translate::output::{KEPT_BACK, RouteProfile, Translation};

use super::clusters::{http_options, protocol};
use super::compression::compressors;
use super::connection_manager::{client_certificate, common_options, http2_options, private_headers};
use super::json::{ToJsonError, to_json};
use super::local_reply::local_replies;
use super::names::{
    CERTIFICATE_HEADER, CLUSTER_HEADER, CONNECTION_HEADER, ENDPOINT_HEADER, FILTER, HASH_HEADER,
    PROFILE_HEADER,
};
use super::pb::{cluster, core, duration, hcm, listener, number, pack_any, route, router, tls};
use super::routes::{Profiles, by_profile};
use super::sessions::session_filter;
use super::upgrades;
use super::upstream_filters::as_mirror;

/// What Envoy tells a backend of clients where it is told to be the edge of a network. nginx tells nothing like it.
/// And what a gateway tells it of the client's certificate.
const EDGE_HEADERS: [&str; 3] = ["x-envoy-external-address", "x-envoy-internal", "x-forwarded-client-cert"];

/// What is merged into the connection manager: all that makes it as transparent as nginx's proxy, but for what a
/// merge cannot change (`use_remote_address`, `normalize_path`). `port` is the one that clients connect to in plain
/// text.
///
/// # Errors
///
/// [`ToJsonError`], which no message is known to cause.
pub fn connection_manager_patch(
    port: u16,
    clients: &ClientConnections,
) -> Result<serde_json::Value, ToJsonError> {
    use hcm::http_connection_manager as manager;

    // One for all listeners: which of them have TLS, only Envoy knows.
    let connection = format!(
        "%DOWNSTREAM_TLS_VERSION% {port} %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME%"
    );
    json(&pack_any(hcm::HttpConnectionManager {
        common_http_protocol_options: Some(common_options(clients)),
        http_protocol_options: Some(core::Http1ProtocolOptions {
            accept_http_10: true,
            default_host_for_http_10: "_".to_owned(),
            enable_trailers: true,
            ignore_http_11_upgrade: vec![upgrades::ignored()],
            ..core::Http1ProtocolOptions::default()
        }),
        http2_protocol_options: Some(http2_options(clients)),
        max_request_headers_kb: number(128),
        stream_idle_timeout: duration(clients.body_timeout),
        request_headers_timeout: duration(clients.header_timeout),
        skip_xff_append: true,
        preserve_external_request_id: true,
        server_header_transformation: manager::ServerHeaderTransformation::PassThrough.into(),
        // The gateway allows WebSockets by itself, and none may be named twice.
        upgrade_configs: upgrades::allowed()
            .into_iter()
            .filter(|upgrade| upgrade.upgrade_type != "websocket")
            .collect(),
        local_reply_config: Some(local_replies(None)),
        early_header_mutation_extensions: vec![private_headers(&connection)],
        delayed_close_timeout: duration(Duration::from_secs(1)),
        ..hcm::HttpConnectionManager::default()
    }))
}

/// The filters that compress answers, which go first.
///
/// # Errors
///
/// As [`connection_manager_patch`].
pub fn compressor_filters(clients: &ClientConnections) -> Result<Vec<serde_json::Value>, ToJsonError> {
    compressors(clients).map(|filter| plain(&pack_any(filter))).collect()
}

/// What is merged into the cluster of a mirror, so that a copy has its path and its body.
///
/// # Errors
///
/// As [`connection_manager_patch`].
pub fn mirror_cluster_patch(backends: &BackendConnections) -> Result<serde_json::Value, ToJsonError> {
    let (name, options) = http_options(protocol(false, as_mirror(), backends));
    plain(&pack_any(cluster::Cluster {
        typed_extension_protocol_options: [(name, options)].into(),
        ..cluster::Cluster::default()
    }))
}

/// The filter that tells ours of a client's certificate, which goes first.
///
/// # Errors
///
/// As [`connection_manager_patch`].
pub fn client_certificate_filter() -> Result<serde_json::Value, ToJsonError> {
    plain(&pack_any(client_certificate()))
}

/// What is merged into a filter chain that asks clients for certificates: every connection is accepted, since clients
/// that are refused are answered in HTTP; and none is resumed, since Envoy forgets then what it found. `depth` is how
/// many certificates may stand between the client's and that of the authority.
///
/// # Errors
///
/// As [`connection_manager_patch`].
pub fn asking_chain_patch(depth: u32) -> Result<serde_json::Value, ToJsonError> {
    use tls::certificate_validation_context::TrustChainVerification;
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
    use tls::downstream_tls_context::SessionTicketKeysType;

    let check = tls::CertificateValidationContext {
        trust_chain_verification: TrustChainVerification::AcceptUntrusted.into(),
        max_verify_depth: number(depth.saturating_add(1)),
        ..tls::CertificateValidationContext::default()
    };
    let check = CombinedCertificateValidationContext {
        default_validation_context: Some(check),
        ..CombinedCertificateValidationContext::default()
    };
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            validation_context_type: Some(ValidationContextType::CombinedValidationContext(check)),
            ..tls::CommonTlsContext::default()
        }),
        disable_stateful_session_resumption: true,
        session_ticket_keys_type: Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)),
        ..tls::DownstreamTlsContext::default()
    };
    plain(&pack_any(listener::FilterChain {
        transport_socket: Some(core::TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(context))),
        }),
        ..listener::FilterChain::default()
    }))
}

/// What is merged into the router.
///
/// # Errors
///
/// As [`connection_manager_patch`].
pub fn router_patch() -> Result<serde_json::Value, ToJsonError> {
    json(&pack_any(router::Router { suppress_envoy_headers: true, ..router::Router::default() }))
}

/// The filter for sessions, for the place before the router.
///
/// # Errors
///
/// As [`connection_manager_patch`].
pub fn session_filter_patch() -> Result<serde_json::Value, ToJsonError> {
    plain(&pack_any(session_filter()))
}

/// What is merged into a route configuration.
///
/// # Errors
///
/// As [`connection_manager_patch`].
pub fn route_configuration_patch(translation: &Translation) -> Result<serde_json::Value, ToJsonError> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let hidden: Vec<&str> = KEPT_BACK
        .iter()
        .copied()
        .filter(|name| !translation.passed_headers.contains(*name))
        .chain(["server"])
        .collect();
    let removed = [CLUSTER_HEADER, PROFILE_HEADER, ENDPOINT_HEADER, CONNECTION_HEADER, CERTIFICATE_HEADER];
    plain(&pack_any(route::RouteConfiguration {
        internal_only_headers: names(&[CLUSTER_HEADER, PROFILE_HEADER, HASH_HEADER, ENDPOINT_HEADER]),
        request_headers_to_remove: removed.into_iter().chain(EDGE_HEADERS).map(str::to_owned).collect(),
        response_headers_to_remove: names(&hidden),
        ..route::RouteConfiguration::default()
    }))
}

/// The virtual host that takes every request: a route for each of these route profiles, each of which takes the
/// cluster from the private header.
///
/// # Errors
///
/// As [`connection_manager_patch`].
pub fn virtual_host(
    translation: &Translation,
    profiles: &BTreeMap<String, RouteProfile>,
) -> Result<serde_json::Value, ToJsonError> {
    plain(&pack_any(route::VirtualHost {
        name: FILTER.to_owned(),
        domains: vec!["*".to_owned()],
        matcher: Some(by_profile(
            Profiles { named: profiles, ..Profiles::of(translation) },
            !translation.client_authorities.is_empty(),
        )),
        ..route::VirtualHost::default()
    }))
}

/// With the type in it, as an `Any` has it.
fn json(message: &Any) -> Result<serde_json::Value, ToJsonError> {
    let mut value = plain(message)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("@type".to_owned(), message.type_url.clone().into());
    }
    Ok(value)
}

fn plain(message: &Any) -> Result<serde_json::Value, ToJsonError> {
    to_json(&message.type_url, &message.value)
}
