//! Precedence: a few rules, a path, and the rule that wins; and the index against looking at every rule.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::config::{Action, Host, PathMatching, PathType, PluginConfig, PolicySet, Rule, SCHEMA_VERSION};

/// A table with one host `h`. A path is Exact with `=` before it, else Prefix.
fn table(path_matching: PathMatching, paths: &[&str]) -> RoutingTable {
    let rule = |path: &&str| {
        let (path, path_type) = match path.strip_prefix('=') {
            Some(path) => (path, PathType::Exact),
            None => (*path, PathType::Prefix),
        };
        let action = Action::Forward { cluster: "c".into(), service: "n/s:80".into(), balancing: None };
        Rule { ingress: "n/i".into(), path: path.into(), path_type, policies: 0, action }
    };
    let rules = paths.iter().map(rule).collect();
    compile(PluginConfig {
        version: SCHEMA_VERSION,
        generation: String::new(),
        global: <_>::default(),
        credentials: <_>::default(),
        api_keys: <_>::default(),
        balancing: Vec::new(),
        policies: vec![PolicySet::default()],
        parts: Vec::new(),
        part: None,
        hosts: vec![Host {
            name: "h".into(),
            path_matching,
            app_root: None,
            tls: false,
            aliases: Vec::new(),
            redirect_to: None,
            client_certificate: None,
            script: None,
            locations: Vec::new(),
            rules,
        }],
    })
    .expect("compiles")
}

/// The rule that wins, as it was written; `!` before it where it redirects, `?` where it refuses.
fn winner(table: &RoutingTable, path: &[u8]) -> String {
    let shown = |selected: Selected<'_>| {
        let exact = if selected.path_match == PathMatch::Exact { "=" } else { "" };
        let slash = if selected.path_match == PathMatch::MissingSlash { "!" } else { "" };
        format!("{slash}{exact}{}", selected.rule.path)
    };
    match select(table, b"h", path, &mut Scratch::default()) {
        Selection::Rule(selected) => shown(selected),
        Selection::Refuse(selected) => format!("?{}", selected.rule.path),
        Selection::NoRule(_) => "none".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn paths_as_elements() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&["/"], "/", "/"),
        (&["/"], "/a/b", "/"),
        (&["/foo"], "/foo", "/foo"),
        (&["/foo"], "/foo/", "/foo"),
        (&["/foo"], "/foo/bar", "/foo"),
        (&["/foo"], "/foobar", "none"),
        (&["/foo"], "/FOO", "none"),
        (&["=/foo"], "/foo", "=/foo"),
        (&["=/foo"], "/foo/", "none"),
        (&["=/foo/"], "/foo/", "=/foo/"),
        (&["=/foo/"], "/foo", "none"),
        (&["=/foo/"], "/foo/x", "none"),
        (&["=/"], "/", "=/"),
        (&["=/", "/"], "/", "=/"),
        (&["=/", "/"], "/x", "/"),
        (&["/foo", "=/foo"], "/foo", "=/foo"),
        (&["/foo", "=/foo"], "/foo/x", "/foo"),
        (&["/aaa", "/aaa/bbb", "/"], "/aaa/bbb/c", "/aaa/bbb"),
        (&["/aaa", "/aaa/bbb", "/"], "/aaa/bbbc", "/aaa"),
        (&["/aaa", "/aaa/bbb", "/"], "/aab", "/"),
        (&["/foo/"], "/foo", "!/foo/"),
        (&["/foo/"], "/foo/", "/foo/"),
        (&["/foo/", "/"], "/foo", "!/foo/"),
        (&["/foo/", "=/foo"], "/foo", "=/foo"),
        (&["/foo/", "/foo"], "/foo", "/foo"),
        (&["/foo/", "/foo"], "/foo/x", "/foo/"),
        (&["/foo/", "=/foo/"], "/foo/", "=/foo/"),
        (&["/foo/", "=/foo/"], "/foo", "!/foo/"),
        (&["/a{b}c"], "/a{b}c/d", "/a{b}c"),
        (&["/{x}", "/{*y}"], "/z", "none"),
        (&["/ä"], "/ä/x", "/ä"),
        (&["/ä"], "/Ã¤/x", "none"),
        (&["/:a/*b"], "/:a/*b", "/:a/*b"),
        (&["/a", "/a"], "/a", "/a"),
        (&[], "/", "none"),
    ];
    for (paths, path, expected) in cases {
        let table = table(PathMatching::Elements, paths);
        assert_eq!(winner(&table, path.as_bytes()), *expected, "{paths:?} {path}");
    }
    assert_eq!(winner(&table(PathMatching::Elements, &["/a"]), b"/a/\xff\xfe"), "/a");
    assert_eq!(winner(&table(PathMatching::Elements, &["/a"]), b"/a\xff"), "none");
}

