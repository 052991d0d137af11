//! The values at the edge of the engine: what it is told of a request, and what it decides. Data only.
//!
//! A value stands where a trait over the host could: the engine never calls out, so its tests need no
//! double, and two decisions can be compared.

use std::borrow::Cow;
use std::rc::Rc;

use crate::limits::{Key, Rate};
use crate::policy::Seal;

/// Private header that carries the chosen cluster to Envoy's `cluster_header` route.
pub const CLUSTER_HEADER: &str = "x-ingress-wasm-cluster";
/// Private header that picks the route with the settings that only a route can have.
pub const PROFILE_HEADER: &str = "x-ingress-wasm-profile";
/// Private header by whose value Envoy chooses an endpoint.
pub const HASH_HEADER: &str = "x-ingress-wasm-hash";
/// Private header that tells Envoy's filter for sessions the endpoint that a client is bound to, and in which it tells
/// which other one has answered: address and port in Base64.
pub const ENDPOINT_HEADER: &str = "x-ingress-wasm-endpoint";
/// Behind the name of a route profile: the same with Envoy's filter for sessions.
pub const SESSION_SUFFIX: &str = "+session";
/// The property that tells the route the path and query of the copy that a mirror gets.
pub const MIRROR_PROPERTY: &str = "ingress_wasm_mirror";
/// Private header in which the listener tells `SCHEME PORT ADDRESS` of the connection (see [`Connection`]), and over TLS the server
/// name that the client asked for behind a further blank; `-` where it asked for none.
pub const CONNECTION_HEADER: &str = "x-ingress-wasm-connection";
/// Private header in which the listener tells of the client's certificate, where it asks for one: see
/// [`RequestView::peer_certificate`].
pub const CERTIFICATE_HEADER: &str = "x-ingress-wasm-certificate";

/// Private headers in which the route finds what a rate limit service is told: in the first how many requests are
/// allowed, in the others the values of descriptors. Only of meaning, and only taken away, where the route has limits.
pub const LIMIT_HEADERS: [&str; 9] = [
    "x-ingress-wasm-limit",
    "x-ingress-wasm-limit-1",
    "x-ingress-wasm-limit-2",
    "x-ingress-wasm-limit-3",
    "x-ingress-wasm-limit-4",
    "x-ingress-wasm-limit-5",
    "x-ingress-wasm-limit-6",
    "x-ingress-wasm-limit-7",
    "x-ingress-wasm-limit-8",
];

/// All headers that only listener, filter and routes may write.
pub const PRIVATE_HEADERS: [&str; 6] =
    [CLUSTER_HEADER, PROFILE_HEADER, HASH_HEADER, ENDPOINT_HEADER, CONNECTION_HEADER, CERTIFICATE_HEADER];

/// [`Reply::details`] of an answer in place of an error. Envoy has to leave it alone, although the request may
/// have failed in a way for which Envoy has a page.
pub const ERROR_PAGE: &str = "error_page";

/// In the answer to a probe: the generation of the configuration that the worker serves.
pub const GENERATION_HEADER: &str = "x-ingress-wasm-generation";
/// In the answer to a probe: a random name of the worker's VM.
pub const VM_HEADER: &str = "x-ingress-wasm-vm";

/// A header line as it came: the name in lower case, both as bytes.
pub type HeaderLine<'a> = (&'a [u8], &'a [u8]);

/// What the engine knows of a request. Everything that is not in the headers, time and randomness
/// included, is looked up by the caller.
#[derive(Debug, Clone)]
pub struct RequestView<'a> {
    /// All header lines in order, Envoy's pseudo headers (`:method`, `:path`, `:authority`) included.
    pub headers: &'a [HeaderLine<'a>],
    /// The connection on which it came.
    pub connection: Connection<'a>,
    /// Milliseconds since 1970. May be 0 where [`crate::router::RoutingTable::needs_clock`] says no.
    pub now_ms: u64,
    /// Random bits, for an identifier of the request.
    pub random: u128,
}

