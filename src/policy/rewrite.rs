//! The path that the backend gets: nginx's `rewrite … break`, and the replacement of a prefix as early
//! releases of ingress-nginx did it.
//!
//! A rewrite works on the normalised path and escapes the result again, so `%2F` of the request becomes
//! `/`; a request that nothing rewrites keeps its target byte for byte.

use std::borrow::Cow;

use super::{Facts, Template};
use crate::router::path::{escape, escape_byte, escaped_byte};
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
        return Rewritten::Elsewhere(elsewhere(target, facts));
    }
    let forwarded_prefix = forwarded_prefix.map(|prefix| prefix.render_header(facts));
    Rewritten::Target { target: escaped(&rendered, facts.args()), forwarded_prefix }
}

/// The Location of a rewrite to another site, as nginx makes it (`ngx_http_script_regex_end_code`): groups are
/// escaped where the path of the request has an escape or a plus, and then the whole is unescaped up to its
/// first question mark, but for what could not stand in a URL.
fn elsewhere(target: &Template, facts: &Facts<'_>) -> Vec<u8> {
    let mut location = unescaped(&escaped_groups(target, facts));
    append_query(&mut location, facts.args());
    location
}

/// A text whose groups are escaped where the path of the request has an escape or a plus.
pub fn escaped_groups<'a>(target: &'a Template, facts: &Facts<'a>) -> Cow<'a, [u8]> {
    let raw = facts.request.target().split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let quoted = raw.iter().any(|byte| matches!(byte, b'%' | b'+'));
    target.render_groups(facts, &|group, out| match quoted {
        true => escape_argument(group, out),
        false => out.extend_from_slice(group),
    })
}

/// A URL unescaped up to its first question mark, but for what could not stand in it.
pub fn unescaped(rendered: &[u8]) -> Vec<u8> {
    let mut location = Vec::with_capacity(rendered.len());
    let mut rest = rendered;
    let mut unescape = true;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped =
            escaped_byte(after).filter(|found| byte == b'%' && unescape && (0x26..0x7f).contains(found));
        match escaped {
            Some(found) => {
                location.push(found);
                unescape = found != b'?';
                rest = after.get(2..).unwrap_or_default();
            }
            // No header line may hold these, and a space would end the URL.
            None if byte.is_ascii_control() || byte == b' ' => escape_byte(byte, &mut location),
            None => {
                location.push(byte);
                unescape &= byte != b'?';
            }
        }
    }
    location
}

/// `ngx_escape_uri` with `NGX_ESCAPE_ARGS`.
fn escape_argument(text: &[u8], out: &mut Vec<u8>) {
    for part in text.split_inclusive(|byte| matches!(byte, b'&' | b'+' | b';')) {
        match part.split_last() {
            Some((&sign @ (b'&' | b'+' | b';'), before)) => {
                escape(before, out);
                escape_byte(sign, out);
            }
            _ => escape(part, out),
        }
    }
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
    Rewritten::Target { target: escaped(&path, facts.args()), forwarded_prefix: None }
}

/// A path on its way to the backend. One that does not begin with a slash gets one: no HTTP request can go
/// without.
fn escaped(path: &[u8], query: &[u8]) -> Vec<u8> {
    let mut target = Vec::with_capacity(path.len().saturating_add(query.len()).saturating_add(8));
    if path.first() != Some(&b'/') {
        target.push(b'/');
    }
    escape(path, &mut target);
    append_query(&mut target, query);
    target
}

