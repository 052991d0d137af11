//! The case format: Kubernetes objects, requests, and what is expected of them.
//!
//! Unknown keys are refused, and what a case can get wrong by itself (a regular expression, a URL, a service
//! that nobody serves) is found when it is read. This module knows nothing of how cases are run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use serde::{Deserialize, Deserializer};

/// A case: what is loaded, what is sent, what is expected.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique over all files.
    pub name: String,
    /// Where the fact comes from.
    pub source: String,
    /// What it is about.
    pub area: String,
    /// Load alone.
    #[serde(default)]
    pub isolated: bool,
    /// The Services with an echo backend behind them.
    #[serde(default)]
    pub services: Vec<ServicePort>,
    /// Ready endpoints of a service; 1 where a service is missing here.
    #[serde(default)]
    pub endpoints: BTreeMap<String, usize>,
    /// Further endpoints that refuse connections.
    #[serde(default)]
    pub dead_endpoints: BTreeMap<String, usize>,
    /// Data of the controller's ConfigMap.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// What a runner must be able to do.
    #[serde(default)]
    pub needs: BTreeSet<Ability>,
    /// The objects, as YAML.
    pub manifests: String,
    /// In order, on one client.
    pub requests: Vec<Request>,
}

/// An ability that a runner may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of the format's description")]
pub enum Ability {
    Admission,
    ClientCert,
    CookieJar,
    DeadEndpoints,
    Digest,
    EndpointIdentity,
    Http2,
    NoClusterIp,
    ObserveOthers,
    Parallel,
    RawHeaders,
    RepeatedHeaders,
    TlsOptions,
}

/// `NAME:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServicePort {
    /// Name of the Service in the namespace `default`.
    pub name: String,
    /// Its only port.
    pub port: u16,
}

/// A request, or several of the same kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Scheme, host and target.
    pub url: Url,
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// Header lines, in order.
    #[serde(default, deserialize_with = "pairs")]
    pub headers: Vec<(String, OneOrMany<String>)>,
    /// The body.
    pub body: Option<String>,
    /// Instead of `body`: its length in bytes.
    pub body_bytes: Option<usize>,
    /// How often, one after the other.
    #[serde(default = "one")]
    pub repeat: usize,
    /// How many at the same time.
    #[serde(default = "one")]
    pub parallel: usize,
    /// The HTTP version.
    #[serde(default)]
    pub http: Version,
    /// The address that the request seems to come from.
    pub client_ip: Option<std::net::IpAddr>,
    /// The client's certificate.
    pub client_cert: Option<ClientCert>,
    /// Terms of the handshake.
    #[serde(default)]
    pub tls: Tls,
    /// What is expected.
    #[serde(default)]
    pub expect: Expect,
}

/// Scheme, host and target, taken apart without changing a byte.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Url {
    /// Whether the scheme is https.
    pub https: bool,
    /// The host as written, with its port if there is one.
    pub host: String,
    /// Path and query as written; `/` when there is none.
    pub target: String,
}

/// The version a request is sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Version {
    #[default]
    #[serde(rename = "1.1")]
    Http11,
    #[serde(rename = "2")]
    Http2,
}

/// Certificate and key in PEM.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCert {
    /// The certificate chain.
    pub cert: String,
    /// The private key.
    pub key: String,
}

impl fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCert")
    }
}

/// Terms of the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The oldest version offered.
    pub min: Option<TlsVersion>,
    /// The newest version offered.
    pub max: Option<TlsVersion>,
    /// The server name, when it is not the host of the URL.
    pub sni: Option<String>,
    /// The protocols offered by ALPN; without it none.
    #[serde(default)]
    pub alpn: Vec<String>,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// What is expected of a request. What is not given is not checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status, or the allowed ones.
    pub status: Option<OneOrMany<u16>>,
    /// The service that answered; `Some(None)`: no backend was reached.
    #[serde(default, deserialize_with = "given")]
    pub backend: Option<Option<String>>,
    /// Path and query as the backend received them.
    pub path: Option<String>,
    /// The method as the backend received it.
    pub method: Option<String>,
    /// Headers as the backend received them.
    #[serde(default, deserialize_with = "pairs")]
    pub request_headers: Vec<(String, Lines)>,
    /// Headers of the response.
    #[serde(default, deserialize_with = "pairs")]
    pub headers: Vec<(String, Lines)>,
    /// The body of the response.
    pub body: Option<Text>,
    /// Answers of each service, inclusive bounds.
    #[serde(default)]
    pub share: BTreeMap<String, Bounds>,
    /// Answers with each status, inclusive bounds.
    #[serde(default)]
    pub statuses: BTreeMap<u16, Bounds>,
    /// How many different endpoints answered.
    pub endpoints: Option<Count>,
    /// Answers of each endpoint that answered at all, inclusive bounds.
    pub endpoint_share: Option<Bounds>,
    /// What other backends received.
    #[serde(default)]
    pub reached: Vec<Reached>,
    /// The same, by service.
    #[serde(default)]
    pub also_reached: BTreeMap<String, ReachedBy>,
    /// What the handshake came to.
    pub tls: Option<ExpectTls>,
}

