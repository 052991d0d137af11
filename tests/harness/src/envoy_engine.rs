//! The engine that goes through the product and a real Envoy.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use ingress_wasm_echo::{BACKEND_HEADER, Received, wire};

use crate::case::{Ability, Case, Request};
use crate::client::{ConnectError, Connection, Response, Target, WireRequest};
use crate::engine::{Answer, Arrived, Engine, Running, Session};
use crate::explained;
use crate::group::{Group, TRUSTED_PROXY};
use crate::jar::Jar;
use crate::product::Product;
use crate::site::{Backend, Site};
use crate::tls::TlsTerms;

/// How long a backend may take to be reached after the answer has come.
const LATE: Duration = Duration::from_secs(3);

/// How long is waited for a request that must not come.
const MOMENT: Duration = Duration::from_millis(150);

/// How many lines of the product go into the message of a failure.
const LINES_SHOWN: usize = 12;

/// Runs cases through `ingress-wasm run`.
#[derive(Debug)]
pub struct EnvoyEngine {
    binary: Result<PathBuf, String>,
}

impl EnvoyEngine {
    /// With this binary, or with the reason why there is none: then each case fails with it.
    pub fn new(binary: Result<PathBuf, String>) -> Self {
        Self { binary }
    }
}

impl Engine for EnvoyEngine {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn abilities(&self) -> BTreeSet<Ability> {
        abilities()
    }

    fn start(&self, group: &Group) -> Result<Box<dyn Running>, String> {
        let binary = self.binary.as_ref().map_err(Clone::clone)?;
        let site = site(group)?;
        let product = Product::start(binary, &site.manifests(), &site.temporary())?;
        Ok(Box::new(Served { product, site, binary: Some(binary.clone()), said: Vec::new() }))
    }
}

/// What cases may need of an engine whose clients and backends are those of this module.
pub(crate) fn abilities() -> BTreeSet<Ability> {
    [
        Ability::ClientCert,
        Ability::CookieJar,
        Ability::DeadEndpoints,
        Ability::EndpointIdentity,
        Ability::NoClusterIp,
        Ability::ObserveOthers,
        Ability::Parallel,
        Ability::RawHeaders,
        Ability::RepeatedHeaders,
        Ability::TlsOptions,
    ]
    .into()
}

/// The backends of a group, and its manifests in a folder: kept where `INGRESS_WASM_KEEP` says so.
pub(crate) fn site(group: &Group) -> Result<Site, String> {
    let backends: Vec<Backend> = group.backends.values().cloned().collect();
    let mut site = Site::new(&backends, &group.config).map_err(|error| format!("no site: {error}"))?;
    for member in &group.cases {
        let name = format!("{}.yaml", member.case.name);
        site.write(&name, &member.case.manifests).map_err(|error| format!("{name}: {error}"))?;
    }
    if std::env::var_os("INGRESS_WASM_KEEP").is_some() {
        site.keep();
    }
    Ok(site)
}

/// The product, and what it serves; ends in this order.
pub(crate) struct Served {
    pub(crate) product: Product,
    pub(crate) site: Site,
    /// By which `explain` is asked; none: it does not speak of what is served.
    pub(crate) binary: Option<PathBuf>,
    /// The diagnostics that were written before it served.
    pub(crate) said: Vec<String>,
}

impl Running for Served {
    fn session<'a>(&'a self, case: &'a Case) -> Box<dyn Session + 'a> {
        let jar = case.needs.contains(&Ability::CookieJar).then(Jar::default);
        Box::new(Client { served: self, jar, open: None })
    }

    fn said_about(&self, case: &Case) -> Vec<String> {
        let mut lines = self.product.stderr();
        lines.retain(|line| line.contains(&case.name));
        lines.truncate(LINES_SHOWN);
        lines.extend(self.said.iter().filter(|said| concerns(said, case)).cloned());
        if let Some(status) = self.product.wait_end(Duration::ZERO) {
            let tail = self.product.stderr_tail();
            lines
                .push(format!("the product has ended with {status}; the end of its standard error:\n{tail}"));
        }
        lines
    }
}

/// Whether a diagnostic is about a case, or about everything.
fn concerns(said: &str, case: &Case) -> bool {
    said.contains(&case.name)
        || said.contains("ConfigMap ")
        || !said.contains("object:") && !said.contains("= object")
}

/// One client: its cookies, and the connection that the next request may use.
struct Client<'a> {
    served: &'a Served,
    jar: Option<Jar>,
    open: Option<(Target, Connection)>,
}

