//! A second opinion on what came through Envoy: what `ingress-wasm explain` says of the same request.
//!
//! It knows nothing of cases and of what they expect. Left alone is what a single request and its manifests
//! cannot tell: a limit that has been reached, a service that did not agree, an endpoint that is dead, what
//! TLS had agreed on, a canary that is chosen by chance; and what is no request to Envoy in the first place.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::case::Request;
use crate::client::WireRequest;
use crate::engine::Answer;
use crate::group::TRUSTED_PROXY;

/// How `explain` differs from an answer that came through Envoy, if it does.
///
/// # Errors
///
/// When `explain` does not answer.
pub(crate) fn disagreement(
    binary: &Path,
    manifests: &Path,
    request: &Request,
    wire: &WireRequest,
    answer: &Answer,
) -> Result<Option<String>, String> {
    let Some(response) = &answer.response else { return Ok(None) };
    if request.client_cert.is_some() || names_another_host(request, wire) || is_malformed(wire) {
        return Ok(None);
    }
    let explanation = explain(binary, manifests, request, wire)?;
    // What the stand-in for the product says; the product never does.
    if explanation.is_null() {
        return Ok(None);
    }
    let outcome = &explanation["outcome"];
    let counted = explanation["counted"] == true;
    let asked = !explanation["asks"].is_null();
    if let Some(status) = outcome["reply"]["status"].as_u64() {
        let same = status == u64::from(response.status) && answer.arrived.is_none();
        return Ok((!same && !counted && !asked).then(|| difference(&explanation, answer)));
    }
    let forward = &outcome["forward"];
    let Some(arrived) = &answer.arrived else {
        // Nobody got it. Whether a backend was to be asked, the status of a dead one tells.
        let plausible = counted || asked || !forward["errorPages"].is_null() || response.status >= 500;
        return Ok((!plausible).then(|| difference(&explanation, answer)));
    };
    if !forward["errorPages"].is_null() {
        return Ok(None);
    }
    let by_chance = !forward["division"]["canary"].is_null();
    let target = forward["target"].as_str().unwrap_or_default();
    let method = forward["method"].as_str().unwrap_or_default();
    let service = forward["service"].as_str().unwrap_or_default();
    let same = target.as_bytes() == arrived.target
        && method.as_bytes() == arrived.method
        && (by_chance || answer.endpoint.as_ref().is_some_and(|(name, _)| is_service(service, name)));
    Ok((!same).then(|| difference(&explanation, answer)))
}

/// Whether TLS was agreed on for another host than the one that is asked.
fn names_another_host(request: &Request, wire: &WireRequest) -> bool {
    let asked = wire.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Host"));
    request.url.https
        && (request.tls.sni.is_some() || asked.is_some_and(|(_, host)| *host != request.url.host))
}

/// Whether Envoy's parser refuses the request: two hosts, or no one length (RFC 9112, sections 3.2 and 6.3).
fn is_malformed(wire: &WireRequest) -> bool {
    let count =
        |wanted: &str| wire.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).count();
    count("Host") > 1 || count("Content-Length") + count("Transfer-Encoding") > 1
}

/// Whether `namespace/name:port` is this Service.
fn is_service(explained: &str, name: &str) -> bool {
    let service = explained.split_once('/').map_or(explained, |(_, service)| service);
    service.split(':').next() == Some(name)
}

fn difference(explanation: &Value, answer: &Answer) -> String {
    let status = answer.response.as_ref().map(|response| response.status);
    let arrived = answer.arrived.as_ref().map(|arrived| {
        format!("{} {}", String::from_utf8_lossy(&arrived.method), String::from_utf8_lossy(&arrived.target))
    });
    format!(
        "`explain` differs from Envoy: {} at {:?}, status {status:?}, against {}",
        arrived.unwrap_or_else(|| "no backend".to_owned()),
        answer.endpoint,
        explanation["outcome"],
    )
}

fn explain(binary: &Path, manifests: &Path, request: &Request, wire: &WireRequest) -> Result<Value, String> {
    let scheme = if request.url.https { "https" } else { "http" };
    let from = if request.client_ip.is_some() { TRUSTED_PROXY } else { Ipv4Addr::LOCALHOST };
    let mut command = Command::new(binary);
    command.arg("explain").args(["--format", "json", "--ingress-class", "nginx"]);
    command.args(["--config-map", "ingress-nginx/ingress-nginx-controller"]);
    command.arg("--from").arg(IpAddr::V4(from).to_string());
    let (method, host, target) = (&request.method, &request.url.host, &request.url.target);
    command.arg("--request").arg(format!("{method} {scheme}://{host}{target}"));
    for (name, value) in &wire.headers {
        command.arg("-H").arg(format!("{name}: {value}"));
    }
    let output = command.arg(manifests).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`explain` cannot be started: {error}"))?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        format!("`explain` gives no answer: {error}; {}", String::from_utf8_lossy(&output.stderr))
    })
}
