//! Envoy's filter for limits over all replicas. It stands behind ours, which tells it in private headers what to ask,
//! and asks for requests of routes with descriptors only.

use ingress_wasm_translate::rate_limits::{Descriptor, RateLimitService};

use super::names::LIMIT_HEADERS;
use super::pb::{
    core, duration, hcm, header_to_metadata, http_type, metadata, pack_any, rate_limit, rate_limit_service,
    route,
};

/// Where the number of requests is that a descriptor is for.
const NAMESPACE: &str = "ingress-wasm.limit";
const KEY: &str = "limit";

/// The filters for this service: the first hands the number of requests to the second, which takes it from
/// nowhere else.
pub(super) fn filters(service: &RateLimitService) -> [hcm::HttpFilter; 2] {
    let [limit, ..] = LIMIT_HEADERS;
    let rule = header_to_metadata::config::Rule {
        header: limit.to_owned(),
        on_header_present: Some(header_to_metadata::config::KeyValuePair {
            metadata_namespace: NAMESPACE.to_owned(),
            key: KEY.to_owned(),
            r#type: header_to_metadata::config::ValueType::ProtobufValue.into(),
            encode: header_to_metadata::config::ValueEncode::Base64.into(),
            ..header_to_metadata::config::KeyValuePair::default()
        }),
        ..header_to_metadata::config::Rule::default()
    };
    let number =
        header_to_metadata::Config { request_rules: vec![rule], ..header_to_metadata::Config::default() };
    let RateLimitService { cluster, authority, timeout, domain, deny, status: _ } = service;
    let limit = rate_limit::RateLimit {
        domain: domain.clone(),
        timeout: duration(*timeout),
        failure_mode_deny: *deny,
        rate_limited_as_resource_exhausted: true,
        rate_limit_service: Some(rate_limit_service::RateLimitServiceConfig {
            grpc_service: Some(core::GrpcService {
                target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(
                    core::grpc_service::EnvoyGrpc {
                        cluster_name: cluster.clone(),
                        authority: authority.clone(),
                        ..core::grpc_service::EnvoyGrpc::default()
                    },
                )),
                ..core::GrpcService::default()
            }),
            transport_api_version: core::ApiVersion::V3.into(),
        }),
        disable_x_envoy_ratelimited_header: true,
        status_on_error: Some(http_type::HttpStatus {
            code: http_type::StatusCode::ServiceUnavailable.into(),
        }),
        ..rate_limit::RateLimit::default()
    };
    [
        filter("envoy.filters.http.header_to_metadata", pack_any(number)),
        filter("envoy.filters.http.ratelimit", pack_any(limit)),
    ]
}

fn filter(name: &str, config: super::pb::Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..hcm::HttpFilter::default()
    }
}

/// What a route asks. Without the headers, which exempt requests have not, there is no descriptor.
pub(super) fn of_route(descriptors: &[Descriptor]) -> Vec<route::RateLimit> {
    descriptors.iter().map(of_descriptor).collect()
}

fn of_descriptor(descriptor: &Descriptor) -> route::RateLimit {
    use metadata::metadata_key::{PathSegment, path_segment};
    use route::rate_limit::action::{ActionSpecifier, RequestHeaders};
    use route::rate_limit::r#override::{DynamicMetadata, OverrideSpecifier};
    use route::rate_limit::{Action, Override};

    let action = |(key, header): &(String, &'static str)| Action {
        action_specifier: Some(ActionSpecifier::RequestHeaders(RequestHeaders {
            header_name: (*header).to_owned(),
            descriptor_key: key.clone(),
            skip_if_absent: false,
        })),
    };
    let number = metadata::MetadataKey {
        key: NAMESPACE.to_owned(),
        path: vec![PathSegment { segment: Some(path_segment::Segment::Key(KEY.to_owned())) }],
    };
    route::RateLimit {
        actions: descriptor.entries.iter().map(action).collect(),
        limit: descriptor.limited.then_some(Override {
            override_specifier: Some(OverrideSpecifier::DynamicMetadata(DynamicMetadata {
                metadata_key: Some(number),
            })),
        }),
        ..route::RateLimit::default()
    }
}

/// The headers that a route with descriptors takes away from requests.
pub(super) fn taken_away(descriptors: &[Descriptor]) -> Vec<String> {
    match descriptors {
        [] => Vec::new(),
        _ => LIMIT_HEADERS.iter().map(|name| (*name).to_owned()).collect(),
    }
}
