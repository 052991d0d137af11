//! The plugin configuration: what translators write and the filter loads. A versioned contract; every
//! field is documented here, and the JSON Schema and the reference page are made from these comments.
//!
//! Deliberately knows nothing of matching, of Kubernetes objects and of the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Balancing, HeaderEdit, PolicySet, Script};

/// The version of this contract. Raised when a configuration written for one version would be misread by
/// the other; the filter refuses every version but its own.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that the filter needs to decide requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PluginConfig {
    /// Version of the contract, `SCHEMA_VERSION`. Any other value is refused.
    #[cfg_attr(feature = "schema", schemars(extend("const" = SCHEMA_VERSION)))]
    pub version: u32,
    /// Names this content: the same rules have the same generation. Shown in the filter's log and by
    /// its probe, so that one can wait until every worker serves it. Free text without control characters.
    #[serde(default)]
    pub generation: String,
    /// How a request reaches the filter, and what holds for every request whatever its rule.
    #[serde(default)]
    pub global: Global,
    /// Lists of users and passwords, by a name that `BasicAuth.credentials` refers to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, Credentials>,
    /// Lists of clients with the SHA-256 digest of the key of each, in hexadecimal digits, by a name that
    /// `ApiKeyAuth.keys` refers to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub api_keys: BTreeMap<String, Credentials>,
    /// Sets of policies. Rules refer to them by position, since most rules share a few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicySet>,
    /// How the requests for Services are divided. Rules refer to them by position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub balancing: Vec<Balancing>,
    /// One entry per host name. A request is decided within one host only: there is no falling through
    /// to another when none of its rules match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Host>,
    /// Further hosts are in documents of their own, so that a change of one host is sent and loaded without the
    /// others: the generation of each of these documents, by its number from 0. Nothing of this document is
    /// served before all of them are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// This document is such a part: it has hosts and what their rules refer to, and is served together with a
    /// document that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartNumber>,
}

/// Which of the parts of a configuration a document is. A host without aliases is in the part that the hash of
/// its name tells (FNV-1a with 32 bits, of a wildcard without the `*`, modulo the number of parts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PartNumber {
    /// Its number, from 0.
    pub number: u32,
    /// How many parts there are, at most 512.
    pub of: u32,
}

/// What holds for every request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Global {
    /// The listener overwrites the private header `x-ingress-wasm-connection` on each request with
    /// `SCHEME PORT ADDRESS` of the connection (over TLS also the server name; `TLSv…` stands for `https`), which
    /// saves a host call, and takes `x-ingress-wasm-certificate` from clients. Only set where Envoy is
    /// configured so: otherwise clients could choose the value.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connection_header: bool,
    /// Whose word about the client is taken (ingress-nginx `use-forwarded-headers`, `proxy-real-ip-cidr`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub forwarded: Forwarded,
    /// Requests that are answered 403 whatever their rule (ConfigMap `block-user-agents`, `block-referers`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    /// Edits to what each backend receives, after the standard headers (ConfigMap `proxy-set-headers`).
    /// Values may hold nginx variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<HeaderEdit>,
    /// Headers of backends that clients do not get (ConfigMap `hide-headers`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden_headers: Vec<String>,
    /// Edits to each answer, the filter's own included (ConfigMap `add-headers`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<HeaderEdit>,
    /// Header names with an underscore reach the backend (nginx `underscores_in_headers`). Off: they are
    /// dropped, since many applications cannot tell them from names with a hyphen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub underscores_in_headers: bool,
    /// A request without X-Request-ID gets none (ConfigMap `generate-request-id`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_request_id: bool,
    /// Longest request line and longest header line in bytes, line ends included (ConfigMap
    /// `large-client-header-buffers`, its second part); 414 and 400 beyond. Absent: 8192.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_line_bytes: Option<u32>,
    /// How many times `headerLineBytes` all lines may come to, and 1024 more; 400 beyond. Absent: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_buffers: Option<u32>,
    /// Status of redirects to HTTPS and of `Host.redirect_to` (ConfigMap `http-redirect-code`), 300 to 308. Absent: 308.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_status: Option<u16>,
    /// Requests are counted in Envoy's statistics by Ingress, Service, status and decision, which costs two host
    /// calls for each.
    #[serde(default, skip_serializing_if = "is_default")]
    pub statistics: bool,
    /// What is decided of each request is left in Envoy's filter state for an access log, which costs a few host
    /// calls for each: `wasm.client`, `wasm.host`, `wasm.target` (of the client), `wasm.ingress`, `wasm.rule` (its
    /// path) and `wasm.service`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log_fields: bool,
    /// Status of answers to requests that come too fast (ConfigMap `limit-req-status-code`), 400 to 599. Absent: 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_status: Option<u16>,
    /// Status of answers to requests of clients that have too many under way (ConfigMap `limit-conn-status-code`), 400
    /// to 599. Absent: 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_status: Option<u16>,
    /// Value of Strict-Transport-Security on every HTTPS answer of a rule (ConfigMap `hsts`). Absent: what
    /// the backend sends stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<String>,
}

