//! From a request and its rule to a decision: the policies, in the order in which ingress-nginx evaluates
//! them. A policy that protects and cannot be evaluated refuses.
//!
//! Each thing that is checked or changed has a file of its own. A new policy is a field of
//! [`crate::config::PolicySet`], a compiled form in the table, a file here, and a line in `decide_rule`.
//!
//! Deliberately knows nothing of how a rule was found, of the host, of I/O, clocks and randomness.

mod access;
mod admit;
mod affinity;
mod answer;
mod api_key;
mod auth_cache;
mod balance;
mod basic_auth;
mod client;
mod client_certificate;
mod cors;
mod endpoint;
mod error_pages;
mod external_auth;
mod global_limit;
mod headers;
mod limits;
mod network;
mod redirect;
mod reply;
mod rewrite;
mod satisfy;
pub mod script;
mod sizes;
mod template;

#[cfg(test)]
mod balance_tests;
#[cfg(all(test, not(target_family = "wasm")))]
mod properties;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use admit::Refusal;
pub use affinity::session_cookie;
pub use answer::rewrite_answer;
pub use api_key::{ApiKeyCheck, ApiKeys};
use auth_cache::AnswerCache;
pub use basic_auth::challenge;
pub use client::{Client, ClientAddress};
use client_certificate::Verdict;
pub use cors::Cors;
pub use endpoint::Seal;
pub use error_pages::{ask_for_error_page, error_page};
pub use external_auth::{ExternalAuthCheck, may_be_taken};
pub use headers::{HeaderTemplate, InvalidHeader};
pub use network::{Network, NetworkSet};
pub use reply::page;
use rewrite::Rewritten;
pub use satisfy::{Opinion, Satisfy};
use script::Outcome;
pub use template::{Scope, Template, UnknownVariable};

use balance::Choice;

use crate::decision::{
    Admission, CLUSTER_HEADER, CalloutAnswer, Decision, ENDPOINT_HEADER, Edit, Forward, HASH_HEADER, Reply,
    RequestView, Scheme,
};
use crate::regex;
use crate::router::path::{Target, parse_target};
use crate::router::{
    self, CompiledAction, CompiledPolicies, PathMatch, RoutingTable, Scratch, Selected, Selection,
};

/// What outlives a request: reusable memory, and passwords that were verified before.
#[derive(Debug)]
pub struct State {
    scratch: Scratch,
    expressions: regex::Scratch,
    passwords: basic_auth::Passwords,
    answers: AnswerCache,
    rule: u32,
}

impl State {
    /// An empty state. `key` is random and keeps what is remembered of passwords from being guessed.
    pub fn new(key: [u8; 32]) -> Self {
        State {
            scratch: Scratch::default(),
            expressions: <_>::default(),
            passwords: basic_auth::Passwords::new(key),
            answers: AnswerCache::new(key),
            rule: 0,
        }
    }

    /// The number of the rule that the last request was decided by ([`RoutingTable::rule`]); 0 where it had none.
    pub fn rule(&self) -> u32 {
        self.rule
    }
}

/// A request with all that was found out about it.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The request.
    pub request: &'a RequestView<'a>,
    /// The normalised path.
    pub path: Cow<'a, [u8]>,
    /// The query, without its `?`.
    pub query: Option<&'a [u8]>,
    /// Who sent it.
    pub client: Client<'a>,
    /// The rule; none where the host or the path is unknown.
    pub selected: Option<Selected<'a>>,
    /// What is told of the client's certificate; none where the host asks for none.
    pub certificate: Option<client_certificate::Told<'a>>,
    /// The request gets the page for clients without a certificate: the path is not its own.
    pub is_error_page: bool,
    /// What the service said that was asked about the request; none where none was asked yet.
    pub answer: Option<&'a CalloutAnswer<'a>>,
    /// How far the scripts have come; none where none was run.
    pub script: Option<Box<script::Running<'a>>>,
    /// What counting the request has come to; none where it was not counted yet.
    pub admission: Option<Admission>,
    /// A request without an identifier gets none.
    pub no_request_id: bool,
}

impl<'a> Facts<'a> {
    /// The query that the request has by now, without its `?`; empty where there is none.
    pub fn args(&self) -> &[u8] {
        let rewritten = self.script.as_ref().and_then(|script| script.query());
        rewritten.or(self.query).unwrap_or_default()
    }

