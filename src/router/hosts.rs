//! Which host entry takes a request: exact names first, then the wildcard of exactly one label, then `*`.

use std::borrow::Cow;
use std::collections::HashMap;

/// The host names of a table.
#[derive(Debug, Default)]
pub struct Hosts {
    exact: HashMap<Box<[u8]>, usize>,
    /// By what follows the `*`, its dot included.
    wildcard: HashMap<Box<[u8]>, usize>,
    any: Option<usize>,
}

/// How a host entry took a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostMatch {
    /// By its whole name.
    Exact,
    /// By everything but the first label.
    Wildcard,
    /// For want of another.
    Any,
}

/// Why a host name cannot stand in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidHost {
    /// Another entry has the same name.
    Duplicate,
    /// Neither a name, nor `*.name`, nor `*`; or not in lower case.
    Malformed,
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
        let key = key.as_bytes();
        if key.is_empty() || key.contains(&b'*') || *canonical(key) != *key {
            return Err(InvalidHost::Malformed);
        }
        match map.insert(key.into(), index) {
            None => Ok(()),
            Some(_) => Err(InvalidHost::Duplicate),
        }
    }

    /// The entry for the Host of a request, in whatever case, with or without port and final dot.
    pub fn find(&self, authority: &[u8]) -> Option<(usize, HostMatch)> {
        let name = canonical(authority);
        if let Some(&index) = self.exact.get(&*name) {
            return Some((index, HostMatch::Exact));
        }
        if !self.wildcard.is_empty()
            && let Some(dot) = name.iter().position(|byte| *byte == b'.')
            && let Some((label, suffix)) = name.split_at_checked(dot)
            && is_wildcard_label(label)
            && let Some(&index) = self.wildcard.get(suffix)
        {
            return Some((index, HostMatch::Wildcard));
        }
        self.any.map(|index| (index, HostMatch::Any))
    }
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
