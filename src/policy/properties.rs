//! What holds whatever a client sends, and whatever a configuration says. Random, with fixed seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use super::*;
use crate::config::{PluginConfig, from_slice};
use crate::decision::{Connection, HeaderLine, Scheme};
use crate::router::compile;

const CASES: &str = include_str!("../../tests/engine-cases.json");

/// The configuration of the engine's cases, with edits that put whatever a client says into headers.
fn config() -> serde_json::Value {
    let cases: serde_json::Value = serde_json::from_str(CASES).expect("JSON");
    let mut config = cases["config"].clone();
    let edit = |name: &str, value: &str| serde_json::json!({"add": {"name": name, "value": value}});
    let edits = [
        edit("x-uri", "$uri"),
        edit("x-groups", "$0$1$2$9"),
        edit("x-args", "$args$is_args$arg_a"),
        edit("x-cookie", "$cookie_a$http_a$http_none"),
        edit("x-host", "$host$http_host$best_http_host"),
        edit("x-more", "$pass_port$pass_access_scheme$the_real_ip$msec$req_id$request_uri"),
    ];
    config["global"]["requestHeaders"] = edits.to_vec().into();
    config["global"]["responseHeaders"] = edits.to_vec().into();
    config["global"]["forwarded"] =
        serde_json::json!({"trustHeaders": true, "trustedProxies": ["0.0.0.0/0", "::/0"], "append": true});
    config
}

/// Pieces of requests that mean something, and bytes that mean nothing. No line breaks and no NUL: Envoy lets
/// none through.
fn text(rng: &mut Rng, pieces: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..rng.usize(..8) {
        match rng.u8(..6) {
            0 => text.extend(
                std::iter::repeat_with(|| rng.u8(..)).take(3).filter(|byte| !b"\r\n\0".contains(byte)),
            ),
            1 => text.extend_from_slice(format!("%{:02x}", rng.u8(..)).as_bytes()),
            _ => text.extend_from_slice(pieces[rng.usize(..pieces.len())]),
        }
    }
    text
}

#[test]
fn no_request_makes_it_panic_or_breaks_a_header() {
    let targets: [&[u8]; 27] = [
        b"/",
        b"//",
        b"/.",
        b"/..",
        b"%2f",
        b"%0d%0a",
        b"%00",
        b"%",
        b"?",
        b"#",
        b"&a=1",
        b"/app",
        b"/api",
        b"/opt/",
        b"/away/",
        b"/legacy",
        b"/old/",
        b"/headers/",
        b"/docs",
        b"/admin",
        b"/secret",
        b"/broken/",
        b"/pics/",
        b".png",
        b"a",
        b"b",
        b"*",
    ];
    let hosts: [&[u8]; 14] = [
        b"web.example",
        b"rx.example",
        b"rx.example",
        b"root.example",
        b".wild.example",
        b"a",
        b":80",
        b":",
        b".",
        b"[::1]",
        b"]",
        b"[",
        b"WEB",
        b"*",
    ];
    let names: [&[u8]; 14] = [
        b"authorization",
        b"cookie",
        b"content-length",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-port",
        b"x-request-id",
        b"x-envoy-a",
        b"a_b",
        b"proxy",
        b"x-ingress-wasm-cluster",
        b"",
        b"\xff",
    ];
    let values: [&[u8]; 12] = [
        b"Basic YW5uOnNlY3JldA==",
        b"Basic ",
        b"a=1; a=2",
        b"1.2.3.4",
        b", ",
        b"[::1]:80",
        b"99999999999999999999",
        b"5",
        b"https",
        b"",
        b":",
        b"evil.example",
    ];
    let text_of = config().to_string();
    let table = compile(from_slice(text_of.as_bytes()).expect("reads")).expect("compiles");
    let mut state = State::new([1; 32]);
    let mut rng = Rng::with_seed(0xdec1de);
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for round in 0..60_000_u32 {
        let mut lines: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        // Now and then one of those that every request has is not there.
        if rng.u8(..64) > 0 {
            let mut target = if rng.bool() { b"/".to_vec() } else { Vec::new() };
            target.extend(text(&mut rng, &targets));
            lines.push((b":path".to_vec(), target));
        }
        if rng.u8(..64) > 0 {
            let plain = hosts[rng.usize(..3)].to_vec();
            let host = if rng.bool() { plain } else { text(&mut rng, &hosts) };
            lines.push((b":authority".to_vec(), host));
        }
        for _ in 0..rng.usize(..5) {
            lines.push((names[rng.usize(..names.len())].to_vec(), text(&mut rng, &values)));
        }
        let headers: Vec<HeaderLine<'_>> = lines.iter().map(|(name, value)| (&**name, &**value)).collect();
        let peer = [&b"10.0.0.1"[..], b"::1", b"", b"\xff"][rng.usize(..4)];
        let scheme = if rng.bool() { Scheme::Http } else { Scheme::Https };
        let connection = Connection { scheme, port: rng.u16(..), peer };
        let request =
            RequestView { headers: &headers, connection, now_ms: rng.u64(..), random: rng.u128(..) };
        let decision = catch_unwind(AssertUnwindSafe(|| decide(&table, &request, &mut state)));
        let decision = decision.unwrap_or_else(|_| panic!("round {round}: {}", shown(&lines)));
        let breaks = |value: &[u8]| value.iter().any(|byte| b"\r\n\0".contains(byte));
        let broken = match &decision {
            Decision::Forward(forward) => {
                *seen.entry("forward").or_default() += 1;
                forward.edits.iter().chain(&forward.on_response).any(|edit| match edit {
                    Edit::Set(_, value) | Edit::Add(_, value) => breaks(value),
                    Edit::Remove(_) | Edit::RemoveAll(_) | Edit::For(..) => false,
                })
            }
            Decision::Reply(reply) => {
                *seen.entry(reply.details).or_default() += 1;
                assert!((200..600).contains(&reply.status), "{}", shown(&lines));
                reply.headers.iter().any(|(_, value)| breaks(value))
            }
            Decision::Count(_) => {
                *seen.entry("count").or_default() += 1;
                false
            }
            Decision::Ask(callout) => {
                *seen.entry("ask").or_default() += 1;
                callout.headers.iter().any(|(_, value)| breaks(value))
            }
        };
        assert!(!broken, "round {round}: {}: {decision:?}", shown(&lines));
    }
    // The requests are not all of one kind, or this would show little.
    for details in [
        "forward",
        "invalid_path",
        "invalid_host",
        "unknown_host",
        "app_root",
        "missing_slash",
        "basic_auth",
        "rewrite",
        "broken_expression",
    ] {
        assert!(seen.get(details).is_some_and(|times| *times > 20), "{details}: {seen:?}");
    }
}