    /// The identifier of the request: what the client says (X-Request-ID), else one of its own. ingress-nginx's
    /// `$req_id`.
    pub fn req_id(&self) -> Cow<'a, [u8]> {
        match self.request.header("x-request-id") {
            Some(id) if !id.is_empty() => Cow::Borrowed(id),
            _ if self.no_request_id => Cow::Borrowed(b""),
            _ => Cow::Owned(self.request_id().to_vec()),
        }
    }

    /// An identifier that the client has no say in: 32 hexadecimal digits, as nginx's `$request_id`.
    pub fn request_id(&self) -> [u8; 32] {
        let mut id = [b'0'; 32];
        let mut rest = self.request.random;
        for digit in id.iter_mut().rev() {
            *digit = b"0123456789abcdef".get((rest & 15) as usize).copied().unwrap_or(b'0');
            rest >>= 4;
        }
        id
    }
}

/// Decides a request.
pub fn decide<'a>(table: &'a RoutingTable, request: &'a RequestView<'a>, state: &mut State) -> Decision<'a> {
    decide_with(table, request, None, None, state)
}

/// Decides a request that was counted. Table and request have to be those of the decision that had it counted.
pub fn counted<'a>(
    table: &'a RoutingTable,
    request: &'a RequestView<'a>,
    admission: Admission,
    state: &mut State,
) -> Decision<'a> {
    decide_with(table, request, Some(admission), None, state)
}

/// Decides a request about which a service was asked, now that it has answered. Table and request, time and
/// random bits included, have to be those of the decision that asked: what was decided before is not carried
/// along but decided again, since that is cheap beside a call. It is not counted again: nobody is asked about a request
/// that was not admitted.
pub fn resume<'a>(
    table: &'a RoutingTable,
    request: &'a RequestView<'a>,
    answer: &'a CalloutAnswer<'a>,
    state: &mut State,
) -> Decision<'a> {
    decide_with(table, request, Some(Admission::Admitted), Some(answer), state)
}

fn decide_with<'a>(
    table: &'a RoutingTable,
    request: &'a RequestView<'a>,
    admission: Option<Admission>,
    service: Option<&'a CalloutAnswer<'a>>,
    state: &mut State,
) -> Decision<'a> {
    state.rule = 0;
    let client = table.client.resolve(request);
    let unread = |client| Facts {
        request,
        path: Cow::Borrowed(b"/"),
        query: None,
        client,
        selected: None,
        certificate: None,
        is_error_page: false,
        answer: service,
        script: None,
        admission,
        no_request_id: table.no_request_id,
    };
    if let Some(reply) = sizes::check(table.header_buffers, request) {
        return answer(table, &unread(client), None, reply);
    }
    if request.header(":authority").is_some_and(|host| !router::is_valid_host(host)) {
        return answer(table, &unread(client), None, page(400, "invalid_host"));
    }
    let Ok(Target { path, query }) = parse_target(request.target()) else {
        return answer(table, &unread(client), None, page(400, "invalid_path"));
    };
    let mut facts = Facts {
        request,
        path,
        query,
        client,
        selected: None,
        certificate: None,
        is_error_page: false,
        answer: service,
        script: None,
        admission,
        no_request_id: table.no_request_id,
    };
    if let Some(block) = &table.block
        && access::is_blocked(block, request, &mut state.expressions)
    {
        return answer(table, &facts, None, page(403, "blocked"));
    }
    let mut selection = router::select(table, request.authority(), &facts.path, &mut state.scratch);
    let host = selection.host();
    if let Some(settings) = host.and_then(|host| host.client_certificate.as_deref()) {
        match client_certificate::check(settings, table, request) {
            Verdict::Pass(told) => facts.certificate = Some(told),
            Verdict::Answer(reply) => return answer(table, &facts, None, reply),
            Verdict::Page(path, told) => {
                let path = path.as_bytes();
                facts = Facts {
                    path: Cow::Borrowed(path),
                    query: None,
                    certificate: Some(told),
                    is_error_page: true,
                    ..facts
                };
                selection = router::select(table, request.authority(), path, &mut state.scratch);
            }
        }
    }
    if let Some(to) = host.and_then(|host| host.redirect_to.as_deref()) {
        let location = redirect::to_host(to, table, &facts);
        let reply = reply::redirect(table.redirect_status, location, "host_redirect");
        return answer(table, &facts, None, reply);
    }
    if let Some(script) = host.and_then(|host| host.script.as_ref()) {
        match script::run(script, &mut facts, false, &mut state.expressions) {
            Outcome::Reply(reply) => return answer(table, &facts, None, reply),
            // A rewrite holds whether or not it ends the script: a rule is yet to be chosen.
            _ if facts.script.as_ref().is_some_and(|script| script.moved) => {
                selection = router::select(table, request.authority(), &facts.path, &mut state.scratch);
            }
            _ => {}
        }
    }
    if *facts.path == *b"/"
        && let Some(app_root) = host.and_then(|host| host.app_root.as_deref())
    {
        let location =
            [facts.request.connection.scheme.as_str().as_bytes(), b"://", request.authority()].concat();
        let location = [&location, app_root.as_bytes()].concat();
        return answer(table, &facts, None, reply::redirect(302, location, "app_root"));
    }
    decide_selection(table, facts, selection, 0, state)
}