/// The connection on which a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection<'a> {
    /// TLS or not.
    pub scheme: Scheme,
    /// The port of the listener.
    pub port: u16,
    /// Address of the peer, without a port. Where the PROXY protocol is spoken, what that says of the client and of
    /// the port it connected to stands behind it: `PEER,CLIENT,PORT`.
    pub peer: &'a [u8],
}

/// Scheme of a connection or of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl<'a> RequestView<'a> {
    /// The first value of a header; the name must be in lower case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| *value)
    }

    /// All values of a header, joined as nginx's `$http_NAME` joins them; the name must be in lower case.
    pub fn joined_header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut lines = self.headers.iter().filter(|(found, _)| *found == name.as_bytes()).map(|(_, v)| *v);
        let first = lines.next()?;
        let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
        let mut joined = first.to_vec();
        for line in std::iter::once(second).chain(lines) {
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(line);
        }
        Some(Cow::Owned(joined))
    }

    /// The server name that the client asked for when it began with TLS, in lower case, as the listener tells it
    /// in its private header: of no worth where the listener does not write that.
    pub fn server_name(&self) -> Option<&'a [u8]> {
        let name = self.header(CONNECTION_HEADER)?.splitn(4, |byte| *byte == b' ').nth(3)?;
        (name != b"-" && !name.is_empty()).then_some(name)
    }

    /// The certificate that the client has shown, as the listener tells it in its private header, in fields
    /// between tabs: `verified` or another word, the times from which and until which it is valid in seconds since
    /// 1970, issuer, subject, and the certificate itself. `-` stands for what there is not.
    pub fn peer_certificate(&self) -> Option<PeerCertificate<'a>> {
        let mut fields = self.header(CERTIFICATE_HEADER)?.splitn(6, |byte| *byte == b'\t');
        let mut next = || fields.next().map(|field| if field == b"-" { &b""[..] } else { field });
        let verified = next()? == b"verified";
        let (from, until) = (seconds(next()?), seconds(next()?));
        let (issuer, subject, pem) = (next()?, next()?, next()?);
        (!pem.is_empty()).then_some(PeerCertificate {
            verified,
            // What cannot be read is valid at no time.
            from: from.unwrap_or(u64::MAX),
            until: until.unwrap_or(0),
            issuer,
            subject,
            pem,
        })
    }

    /// The request method; empty where there is none, which no client can bring about.
    pub fn method(&self) -> &'a [u8] {
        self.header(":method").unwrap_or_default()
    }

    /// Path and query as on the wire.
    pub fn target(&self) -> &'a [u8] {
        self.header(":path").unwrap_or_default()
    }

    /// The Host as on the wire, port and case included.
    pub fn authority(&self) -> &'a [u8] {
        self.header(":authority").unwrap_or_default()
    }
}

/// The certificate of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCertificate<'a> {
    /// One of the host's authorities has signed it, and it is valid.
    pub verified: bool,
    /// The time from which it is valid, in seconds since 1970.
    pub from: u64,
    /// The time until which it is valid, in seconds since 1970.
    pub until: u64,
    /// The issuer in the form of RFC 2253.
    pub issuer: &'a [u8],
    /// The subject in the form of RFC 2253.
    pub subject: &'a [u8],
    /// The certificate as PEM, with percent signs.
    pub pem: &'a [u8],
}

fn seconds(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It goes to a backend.
    Forward(Forward<'a>),
    /// It is answered here.
    Reply(Reply<'a>),
    /// It is counted first. What comes of that goes to [`crate::policy::counted`], which decides.
    Count(Count),
    /// A service is asked first. Its answer goes to [`crate::policy::resume`], which decides.
    Ask(Callout<'a>),
}

/// What a request is counted against, over all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Who is counted.
    pub key: Key,
    /// How fast requests may come.
    pub rates: [Option<Rate>; 2],
    /// How many may be under way at the same time; none: any number. Counted back when the request ends.
    pub connections: Option<u32>,
}

/// What counting a request has come to. Where counting fails it is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is within the limits.
    Admitted,
    /// Requests come too fast.
    TooFast,
    /// Too many are under way.
    TooMany,
}

/// A request of the filter's own to a service, while the client's waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callout<'a> {
    /// The Envoy cluster.
    pub cluster: Cow<'a, str>,
    /// All header lines, Envoy's pseudo headers (`:method`, `:path`, `:authority`) included.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u32,
}

