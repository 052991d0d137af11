//! From a plugin configuration to the table that requests are matched with, and from a request to its rule.
//!
//! Deliberately knows nothing of what the policies of a rule mean, of the host, of I/O, clocks and
//! randomness.

mod balancing;
mod compile;
#[cfg(test)]
mod compile_tests;
mod elements;
mod expressions;
mod hosts;
mod locations;
mod parts;
pub mod path;
mod policies;
mod scripts;
mod select;
mod table;

#[cfg(test)]
mod tests;

pub use balancing::{
    CompiledAffinity, CompiledBalancing, CompiledCanary, CompiledCookie, CompiledHashBy, EndpointInCookie,
    HeaderRule,
};
pub use compile::{check_pattern, compile, compile_document};
pub use expressions::check as check_expression;
pub use hosts::{
    HostMatch, InvalidHost, canonical as canonical_host, check_alias, is_valid as is_valid_host, without_port,
};
pub use locations::locate;
pub use parts::{Document, Draft, MOST_PARTS, Part, part_key, part_of};
pub use select::{Candidate, Groups, PathMatch, Scratch, Selected, Selection, candidates, find_host, select};
pub use table::{
    CompiledAction, CompiledAddresses, CompiledBasicAuth, CompiledBlock, CompiledClientCertificate,
    CompiledErrorPages, CompiledGlobalLimit, CompiledHost, CompiledLimits, CompiledLocation, CompiledMirror,
    CompiledPolicies, CompiledRedirect, CompiledRewrite, CompiledRule, Fault, HeaderBuffers, HeaderPattern,
    LocationKind, RoutingTable,
};
