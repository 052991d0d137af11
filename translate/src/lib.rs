//! Kubernetes objects to plugin configuration, clusters and diagnostics: a pure function.
//!
//! The same objects give the same bytes: a fixed order, ordered maps, no clock, no randomness.
//!
//! Deliberately knows nothing of clients, watches, async code, sockets and of how a request is matched.

mod access;
pub mod annotations;
mod api_keys;
pub mod backend_protocol;
mod backends;
mod canaries;
pub mod certificates;
mod changes;
mod ciphers;
mod class;
pub mod client_certificates;
pub mod connections;
mod cors;
mod credentials;
pub mod diagnostic;
mod endpoints;
mod error_pages;
mod exemptions;
mod external_auth;
mod generation;
mod global;
pub mod host_ciphers;
mod hosts;
mod incremental;
pub mod jwt;
mod ledger;
mod limits;
pub mod manifest;
mod mesh;
mod mirror;
pub mod objects;
pub mod output;
pub mod passthrough;
mod policies;
pub mod rate_limits;
pub mod references;
mod report;
mod retries;
pub mod snippet;
mod snippets;
pub mod tls;
mod translate;
mod upstreams;
mod used;

pub use class::CLASS_ANNOTATION;
pub use incremental::{Extent, Translator};
pub use translate::{referenced_backends, translate};

/// The kind and name of an Ingress.
fn ingress_ref(ingress: &objects::Ingress) -> objects::ObjectRef {
    objects::ObjectRef { kind: objects::Kind::Ingress, name: ingress.metadata.name.clone() }
}