/// What a service that was asked came to say.
#[derive(Debug, Clone, Copy)]
pub enum CalloutAnswer<'a> {
    /// Its answer.
    Answered {
        /// All header lines in order, `:status` included.
        headers: &'a [HeaderLine<'a>],
        /// The body.
        body: &'a [u8],
    },
    /// It could not be asked, or did not answer in time.
    Unreachable,
}

impl<'a> CalloutAnswer<'a> {
    /// The HTTP status; none where the service could not be reached.
    pub fn status(&self) -> Option<u16> {
        let CalloutAnswer::Answered { headers, .. } = self else { return None };
        status_of(headers)
    }

    /// The header lines; empty where the service could not be reached.
    pub fn headers(&self) -> &'a [HeaderLine<'a>] {
        match self {
            CalloutAnswer::Answered { headers, .. } => headers,
            CalloutAnswer::Unreachable => &[],
        }
    }
}

/// The status among the headers of an answer.
pub fn status_of(headers: &[HeaderLine<'_>]) -> Option<u16> {
    let line = headers.iter().find(|(name, _)| *name == b":status")?.1;
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// A request that goes to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward<'a> {
    /// Changes to the request's headers, path and cluster included, in order.
    pub edits: Vec<Edit<'a>>,
    /// Largest body in bytes. A streamed body that turns out larger is answered 413.
    pub max_body_bytes: Option<u64>,
    /// What to do instead where the answer is an error.
    pub on_error: Option<Box<ErrorPlan>>,
    /// Replacements in headers of the answer, before `on_response`.
    pub answer_rewrite: Option<AnswerPlan>,
    /// The cookie that says which endpoint has answered.
    pub session: Option<SessionPlan>,
    /// Changes to the headers of the answer, in order.
    pub on_response: Vec<Edit<'static>>,
    /// As `on_response`, after it, where the answer has a status of nginx's `add_header`: [`takes_added_headers`].
    pub on_success: Vec<Edit<'static>>,
    /// Path and query of the copy that a mirror gets, see [`MIRROR_PROPERTY`].
    pub mirror: Option<Cow<'a, [u8]>>,
    /// Where the requests are divided between a Service and a canary: which of the two this one goes to.
    pub split: Option<Split>,
}

/// The cookie that binds a client to the endpoint that has answered. [`crate::policy::session_cookie`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPlan {
    /// What the address of the endpoint is sealed with.
    pub seal: Seal,
    /// The cookie up to the endpoint, and from there on.
    pub around: (Vec<u8>, Vec<u8>),
    /// When the cookie is set.
    pub when: SessionChange,
    /// The cookie that is set otherwise.
    pub otherwise: Option<Vec<u8>>,
}

/// When the cookie of a session is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionChange {
    /// Another endpoint has answered than that of the client's cookie.
    Other,
    /// Another one has, and not because the first one failed.
    Gone,
    /// Another one has, because the first one failed.
    Failed,
}

/// Which of two Services a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// To the canary.
    pub canary: bool,
    /// What decided.
    pub by: SplitBy,
}

/// What decides between a Service and its canary, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitBy {
    /// The client is bound to it by a cookie.
    Affinity,
    /// The canary's header.
    Header,
    /// The canary's cookie.
    Cookie,
    /// Chance.
    Weight,
}

/// Whether nginx's `add_header` without `always` has an effect on an answer of this status.
pub fn takes_added_headers(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301..=304 | 307 | 308)
}

