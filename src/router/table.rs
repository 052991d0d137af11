//! The compiled form of a configuration: immutable, and nothing left in it that could fail to parse.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::balancing::CompiledBalancing;
use super::elements::ElementPaths;
use super::expressions::ExpressionPaths;
use super::parts::HostTables;
use crate::config::{PathMatching, PathType, TlsRedirect, VerifyClient};
use crate::decision::AnswerRewrite;
use crate::limits::Rate;
use crate::password::PasswordHash;
use crate::policy::script::Script;
use crate::policy::{
    ApiKeyCheck, ClientAddress, Cors, ExternalAuthCheck, HeaderTemplate, NetworkSet, Template,
};
use crate::regex::Regex;

/// What requests are decided with.
#[derive(Debug)]
pub struct RoutingTable {
    /// `PluginConfig.generation`.
    pub generation: Box<str>,
    /// The listener sets the private connection header.
    pub connection_header: bool,
    /// Header names with an underscore reach the backend.
    pub underscores_in_headers: bool,
    /// A request without an identifier gets none.
    pub no_request_id: bool,
    /// Who the client is.
    pub client: ClientAddress,
    /// Whom the headers of a request keep out.
    pub block: Option<CompiledBlock>,
    /// How large the headers of a request may be.
    pub header_buffers: HeaderBuffers,
    /// Edits to each request.
    pub request_headers: Box<[HeaderTemplate]>,
    /// Headers of backends that clients do not get.
    pub hidden_headers: Box<[Box<str>]>,
    /// Edits to each answer.
    pub response_headers: Box<[HeaderTemplate]>,
    /// Status of redirects to HTTPS.
    pub redirect_status: u16,
    /// Status where requests come too fast.
    pub rate_status: u16,
    /// Status where too many requests are under way.
    pub connection_status: u16,
    /// Value of Strict-Transport-Security.
    pub hsts: Option<Box<str>>,
    /// The hosts of the document itself, and those of its parts.
    pub(super) hosts: HostTables,
    pub(super) needs_clock: bool,
    /// Requests are counted by Ingress, Service, status and decision.
    pub statistics: bool,
    /// What is decided is left for an access log.
    pub log_fields: bool,
}

impl RoutingTable {
    /// Decisions of this table look at the time.
    pub fn needs_clock(&self) -> bool {
        self.needs_clock
    }

    /// Some rule bounds how many requests are under way.
    pub fn counts_connections(&self) -> bool {
        self.hosts.all().any(|hosts| hosts.counts_connections)
    }

    /// The rule with this number.
    pub fn rule(&self, number: u32) -> Option<&CompiledRule> {
        self.hosts.rule(number)
    }

    /// There is a certificate for the Host of a request, or for the wildcard above it.
    pub fn has_certificate(&self, authority: &[u8]) -> bool {
        self.hosts.has_certificate(authority)
    }

    /// The hosts, those of the document itself first.
    pub fn hosts(&self) -> impl Iterator<Item = &CompiledHost> {
        self.hosts.all().flat_map(|hosts| &hosts.hosts)
    }

    /// What of the document itself cannot be honoured and refuses instead. Broken expressions are not among it:
    /// hosts are indexed when they are first asked for, and [`super::check_expression`] tells beforehand.
    pub fn faults(&self) -> &[Fault] {
        &self.hosts.own.faults
    }
}

/// How large the headers of a request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderBuffers {
    /// How many buffers all lines may fill.
    pub count: usize,
    /// Size of a buffer in bytes, and so of a line.
    pub bytes: usize,
}

/// A part that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the configuration, as `credentials["n/s"].users["u"]`.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// A host entry.
#[derive(Debug)]
pub struct CompiledHost {
    /// `Host.name`.
    pub name: Box<str>,
    /// Where a request for exactly `/` is redirected.
    pub app_root: Option<Box<str>>,
    /// The host that every request is redirected to.
    pub redirect_to: Option<Box<str>>,
    /// The number of the first rule.
    pub(super) first_rule: u32,
    /// Clients over TLS have to show a certificate.
    pub client_certificate: Option<Box<CompiledClientCertificate>>,
    /// What is done before a rule is chosen.
    pub script: Option<Script>,
    /// Paths that go before rules.
    pub locations: Box<[CompiledLocation]>,
    /// The rules, in the order of the configuration.
    pub rules: Box<[CompiledRule]>,
    pub(super) path_matching: PathMatching,
    /// The index of the paths: made when the host is first asked for, so that loading a configuration costs
    /// little however many hosts it has. A worker loads between two requests.
    pub(super) paths: OnceCell<Paths>,
}

