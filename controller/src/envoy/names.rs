//! Names that more than one place has to agree on.

/// The filter: its name in the connection manager, its extension configuration, its root context and VM.
/// The VM's name never changes, since Envoy leaks a VM for each new one.
pub const FILTER: &str = "ingress-wasm";

/// The route configuration.
pub const ROUTES: &str = "ingress";

/// The listener for plain HTTP.
pub const HTTP_LISTENER: &str = "http";

/// The listener for TLS.
pub const HTTPS_LISTENER: &str = "https";

/// The listener that asks workers which generation they serve.
pub const PROBE_LISTENER: &str = "probe";

/// The secret with the certificate of the TLS listener.
pub const DEFAULT_CERTIFICATE: &str = "default-certificate";

/// The cluster that reaches the xDS server.
pub const XDS_CLUSTER: &str = "ingress-wasm-xds";

/// Private header: the cluster that the filter chose.
pub const CLUSTER_HEADER: &str = "x-ingress-wasm-cluster";

/// Private header: the route profile that the filter chose.
pub const PROFILE_HEADER: &str = "x-ingress-wasm-profile";

/// Private header: scheme, port and peer address of the connection, told by the listener.
pub const CONNECTION_HEADER: &str = "x-ingress-wasm-connection";

/// In the answer to a probe: the generation of the configuration that the worker serves.
pub const GENERATION_HEADER: &str = "x-ingress-wasm-generation";

/// In the answer to a probe: a random name of the worker's VM.
pub const VM_HEADER: &str = "x-ingress-wasm-vm";
