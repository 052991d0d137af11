//! The engine that decides in this process: translate, compile, decide, with the code that is in the filter.
//!
//! The backends are real ones, and the request that a decision makes is sent to them, so that almost every
//! expectation can be looked at. A case that passes here and fails in Envoy points at the filter's edge or at
//! Envoy's configuration.
//!
//! What only Envoy can show is left out, by kind of expectation:
//!
//! | expectation | why |
//! |---|---|
//! | `tls` | there is no handshake |
//! | `endpoints`, `endpoint_share` | there is no load balancing: the first endpoint answers |
//! | `request_headers` of one connection, such as `Connection` and `Upgrade` | Envoy writes them |
//!
//! Cases that need dead endpoints, client certificates, terms of TLS, headers that HTTP forbids or many
//! requests at a time are not run. Of Envoy itself one thing is done here: a cluster without endpoints is
//! answered 503. Timeouts do not run, and bodies are held against their limit by the declared length only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ingress_wasm::decision::{
    Admission, AnswerPlan, CLUSTER_HEADER, CONNECTION_HEADER, Callout, CalloutAnswer, Connection, Count,
    Decision, ENDPOINT_HEADER, Edit, ErrorPlan, Forward, HeaderLine, PRIVATE_HEADERS, PROFILE_HEADER, Reply,
    RequestView, Scheme, apply_edits, takes_added_headers,
};
use ingress_wasm::limits::rate;
use ingress_wasm::policy::{
    State, ask_for_error_page, counted, decide, error_page, resume, rewrite_answer, session_cookie,
};
use ingress_wasm::router::{self, RoutingTable};
use ingress_wasm_echo::wire;
use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::manifest::{merge_into, read};
use ingress_wasm_translate::objects::Snapshot;
use ingress_wasm_translate::output::{Endpoints, Options, Translation};

use crate::case::{Ability, Case, Expect, Request};
use crate::client::{Response, Target, WireRequest, once};
use crate::engine::{Answer, Arrived, Engine, Running, Session};
use crate::envoy_engine::{arrived, server_name, who_answered, wire_request};
use crate::group::{Group, TRUSTED_PROXY};
use crate::jar::Jar;
use crate::site::{Backend, Site};

/// Headers of one connection, which Envoy takes away before a filter sees the request.
const HOP_BY_HOP: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "te", "upgrade"];

/// Runs cases in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecideEngine;

impl Engine for DecideEngine {
    fn name(&self) -> &'static str {
        "decide"
    }

    fn abilities(&self) -> BTreeSet<Ability> {
        [Ability::CookieJar, Ability::NoClusterIp, Ability::ObserveOthers, Ability::RepeatedHeaders].into()
    }

    fn visible(&self, expect: &Expect) -> Expect {
        let mut seen = Expect { tls: None, endpoints: None, endpoint_share: None, ..expect.clone() };
        seen.request_headers.retain(|(name, _)| !HOP_BY_HOP.contains(&name.to_ascii_lowercase().as_str()));
        seen
    }

    fn start(&self, group: &Group) -> Result<Box<dyn Running>, String> {
        let backends: Vec<Backend> = group.backends.values().cloned().collect();
        let site = Site::new(&backends, &group.config).map_err(|error| format!("no site: {error}"))?;
        for member in &group.cases {
            let name = format!("{}.yaml", member.case.name);
            site.write(&name, &member.case.manifests).map_err(|error| format!("{name}: {error}"))?;
        }
        let (snapshot, mut diagnostics) = load(&site).map_err(|error| format!("no manifests: {error}"))?;
        let mut translation = ingress_wasm_translate::translate(&snapshot, &Options::default());
        diagnostics.append(&mut translation.diagnostics);
        let table = router::compile(translation.config.clone())
            .map_err(|error| format!("the filter refuses the configuration: {error}"))?;
        Ok(Box::new(Decided { table, translation, diagnostics, site, counted: Mutex::default() }))
    }
}