fn append_query(target: &mut Vec<u8>, query: &[u8]) {
    if !query.is_empty() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use serde_json::json;

    use super::*;
    use crate::decision::{Connection, HeaderLine, RequestView, Scheme};
    use crate::policy::ClientAddress;
    use crate::router::path::parse_target;
    use crate::router::{Selection, compile, select};

    /// The target that comes out, with X-Forwarded-Prefix behind ` prefix `; `=` for none, `302 ` and where to.
    fn rewritten(matching: &str, path: &str, how: &serde_json::Value, target: &str) -> String {
        let config = json!({
            "version": 1,
            "policies": [{"rewrite": how}],
            "hosts": [{"name": "h", "pathMatching": matching, "rules": [{"ingress": "n/i", "path": path,
                "policies": 0, "action": {"forward": {"cluster": "c", "service": "n/s:80"}}}]}],
        });
        let table = compile(crate::config::from_slice(config.to_string().as_bytes()).expect("reads"));
        let table = table.expect("compiles");
        let headers: [HeaderLine<'_>; 2] = [(b":path", target.as_bytes()), (b":authority", b"h")];
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"::1" };
        let request = RequestView { headers: &headers, connection, now_ms: 0, random: 0 };
        let client = ClientAddress::compile(&<_>::default()).expect("compiles").resolve(&request);
        let parsed = parse_target(request.target()).expect(target);
        let selection = select(&table, b"h", &parsed.path, &mut <_>::default());
        let Selection::Rule(selected) = selection else { panic!("{path} {target}: {selection:?}") };
        let compiled = selected.rule.policies.rewrite.as_ref().expect("a rewrite");
        let facts = Facts {
            request: &request,
            path: parsed.path,
            query: parsed.query,
            client,
            selected: Some(selected),
            certificate: None,
            is_error_page: false,
            answer: None,
            script: None,
            admission: None,
            no_request_id: false,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match rewrite(compiled, &facts) {
            Rewritten::Unchanged => "=".to_owned(),
            Rewritten::Elsewhere(location) => format!("302 {}", text(&location)),
            Rewritten::Target { target, forwarded_prefix: None } => text(&target),
            Rewritten::Target { target, forwarded_prefix: Some(prefix) } => {
                format!("{} prefix {}", text(&target), text(&prefix))
            }
        }
    }

    #[test]
    fn the_whole_path() {
        let cases = [
            ("/a(/|$)(.*)", "/$2", "/a", "/"),
            ("/a(/|$)(.*)", "/$2", "/a/", "/"),
            ("/a(/|$)(.*)", "/$2", "/a/b/c?x=1&y", "/b/c?x=1&y"),
            ("/a(/|$)(.*)", "/$2", "/A/B", "/B"),
            ("/a(/|$)(.*)", "/$2", "/a/b?", "/b"),
            ("/a(/|$)(.*)", "$2", "/a/b", "/b"),
            ("/a/(.*)", "/$1", "/a/b%2Fc", "/b/c"),
            ("/a/(.*)", "/$1", "/a/b%20c%25%3f%23%22", "/b%20c%25%3F%23%22"),
            ("/a/(.*)", "/$1", "/a/%c3%a4%ff", "/%C3%A4%FF"),
            ("/a/(.*)", "/$1", "/a/./b//c/../d", "/b/d"),
            ("/a/(b)?(c)?", "/$1-$2", "/a/c", "/-c"),
            ("/a/(b)?(c)?", "/$1-$2", "/a/b", "/b-"),
            ("/a/(b)?(c)?", "/$1-$2", "/a/", "/-"),
            ("/a/(?<n>.*)", "/n/$1", "/a/b", "/n/b"),
            ("/(.)(.)(.)(.)(.)(.)(.)(.)(.)", "/$9$1", "/abcdefghi", "/ia"),
            ("/a/(.*)", "/$1$0", "/a/b", "/b/a/b"),
            ("/a", "/b c", "/a", "/b%20c"),
            ("/a", "/b/$arg_x", "/a?x=../y", "/b/../y?x=../y"),
            ("/a", "", "/a/b", "/"),
            ("/a/x", "/a/x", "/A/X", "="),
            ("/a", "/a", "/a/b?q", "="),
            ("/a/(.*)", "https://o.example/$1", "/a/b?q", "302 https://o.example/b?q"),
            ("/a/(.*)", "http://o.example/$1", "/a/b%0d%0a%20c", "302 http://o.example/b%0D"),
            ("/a/([^/]*)", "http://o.example/$1", "/a/b%0d%0a%20c", "302 http://o.example/b%0D%0A%20c"),
            ("/a/(.*)", "$scheme://$host/$1", "/a/b", "302 http://h/b"),
            // As nginx 1.22.1 answers them.
            ("/a/(.*)", "http://o/$1", "/a/%3fa%20b%2f%26", "302 http://o/?a%20b/%26"),
            ("/a/(.*)", "http://o/$1", "/a/x\"b", "302 http://o/x\"b"),
            ("/a/(.*)", "http://o/$1", "/a/x\"b%41", "302 http://o/x%22bA"),
            ("/a/(.*)", "http://o/$1", "/a/x\"b+", "302 http://o/x%22b+"),
            ("/a/(.*)", "http://o/$1", "/a/a&b;c%41", "302 http://o/a&b;cA"),
            ("/a/(.*)", "http://o/$1", "/a/%253f%25%23", "302 http://o/%253f%25%23"),
            ("/a/(.*)", "http://o/$1", "/a/%c3%A4", "302 http://o/%C3%A4"),
            ("/a/(.*)", "http://o/$1", "/a/x?y%2fz", "302 http://o/x?y%2fz"),
            ("/u(.*)", "http://o$request_uri", "/u%2fa%20b?x=%2f", "302 http://o/u/a%20b?x=%2f?x=%2f"),
            ("/a/(.*)", "httpx://o.example/$1", "/a/b", "/httpx://o.example/b"),
        ];
        for (path, target, request, expected) in cases {
            let how = json!({"path": {"target": target}});
            assert_eq!(rewritten("expressions", path, &how, request), expected, "{path} {target} {request}");
        }
    }

    /// Without expressions there are no groups, but the path is replaced all the same.
    #[test]
    fn the_whole_path_of_a_plain_rule() {
        let cases = [
            ("/a", "/b", "/a/x?q", "/b?q"),
            ("/a", "/b/$1", "/a/x", "/b/"),
            ("/a", "/a", "/a/x", "="),
            ("/", "/$host$uri", "/a%20b", "/h/a%20b"),
        ];
        for (path, target, request, expected) in cases {
            let how = json!({"path": {"target": target}});
            assert_eq!(rewritten("elements", path, &how, request), expected, "{path} {target} {request}");
        }
    }

    #[test]
    fn the_prefix_of_early_releases() {
        let cases = [
            ("elements", "/app", "/", "/app", "/"),
            ("elements", "/app", "/", "/app/", "/"),
            ("elements", "/app", "/", "/app/x?q=1", "/x?q=1"),
            ("elements", "/app", "", "/app/x", "/x"),
            ("elements", "/app", "/new", "/app", "/new"),
            ("elements", "/app", "/new", "/app/", "/new/"),
            ("elements", "/app", "/new", "/app/x", "/new/x"),
            ("elements", "/app", "/new/", "/app", "/new"),
            ("elements", "/app", "/new/", "/app/", "/new/"),
            ("elements", "/app", "/new/", "/app/x", "/new/x"),
            ("elements", "/app", "new", "/app/x", "/new/x"),
            ("elements", "/app/", "/", "/app/x", "/x"),
            ("elements", "/app/", "/new", "/app/x", "/new/x"),
            ("elements", "/app/", "/new", "/app/", "/new/"),
            ("elements", "/", "/new", "/", "/new/"),
            ("elements", "/", "/new", "/x", "/new/x"),
            ("elements", "/", "/", "/x%2Fy", "="),
            ("elements", "/app", "/app", "/app/x%2Fy", "="),
            ("elements", "/app", "/app/", "/app/x", "="),
            ("elements", "/app", "/", "/app/x%2Fy%20z", "/x/y%20z"),
            ("elements", "/app", "/", "//app/./x", "/x"),
            ("elements", "/app", "/a $1", "/app/x", "/a%20$1/x"),
            ("expressions", "/app", "/", "/APP/x", "/x"),
            ("expressions", "/app", "/", "/apple", "/le"),
            ("expressions", "/a.*p", "/new", "/abcp/x", "/new/x"),
        ];
        for (matching, path, target, request, expected) in cases {
            let how = json!({"prefix": {"target": target}});
            let found = rewritten(matching, path, &how, request);
            assert_eq!(found, expected, "{matching} {path} {target} {request}");
        }
    }

    #[test]
    fn the_backend_is_told_the_prefix() {
        let cases = [("", "/b"), ("/a", "/b prefix /a"), ("/$1", "/b prefix /b"), ("$9", "/b prefix ")];
        for (prefix, expected) in cases {
            let how = json!({"path": {"target": "/$1", "forwardedPrefix": prefix}});
            assert_eq!(rewritten("expressions", "/a/(.*)", &how, "/a/b"), expected, "{prefix}");
        }
        let how = json!({"path": {"target": "/a", "forwardedPrefix": "/a"}});
        assert_eq!(rewritten("elements", "/a", &how, "/a/b"), "=", "nothing is rewritten");
    }
}
