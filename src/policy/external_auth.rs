//! Authentication by another service (`auth-url`), as nginx's `auth_request` does it with the location that
//! ingress-nginx writes for it (`nginx.tmpl`).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::auth_cache::{AnswerCache, Tag};
use super::headers::{takes_host_away, unwanted};
use super::reply::{page, redirect};
use super::satisfy::Opinion;
use super::{Facts, HeaderTemplate, Template, client_certificate};
use crate::config::{AuthCache, CacheTime, ExternalAuth, PathType};
use crate::decision::{Callout, Edit, HeaderLine, PRIVATE_HEADERS, Reply, apply_edits};
use crate::router::RoutingTable;

/// How long the service may take to answer, in milliseconds: nginx's `proxy_read_timeout`, for which
/// ingress-nginx sets nothing in this location.
const TIMEOUT_MS: u32 = 60_000;

/// Headers of the client's connection and of the body that is not sent along; and those by which a client could
/// tell the service of another request than its own. nginx passes the latter on.
const NOT_SENT: [&[u8]; 13] = [
    b"connection",
    b"content-length",
    b"expect",
    b"keep-alive",
    b"proxy",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-forwarded-proto",
    b"x-original-uri",
    b"x-scheme",
];

/// With a cache nginx does not pass these on: the answer is for others too.
const CONDITIONS: [&[u8]; 6] =
    [b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"range"];

/// Headers that no answer of a service may set for a backend: they say where a message ends and what becomes
/// of its connection.
const NEVER_TAKEN: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-envoy-",
];

/// The question to the service and what becomes of its answer, compiled. See [`ExternalAuth`].
#[derive(Debug)]
pub struct ExternalAuthCheck {
    cluster: Template,
    host: Template,
    /// None: the path that nginx makes up.
    target: Option<Template>,
    method: Option<Box<str>>,
    request_redirect: Option<Template>,
    request_headers: Box<[HeaderTemplate]>,
    /// In lower case.
    response_headers: Box<[Box<str>]>,
    sign_in: Option<Template>,
    always_set_cookie: bool,
    cache: Option<(Template, Box<[CacheTime]>)>,
}

