//! The part of the plugin configuration that is about who may come in by the word of another service.

use serde::{Deserialize, Serialize};

use super::HeaderEdit;
use super::model::is_default;

/// Asks a service about each request (`auth-url`). An answer with 2xx lets it pass, 401 and 403 are handed to
/// the client, everything else and no answer are 500.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExternalAuth {
    /// Name of the Envoy cluster of the service. `$host` in it stands for the host of the request; a request
    /// for which there is no such cluster is answered 500.
    pub cluster: String,
    /// The Host that the service gets; may hold nginx variables.
    pub host: String,
    /// Path and query that the service is asked for; may hold nginx variables. Empty: the path of nginx's
    /// location for this, `/_external-auth-`, the rule's path in URL-safe base64, `-` and the path type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The method of the request to the service (`auth-method`). With it the service is told X-Original-URI
    /// and X-Scheme. Absent: GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Value of X-Auth-Request-Redirect (`auth-request-redirect`); may hold nginx variables. Absent: the
    /// target of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<String>,
    /// Edits to the request to the service (`auth-proxy-set-headers`). Values may hold nginx variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<HeaderEdit>,
    /// Headers of the answer that the backend gets (`auth-response-headers`), whatever the client sent; one that
    /// the service did not send is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<String>,
    /// Where a client is redirected (302) instead of a 401 (`auth-signin` with its parameter); may hold nginx
    /// variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<String>,
    /// The client gets the cookies of the service whatever the status of its answer is
    /// (`auth-always-set-cookie`). Otherwise with 200, 201, 204, 206, 301 to 304, 307 and 308.
    #[serde(default, skip_serializing_if = "is_default")]
    pub always_set_cookie: bool,
    /// Answers are remembered. Absent: the service is asked about every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<AuthCache>,
}

/// Remembers the answers of an authentication service, by worker. An answer with Set-Cookie, or one that forbids
/// it by Cache-Control, Expires or X-Accel-Expires, is not remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuthCache {
    /// What tells requests apart (`auth-cache-key`), besides host and path of the rule; may hold nginx variables.
    pub key: String,
    /// How long, by status (`auth-cache-duration`); the first that fits counts.
    pub times: Vec<CacheTime>,
}

/// Asks for an API key. A request without one of the keys is answered 401.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiKeyAuth {
    /// Key in `PluginConfig.apiKeys`.
    pub keys: String,
    /// The header that holds the key; of Authorization what stands behind the first word. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The query parameter that holds the key. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The header in which the backend is told the client's name, whatever the client sent in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_header: Option<String>,
    /// The backend gets the key. Otherwise header and parameter are taken from the request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forward: bool,
}

/// How long answers of one status are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CacheTime {
    /// HTTP status; 0: any.
    pub status: u16,
    /// Milliseconds.
    pub ms: u64,
}
