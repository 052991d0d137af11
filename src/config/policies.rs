//! What is done to the requests of a rule: one set for each Ingress, for most of them the same.

use serde::{Deserialize, Serialize};

use super::auth::{ApiKeyAuth, ExternalAuth};
use super::model::is_default;
use super::{Mirror, Script};

/// The policies of a rule, in the order in which they are evaluated. A field that is absent asks nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicySet {
    /// Every request is answered 503: a protection was asked for that cannot be honoured. Says which, for
    /// `explain` and the log; never sent to clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<String>,
    /// Largest request body in bytes, declared or streamed; a larger one is answered 413. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u64>,
    /// How many requests of one client are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Requests are counted by a rate limit service that Envoy asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_limit: Option<GlobalLimit>,
    /// Which addresses may come in; others are answered 403.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Addresses>,
    /// One of `addresses` and `basicAuth` suffices (nginx `satisfy any`); otherwise all are needed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub satisfy_any: bool,
    /// User name and password are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// An API key is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyAuth>,
    /// A service is asked about each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_auth: Option<ExternalAuth>,
    /// Cross-origin resource sharing (`enable-cors`). Every OPTIONS request of an allowed origin is answered 204
    /// before anything below is looked at, and every answer to such an origin gets the headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Every request is redirected, before anything else but `denied` and `cors` is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Redirects to a path are sent without scheme and host (nginx `absolute_redirect off`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub relative_redirects: bool,
    /// Plain HTTP is redirected to HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_redirect: Option<TlsRedirect>,
    /// The path that the backend gets instead of the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Tell the backend the original request target in X-Original-URI (ConfigMap
    /// `proxy-add-original-uri-header`, and what releases of the time of extensions/v1beta1 always did).
    #[serde(default, skip_serializing_if = "is_default")]
    pub original_uri_header: bool,
    /// Errors that a Service answers instead (`custom-http-errors`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_pages: Option<ErrorPages>,
    /// Edits to what the backend receives, after those of `Global`. Values may hold nginx variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<HeaderEdit>,
    /// Edits to the answer of the backend, after those of `Global`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<HeaderEdit>,
    /// The beginning of Location and of the URL in Refresh that is replaced in answers of the backend
    /// (`proxy-redirect-from`, `proxy-redirect-to`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_rewrite: Option<Replacement>,
    /// The domain that is replaced in cookies of the backend, without case and without a dot at its beginning
    /// (`proxy-cookie-domain`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_domain_rewrite: Option<Replacement>,
    /// The beginning of the path that is replaced in cookies of the backend (`proxy-cookie-path`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_path_rewrite: Option<Replacement>,
    /// Requests over TLS go to the cluster whose name has this behind it (`backend-protocol: AUTO_HTTP`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_cluster_suffix: Option<String>,
    /// A copy of each request that is proxied goes elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Headers of backends that the client does not get. Absent: those of `Global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_headers: Option<Vec<String>>,
    /// What snippets of nginx configuration come to (`configuration-snippet`). Its steps come after `redirect`, its
    /// headers after all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// Name of the Envoy route that carries timeouts, retries and other settings that only a route can
    /// have; written to the private header `x-ingress-wasm-profile`. Absent: the default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_profile: Option<String>,
}

/// How many requests of one client address are served (`limit-rps`, `limit-rpm`, `limit-connections`), counted over all
/// rules with the same `Rule.ingress`, and over all workers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Requests per second. 0: any number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_second: u32,
    /// How many more than one at a time `perSecond` lets through, as long as they are made up for afterwards.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_second_burst: u32,
    /// Requests per minute. 0: any number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_minute: u32,
    /// As `perSecondBurst`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_minute_burst: u32,
    /// Requests that are under way at the same time. 0: any number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connections: u32,
    /// Addresses and networks that are not limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<String>,
}

/// What a rate limit service is told of a request, in the private headers `x-ingress-wasm-limit` and
/// `x-ingress-wasm-limit-1` to `-8`, from which Envoy's route makes descriptors. A request without them is not counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GlobalLimit {
    /// The values of the descriptors' entries, one to a header, with nginx variables. At most 8.
    pub values: Vec<String>,
    /// How many requests are allowed, as Envoy's `header_to_metadata` decodes it. Absent: the service knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Addresses and networks that are not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<String>,
}

