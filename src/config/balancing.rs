//! How the requests for a Service are divided: between it and a canary, and among endpoints; and copies of them.
//! Parts of [`super::PluginConfig`].

use serde::{Deserialize, Serialize};

use super::model::is_default;

/// How the requests for a Service are divided. ingress-nginx decides this per Service and port, not per rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Balancing {
    /// Another Service that gets a part of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// A client stays with one endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Requests with the same value go to the same endpoint. Without meaning beside `affinity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_by: Option<HashBy>,
}

/// A Service that takes a part of another's requests. Header, cookie and weight are looked at in this order;
/// the first that has a say decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Canary {
    /// The Ingress it comes from, `namespace/name`.
    pub ingress: String,
    /// The Service, `namespace/name:port`.
    pub service: String,
    /// Name of its Envoy cluster.
    pub cluster: String,
    /// A request header: `always` chooses the canary, `never` the main Service (`canary-by-header`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The value of the header that chooses the canary, in place of the two words (`canary-by-header-value`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_value: Option<String>,
    /// An expression over the header's value that chooses the canary, in place of the two words
    /// (`canary-by-header-pattern`). One that cannot be matched leaves every request with the header to the
    /// main Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_pattern: Option<String>,
    /// A cookie: `always` chooses the canary, `never` the main Service (`canary-by-cookie`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// How many of `weightTotal` other requests go to the canary (`canary-weight`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub weight: u32,
    /// What `weight` is counted out of (`canary-weight-total`); at least 1.
    #[serde(default = "hundred", skip_serializing_if = "is_hundred")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub weight_total: u32,
    /// As `Balancing.affinity`, among the endpoints of the canary. A client that is bound to it stays with it
    /// (`affinity-canary-behavior`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// As `Balancing.hashBy`, among the endpoints of the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_by: Option<HashBy>,
}

/// A cookie that binds a client to an endpoint (`affinity`). Its value is a random text, whose hash goes to Envoy
/// in the private header `x-ingress-wasm-hash`, or an endpoint, and the key of the Service behind a `|`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Affinity {
    /// Name of the cookie.
    pub cookie: String,
    /// Tells the Services apart that a client may be bound to.
    pub key: String,
    /// A client without the cookie gets one. Otherwise only those that have it are bound.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sets_cookie: bool,
    /// The attribute Path; absent: the path of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The attribute Domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The attribute Expires, in seconds from the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// The attribute Max-Age, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// The attribute Secure also over plain HTTP; over TLS it is always there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secure: bool,
    /// The attribute SameSite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_site: Option<String>,
    /// `SameSite=None` is left out for browsers that take it for `Strict`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub conditional_same_site_none: bool,
    /// A client stays with its endpoint for as long as that is there, whichever others come: the cookie holds the
    /// endpoint instead of a random text. Needs `endpointSecret`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub persistent: bool,
    /// The client's cookie changes to the endpoint that has answered where its own has failed. Needs `endpointSecret`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub change_on_failure: bool,
    /// What endpoints in cookies are encrypted with: any text, the same for all replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_secret: Option<String>,
}

/// Requests with the same value go to the same endpoint (`upstream-hash-by`): the value's hash goes to Envoy in
/// the private header `x-ingress-wasm-hash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HashBy {
    /// The value; may hold nginx variables.
    pub value: String,
    /// Envoy clusters with a part of the endpoints each, one of which is chosen by the value
    /// (`upstream-hash-by-subset`). Empty: one endpoint is chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<String>,
}

/// A copy of each request goes to another service (`mirror-target`), whose answer is dropped. What only a route can
/// have of it, such as the Host, is in the route profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mirror {
    /// Name of the Envoy cluster: for `explain`.
    pub cluster: String,
    /// Path and query of the copy; may hold nginx variables.
    pub target: String,
}

fn hundred() -> u32 {
    100
}

fn is_hundred(total: &u32) -> bool {
    *total == hundred()
}
