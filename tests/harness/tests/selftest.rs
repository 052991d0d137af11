//! The runner against a stand-in for the product: what is right passes, what is wrong fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ingress_wasm_tests::case::{CaseFile, parse};
use ingress_wasm_tests::engine::Engine;
use ingress_wasm_tests::envoy_engine::EnvoyEngine;
use ingress_wasm_tests::group::group;
use ingress_wasm_tests::runner::{Outcome, run_case};

const CASES: &str = r#"
- name: forwards
  source: nowhere
  area: routing
  services: ['web:80', 'alt:80']
  manifests: |
    kind: Ingress
    metadata: {name: forwards}
    spec:
      rules:
      - host: forwards.example
        http:
          paths:
          - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
          - {path: /alt, pathType: Prefix, backend: {service: {name: alt, port: {number: 80}}}}
  requests:
    - url: http://forwards.example/a/../b?x=%zz
      headers: {X-Many: [one, two]}
      expect:
        status: 200
        backend: web
        path: /a/../b?x=%zz
        method: GET
        request_headers: {X-Many: [one, two], X-Added: null, Host: forwards.example}
        reached: [{backend: alt, times: 0}]
    - url: http://forwards.example/alt/status/503
      method: POST
      body: hello
      repeat: 3
      expect:
        status: 503
        share: {alt: [3, 3]}
        statuses: {503: [3, 3]}
        reached: [{backend: alt, times: 3, method: POST, body: hello}]
    - url: http://forwards.example/alt
      parallel: 4
      expect: {endpoints: 1, endpoint_share: [4, 4], backend: alt}
    - url: http://forwards.example/?set=Set-Cookie:a%3Db
      expect: {headers: {Set-Cookie: a=b}, body: {matches: '"service": "web"'}}
- name: unknown-host
  source: nowhere
  area: routing
  services: ['web:80']
  manifests: |
    kind: Ingress
    metadata: {name: unknown-host}
    spec:
      rules:
      - host: unknown-host.example
        http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web}}}]}
  requests:
    - url: http://nobody.unknown-host.example/
      expect: {status: 404, backend: null}
    - url: http://unknown-host.example/
      expect: {backend: web, request_headers: {Cookie: null}}
"#;

/// A script that runs the stand-in with a fault: the engine passes no environment of its own on.
fn fake(folder: &Path, fault: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = folder.join(format!("fake-{fault}"));
    let binary = env!("CARGO_BIN_EXE_fake-product");
    std::fs::write(&script, format!("#!/bin/sh\nFAKE_PRODUCT={fault} exec '{binary}' \"$@\"\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// Runs all cases against the stand-in with this fault.
fn run(fault: &str) -> BTreeMap<String, Outcome> {
    let folder = tempfile::tempdir().unwrap();
    let engine = EnvoyEngine::new(Ok(fake(folder.path(), fault)));
    let groups = group(vec![CaseFile { path: "cases.yaml".into(), cases: parse(CASES).unwrap() }]);
    assert_eq!(groups.len(), 1, "both cases are loaded together");
    let running = engine.start(&groups[0]).unwrap();
    groups[0].cases.iter().map(|member| (member.case.name.clone(), run_case(&*running, member))).collect()
}

#[test]
fn right_answers_pass() {
    for (name, outcome) in run("") {
        assert_eq!(outcome, Ok(()), "{name}");
    }
}

#[test]
fn wrong_answers_fail_and_say_why() {
    let cases = [
        ("first-backend", "forwards", "backend: expected web, but alt answered"),
        ("first-backend", "forwards", "alt: to be reached 0 times, but it was 1 times"),
        ("adds-header", "forwards", "request header X-Added: expected none, got \"by the fake\""),
        ("answers", "forwards", "status: expected 200, got 404"),
        ("answers", "forwards", "answers of alt: expected 3 to 3, got 0"),
        ("answers", "forwards", "status: expected 503, got 404 (3 times)"),
        ("answers", "unknown-host", "backend: expected web, but none answered"),
        ("answers", "unknown-host", "request 2: GET http://unknown-host.example/"),
    ];
    let mut outcomes = BTreeMap::new();
    for (fault, case, message) in cases {
        let outcomes = outcomes.entry(fault).or_insert_with(|| run(fault));
        let error = outcomes[case].clone().expect_err(case);
        assert!(error.contains(message), "{fault}, {case}: {message:?} is not in\n{error}");
    }
    assert!(outcomes["first-backend"]["unknown-host"].is_err(), "{outcomes:?}");
}

#[test]
fn what_does_not_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let groups = group(vec![CaseFile { path: "cases.yaml".into(), cases: parse(CASES).unwrap() }]);
    let engine = EnvoyEngine::new(Ok(fake(folder.path(), "ends")));
    let error = engine.start(&groups[0]).err().unwrap();
    assert!(error.contains("this fake ends at once"), "{error}");
    let engine = EnvoyEngine::new(Err("the product is not built".to_owned()));
    assert_eq!(engine.start(&groups[0]).err().unwrap(), "the product is not built");
}

/// The arguments of all processes that name this folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    let lines =
        entries.filter_map(|path| Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned()));
    lines.filter(|line| line.contains(&*folder.to_string_lossy())).collect()
}

/// Runs the conformance tests as cargo would (the engine of the stand-in is `envoy::`), with these cases and this fault; nothing may be left of them.
fn conformance(cases: &str, fault: &str, arguments: &[&str]) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.yaml");
    std::fs::write(&path, cases).unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    // Test executables lie side by side; this one knows where it lies.
    let executable = std::env::current_exe().unwrap();
    let beside = std::fs::read_dir(executable.parent().unwrap()).unwrap();
    let mut found: Vec<_> = beside
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("conformance-"))
        .collect();
    found.sort_by_key(|path| std::fs::metadata(path).and_then(|data| data.modified()).unwrap());
    let output = Command::new(found.pop().expect("the conformance tests are built"))
        .args(arguments)
        .env("INGRESS_WASM_CASES", &path)
        .env("INGRESS_WASM_BIN", fake(folder.path(), fault))
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    assert_eq!(processes_in(&temporary), [""; 0], "processes are left");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "files are left");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

#[test]
fn cases_are_named_tests() {
    let (output, text) = conformance(CASES, "", &["envoy::"]);
    assert!(output.status.success(), "{text}");
    for line in ["test envoy::forwards", "test envoy::unknown-host", "2 passed"] {
        assert!(text.contains(line), "{text}");
    }
    let (output, text) = conformance(CASES, "first-backend", &["envoy::forwards"]);
    assert!(!output.status.success(), "{text}");
    for line in ["FAILED", "expected web, but alt answered", "5 filtered out"] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn what_the_engine_lacks_is_ignored_and_never_passed() {
    let cases = CASES.replace("- name: forwards\n", "- name: forwards\n  needs: [digest]\n");
    let (output, text) = conformance(&cases, "", &["envoy::"]);
    assert!(output.status.success(), "{text}");
    for line in ["1 passed", "1 ignored", "lacks Digest"] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn broken_case_files_fail() {
    let (output, text) = conformance(&CASES.replace("area:", "arena:"), "", &[]);
    assert!(!output.status.success() && text.contains("arena"), "{text}");
}
