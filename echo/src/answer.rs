//! What a request asks of the backend: a pure function from the request to the answer.
//!
//! It knows nothing of sockets and of time; a delay is a figure here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::Received;
use crate::{BACKEND_HEADER, Backend, wire};

/// The longest delay a request can ask for.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The most chunks a request can ask for.
const MOST_CHUNKS: u32 = 100_000;

/// The answer to a request, before it is framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) delay: Duration,
    /// Without the fields that frame the body.
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Whole(Vec<u8>),
    /// This many chunks with a pause between them.
    Stream {
        chunks: u32,
        pause: Duration,
    },
}

/// The JSON body of an answer.
#[derive(Serialize)]
struct Echo<'a> {
    service: &'a str,
    endpoint: usize,
    serial: u64,
    method: String,
    target: String,
    http_version: String,
    headers: Vec<(String, String)>,
    body: String,
    body_bytes: u64,
    peer: String,
}

/// One answer ordered by the header `X-Echo-Response`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ordered {
    #[serde(rename = "for")]
    service: Option<String>,
    status: Option<u16>,
    #[serde(default)]
    headers: serde_json::Map<String, serde_json::Value>,
    body: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Orders {
    One(Ordered),
    Several(Vec<Ordered>),
}

/// The answer of this backend to this request.
pub(crate) fn answer(backend: &Backend, request: &Received) -> Answer {
    let (path, query) = match request.target.iter().position(|byte| *byte == b'?') {
        Some(mark) => {
            let (path, query) = request.target.split_at(mark);
            (path, query.get(1..).unwrap_or_default())
        }
        None => (request.target.as_slice(), &b""[..]),
    };
    let status = number_after(path, b"/status/").and_then(|code| u16::try_from(code).ok());
    let delay = number_after(path, b"/delay/").map_or(Duration::ZERO, Duration::from_millis);
    let mut answer = Answer {
        status: status.filter(|code| (200..1000).contains(code)).unwrap_or(200),
        delay: delay.min(LONGEST_DELAY),
        headers: vec![identity(backend, request)],
        body: stream(path).unwrap_or_else(|| Body::Whole(echo(backend, request))),
    };
    let mut content_type = match &answer.body {
        Body::Whole(_) => "application/json",
        Body::Stream { .. } => "text/plain",
    };
    match ordered(backend, request) {
        Ok(None) => {}
        Ok(Some(order)) => {
            answer.status = order.status.filter(|code| (200..1000).contains(code)).unwrap_or(answer.status);
            answer.headers.extend(header_list(&order.headers));
            if let Some(body) = order.body {
                content_type = "text/plain";
                answer.body = Body::Whole(body.into_bytes());
            }
        }
        Err(error) => {
            // A test that gives an order which cannot be read must not look as if it had given none.
            content_type = "text/plain";
            answer.status = 400;
            answer.body = Body::Whole(format!("X-Echo-Response cannot be read: {error}\n").into_bytes());
        }
    }
    answer.headers.extend(set_headers(query));
    answer.headers.retain(|(name, _)| !frames_body(name));
    if !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"content-type")) {
        answer.headers.insert(0, (b"Content-Type".to_vec(), content_type.into()));
    }
    answer
}

/// The header that tells who answers which request.
pub(crate) fn identity(backend: &Backend, request: &Received) -> (Vec<u8>, Vec<u8>) {
    let value = format!("{}/{}/{}", backend.service, backend.endpoint, request.serial);
    (BACKEND_HEADER.into(), value.into_bytes())
}

fn echo(backend: &Backend, request: &Received) -> Vec<u8> {
    let echo = Echo {
        service: &backend.service,
        endpoint: backend.endpoint,
        serial: request.serial,
        method: wire::text(&request.method),
        target: wire::text(&request.target),
        http_version: wire::text(&request.version),
        headers: request.headers.iter().map(|(name, value)| (wire::text(name), wire::text(value))).collect(),
        body: String::from_utf8_lossy(&request.body).into_owned(),
        body_bytes: request.body_bytes,
        peer: request.peer.to_string(),
    };
    // Strings and numbers only: there is nothing in it that JSON cannot hold.
    let mut json = serde_json::to_vec_pretty(&echo).unwrap_or_default();
    json.push(b'\n');
    json
}

/// Only the answer itself may say how long its body is.
fn frames_body(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

/// The number that follows a mark in the path, up to the next slash or the end. The first place where there
/// is one counts.
fn number_after(path: &[u8], mark: &[u8]) -> Option<u64> {
    let rests = (0..path.len()).filter_map(|start| path.get(start..)?.strip_prefix(mark));
    rests.filter_map(number).next()
}

/// The number that a path element is.
fn number(path: &[u8]) -> Option<u64> {
    let element = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    if !element.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(element).ok()?.parse().ok()
}

fn stream(path: &[u8]) -> Option<Body> {
    let mark = b"/stream/";
    let rests = (0..path.len()).filter_map(|start| path.get(start..)?.strip_prefix(mark));
    rests
        .filter_map(|rest| {
            let mut elements = rest.splitn(2, |byte| *byte == b'/');
            let chunks = number(elements.next()?)?;
            let pause = Duration::from_millis(number(elements.next()?)?);
            let chunks = u32::try_from(chunks).unwrap_or(MOST_CHUNKS).min(MOST_CHUNKS);
            Some(Body::Stream { chunks, pause: pause.min(LONGEST_DELAY) })
        })
        .next()
}

/// The first order in `X-Echo-Response` that concerns this backend.
fn ordered(backend: &Backend, request: &Received) -> Result<Option<Ordered>, serde_json::Error> {
    for (name, value) in &request.headers {
        if !name.eq_ignore_ascii_case(b"x-echo-response") {
            continue;
        }
        let orders = match serde_json::from_slice(value)? {
            Orders::One(order) => vec![order],
            Orders::Several(orders) => orders,
        };
        let concerns = |order: &Ordered| order.service.as_ref().is_none_or(|name| *name == backend.service);
        if let Some(order) = orders.into_iter().find(concerns) {
            return Ok(Some(order));
        }
    }
    Ok(None)
}

/// Header lines of an order: a text, or a list of texts for as many lines.
fn header_list(headers: &serde_json::Map<String, serde_json::Value>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        let values = match value {
            serde_json::Value::Array(values) => values.as_slice(),
            single => std::slice::from_ref(single),
        };
        for value in values {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            lines.push((clean(name.as_bytes()), clean(value.as_bytes())));
        }
    }
    lines
}

