//! The HTTP connection manager, set up so that it is as transparent as nginx's proxy: nothing of a request
//! or an answer is changed but by the filter.

use ingress_wasm_translate::connections::ClientConnections;

use super::access_log;
use super::compression::compressors;
use super::listeners::Kind;
use super::local_reply::local_replies;
use super::names::{
    CERTIFICATE_HEADER, CLIENT_CERTIFICATE_FILTER, CLUSTER_HEADER, CONNECTION_HEADER, ENDPOINT_HEADER,
    FILTER, HASH_HEADER, JWT_FILTER, PROFILE_HEADER, ROUTES,
};
use super::pb::{
    Any, ads, boolean, core, duration, early, hcm, header_mutation, mutation, number, pack_any, route, router,
};
use super::sessions::session_filter;
use super::{rate_limits, upgrades};

use std::path::Path;
use std::time::Duration;

/// Where the parts of a connection manager come from that change while it serves.
pub(super) enum Source {
    /// The xDS server.
    Ads,
    /// The configuration itself.
    Inline {
        /// The route configuration.
        routes: Box<route::RouteConfiguration>,
        /// The filter.
        filter: Any,
        /// The filter for tokens.
        jwt: Any,
    },
}

/// Headers by which a client could direct Envoy's router. Envoy itself takes them from clients only where it
/// is told to be the edge, and then it rewrites forwarded headers as well, which is the filter's task here.
/// The filter may set them.
const ROUTER_HEADERS: &[&str] = &[
    "x-envoy-decorator-operation",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-max-retries",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// The connection manager of one listener. `port` is how the filter is told the listener's port.
pub(super) fn connection_manager(
    kind: Kind,
    port: &str,
    source: &Source,
    log: Option<&Path>,
    clients: &ClientConnections,
) -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager as manager;
    use hcm::http_filter::ConfigType;

    let (routes, filter, jwt) = match source {
        Source::Ads => (
            manager::RouteSpecifier::Rds(hcm::Rds {
                config_source: Some(ads(Duration::ZERO)),
                route_config_name: ROUTES.to_owned(),
            }),
            discovered("envoy.extensions.filters.http.wasm.v3.Wasm"),
            discovered("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"),
        ),
        Source::Inline { routes, filter, jwt } => (
            manager::RouteSpecifier::RouteConfig((**routes).clone()),
            ConfigType::TypedConfig(filter.clone()),
            ConfigType::TypedConfig(jwt.clone()),
        ),
    };
    // Probes keep their connections.
    let unless_probe = |time: Duration| duration(if kind == Kind::Probe { Duration::ZERO } else { time });
    let compressors = (kind != Kind::Probe).then(|| compressors(clients));
    // Before the one for tokens, so that bad ones count.
    let limits = clients.rate_limits.as_ref().filter(|_| kind != Kind::Probe).map(rate_limits::filters);
    hcm::HttpConnectionManager {
        codec_type: manager::CodecType::Auto.into(),
        stat_prefix: kind.name().to_owned(),
        access_log: log.map(access_log::to_file).into_iter().collect(),
        route_specifier: Some(routes),
        // Answers go the other way: what is compressed has been through all that follows.
        http_filters: compressors
            .into_iter()
            .flatten()
            .map(Some)
            .chain([
                (kind == Kind::HttpsAsking).then(client_certificate),
                Some(hcm::HttpFilter {
                    name: FILTER.to_owned(),
                    config_type: Some(filter),
                    ..hcm::HttpFilter::default()
                }),
            ])
            .flatten()
            .chain(limits.into_iter().flatten())
            .chain(
                [
                    // Always there, so that no connection is without it when a rule begins to need it.
                    (kind != Kind::Probe).then(|| hcm::HttpFilter {
                        name: JWT_FILTER.to_owned(),
                        config_type: Some(jwt),
                        ..hcm::HttpFilter::default()
                    }),
                    (kind != Kind::Probe).then(session_filter),
                    Some(hcm::HttpFilter {
                        name: "envoy.filters.http.router".to_owned(),
                        config_type: Some(ConfigType::TypedConfig(pack_any(router::Router {
                            suppress_envoy_headers: true,
                            ..router::Router::default()
                        }))),
                        ..hcm::HttpFilter::default()
                    }),
                ]
                .into_iter()
                .flatten(),
            )
            .collect(),
        common_http_protocol_options: Some(match kind {
            Kind::Probe => core::HttpProtocolOptions {
                idle_timeout: duration(Duration::ZERO),
                max_requests_per_connection: None,
                ..common_options(clients)
            },
            Kind::Http | Kind::Https | Kind::HttpsAsking => common_options(clients),
        }),
        http_protocol_options: Some(core::Http1ProtocolOptions {
            allow_absolute_url: boolean(true),
            accept_http_10: true,
            // Envoy has no request without a host; `_` is the name of nginx's default server.
            default_host_for_http_10: "_".to_owned(),
            enable_trailers: true,
            ignore_http_11_upgrade: vec![upgrades::ignored()],
            ..core::Http1ProtocolOptions::default()
        }),
        http2_protocol_options: Some(http2_options(clients)),
        // As much as the filter is to judge by `large-client-header-buffers`; Envoy's own limit is 60.
        max_request_headers_kb: number(128),
        // For what happens before a route is chosen: nginx `client_header_timeout`, `client_body_timeout`.
        stream_idle_timeout: unless_probe(clients.body_timeout),
        request_headers_timeout: unless_probe(clients.header_timeout),
        use_remote_address: boolean(false),
        skip_xff_append: true,
        // Nobody is inside: to an internal client Envoy would leave its private headers.
        internal_address_config: Some(manager::InternalAddressConfig::default()),
        generate_request_id: boolean(false),
        preserve_external_request_id: true,
        server_header_transformation: manager::ServerHeaderTransformation::PassThrough.into(),
        normalize_path: boolean(false),
        merge_slashes: false,
        path_with_escaped_slashes_action: manager::PathWithEscapedSlashesAction::KeepUnchanged.into(),
        upgrade_configs: upgrades::allowed(),
        local_reply_config: Some(local_replies(clients.rate_limits.as_ref())),
        early_header_mutation_extensions: vec![private_headers(&connection(
            kind,
            port,
            clients.proxy_protocol.is_some(),
        ))],
        delayed_close_timeout: duration(Duration::from_secs(1)),
        ..hcm::HttpConnectionManager::default()
    }
}

