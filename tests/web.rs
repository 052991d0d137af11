//! The decision engine from the configuration to the decision, natively and in WebAssembly: one test file for
//! both, with its cases built in. `engine-cases.json` says what a case is.
//!
//! Deliberately knows nothing of the filter: what crosses the border to Envoy is tested with a real one.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config;
use ingress_wasm::decision::{
    CLUSTER_HEADER, Connection, Decision, HeaderLine, RequestView, Scheme, apply_edits,
};
use ingress_wasm::policy::{State, decide};
use ingress_wasm::router::{RoutingTable, compile};
use serde::Deserialize;

const CASES: &str = include_str!("engine-cases.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "description")]
    _description: Vec<String>,
    config: serde_json::Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "get")]
    method: String,
    host: String,
    target: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    body: Option<String>,
    expect: Expect,
    #[serde(default)]
    answer: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Expect {
    Forward {
        cluster: String,
        target: Option<String>,
        #[serde(default)]
        headers: BTreeMap<String, Option<String>>,
    },
    Reply {
        status: u16,
    },
}

fn get() -> String {
    "GET".to_owned()
}

/// What became of a request, in the words of the cases.
#[derive(Debug)]
struct Outcome {
    status: Option<u16>,
    /// Header lines that the backend gets; the cluster is among them.
    forwarded: Vec<(String, String)>,
    answer: Vec<(String, String)>,
}

fn read() -> (File, RoutingTable) {
    let file: File = serde_json::from_str(CASES).expect("the cases are of their form");
    let config = serde_json::to_vec(&file.config).expect("JSON is written");
    let table = compile(config::from_slice(&config).expect("the configuration is read"));
    (file, table.expect("the configuration compiles"))
}

/// Decides the request of a case, and carries the decision out on paper.
fn run(table: &RoutingTable, case: &Case, state: &mut State) -> Outcome {
    let mut owned = vec![
        (":authority".to_owned(), case.host.clone()),
        (":path".to_owned(), case.target.clone()),
        (":method".to_owned(), case.method.clone()),
        (":scheme".to_owned(), "http".to_owned()),
    ];
    owned.extend(case.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
    owned.extend(case.body.iter().map(|body| ("content-length".to_owned(), body.len().to_string())));
    let headers: Vec<HeaderLine<'_>> =
        owned.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"127.0.0.1" };
    let request = RequestView { headers: &headers, connection, now_ms: 1_700_000_000_000, random: 1 };
    match decide(table, &request, state) {
        Decision::Forward(forward) => Outcome {
            status: None,
            forwarded: shown(&apply_edits(&headers, &forward.edits)),
            answer: shown(&apply_edits(&[], &forward.on_response)),
        },
        Decision::Reply(reply) => {
            let lines: Vec<HeaderLine<'_>> =
                reply.headers.iter().map(|(name, value)| (name.as_bytes(), &**value)).collect();
            Outcome { status: Some(reply.status), forwarded: Vec::new(), answer: shown(&lines) }
        }
        // No case asks a service.
        Decision::Ask(callout) => panic!("{callout:?}"),
        Decision::Count(count) => panic!("{count:?}"),
    }
}

fn shown(lines: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    lines.iter().map(|(name, value)| (text(name.as_ref()), text(value.as_ref()))).collect()
}

/// The lines of a name, joined as a list.
fn joined(lines: &[(String, String)], name: &str) -> Option<String> {
    let values: Vec<&str> =
        lines.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Whose headers they are, the lines, a name, and the value that is expected of it.
type Expected<'a> = (&'a str, &'a [(String, String)], &'a str, Option<String>);

