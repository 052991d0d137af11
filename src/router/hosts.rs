//! Which host entry takes a request: exact names first, then wildcard aliases, then the wildcard of exactly
//! one label, then expressions, then `*`. That is nginx's order of `server_name`, with the wildcard hosts of
//! ingress-nginx being expressions that come before others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use crate::regex::{self, Options, Regex};

/// The host names of a table.
#[derive(Debug, Default)]
pub struct Hosts {
    exact: HashMap<Box<[u8]>, usize>,
    /// By what follows the `*`, its dot included.
    wildcard: HashMap<Box<[u8]>, usize>,
    /// Aliases `*.name`, by what follows the `*`.
    suffixes: HashMap<Box<[u8]>, usize>,
    /// Aliases `name.*`, by what precedes the `*`.
    prefixes: HashMap<Box<[u8]>, usize>,
    expressions: Vec<(Regex, usize)>,
    any: Option<usize>,
}

/// How a host entry took a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostMatch {
    /// By its whole name.
    Exact,
    /// By one of its aliases.
    Alias,
    /// By everything but the first label.
    Wildcard,
    /// For want of another.
    Any,
}

/// Why a host name or an alias cannot stand in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidHost {
    /// Another entry has the same name.
    Duplicate,
    /// Neither a name, nor `*.name`, nor `*`; or not in lower case.
    Malformed,
    /// An alias that is a broken expression.
    Expression(regex::Error),
}

impl fmt::Display for InvalidHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidHost::Duplicate => formatter.write_str("another host has this name"),
            InvalidHost::Malformed => formatter.write_str("it is not the name of a host"),
            InvalidHost::Expression(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for InvalidHost {}

/// Checks an alias by itself.
///
/// # Errors
///
/// [`InvalidHost`], but never for a name that another host has.
pub fn check_alias(alias: &str) -> Result<(), InvalidHost> {
    Hosts::default().insert_alias(alias, 0)
}

impl Hosts {
    /// Adds a name for the host entry at `index`.
    ///
    /// # Errors
    ///
    /// [`InvalidHost`]; the table is unchanged then.
    pub fn insert(&mut self, name: &str, index: usize) -> Result<(), InvalidHost> {
        if name == "*" {
            return match self.any.replace(index) {
                None => Ok(()),
                Some(_) => Err(InvalidHost::Duplicate),
            };
        }
        let (map, key) = match name.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') => (&mut self.wildcard, suffix),
            _ => (&mut self.exact, name),
        };
        insert(map, key, index)
    }

    /// Adds a further name for the host entry at `index`; see [`crate::config::Alias`].
    ///
    /// # Errors
    ///
    /// [`InvalidHost`]; the table is unchanged then.
    pub fn insert_alias(&mut self, alias: &str, index: usize) -> Result<(), InvalidHost> {
        if let Some(expression) = alias.strip_prefix('~') {
            let regex = Regex::new(expression, Options::CASELESS).map_err(InvalidHost::Expression)?;
            self.expressions.push((regex, index));
            return Ok(());
        }
        if alias.starts_with('.') {
            insert(&mut self.suffixes, alias, index)?;
            let name = alias.trim_start_matches('.');
            return insert(&mut self.exact, name, index);
        }
        match (alias.strip_prefix('*'), alias.strip_suffix('*')) {
            (Some(suffix), _) if suffix.starts_with('.') => insert(&mut self.suffixes, suffix, index),
            // The dot counts, so it must not pass for the final one that names may have.
            (None, Some(prefix)) if prefix.ends_with('.') => {
                let name = prefix.strip_suffix('.').unwrap_or(prefix);
                check(name)?;
                add(&mut self.prefixes, prefix, index)
            }
            _ => insert(&mut self.exact, alias, index),
        }
    }

    /// The entry for the Host of a request, in whatever case, with or without port and final dot.
    #[cfg(test)]
    pub fn find(&self, authority: &[u8]) -> Option<(usize, HostMatch)> {
        self.find_beside(authority, |_| None::<((), &Hosts)>).map(|(_, index, how)| (index, how))
    }

    /// As [`Hosts::find`], with further tables that hold hosts without aliases: `others` gives the one that a
    /// name is in, or what follows the `*` of a wildcard. What is found says whether it is in such a table.
    pub fn find_beside<'t, T>(
        &'t self,
        authority: &[u8],
        others: impl Fn(&[u8]) -> Option<(T, &'t Hosts)>,
    ) -> Option<(Option<T>, usize, HostMatch)> {
        let name = canonical(authority);
        if let Some((other, hosts)) = others(&name)
            && let Some(&index) = hosts.exact.get(&*name)
        {
            return Some((Some(other), index, HostMatch::Exact));
        }
        if let Some(&index) = self.exact.get(&*name) {
            return Some((None, index, HostMatch::Exact));
        }
        if let Some(index) = self.find_wildcard_alias(&name) {
            return Some((None, index, HostMatch::Alias));
        }
        if let Some(dot) = name.iter().position(|byte| *byte == b'.')
            && let Some((label, suffix)) = name.split_at_checked(dot)
            && is_wildcard_label(label)
        {
            if let Some((other, hosts)) = others(suffix)
                && let Some(&index) = hosts.wildcard.get(suffix)
            {
                return Some((Some(other), index, HostMatch::Wildcard));
            }
            if let Some(&index) = self.wildcard.get(suffix) {
                return Some((None, index, HostMatch::Wildcard));
            }
        }
        if !self.expressions.is_empty() {
            let mut scratch = regex::Scratch::default();
            let mut takes =
                |(regex, _): &&(Regex, usize)| regex.is_match(&name, &mut scratch).unwrap_or(false);
            if let Some((_, index)) = self.expressions.iter().find(&mut takes) {
                return Some((None, *index, HostMatch::Alias));
            }
        }
        self.any.map(|index| (None, index, HostMatch::Any))
    }

    /// The alias with a star for the most labels that are named: at its beginning, then at its end.
    fn find_wildcard_alias(&self, name: &[u8]) -> Option<usize> {
        if self.suffixes.is_empty() && self.prefixes.is_empty() {
            return None;
        }
        // nginx takes an empty label for one.
        let dots = || name.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let suffix = dots().find_map(|dot| self.suffixes.get(name.get(dot..)?));
        let mut prefixes: Vec<usize> = dots().collect();
        prefixes.reverse();
        let prefix = || prefixes.iter().find_map(|dot| self.prefixes.get(name.get(..=*dot)?));
        suffix.or_else(prefix).copied()
    }
}

