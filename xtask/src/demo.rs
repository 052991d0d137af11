//! `cargo xtask demo`: the product with the manifests of `envoy/demo`, a few requests to look at, and then
//! it stays up to be tried by hand.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::args::{self, Arg, Args};
use crate::http::{self, Response};
use crate::product::{self, Listen};
use crate::ui::{self, Style};
use crate::{envoy, process, repository, tools};

/// The manifests, in the repository.
pub const MANIFESTS: &str = "envoy/demo";

/// The requests and what must come of them, in the repository.
const REQUESTS: &str = "envoy/requests.json";

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

const HELP: &str = "\
Builds everything, serves the manifests of envoy/demo through a local Envoy with built-in backends, shows
the requests of envoy/requests.json with what came back, and stays up until Ctrl-C.

Usage: cargo xtask demo [OPTIONS]

Options:
  --check         end after the requests; status 1 if one went wrong
  --free-ports    listen on free ports (the usual are 8080, 8443, 9901; a taken one is replaced anyway)
  --http ADDR     listen there for HTTP, e.g. 127.0.0.1:8080
  --https ADDR    listen there for HTTPS
  --admin ADDR    Envoy's administration listens there";

/// `cargo xtask demo`
pub fn run(mut args: Args) -> Result<bool> {
    let (mut check, mut free) = (false, false);
    let (mut http, mut https, mut admin) = (None, None, None);
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) => match name.as_str() {
                "--check" => check = true,
                "--free-ports" => free = true,
                "--http" => http = Some(args.value(&name)?),
                "--https" => https = Some(args.value(&name)?),
                "--admin" => admin = Some(args.value(&name)?),
                _ => return Err(args::unknown("demo", &Arg::Option(name)).into()),
            },
            word => return Err(args::unknown("demo", &word).into()),
        }
    }
    tools::targets()?;
    let envoy = envoy::find()?;
    let binary = product::build()?;
    let listen = if free {
        let Listen { http: free_http, https: free_https, admin: free_admin } = Listen::FREE;
        Listen {
            http: http.unwrap_or(free_http),
            https: https.unwrap_or(free_https),
            admin: admin.unwrap_or(free_admin),
        }
    } else {
        Listen::usual(http, https, admin)
    };
    let interrupted = process::interrupts()?;
    Ok(serve(&binary, &envoy, listen, !check, &interrupted)?.failed == 0)
}

/// How many requests went as they should.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// As expected.
    pub passed: u32,
    /// Otherwise.
    pub failed: u32,
}

/// Serves the demo and shows the requests; with `stay`, until the person has seen enough.
pub fn serve(
    binary: &Path,
    envoy: &Path,
    listen: Listen,
    stay: bool,
    interrupted: &Arc<AtomicBool>,
) -> Result<Tally> {
    let samples = samples()?;
    let manifests = repository::root().join(MANIFESTS);
    let further = ["--demo-backends".as_ref(), manifests.as_os_str()];
    let mut running = product::serve(binary, envoy, listen, &further, interrupted)?;
    ui::heading(&format!("{MANIFESTS} is served after {}", ui::seconds(running.took)));
    println!("  HTTP   http://{}", running.http);
    if let Some(https) = running.https {
        println!("  HTTPS  https://{https}");
    }
    ui::heading("requests");
    let mut tally = Tally::default();
    for sample in &samples {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        match show(sample, running.http) {
            true => tally.passed += 1,
            false => tally.failed += 1,
        }
    }
    println!("\n{} as expected, {} not", tally.passed, tally.failed);
    if stay {
        if let Some(sample) = samples.first() {
            ui::heading("try it yourself");
            println!("  {}", sample.curl(running.http));
            println!("  Manifests: {MANIFESTS}; a changed file is served at once. Ctrl-C ends it.\n");
        }
        running.server.until_interrupted()?;
        eprintln!("ending …");
    }
    running.server.stop()?;
    Ok(tally)
}

/// A request and what must come of it. The words are those of the conformance cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    /// What it shows.
    name: String,
    #[serde(default = "get")]
    method: String,
    /// `http://HOST/PATH?QUERY`; the path goes on the wire as it stands here.
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// `USER:PASSWORD`, sent by basic authentication.
    #[serde(default)]
    user: Option<String>,
    expect: Expect,
}

