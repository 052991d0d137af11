//! The binary `ingress-wasm`: the command line, the files it follows, and everything that turns a translation
//! into a running Envoy: resources, the xDS server that feeds them, the process itself, and the knowledge of
//! when every worker serves what was published.
//!
//! Deliberately knows nothing of how an annotation is read and of how a request is matched.

#![deny(unsafe_code)]

pub mod admin;
pub mod catalog;
pub mod certificate;
pub mod cli;
pub mod cluster;
pub mod envoy;
pub mod feed;
pub mod files;
pub mod filter;
pub mod istio;
pub mod local;
pub mod ready;
pub mod supervisor;
pub mod terminal;
pub mod watch;
pub mod xds;