/// Reads all manifests of a site, in the order of their names as the product does.
fn load(site: &Site) -> std::io::Result<(Snapshot, Vec<Diagnostic>)> {
    let mut paths: Vec<_> = std::fs::read_dir(site.manifests())?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    let (mut snapshot, mut diagnostics) = (Snapshot::default(), Vec::new());
    for path in paths {
        let name: Arc<str> = path.to_string_lossy().into();
        let loaded = read(&name, &std::fs::read_to_string(&path)?);
        diagnostics.extend(loaded.diagnostics);
        diagnostics.extend(merge_into(&mut snapshot, loaded.objects));
    }
    Ok((snapshot, diagnostics))
}

/// A group's table, and the backends behind it.
struct Decided {
    table: RoutingTable,
    translation: Translation,
    diagnostics: Vec<Diagnostic>,
    site: Site,
    /// What the workers of Envoy share: how fast requests came, by slot.
    counted: Mutex<BTreeMap<u16, Vec<u8>>>,
}

impl Running for Decided {
    fn session<'a>(&'a self, case: &'a Case) -> Box<dyn Session + 'a> {
        let jar = case.needs.contains(&Ability::CookieJar).then(Jar::default);
        Box::new(Client { decided: self, state: State::new([7; 32]), jar })
    }

    fn said_about(&self, case: &Case) -> Vec<String> {
        let lines = self.diagnostics.iter().map(Diagnostic::to_string);
        lines.filter(|line| line.contains(&case.name)).collect()
    }
}

/// One client, with a worker's memory.
struct Client<'a> {
    decided: &'a Decided,
    state: State,
    jar: Option<Jar>,
}

impl Session for Client<'_> {
    fn forget(&mut self) {
        self.decided.site.forget();
    }

    fn send(&mut self, request: &Request) -> Vec<Result<Answer, String>> {
        let url = &request.url;
        let cookie = self.jar.as_ref().and_then(|jar| jar.header(url.https, &url.host, &url.target));
        let answer = self.answer(request, &wire_request(request, cookie));
        if let (Some(jar), Ok(Answer { response: Some(response), .. })) = (&mut self.jar, &answer) {
            for line in response.values("Set-Cookie") {
                jar.store(&url.host, &url.target, &wire::text(line));
            }
        }
        vec![answer]
    }

    fn received(&mut self, service: &str) -> Vec<Arrived> {
        let servers = self.decided.site.servers(service).iter();
        servers.flat_map(|server| server.received()).map(arrived).collect()
    }

    fn wait_received(&mut self, service: &str, _: usize) -> Vec<Arrived> {
        // Nothing comes later than the answer: copies are sent before, and there are no other calls.
        self.received(service)
    }
}

impl Client<'_> {
    /// Decides a request, and carries the decision out.
    fn answer(&mut self, request: &Request, wire: &WireRequest) -> Result<Answer, String> {
        let decided = self.decided;
        let mut lines = envoy_lines(wire);
        if request.url.https {
            // What the listener tells of the connection; the engine is handed the rest of it below.
            let name = server_name(request);
            let name = if name.is_empty() { "-" } else { &name };
            lines.push((CONNECTION_HEADER.to_owned(), format!("https 443 - {name}")));
        }
        let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let peer = request.client_ip.map_or_else(|| "127.0.0.1".to_owned(), |_| TRUSTED_PROXY.to_string());
        let (scheme, port) = if request.url.https { (Scheme::Https, 443) } else { (Scheme::Http, 80) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let view = RequestView {
            headers: &lines,
            connection: Connection { scheme, port, peer: peer.as_bytes() },
            now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            random: now.as_nanos(),
        };
        let (callout, answer, lines, pairs);
        let mut decision = decide(&decided.table, &view, &mut self.state);
        if let Decision::Count(count) = &decision {
            let admission = decided.count(count, view.now_ms);
            decision = counted(&decided.table, &view, admission, &mut self.state);
        }
        if let Decision::Ask(asked) = &decision {
            callout = decided.call(asked);
            lines = callout.as_ref().map(answer_lines).unwrap_or_default();
            pairs = self::pairs(&lines);
            answer = callout_answer(callout.as_ref(), &pairs);
            decision = resume(&decided.table, &view, &answer, &mut self.state);
        }
        match decision {
            Decision::Ask(_) | Decision::Count(_) => Err("a service is asked for the second time".to_owned()),
            Decision::Reply(reply) => Ok(replied(&reply)),
            Decision::Forward(forward) => decided.forward(&view, forward, wire),
        }
    }
}

