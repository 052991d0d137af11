//! The decision engine of ingress-wasm, and the Envoy filter made of it.
//!
//! A request goes one way: [`config`] holds the rules as they are written, [`router`] compiles them into a
//! table and selects the rule, [`policy`] turns rule and request into a [`decision`], and the filter (built
//! for Envoy only) carries the decision out with the fewest host calls.
//!
//! Everything but the filter is pure and builds for the host, for Envoy and for the browser alike.

#![forbid(unsafe_op_in_unsafe_fn)]
#![cfg_attr(not(target_os = "wasi"), forbid(unsafe_code))]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

pub mod config;
pub mod decision;
pub mod limits;
pub mod password;
pub mod policy;
pub mod regex;
pub mod router;
pub mod statistics;

#[cfg(target_os = "wasi")]
mod filter;

// The part of the filter that is pure, for its tests.
#[cfg(all(test, not(target_os = "wasi")))]
#[path = "filter/header_map.rs"]
mod header_map;

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit this build was made from; `unknown` where the build could not tell.
pub const COMMIT: &str = env!("INGRESS_WASM_COMMIT");