/// Which forwarded headers of a request are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Forwarded {
    /// Take scheme, host and port of the client from X-Forwarded-Proto, -Host and -Port (ConfigMap
    /// `use-forwarded-headers`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub trust_headers: bool,
    /// Networks whose hosts may name the client's address in `addressHeader`; CIDR notation, IPv4 or
    /// IPv6. Empty: nobody may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// The header that holds the client's address; `X-Forwarded-For` unless configured otherwise.
    #[serde(default = "forwarded_for", skip_serializing_if = "is_forwarded_for")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = forwarded_for())))]
    pub address_header: String,
    /// Append the address to X-Forwarded-For instead of replacing it (`compute-full-forwarded-for`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub append: bool,
    /// The PROXY protocol names the client's address, and `addressHeader` does not (`use-proxy-protocol`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy_protocol: bool,
}

impl Default for Forwarded {
    fn default() -> Self {
        Forwarded {
            trust_headers: false,
            trusted_proxies: Vec::new(),
            address_header: forwarded_for(),
            append: false,
            proxy_protocol: false,
        }
    }
}

/// Values of headers that keep a request out: a text that is the whole value, case aside, or an expression that is
/// found in it, after `~` with case, after `~*` without.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Block {
    /// Values of User-Agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_agents: Vec<String>,
    /// Values of Referer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referers: Vec<String>,
}

/// A list of users, in the form of an htpasswd file. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Credentials {
    /// User name to password hash: apr1 (`$apr1$`), bcrypt (`$2a$`, `$2b$`, `$2y$`), `{SHA}`, `{SSHA}`,
    /// SHA-256 crypt (`$5$`), SHA-512 crypt (`$6$`), MD5 crypt (`$1$`) or `{PLAIN}`.
    pub users: BTreeMap<String, String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Credentials({} users)", self.users.len())
    }
}

/// The rules of one host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Host {
    /// `name.example` (exact), `*.name.example` (exactly one more label) or `*` (whatever no other
    /// entry takes). Lower case, without port and final dot.
    pub name: String,
    /// How the paths of all rules of this host are read.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = PathMatching::default())))]
    pub path_matching: PathMatching,
    /// Where a request for exactly `/` is redirected (302) before any rule is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_root: Option<String>,
    /// There is a certificate for the name, be it the default one: plain HTTP is redirected where a
    /// `TlsRedirect` asks for it. Of a wildcard it holds for every name of one more label, those of other
    /// entries too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: bool,
    /// Further names of the host (`server-alias`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
    /// Every request for the host is redirected to this one, with the same target but for a slash at its end
    /// (`from-to-www-redirect`). Rules of such a host are never looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<String>,
    /// Clients over TLS have to show a certificate. Absent: none is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// What is done before a rule is chosen (`server-snippet`). Its headers hold for its own answers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// Paths that go before rules (`location` in a `server-snippet`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<Location>,
    /// The rules, in any order: which one wins follows from the paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// The client certificates of a host (`auth-tls-secret`). The listener asks for them and checks them against the
