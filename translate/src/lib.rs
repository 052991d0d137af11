//! Kubernetes objects to plugin configuration, clusters and diagnostics: a pure function.
//!
//! The same objects give the same bytes: a fixed order, ordered maps, no clock, no randomness.
//!
//! Deliberately knows nothing of clients, watches, async code, sockets and of how a request is matched.

pub mod annotations;
pub mod diagnostic;
pub mod manifest;
pub mod objects;
pub mod output;