/// Smallest and largest number, both allowed.
pub type Bounds = (usize, usize);

/// A number, or bounds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Count {
    Exactly(usize),
    Within(Bounds),
}

impl Count {
    /// As bounds.
    pub fn bounds(self) -> Bounds {
        match self {
            Self::Exactly(count) => (count, count),
            Self::Within(bounds) => bounds,
        }
    }
}

/// A value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the names say it")]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// All values.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// What header lines of one name are expected.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Lines {
    /// None.
    Absent(()),
    /// Exactly one line.
    One(Text),
    /// Exactly these lines in this order.
    All(Vec<Text>),
}

/// An expected text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// This text.
    Exact(String),
    /// A text in which the expression is found.
    Matches(Matches),
}

/// `{matches: "regex"}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matches {
    /// The expression.
    pub matches: Pattern,
}

/// A regular expression on text; look-around is allowed.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub Regex);

/// What a backend received besides the one that answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// The service.
    pub backend: String,
    /// How often; without it at least once.
    pub times: Option<Count>,
    /// The method of the last request.
    pub method: Option<String>,
    /// Its path and query.
    pub path: Option<String>,
    /// Its body.
    pub body: Option<Text>,
    /// Its headers.
    #[serde(default, deserialize_with = "pairs")]
    pub request_headers: Vec<(String, Lines)>,
}

/// [`Reached`] without the service, which is the key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the same fields as in Reached")]
pub struct ReachedBy {
    pub times: Option<Count>,
    pub method: Option<String>,
    pub path: Option<String>,
    pub body: Option<Text>,
    #[serde(default, deserialize_with = "pairs")]
    pub request_headers: Vec<(String, Lines)>,
}

/// What the handshake came to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectTls {
    /// Whether it failed.
    pub handshake: Option<Handshake>,
    /// `TLSv1.3` or the like.
    pub version: Option<String>,
    /// The protocol chosen by ALPN.
    pub alpn: Option<String>,
    /// The common name of the server's certificate.
    pub certificate_cn: Option<String>,
    /// What the common name must not be.
    pub certificate_cn_not: Option<String>,
}

/// How a handshake ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Handshake {
    Failed,
    Ok,
}

fn get() -> String {
    "GET".to_owned()
}

fn one() -> usize {
    1
}

/// Tells a key with the value null from a missing key.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A map as a list, in the order of the file: header lines have an order.
fn pairs<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<(String, T)>, D::Error> {
    struct Visitor<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = Vec<(String, T)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_map(Visitor(std::marker::PhantomData))
}

impl TryFrom<String> for ServicePort {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (name, port) = text.split_once(':').ok_or_else(|| format!("`{text}` is not NAME:PORT"))?;
        let port = port.parse().map_err(|error| format!("the port of `{text}`: {error}"))?;
        Ok(Self { name: name.to_owned(), port })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Regex::new(&text).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<String> for Url {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (https, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(format!("`{text}` begins with neither http:// nor https://")),
        };
        let (host, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = if target.is_empty() { "/" } else { target };
        Ok(Self { https, host: host.to_owned(), target: target.to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, self.host, self.target)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "{text:?}"),
            Self::Matches(pattern) => write!(f, "a match of /{}/", pattern.matches.0.as_str()),
        }
    }
}