/// What is known once a service was asked, or while it is.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// It has to be asked.
    Ask(Callout<'a>),
    /// The request passes.
    Pass(Admission),
    /// It does not.
    Refuse(Reply<'a>),
}

/// What a refusal means beside other checks.
pub fn opinion(reply: Reply<'_>) -> Opinion<'_> {
    match reply.status {
        302 | 401 => Opinion::Challenged(reply),
        403 => Opinion::Refused(reply),
        _ => Opinion::Failed(reply),
    }
}

/// What a request that passes takes along.
#[derive(Debug, Default)]
pub struct Admission {
    /// Changes to the request to the backend.
    pub request: Vec<Edit<'static>>,
    /// Cookies for the client.
    pub cookies: Vec<Edit<'static>>,
    /// The client gets them whatever the status of the answer.
    pub always: bool,
}

impl ExternalAuthCheck {
    /// Compiles the settings.
    ///
    /// # Errors
    ///
    /// The field at fault, and why.
    pub fn compile(auth: ExternalAuth) -> Result<Self, (&'static str, String)> {
        let ExternalAuth {
            cluster,
            host,
            target,
            method,
            request_redirect,
            request_headers,
            response_headers,
            sign_in,
            always_set_cookie,
            cache,
        } = auth;
        let template = |field: &'static str, text: &str| match text.bytes().any(|b| b.is_ascii_control()) {
            true => Err((field, "control characters are not allowed here".to_owned())),
            false => Template::parse(text).map_err(|error| (field, error.to_string())),
        };
        let option = |field, text: Option<String>| text.map(|text| template(field, &text)).transpose();
        if !target.is_empty() && !target.starts_with('/') {
            return Err(("target", "it has to begin with a slash".to_owned()));
        }
        if method.as_ref().is_some_and(|method| !is_method(method)) {
            return Err(("method", "it is no method in capitals, or CONNECT".to_owned()));
        }
        if let Some(name) = response_headers.iter().find(|name| !may_be_taken(name)) {
            return Err(("responseHeaders", format!("the header {name:?} cannot be taken from an answer")));
        }
        let compile =
            |edit| HeaderTemplate::compile(edit).map_err(|error| ("requestHeaders", error.to_string()));
        Ok(ExternalAuthCheck {
            cluster: template("cluster", &cluster)?,
            host: template("host", &host)?,
            target: if target.is_empty() { None } else { Some(template("target", &target)?) },
            method: method.map(Into::into),
            request_redirect: option("requestRedirect", request_redirect)?,
            request_headers: request_headers.into_iter().map(compile).collect::<Result<_, _>>()?,
            response_headers: response_headers.iter().map(|name| name.to_ascii_lowercase().into()).collect(),
            sign_in: option("signIn", sign_in)?,
            always_set_cookie,
            cache: match cache {
                None => None,
                Some(AuthCache { key, times }) => Some((template("cache.key", &key)?, times.into())),
            },
        })
    }

    /// Checking looks at the time.
    pub fn needs_clock(&self) -> bool {
        let texts = [&self.target, &self.request_redirect, &self.sign_in];
        self.cache.is_some()
            || texts.into_iter().flatten().any(Template::needs_clock)
            || self.request_headers.iter().any(HeaderTemplate::needs_clock)
    }

    /// Whether the request passes, as far as it is known yet.
    pub fn check<'a>(
        &'a self,
        table: &'a RoutingTable,
        facts: &Facts<'a>,
        answers: &mut AnswerCache,
    ) -> Verdict<'a> {
        let tag = self.cache.as_ref().and_then(|(key, _)| self.tag(key, facts, answers));
        let Some(answer) = facts.answer else {
            let Some(kept) = tag.and_then(|tag| answers.get(&tag, facts.request)) else {
                return Verdict::Ask(self.question(table, facts));
            };
            let headers: Vec<HeaderLine<'_>> =
                kept.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            return self.conclude(facts, Some(kept.status), &headers);
        };
        let status = answer.status();
        if let (Some(tag), Some(status), Some((_, times))) = (tag, status, &self.cache) {
            let keeps = |name: &[u8]| name == b"www-authenticate" || self.takes(name);
            answers.remember(tag, facts.request, (status, answer.headers()), times, keeps);
        }
        self.conclude(facts, status, answer.headers())
    }

    /// The answer of a 401, whoever refuses: the redirect to the page where one signs in, if there is one.
    pub fn sign_in_instead_of<'a>(&'a self, reply: Reply<'a>, facts: &Facts<'a>) -> Reply<'a> {
        match &self.sign_in {
            Some(url) if reply.status == 401 => {
                redirect(302, url.render_header(facts).into_owned(), "sign_in")
            }
            _ => reply,
        }
    }

    /// The key of nginx's cache: the server, the location and what is configured.
    fn tag<'a>(&'a self, key: &'a Template, facts: &Facts<'a>, answers: &AnswerCache) -> Option<Tag> {
        let selected = facts.selected?;
        let path_type = [selected.rule.path_type as u8];
        answers.tag(&[
            selected.host.name.as_bytes(),
            selected.rule.path.as_bytes(),
            &path_type,
            &key.render(facts),
        ])
    }

    /// The request to the service: that of the client without its body, with what nginx tells besides.
    fn question<'a>(&'a self, table: &'a RoutingTable, facts: &Facts<'a>) -> Callout<'a> {
        let request = facts.request;
        let mut edits: Vec<Edit<'_>> = Vec::with_capacity(16);
        let set = |name: &'static str, value: Cow<'a, [u8]>| Edit::Set(Cow::Borrowed(name), value);
        unwanted(table, facts, &mut edits);
        let forwarded = table.client.trusts_headers();
        for (name, _) in request.headers {
            let told_by_client = !forwarded && name.starts_with(b"x-forwarded-");
            let condition = self.cache.is_some() && CONDITIONS.contains(name);
            let private = PRIVATE_HEADERS.iter().any(|private| private.as_bytes() == *name);
            // Those that are set below keep their places.
            let pseudo = name.starts_with(b":") && ![&b":method"[..], b":path", b":authority"].contains(name);
            if (told_by_client || condition || private || pseudo || NOT_SENT.contains(name))
                && let Ok(name) = std::str::from_utf8(name)
            {
                edits.push(Edit::Remove(Cow::Borrowed(name)));
            }
        }
        let request_id = facts.req_id();
        let method = self.method.as_deref().unwrap_or("GET");
        let redirect = match &self.request_redirect {
            Some(text) => text.render_header(facts),
            None => Cow::Borrowed(request.target()),
        };
        let scheme = request.connection.scheme.as_str().as_bytes();
        let url = [scheme, b"://", request.authority(), request.target()].concat();
        edits.extend([
            set(":method", Cow::Borrowed(method.as_bytes())),
            set(":path", self.path(facts)),
            set(":authority", self.host.render_header(facts)),
            set("x-request-id", request_id),
            set("x-original-url", Cow::Owned(url)),
            set("x-original-method", Cow::Borrowed(request.method())),
            set("x-sent-from", Cow::Borrowed(b"nginx-ingress-controller")),
            set("x-real-ip", facts.client.address.clone()),
            set("x-forwarded-for", facts.client.forwarded_for.clone()),
            set("x-auth-request-redirect", redirect),
        ]);
        if self.method.is_some() {
            edits.push(set("x-original-uri", Cow::Borrowed(request.target())));
            edits.push(set("x-scheme", Cow::Borrowed(facts.client.scheme)));
        }
        if let Some(told) = &facts.certificate {
            client_certificate::edits(told, &mut edits);
        }
        let configured = self.request_headers.iter().map(|edit| edit.render(facts));
        edits.extend(configured.filter(|edit| !takes_host_away(edit)));
        let lines = apply_edits(request.headers, &edits).into_iter().filter_map(|(name, value)| {
            Some((Cow::Owned(String::from_utf8(name.into_owned()).ok()?), Cow::Owned(value.to_vec())))
        });
        Callout {
            cluster: cluster(self.cluster.render(facts)),
            headers: lines.collect(),
            timeout_ms: TIMEOUT_MS,
        }
    }

    fn path<'a>(&'a self, facts: &Facts<'a>) -> Cow<'a, [u8]> {
        if let Some(target) = &self.target {
            return target.render_target(facts);
        }
        let mut path = String::from("/_external-auth-");
        if let Some(selected) = facts.selected {
            URL_SAFE_NO_PAD.encode_string(&*selected.rule.path, &mut path);
            path.push_str(match selected.rule.path_type {
                PathType::Exact => "-Exact",
                PathType::Prefix => "-Prefix",
            });
        }
        Cow::Owned(path.into_bytes())
    }

    fn takes(&self, name: &[u8]) -> bool {
        self.response_headers.iter().any(|taken| taken.as_bytes() == name)
    }

    /// What an answer comes to: only 2xx lets a request pass.
    fn conclude<'a>(
        &'a self,
        facts: &Facts<'a>,
        status: Option<u16>,
        headers: &[HeaderLine<'_>],
    ) -> Verdict<'a> {
        let lines = |wanted: &'static str| {
            let found = headers.iter().filter(move |(name, _)| *name == wanted.as_bytes());
            found.map(move |(_, value)| (Cow::Borrowed(wanted), Cow::Owned(value.to_vec())))
        };
        let mut reply = match status {
            Some(200..300) => return Verdict::Pass(self.admission(headers)),
            Some(401) => {
                let mut reply = page(401, "external_auth");
                reply.headers.extend(lines("www-authenticate"));
                reply
            }
            Some(403) => page(403, "external_auth"),
            _ => page(500, "external_auth_failed"),
        };
        reply = self.sign_in_instead_of(reply, facts);
        if self.always_set_cookie || reply.status == 302 {
            reply.headers.extend(lines("set-cookie"));
        }
        Verdict::Refuse(reply)
    }

    /// What the backend and the client get of an answer; of none, the headers of the client are taken away.
    pub fn admission(&self, headers: &[HeaderLine<'_>]) -> Admission {
        let values = |name: &[u8]| {
            let mut found = headers.iter().filter(|(header, _)| *header == name).map(|(_, value)| *value);
            let mut joined = found.next().unwrap_or_default().to_vec();
            for value in found {
                joined.extend_from_slice(b", ");
                joined.extend_from_slice(value);
            }
            joined
        };
        let taken = |name: &str| {
            // An empty value takes the header away: what the client sent never counts.
            Edit::Set(Cow::Owned(name.to_owned()), Cow::Owned(values(name.as_bytes())))
        };
        let cookies = headers.iter().filter(|(name, _)| *name == b"set-cookie");
        Admission {
            request: self.response_headers.iter().map(|name| taken(name)).collect(),
            cookies: cookies
                .map(|(_, value)| Edit::Add(Cow::Borrowed("set-cookie"), Cow::Owned(value.to_vec())))
                .collect(),
            always: self.always_set_cookie,
        }
    }
}

/// The name of a cluster as text; one that is none leads nowhere.
fn cluster(name: Cow<'_, [u8]>) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(std::str::from_utf8(name).unwrap_or_default()),
        Cow::Owned(name) => Cow::Owned(String::from_utf8(name).unwrap_or_default()),
    }
}

/// CONNECT asks for a tunnel, for which Envoy's requests of a filter are not made.
fn is_method(method: &str) -> bool {
    !method.is_empty() && method != "CONNECT" && method.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether a header of an answer may go to the backend (`auth-response-headers`).
pub fn may_be_taken(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !lower.is_empty()
        && lower.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !lower.starts_with("x-ingress-wasm-")
        && !NEVER_TAKEN.iter().any(|never| match never.strip_suffix('-') {
            Some(_) => lower.starts_with(never),
            None => lower == *never,
        })
}

#[cfg(test)]
#[path = "external_auth_tests.rs"]
mod tests;
