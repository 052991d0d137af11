//! The edge: the proxy-wasm filter that Envoy loads. It reads what a request is, asks the engine, and
//! carries the decision out.
//!
//! Deliberately knows nothing of precedence, of annotations and of what a policy means.

mod contexts;
mod counters;
mod header_map;
mod host;
mod http;
mod limits;
mod parts;
mod root;