impl Expect {
    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        let Self {
            status,
            backend,
            path,
            method,
            request_headers,
            headers,
            body,
            share,
            statuses,
            endpoints,
            endpoint_share,
            reached,
            also_reached,
            tls,
        } = self;
        status.is_none()
            && backend.is_none()
            && path.is_none()
            && method.is_none()
            && request_headers.is_empty()
            && headers.is_empty()
            && body.is_none()
            && share.is_empty()
            && statuses.is_empty()
            && endpoints.is_none()
            && endpoint_share.is_none()
            && reached.is_empty()
            && also_reached.is_empty()
            && tls.is_none()
    }

    /// All that other backends have to have received.
    pub fn all_reached(&self) -> Vec<Reached> {
        let named = self.also_reached.iter().map(|(backend, by)| Reached {
            backend: backend.clone(),
            times: by.times,
            method: by.method.clone(),
            path: by.path.clone(),
            body: by.body.clone(),
            request_headers: by.request_headers.clone(),
        });
        self.reached.iter().cloned().chain(named).collect()
    }

    fn services(&self) -> impl Iterator<Item = &String> {
        let reached = self.reached.iter().map(|reached| &reached.backend);
        let also = self.also_reached.keys().chain(self.share.keys());
        self.backend.iter().flatten().chain(reached).chain(also)
    }
}

impl Case {
    /// The abilities a runner needs: those named, and those that the requests imply.
    pub fn abilities(&self) -> BTreeSet<Ability> {
        let mut needs = self.needs.clone();
        for request in &self.requests {
            if request.http == Version::Http2 {
                needs.insert(Ability::Http2);
            }
            if request.client_cert.is_some() {
                needs.insert(Ability::ClientCert);
            }
            if request.parallel > 1 {
                needs.insert(Ability::Parallel);
            }
        }
        needs
    }

    /// How many ready and how many dead endpoints a service has.
    pub fn endpoints_of(&self, service: &str) -> (usize, usize) {
        let ready = self.endpoints.get(service).copied().unwrap_or(1);
        (ready, self.dead_endpoints.get(service).copied().unwrap_or(0))
    }

    /// What is wrong with the case itself, beyond its form.
    fn fault(&self) -> Option<String> {
        let known = |name: &String| self.services.iter().any(|service| service.name == *name);
        if self.requests.is_empty() {
            return Some("it has no request".to_owned());
        }
        let counted = self.endpoints.keys().chain(self.dead_endpoints.keys());
        let expected = self.requests.iter().flat_map(|request| request.expect.services());
        if let Some(name) = counted.chain(expected).find(|name| !known(name)) {
            return Some(format!("`{name}` is not among its services"));
        }
        for (index, request) in self.requests.iter().enumerate() {
            if request.repeat == 0 || request.parallel == 0 {
                return Some(format!("request {} is sent no time at all", index + 1));
            }
            if request.body.is_some() && request.body_bytes.is_some() {
                return Some(format!("request {} has both body and body_bytes", index + 1));
            }
        }
        None
    }
}

/// A file of cases.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub cases: Vec<Case>,
}

/// Reads one text of cases.
///
/// # Errors
///
/// What is wrong, with the line where the reader knows it.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let cases: Vec<Case> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut names = BTreeSet::new();
    for case in &cases {
        if let Some(fault) = case.fault() {
            return Err(format!("case {}: {fault}", case.name));
        }
        if !names.insert(&case.name) {
            return Err(format!("case {}: the name is there twice", case.name));
        }
    }
    Ok(cases)
}

/// Reads a file, or all `*.yaml` files of a folder in the order of their names.
///
/// # Errors
///
/// Names the file that cannot be read, or the case whose name is in two files.
pub fn load(path: &Path) -> Result<Vec<CaseFile>, String> {
    let describe = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| describe(&error))?;
        paths = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
    }
    let mut files = Vec::new();
    let mut names = BTreeMap::new();
    for path in paths {
        let describe = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| describe(&error))?;
        let cases = parse(&text).map_err(|error| describe(&error))?;
        for case in &cases {
            if let Some(other) = names.insert(case.name.clone(), path.clone()) {
                return Err(describe(&format!("case {} is in {} too", case.name, other.display())));
            }
        }
        files.push(CaseFile { path, cases });
    }
    Ok(files)
}

#[cfg(test)]
#[path = "case_tests.rs"]
mod tests;