/// How long connections are kept, and for how many requests.
pub(super) fn common_options(clients: &ClientConnections) -> core::HttpProtocolOptions {
    let keeps = !clients.keep_alive.is_zero();
    core::HttpProtocolOptions {
        // nginx `keepalive_timeout`. A connection on which nothing comes is closed even where none is kept.
        idle_timeout: duration(if keeps { clients.keep_alive } else { clients.header_timeout }),
        // nginx `keepalive_requests`.
        max_requests_per_connection: if keeps {
            clients.keep_alive_requests.and_then(number)
        } else {
            number(1)
        },
        // nginx limits the size of a request's headers, not their number; so does the filter.
        max_headers_count: number(1000),
        headers_with_underscores_action: core::http_protocol_options::HeadersWithUnderscoresAction::Allow
            .into(),
        ..core::HttpProtocolOptions::default()
    }
}

/// HTTP/2 with clients.
pub(super) fn http2_options(clients: &ClientConnections) -> core::Http2ProtocolOptions {
    core::Http2ProtocolOptions {
        // nginx `http2_max_concurrent_streams`.
        max_concurrent_streams: number(clients.http2_streams),
        initial_stream_window_size: number(64 * 1024),
        initial_connection_window_size: number(1024 * 1024),
        ..core::Http2ProtocolOptions::default()
    }
}