/// An answer of the filter's own.
fn replied(reply: &Reply<'_>) -> Answer {
    let headers = reply.headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
    let response = Response { status: reply.status, headers: headers.collect(), body: reply.body.to_vec() };
    Answer { response: Some(response), ..Answer::default() }
}

/// The header lines of an answer as Envoy shows them to a filter.
fn answer_lines(response: &Response) -> Vec<(Vec<u8>, Vec<u8>)> {
    let status = (b":status".to_vec(), response.status.to_string().into_bytes());
    let lines = response.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    std::iter::once(status).chain(lines).collect()
}

impl Decided {
    /// Counts a request. Never is more than one under way.
    fn count(&self, count: &Count, now_ms: u64) -> Admission {
        let mut slots = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(count.key.slot()).or_default();
        match rate::admit(slot, count.key, count.rates, now_ms) {
            Some(counted) => {
                *slot = counted;
                Admission::Admitted
            }
            None => Admission::TooFast,
        }
    }

    /// Sends the request that a decision makes to a backend, and edits the answer.
    fn forward(
        &self,
        view: &RequestView<'_>,
        forward: Forward<'_>,
        wire: &WireRequest,
    ) -> Result<Answer, String> {
        let Forward {
            edits,
            on_error,
            answer_rewrite,
            session,
            mut on_response,
            on_success,
            max_body_bytes: _,
            mirror,
            split: _,
        } = forward;
        self.mirror(view, &edits, mirror.as_deref(), wire)?;
        let mut answer = self.proxy(view, &edits, wire)?;
        let Some(response) = &mut answer.response else { return Ok(answer) };
        if let Some(mut plan) = on_error.filter(|plan| plan.statuses.contains(&response.status)) {
            let made_here = answer.endpoint.is_none();
            if made_here || !plan.keep_backend_errors {
                return self.replace(&mut plan, response.status);
            }
        }
        if let Some(plan) = &answer_rewrite {
            rewrite(response, plan);
        }
        if let Some(session) = session {
            let told = self.told(&edits);
            let cookie = session_cookie(&session, told.as_deref(), || false);
            on_response.extend(cookie.map(|cookie| Edit::Add("set-cookie".into(), cookie.into())));
        }
        if takes_added_headers(response.status) {
            on_response.extend(on_success);
        }
        edit(response, &on_response);
        Ok(answer)
    }

    /// What Envoy tells the filter of the endpoint that has answered: which one, where it is not the one that was asked
    /// for.
    fn told(&self, edits: &[Edit<'_>]) -> Option<Vec<u8>> {
        let value = |wanted: &str| {
            edits.iter().rev().find_map(|edit| match edit {
                Edit::Set(name, value) if name == wanted => Some(value.to_vec()),
                _ => None,
            })
        };
        let cluster = String::from_utf8(value(CLUSTER_HEADER)?).ok()?;
        let address = self.address(&cluster).ok()??.to_string();
        let told = STANDARD.encode(address).into_bytes();
        (value(ENDPOINT_HEADER).as_ref() != Some(&told)).then_some(told)
    }

    /// Sends the copy of a request to the mirror of its route, if that has one, as Envoy does.
    fn mirror(
        &self,
        view: &RequestView<'_>,
        edits: &[Edit<'_>],
        target: Option<&[u8]>,
        wire: &WireRequest,
    ) -> Result<(), String> {
        let lines: Vec<(Vec<u8>, Vec<u8>)> = apply_edits(view.headers, edits)
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.to_vec()))
            .collect();
        let profile = self.translation.route_profiles.get(&value_of(&lines, PROFILE_HEADER));
        let Some(mirror) = profile.and_then(|profile| profile.mirror.as_ref()) else { return Ok(()) };
        let Some(address) = self.address(&mirror.cluster)? else { return Ok(()) };
        let body = if mirror.body { wire.body.clone() } else { Vec::new() };
        let mut sent = wire_of(&lines, body);
        sent.headers.retain(|(name, _)| name != "host");
        sent.headers.push(("host".to_owned(), mirror.host.clone()));
        sent.target = String::from_utf8_lossy(target.unwrap_or_default()).into_owned();
        // Its answer is nobody's concern.
        let _ = once(&Target::plain(address), &sent);
        Ok(())
    }

