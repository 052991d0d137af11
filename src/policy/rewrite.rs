//! The path that the backend gets: nginx's `rewrite … break`, and the replacement of a prefix as early
//! releases of ingress-nginx did it.
//!
//! A rewrite works on the normalised path and escapes the result again, so `%2F` of the request becomes
//! `/`; a request that nothing rewrites keeps its target byte for byte.

use std::borrow::Cow;

use super::{Facts, Template};
use crate::router::path::escape;
use crate::router::{CompiledRewrite, PathMatch};

/// What a rewrite comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewritten<'a> {
    /// The target stays as it came.
    Unchanged,
    /// The backend gets this path and query.
    Target {
        /// Path and query.
        target: Vec<u8>,
        /// X-Forwarded-Prefix, where one is to be set.
        forwarded_prefix: Option<Cow<'a, [u8]>>,
    },
    /// The rewrite names another site: the client is sent there (302).
    Elsewhere(Vec<u8>),
}

/// Rewrites the path of a request.
pub fn rewrite<'a>(rewrite: &'a CompiledRewrite, facts: &Facts<'a>) -> Rewritten<'a> {
    match rewrite {
        CompiledRewrite::Prefix { target } => prefix(target, facts),
        CompiledRewrite::Path { target, forwarded_prefix } => path(target, forwarded_prefix.as_ref(), facts),
    }
}

fn path<'a>(
    target: &'a Template,
    forwarded_prefix: Option<&'a Template>,
    facts: &Facts<'a>,
) -> Rewritten<'a> {
    let rule = facts.selected.map(|selected| &*selected.rule.path);
    // ingress-nginx writes no rewrite where target and path are the same text.
    if target.constant().is_some() && target.constant() == rule {
        return Rewritten::Unchanged;
    }
    let rendered = target.render(facts);
    if rendered.starts_with(b"http://") || rendered.starts_with(b"https://") {
        let mut location = Vec::with_capacity(rendered.len());
        for byte in rendered.iter() {
            if byte.is_ascii_control() || *byte == b' ' {
                location.extend_from_slice(format!("%{byte:02X}").as_bytes());
            } else {
                location.push(*byte);
            }
        }
        append_query(&mut location, facts.query);
        return Rewritten::Elsewhere(location);
    }
    let forwarded_prefix = forwarded_prefix.map(|prefix| prefix.render_header(facts));
    Rewritten::Target { target: escaped(&rendered, facts.query), forwarded_prefix }
}

fn prefix<'a>(target: &str, facts: &Facts<'a>) -> Rewritten<'a> {
    let rule = facts.selected.map_or("", |selected| &*selected.rule.path);
    let rule = rule.strip_suffix('/').unwrap_or(rule);
    // Where the host reads its paths as expressions the rule's text may not stand in the request.
    let length = match facts.selected.map(|selected| selected.path_match) {
        Some(PathMatch::Expression(groups)) => groups.get(&facts.path, 0).len(),
        _ => rule.len(),
    };
    let rest = facts.path.get(length..).unwrap_or_default();
    let mut path = target.as_bytes().to_vec();
    match rest.first() {
        None | Some(b'/') => {}
        Some(_) => path.push(b'/'),
    }
    path.extend_from_slice(rest);
    if path.is_empty() {
        path.push(b'/');
    }
    if path == *facts.path {
        return Rewritten::Unchanged;
    }
    Rewritten::Target { target: escaped(&path, facts.query), forwarded_prefix: None }
}

/// A path on its way to the backend. One that does not begin with a slash gets one: no HTTP request can go
/// without.
fn escaped(path: &[u8], query: Option<&[u8]>) -> Vec<u8> {
    let mut target =
        Vec::with_capacity(path.len().saturating_add(query.map_or(0, <[u8]>::len)).saturating_add(8));
    if path.first() != Some(&b'/') {
        target.push(b'/');
    }
    escape(path, &mut target);
    append_query(&mut target, query);
    target
}

fn append_query(target: &mut Vec<u8>, query: Option<&[u8]>) {
    if let Some(query) = query
        && !query.is_empty()
    {
        target.push(b'?');
        target.extend_from_slice(query);
    }
}