/// Adds a name after checking it.
fn insert(map: &mut HashMap<Box<[u8]>, usize>, name: &str, index: usize) -> Result<(), InvalidHost> {
    check(name)?;
    add(map, name, index)
}

fn check(name: &str) -> Result<(), InvalidHost> {
    let name = name.as_bytes();
    if name.is_empty() || name.contains(&b'*') || *canonical(name) != *name {
        return Err(InvalidHost::Malformed);
    }
    Ok(())
}

/// Adds a name unless it is there already.
fn add(map: &mut HashMap<Box<[u8]>, usize>, name: &str, index: usize) -> Result<(), InvalidHost> {
    match map.entry(name.as_bytes().into()) {
        std::collections::hash_map::Entry::Occupied(_) => Err(InvalidHost::Duplicate),
        std::collections::hash_map::Entry::Vacant(free) => {
            free.insert(index);
            Ok(())
        }
    }
}

/// Whether nginx takes this for a Host (`ngx_http_validate_host`); two lines of it, which Envoy joins with a
/// comma, it does not.
pub fn is_valid(authority: &[u8]) -> bool {
    let refused = |byte: &u8| *byte <= b' ' || *byte == 0x7f || *byte == b'/' || *byte == b',';
    !authority.iter().any(refused)
        && !authority.windows(2).any(|pair| pair == b"..")
        && !canonical(authority).is_empty()
}

/// ingress-nginx turns `*` into `[\w-]+`.
fn is_wildcard_label(label: &[u8]) -> bool {
    !label.is_empty()
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_')
}

/// A host as written, without its port. An IPv6 address keeps its brackets.
pub fn without_port(authority: &[u8]) -> &[u8] {
    let after_brackets =
        authority.iter().rposition(|byte| *byte == b']').map_or(0, |end| end.saturating_add(1));
    let colon = authority.iter().skip(after_brackets).position(|byte| *byte == b':');
    let end = colon.map_or(authority.len(), |colon| colon.saturating_add(after_brackets));
    authority.get(..end).unwrap_or_default()
}