/// authorities, and tells what it found in the private header `x-ingress-wasm-certificate`; what follows from it
/// is decided here. Backends are told in ssl-client-verify, ssl-client-subject-dn and ssl-client-issuer-dn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientCertificate {
    /// Which requests are let in.
    pub verify: VerifyClient,
    /// A regular expression, with case, that is looked for in the subject of the certificate, written as in
    /// RFC 2253 (`auth-tls-match-cn`). Other requests are answered 403, those by plain HTTP too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What a client gets instead of the answer 400 (`auth-tls-error-page`): a redirect to this URL, or what
    /// the host has at this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_page: Option<String>,
    /// Hand the certificate to the backend, as PEM with percent signs, in ssl-client-cert
    /// (`auth-tls-pass-certificate-to-upstream`). Otherwise that header is taken away.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pass_certificate: bool,
}

/// Which requests to a host with client certificates are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum VerifyClient {
    /// Those over TLS with a certificate of the authorities; others over TLS are answered 400.
    On,
    /// All; no certificate is asked for.
    Off,
    /// Those without a certificate, and those with one of the authorities.
    Optional,
    /// All but those with a certificate that is not valid at the time, whoever issued it.
    OptionalNoCa,
    /// None, with or without TLS: the authorities cannot be had. Answered 403.
    Refuse,
}

/// A further name of a host. Exact names, those of hosts included, go before all others, then wildcard
/// aliases (the longest first), then wildcard hosts, then expressions in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Alias {
    /// `name.example`, `*.name.example` or `name.*` (any number of labels in place of the star),
    /// `.name.example` (the name and everything below it), or a regular expression without case after `~`.
    pub name: String,
    /// As `Host.tls`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: bool,
}

/// A path that goes before rules, with the precedence of nginx: `=` before all; then the rule if it is for exactly
/// this path; `^~`, if it is the longest; expressions in their order; the longest text, be it a rule's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Location {
    /// `=`, `^~`, `~` (expression), `~*` (expression without case), or empty for the beginning of a path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub modifier: String,
    /// What is done there; `path` is what the modifier says, of which only the policies and the action count.
    pub rule: Rule,
}

/// How the paths of a host are read. ingress-nginx decides this per host, not per rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum PathMatching {
    /// Text: Exact, and Prefix by whole path elements, with case (Kubernetes Ingress specification).
    #[default]
    Elements,
    /// Every path is a regular expression without case, anchored at its start; tried by length of the
    /// path, longest first (ingress-nginx, as soon as one rule of the host asks for expressions).
    Expressions,
}

/// One path of a host and what happens to the requests that match it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// The Ingress it comes from, `namespace/name`: for logs, `explain` and statistics.
    pub ingress: String,
    /// The path as written in the Ingress.
    pub path: String,
    /// How the path is meant; without meaning where the host matches by expressions.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = PathType::default())))]
    pub path_type: PathType,
    /// Position in `PluginConfig.policies`.
    pub policies: usize,
    /// What happens to a request that passes the policies.
    pub action: Action,
}

/// The path types of the Ingress specification; ImplementationSpecific is Prefix, as in ingress-nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PathType {
    /// The path itself, with case.
    Exact,
    /// The path, and everything below it by whole elements.
    #[default]
    Prefix,
}

/// What happens to a request that passes the policies of its rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Proxied to a backend.
    Forward {
        /// Name of the Envoy cluster.
        cluster: String,
        /// The Service behind it, `namespace/name:port`. Absent: the name of the cluster says it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        service: String,
        /// Position in `PluginConfig.balancing`. Absent: all requests go to the cluster, whose endpoints Envoy
        /// chooses among.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        balancing: Option<usize>,
    },
    /// Proxied to another Service, since the one of the rule has no endpoints (`default-backend`). It is told
    /// so as in `ErrorPages`, with the X-Code 503, but for X-Original-URI and the path, which stays.
    StandIn {
        /// Name of the Envoy cluster of the Service that answers.
        cluster: String,
        /// The Service without endpoints, `namespace/name:port`.
        service: String,
    },
    /// Answered with a status of the filter's own: 404 where nothing is configured, 503 where the
    /// backend is missing.
    Respond {
        /// HTTP status, 200 to 599.
        #[cfg_attr(feature = "schema", schemars(range(min = 200, max = 599)))]
        status: u16,
        /// Why, in words of the Ingress: for `explain` and the log, never sent to clients.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn forwarded_for() -> String {
    "X-Forwarded-For".to_owned()
}

fn is_forwarded_for(name: &str) -> bool {
    name.eq_ignore_ascii_case("x-forwarded-for")
}
