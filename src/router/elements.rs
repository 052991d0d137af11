//! Paths as text: Exact, and Prefix by whole path elements (Kubernetes Ingress specification), with the
//! redirect to the path with a slash that nginx gives for a rule that ends in one.

use std::collections::HashMap;

use matchit::Router;

use crate::config::PathType;

/// The paths of one host, as text.
pub struct ElementPaths {
    router: Router<Slot>,
}

impl std::fmt::Debug for ElementPaths {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ElementPaths")
    }
}

/// What stands at a place of the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    rule: usize,
    how: ElementMatch,
}

/// How a rule took a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementMatch {
    /// An Exact rule.
    Exact,
    /// A Prefix rule, at or below its path.
    Prefix,
    /// A Prefix rule for the path with a slash behind it: nginx redirects there.
    MissingSlash,
}

/// One of the places that a path without its final slash has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// `/foo`
    At,
    /// `/foo/`
    Slash,
    /// `/foo/` and something
    Below,
}

/// The claims of rules to places. Of two claims to a place the greater rank stands, and of the same rank the
/// earlier rule.
type Claims = HashMap<(String, Place), (Rank, Slot)>;

/// Better is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The redirect to the path with a slash, where nothing answers the path itself.
    MissingSlash,
    /// A Prefix rule without a final slash.
    Prefix,
    /// A Prefix rule with a final slash: the longer one.
    PrefixWithSlash,
    /// An Exact rule.
    Exact,
}

impl ElementPaths {
    /// Compiles the paths of a host: the position of each rule, its path and its type.
    pub fn compile<'a>(rules: impl Iterator<Item = (usize, &'a str, PathType)>) -> Self {
        let mut claims = Claims::new();
        for (rule, path, path_type) in rules {
            claim(rule, &to_text(path.as_bytes()), path_type, &mut claims);
        }
        let mut router = Router::new();
        for ((base, place), (_, slot)) in claims {
            let mut route = String::with_capacity(base.len().saturating_add(8));
            for character in base.chars() {
                // Braces are matchit's own signs and stand for themselves when doubled.
                if matches!(character, '{' | '}') {
                    route.push(character);
                }
                route.push(character);
            }
            route.push_str(match place {
                Place::At => "",
                Place::Slash => "/",
                Place::Below => "/{*rest}",
            });
            if !route.is_empty() {
                // Routes differ by construction, so the only refusal is for text that matchit cannot hold;
                // a request cannot match such a path either.
                let _ = router.insert(route, slot);
            }
        }
        ElementPaths { router }
    }

    /// The rule for a normalised path.
    pub fn find(&self, path: &[u8]) -> Option<(usize, ElementMatch)> {
        let found = match std::str::from_utf8(path) {
            Ok(text) if text.is_ascii() => self.router.at(text),
            _ => self
                .router
                .at(&to_text(path))
                .map(|found| matchit::Match { value: found.value, params: <_>::default() }),
        };
        found.ok().map(|found| (found.value.rule, found.value.how))
    }
}

/// The places that a rule lays claim to.
fn claim(rule: usize, path: &str, path_type: PathType, claims: &mut Claims) {
    let (base, has_slash) = match path.strip_suffix('/') {
        Some(base) => (base, true),
        None => (path, false),
    };
    let mut claim = |place, rank, how| {
        let slot = Slot { rule, how };
        let held = claims.entry((base.to_owned(), place)).or_insert((rank, slot));
        if rank > held.0 {
            *held = (rank, slot);
        }
    };
    match (path_type, has_slash) {
        (PathType::Exact, true) => claim(Place::Slash, Rank::Exact, ElementMatch::Exact),
        (PathType::Exact, false) => claim(Place::At, Rank::Exact, ElementMatch::Exact),
        (PathType::Prefix, true) => {
            claim(Place::At, Rank::MissingSlash, ElementMatch::MissingSlash);
            claim(Place::Slash, Rank::PrefixWithSlash, ElementMatch::Prefix);
            claim(Place::Below, Rank::PrefixWithSlash, ElementMatch::Prefix);
        }
        (PathType::Prefix, false) => {
            claim(Place::At, Rank::Prefix, ElementMatch::Prefix);
            claim(Place::Slash, Rank::Prefix, ElementMatch::Prefix);
            claim(Place::Below, Rank::Prefix, ElementMatch::Prefix);
        }
    }
}

/// matchit takes text, paths are bytes: each byte becomes the character of its number, so that no two
/// paths become one. ASCII stays as it is.
fn to_text(path: &[u8]) -> String {
    path.iter().copied().map(char::from).collect()
}
