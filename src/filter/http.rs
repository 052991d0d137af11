//! The context of one request: the host calls that carry a decision out.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{error, warn};
use proxy_wasm::types::Action;

use super::header_map;
use super::host::{self, HostError, Map};
use super::limits::{self, Lease};
use super::root::Shared;
use crate::decision::{
    AnswerPlan, CONNECTION_HEADER, CalloutAnswer, Connection, Decision, ENDPOINT_HEADER, Edit, ErrorPlan,
    Forward, GENERATION_HEADER, HeaderLine, MIRROR_PROPERTY, Reply, RequestView, Scheme, SessionPlan,
    VM_HEADER, apply_edits, status_of, takes_added_headers,
};
use crate::policy::{
    ask_for_error_page, counted, decide, error_page, page, resume, rewrite_answer, session_cookie,
};

/// The context of one request.
pub struct Http {
    /// None where the configuration was refused and there was none before.
    shared: Option<Rc<Shared>>,
    /// Bytes of the body that may still come; none: any number.
    body_left: Option<u64>,
    /// What is replaced in the answer's headers.
    answer_rewrite: Option<AnswerPlan>,
    /// The cookie that says which endpoint has answered.
    session: Option<SessionPlan>,
    /// What the answer gets.
    on_response: Vec<Edit<'static>>,
    /// What it gets where it has one of certain statuses.
    on_success: Vec<Edit<'static>>,
    /// What to do instead where the answer is an error.
    on_error: Option<Box<ErrorPlan>>,
    /// What goes on when the service that was asked has answered.
    waiting: Option<Waiting>,
    /// The number of the rule whose answer is to be counted.
    counted: Option<u32>,
    /// The request counts among those under way for as long as this lives.
    lease: Option<Lease>,
}

/// A request or an answer that waits for a service.
enum Waiting {
    /// The request is not decided yet. Time and random bits are those of its first decision.
    Request { now_ms: u64, random: u128 },
    /// The answer is an error that is replaced.
    Response(Box<ErrorPlan>),
}

/// Envoy's word for an answer that a backend gave (`%RESPONSE_CODE_DETAILS%`).
const FROM_BACKEND: &[u8] = b"via_upstream";

/// What is counted for a request that went to a backend.
const FORWARD: &str = "forward";

/// How a request reached the filter.
enum Origin<'a> {
    /// By a listener for clients.
    Client(Connection<'a>),
    /// By the probe's listener.
    Probe,
}

impl Http {
    pub fn new(shared: Option<Rc<Shared>>) -> Self {
        Http {
            shared,
            body_left: None,
            answer_rewrite: None,
            session: None,
            on_response: Vec::new(),
            on_success: Vec::new(),
            on_error: None,
            waiting: None,
            counted: None,
            lease: None,
        }
    }

    fn request_headers(&mut self, shared: &Shared) -> Result<Action, HostError> {
        let now_ms = if shared.table.needs_clock() { now_ms() } else { 0 };
        let random = {
            let mut random = shared.random.borrow_mut();
            (u128::from(random.next()) << 64) | u128::from(random.next())
        };
        self.decide(shared, now_ms, random, None)
    }

