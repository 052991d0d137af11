//! Compares answers with expectations and says in words what differs.
//!
//! It knows nothing of how the answers came about.

use std::collections::BTreeMap;

use ingress_wasm_echo::wire;

use crate::case::{Count, Expect, ExpectTls, Handshake, Lines, Reached, Text};
use crate::engine::{Answer, Arrived};

/// Checks one answer. `reached` are the services, among those that a request may be forwarded to, that
/// received something: none of them may when no backend is expected.
pub fn check_answer(expect: &Expect, answer: &Answer, reached: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    check_tls(expect, answer, &mut faults);
    let status = answer.response.as_ref().map(|response| response.status);
    if let Some(allowed) = &expect.status
        && !status.is_some_and(|status| allowed.as_slice().contains(&status))
    {
        let allowed: Vec<_> = allowed.as_slice().iter().map(u16::to_string).collect();
        faults.push(format!("status: expected {}, got {}", allowed.join(" or "), or_none(status.as_ref())));
    }
    let answered = answer.endpoint.as_ref().map(|(service, _)| service);
    match &expect.backend {
        Some(Some(service)) if answered != Some(service) => {
            faults.push(format!("backend: expected {service}, but {} answered", or_none(answered)));
        }
        Some(None) if answered.is_some() => {
            faults.push(format!("backend: expected none, but {} answered", or_none(answered)));
        }
        Some(None) if !reached.is_empty() => {
            faults.push(format!("backend: expected none, but {} was reached", reached.join(", ")));
        }
        _ => {}
    }
    check_arrived(expect, answer.arrived.as_ref(), &mut faults);
    if let Some(response) = &answer.response {
        for (name, lines) in &expect.headers {
            faults.extend(check_lines(&format!("response header {name}"), lines, &response.headers, name));
        }
        if let Some(text) = &expect.body
            && !fits(text, &response.body)
        {
            faults.push(format!("body: expected {text}, got {}", shown(&response.body)));
        }
    } else if !expect.headers.is_empty() || expect.body.is_some() {
        faults.push("response: there is none to look into".to_owned());
    }
    faults
}

fn check_tls(expect: &Expect, answer: &Answer, faults: &mut Vec<String>) {
    let wanted = expect.tls.as_ref();
    let may_fail = wanted.is_some_and(|tls| tls.handshake == Some(Handshake::Failed));
    match (&answer.handshake, wanted) {
        (Some(Err(error)), _) if !may_fail => faults.push(format!("TLS handshake: {error}")),
        (Some(Ok(_)), _) if may_fail => {
            faults.push("TLS handshake: expected to fail, but it did not".to_owned())
        }
        (None, Some(_)) => faults.push("TLS handshake: there was none".to_owned()),
        (Some(Ok(facts)), Some(ExpectTls { version, alpn, certificate_cn, certificate_cn_not, .. })) => {
            let mut same = |what: &str, wanted: &Option<String>, got: Option<&String>| {
                if wanted.is_some() && wanted.as_ref() != got {
                    faults.push(format!(
                        "TLS {what}: expected {}, got {}",
                        or_none(wanted.as_ref()),
                        or_none(got)
                    ));
                }
            };
            same("version", version, Some(&facts.version));
            same("ALPN", alpn, facts.alpn.as_ref());
            same("certificate", certificate_cn, facts.certificate_cn.as_ref());
            if certificate_cn_not.is_some() && *certificate_cn_not == facts.certificate_cn {
                faults.push(format!("TLS certificate: must not be {}", or_none(certificate_cn_not.as_ref())));
            }
        }
        _ => {}
    }
}

/// Checks the request as the backend that answered received it.
fn check_arrived(expect: &Expect, arrived: Option<&Arrived>, faults: &mut Vec<String>) {
    if expect.path.is_none() && expect.method.is_none() && expect.request_headers.is_empty() {
        return;
    }
    let Some(arrived) = arrived else {
        return faults.push("request at the backend: no backend answered, nothing to look into".to_owned());
    };
    check_request(arrived, expect.method.as_ref(), expect.path.as_ref(), &expect.request_headers, faults);
}

fn check_request(
    arrived: &Arrived,
    method: Option<&String>,
    path: Option<&String>,
    headers: &[(String, Lines)],
    faults: &mut Vec<String>,
) {
    for (what, wanted, got) in [("method", method, &arrived.method), ("path", path, &arrived.target)] {
        if let Some(wanted) = wanted
            && wanted.as_bytes() != got.as_slice()
        {
            faults.push(format!("{what} at the backend: expected {wanted:?}, got {:?}", wire::text(got)));
        }
    }
    for (name, lines) in headers {
        faults.extend(check_lines(&format!("request header {name}"), lines, &arrived.headers, name));
    }
}

