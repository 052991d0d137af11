//! Names that more than one place has to agree on.

/// The filter: its name in the connection manager, its extension configuration, its root context and VM.
/// The VM's name never changes, since Envoy leaks a VM for each new one.
pub const FILTER: &str = "ingress-wasm";

/// The filter that tells ours of the client's certificate, where one is asked for.
pub const CLIENT_CERTIFICATE_FILTER: &str = "client-certificate";

/// Envoy's filter for tokens: its name in the connection manager and of its extension configuration.
pub const JWT_FILTER: &str = "jwt";

/// The route configuration.
pub const ROUTES: &str = "ingress";

/// The listener for plain HTTP.
pub const HTTP_LISTENER: &str = "http";

/// The listener for TLS.
pub const HTTPS_LISTENER: &str = "https";

/// The listener that asks workers which generation they serve.
pub const PROBE_LISTENER: &str = "probe";

/// The listener that holds the parts of the plugin configuration. It takes no connections.
pub const PARTS_LISTENER: &str = "parts";

/// The secret with the certificate of the TLS listener.
pub const DEFAULT_CERTIFICATE: &str = "default-certificate";

/// The cluster that reaches the xDS server.
pub const XDS_CLUSTER: &str = "ingress-wasm-xds";

/// On copies for mirrors, between the route and the mirror's cluster: path and query.
pub const MIRROR_TARGET_HEADER: &str = "x-ingress-wasm-mirror-target";

/// As [`MIRROR_TARGET_HEADER`]: X-Forwarded-For.
pub const MIRROR_FOR_HEADER: &str = "x-ingress-wasm-mirror-for";

/// As [`MIRROR_TARGET_HEADER`]: `off` for copies without a body.
pub const MIRROR_BODY_HEADER: &str = "x-ingress-wasm-mirror-body";

/// Envoy's filter for sessions: the endpoint that a client is bound to.
pub const SESSION_FILTER: &str = "envoy.filters.http.stateful_session";

pub use ingress_wasm::decision::{
    CERTIFICATE_HEADER, CLUSTER_HEADER, CONNECTION_HEADER, ENDPOINT_HEADER, ERROR_PAGE, GENERATION_HEADER,
    HASH_HEADER, LIMIT_HEADERS, MIRROR_PROPERTY, PROFILE_HEADER, SESSION_SUFFIX, VM_HEADER,
};
