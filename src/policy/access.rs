//! Who may come in by address, as nginx's `allow` and `deny` have it, and whom the ConfigMap's lists of user
//! agents and referers keep out.

use super::client::Client;
use super::reply::page;
use super::satisfy::Opinion;
use crate::decision::RequestView;
use crate::regex;
use crate::router::{CompiledAddresses, CompiledBlock, HeaderPattern};

/// What the lists of addresses say of a client. The one of those that are refused goes first.
pub fn check_address(addresses: &CompiledAddresses, client: &Client<'_>) -> Opinion<'static> {
    let refused = || Opinion::Refused(page(403, "address"));
    // What is no address is on no list, so nothing speaks for it.
    let Some(ip) = client.ip() else { return refused() };
    if addresses.deny.contains(ip) {
        return refused();
    }
    match &addresses.allow {
        None => Opinion::Silent,
        Some(allow) if allow.contains(ip) => Opinion::Passed,
        Some(_) => refused(),
    }
}

/// Whether the request's User-Agent or Referer is one of those that are kept out. One line of several
/// suffices; an expression that takes too long keeps out.
pub fn is_blocked(block: &CompiledBlock, request: &RequestView<'_>, scratch: &mut regex::Scratch) -> bool {
    let mut any = |name: &[u8], patterns: &[HeaderPattern]| {
        !patterns.is_empty()
            && request
                .headers
                .iter()
                .filter(|line| line.0 == name)
                .any(|line| patterns.iter().any(|pattern| matches(pattern, line.1, scratch)))
    };
    any(b"user-agent", &block.user_agents) || any(b"referer", &block.referers)
}

fn matches(pattern: &HeaderPattern, value: &[u8], scratch: &mut regex::Scratch) -> bool {
    match pattern {
        HeaderPattern::Text(text) => value.eq_ignore_ascii_case(text),
        HeaderPattern::Expression(regex) => regex.is_match(value, scratch).unwrap_or(true),
    }
}