/// Which addresses of clients may come in (`allowlist-source-range`, `denylist-source-range`, ConfigMap
/// `block-cidrs`). Entries are addresses or networks in CIDR notation, IPv4 or IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Addresses {
    /// Only these. Empty: all but those of `deny`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Not these, be they in `allow` or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// Basic authentication (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BasicAuth {
    /// The realm that a client shows to its user; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub realm: String,
    /// Key in `PluginConfig.credentials`.
    pub credentials: String,
}

/// Cross-origin resource sharing. An empty value stands for no such header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cors {
    /// `*` alone, which allows every request, even one without an Origin; or origins, compared without case, in
    /// each of which one `*` may stand for letters, digits and hyphens.
    pub origins: Vec<String>,
    /// Value of Access-Control-Allow-Methods.
    pub methods: String,
    /// Value of Access-Control-Allow-Headers.
    pub headers: String,
    /// Value of Access-Control-Expose-Headers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expose_headers: String,
    /// Value of Access-Control-Max-Age, in seconds.
    pub max_age: String,
    /// Access-Control-Allow-Credentials is sent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub credentials: bool,
}

/// Errors that a Service answers instead (`custom-http-errors`). It is asked for `/` with the query, method and
/// headers of the request, and told of the error in X-Code, X-Format, X-Original-URI, X-Namespace,
/// X-Ingress-Name, X-Service-Name and X-Service-Port; the client gets its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ErrorPages {
    /// The statuses, 300 to 599.
    pub statuses: Vec<u16>,
    /// Name of the Envoy cluster of the Service. Absent: a page with the status 404.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Errors that come from the backend stay; only those made by the proxy are replaced
    /// (`disable-proxy-intercept-errors`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_backend_errors: bool,
}

/// A redirect of every request (`permanent-redirect`, `temporal-redirect`). Path and query of the request
/// are not appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Redirect {
    /// Where to: a URL, or a path on the same host.
    pub url: String,
    /// HTTP status, 300 to 308. One without a Location (300, 304 to 306) gets the URL as its body.
    pub status: u16,
}

/// When and how plain HTTP is redirected to HTTPS: to the same host without its port, and the same target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsRedirect {
    /// Also where there is no certificate for the host (`force-ssl-redirect`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub always: bool,
    /// Keep a slash at the end of the target, which ingress-nginx drops.
    #[serde(default, skip_serializing_if = "is_default")]
    pub preserve_trailing_slash: bool,
}

/// A text, and what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Replacement {
    /// The text that is looked for.
    pub from: String,
    /// What stands in its place.
    pub to: String,
}

/// How the path of a request changes on its way to the backend. The query stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Rewrite {
    /// The whole path is replaced (`nginx.ingress.kubernetes.io/rewrite-target`).
    Path {
        /// The new path; `$1` to `$9` stand for groups of the rule's expression, other nginx variables
        /// for themselves. A target with a scheme (`http://`, `https://`) is answered 302 instead.
        target: String,
        /// Value of X-Forwarded-Prefix; may use `$1` to `$9`. Empty: the header is not set.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        forwarded_prefix: String,
    },
    /// Only the path of the rule is replaced, what follows it stays (`ingress.kubernetes.io/rewrite-target`
    /// of early releases).
    Prefix {
        /// What stands in place of the rule's path.
        target: String,
    },
}

/// One change to a list of headers. Edits are applied in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum HeaderEdit {
    /// All lines of this name are replaced with one.
    Set {
        /// Header name; case is of no concern.
        name: String,
        /// The value; may hold nginx variables (`$host`), `$$` stands for a dollar.
        value: String,
    },
    /// A further line.
    Add {
        /// Header name; case is of no concern.
        name: String,
        /// The value; may hold nginx variables (`$host`), `$$` stands for a dollar.
        value: String,
    },
    /// All lines of this name are taken away.
    Remove {
        /// Header name; case is of no concern. One that ends in `*` is the beginning of names.
        name: String,
    },
}