/// Checks the lines of one header. One expected text means exactly one line.
fn check_lines(what: &str, wanted: &Lines, headers: &[(Vec<u8>, Vec<u8>)], name: &str) -> Option<String> {
    let lines: Vec<&[u8]> = headers
        .iter()
        .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_slice())
        .collect();
    let texts = match wanted {
        Lines::Absent(()) => &[],
        Lines::One(text) => std::slice::from_ref(text),
        Lines::All(texts) => texts.as_slice(),
    };
    let fit = texts.len() == lines.len() && texts.iter().zip(&lines).all(|(text, line)| fits(text, line));
    if fit {
        return None;
    }
    let wanted: Vec<_> = texts.iter().map(Text::to_string).collect();
    let got: Vec<_> = lines.iter().map(|line| shown(line)).collect();
    Some(format!("{what}: expected {}, got {}", listed(&wanted), listed(&got)))
}

fn fits(text: &Text, bytes: &[u8]) -> bool {
    match text {
        Text::Exact(text) => text.as_bytes() == bytes,
        // An expression that gives up on a text does not match it.
        Text::Matches(pattern) => pattern.matches.0.is_match(&wire::text(bytes)).unwrap_or(false),
    }
}

/// Checks what is counted over all answers of a request that was sent several times.
pub fn check_totals(expect: &Expect, answers: &[Answer]) -> Vec<String> {
    let mut faults = Vec::new();
    let services = count(answers.iter().filter_map(|answer| Some(answer.endpoint.as_ref()?.0.clone())));
    let statuses = count(answers.iter().filter_map(|answer| Some(answer.response.as_ref()?.status)));
    let endpoints = count(answers.iter().filter_map(|answer| answer.endpoint.clone()));
    let mut within = |what: String, (least, most): (usize, usize), got: usize, all: &dyn std::fmt::Debug| {
        if got < least || got > most {
            faults.push(format!("{what}: expected {least} to {most}, got {got} of {all:?}"));
        }
    };
    for (service, bounds) in &expect.share {
        within(
            format!("answers of {service}"),
            *bounds,
            services.get(service).copied().unwrap_or(0),
            &services,
        );
    }
    for (status, bounds) in &expect.statuses {
        within(
            format!("answers with {status}"),
            *bounds,
            statuses.get(status).copied().unwrap_or(0),
            &statuses,
        );
    }
    if let Some(wanted) = expect.endpoints {
        within("endpoints that answered".to_owned(), wanted.bounds(), endpoints.len(), &endpoints);
    }
    if let Some(bounds) = expect.endpoint_share {
        for ((service, index), got) in &endpoints {
            within(format!("answers of endpoint {index} of {service}"), bounds, *got, &endpoints);
        }
    }
    faults
}

fn count<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
}

/// The bounds of how often a backend is to be reached: at least once when nothing is said.
pub fn times(reached: &Reached) -> (usize, usize) {
    reached.times.map_or((1, usize::MAX), Count::bounds)
}

/// Checks what another backend received; the last request is looked into.
pub fn check_reached(wanted: &Reached, received: &[Arrived]) -> Vec<String> {
    let mut faults = Vec::new();
    let (least, most) = times(wanted);
    if received.len() < least || received.len() > most {
        let bounds = match most {
            usize::MAX => "at least once".to_owned(),
            _ if least == most => format!("{least} times"),
            _ => format!("{least} to {most} times"),
        };
        faults.push(format!("to be reached {bounds}, but it was {} times", received.len()));
    }
    if let Some(last) = received.last() {
        let Reached { method, path, request_headers, .. } = wanted;
        check_request(last, method.as_ref(), path.as_ref(), request_headers, &mut faults);
        if let Some(text) = &wanted.body
            && !fits(text, &last.body)
        {
            faults.push(format!("body at the backend: expected {text}, got {}", shown(&last.body)));
        }
    }
    faults.iter().map(|fault| format!("{}: {fault}", wanted.backend)).collect()
}

/// An answer in a few lines, for the message of a failure.
pub fn describe(answer: &Answer) -> String {
    let mut text = String::new();
    if let Some(response) = &answer.response {
        text.push_str(&format!("HTTP {}\n", response.status));
        for (name, value) in &response.headers {
            text.push_str(&format!("{}: {}\n", wire::text(name), wire::text(value)));
        }
        text.push_str(&format!("\n{}\n", shown(&response.body)));
    }
    if let Some(arrived) = &answer.arrived {
        let (method, target) = (wire::text(&arrived.method), wire::text(&arrived.target));
        text.push_str(&format!("at the backend: {method} {target}\n"));
        for (name, value) in &arrived.headers {
            text.push_str(&format!("{}: {}\n", wire::text(name), wire::text(value)));
        }
    }
    text
}

/// Bytes for a message, shortened.
fn shown(bytes: &[u8]) -> String {
    let text = wire::text(bytes);
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{:?}… ({} bytes)", text.get(..end).unwrap_or_default(), bytes.len()),
        None => format!("{text:?}"),
    }
}

fn or_none<T: std::fmt::Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "none".to_owned(), T::to_string)
}

fn listed(values: &[String]) -> String {
    match values {
        [] => "none".to_owned(),
        [value] => value.clone(),
        values => format!("[{}]", values.join(", ")),
    }
}

#[cfg(test)]
#[path = "expect_tests.rs"]
mod tests;
