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
    Callout, CalloutAnswer, Decision, ERROR_PAGE, Edit, ErrorPlan, Forward, PRIVATE_HEADERS, Reply,
    apply_edits,
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
        let mut reply = page(404, ERROR_PAGE);
        super::reply::edit(&mut reply, on_response);
        return Some(Decision::Reply(reply));
    };
    let mut edits = edits(table, policies, cluster, facts);
    edits.push(Edit::Set(Cow::Borrowed("x-code"), Cow::Owned(status.to_string().into_bytes())));
    let on_response = on_response.into_iter().map(Edit::into_owned).collect();
    let forward = Forward {
        edits,
        on_response,
        on_success: Vec::new(),
        on_error: None,
        answer_rewrite: None,
        session: None,
        max_body_bytes: None,
        mirror: None,
        split: None,
    };
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
        None => page(404, ERROR_PAGE),
        Some(answer @ CalloutAnswer::Answered { headers, body }) => {
            let lines = headers.iter().filter(|(name, _)| is_passed_on(name));
            let lines = lines.filter_map(|(name, value)| {
                Some((Cow::Borrowed(std::str::from_utf8(name).ok()?), Cow::Borrowed(*value)))
            });
            Reply {
                status: answer.status().unwrap_or(502),
                headers: lines.collect(),
                body: Cow::Borrowed(body),
                details: ERROR_PAGE,
            }
        }
        Some(CalloutAnswer::Unreachable) => page(502, ERROR_PAGE),
    };
    let edits = plan.on_response.to_vec();
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
    if let Some(auth) = &policies.api_key {
        auth.hide_header(&mut edits);
    }
    tell(facts, &mut edits);
    edits.push(Edit::Remove(Cow::Borrowed("x-code")));
    let request = facts.request;
    edits.push(Edit::Set(Cow::Borrowed("x-original-uri"), Cow::Borrowed(request.target())));
    let path = match facts.query {
        Some(query) => Cow::Owned([b"/?", query].concat()),
        None => Cow::Borrowed(&b"/"[..]),
    };
    edits.push(Edit::Set(Cow::Borrowed(":path"), path));
    if let Some(auth) = &policies.api_key {
        auth.hide_parameter(facts, &mut edits);
    }
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

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::config::from_slice;
    use crate::decision::{CLUSTER_HEADER, Connection, HeaderLine, RequestView, Scheme};
    use crate::policy::{State, decide};
    use crate::router::compile;

    /// Decides `GET /p?q=1` with forged headers, and hands on the decision.
    fn decided<T>(pages: &str, rest: &str, action: &str, then: impl FnOnce(Decision<'_>) -> T) -> T {
        let config = format!(
            r#"{{"version":1,"credentials":{{"n/u":{{"users":{{"ann":"{{PLAIN}}secret"}}}}}},
            "policies":[{{"errorPages":{pages}{rest}}}],"hosts":[{{"name":"h","rules":[
            {{"ingress":"n/i","path":"/","policies":0,"action":{action}}}]}}]}}"#
        );
        let table = compile(from_slice(config.as_bytes()).expect(&config)).expect(&config);
        let headers: [HeaderLine<'_>; 8] = [
            (b":method", b"POST"),
            (b":path", b"/p?q=1"),
            (b":authority", b"h"),
            (b"accept", b"text/html"),
            (b"x-code", b"999"),
            (b"x-service-name", b"forged"),
            (b"content-length", b"5"),
            (b"x-other", b"\xff"),
        ];
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"::1" };
        let request = RequestView { headers: &headers, connection, now_ms: 0, random: 0 };
        then(decide(&table, &request, &mut State::new([0; 32])))
    }

    const FORWARD: &str = r#"{"forward":{"cluster":"n/s:80"}}"#;
    const PAGES: &str = r#"{"statuses":[401,503],"cluster":"n/errors:80"}"#;

    fn text<N: AsRef<[u8]>, V: AsRef<[u8]>>(lines: impl IntoIterator<Item = (N, V)>, name: &str) -> String {
        let values = lines.into_iter().filter(|(found, _)| found.as_ref() == name.as_bytes());
        let values = values.map(|(_, value)| String::from_utf8_lossy(value.as_ref()).into_owned());
        values.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn errors_of_its_own_are_forwarded() {
        let auth = r#","basicAuth":{"credentials":"n/u"}"#;
        let missing = r#"{"respond":{"status":503}}"#;
        let stand_in = r#"{"standIn":{"cluster":"n/errors:80","service":"n/s:80"}}"#;
        let denied = r#","denied":"why""#;
        let nowhere = r#"{"statuses":[401,503]}"#;
        let cases = [
            (PAGES, auth, FORWARD, "forward n/errors:80 /?q=1 code 401 uri /p?q=1 service s:80"),
            (PAGES, "", missing, "forward n/errors:80 /?q=1 code 503 uri /p?q=1 service :"),
            (PAGES, "", stand_in, "forward n/errors:80 /p?q=1 code 503 uri  service s:80"),
            (PAGES, "", FORWARD, "forward n/s:80 /p?q=1 code 999 uri  service forged:"),
            (PAGES, denied, FORWARD, "503"),
            (nowhere, auth, FORWARD, "404"),
        ];
        for (pages, rest, action, expected) in cases {
            let found = decided(pages, rest, action, |decision| match decision {
                Decision::Forward(forward) => {
                    let lines: [HeaderLine<'_>; 3] =
                        [(b":path", b"/p?q=1"), (b"x-code", b"999"), (b"x-service-name", b"forged")];
                    let lines = apply_edits(&lines, &forward.edits);
                    let value = |name| text(lines.iter().cloned(), name);
                    format!(
                        "forward {} {} code {} uri {} service {}:{}",
                        value(CLUSTER_HEADER),
                        value(":path"),
                        value("x-code"),
                        value("x-original-uri"),
                        value("x-service-name"),
                        value("x-service-port")
                    )
                }
                Decision::Reply(reply) => reply.status.to_string(),
                Decision::Ask(callout) => panic!("{callout:?}"),
                Decision::Count(count) => panic!("{count:?}"),
            });
            assert_eq!(found, expected, "{pages} {rest} {action}");
        }
    }

    #[test]
    fn errors_of_backends_are_replaced() {
        decided(PAGES, "", FORWARD, |decision| {
            let Decision::Forward(forward) = decision else { panic!("{decision:?}") };
            let mut plan = forward.on_error.expect("a plan");
            assert_eq!(&*plan.statuses, [401, 503]);
            let callout = ask_for_error_page(&mut plan, 503).expect("a Service to ask");
            assert_eq!(callout.cluster, "n/errors:80");
            let expected = [
                (":method", "POST"),
                (":path", "/?q=1"),
                ("x-code", "503"),
                ("x-format", "text/html"),
                ("x-namespace", "n"),
                ("x-ingress-name", "i"),
                ("x-service-name", "s"),
                ("x-original-uri", "/p?q=1"),
                ("x-other", "\u{fffd}"),
                ("content-length", ""),
                (CLUSTER_HEADER, ""),
            ];
            for (name, value) in expected {
                let lines = callout.headers.iter().map(|(name, value)| (name.as_bytes(), value));
                assert_eq!(text(lines, name), value, "{name}");
            }
            let headers: [HeaderLine<'_>; 4] =
                [(b":status", b"418"), (b"content-length", b"3"), (b"x-a", b"b"), (b"server", b"s")];
            let reply = error_page(&plan, Some(&CalloutAnswer::Answered { headers: &headers, body: b"tea" }));
            let lines: Vec<_> = reply.headers.iter().map(|(name, _)| name.as_ref()).collect();
            assert_eq!((reply.status, &*reply.body, lines), (418, &b"tea"[..], vec!["x-a"]));
            assert_eq!(error_page(&plan, Some(&CalloutAnswer::Unreachable)).status, 502);
        });
        decided(r#"{"statuses":[503]}"#, "", FORWARD, |decision| {
            let Decision::Forward(forward) = decision else { panic!("{decision:?}") };
            let mut plan = forward.on_error.expect("a plan");
            assert_eq!(ask_for_error_page(&mut plan, 503), None);
            assert_eq!(error_page(&plan, None).status, 404);
        });
    }
}