impl Session for Client<'_> {
    fn forget(&mut self) {
        self.served.site.forget();
    }

    fn send(&mut self, request: &Request) -> Vec<Result<Answer, String>> {
        let target = target(&self.served.product, request);
        let cookie = self
            .jar
            .as_ref()
            .and_then(|jar| jar.header(request.url.https, &request.url.host, &request.url.target));
        let wire = wire_request(request, cookie);
        let answers = match request.parallel {
            1 => vec![self.exchange(&target, &wire)],
            count => parallel(&target, &wire, count),
        };
        let alone = request.parallel == 1 && request.repeat == 1;
        let looked_at = |answer: Result<Answer, String>| {
            let answer = self.identified(request, answer?);
            if alone && let Some(difference) = self.second_opinion(request, &wire, &answer)? {
                return Err(difference);
            }
            Ok(answer)
        };
        answers.into_iter().map(looked_at).collect()
    }

    fn received(&mut self, service: &str) -> Vec<Arrived> {
        let servers = self.served.site.servers(service);
        servers.iter().flat_map(|server| server.received()).map(arrived).collect()
    }

    fn wait_received(&mut self, service: &str, at_least: usize) -> Vec<Arrived> {
        let enough = self.wait(service, at_least, LATE);
        if enough < at_least {
            return self.received(service);
        }
        self.wait(service, enough + 1, MOMENT);
        self.received(service)
    }
}

impl Client<'_> {
    /// How `explain` differs from the answer, if it does.
    fn second_opinion(
        &self,
        request: &Request,
        wire: &WireRequest,
        answer: &Answer,
    ) -> Result<Option<String>, String> {
        let Served { binary: Some(binary), site, .. } = self.served else { return Ok(None) };
        explained::disagreement(binary, &site.manifests(), request, wire, answer)
    }

    /// Waits until the endpoints of a service have received this much together; gives how much it is.
    fn wait(&self, service: &str, count: usize, timeout: Duration) -> usize {
        let servers = self.served.site.servers(service);
        let end = Instant::now() + timeout;
        loop {
            let total: usize = servers.iter().map(|server| server.received().len()).sum();
            let left = end.saturating_duration_since(Instant::now());
            let (false, Some(first)) = (total >= count || left.is_zero(), servers.first()) else {
                return total;
            };
            // One endpoint is waited for as long as need be; of several, each in turn.
            let turn = if servers.len() == 1 { left } else { left.min(Duration::from_millis(20)) };
            first.wait_received(first.received().len() + count - total, turn);
        }
    }

    /// Sends a request on the open connection, or on a new one.
    fn exchange(&mut self, target: &Target, wire: &WireRequest) -> Result<Answer, String> {
        let open = self.open.take().filter(|(of, _)| of == target).map(|(_, connection)| connection);
        let mut connection = match open.and_then(|mut open| open.reusable().then_some(open)) {
            Some(open) => open,
            None => match Connection::open(target) {
                Ok(connection) => connection,
                Err(error) => return no_connection(error),
            },
        };
        let answer = answer(&mut connection, wire)?;
        self.open = Some((target.clone(), connection));
        Ok(answer)
    }

    /// Adds who answered, and keeps the cookies.
    fn identified(&mut self, request: &Request, mut answer: Answer) -> Answer {
        let Some(response) = &answer.response else { return answer };
        if let Some(jar) = &mut self.jar {
            for line in response.values("Set-Cookie") {
                jar.store(&request.url.host, &request.url.target, &wire::text(line));
            }
        }
        if let Some((service, endpoint, serial)) = who_answered(response) {
            let server = self.served.site.servers(&service).get(endpoint);
            let received = server.map(|server| server.received()).unwrap_or_default();
            answer.arrived = received.into_iter().find(|received| received.serial == serial).map(arrived);
            answer.endpoint = Some((service, endpoint));
        }
        answer
    }
}

/// Service, endpoint and serial of the backend that answered: from its header, or, where a proxy has dropped
/// that, from its body.
pub(crate) fn who_answered(response: &Response) -> Option<(String, usize, u64)> {
    if let Some(value) = response.header(BACKEND_HEADER) {
        let mut parts = value.rsplitn(3, '/');
        let serial = parts.next()?.parse().ok()?;
        let endpoint = parts.next()?.parse().ok()?;
        return Some((parts.next()?.to_owned(), endpoint, serial));
    }
    let body: serde_json::Value = serde_json::from_slice(&response.body).ok()?;
    let endpoint = usize::try_from(body["endpoint"].as_u64()?).ok()?;
    Some((body["service"].as_str()?.to_owned(), endpoint, body["serial"].as_u64()?))
}

pub(crate) fn arrived(received: Received) -> Arrived {
    let Received { method, target, headers, body, .. } = received;
    Arrived { method, target, headers, body }
}

/// The server name that the handshake asks for; may be empty.
pub(crate) fn server_name(request: &Request) -> String {
    let host = request.url.host.split(':').next().unwrap_or_default();
    request.tls.sni.clone().unwrap_or_else(|| host.to_owned())
}

fn target(product: &Product, request: &Request) -> Target {
    let address: SocketAddr = if request.url.https { product.https } else { product.http };
    let tls = request.url.https.then(|| TlsTerms {
        server_name: server_name(request),
        terms: request.tls.clone(),
        certificate: request.client_cert.clone(),
    });
    Target { address, source: request.client_ip.map(|_| TRUSTED_PROXY), tls }
}

