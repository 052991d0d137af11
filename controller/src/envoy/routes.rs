//! The route configuration: one route for each route profile, each of which takes every request. Which
//! cluster and which profile a request goes to, the filter says in private headers.
//!
//! Deliberately knows nothing of hosts and paths.

use std::collections::BTreeMap;
use std::time::Duration;

use ingress_wasm_translate::output::RouteProfile;

use super::names::{CLUSTER_HEADER, CONNECTION_HEADER, HASH_HEADER, PROFILE_HEADER, ROUTES};
use super::pb::{duration, matcher, matcher_inputs, number, pack_any, previous_hosts, route, seconds};

/// Headers of a backend's answer that nginx keeps from clients, and the server's name, which ingress-nginx
/// takes away.
const HIDDEN_RESPONSE_HEADERS: &[&str] = &[
    "server",
    "x-pad",
    "x-accel-expires",
    "x-accel-redirect",
    "x-accel-limit-rate",
    "x-accel-buffering",
    "x-accel-charset",
];

/// The route configuration for these profiles.
pub(super) fn route_configuration(
    default: &RouteProfile,
    profiles: &BTreeMap<String, RouteProfile>,
) -> route::RouteConfiguration {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    route::RouteConfiguration {
        name: ROUTES.to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            name: ROUTES.to_owned(),
            domains: vec!["*".to_owned()],
            matcher: Some(by_profile(default, profiles)),
            ..route::VirtualHost::default()
        }],
        internal_only_headers: names(&[CLUSTER_HEADER, PROFILE_HEADER, HASH_HEADER]),
        // The hash goes later: see `upstream_filters`.
        request_headers_to_remove: names(&[CLUSTER_HEADER, PROFILE_HEADER, CONNECTION_HEADER]),
        response_headers_to_remove: names(HIDDEN_RESPONSE_HEADERS),
        ..route::RouteConfiguration::default()
    }
}

/// Picks the route by the private header; the default route where there is none or it is unknown.
fn by_profile(default: &RouteProfile, profiles: &BTreeMap<String, RouteProfile>) -> matcher::Matcher {
    use matcher::matcher::matcher_tree::{MatchMap, TreeType};
    use matcher::matcher::{MatcherTree, MatcherType};

    let input = core_extension(
        "profile",
        pack_any(matcher_inputs::HttpRequestHeaderMatchInput { header_name: PROFILE_HEADER.to_owned() }),
    );
    let map = profiles.iter().map(|(name, profile)| (name.clone(), to_route(name, profile))).collect();
    matcher::Matcher {
        on_no_match: Some(Box::new(to_route("default", default))),
        // A map without entries is refused, and the default route is all there is then.
        matcher_type: (!profiles.is_empty()).then_some(MatcherType::MatcherTree(MatcherTree {
            input: Some(input),
            tree_type: Some(TreeType::ExactMatchMap(MatchMap { map })),
        })),
    }
}

/// The action that takes a route.
fn to_route(name: &str, profile: &RouteProfile) -> matcher::matcher::OnMatch {
    use matcher::matcher::on_match::OnMatch;

    matcher::matcher::OnMatch {
        keep_matching: false,
        on_match: Some(OnMatch::Action(core_extension("route", pack_any(catch_all(name, profile))))),
    }
}

/// The route of one profile.
fn catch_all(name: &str, profile: &RouteProfile) -> route::Route {
    use route::route::Action;
    use route::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier};
    use route::route_match::PathSpecifier;

    let RouteProfile { read_timeout, send_timeout } = profile;
    // The stream as a whole may be silent for a little longer than either direction, so that the answer to
    // a silent backend is the one for it.
    let idle = (*read_timeout).max(*send_timeout).saturating_add(Duration::from_secs(5));
    route::Route {
        name: name.to_owned(),
        r#match: Some(route::RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..route::RouteMatch::default()
        }),
        action: Some(Action::Route(route::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::ClusterHeader(CLUSTER_HEADER.to_owned())),
            cluster_not_found_response_code: ClusterNotFoundResponseCode::ServiceUnavailable.into(),
            // nginx has no limit for a whole exchange.
            timeout: seconds(0),
            idle_timeout: duration(idle),
            retry_policy: Some(retry_policy(*read_timeout)),
            hash_policy: vec![by_header(HASH_HEADER)],
            ..route::RouteAction::default()
        })),
        ..route::Route::default()
    }
}

/// What clusters with a hash go by.
fn by_header(name: &str) -> route::route_action::HashPolicy {
    use route::route_action::hash_policy::{Header, PolicySpecifier};

    let header = Header { header_name: name.to_owned(), ..Header::default() };
    route::route_action::HashPolicy {
        policy_specifier: Some(PolicySpecifier::Header(header)),
        ..route::route_action::HashPolicy::default()
    }
}

/// Another endpoint is tried where nothing was sent yet, whatever the method: nginx's `proxy_next_upstream
/// error` with the three tries of ingress-nginx, as far as it holds for every request.
fn retry_policy(read_timeout: Duration) -> route::RetryPolicy {
    use route::retry_policy::RetryHostPredicate;
    use route::retry_policy::retry_host_predicate::ConfigType;

    /// Besides the first.
    const TRIES: u32 = 2;
    let name = "envoy.retry_host_predicates.previous_hosts".to_owned();
    let config_type = Some(ConfigType::TypedConfig(pack_any(previous_hosts::PreviousHostsPredicate {})));
    route::RetryPolicy {
        retry_on: "connect-failure,refused-stream,reset-before-request".to_owned(),
        num_retries: number(TRIES),
        retry_host_predicate: vec![RetryHostPredicate { name, config_type }],
        host_selection_retry_max_attempts: 5,
        per_try_idle_timeout: duration(read_timeout),
        ..route::RetryPolicy::default()
    }
}

fn core_extension(name: &str, config: super::pb::Any) -> super::pb::xds_core::TypedExtensionConfig {
    super::pb::xds_core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) }
}
