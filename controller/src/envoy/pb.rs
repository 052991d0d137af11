//! Short paths to the generated types, and the few values that are awkward to write with them.

use std::time::Duration as StdDuration;

pub(super) use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
pub(super) use envoy_types::pb::envoy::config::bootstrap::v3 as bootstrap;
pub(super) use envoy_types::pb::envoy::config::cluster::v3 as cluster;
pub(super) use envoy_types::pb::envoy::config::common::mutation_rules::v3 as mutation;
pub(super) use envoy_types::pb::envoy::config::core::v3 as core;
pub(super) use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
pub(super) use envoy_types::pb::envoy::config::listener::v3 as listener;
pub(super) use envoy_types::pb::envoy::config::metrics::v3 as metrics;
pub(super) use envoy_types::pb::envoy::config::overload::v3 as overload;
pub(super) use envoy_types::pb::envoy::config::ratelimit::v3 as rate_limit_service;
pub(super) use envoy_types::pb::envoy::config::route::v3 as route;
pub(super) use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file_log;
pub(super) use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3 as cel_filter;
pub(super) use envoy_types::pb::envoy::extensions::compression::brotli::compressor::v3 as brotli;
pub(super) use envoy_types::pb::envoy::extensions::compression::gzip::compressor::v3 as gzip;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::compressor::v3 as compressor;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as header_mutation;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::header_to_metadata::v3 as header_to_metadata;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt_authn;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::lua::v3 as lua;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3 as rate_limit;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::router::v3 as router;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3 as stateful_session;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3 as upstream_codec;
pub(super) use envoy_types::pb::envoy::extensions::filters::http::wasm::v3 as http_wasm;
pub(super) use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3 as proxy_protocol;
pub(super) use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3 as tls_inspector;
pub(super) use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
pub(super) use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
pub(super) use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3 as early;
pub(super) use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3 as session_header;
pub(super) use envoy_types::pb::envoy::extensions::matching::common_inputs::network::v3 as matching;
pub(super) use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3 as cares;
pub(super) use envoy_types::pb::envoy::extensions::resource_monitors::downstream_connections::v3 as connections;
pub(super) use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3 as previous_hosts;
pub(super) use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
pub(super) use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
pub(super) use envoy_types::pb::envoy::extensions::wasm::v3 as wasm;
pub(super) use envoy_types::pb::envoy::r#type::matcher::v3 as matcher_inputs;
pub(super) use envoy_types::pb::envoy::r#type::metadata::v3 as metadata;
pub(super) use envoy_types::pb::envoy::r#type::v3 as http_type;
pub(super) use envoy_types::pb::google::protobuf::{
    Any, BoolValue, Duration, StringValue, Struct, UInt32Value, UInt64Value, Value, value::Kind,
};
pub(super) use envoy_types::pb::xds::core::v3 as xds_core;
pub(super) use envoy_types::pb::xds::r#type::matcher::v3 as matcher;
pub(super) use envoy_types::util::pack_any;

/// A present boolean.
pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A present number.
pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A present duration; one that is too long for the wire becomes the longest that is not.
pub(super) fn duration(value: StdDuration) -> Option<Duration> {
    // The longest span that the JSON form of a duration can tell.
    const LONGEST: u64 = 315_576_000_000;
    let seconds = value.as_secs().min(LONGEST);
    Some(Duration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    })
}

/// A present duration of whole seconds.
pub(super) fn seconds(value: u64) -> Option<Duration> {
    duration(StdDuration::from_secs(value))
}

/// Text that stands in the configuration itself.
pub(super) fn inline(text: impl Into<String>) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(text.into())),
        ..core::DataSource::default()
    }
}

/// A socket address of TCP.
pub(super) fn tcp(address: impl Into<String>, port: u16) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: address.into(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..core::SocketAddress::default()
        })),
    }
}

/// A Unix socket.
pub(super) fn pipe(path: &std::path::Path) -> core::Address {
    core::Address {
        address: Some(core::address::Address::Pipe(core::Pipe {
            path: path.to_string_lossy().into_owned(),
            mode: 0o600,
        })),
    }
}

/// Where resources come from that the xDS server serves. `patience` is how long Envoy waits for the first
/// one before it goes on without; zero waits for as long as it takes.
pub(super) fn ads(patience: StdDuration) -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: i32::from(core::ApiVersion::V3 as u8),
        initial_fetch_timeout: duration(patience),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}
