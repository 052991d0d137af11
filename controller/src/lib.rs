//! Everything that turns a translation into a running Envoy: resources, the xDS server that feeds them, the
//! process itself, and the knowledge of when every worker serves what was published.
//!
//! Deliberately knows nothing of Kubernetes objects, of annotations and of how a request is matched.

#![deny(unsafe_code)]

pub mod admin;
pub mod certificate;
pub mod envoy;
pub mod filter;
pub mod local;
pub mod ready;
pub mod supervisor;
pub mod xds;
