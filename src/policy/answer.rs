//! Replacements in headers of a backend's answer: nginx's `proxy_redirect`, `proxy_cookie_domain` and
//! `proxy_cookie_path`, each with one pair of texts.

use std::borrow::Cow;
use std::rc::Rc;

use super::{Facts, redirect};
use crate::decision::{AnswerPlan, HeaderLine};
use crate::router::CompiledPolicies;

/// What is to be replaced in the answer to a request.
pub fn plan(policies: &CompiledPolicies, facts: &Facts<'_>) -> Option<AnswerPlan> {
    let rewrite = policies.answer_rewrite.as_ref()?;
    let completes = rewrite.location.as_ref().is_some_and(|(_, to)| to.is_empty() || to.starts_with('/'));
    let origin =
        (completes && !policies.relative_redirects).then(|| redirect::completed(b"/", false, facts).into());
    Some(AnswerPlan { rewrite: Rc::clone(rewrite), origin })
}

/// The headers of an answer after the replacements.
pub fn rewrite_answer<'h>(plan: &AnswerPlan, headers: &[HeaderLine<'h>]) -> Vec<(&'h [u8], Cow<'h, [u8]>)> {
    let rewrite = &plan.rewrite;
    let line = |(name, value): &HeaderLine<'h>| {
        let replaced = match *name {
            b"location" => rewrite.location.as_ref().and_then(|pair| {
                let location = replace_beginning(value, pair)?;
                // nginx completes what it has rewritten, and leaves alone what it has not.
                match &plan.origin {
                    Some(origin) if location.starts_with(b"/") => {
                        Some([origin.strip_suffix(b"/").unwrap_or(origin), &location].concat())
                    }
                    _ => Some(location),
                }
            }),
            b"refresh" => rewrite.location.as_ref().and_then(|pair| refresh(value, pair)),
            b"set-cookie" => cookie(value, rewrite.cookie_domain.as_ref(), rewrite.cookie_path.as_ref()),
            _ => None,
        };
        (*name, replaced.map_or(Cow::Borrowed(*value), Cow::Owned))
    };
    headers.iter().map(line).collect()
}

/// A text and what stands in its place.
type Pair = (Box<str>, Box<str>);

fn replace_beginning(value: &[u8], (from, to): &Pair) -> Option<Vec<u8>> {
    value.strip_prefix(from.as_bytes()).map(|rest| [to.as_bytes(), rest].concat())
}

/// `5; url=http://…`
fn refresh(value: &[u8], pair: &Pair) -> Option<Vec<u8>> {
    const URL: &[u8] = b"url=";
    let at = value.windows(URL.len()).position(|window| window.eq_ignore_ascii_case(URL))?;
    let (before, url) = value.split_at_checked(at.checked_add(URL.len())?)?;
    Some([before, &replace_beginning(url, pair)?].concat())
}

/// A cookie with another domain or path; none where nothing in it is replaced. nginx writes such a cookie
/// anew, with one blank after each semicolon.
fn cookie(value: &[u8], domain: Option<&Pair>, path: Option<&Pair>) -> Option<Vec<u8>> {
    let mut attributes = value.split(|byte| *byte == b';').map(attribute);
    let first = attributes.next().filter(|(_, value)| value.is_some())?;
    let mut replaced = false;
    let mut cookie = Vec::with_capacity(value.len());
    for (position, (name, value)) in std::iter::once(first).chain(attributes).enumerate() {
        let changed = match &value {
            Some(old) if position > 0 && name.eq_ignore_ascii_case(b"domain") => {
                domain.and_then(|pair| replace_domain(old, pair))
            }
            Some(old) if position > 0 && name.eq_ignore_ascii_case(b"path") => {
                path.and_then(|pair| replace_beginning(old, pair))
            }
            _ => None,
        };
        replaced |= changed.is_some();
        if position > 0 {
            cookie.extend_from_slice(b"; ");
        }
        cookie.extend_from_slice(name);
        if let Some(value) = changed.map(Cow::Owned).or(value) {
            cookie.push(b'=');
            cookie.extend_from_slice(&value);
        }
    }
    replaced.then_some(cookie)
}