/// What must come of a request; what is not named is not looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: u16,
    /// The Service that answers; null: none may be reached.
    #[serde(default, deserialize_with = "present")]
    backend: Option<Option<String>>,
    /// Path and query that the backend gets.
    #[serde(default)]
    path: Option<String>,
    /// Headers that the backend gets; null: absent.
    #[serde(default)]
    request_headers: BTreeMap<String, Option<String>>,
    /// Headers of the answer; null: absent.
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
}

fn get() -> String {
    "GET".to_owned()
}

/// Tells `null` from a field that is not there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Sample {
    /// Host and request target.
    fn split(&self) -> Option<(&str, &str)> {
        let rest = self.url.strip_prefix("http://")?;
        Some(match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        })
    }

    fn send(&self, address: SocketAddr) -> Result<Response> {
        let (host, target) = self.split().context("its url is not http://HOST/PATH")?;
        let mut headers: Vec<(String, String)> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(user) = &self.user {
            headers.push(("authorization".to_owned(), format!("Basic {}", BASE64_STANDARD.encode(user))));
        }
        http::request(address, &self.method, host, target, &headers, LIMIT)
            .with_context(|| format!("no answer from {address}"))
    }

    /// A command that sends the same request.
    fn curl(&self, address: SocketAddr) -> String {
        let (host, target) = self.split().unwrap_or((&self.url, "/"));
        let mut command = "curl -i".to_owned();
        if self.method != "GET" {
            command += &format!(" -X {}", self.method);
        }
        if let Some(user) = &self.user {
            command += &format!(" -u '{user}'");
        }
        command += &format!(" -H 'Host: {host}'");
        for (name, value) in &self.headers {
            command += &format!(" -H '{name}: {value}'");
        }
        command + &format!(" 'http://{address}{target}'")
    }
}

fn samples() -> Result<Vec<Sample>> {
    let text =
        fs::read_to_string(repository::root().join(REQUESTS)).with_context(|| format!("read {REQUESTS}"))?;
    let samples: Vec<Sample> = serde_json::from_str(&text).with_context(|| format!("read {REQUESTS}"))?;
    if samples.is_empty() {
        bail!("{REQUESTS} holds no request");
    }
    Ok(samples)
}

/// Sends one request and prints what came of it; true if it is what was expected.
fn show(sample: &Sample, address: SocketAddr) -> bool {
    let answer = sample.send(address);
    let faults = match &answer {
        Ok(response) => faults(&sample.expect, response),
        Err(error) => vec![format!("{error:#}")],
    };
    let mark =
        if faults.is_empty() { ui::paint(Style::Good, "ok   ") } else { ui::paint(Style::Bad, "WRONG") };
    let user =
        sample.user.as_ref().map(|user| format!("  (as {})", user.split(':').next().unwrap_or_default()));
    println!("\n{mark}  {}", ui::paint(Style::Bold, &sample.name));
    println!("       {} {}{}", sample.method, sample.url, user.unwrap_or_default());
    for (name, value) in &sample.headers {
        println!("       {name}: {value}");
    }
    if let Ok(response) = &answer {
        for line in account(&sample.expect, response) {
            println!("       {line}");
        }
    }
    for fault in &faults {
        println!("       {}", ui::paint(Style::Bad, fault));
    }
    faults.is_empty()
}

/// What came back, in words.
fn account(expect: &Expect, response: &Response) -> Vec<String> {
    let mut lines = Vec::new();
    match Received::read(response) {
        Some(received) => {
            lines.push(format!(
                "→ {} from {}, which got {}",
                response.status,
                received.service(),
                received.target
            ));
            for name in expect.request_headers.keys() {
                let values = received.header(name);
                lines.push(match values.is_empty() {
                    true => format!("  no {name}"),
                    false => format!("  {name}: {}", values.join(", ")),
                });
            }
        }
        None => lines.push(format!("→ {} from the ingress itself", response.status)),
    }
    for name in expect.headers.keys() {
        if let Some(value) = response.header(&name.to_ascii_lowercase()) {
            lines.push(format!("← {name}: {value}"));
        }
    }
    lines
}