/// What is done where the answer of a backend, or the one that Envoy gives in its place, is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPlan {
    /// The statuses that are replaced.
    pub statuses: Rc<[u16]>,
    /// Errors that come from a backend stay; only those that Envoy gives in its place are replaced.
    pub keep_backend_errors: bool,
    /// The service that answers instead; none: the page of nginx for 404. The status is still to be put in, see
    /// [`crate::policy::ask_for_error_page`].
    pub callout: Option<Callout<'static>>,
    /// Changes to the headers of the answer that is given instead.
    pub on_response: Vec<Edit<'static>>,
}

/// What is replaced in headers of a backend's answer: each a text and what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRewrite {
    /// The beginning of Location, and of the URL in Refresh.
    pub location: Option<(Box<str>, Box<str>)>,
    /// The domain of cookies.
    pub cookie_domain: Option<(Box<str>, Box<str>)>,
    /// The beginning of the path of cookies.
    pub cookie_path: Option<(Box<str>, Box<str>)>,
}

/// What is replaced in headers of the answer to one request. [`crate::policy::rewrite_answer`] does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPlan {
    /// The replacements.
    pub rewrite: Rc<AnswerRewrite>,
    /// Scheme and host, with which a Location that has become a path is completed.
    pub origin: Option<Box<[u8]>>,
}

/// One change to a list of headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<'a> {
    /// All lines of the name are replaced with one; an empty value takes them away, as nginx does.
    Set(Cow<'a, str>, Cow<'a, [u8]>),
    /// A further line.
    Add(Cow<'a, str>, Cow<'a, [u8]>),
    /// All lines of the name are taken away.
    Remove(Cow<'a, str>),
    /// All lines whose name begins so are taken away.
    RemoveAll(Cow<'a, str>),
    /// A change to some answers only; never one of these within.
    For(Rc<Answers>, Box<Edit<'a>>),
}

/// Which answers a change is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// Their statuses; empty: any.
    pub statuses: Box<[u16]>,
    /// Their media types, in lower case; empty: any.
    pub types: Box<[Box<str>]>,
}

impl Answers {
    /// Whether an answer is one of them.
    pub fn fits(&self, status: u16, content_type: &[u8]) -> bool {
        let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && (self.types.is_empty()
                || self.types.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(kind)))
    }
}

impl Edit<'_> {
    /// The same edit, on its own: it outlives the request's headers.
    pub fn into_owned(self) -> Edit<'static> {
        let owned = |name: Cow<'_, str>| Cow::Owned(name.into_owned());
        match self {
            Edit::Set(name, value) => Edit::Set(owned(name), Cow::Owned(value.into_owned())),
            Edit::Add(name, value) => Edit::Add(owned(name), Cow::Owned(value.into_owned())),
            Edit::Remove(name) => Edit::Remove(owned(name)),
            Edit::RemoveAll(name) => Edit::RemoveAll(owned(name)),
            Edit::For(answers, edit) => Edit::For(answers, Box::new(edit.into_owned())),
        }
    }
}

/// An answer of the filter's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<'a> {
    /// HTTP status.
    pub status: u16,
    /// Header lines, those that every answer gets included.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    /// The body.
    pub body: Cow<'a, [u8]>,
    /// Why, in a word, for Envoy's `%RESPONSE_CODE_DETAILS%` and for `explain`.
    pub details: &'static str,
}