    /// The answer that is given in place of an error.
    fn replace(&self, plan: &mut ErrorPlan, status: u16) -> Result<Answer, String> {
        let Some(callout) = ask_for_error_page(plan, status) else {
            return Ok(replied(&error_page(plan, None)));
        };
        let response = self.call(&callout);
        let lines = response.as_ref().map(answer_lines).unwrap_or_default();
        let pairs = pairs(&lines);
        let answer = callout_answer(response.as_ref(), &pairs);
        Ok(self.located(replied(&error_page(plan, Some(&answer)))))
    }

    /// Asks a service as Envoy does for the filter.
    fn call(&self, callout: &Callout<'_>) -> Option<Response> {
        let lines: Vec<(Vec<u8>, Vec<u8>)> =
            callout.headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
        let address = self.address(&callout.cluster).ok()??;
        once(&Target::plain(address), &wire_of(&lines, Vec::new())).ok()
    }

    /// An answer with the endpoint that gave it.
    fn located(&self, mut answer: Answer) -> Answer {
        let endpoint = answer.response.as_ref().and_then(who_answered);
        answer.arrived = endpoint.as_ref().and_then(|(service, endpoint, serial)| {
            let received = self.site.servers(service).get(*endpoint)?.received();
            received.into_iter().find(|received| received.serial == *serial).map(arrived)
        });
        answer.endpoint = endpoint.map(|(service, endpoint, _)| (service, endpoint));
        answer
    }

    /// Sends a request with these edits to the backend that they choose.
    fn proxy(
        &self,
        view: &RequestView<'_>,
        edits: &[Edit<'_>],
        wire: &WireRequest,
    ) -> Result<Answer, String> {
        let lines: Vec<(Vec<u8>, Vec<u8>)> = apply_edits(view.headers, edits)
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.to_vec()))
            .collect();
        let cluster = value_of(&lines, CLUSTER_HEADER);
        if self.translation.transports.contains_key(&cluster) {
            // The echo backends speak plain HTTP/1.1.
            let response = Response { status: 502, headers: Vec::new(), body: Vec::new() };
            return Ok(Answer { response: Some(response), ..Answer::default() });
        }
        let Some(address) = self.address(&cluster)? else {
            let response = Response { status: 503, headers: Vec::new(), body: Vec::new() };
            return Ok(Answer { response: Some(response), ..Answer::default() });
        };
        let sent = wire_of(&lines, wire.body.clone());
        let response = once(&Target::plain(address), &sent).map_err(|error| format!("no answer: {error}"))?;
        Ok(self.located(Answer { response: Some(response), ..Answer::default() }))
    }

    /// The first endpoint of a cluster; none where it has none.
    fn address(&self, cluster: &str) -> Result<Option<SocketAddr>, String> {
        let found = self.translation.clusters.get(cluster);
        match &found.ok_or_else(|| format!("there is no cluster {cluster:?}"))?.endpoints {
            Endpoints::Addresses(addresses) => addresses
                .first()
                .map(|endpoint| {
                    let address = endpoint.address.parse();
                    let address = address.map_err(|error| format!("{}: {error}", endpoint.address))?;
                    Ok(SocketAddr::new(address, endpoint.port))
                })
                .transpose(),
            Endpoints::Name(name) => Err(format!("only Envoy resolves {}", name.address)),
        }
    }
}

/// A request as Envoy sends it, from the header lines that the filter leaves.
fn wire_of(lines: &[(Vec<u8>, Vec<u8>)], body: Vec<u8>) -> WireRequest {
    let mut headers = vec![("host".to_owned(), value_of(lines, ":authority"))];
    for (name, value) in lines {
        let name = String::from_utf8_lossy(name).into_owned();
        if !name.starts_with(':') && !PRIVATE_HEADERS.contains(&name.as_str()) {
            headers.push((name, String::from_utf8_lossy(value).into_owned()));
        }
    }
    WireRequest { method: value_of(lines, ":method"), target: value_of(lines, ":path"), headers, body }
}