#[test]
fn paths_as_expressions() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&["/foo"], "/foo", "/foo"),
        (&["/foo"], "/FOOBAR", "/foo"),
        (&["/foo"], "/x/foo", "none"),
        (&["=/foo"], "/foobar", "/foo"),
        (&["/", "/foo"], "/foo", "/foo"),
        (&["/", "/foo"], "/bar", "/"),
        (&["/foo/bar/bar", "/foo/bar/[A-Z0-9]{3}"], "/foo/bar/bar", "/foo/bar/[A-Z0-9]{3}"),
        (&["/foo/(bar|baz)", "/foo/.*"], "/foo/bar", "/foo/(bar|baz)"),
        (&["/a|/b"], "/x/b", "/a|/b"),
        (&["/a$"], "/ab", "none"),
        (&["/ab", "/ac", "/a."], "/ac", "/ac"),
        (&["/a\\.b"], "/a.b", "/a\\.b"),
        (&["/a\\.b"], "/axb", "none"),
        (&["/A/(.*)"], "/a/x", "/A/(.*)"),
        (&["/(unclosed", "/"], "/x", "/"),
        (&["/api/(unclosed", "/"], "/api/x", "?/api/(unclosed"),
        (&["/api/(unclosed", "/"], "/API/x", "?/api/(unclosed"),
        (&["/api/(unclosed", "/api/good"], "/api/good", "/api/good"),
        (&["/api/(unclosed", "/"], "/x", "/"),
        (&["/api/(unclosed", "/api/"], "/api/x", "?/api/(unclosed"),
    ];
    for (paths, path, expected) in cases {
        let table = table(PathMatching::Expressions, paths);
        assert_eq!(winner(&table, path.as_bytes()), *expected, "{paths:?} {path}");
    }
}

/// Random rules and paths of few letters: the index finds what looking at every rule finds.
#[test]
fn the_index_agrees_with_looking_at_every_rule() {
    let mut random = 0x5eed_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..3_000 {
        let expressions = round % 2 == 0;
        let pieces: &[&str] = if expressions {
            &["a", "b", "/", "(a|b)", ".", "a?", "[ab]+", "/", "B"]
        } else {
            &["a", "b", "/", "ab", "{", "/"]
        };
        let mut text = |length: u64, pieces: &[&str]| {
            let count = next(length);
            let mut text = "/".to_owned();
            (0..count).for_each(|_| text.push_str(pieces[next(pieces.len() as u64) as usize]));
            while text.contains("//") {
                text = text.replace("//", "/");
            }
            text
        };
        let mut paths: Vec<String> = (0..8).map(|_| text(6, pieces)).collect();
        if !expressions {
            paths.iter_mut().step_by(3).for_each(|path| path.insert(0, '='));
        }
        paths.sort();
        paths.dedup();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let matching = if expressions { PathMatching::Expressions } else { PathMatching::Elements };
        let table = table(matching, &paths);
        for _ in 0..8 {
            let path = text(8, &["a", "b", "/", "A", "{"]);
            let found = winner(&table, path.as_bytes());
            let all = candidates(&table, b"h", path.as_bytes());
            // Greatest is best: for elements Exact, then the path itself, then length; for expressions length, then text.
            let best = all.iter().filter(|candidate| candidate.matches).max_by_key(|candidate| {
                let exact = !expressions && candidate.rule.path_type == PathType::Exact;
                let itself = !expressions && *candidate.rule.path == *path;
                (exact, itself, candidate.rule.path.len(), candidate.rule.path.to_string())
            });
            let expected = match best {
                None => "none".to_owned(),
                // The specification takes `/foo` for the path `/foo/` too; nginx redirects, where no rule has it.
                Some(best)
                    if !expressions
                        && best.rule.path.len() == path.len() + 1
                        && best.rule.path.ends_with('/') =>
                {
                    format!("!{}", best.rule.path)
                }
                Some(best) if !expressions && best.rule.path_type == PathType::Exact => {
                    format!("={}", best.rule.path)
                }
                Some(best) => best.rule.path.to_string(),
            };
            assert_eq!(found, expected, "{matching:?} {paths:?} {path}");
        }
    }
}