/// What is not as the case has it.
fn complaints(case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut expected: Vec<Expected<'_>> = Vec::new();
    let mut complaints = Vec::new();
    match &case.expect {
        Expect::Reply { status } if outcome.status != Some(*status) => {
            complaints.push(format!("the status is {:?}, not {status}", outcome.status));
        }
        Expect::Reply { .. } => {}
        Expect::Forward { .. } if outcome.status.is_some() => {
            complaints.push(format!("answered {:?} and not forwarded", outcome.status));
        }
        Expect::Forward { cluster, target, headers } => {
            let forwarded = &*outcome.forwarded;
            expected.push(("to the backend", forwarded, CLUSTER_HEADER, Some(cluster.clone())));
            if let Some(target) = target {
                expected.push(("to the backend", forwarded, ":path", Some(target.clone())));
            }
            let headers = headers.iter();
            expected
                .extend(headers.map(|(name, value)| ("to the backend", forwarded, &**name, value.clone())));
        }
    }
    let answer = case.answer.iter();
    expected.extend(answer.map(|(name, value)| ("of the answer", &*outcome.answer, &**name, value.clone())));
    for (whose, lines, name, value) in expected {
        let found = joined(lines, name);
        if found != value {
            complaints.push(format!("header {name} {whose} is {found:?}, not {value:?}"));
        }
    }
    complaints
}

#[test]
fn every_case_is_decided_as_it_says() {
    let (file, table) = read();
    let mut state = State::new([7; 32]);
    let mut failed = Vec::new();
    // Twice: what the engine remembers of the first time must not change the second.
    for round in 1..=2 {
        for case in &file.cases {
            let complaints = complaints(case, &run(&table, case, &mut state));
            if !complaints.is_empty() {
                failed.push(format!(
                    "round {round}, {}: {} {}{}\n    {}",
                    case.name,
                    case.method,
                    case.host,
                    case.target,
                    complaints.join("\n    ")
                ));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), file.cases.len(), failed.join("\n"));
}

/// A name picks one case, and every backend of the configuration that can be reached is reached by a case.
#[test]
fn the_cases_are_whole() {
    let (file, table) = read();
    let names: BTreeSet<&str> = file.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), file.cases.len(), "two cases have one name");
    assert!(names.len() >= 40, "{} cases", names.len());
    let reached: BTreeSet<&str> = file
        .cases
        .iter()
        .filter_map(|case| match &case.expect {
            Expect::Forward { cluster, .. } => Some(cluster.as_str()),
            Expect::Reply { .. } => None,
        })
        .collect();
    // Behind these nothing ever gets.
    let refusing = ["away", "broken", "denied", "docs", "root", "secret"];
    for rule in table.hosts().flat_map(|host| &host.rules) {
        if let ingress_wasm::router::CompiledAction::Forward { cluster, .. } = &rule.action {
            assert_ne!(reached.contains(&**cluster), refusing.contains(&&**cluster), "{cluster}");
        }
    }
    for case in &file.cases {
        for name in case.answer.keys() {
            assert_eq!(*name, name.to_ascii_lowercase(), "{}", case.name);
        }
    }
}

/// A case that expects something else must fail: the comparison is not blind.
#[test]
fn a_wrong_expectation_is_noticed() {
    let (file, table) = read();
    let base =
        r#""name":"n","host":"web.example","target":"/app/x","headers":[["X-Forwarded-For","6.6.6.6"]]"#;
    let cases = [
        (r#""expect":{"cluster":"app","target":"/app/x"},"answer":{"x-served-by":"ingress-wasm"}"#, 0),
        (r#""expect":{"cluster":"web"}"#, 1),
        (r#""expect":{"status":401}"#, 1),
        (r#""expect":{"cluster":"app","target":"/app"}"#, 1),
        (r#""expect":{"cluster":"app","headers":{"x-real-ip":"6.6.6.6","x-gateway":null}}"#, 2),
        (r#""expect":{"cluster":"app"},"answer":{"x-served-by":null,"x-none":"x"}"#, 2),
    ];
    for (rest, expected) in cases {
        let case: Case = serde_json::from_str(&format!("{{{base},{rest}}}")).expect(rest);
        let found = complaints(&case, &run(&table, &case, &mut State::new([7; 32])));
        assert_eq!(found.len(), expected, "{rest}: {found:?}");
    }
    assert_eq!(file.config["version"], config::SCHEMA_VERSION);
}