/// A host in lower case, without port and final dot. An IPv6 address keeps its brackets.
pub fn canonical(authority: &[u8]) -> Cow<'_, [u8]> {
    let host = without_port(authority);
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn exact_then_one_label_then_any() {
        let mut hosts = Hosts::default();
        for (index, name) in ["a.example", "*.example", "*.b.example", "[::1]"].iter().enumerate() {
            assert_eq!(hosts.insert(name, index), Ok(()), "{name}");
        }
        let cases = [
            ("a.example", Some((0, HostMatch::Exact))),
            ("A.Example:8080", Some((0, HostMatch::Exact))),
            ("a.example.", Some((0, HostMatch::Exact))),
            ("a.example.:80", Some((0, HostMatch::Exact))),
            ("x.example", Some((1, HostMatch::Wildcard))),
            ("x_-9.example:1", Some((1, HostMatch::Wildcard))),
            ("x.b.example", Some((2, HostMatch::Wildcard))),
            ("x.y.example", None),
            ("example", None),
            (".example", None),
            ("x~.example", None),
            ("[::1]:8080", Some((3, HostMatch::Exact))),
            ("[::1]", Some((3, HostMatch::Exact))),
            ("", None),
        ];
        for (authority, expected) in cases {
            assert_eq!(hosts.find(authority.as_bytes()), expected, "{authority}");
        }
        assert_eq!(hosts.insert("*", 9), Ok(()));
        for (authority, expected) in cases {
            let expected = expected.or(Some((9, HostMatch::Any)));
            assert_eq!(hosts.find(authority.as_bytes()), expected, "{authority} with *");
        }
    }

    #[test]
    fn aliases() {
        let mut hosts = Hosts::default();
        for (index, name) in ["a.example", "*.example", "*.w.example"].iter().enumerate() {
            assert_eq!(hosts.insert(name, index), Ok(()), "{name}");
        }
        let aliases =
            ["b.test", "*.test", "*.c.test", "www.*", "www.d.*", ".e.net", "~^x\\d+\\.", "~9", "*.w.example"];
        for (index, alias) in aliases.iter().enumerate() {
            assert_eq!(hosts.insert_alias(alias, index + 10), Ok(()), "{alias}");
        }
        let alias = |index| Some((index, HostMatch::Alias));
        let cases = [
            ("a.example", Some((0, HostMatch::Exact))),
            ("x1.example", Some((1, HostMatch::Wildcard))),
            ("x.w.example", alias(18)),
            ("x.y.w.example", alias(18)),
            ("B.test:80", Some((10, HostMatch::Exact))),
            ("x.test", alias(11)),
            ("x.y.test", alias(11)),
            ("test", None),
            (".test", alias(11)),
            ("c.test", alias(11)),
            ("x.y.c.test", alias(12)),
            ("www.x.y", alias(13)),
            ("www.d.y", alias(14)),
            ("www.c.test", alias(12)),
            ("e.net", Some((15, HostMatch::Exact))),
            ("x.y.e.net", alias(15)),
            ("X1.y", alias(16)),
            ("x19.y", alias(16)),
            ("z9.y", alias(17)),
            ("z.y", None),
        ];
        for (authority, expected) in cases {
            assert_eq!(hosts.find(authority.as_bytes()), expected, "{authority}");
        }
        for alias in ["a.example", "b.test", "*.test", "www.*"] {
            assert_eq!(hosts.insert_alias(alias, 0), Err(InvalidHost::Duplicate), "{alias}");
        }
        for alias in ["", "*", "a.*.b", "*a", "a*", "*.a.*", "A.b", "a:80", ".", "*."] {
            assert_eq!(hosts.insert_alias(alias, 0), Err(InvalidHost::Malformed), "{alias}");
        }
        assert!(matches!(check_alias("~("), Err(InvalidHost::Expression(_))));
    }

    #[test]
    fn hosts_that_nginx_refuses() {
        let good: [&[u8]; 8] = [b"a", b"a.", b".a", b"a:80", b"[::1]:80", b"a_b", b"a;b", b"u@a"];
        for host in good {
            assert!(is_valid(host), "{host:?}");
        }
        let bad: [&[u8]; 10] =
            [b"", b":80", b".", b"a..b", b"a/b", b"a b", b"a\tb", b"a\x7f", b"a,b", b"a, b.example"];
        for host in bad {
            assert!(!is_valid(host), "{host:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_host_is_refused() {
        let mut hosts = Hosts::default();
        for name in ["", "A.example", "a.example:80", "a.example.", "a.*.example", "**", "*.", "*a.example"] {
            assert_eq!(hosts.insert(name, 0), Err(InvalidHost::Malformed), "{name}");
        }
        assert_eq!(hosts.insert("a", 0), Ok(()));
        assert_eq!(hosts.insert("a", 1), Err(InvalidHost::Duplicate));
        assert_eq!(hosts.insert("*", 0), Ok(()));
        assert_eq!(hosts.insert("*", 1), Err(InvalidHost::Duplicate));
    }
}
