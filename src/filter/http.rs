//! The context of one request: the host calls that carry a decision out.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use log::error;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::header_map;
use super::host::{self, HostError, Map};
use super::root::Shared;
use crate::decision::{
    AnswerPlan, CONNECTION_HEADER, Connection, Decision, Edit, Forward, GENERATION_HEADER, HeaderLine, Reply,
    RequestView, Scheme, VM_HEADER, apply_edits,
};
use crate::policy::{decide, page, rewrite_answer};

/// The context of one request.
pub struct Http {
    /// None where the configuration was refused and there was none before.
    shared: Option<Rc<Shared>>,
    /// Bytes of the body that may still come; none: any number.
    body_left: Option<u64>,
    /// What is replaced in the answer's headers.
    answer_rewrite: Option<AnswerPlan>,
    /// What the answer gets.
    on_response: Vec<Edit<'static>>,
}

/// How a request reached the filter.
enum Origin<'a> {
    /// By a listener for clients.
    Client(Connection<'a>),
    /// By the probe's listener.
    Probe,
}

impl Http {
    pub fn new(shared: Option<Rc<Shared>>) -> Self {
        Http { shared, body_left: None, answer_rewrite: None, on_response: Vec::new() }
    }

    fn request_headers(&mut self, shared: &Shared) -> Result<Action, HostError> {
        let bytes = host::headers(Map::Request)?;
        let headers = header_map::decode(&bytes).unwrap_or_default();
        let properties = if shared.table.connection_header { None } else { Some(connection_properties()) };
        let origin = match &properties {
            None => origin(&headers),
            Some((scheme, port, peer)) => Origin::Client(Connection { scheme: *scheme, port: *port, peer }),
        };
        let Origin::Client(connection) = origin else { return probe(shared) };
        let now_ms = if shared.table.needs_clock() { now_ms() } else { 0 };
        let random = {
            let mut random = shared.random.borrow_mut();
            (u128::from(random.next()) << 64) | u128::from(random.next())
        };
        let request = RequestView { headers: &headers, connection, now_ms, random };
        let decision = decide(&shared.table, &request, &mut shared.state.borrow_mut());
        self.apply(&headers, decision)
    }

    fn apply(&mut self, headers: &[HeaderLine<'_>], decision: Decision<'_>) -> Result<Action, HostError> {
        match decision {
            Decision::Forward(Forward { edits, answer_rewrite, on_response, max_body_bytes }) => {
                host::set_headers(Map::Request, &header_map::encode(&apply_edits(headers, &edits)))?;
                host::clear_route_cache()?;
                self.body_left = max_body_bytes;
                self.answer_rewrite = answer_rewrite;
                self.on_response = on_response;
                Ok(Action::Continue)
            }
            Decision::Reply(reply) => {
                send(&reply)?;
                Ok(Action::Pause)
            }
        }
    }
}

impl Context for Http {}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let decided = match self.shared.clone() {
            Some(shared) => self.request_headers(&shared),
            None => send(&page(503, "not_configured")).map(|()| Action::Pause),
        };
        decided.unwrap_or_else(|HostError(status)| {
            // Nothing is let through that was not decided.
            error!("a host call failed with status {status}: the request is refused");
            let _ = send(&page(500, "host_call"));
            Action::Pause
        })
    }

    fn on_http_request_body(&mut self, size: usize, _: bool) -> Action {
        let Some(left) = self.body_left else { return Action::Continue };
        match left.checked_sub(u64::try_from(size).unwrap_or(u64::MAX)) {
            Some(left) => {
                self.body_left = Some(left);
                Action::Continue
            }
            None => {
                self.body_left = None;
                let _ = send(&page(413, "body_too_large"));
                Action::Pause
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        let plan = self.answer_rewrite.take();
        if self.on_response.is_empty() && plan.is_none() {
            return Action::Continue;
        }
        let edits = std::mem::take(&mut self.on_response);
        let edited = host::headers(Map::Response).and_then(|bytes| {
            let mut headers = header_map::decode(&bytes).unwrap_or_default();
            let rewritten = plan.map(|plan| rewrite_answer(&plan, &headers));
            if let Some(lines) = &rewritten {
                headers = lines.iter().map(|(name, value)| (*name, &**value)).collect();
            }
            host::set_headers(Map::Response, &header_map::encode(&apply_edits(&headers, &edits)))
        });
        if let Err(HostError(status)) = edited {
            error!("the headers of an answer were not edited: a host call failed with status {status}");
        }
        Action::Continue
    }
}

/// What the listener says of the connection: `SCHEME PORT ADDRESS`, in the private header that it overwrites.
/// A request without it came by no listener of ours; its connection is taken as the least trusted there is.
fn origin<'a>(headers: &[HeaderLine<'a>]) -> Origin<'a> {
    let line = headers
        .iter()
        .find(|(name, _)| *name == CONNECTION_HEADER.as_bytes())
        .map_or(&b""[..], |line| line.1);
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let (scheme, port, peer) = (fields.next(), fields.next(), fields.next());
    let scheme = match scheme {
        Some(b"probe") => return Origin::Probe,
        Some(b"https") => Scheme::Https,
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

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
