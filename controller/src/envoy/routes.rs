//! The route configuration: one route for each route profile, each of which takes every request. Which
//! cluster and which profile a request goes to, the filter says in private headers.
//!
//! Deliberately knows nothing of hosts and paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ingress_wasm_translate::jwt::PROFILE_PREFIX as JWT_PREFIX;
use ingress_wasm_translate::output::{KEPT_BACK, Mirror, NextUpstream, RouteProfile, Translation};
use ingress_wasm_translate::rate_limits::PROFILE_PREFIX as LIMIT_PREFIX;

use super::connection_manager::verified_certificate;
use super::names::{
    CERTIFICATE_HEADER, CLIENT_CERTIFICATE_FILTER, CLUSTER_HEADER, CONNECTION_HEADER, ENDPOINT_HEADER,
    HASH_HEADER, JWT_FILTER, MIRROR_BODY_HEADER, MIRROR_FOR_HEADER, MIRROR_PROPERTY, MIRROR_TARGET_HEADER,
    PROFILE_HEADER, ROUTES, SESSION_FILTER, SESSION_SUFFIX,
};
use super::pb::{
    boolean, core, duration, matcher, matcher_inputs, mutation, number, pack_any, previous_hosts, route,
    seconds,
};
use super::sessions::kept_endpoint;
use super::{jwt, rate_limits};

/// The routes that there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profiles<'a> {
    /// That of requests without a profile.
    pub default: &'a RouteProfile,
    /// The others, by name.
    pub named: &'a BTreeMap<String, RouteProfile>,
    /// There is each of them once more, with the filter for sessions.
    pub sessions: bool,
}

impl<'a> Profiles<'a> {
    /// Those of a translation.
    pub(super) fn of(translation: &'a Translation) -> Self {
        Profiles {
            default: &translation.default_profile,
            named: &translation.route_profiles,
            sessions: translation.keeps_endpoints(),
        }
    }
}

/// The server's name, which ingress-nginx takes out of a backend's answer.
const SERVER: &str = "server";

/// The route configuration for these profiles.
pub(super) fn route_configuration(
    profiles: Profiles<'_>,
    passed: &BTreeSet<String>,
) -> route::RouteConfiguration {
    let hidden: Vec<&str> =
        KEPT_BACK.iter().copied().filter(|name| !passed.contains(*name)).chain([SERVER]).collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    route::RouteConfiguration {
        name: ROUTES.to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            name: ROUTES.to_owned(),
            domains: vec!["*".to_owned()],
            matcher: Some(by_profile(profiles, true)),
            ..route::VirtualHost::default()
        }],
        internal_only_headers: names(&[CLUSTER_HEADER, PROFILE_HEADER, HASH_HEADER, ENDPOINT_HEADER]),
        // The hash goes later: see `upstream_filters`.
        request_headers_to_remove: names(&[
            CLUSTER_HEADER,
            PROFILE_HEADER,
            ENDPOINT_HEADER,
            CONNECTION_HEADER,
            CERTIFICATE_HEADER,
        ]),
        response_headers_to_remove: names(&hidden),
        ..route::RouteConfiguration::default()
    }
}

/// Picks the route by the private header; the default route where there is none or it is unknown. One that needs a
/// token or has limits and is unknown, as it may be for a moment between two configurations, is refused. `verifies`: it tells the
/// filter of clients with a good certificate.
pub(super) fn by_profile(profiles: Profiles<'_>, verifies: bool) -> matcher::Matcher {
    use matcher::matcher::matcher_tree::{MatchMap, TreeType};
    use matcher::matcher::{MatcherTree, MatcherType};

    let input = core_extension(
        "profile",
        pack_any(matcher_inputs::HttpRequestHeaderMatchInput { header_name: PROFILE_HEADER.to_owned() }),
    );
    let Profiles { default, named, sessions } = profiles;
    let plain = named.iter().map(|(name, profile)| (name.clone(), profile, false));
    let with_session = named.iter().map(|(name, profile)| (format!("{name}{SESSION_SUFFIX}"), profile, true));
    let with_session = with_session.chain([(SESSION_SUFFIX.to_owned(), default, true)]).filter(|_| sessions);
    let map: HashMap<_, _> = plain
        .chain(with_session)
        .map(|(name, profile, session)| {
            let route = by_method(&Named { name: &name, profile, session }, false);
            (name, route)
        })
        .collect();
    let refused = route::Route {
        name: "guarded-unknown".to_owned(),
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
            ..route::RouteMatch::default()
        }),
        action: Some(route::route::Action::DirectResponse(route::DirectResponseAction {
            status: 503,
            ..route::DirectResponseAction::default()
        })),
        ..route::Route::default()
    };
    let refused = matcher::matcher::OnMatch {
        keep_matching: false,
        on_match: Some(matcher::matcher::on_match::OnMatch::Action(core_extension(
            "route",
            pack_any(refused),
        ))),
    };
    let unknown = matcher::Matcher {
        on_no_match: Some(Box::new(by_method(
            &Named { name: "default", profile: default, session: false },
            verifies,
        ))),
        matcher_type: Some(MatcherType::MatcherTree(MatcherTree {
            input: Some(input.clone()),
            tree_type: Some(TreeType::PrefixMatchMap(MatchMap {
                map: [JWT_PREFIX, LIMIT_PREFIX].map(|prefix| (prefix.to_owned(), refused.clone())).into(),
            })),
        })),
    };
    if map.is_empty() {
        // A map without entries is refused.
        return unknown;
    }
    let unknown = matcher::matcher::on_match::OnMatch::Matcher(Box::new(unknown));
    matcher::Matcher {
        on_no_match: Some(Box::new(matcher::matcher::OnMatch {
            keep_matching: false,
            on_match: Some(unknown),
        })),
        matcher_type: Some(MatcherType::MatcherTree(MatcherTree {
            input: Some(input),
            tree_type: Some(TreeType::ExactMatchMap(MatchMap { map })),
        })),
    }
}