/// The request as it goes onto the wire: what the case gives, and what HTTP/1.1 cannot do without.
pub(crate) fn wire_request(request: &Request, cookie: Option<String>) -> WireRequest {
    let given = |name: &str| request.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let mut headers = Vec::new();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    if !given("Host") {
        add("Host", request.url.host.clone());
    }
    if let Some(address) = request.client_ip {
        add("X-Forwarded-For", address.to_string());
    }
    for (name, values) in &request.headers {
        for value in values.as_slice() {
            add(name, value.clone());
        }
    }
    if let Some(cookie) = cookie
        && !given("Cookie")
    {
        add("Cookie", cookie);
    }
    let body = match (&request.body, request.body_bytes) {
        (Some(body), _) => Some(body.clone().into_bytes()),
        (None, Some(count)) => Some(vec![b'x'; count]),
        (None, None) => None,
    };
    if let Some(body) = &body
        && !given("Content-Length")
        && !given("Transfer-Encoding")
    {
        add("Content-Length", body.len().to_string());
    }
    WireRequest {
        method: request.method.clone(),
        target: request.url.target.clone(),
        headers,
        body: body.unwrap_or_default(),
    }
}

/// The same request on several connections. All are open before the first request goes out.
fn parallel(target: &Target, wire: &WireRequest, count: usize) -> Vec<Result<Answer, String>> {
    let ready = Barrier::new(count);
    let one = || {
        let connection = Connection::open(target);
        ready.wait();
        match connection {
            Ok(mut connection) => answer(&mut connection, wire),
            Err(error) => no_connection(error),
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("the client failed".to_owned()))
        };
        threads.into_iter().map(join).collect()
    })
}

fn no_connection(error: ConnectError) -> Result<Answer, String> {
    match error {
        // Terms that no handshake can meet are a mistake of the case.
        ConnectError::Handshake(error) if error.kind() != std::io::ErrorKind::InvalidInput => {
            Ok(Answer { handshake: Some(Err(error.to_string())), ..Answer::default() })
        }
        error => Err(error.to_string()),
    }
}

fn answer(connection: &mut Connection, wire: &WireRequest) -> Result<Answer, String> {
    // This client does not speak HTTP/2: where that was agreed on, the handshake is all there is to see.
    if let Some(handshake) = connection.tls().filter(|tls| tls.alpn.as_deref() == Some("h2")) {
        return Ok(Answer { handshake: Some(Ok(handshake.clone())), ..Answer::default() });
    }
    let response = connection.exchange(wire).map_err(|error| format!("no answer: {error}"))?;
    let handshake = connection.tls().cloned().map(Ok);
    Ok(Answer { handshake, response: Some(response), ..Answer::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(yaml: &str) -> Request {
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
    }

    #[test]
    fn requests_get_what_they_cannot_do_without() {
        let cases = [
            ("{url: 'http://a/x'}", &["Host: a"][..], 0),
            ("{url: 'http://a/x', headers: {hOst: b, X: [1a, 2b]}}", &["hOst: b", "X: 1a", "X: 2b"], 0),
            ("{url: 'http://a:1/x', client_ip: 192.0.2.1}", &["Host: a:1", "X-Forwarded-For: 192.0.2.1"], 0),
            ("{url: 'http://a/', body: abc}", &["Host: a", "Cookie: c=1", "Content-Length: 3"], 3),
            ("{url: 'http://a/', body_bytes: 9}", &["Host: a", "Content-Length: 9"], 9),
            (
                "{url: 'http://a/', body: abc, headers: {Content-Length: '9'}}",
                &["Host: a", "Content-Length: 9"],
                3,
            ),
            (
                "{url: 'http://a/', body: abc, headers: {Transfer-Encoding: x}}",
                &["Host: a", "Transfer-Encoding: x"],
                3,
            ),
        ];
        for (yaml, headers, body) in cases {
            let cookie = headers.contains(&"Cookie: c=1").then(|| "c=1".to_owned());
            let wire = wire_request(&request(yaml), cookie);
            let lines: Vec<_> = wire.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            assert_eq!(lines, headers, "{yaml}");
            assert_eq!(wire.body.len(), body, "{yaml}");
        }
    }

    #[test]
    fn backend_is_found_by_header_or_body() {
        let response = |headers: &[(&str, &str)], body: &str| Response {
            status: 200,
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            body: body.into(),
        };
        let json = r#"{"service": "web", "endpoint": 1, "serial": 7}"#;
        let cases = [
            (response(&[("x-echo-backend", "a/2/5")], json), Some(("a".to_owned(), 2, 5))),
            (response(&[], json), Some(("web".to_owned(), 1, 7))),
            (response(&[], "<html>"), None),
            (response(&[("x-echo-backend", "odd")], ""), None),
        ];
        for (response, expected) in cases {
            assert_eq!(who_answered(&response), expected, "{response:?}");
        }
    }
}
