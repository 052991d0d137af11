//! Errors that a Service answers instead (`custom-http-errors`), and Services that answer for one without
//! endpoints (`default-backend`), as the locations `@custom_…` of ingress-nginx's `nginx.tmpl` do.
//!
//! An error of the filter's own makes a request to that Service of the client's: it is forwarded. One that
//! comes as an answer is replaced: the filter asks the Service by itself, without the body of the request,
//! which is gone by then.

use std::borrow::Cow;
use std::rc::Rc;

use super::headers::{response_edits, standard_edits};
use super::{Facts, page};
use crate::decision::{
    Callout, CalloutAnswer, Decision, Edit, ErrorPlan, Forward, PRIVATE_HEADERS, Reply, apply_edits,
};
use crate::router::{CompiledErrorPages, CompiledPolicies, RoutingTable};

/// How long the Service may take to answer, in milliseconds: nginx's default for what ingress-nginx sets no
/// timeout for.
const TIMEOUT_MS: u32 = 60_000;

/// Headers of the body that is not sent along, and of the client's connection.
const NOT_SENT: [&[u8]; 10] = [
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"expect",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// What becomes of a request that the filter answers with `status`; none where that answer stands.
pub fn instead_of<'a>(
    table: &'a RoutingTable,
    policies: &'a CompiledPolicies,
    facts: &Facts<'a>,
    status: u16,
) -> Option<Decision<'a>> {
    let pages = policies.error_pages.as_ref().filter(|pages| pages.statuses.contains(&status))?;
    let on_response = response_edits(table, None, facts);
    let Some(cluster) = &pages.cluster else {
        let mut reply = page(404, "error_page");
        super::reply::edit(&mut reply, on_response);
        return Some(Decision::Reply(reply));
    };
    let mut edits = edits(table, policies, cluster, facts);
    edits.push(Edit::Set(Cow::Borrowed("x-code"), Cow::Owned(status.to_string().into_bytes())));
    let on_response = on_response.into_iter().map(Edit::into_owned).collect();
    let forward = Forward { edits, on_response, on_error: None, answer_rewrite: None, max_body_bytes: None };
    Some(Decision::Forward(forward))
}

/// What is done where the answer to a request is an error.
pub fn plan(table: &RoutingTable, policies: &CompiledPolicies, facts: &Facts<'_>) -> Option<Box<ErrorPlan>> {
    let CompiledErrorPages { statuses, cluster, keep_backend_errors } = policies.error_pages.as_ref()?;
    let callout = cluster.as_ref().map(|cluster| {
        let edits = edits(table, policies, cluster, facts);
        let lines = apply_edits(facts.request.headers, &edits).into_iter();
        let sent = lines.filter(|(name, _)| !is_withheld(name)).filter_map(|(name, value)| {
            Some((Cow::Owned(String::from_utf8(name.into_owned()).ok()?), Cow::Owned(value.to_vec())))
        });
        Callout {
            cluster: Cow::Owned(cluster.as_ref().to_owned()),
            headers: sent.collect(),
            timeout_ms: TIMEOUT_MS,
        }
    });
    Some(Box::new(ErrorPlan {
        statuses: Rc::clone(statuses),
        keep_backend_errors: *keep_backend_errors,
        callout,
        on_response: response_edits(table, None, facts).into_iter().map(Edit::into_owned).collect(),
    }))
}

/// The request to the Service for an answer with this status; none where there is no Service to ask.
pub fn ask_for_error_page(plan: &mut ErrorPlan, status: u16) -> Option<Callout<'static>> {
    let mut callout = plan.callout.take()?;
    callout.headers.push((Cow::Borrowed("x-code"), Cow::Owned(status.to_string().into_bytes())));
    Some(callout)
}

/// The answer that the client gets in place of an error: that of the Service, 502 where it gave none, and 404
/// where there is no Service, in which case nobody was asked.
pub fn error_page<'a>(plan: &'a ErrorPlan, answer: Option<&CalloutAnswer<'a>>) -> Reply<'a> {
    let mut reply = match answer {
        None => page(404, "error_page"),
        Some(answer @ CalloutAnswer::Answered { headers, body }) => {
            let lines = headers.iter().filter(|(name, _)| is_passed_on(name));
            let lines = lines.filter_map(|(name, value)| {
                Some((Cow::Borrowed(std::str::from_utf8(name).ok()?), Cow::Borrowed(*value)))
            });
            Reply {
                status: answer.status().unwrap_or(502),
                headers: lines.collect(),
                body: Cow::Borrowed(body),
                details: "error_page",
            }
        }
        Some(CalloutAnswer::Unreachable) => page(502, "error_page_unreachable"),
    };
    let edits = plan.on_response.iter().cloned().collect();
    super::reply::edit(&mut reply, edits);
    reply
}

/// Tells a Service that it answers for another, which has no endpoints.
pub fn tell_stand_in<'a>(facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
    edits.push(Edit::Set(Cow::Borrowed("x-code"), Cow::Borrowed(b"503")));
    tell(facts, edits);
}

/// All changes to the request that goes to the Service, but for the status.
fn edits<'a>(
    table: &'a RoutingTable,
    policies: &'a CompiledPolicies,
    cluster: &'a str,
    facts: &Facts<'a>,
) -> Vec<Edit<'a>> {
    let mut edits = standard_edits(table, facts);
    if policies.basic_auth.is_some() {
        edits.push(Edit::Remove(Cow::Borrowed("authorization")));
    }
    tell(facts, &mut edits);
    let request = facts.request;
    edits.push(Edit::Set(Cow::Borrowed("x-original-uri"), Cow::Borrowed(request.target())));
    let path = match facts.query {
        Some(query) => Cow::Owned([b"/?", query].concat()),
        None => Cow::Borrowed(&b"/"[..]),
    };
    edits.push(Edit::Set(Cow::Borrowed(":path"), path));
    super::headers::choose(cluster, "", &mut edits);
    edits
}

/// Tells a Service of the rule in whose place it answers.
fn tell<'a>(facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
    let set = |name: &'static str, value: Cow<'a, [u8]>| Edit::Set(Cow::Borrowed(name), value);
    let rule = facts.selected.map(|selected| selected.rule);
    let ingress = rule.and_then(|rule| rule.ingress.split_once('/')).unwrap_or_default();
    let service = rule.and_then(|rule| rule.action.service()).and_then(|service| service.rsplit_once(':'));
    let (service, port) = service.unwrap_or_default();
    let service = service.split_once('/').map_or("", |(_, name)| name);
    let format = facts.request.joined_header("accept").unwrap_or_default();
    edits.extend([
        set("x-format", format),
        set("x-namespace", Cow::Borrowed(ingress.0.as_bytes())),
        set("x-ingress-name", Cow::Borrowed(ingress.1.as_bytes())),
        set("x-service-name", Cow::Borrowed(service.as_bytes())),
        set("x-service-port", Cow::Borrowed(port.as_bytes())),
    ]);
}

fn is_withheld(name: &[u8]) -> bool {
    NOT_SENT.contains(&name) || PRIVATE_HEADERS.iter().any(|private| private.as_bytes() == name)
}

/// Whether a header of the Service's answer goes to the client: not those of its connection, and not those
/// that tell the length of the body, which Envoy writes.
fn is_passed_on(name: &[u8]) -> bool {
    const DROPPED: [&[u8]; 6] =
        [b"connection", b"content-length", b"keep-alive", b"server", b"transfer-encoding", b"trailer"];
    !name.starts_with(b":") && !name.starts_with(b"x-envoy-") && !DROPPED.contains(&name)
}