/// Methods whose requests may not be repeated once they were sent: those of nginx.
const NON_IDEMPOTENT: [&str; 3] = ["LOCK", "PATCH", "POST"];

/// A profile with the name of its route.
struct Named<'a> {
    name: &'a str,
    profile: &'a RouteProfile,
    /// With the filter for sessions.
    session: bool,
}

/// Picks the route of a profile by method, where it makes a difference to what is tried again.
fn by_method(named: &Named<'_>, default: bool) -> matcher::matcher::OnMatch {
    use matcher::matcher::matcher_tree::{MatchMap, TreeType};
    use matcher::matcher::on_match::OnMatch;
    use matcher::matcher::{MatcherTree, MatcherType};

    let usual = to_route(named, Repeat::Sent, default);
    if named.profile.next_upstream.non_idempotent {
        return usual;
    }
    let input = core_extension(
        "method",
        pack_any(matcher_inputs::HttpRequestHeaderMatchInput { header_name: ":method".to_owned() }),
    );
    let once = Named { name: &format!("{}-once", named.name), ..*named };
    let once = to_route(&once, Repeat::Unsent, default);
    let map = NON_IDEMPOTENT.iter().map(|method| ((*method).to_owned(), once.clone())).collect();
    let tree = MatcherTree { input: Some(input), tree_type: Some(TreeType::ExactMatchMap(MatchMap { map })) };
    matcher::matcher::OnMatch {
        keep_matching: false,
        on_match: Some(OnMatch::Matcher(Box::new(matcher::Matcher {
            on_no_match: Some(Box::new(usual)),
            matcher_type: Some(MatcherType::MatcherTree(tree)),
        }))),
    }
}

/// Which requests are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Those that were sent, too.
    Sent,
    /// Only those that were not sent yet.
    Unsent,
}

/// The action that takes a route. The default one has another name for clients whose certificate Envoy found
/// good: only a route can see that, and a request comes to this one before the filter has seen it.
fn to_route(named: &Named<'_>, repeat: Repeat, default: bool) -> matcher::matcher::OnMatch {
    use matcher::matcher::on_match::OnMatch;

    let route = catch_all(named, repeat);
    let route = if default {
        pack_any(route::RouteList { routes: vec![verified(route.clone()), route] })
    } else {
        pack_any(route)
    };
    matcher::matcher::OnMatch {
        keep_matching: false,
        on_match: Some(OnMatch::Action(core_extension("route", route))),
    }
}

/// The same route for clients whose certificate Envoy found good, which tells the filter so.
fn verified(mut route: route::Route) -> route::Route {
    use route::route_match::TlsContextMatchOptions;

    route.name.push_str("-verified");
    if let Some(matches) = &mut route.r#match {
        matches.tls_context =
            Some(TlsContextMatchOptions { validated: boolean(true), ..TlsContextMatchOptions::default() });
    }
    route.typed_per_filter_config.insert(CLIENT_CERTIFICATE_FILTER.to_owned(), verified_certificate());
    route
}