impl CompiledHost {
    /// The index of the paths.
    pub(super) fn paths(&self) -> &Paths {
        self.paths.get_or_init(|| {
            let rules = self.rules.iter().enumerate();
            match self.path_matching {
                PathMatching::Elements => Paths::Elements(ElementPaths::compile(
                    rules.map(|(i, rule)| (i, &*rule.path, rule.path_type)),
                )),
                PathMatching::Expressions => {
                    Paths::Expressions(ExpressionPaths::compile(rules.map(|(i, rule)| (i, &*rule.path))))
                }
            }
        })
    }
}

/// See [`crate::config::ClientCertificate`].
#[derive(Debug)]
pub struct CompiledClientCertificate {
    /// Which requests are let in.
    pub verify: VerifyClient,
    /// What the subject has to match.
    pub subject: Option<Regex>,
    /// A URL, or a path of the host.
    pub error_page: Option<Box<str>>,
    /// The backend gets the certificate.
    pub pass_certificate: bool,
}

/// See [`crate::config::Location`].
#[derive(Debug)]
pub struct CompiledLocation {
    /// How its path is meant.
    pub kind: LocationKind,
    /// What is done there.
    pub rule: CompiledRule,
}

/// How the path of a location is meant.
#[derive(Debug)]
pub enum LocationKind {
    /// It is the path.
    Exact,
    /// The path begins so; `true`: and no expression is asked.
    Beginning(bool),
    /// The path matches.
    Expression(Box<Regex>),
}

/// The paths of a host.
#[derive(Debug)]
pub(super) enum Paths {
    Elements(ElementPaths),
    Expressions(ExpressionPaths),
}

/// A rule.
#[derive(Debug)]
pub struct CompiledRule {
    /// `Rule.ingress`, `namespace/name`.
    pub ingress: Box<str>,
    /// `Rule.path`.
    pub path: Box<str>,
    /// `Rule.path_type`.
    pub path_type: PathType,
    /// Its number among all rules: see [`RoutingTable::rule`].
    pub number: u32,
    /// What holds for it.
    pub policies: Rc<CompiledPolicies>,
    /// What happens to a request that passes the policies.
    pub action: CompiledAction,
}

/// See [`crate::config::Action`].
#[derive(Debug)]
pub enum CompiledAction {
    /// Proxied.
    Forward {
        /// The Envoy cluster.
        cluster: Box<str>,
        /// `namespace/name:port`, where the cluster's name is another: see [`CompiledAction::service`].
        service: Option<Box<str>>,
        /// How its requests are divided.
        balancing: Option<Rc<CompiledBalancing>>,
    },
    /// Proxied to another Service, since that of the rule has no endpoints.
    StandIn {
        /// The Envoy cluster of the other.
        cluster: Box<str>,
        /// `namespace/name:port` of the Service without endpoints.
        service: Box<str>,
    },
    /// Answered with a status.
    Respond {
        /// The status.
        status: u16,
        /// Why.
        reason: Box<str>,
    },
}

impl CompiledAction {
    /// The Service that the rule names, `namespace/name:port`.
    pub fn service(&self) -> Option<&str> {
        match self {
            CompiledAction::Forward { cluster, service, .. } => Some(service.as_deref().unwrap_or(cluster)),
            CompiledAction::StandIn { service, .. } => Some(service),
            CompiledAction::Respond { .. } => None,
        }
    }
}

