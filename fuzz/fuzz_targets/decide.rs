//! Whatever a client sends, no answer and no edit of the headers holds a line break. The configuration is that
//! of the engine's cases; lines of the input are the Host, the target and `name: value`.
#![no_main]

use ingress_wasm::config::from_slice;
use ingress_wasm::decision::{Connection, Decision, Edit, HeaderLine, RequestView, Scheme};
use ingress_wasm::policy::{State, decide};
use ingress_wasm::router::{RoutingTable, compile};
use libfuzzer_sys::fuzz_target;

const CASES: &str = include_str!("../../tests/engine-cases.json");

thread_local! {
    static TABLE: RoutingTable = table();
}

fn table() -> RoutingTable {
    let mut cases: serde_json::Value = serde_json::from_str(CASES).expect("JSON");
    let edit = serde_json::json!([{"set": {"name": "x-all", "value": "$1$2$uri$args$host$cookie_a$best_http_host"}}]);
    let global = &mut cases["config"]["global"];
    global["requestHeaders"] = edit.clone();
    global["responseHeaders"] = edit;
    global["forwarded"] =
        serde_json::json!({"trustHeaders": true, "trustedProxies": ["0.0.0.0/0"], "append": true});
    compile(from_slice(cases["config"].to_string().as_bytes()).expect("reads")).expect("compiles")
}

fn breaks(value: &[u8]) -> bool {
    value.iter().any(|byte| b"\r\n\0".contains(byte))
}

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (host, target) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut headers: Vec<HeaderLine<'_>> =
        vec![(b":method", b"GET"), (b":authority", host), (b":path", target)];
    headers.extend(lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    }));
    // Envoy lets no such line through.
    if headers.iter().any(|(name, value)| breaks(name) || breaks(value)) {
        return;
    }
    let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"127.0.0.1" };
    let request = RequestView { headers: &headers, connection, now_ms: 1, random: 1 };
    TABLE.with(|table| match decide(table, &request, &mut State::new([0; 32])) {
        Decision::Forward(forward) => {
            for edit in forward.edits.iter().chain(&forward.on_response).chain(&forward.on_success) {
                if let Edit::Set(_, value) | Edit::Add(_, value) = edit {
                    assert!(!breaks(value), "{edit:?}");
                }
            }
        }
        Decision::Reply(reply) => {
            assert!((200..600).contains(&reply.status));
            reply.headers.iter().for_each(|header| assert!(!breaks(&header.1), "{header:?}"));
        }
        Decision::Count(_) => {}
        Decision::Ask(callout) => {
            callout.headers.iter().for_each(|header| assert!(!breaks(&header.1), "{header:?}"));
        }
    });
});