/// Most times that a rule is chosen anew for a request, as in nginx.
const MAX_HOPS: u8 = 10;

/// Decides a request for which a rule has been looked for, the `hops`th time after the first.
fn decide_selection<'a>(
    table: &'a RoutingTable,
    mut facts: Facts<'a>,
    selection: Selection<'a>,
    hops: u8,
    state: &mut State,
) -> Decision<'a> {
    let authority = facts.request.authority();
    let selection = match selection.host() {
        Some(host) if !host.locations.is_empty() => {
            router::locate(table, authority, &facts.path, selection, &mut state.expressions)
        }
        _ => selection,
    };
    match selection {
        // The catch-all server of ingress-nginx answers the health checks of load balancers.
        Selection::UnknownHost if *facts.path == *b"/healthz" => {
            answer(table, &facts, None, reply::empty(200, "healthz"))
        }
        Selection::UnknownHost => answer(table, &facts, None, page(404, "unknown_host")),
        Selection::NoRule(_) => answer(table, &facts, None, page(404, "no_rule")),
        Selection::LimitExceeded(_) => answer(table, &facts, None, page(500, "expression_limit")),
        Selection::Refuse(selected) => {
            facts.selected = Some(selected);
            answer(table, &facts, None, page(503, "broken_expression"))
        }
        Selection::Rule(selected) => {
            facts.selected = Some(selected);
            decide_rule(table, facts, selected, hops, state)
        }
    }
}