fn shown(lines: &[(Vec<u8>, Vec<u8>)]) -> String {
    let line =
        |(name, value): &(Vec<u8>, Vec<u8>)| format!("{}: {}", name.escape_ascii(), value.escape_ascii());
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_configuration_makes_it_panic() {
    let original = config().to_string().into_bytes();
    let signs = b"{}[]\",:\\0123456789-.eE$()*?+|truefalsn \n\xff";
    let mut rng = Rng::with_seed(0xc0f16);
    let (mut read, mut compiled) = (0, 0);
    for round in 0..4_000_u32 {
        let mut bytes = original.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            let until = (at + rng.usize(..24)).min(bytes.len());
            match rng.u8(..5) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes[at] = signs[rng.usize(..signs.len())],
                2 => drop(bytes.drain(at..until)),
                3 => bytes.insert(at, signs[rng.usize(..signs.len())]),
                _ => {
                    let piece = bytes[at..until].to_vec();
                    let to = rng.usize(..bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'{');
            }
        }
        let loaded = catch_unwind(|| match from_slice(&bytes) {
            Ok(config) => {
                // The filter's reader takes nothing that a plain JSON reader does not take for the same.
                let plain = serde_json::from_slice::<PluginConfig>(&bytes).map_err(|error| error.to_string());
                assert_eq!(plain.as_ref(), Ok(&config));
                let table = compile(config);
                if let Ok(table) = &table {
                    // Paths are indexed when they are first asked for.
                    for host in table.hosts() {
                        let name = host.name.replace('*', "a");
                        router::select(table, name.as_bytes(), b"/api/x", &mut Scratch::default());
                    }
                }
                (true, table.is_ok())
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                (false, false)
            }
        });
        let (is_read, compiles) =
            loaded.unwrap_or_else(|_| panic!("round {round}: {}", bytes.escape_ascii()));
        read += u32::from(is_read);
        compiled += u32::from(compiles);
    }
    assert!(read > 100 && compiled > 50 && compiled < 3_900, "{read} were read, {compiled} compiled");
}
