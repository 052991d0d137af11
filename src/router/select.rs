//! From a request's host and path to the rule that decides it, and how it matched: carried along, so that
//! nothing downstream matches again.

use super::elements::ElementMatch;
pub use super::expressions::Groups;
use super::expressions::{self, Found};
use super::hosts::HostMatch;
use super::table::{CompiledHost, CompiledRule, Paths, RoutingTable};
use crate::config::PathType;
use crate::regex::{Options, Regex};

/// Reusable memory of selections.
pub type Scratch = expressions::Scratch;

/// What the table says to a host and a path.
#[derive(Debug)]
pub enum Selection<'t> {
    /// No entry takes this host.
    UnknownHost,
    /// The host is known, no rule of it takes this path.
    NoRule(&'t CompiledHost),
    /// This rule decides.
    Rule(Selected<'t>),
    /// This rule would have been asked, but its expression is broken: refuse.
    Refuse(Selected<'t>),
    /// An expression took too many steps for this path.
    LimitExceeded(&'t CompiledHost),
}

impl<'t> Selection<'t> {
    /// The host entry that took the host.
    pub fn host(&self) -> Option<&'t CompiledHost> {
        match self {
            Selection::UnknownHost => None,
            Selection::NoRule(host) | Selection::LimitExceeded(host) => Some(host),
            Selection::Rule(selected) | Selection::Refuse(selected) => Some(selected.host),
        }
    }
}

/// A rule, and how it matched.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'t> {
    /// The host entry.
    pub host: &'t CompiledHost,
    /// How the entry took the host.
    pub host_match: HostMatch,
    /// The rule.
    pub rule: &'t CompiledRule,
    /// How the rule took the path.
    pub path_match: PathMatch,
}

/// How a rule took a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMatch {
    /// It is the path of an Exact rule.
    Exact,
    /// It is at or below the path of a Prefix rule.
    Prefix,
    /// The rule's path ends in a slash and the request's lacks it: nginx redirects.
    MissingSlash,
    /// The rule's expression matches it.
    Expression(Groups),
}

/// Selects the rule for the Host of a request and its normalised path.
pub fn select<'t>(
    table: &'t RoutingTable,
    authority: &[u8],
    path: &[u8],
    scratch: &mut Scratch,
) -> Selection<'t> {
    let Some((host, host_match)) = find_host(table, authority) else { return Selection::UnknownHost };
    let selected = |rule: usize, path_match| {
        let rule = host.rules.get(rule)?;
        Some(Selected { host, host_match, rule, path_match })
    };
    let selection = match host.paths() {
        Paths::Elements(paths) => paths.find(path).and_then(|(rule, how)| {
            let path_match = match how {
                ElementMatch::Exact => PathMatch::Exact,
                ElementMatch::Prefix => PathMatch::Prefix,
                ElementMatch::MissingSlash => PathMatch::MissingSlash,
            };
            selected(rule, path_match).map(Selection::Rule)
        }),
        Paths::Expressions(paths) => match paths.find(path, scratch) {
            Err(_) => Some(Selection::LimitExceeded(host)),
            Ok(None) => None,
            Ok(Some(Found::Rule(rule, groups))) => {
                selected(rule, PathMatch::Expression(groups)).map(Selection::Rule)
            }
            Ok(Some(Found::Refuse(rule))) => selected(rule, PathMatch::Prefix).map(Selection::Refuse),
        },
    };
    selection.unwrap_or(Selection::NoRule(host))
}

/// The host entry for the Host of a request.
pub fn find_host<'t>(table: &'t RoutingTable, authority: &[u8]) -> Option<(&'t CompiledHost, HostMatch)> {
    table.hosts.find(authority)
}

/// A rule of the host, looked at by itself.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'t> {
    /// The rule.
    pub rule: &'t CompiledRule,
    /// Whether the path alone would match, were there no other rule.
    pub matches: bool,
}

/// Every rule of the host that takes a request, in order of the configuration, each looked at by itself and
/// without the index: slow, for `explain` and to check [`select`] against.
pub fn candidates<'t>(table: &'t RoutingTable, authority: &[u8], path: &[u8]) -> Vec<Candidate<'t>> {
    let Some((host, _)) = find_host(table, authority) else { return Vec::new() };
    let mut scratch = crate::regex::Scratch::default();
    let mut matches = |rule: &CompiledRule| match host.paths() {
        Paths::Elements(_) => takes(rule, path),
        Paths::Expressions(_) => Regex::new(&format!("^{}", rule.path), Options::CASELESS)
            .is_ok_and(|regex| regex.is_match(path, &mut scratch).unwrap_or(false)),
    };
    host.rules.iter().map(|rule| Candidate { rule, matches: matches(rule) }).collect()
}

/// Whether a rule takes a path by the Kubernetes Ingress specification.
fn takes(rule: &CompiledRule, path: &[u8]) -> bool {
    let own = rule.path.as_bytes();
    match rule.path_type {
        PathType::Exact => own == path,
        PathType::Prefix => {
            let own = own.strip_suffix(b"/").unwrap_or(own);
            path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        }
    }
}
