//! Paths that go before rules: the `location` blocks of a server snippet, chosen among as nginx does.

use super::select::{PathMatch, Selected, Selection, find_host};
use super::table::{CompiledLocation, CompiledRule, LocationKind, RoutingTable};
use crate::regex::{self, LimitExceeded};

/// What takes the path: what was selected, or a location of the host.
pub fn locate<'t>(
    table: &'t RoutingTable,
    authority: &[u8],
    path: &[u8],
    selection: Selection<'t>,
    scratch: &mut regex::Scratch,
) -> Selection<'t> {
    let Some((host, host_match)) = find_host(table, authority) else { return selection };
    match find(&host.locations, path, &selection, scratch) {
        Err(LimitExceeded) => Selection::LimitExceeded(host),
        Ok(None) => selection,
        Ok(Some(rule)) => Selection::Rule(Selected { host, host_match, rule, path_match: PathMatch::Prefix }),
    }
}

fn find<'t>(
    locations: &'t [CompiledLocation],
    path: &[u8],
    selection: &Selection<'_>,
    scratch: &mut regex::Scratch,
) -> Result<Option<&'t CompiledRule>, LimitExceeded> {
    let of_rule = match selection {
        Selection::Rule(selected) | Selection::Refuse(selected) => Weight::of(selected, path),
        _ => Weight::Length(0),
    };
    let mut longest: Option<(&CompiledRule, bool)> = None;
    for CompiledLocation { kind, rule } in locations {
        match kind {
            LocationKind::Exact if rule.path.as_bytes() == path => return Ok(Some(rule)),
            LocationKind::Beginning(alone)
                if path.starts_with(rule.path.as_bytes())
                    && longest.is_none_or(|(other, _)| other.path.len() < rule.path.len()) =>
            {
                longest = Some((rule, *alone));
            }
            _ => {}
        }
    }
    if of_rule == Weight::Exact {
        return Ok(None);
    }
    let longest = longest.filter(|(rule, _)| match of_rule {
        Weight::Length(length) => rule.path.len() > length,
        _ => true,
    });
    if let Some((rule, true)) = longest {
        return Ok(Some(rule));
    }
    for CompiledLocation { kind, rule } in locations {
        if let LocationKind::Expression(regex) = kind
            && regex.is_match(path, scratch)?
        {
            return Ok(Some(rule));
        }
    }
    if of_rule == Weight::Expression {
        return Ok(None);
    }
    Ok(longest.map(|(rule, _)| rule))
}

/// How the location that ingress-nginx makes of a rule stands against others.
#[derive(Debug, PartialEq, Eq)]
enum Weight {
    /// `location = /path`
    Exact,
    /// `location ~* "^/path"`
    Expression,
    /// `location /path/`, with so many bytes.
    Length(usize),
}

impl Weight {
    fn of(selected: &Selected<'_>, path: &[u8]) -> Weight {
        let rule = selected.rule.path.trim_end_matches('/');
        match selected.path_match {
            PathMatch::Exact => Weight::Exact,
            PathMatch::Expression(_) => Weight::Expression,
            _ if !rule.is_empty() && rule.as_bytes() == path => Weight::Exact,
            _ => Weight::Length(rule.len().saturating_add(1)),
        }
    }
}