/// The first value of a header, as text; empty where there is none.
fn value_of(lines: &[(Vec<u8>, Vec<u8>)], name: &str) -> String {
    let line = lines.iter().find(|(found, _)| **found == *name.as_bytes());
    line.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// Header lines as the engine takes them.
fn pairs(lines: &[(Vec<u8>, Vec<u8>)]) -> Vec<HeaderLine<'_>> {
    lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

/// The answer of a service as the engine is told of it.
fn callout_answer<'a>(response: Option<&'a Response>, headers: &'a [HeaderLine<'a>]) -> CalloutAnswer<'a> {
    match response {
        None => CalloutAnswer::Unreachable,
        Some(response) => CalloutAnswer::Answered { headers, body: &response.body },
    }
}

/// The header lines that Envoy shows to a filter.
fn envoy_lines(wire: &WireRequest) -> Vec<(String, String)> {
    let mut lines =
        vec![(":method".to_owned(), wire.method.clone()), (":path".to_owned(), wire.target.clone())];
    for (name, value) in &wire.headers {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "host" => match lines.iter_mut().find(|(name, _)| name == ":authority") {
                // Envoy joins them.
                Some((_, hosts)) => *hosts = format!("{hosts},{value}"),
                None => lines.push((":authority".to_owned(), value.clone())),
            },
            name if HOP_BY_HOP.contains(&name) || PRIVATE_HEADERS.contains(&name) => {}
            _ => lines.push((name, value.clone())),
        }
    }
    lines
}

/// Makes the replacements in headers of an answer.
fn rewrite(response: &mut Response, plan: &AnswerPlan) {
    let lower: Vec<_> =
        response.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let lines: Vec<_> = lower.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    let lines = rewrite_answer(plan, &lines);
    response.headers = lines.into_iter().map(|(name, value)| (name.to_vec(), value.into_owned())).collect();
}

/// Applies the edits of an answer.
fn edit(response: &mut Response, edits: &[Edit<'static>]) {
    let lines = answer_lines(response);
    response.headers = apply_edits(&pairs(&lines), edits)
        .into_iter()
        .filter(|(name, _)| !name.starts_with(b":"))
        .map(|(name, value)| (name.into_owned(), value.to_vec()))
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_sees_what_envoy_shows() {
        let wire = WireRequest::new("GET", "A.example", "/x?y")
            .header("Connection", "close")
            .header("X-Many", "1")
            .header("x-many", "2")
            .header("X-Ingress-Wasm-Cluster", "evil");
        let lines: Vec<String> =
            envoy_lines(&wire).iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(lines.join(" "), ":method=GET :path=/x?y :authority=A.example x-many=1 x-many=2");
    }

    #[test]
    fn what_only_envoy_shows_is_not_asked() {
        let expect: Expect = serde_saphyr::from_str(
            "{status: 200, tls: {version: TLSv1.3}, endpoints: 2, endpoint_share: [1, 2],
              request_headers: {Upgrade: h2c, X-A: b}}",
        )
        .expect("reads");
        let visible = DecideEngine.visible(&expect);
        assert!(visible.status.is_some() && visible.tls.is_none() && visible.endpoints.is_none());
        assert!(visible.endpoint_share.is_none());
        let names: Vec<_> = visible.request_headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["X-A"]);
        assert!(!visible.is_empty());
        let expect: Expect = serde_saphyr::from_str("{tls: {version: TLSv1.3}}").expect("reads");
        assert!(DecideEngine.visible(&expect).is_empty());
    }

    #[test]
    fn cases_that_only_envoy_can_run_are_skipped() {
        let case = |needs: &str, expect: &str| {
            let text = format!(
                "- name: a\n  source: s\n  area: x\n  needs: [{needs}]\n  manifests: ''\n  requests: [{{url: \
                 'http://a/', expect: {expect}}}]\n"
            );
            crate::case::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}")).remove(0)
        };
        let cases = [
            ("", "{status: 200}", false),
            ("", "{status: 200, tls: {version: TLSv1.3}}", false),
            ("", "{tls: {version: TLSv1.3}}", true),
            ("", "{endpoints: 2, request_headers: {Connection: close}}", true),
            ("", "{}", false),
            ("cookie-jar", "{status: 200}", false),
            ("tls-options", "{status: 200}", true),
            ("dead-endpoints", "{status: 200}", true),
        ];
        for (needs, expect, skipped) in cases {
            let lacks = crate::engine::lacks(&DecideEngine, &case(needs, expect));
            assert_eq!(lacks.is_some(), skipped, "{needs}, {expect}: {lacks:?}");
        }
    }
}