    /// Decides the request, with the answer of a service if one was asked, and carries the decision out.
    fn decide(
        &mut self,
        shared: &Shared,
        now_ms: u64,
        random: u128,
        answer: Option<CalloutAnswer<'_>>,
    ) -> Result<Action, HostError> {
        let bytes = host::headers(Map::Request)?;
        let headers = header_map::decode(&bytes).unwrap_or_default();
        let properties = if shared.table.connection_header { None } else { Some(connection_properties()) };
        let origin = match &properties {
            None => origin(&headers),
            Some((scheme, port, peer)) => Origin::Client(Connection { scheme: *scheme, port: *port, peer }),
        };
        let Origin::Client(connection) = origin else { return probe(shared) };
        let request = RequestView { headers: &headers, connection, now_ms, random };
        if shared.table.log_fields && answer.is_none() {
            leave_for_log(shared, &request);
        }
        let unreachable = CalloutAnswer::Unreachable;
        let mut decision = match &answer {
            None => decide(&shared.table, &request, &mut shared.state.borrow_mut()),
            Some(answer) => resume(&shared.table, &request, answer, &mut shared.state.borrow_mut()),
        };
        if let Decision::Count(count) = &decision {
            let (admission, lease) = limits::count(count);
            self.lease = lease;
            decision = counted(&shared.table, &request, admission, &mut shared.state.borrow_mut());
        }
        if let Decision::Ask(callout) = &decision {
            match host::call(callout) {
                Ok(()) => {
                    self.waiting = Some(Waiting::Request { now_ms, random });
                    return Ok(Action::Pause);
                }
                Err(HostError(status)) => {
                    warn!("{} could not be asked: status {status}", callout.cluster);
                    let state = &mut shared.state.borrow_mut();
                    decision = resume(&shared.table, &request, &unreachable, state);
                }
            }
        }
        if shared.table.log_fields {
            leave_rule_for_log(shared);
        }
        self.apply(shared, &headers, decision)
    }

    fn apply(
        &mut self,
        shared: &Shared,
        headers: &[HeaderLine<'_>],
        decision: Decision<'_>,
    ) -> Result<Action, HostError> {
        self.counted = shared.table.statistics.then(|| shared.state.borrow().rule());
        match decision {
            // Nobody is asked or counted twice.
            Decision::Ask(_) | Decision::Count(_) => Err(HostError(-1)),
            Decision::Forward(forward) => {
                let Forward {
                    edits,
                    on_error,
                    answer_rewrite,
                    session,
                    on_response,
                    on_success,
                    max_body_bytes,
                    mirror,
                    split: _,
                } = forward;
                if let Some(target) = mirror
                    && let Err(HostError(status)) = host::set_property(MIRROR_PROPERTY, &target)
                {
                    // The copy has the path of the backend then; nothing else is lost.
                    warn!("the path for the mirror cannot be told: status {status}");
                }
                host::set_headers(Map::Request, &header_map::encode(&apply_edits(headers, &edits)))?;
                host::clear_route_cache()?;
                self.body_left = max_body_bytes;
                self.answer_rewrite = answer_rewrite;
                self.session = session;
                self.on_response = on_response;
                self.on_success = on_success;
                self.on_error = on_error;
                Ok(Action::Continue)
            }
            Decision::Reply(reply) => {
                self.reply(&reply)?;
                Ok(Action::Pause)
            }
        }
    }

    /// Answers the request here.
    fn reply(&mut self, reply: &Reply<'_>) -> Result<(), HostError> {
        self.count(reply.status, reply.details);
        send(reply)
    }

    /// Counts the request, if it is to be counted and was not yet.
    fn count(&mut self, status: u16, decision: &'static str) {
        if let (Some(rule), Some(shared)) = (self.counted.take(), &self.shared) {
            shared.counters.request(&shared.table, rule, status, decision);
        }
    }
}

impl Http {
    /// A service that was asked has answered; without headers it has not.
    pub fn on_http_call_response(&mut self, headers: usize, body: usize) {
        let (Some(waiting), Some(shared)) = (self.waiting.take(), self.shared.clone()) else { return };
        let bytes = if headers > 0 { host::headers(Map::Callout).unwrap_or_default() } else { Vec::new() };
        let lines = header_map::decode(&bytes).unwrap_or_default();
        let answered = |body| match lines.as_slice() {
            [] => CalloutAnswer::Unreachable,
            headers => CalloutAnswer::Answered { headers, body },
        };
        match waiting {
            Waiting::Request { now_ms, random } => {
                let decided = self.decide(&shared, now_ms, random, Some(answered(&[])));
                if or_refuse(decided) == Action::Continue {
                    let _ = host::continue_request();
                }
            }
            Waiting::Response(plan) => {
                let body = if body > 0 { host::callout_body(body).unwrap_or_default() } else { Vec::new() };
                let _ = self.reply(&error_page(&plan, Some(&answered(&body))));
            }
        }
    }
}

/// Nothing is let through that was not decided.
fn or_refuse(decided: Result<Action, HostError>) -> Action {
    decided.unwrap_or_else(|HostError(status)| {
        error!("a host call failed with status {status}: the request is refused");
        let _ = send(&page(500, "host_call"));
        Action::Pause
    })
}

impl Http {
    pub fn on_http_request_headers(&mut self) -> Action {
        or_refuse(match self.shared.clone() {
            Some(shared) => self.request_headers(&shared),
            None => send(&page(503, "not_configured")).map(|()| Action::Pause),
        })
    }

