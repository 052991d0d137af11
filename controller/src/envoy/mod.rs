//! Envoy's configuration, made from a translation as typed messages.
//!
//! Deliberately knows nothing of how the messages reach Envoy (that is `xds`), of Kubernetes objects, and of
//! how a request is matched.

mod access_log;
mod backend_tls;
mod bootstrap;
mod clusters;
mod compression;
mod connection_manager;
mod gateway;
mod json;
mod jwt;
mod key_files;
mod listeners;
mod local_reply;
mod names;
mod parts;
mod pb;
mod rate_limits;
mod resources;
mod routes;
mod sessions;
#[cfg(test)]
mod tests;
mod tls;
mod upgrades;
mod upstream_filters;
mod wasm;

pub use bootstrap::{
    Admin, DynamicBootstrap, StaticBootstrap, dynamic_bootstrap, key_files, static_bootstrap,
};
pub use gateway::{
    asking_chain_patch, client_certificate_filter, compressor_filters, connection_manager_patch,
    mirror_cluster_patch, route_configuration_patch, router_patch, session_filter_patch, virtual_host,
};
pub use json::{ToJsonError, to_json};
pub use key_files::KeyFiles;
pub use listeners::{Bind, Listeners};
pub use names::*;
pub use resources::{BuildError, ResourceBuilder};