/// Everything in which an answer differs from what was expected.
fn faults(expect: &Expect, response: &Response) -> Vec<String> {
    let mut faults = Vec::new();
    let mut differ = |what: &str, expected: &str, found: &str| {
        faults.push(format!("{what}: expected {expected}, got {found}"));
    };
    if response.status != expect.status {
        differ("status", &expect.status.to_string(), &response.status.to_string());
    }
    let received = Received::read(response);
    let service = received.as_ref().map(Received::service);
    if let Some(backend) = &expect.backend
        && service != backend.as_deref()
    {
        differ("service", backend.as_deref().unwrap_or("none"), service.unwrap_or("none"));
    }
    if let Some(path) = &expect.path {
        let found = received.as_ref().map_or("nothing", |received| &received.target);
        if found != path {
            differ("path at the backend", path, found);
        }
    }
    for (name, expected) in &expect.request_headers {
        let found = received.as_ref().map(|received| received.header(name)).unwrap_or_default();
        if found.len() > 1 || found.first() != expected.as_ref() {
            let found = if found.is_empty() { "none".to_owned() } else { found.join(" | ") };
            differ(&format!("{name} at the backend"), expected.as_deref().unwrap_or("none"), &found);
        }
    }
    for (name, expected) in &expect.headers {
        let found = response.header(&name.to_ascii_lowercase());
        if found != expected.as_deref() {
            differ(name, expected.as_deref().unwrap_or("none"), found.unwrap_or("none"));
        }
    }
    faults
}

/// What a demo backend says that it received: the part of its JSON answer that is looked at here.
#[derive(Debug, Deserialize)]
struct Received {
    service: String,
    /// Path and query.
    target: String,
    /// Header lines as name and value, in order.
    headers: Vec<(String, String)>,
}

impl Received {
    /// `None` for an answer that is not of a demo backend.
    fn read(response: &Response) -> Option<Self> {
        serde_json::from_slice(&response.body).ok()
    }

    /// The name of the Service, without its namespace.
    fn service(&self) -> &str {
        self.service.rsplit('/').next().unwrap_or(&self.service)
    }

    /// All lines of a header.
    fn header(&self, name: &str) -> Vec<String> {
        let same = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echoed(body: &str) -> Response {
        Response {
            status: 200,
            headers: vec![("x-answer".into(), "yes".into())],
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_requests_of_the_demo_can_be_sent() {
        for sample in samples().unwrap() {
            assert!(sample.split().is_some_and(|(host, _)| !host.is_empty()), "{}", sample.url);
        }
    }

    #[test]
    fn differences_are_named() {
        let body = r#"{"service": "default/web", "endpoint": 0, "target": "/x",
            "headers": [["X-One", "1"], ["x-two", "1"], ["x-two", "2"]]}"#;
        for (expect, expected) in [
            (
                r#"{"status": 200, "backend": "web", "path": "/x", "request_headers": {"X-One": "1", "X-None": null}}"#,
                "",
            ),
            (r#"{"status": 200, "headers": {"X-Answer": "yes", "X-None": null}}"#, ""),
            (r#"{"status": 404}"#, "status: expected 404, got 200"),
            (r#"{"status": 200, "backend": "api"}"#, "service: expected api, got web"),
            (r#"{"status": 200, "backend": null}"#, "service: expected none, got web"),
            (r#"{"status": 200, "path": "/"}"#, "path at the backend: expected /, got /x"),
            (
                r#"{"status": 200, "request_headers": {"X-One": null}}"#,
                "X-One at the backend: expected none, got 1",
            ),
            (
                r#"{"status": 200, "request_headers": {"X-Two": "1"}}"#,
                "X-Two at the backend: expected 1, got 1 | 2",
            ),
            (r#"{"status": 200, "headers": {"X-Answer": null}}"#, "X-Answer: expected none, got yes"),
        ] {
            let expect_read: Expect = serde_json::from_str(expect).unwrap();
            assert_eq!(faults(&expect_read, &echoed(body)).join("\n"), expected, "{expect}");
        }
    }

    #[test]
    fn an_answer_of_no_backend_is_told_apart() {
        let expect: Expect =
            serde_json::from_str(r#"{"status": 200, "backend": "web", "path": "/"}"#).unwrap();
        for body in ["", "not found", "{}", "[1]"] {
            let found = faults(&expect, &echoed(body));
            assert_eq!(found.len(), 2, "{body}: {found:?}");
        }
    }
}