    pub fn on_http_request_body(&mut self, size: usize) -> Action {
        let Some(left) = self.body_left else { return Action::Continue };
        match left.checked_sub(u64::try_from(size).unwrap_or(u64::MAX)) {
            Some(left) => {
                self.body_left = Some(left);
                Action::Continue
            }
            None => {
                self.body_left = None;
                let _ = self.reply(&page(413, "body_too_large"));
                Action::Pause
            }
        }
    }

    pub fn on_http_response_headers(&mut self) -> Action {
        let plan = self.answer_rewrite.take();
        let on_error = self.on_error.take();
        if self.on_response.is_empty() && self.on_success.is_empty() && plan.is_none() && on_error.is_none() {
            if self.counted.is_some() {
                let status = host::header(Map::Response, ":status").unwrap_or_default();
                self.count(status_of(&[(b":status", &status)]).unwrap_or(0), FORWARD);
            }
            return Action::Continue;
        }
        let mut edits = std::mem::take(&mut self.on_response);
        let mut replaced = false;
        let edited = host::headers(Map::Response).and_then(|bytes| {
            let mut headers = header_map::decode(&bytes).unwrap_or_default();
            if let Some(on_error) = on_error {
                replaced = self.replace_error(on_error, &headers)?;
                if replaced {
                    return Ok(());
                }
            }
            self.count(status_of(&headers).unwrap_or(0), FORWARD);
            if status_of(&headers).is_some_and(takes_added_headers) {
                edits.append(&mut self.on_success);
            }
            if let Some(session) = self.session.take() {
                let endpoint = headers.iter().find(|(name, _)| *name == ENDPOINT_HEADER.as_bytes());
                let cookie = session_cookie(&session, endpoint.map(|line| line.1), tried_another);
                edits.extend(cookie.map(|cookie| Edit::Add("set-cookie".into(), cookie.into())));
            }
            let rewritten = plan.map(|plan| rewrite_answer(&plan, &headers));
            if let Some(lines) = &rewritten {
                headers = lines.iter().map(|(name, value)| (*name, &**value)).collect();
            }
            host::set_headers(Map::Response, &header_map::encode(&apply_edits(&headers, &edits)))
        });
        if let Err(HostError(status)) = edited {
            error!("the headers of an answer were not edited: a host call failed with status {status}");
        }
        if replaced { Action::Pause } else { Action::Continue }
    }
}

impl Http {
    /// Replaces an answer that is an error, or asks the service that does; says whether.
    fn replace_error(
        &mut self,
        mut plan: Box<ErrorPlan>,
        headers: &[HeaderLine<'_>],
    ) -> Result<bool, HostError> {
        let status = status_of(headers).filter(|status| plan.statuses.contains(status));
        let Some(status) = status else { return Ok(false) };
        let from_backend = || matches!(host::property("response\0code_details").as_deref(), Ok(FROM_BACKEND));
        if plan.keep_backend_errors && from_backend() {
            return Ok(false);
        }
        match ask_for_error_page(&mut plan, status) {
            None => self.reply(&error_page(&plan, None))?,
            Some(callout) if host::call(&callout).is_ok() => self.waiting = Some(Waiting::Response(plan)),
            Some(_) => self.reply(&error_page(&plan, Some(&CalloutAnswer::Unreachable)))?,
        }
        Ok(true)
    }
}

/// Whether Envoy has tried more than one endpoint.
fn tried_another() -> bool {
    let attempts = host::property("upstream\0request_attempt_count");
    let attempts = attempts.ok().and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
    attempts.is_some_and(|attempts| attempts > 1)
}

/// Leaves what the client sent for the access log: what a decision changes is not there any more when a line is
/// written. A field that cannot be left is missing in the log, and nothing else.
fn leave_for_log(shared: &Shared, request: &RequestView<'_>) {
    let _ = host::set_property("client", &shared.table.client.resolve(request).address);
    let _ = host::set_property("host", request.authority());
    let _ = host::set_property("target", request.target());
}

/// Leaves the rule that decided for the access log.
fn leave_rule_for_log(shared: &Shared) {
    let Some(rule) = shared.table.rule(shared.state.borrow().rule()) else { return };
    let _ = host::set_property("ingress", rule.ingress.as_bytes());
    let _ = host::set_property("rule", rule.path.as_bytes());
    let _ = host::set_property("service", rule.action.service().unwrap_or_default().as_bytes());
}

/// What the listener says of the connection: `SCHEME PORT ADDRESS …`, where a version of TLS may stand for `https`, in the private header that it overwrites.
/// A request without it came by no listener of ours; its connection is taken as the least trusted there is.
fn origin<'a>(headers: &[HeaderLine<'a>]) -> Origin<'a> {
    let line = headers
        .iter()
        .find(|(name, _)| *name == CONNECTION_HEADER.as_bytes())
        .map_or(&b""[..], |line| line.1);
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (scheme, port, peer) = (fields.next(), fields.next(), fields.next());
    let scheme = match scheme {
        Some(b"probe") => return Origin::Probe,
        Some(b"https") => Scheme::Https,
        // A gateway whose listeners share their settings tells the version of TLS instead.
        Some(version) if version.starts_with(b"TLSv") => Scheme::Https,
        _ => Scheme::Http,
    };
    let port = port.and_then(|port| std::str::from_utf8(port).ok()).and_then(|port| port.parse().ok());
    Origin::Client(Connection { scheme, port: port.unwrap_or(0), peer: peer.unwrap_or_default() })
}