/// The whole domain; a dot at its beginning stays.
fn replace_domain(value: &[u8], (from, to): &Pair) -> Option<Vec<u8>> {
    let bare = value.strip_prefix(b".").unwrap_or(value);
    let dot = if bare.len() < value.len() { &b"."[..] } else { b"" };
    bare.eq_ignore_ascii_case(from.as_bytes()).then(|| [dot, to.as_bytes()].concat())
}

fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_prefix(b" ") {
        text = rest;
    }
    while let Some(rest) = text.strip_suffix(b" ") {
        text = rest;
    }
    text
}

/// What stands before the first `=`, and what behind it.
fn attribute(part: &[u8]) -> (&[u8], Option<Cow<'_, [u8]>>) {
    let mut parts = part.splitn(2, |byte| *byte == b'=');
    let name = trim_blanks(parts.next().unwrap_or_default());
    (name, parts.next().map(|value| Cow::Borrowed(trim_blanks(value))))
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::decision::AnswerRewrite;

    fn pair(text: &str) -> Option<Pair> {
        text.split_once(' ').map(|(from, to)| (from.into(), to.into()))
    }

    /// One header of an answer, rewritten by `location|cookie domain|cookie path`.
    fn rewritten(pairs: &str, origin: Option<&str>, name: &str, value: &str) -> String {
        let mut pairs = pairs.split('|').map(pair);
        let mut next = || pairs.next().flatten();
        let rewrite = AnswerRewrite { location: next(), cookie_domain: next(), cookie_path: next() };
        let origin = origin.map(|origin| origin.as_bytes().into());
        let plan = AnswerPlan { rewrite: Rc::new(rewrite), origin };
        let lines = rewrite_answer(&plan, &[(name.as_bytes(), value.as_bytes())]);
        String::from_utf8_lossy(&lines[0].1).into_owned()
    }

    #[test]
    fn locations() {
        let (to_url, to_path) = ("http://in.example/ https://out.example/app/", "http://in.example/ /");
        let cases = [
            (to_url, None, "http://in.example/y?z", "https://out.example/app/y?z"),
            (to_url, None, "http://in.example", "http://in.example"),
            (to_url, None, "HTTP://in.example/y", "HTTP://in.example/y"),
            (to_path, Some("http://a.example/"), "http://in.example/y", "http://a.example/y"),
            (to_path, Some("http://a.example/"), "/y", "/y"),
            (to_path, None, "http://in.example/y", "/y"),
        ];
        for (pairs, origin, value, expected) in cases {
            assert_eq!(rewritten(pairs, origin, "location", value), expected, "{pairs} {value}");
        }
        let cases = [
            ("5; url=http://in.example/y", "5; url=https://out.example/app/y"),
            ("5;URL=http://in.example/", "5;URL=https://out.example/app/"),
            ("5; url=/y", "5; url=/y"),
            ("5", "5"),
        ];
        for (value, expected) in cases {
            assert_eq!(rewritten(to_url, None, "refresh", value), expected, "{value}");
        }
        assert_eq!(rewritten(to_url, None, "link", "http://in.example/y"), "http://in.example/y");
    }

    #[test]
    fn cookies() {
        let (domain, path, both) = ("|localhost example.org", "||/in/ /", "|localhost example.org|/in/ /");
        let cases = [
            (domain, "a=1; Domain=localhost; Path=/", "a=1; Domain=example.org; Path=/"),
            (domain, "a=1;domain = .LOCALHOST ;Secure", "a=1; domain=.example.org; Secure"),
            (domain, "a=1;  Domain=sub.localhost", "a=1;  Domain=sub.localhost"),
            (domain, "domain=localhost", "domain=localhost"),
            (domain, "a; domain=localhost", "a; domain=localhost"),
            (domain, "a=x=y; domain=localhost", "a=x=y; domain=example.org"),
            (path, "a=1; Path=/in/x; HttpOnly", "a=1; Path=/x; HttpOnly"),
            (path, "a=1; Path=/IN/x", "a=1; Path=/IN/x"),
            (both, "a=1; PATH=/in/; domain=localhost", "a=1; PATH=/; domain=example.org"),
            (both, "", ""),
        ];
        for (pairs, value, expected) in cases {
            assert_eq!(rewritten(pairs, None, "set-cookie", value), expected, "{pairs} {value}");
        }
    }
}