/// See [`crate::config::PolicySet`].
#[derive(Debug, Default)]
pub struct CompiledPolicies {
    /// Every request is answered 503, for this reason.
    pub denied: Option<Box<str>>,
    /// Largest request body in bytes.
    pub max_body_bytes: Option<u64>,
    /// How many requests of one client are served.
    pub limits: Option<CompiledLimits>,
    /// What a rate limit service is told.
    pub global_limit: Option<CompiledGlobalLimit>,
    /// Who may come in by address.
    pub addresses: Option<CompiledAddresses>,
    /// One of address and password suffices.
    pub satisfy_any: bool,
    /// User name and password are asked for.
    pub basic_auth: Option<CompiledBasicAuth>,
    /// An API key is asked for.
    pub api_key: Option<ApiKeyCheck>,
    /// Cross-origin resource sharing.
    pub cors: Option<Cors>,
    /// A service is asked.
    pub external_auth: Option<ExternalAuthCheck>,
    /// Every request is redirected.
    pub redirect: Option<CompiledRedirect>,
    /// Redirects to a path are sent without scheme and host.
    pub relative_redirects: bool,
    /// Plain HTTP is redirected to HTTPS.
    pub tls_redirect: Option<TlsRedirect>,
    /// The path that the backend gets.
    pub rewrite: Option<CompiledRewrite>,
    /// X-Original-URI is set.
    pub original_uri_header: bool,
    /// Errors that a Service answers instead.
    pub error_pages: Option<CompiledErrorPages>,
    /// Edits to the request.
    pub request_headers: Box<[HeaderTemplate]>,
    /// Edits to the answer.
    pub response_headers: Box<[HeaderTemplate]>,
    /// What is replaced in headers of the backend's answer.
    pub answer_rewrite: Option<Rc<AnswerRewrite>>,
    /// What the cluster's name has behind it for requests over TLS.
    pub tls_cluster_suffix: Option<Box<str>>,
    /// Where copies of requests go.
    pub mirror: Option<CompiledMirror>,
    /// Headers of backends that the client does not get, where they are others than for all.
    pub hidden_headers: Option<Box<[Box<str>]>>,
    /// What snippets of nginx configuration come to.
    pub script: Option<Script>,
    /// The Envoy route with the settings.
    pub route_profile: Option<Box<str>>,
}

/// See [`crate::config::GlobalLimit`].
#[derive(Debug)]
pub struct CompiledGlobalLimit {
    /// The values of [`crate::decision::LIMIT_HEADERS`] behind the first.
    pub values: Box<[Template]>,
    /// The value of the first.
    pub limit: Option<Box<str>>,
    /// Clients that are not counted.
    pub exempt: NetworkSet,
}

/// See [`crate::config::Limits`].
#[derive(Debug)]
pub struct CompiledLimits {
    /// How fast requests may come.
    pub rates: [Option<Rate>; 2],
    /// How many may be under way; none: any number.
    pub connections: Option<u32>,
    /// Who is not limited.
    pub exempt: NetworkSet,
}

/// See [`crate::config::Addresses`].
#[derive(Debug)]
pub struct CompiledAddresses {
    /// Who is let in; none: everybody.
    pub allow: Option<NetworkSet>,
    /// Who is refused.
    pub deny: NetworkSet,
}

/// See [`crate::config::Block`].
#[derive(Debug)]
pub struct CompiledBlock {
    /// Values of User-Agent.
    pub user_agents: Box<[HeaderPattern]>,
    /// Values of Referer.
    pub referers: Box<[HeaderPattern]>,
}

/// A value of a header.
#[derive(Debug)]
pub enum HeaderPattern {
    /// This text, without case.
    Text(Box<[u8]>),
    /// A text in which the expression is found.
    Expression(Box<Regex>),
}

/// See [`crate::config::ErrorPages`].
#[derive(Debug)]
pub struct CompiledErrorPages {
    /// The statuses.
    pub statuses: Rc<[u16]>,
    /// The Envoy cluster.
    pub cluster: Option<Box<str>>,
    /// Errors of backends stay.
    pub keep_backend_errors: bool,
}

/// See [`crate::config::Mirror`].
#[derive(Debug)]
pub struct CompiledMirror {
    /// The Envoy cluster.
    pub cluster: Box<str>,
    /// Path and query of the copy.
    pub target: Template,
}

/// See [`crate::config::Redirect`].
#[derive(Debug)]
pub struct CompiledRedirect {
    /// A URL or a path, without control characters.
    pub url: Box<str>,
    /// HTTP status.
    pub status: u16,
}

/// See [`crate::config::BasicAuth`].
#[derive(Debug)]
pub struct CompiledBasicAuth {
    /// The challenge of a 401, `Basic realm="…"`.
    pub challenge: Box<str>,
    /// Which list, so that verified passwords of two lists are not confused.
    pub list: u64,
    /// User name to hash.
    pub users: Rc<HashMap<Box<[u8]>, PasswordHash>>,
}

/// See [`crate::config::Rewrite`].
#[derive(Debug)]
pub enum CompiledRewrite {
    /// The whole path is replaced.
    Path {
        /// The new path.
        target: Template,
        /// Value of X-Forwarded-Prefix.
        forwarded_prefix: Option<Template>,
    },
    /// The rule's path is replaced.
    Prefix {
        /// What stands in its place, without a final slash.
        target: Box<str>,
    },
}
