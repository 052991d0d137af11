//! The conformance runner and what end-to-end tests need: cases, groups of them, an HTTP client that changes
//! no byte, expectations with readable messages, and the product as a child process.
//!
//! The way of a case: [`case`] reads it, [`group`] puts it together with others that may be loaded at the same
//! time, an [`engine`] loads the group and sends the requests, [`expect`] compares, [`runner`] reports each
//! case as one named test.

#![forbid(unsafe_code)]

pub mod apiserver;
pub mod case;
pub mod client;
pub mod control_plane;
pub mod decide_engine;
pub mod engine;
pub mod envoy_engine;
pub mod expect;
mod explained;
pub mod group;
pub mod istio;
pub mod jar;
pub mod known;
pub mod manifests;
pub mod product;
pub mod runner;
pub mod site;
pub mod tls;