/// Applies edits to header lines. Names compare without case; those of `headers` are in lower case.
pub fn apply_edits<'a>(headers: &[HeaderLine<'a>], edits: &'a [Edit<'_>]) -> Vec<(Cow<'a, [u8]>, &'a [u8])> {
    let mut lines: Vec<(Cow<'a, [u8]>, &'a [u8])> =
        Vec::with_capacity(headers.len().saturating_add(edits.len()));
    lines.extend(headers.iter().map(|(name, value)| (Cow::Borrowed(*name), *value)));
    for edit in edits {
        let edit = match edit {
            Edit::For(answers, edit) => {
                let kind =
                    lines.iter().find(|line| *line.0 == *b"content-type").map_or(&b""[..], |line| line.1);
                if !answers.fits(status_of(headers).unwrap_or(0), kind) {
                    continue;
                }
                edit
            }
            edit => edit,
        };
        let (Edit::Set(name, _) | Edit::Add(name, _) | Edit::Remove(name) | Edit::RemoveAll(name)) = edit
        else {
            continue;
        };
        if let Edit::RemoveAll(_) = edit {
            lines.retain(|line| !begins_with(&line.0, name));
            continue;
        }
        let same = |line: &(Cow<'a, [u8]>, &'a [u8])| is_same(&line.0, name.as_bytes());
        let first = lines.iter().position(same);
        match (edit, first) {
            (Edit::Set(_, value), Some(first)) if !value.is_empty() => {
                // Most names stand once, and then nothing has to be moved.
                let mut position = 0_usize;
                if lines.iter().skip(first.saturating_add(1)).any(same) {
                    lines.retain(|line| {
                        let keep = position <= first || !same(line);
                        position = position.saturating_add(1);
                        keep
                    });
                }
                if let Some(line) = lines.get_mut(first) {
                    line.1 = value;
                }
            }
            (Edit::Add(_, value), _) => lines.push((lower(name), value)),
            (Edit::Set(_, value), None) if !value.is_empty() => lines.push((lower(name), value)),
            (_, Some(_)) => lines.retain(|line| !same(line)),
            (_, None) => {}
        }
    }
    lines
}

/// Whether two names are the same header. Nearly all that are compared differ in length.
#[inline]
fn is_same(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len() && name.eq_ignore_ascii_case(other)
}

/// Whether the name of a header begins so; those of Envoy's pseudo headers never do.
pub fn begins_with(name: &[u8], beginning: &str) -> bool {
    let start = name.get(..beginning.len());
    !name.starts_with(b":") && start.is_some_and(|start| start.eq_ignore_ascii_case(beginning.as_bytes()))
}

/// A header name in lower case, borrowed where it is already.
fn lower(name: &str) -> Cow<'_, [u8]> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.as_bytes().to_ascii_lowercase())
    } else {
        Cow::Borrowed(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn edits_are_applied_in_order() {
        let set = |name: &'static str, value: &'static str| Edit::Set(name.into(), value.as_bytes().into());
        let add = |name: &'static str, value: &'static str| Edit::Add(name.into(), value.as_bytes().into());
        let remove = |name: &'static str| Edit::Remove(name.into());
        let headers: Vec<HeaderLine<'_>> = vec![(b":path", b"/"), (b"a", b"1"), (b"b", b"2"), (b"a", b"3")];
        let cases: [(Vec<Edit<'_>>, &str); 7] = [
            (vec![], ":path=/ a=1 b=2 a=3"),
            (vec![set("A", "x")], ":path=/ a=x b=2"),
            (vec![set("a", "")], ":path=/ b=2"),
            (vec![set("C", "x"), add("c", "y")], ":path=/ a=1 b=2 a=3 c=x c=y"),
            (vec![remove("A"), add("a", "z")], ":path=/ b=2 a=z"),
            (vec![set(":path", "/x"), remove("nobody")], ":path=/x a=1 b=2 a=3"),
            (vec![add("a", "z"), remove("a")], ":path=/ b=2"),
        ];
        for (edits, expected) in cases {
            let lines: Vec<String> = apply_edits(&headers, &edits)
                .iter()
                .map(|(n, v)| format!("{}={}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
                .collect();
            assert_eq!(lines.join(" "), expected, "{edits:?}");
        }
    }

    #[test]
    fn several_lines_are_joined() {
        let headers: Vec<HeaderLine<'_>> = vec![(b"a", b"1"), (b"b", b"2"), (b"a", b"3")];
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"::1" };
        let view = RequestView { headers: &headers, connection, now_ms: 0, random: 0 };
        assert_eq!(view.joined_header("a").as_deref(), Some(&b"1, 3"[..]));
        assert_eq!(view.joined_header("b").as_deref(), Some(&b"2"[..]));
        assert_eq!(view.joined_header("c"), None);
    }
}