/// The configuration of a filter, of this type, as the xDS server has it. There is no other until then: the listener does not take
/// connections before the first one is here.
pub(super) fn discovered(type_url: &str) -> hcm::http_filter::ConfigType {
    hcm::http_filter::ConfigType::ConfigDiscovery(core::ExtensionConfigSource {
        config_source: Some(ads(Duration::ZERO)),
        type_urls: vec![format!("type.googleapis.com/{type_url}")],
        ..core::ExtensionConfigSource::default()
    })
}

/// What the filter is told of a connection: of the PROXY protocol, too, where it is spoken.
fn connection(kind: Kind, port: &str, proxied: bool) -> String {
    let mut peer = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%".to_owned();
    if proxied {
        peer.push_str(",%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%,%DOWNSTREAM_LOCAL_PORT%");
    }
    match kind {
        Kind::Http => format!("http {port} {peer}"),
        Kind::Https | Kind::HttpsAsking => format!("https {port} {peer} %REQUESTED_SERVER_NAME%"),
        Kind::Probe => "probe 0 -".to_owned(),
    }
}

/// Takes from a request what a client has no say in, and tells the filter of the connection.
pub(super) fn private_headers(connection: &str) -> core::TypedExtensionConfig {
    use mutation::header_mutation::Action;

    let connection = overwrite(CONNECTION_HEADER, connection.to_owned());
    let own = [CLUSTER_HEADER, PROFILE_HEADER, HASH_HEADER, ENDPOINT_HEADER, CERTIFICATE_HEADER];
    let removed = own.iter().chain(ROUTER_HEADERS);
    let actions = removed.map(|name| Action::Remove((*name).to_owned())).chain([Action::Append(connection)]);
    core::TypedExtensionConfig {
        name: "envoy.http.early_header_mutation.header_mutation".to_owned(),
        typed_config: Some(pack_any(early::HeaderMutation {
            mutations: actions.map(|action| mutation::HeaderMutation { action: Some(action) }).collect(),
        })),
    }
}

fn overwrite(name: &str, value: String) -> core::HeaderValueOption {
    use core::header_value_option::HeaderAppendAction;

    core::HeaderValueOption {
        header: Some(core::HeaderValue { key: name.to_owned(), value, ..core::HeaderValue::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..core::HeaderValueOption::default()
    }
}

/// Tells the filter of the client's certificate. Only a route can see whether Envoy found it good, so the route
/// for those that are says so: see [`verified_certificate`].
pub(super) fn client_certificate() -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: CLIENT_CERTIFICATE_FILTER.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(
            header_mutation::HeaderMutation {
                mutations: Some(certificate_facts("presented")),
                ..header_mutation::HeaderMutation::default()
            },
        ))),
        ..hcm::HttpFilter::default()
    }
}

/// What the route for clients with a good certificate sets for that filter.
pub(super) fn verified_certificate() -> Any {
    pack_any(header_mutation::HeaderMutationPerRoute { mutations: Some(certificate_facts("verified")) })
}

/// Overwrites the private header with what `RequestView::peer_certificate` reads.
fn certificate_facts(state: &str) -> header_mutation::Mutations {
    let value = [
        state,
        "%DOWNSTREAM_PEER_CERT_V_START(%s)%",
        "%DOWNSTREAM_PEER_CERT_V_END(%s)%",
        "%DOWNSTREAM_PEER_ISSUER%",
        "%DOWNSTREAM_PEER_SUBJECT%",
        "%DOWNSTREAM_PEER_CERT%",
    ];
    let header = overwrite(CERTIFICATE_HEADER, value.join("\t"));
    let action = Some(mutation::header_mutation::Action::Append(header));
    header_mutation::Mutations {
        request_mutations: vec![mutation::HeaderMutation { action }],
        ..header_mutation::Mutations::default()
    }
}