/// Decides a request that has a rule.
fn decide_rule<'a>(
    table: &'a RoutingTable,
    mut facts: Facts<'a>,
    selected: Selected<'a>,
    hops: u8,
    state: &mut State,
) -> Decision<'a> {
    let request = facts.request;
    state.rule = selected.rule.number;
    let policies = &*selected.rule.policies;
    // nginx redirects before it looks at anything else of the location.
    if selected.path_match == PathMatch::MissingSlash {
        let location = redirect::with_slash(&facts, &selected.rule.path, policies.relative_redirects);
        return answer(table, &facts, None, reply::redirect(301, location, "missing_slash"));
    }
    if policies
        .max_body_bytes
        .is_some_and(|most| declared_length(request).is_some_and(|length| length > most))
    {
        return refuse(table, &facts, policies, page(413, "body_too_large"));
    }
    if policies.denied.is_some() {
        return answer(table, &facts, None, page(503, "denied"));
    }
    if let Some(reply) = policies.cors.as_ref().and_then(|cors| cors.preflight(&facts)) {
        return refuse(table, &facts, policies, reply);
    }
    if let Some(redirect) = &policies.redirect {
        let reply = redirect::configured(redirect, policies.relative_redirects, &facts);
        return refuse(table, &facts, policies, reply);
    }
    if let Some(script) = &policies.script {
        match script::run(script, &mut facts, policies.relative_redirects, &mut state.expressions) {
            Outcome::On => {}
            Outcome::Reply(reply) => return refuse(table, &facts, policies, reply),
            Outcome::Relocate if hops < MAX_HOPS => {
                let selection = router::select(table, request.authority(), &facts.path, &mut state.scratch);
                return decide_selection(table, facts, selection, hops.saturating_add(1), state);
            }
            Outcome::Relocate => return refuse(table, &facts, policies, page(500, "rewrite_cycle")),
        }
    }
    let refuse = |reply| refuse(table, &facts, policies, reply);
    let ended = facts.script.as_ref().is_some_and(|script| script.ended);
    let rewrite = policies.rewrite.as_ref().filter(|_| !ended);
    let rewritten = rewrite.map(|rewrite| rewrite::rewrite(rewrite, &facts));
    let path = match rewritten {
        Some(Rewritten::Elsewhere(location)) => return refuse(reply::redirect(302, location, "rewrite")),
        Some(Rewritten::Target { target, forwarded_prefix }) => Some((target, forwarded_prefix)),
        None | Some(Rewritten::Unchanged) if facts.is_error_page => Some((facts.path.to_vec(), None)),
        None | Some(Rewritten::Unchanged) => None,
    };
    if let Some(redirect) = policies.tls_redirect
        && let Some(location) = redirect::to_tls(redirect, table, &facts)
    {
        return refuse(reply::redirect(table.redirect_status, location, "tls_redirect"));
    }
    if let CompiledAction::Respond { status: status @ 500..600, .. } = &selected.rule.action {
        return refuse(page(*status, "no_backend"));
    }
    if let Some(limits) = &policies.limits {
        match limits::check(limits, table, &facts, &selected) {
            limits::Verdict::Passed => {}
            limits::Verdict::Count(count) => return Decision::Count(count),
            limits::Verdict::Refused(reply) => return refuse(reply),
        }
    }
    let admission = match admit::admit(table, &facts, policies, state) {
        Ok(admission) => admission,
        Err(Refusal::Ask(callout)) => return Decision::Ask(callout),
        Err(Refusal::Reply(reply)) => return refuse(reply),
    };
    let (cluster, balancing, stands_in) = match &selected.rule.action {
        CompiledAction::Forward { cluster, balancing, .. } => (cluster, balancing.as_deref(), false),
        CompiledAction::StandIn { cluster, .. } => (cluster, None, true),
        CompiledAction::Respond { status, .. } => return refuse(page(*status, "respond")),
    };
    let Choice { cluster, hash, cookie, endpoint, session, split } =
        balance::choose(balancing, cluster, &facts, &mut state.scratch);
    let mut edits = headers::request_edits(table, policies, cluster, &facts);
    edits.extend(hash.map(|hash| Edit::Set(Cow::Borrowed(HASH_HEADER), Cow::Owned(hash.to_vec()))));
    let keeps_endpoint = endpoint.is_some() || session.is_some();
    if keeps_endpoint {
        headers::keep_endpoint(endpoint, policies.route_profile.as_deref(), &mut edits);
    }
    if let Some(suffix) = &policies.tls_cluster_suffix
        && request.connection.scheme == Scheme::Https
    {
        let other = [cluster.as_bytes(), suffix.as_bytes()].concat();
        edits.push(Edit::Set(Cow::Borrowed(CLUSTER_HEADER), Cow::Owned(other)));
    }
    if stands_in {
        error_pages::tell_stand_in(&facts, &mut edits);
    }
    if facts.is_error_page && request.method() != b"HEAD" {
        edits.push(Edit::Set(Cow::Borrowed(":method"), Cow::Borrowed(b"GET")));
    }
    if let Some((target, forwarded_prefix)) = path {
        edits.push(Edit::Set(Cow::Borrowed(":path"), Cow::Owned(target)));
        edits.extend(forwarded_prefix.map(|prefix| Edit::Set(Cow::Borrowed("x-forwarded-prefix"), prefix)));
    } else if let Some(target) = script::target(&facts) {
        edits.push(Edit::Set(Cow::Borrowed(":path"), Cow::Owned(target)));
    }
    if let Some(auth) = &policies.api_key {
        auth.hide_parameter(&facts, &mut edits);
    }
    let on_response = headers::response_edits(table, Some(policies), &facts);
    let on_response = on_response.into_iter().map(Edit::into_owned);
    let cookie = cookie.map(|cookie| Edit::Add(Cow::Borrowed("set-cookie"), Cow::Owned(cookie)));
    let told = keeps_endpoint.then_some(Edit::Remove(Cow::Borrowed(ENDPOINT_HEADER)));
    let mut on_response: Vec<_> = on_response.chain(cookie).chain(told).collect();
    edits.extend(admission.request);
    let on_success = if admission.always {
        on_response.extend(admission.cookies);
        Vec::new()
    } else {
        admission.cookies
    };
    let answer_rewrite = answer::plan(policies, &facts);
    let on_error = error_pages::plan(table, policies, &facts);
    Decision::Forward(Forward {
        edits,
        on_error,
        on_response,
        on_success,
        answer_rewrite,
        session,
        max_body_bytes: policies.max_body_bytes,
        mirror: policies.mirror.as_ref().map(|mirror| {
            api_key::without_key(policies.api_key.as_ref(), mirror.target.render_header(&facts))
        }),
        split,
    })
}

/// An answer of the filter's own to a request that has a rule; where it is an error that a Service answers
/// instead, the request goes there.
fn refuse<'a>(
    table: &'a RoutingTable,
    facts: &Facts<'a>,
    policies: &'a CompiledPolicies,
    reply: Reply<'a>,
) -> Decision<'a> {
    match error_pages::instead_of(table, policies, facts, reply.status) {
        Some(decision) => decision,
        None => answer(table, facts, Some(policies), reply),
    }
}

/// An answer of the filter's own, with the headers that every answer gets.
fn answer<'a>(
    table: &'a RoutingTable,
    facts: &Facts<'a>,
    policies: Option<&'a CompiledPolicies>,
    mut reply: Reply<'a>,
) -> Decision<'a> {
    reply::edit(&mut reply, headers::response_edits(table, policies, facts));
    Decision::Reply(reply)
}

/// Content-Length of a request. Envoy refuses what is not a number.
fn declared_length(request: &RequestView<'_>) -> Option<u64> {
    std::str::from_utf8(request.header("content-length")?).ok()?.trim().parse().ok()
}