/// The response headers that `set=Name:value` in the query asks for.
fn set_headers(query: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let parameters = query.split(|byte| *byte == b'&');
    parameters
        .filter_map(|parameter| {
            let line = percent_decode(parameter.strip_prefix(b"set=")?);
            let colon = line.iter().position(|byte| *byte == b':').filter(|colon| *colon > 0)?;
            let (name, value) = line.split_at(colon);
            Some((clean(name), clean(value.get(1..).unwrap_or_default().trim_ascii_start())))
        })
        .collect()
}

/// A line end inside a name or value would make another header of the rest.
fn clean(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { *byte }).collect()
}

/// Decodes `%XX`; what is not that stays as it is.
fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let digits =
            tail.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Received {
        Received {
            serial: 7,
            method: b"GET".to_vec(),
            target: target.into(),
            version: b"HTTP/1.1".to_vec(),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            body: Vec::new(),
            body_bytes: 0,
            complete: true,
            peer: ([127, 0, 0, 1], 1).into(),
        }
    }

    fn backend() -> Backend {
        Backend { service: "web".to_owned(), endpoint: 2, log: crate::Log::default() }
    }

    fn value<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
        let matching = answer.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
        matching.map(|(_, value)| std::str::from_utf8(value).unwrap()).collect()
    }

    #[test]
    fn status_and_delay_stand_anywhere_in_the_path() {
        let cases = [
            ("/", 200, 0),
            ("/status/404", 404, 0),
            ("/a/status/503/b?x=/status/404", 503, 0),
            ("/status/abc/status/201", 201, 0),
            ("/status/20", 200, 0),
            ("/status/101", 200, 0),
            ("/status/2000", 200, 0),
            ("/a?/status/404", 200, 0),
            ("/delay/1500", 200, 1500),
            ("/delay/50/status/500", 500, 50),
            ("/delay/99999999999999999999", 200, 0),
            ("/delay/9999999", 200, 60_000),
        ];
        for (target, status, delay) in cases {
            let answer = answer(&backend(), &request(target, &[]));
            assert_eq!((answer.status, answer.delay.as_millis()), (status, delay), "{target}");
        }
    }

    #[test]
    fn query_sets_headers() {
        let target = "/?set=X-A:1&other=2&set=X-A:2&set=Set-Cookie:a%3Db%3B%20Path%3D%2F&set=broken\
                      &set=Content-Length:9&set=X-Split:a%0d%0aX-B:1&set=Content-Type:text/html&set=X-P:%zz";
        let answer = answer(&backend(), &request(target, &[]));
        for (name, expected) in [
            ("X-A", &["1", "2"][..]),
            ("Set-Cookie", &["a=b; Path=/"]),
            ("Content-Length", &[]),
            ("X-B", &[]),
            ("Content-Type", &["text/html"]),
            ("X-P", &["%zz"]),
            (BACKEND_HEADER, &["web/2/7"]),
        ] {
            assert_eq!(value(&answer, name), expected, "{name}");
        }
    }

    #[test]
    fn orders_are_obeyed_by_whom_they_concern() {
        let cases = [
            (r#"{"for": "web", "status": 302, "headers": {"Location": "/x"}}"#, 302, vec!["/x"]),
            (r#"{"status": 401, "headers": {"Location": ["a", "b"]}}"#, 401, vec!["a", "b"]),
            (r#"{"for": "auth", "status": 302}"#, 200, vec![]),
            (r#"[{"for": "auth", "status": 401}, {"for": "web", "status": 204}]"#, 204, vec![]),
            (r#"{"for": "web", "stratus": 302}"#, 400, vec![]),
            ("no JSON", 400, vec![]),
        ];
        for (order, status, location) in cases {
            let answer = answer(&backend(), &request("/", &[("x-echo-response", order)]));
            assert_eq!(answer.status, status, "{order}");
            assert_eq!(value(&answer, "Location"), location, "{order}");
        }
        let body = answer(&backend(), &request("/", &[("X-Echo-Response", r#"{"body": "hello"}"#)])).body;
        assert_eq!(body, Body::Whole(b"hello".to_vec()));
    }

    #[test]
    fn streams() {
        let cases = [("/stream/3/50", Some((3, 50))), ("/a/stream/0/0/b", Some((0, 0))), ("/stream/3", None)];
        for (target, expected) in cases {
            let expected =
                expected.map(|(chunks, pause)| Body::Stream { chunks, pause: Duration::from_millis(pause) });
            assert_eq!(stream(target.as_bytes()), expected, "{target}");
        }
    }
}