/// A route of one profile.
fn catch_all(named: &Named<'_>, repeat: Repeat) -> route::Route {
    use route::route::Action;
    use route::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier};
    use route::route_match::PathSpecifier;

    let Named { name, profile, session } = named;
    let RouteProfile { read_timeout, send_timeout, next_upstream, mirror, jwt, limits } = profile;
    // The stream as a whole may be silent for a little longer than either direction, and for as many tries as
    // there are, so that the answer to a silent backend is the one for it.
    let tries = if repeat == Repeat::Sent && next_upstream.timeout { next_upstream.tries } else { 1 };
    let silence = read_timeout.saturating_mul(tries).max(*send_timeout);
    let jwt = jwt.iter().map(|jwt| (JWT_FILTER.to_owned(), jwt::required(jwt)));
    let session = session.then(|| (SESSION_FILTER.to_owned(), kept_endpoint()));
    route::Route {
        name: (*name).to_owned(),
        r#match: Some(route::RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..route::RouteMatch::default()
        }),
        action: Some(Action::Route(route::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::ClusterHeader(CLUSTER_HEADER.to_owned())),
            cluster_not_found_response_code: ClusterNotFoundResponseCode::ServiceUnavailable.into(),
            // nginx has no limit for a whole exchange.
            timeout: seconds(0),
            idle_timeout: duration(silence.saturating_add(Duration::from_secs(5))),
            retry_policy: Some(retry_policy(profile, repeat)),
            hash_policy: vec![by_header(HASH_HEADER)],
            rate_limits: rate_limits::of_route(limits),
            request_mirror_policies: mirror.iter().map(mirror_policy).collect(),
            ..route::RouteAction::default()
        })),
        request_headers_to_remove: rate_limits::taken_away(limits),
        typed_per_filter_config: jwt.chain(session).collect(),
        ..route::Route::default()
    }
}

/// Sends a copy of each request elsewhere. What the copy needs to become what it has to be goes with it in headers,
/// which the filter of the mirror's cluster takes: see `upstream_filters`.
fn mirror_policy(mirror: &Mirror) -> route::route_action::RequestMirrorPolicy {
    use core::header_value_option::HeaderAppendAction;
    use mutation::header_mutation::Action;

    let set = |name: &str, value: &str| {
        Action::Append(core::HeaderValueOption {
            header: Some(core::HeaderValue {
                key: name.to_owned(),
                value: value.to_owned(),
                ..core::HeaderValue::default()
            }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..core::HeaderValueOption::default()
        })
    };
    let target = format!("%FILTER_STATE(wasm.{MIRROR_PROPERTY}:PLAIN)%");
    let mut actions = vec![
        Action::Remove(HASH_HEADER.to_owned()),
        set(MIRROR_TARGET_HEADER, &target),
        // Envoy adds an address of its own to the header of the copy.
        set(MIRROR_FOR_HEADER, "%REQ(x-forwarded-for)%"),
    ];
    if !mirror.body {
        actions.push(set(MIRROR_BODY_HEADER, "off"));
    }
    route::route_action::RequestMirrorPolicy {
        cluster: mirror.cluster.clone(),
        host_rewrite_literal: mirror.host.clone(),
        request_headers_mutations: actions
            .into_iter()
            .map(|action| mutation::HeaderMutation { action: Some(action) })
            .collect(),
        ..route::route_action::RequestMirrorPolicy::default()
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

/// When another endpoint is tried, or the only one once more. Envoy has one word, `reset`, for all that can go
/// wrong between request and answer, silence included.
fn retry_policy(profile: &RouteProfile, repeat: Repeat) -> route::RetryPolicy {
    use route::retry_policy::RetryHostPredicate;
    use route::retry_policy::retry_host_predicate::ConfigType;

    let RouteProfile { read_timeout, next_upstream, .. } = profile;
    let NextUpstream { error, timeout, invalid_header: _, statuses, non_idempotent: _, tries } =
        next_upstream;
    let mut words = Vec::new();
    if *error || *timeout {
        words.push("connect-failure");
    }
    if *error {
        words.extend(["refused-stream", "reset-before-request"]);
    }
    let mut codes = Vec::new();
    if repeat == Repeat::Sent {
        if *timeout {
            words.push("reset");
        }
        if !statuses.is_empty() {
            words.push("retriable-status-codes");
            codes.extend(statuses.iter().copied().map(u32::from));
        }
    }
    let name = "envoy.retry_host_predicates.previous_hosts".to_owned();
    let config_type = Some(ConfigType::TypedConfig(pack_any(previous_hosts::PreviousHostsPredicate {})));
    route::RetryPolicy {
        retry_on: words.join(","),
        num_retries: number(if words.is_empty() { 0 } else { tries.saturating_sub(1) }),
        retriable_status_codes: codes,
        retry_host_predicate: vec![RetryHostPredicate { name, config_type }],
        // With one endpoint there is no other: it is tried once more after these attempts to find one.
        host_selection_retry_max_attempts: 5,
        // nginx does not wait before it tries again.
        retry_back_off: Some(route::retry_policy::RetryBackOff {
            base_interval: duration(Duration::from_millis(1)),
            max_interval: duration(Duration::from_millis(10)),
        }),
        per_try_idle_timeout: duration(*read_timeout),
        ..route::RetryPolicy::default()
    }
}

fn core_extension(name: &str, config: super::pb::Any) -> super::pb::xds_core::TypedExtensionConfig {
    super::pb::xds_core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) }
}