/// Scheme, listener port and peer address, by properties of the host.
fn connection_properties() -> (Scheme, u16, Vec<u8>) {
    let scheme = match host::property("connection\0tls_version") {
        Ok(version) if !version.is_empty() => Scheme::Https,
        _ => Scheme::Http,
    };
    let port = host::property("destination\0port").ok().and_then(|port| {
        let port: [u8; 8] = port.try_into().ok()?;
        u16::try_from(i64::from_le_bytes(port)).ok()
    });
    let mut peer = host::property("source\0address").unwrap_or_default();
    // The property has the port behind the address.
    if let Some(colon) = peer.iter().rposition(|byte| *byte == b':') {
        peer.truncate(colon);
    }
    let bare = peer.strip_prefix(b"[").and_then(|peer| peer.strip_suffix(b"]")).map(<[u8]>::to_vec);
    (scheme, port.unwrap_or(0), bare.unwrap_or(peer))
}

/// Tells which configuration this worker serves, so that a controller can wait until all serve the newest.
fn probe(shared: &Shared) -> Result<Action, HostError> {
    let headers = vec![
        (Cow::Borrowed(GENERATION_HEADER), Cow::Borrowed(shared.table.generation.as_bytes())),
        (Cow::Borrowed(VM_HEADER), Cow::Owned(format!("{:016x}", shared.vm).into_bytes())),
        (Cow::Borrowed("x-ingress-wasm-version"), Cow::Borrowed(crate::VERSION.as_bytes())),
    ];
    send(&Reply { status: 200, headers, body: Cow::Borrowed(b""), details: "probe" })?;
    Ok(Action::Pause)
}

fn send(reply: &Reply<'_>) -> Result<(), HostError> {
    let headers: Vec<(&[u8], &[u8])> =
        reply.headers.iter().map(|(name, value)| (name.as_bytes(), &**value)).collect();
    host::send_local_response(reply.status, reply.details, &header_map::encode(&headers), &reply.body)
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
