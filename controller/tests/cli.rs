//! The command line as its users meet it: the built binary, its output and its exit status.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A file or folder of the demonstration.
fn demo(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    root.join("envoy/demo").join(name).to_string_lossy().into_owned()
}

/// What came of a run.
struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn status(self, expected: i32) -> Self {
        assert_eq!(self.status, Some(expected), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Each part is on standard output.
    #[track_caller]
    fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "{part:?} is not in:\n{}", self.stdout);
        }
        self
    }

    /// Each part is on standard error.
    #[track_caller]
    fn warns(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in:\n{}", self.stderr);
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

fn run_with(arguments: &[&str], stdin: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingress-wasm"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // A command that reads no standard input may have ended before.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { status: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, "")
}

fn explain(path: &str, request: &str, more: &[&str]) -> Ran {
    let mut arguments = vec!["explain", path, "--request", request];
    arguments.extend(more);
    run(&arguments)
}

/// The outcome as JSON, of the kind `forward` or `reply`.
#[track_caller]
fn outcome(path: &str, request: &str, kind: &str, more: &[&str]) -> Value {
    let more: Vec<&str> = more.iter().copied().chain(["--format", "json"]).collect();
    let ran = explain(path, request, &more).status(0);
    let outcome = &ran.json()["outcome"][kind];
    assert!(outcome.is_object(), "no {kind}:\n{}", ran.stdout);
    outcome.clone()
}

/// The value of a header in the JSON of an explanation.
fn header<'a>(outcome: &'a Value, name: &str) -> Option<&'a str> {
    let lines = outcome["headers"].as_array()?;
    lines.iter().find(|line| line[0] == name)?[1].as_str()
}

const SHOP: &str = "multi-host.yaml";
const BACKENDS: [&str; 2] = ["--backend", "shop/api:80=127.0.0.1:9001"];

#[test]
fn version_names_the_schema() {
    let version = env!("CARGO_PKG_VERSION");
    run(&["--version"]).status(0).says(&[&format!("ingress-wasm {version} ("), "configuration schema 1"]);
}

#[test]
fn wrong_usage_is_2() {
    let shop = demo(SHOP);
    for arguments in [
        &[][..],
        &["serve"],
        &["check"],
        &["check", "--no-such-flag", &shop],
        &["check", &shop, "--format", "xml"],
        &["check", &shop, "--config-map", "no-namespace"],
        &["check", &shop, "--backend", "web:80"],
        &["explain", &shop],
        &["explain", &shop, "--request", "GET /no-host"],
        &["explain", &shop, "--request", "ftp://host/"],
        &["explain", &shop, "--request", "http://host/", "-H", "no colon"],
        &["filter"],
    ] {
        let ran = run(arguments);
        assert_eq!(ran.status, Some(2), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{arguments:?}: {}", ran.stdout);
    }
}

#[test]
fn translate_writes_what_the_filter_reads() {
    let ran = run(&["translate", &demo(SHOP)]).status(0);
    let config = ingress_wasm::config::from_slice(ran.stdout.as_bytes()).expect("a plugin configuration");
    let hosts: Vec<&str> = config.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(
        hosts,
        ["*", "*.preview.shop.example", "admin.shop.example", "api.shop.example", "www.shop.example"]
    );
    assert!(ingress_wasm::router::compile(config).is_ok());
    assert_eq!(run(&["translate", &demo(SHOP)]).stdout, ran.stdout, "the same input gives the same bytes");
}

#[test]
fn translate_writes_files_and_a_bootstrap() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.json").to_string_lossy().into_owned();
    let ran = run(&["translate", &demo(SHOP), "-o", &file]).status(0);
    assert_eq!(ran.stdout, "");
    let written = std::fs::read(&file).expect("written");
    assert!(ingress_wasm::config::from_slice(&written).is_ok());
    let arguments = [
        "translate",
        &demo(SHOP),
        "--output",
        "envoy",
        "--filter-path",
        "/x/filter.wasm",
        BACKENDS[0],
        BACKENDS[1],
    ];
    let bootstrap = run(&arguments).status(0);
    let clusters = &bootstrap.json()["static_resources"]["clusters"];
    let names: Vec<_> =
        clusters.as_array().into_iter().flatten().filter_map(|cluster| cluster["name"].as_str()).collect();
    assert!(names.contains(&"shop/api:80"), "{names:?}");
    bootstrap.says(&["/x/filter.wasm", "9001"]);
    let nowhere = folder.path().join("no/such/folder").to_string_lossy().into_owned();
    run(&["translate", &demo(SHOP), "-o", &nowhere]).status(1).warns(&["cannot write", "no/such/folder"]);
}

#[test]
fn notes_on_what_works_are_left_to_check() {
    let shop = demo(SHOP);
    for arguments in [&["translate", &shop][..], &["explain", &shop, "--request", "http://www.shop.example/"]]
    {
        let ran = run(arguments).status(0).warns(&["notes were left out: `ingress-wasm check` shows them"]);
        assert!(!ran.stderr.contains("annotation-differs"), "{arguments:?}: {}", ran.stderr);
        let verbose: Vec<&str> = arguments.iter().copied().chain(["-v"]).collect();
        let ran = run(&verbose).status(0).warns(&["note[annotation-differs]"]);
        assert!(!ran.stderr.contains("left out"), "{verbose:?}: {}", ran.stderr);
    }
    run(&["check", &shop]).status(0).says(&["note[annotation-differs]"]);
}

#[test]
fn check_reports_the_demonstration() {
    run(&["check", &demo(SHOP)]).status(0).says(&[
        "shop/shop-admin",
        "✓ nginx.ingress.kubernetes.io/rewrite-target (exact)",
        "~ nginx.ingress.kubernetes.io/use-regex (differs:",
        "4 Ingresses, 8 annotations: 4 differs, 4 exact",
    ]);
    let ran = run(&["check", &demo("broken"), "--format", "json"]).status(1);
    let report = ran.json();
    assert!(report["summary"]["errors"].as_u64() >= Some(4), "{}", report["summary"]);
    let diagnostics = report["diagnostics"].as_array().expect("diagnostics");
    let of = |code: &str| diagnostics.iter().find(|diagnostic| diagnostic["code"] == code);
    for (code, object, field) in [
        ("field-unknown", "misspelt-host", "Host"),
        ("expression-invalid", "broken-expression", "paths[1].path"),
        ("auth-secret-missing", "secret-missing", "auth-secret"),
        ("annotation-unknown", "misspelt-annotation", "rewrite-targt"),
    ] {
        let found = of(code).unwrap_or_else(|| panic!("no {code} in {}", ran.stdout));
        assert_eq!(found["object"]["name"], object, "{found}");
        assert!(found["field"].as_str().is_some_and(|found| found.contains(field)), "{found}");
        assert!(found["source"]["line"].as_u64() > Some(1), "{found}");
    }
    assert!(of("yaml-syntax").is_some_and(|found| found["object"].is_null()), "{}", ran.stdout);
    run(&["check", &demo("broken")]).status(1).says(&["error[expression-invalid]", "broken.yaml:"]);
}

#[test]
fn standard_input_is_read() {
    let legacy = std::fs::read_to_string(demo("legacy.yaml")).expect("the demonstration");
    run_with(&["translate", "-"], &legacy).status(0).says(&["kubernetes.foo.bar"]);
    run_with(&["check", "-"], "kind: [").status(1).says(&["error[yaml-syntax]", "--> -:1"]);
    run_with(&["check", "-"], "").status(0).says(&["0 Ingresses", "nothing to report"]);
}

#[test]
fn a_path_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.yaml").to_string_lossy().into_owned();
    for arguments in [&["translate", &missing][..], &["explain", &missing, "--request", "http://a/"]] {
        run(arguments).status(1).warns(&["error[file-unreadable]", "missing.yaml", "No such file"]);
    }
    run(&["check", &missing]).status(1).says(&["error[file-unreadable]", "missing.yaml"]);
    // The rest is served all the same.
    run(&["translate", &missing, &demo(SHOP)]).status(1).says(&["www.shop.example"]);
}

#[test]
fn the_filter_is_a_module() {
    let folder = tempfile::tempdir().expect("a folder");
    let file: PathBuf = folder.path().join("filter.wasm");
    run(&["filter", "-o", &file.to_string_lossy()]).status(0);
    let module = std::fs::read(&file).expect("written");
    assert!(module.starts_with(b"\0asm\x01\0\0\0"), "{:?}", module.get(..8));
    assert!(module.len() > 10_000, "{} bytes", module.len());
}

#[test]
fn explain_tells_of_a_rewrite() {
    let request = "GET http://api.shop.example/API/v1/orders?x=1";
    let forward = outcome(&demo(SHOP), request, "forward", &BACKENDS);
    assert_eq!(forward["service"], "shop/api:80");
    assert_eq!((&forward["method"], &forward["target"]), (&"GET".into(), &"/orders?x=1".into()));
    assert_eq!(header(&forward, "x-forwarded-prefix"), Some("/api"));
    assert_eq!(header(&forward, "host"), Some("api.shop.example"));
    assert_eq!(header(&forward, "x-real-ip"), Some("192.0.2.1"));
    assert!(
        forward["headers"]
            .as_array()
            .expect("headers")
            .iter()
            .all(|line| line[0] != "x-ingress-wasm-cluster")
    );
    explain(&demo(SHOP), request, &BACKENDS).status(0).says(&[
        "regular expressions, longest text first",
        "wins: the first expression that matches",
        "receives GET /orders?x=1",
    ]);
    let legacy = ["--backend", "default/appsvc:80=127.0.0.1:9002", "--from", "203.0.113.7", "-H", "X-A: b"];
    let forward = outcome(&demo("legacy.yaml"), "http://kubernetes.foo.bar/app/x", "forward", &legacy);
    assert_eq!(forward["target"], "/x");
    assert_eq!(header(&forward, "x-original-uri"), Some("/app/x"));
    assert_eq!(header(&forward, "x-real-ip"), Some("203.0.113.7"));
    assert_eq!(header(&forward, "x-a"), Some("b"));
}

const SLASH: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: slash}
spec:
  ingressClassName: nginx
  rules:
  - host: slash.example
    http:
      paths:
      - {path: /app/, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
";

#[test]
fn explain_tells_of_a_missing_slash() {
    let arguments = ["explain", "-", "--request", "https://slash.example/app?q=1", "--format", "json"];
    let reply = &run_with(&arguments, SLASH).status(0).json()["outcome"]["reply"];
    assert_eq!(reply["status"], 301);
    assert_eq!(reply["details"], "missing_slash");
    assert_eq!(header(reply, "location"), Some("https://slash.example/app/?q=1"));
    let ran = run_with(&["explain", "-", "--request", "http://slash.example/app"], SLASH).status(0);
    ran.says(&["redirects to the path with a slash", "location: http://slash.example/app/"]);
}

#[test]
fn explain_tells_who_is_asked_for_a_password() {
    let admin = ["--backend", "shop/admin:80=127.0.0.1:9003"];
    let reply = outcome(&demo(SHOP), "http://admin.shop.example/users", "reply", &admin);
    assert_eq!(reply["status"], 401);
    assert_eq!(header(&reply, "www-authenticate"), Some("Basic realm=\"Shop administration\""));
    let known = [&admin[..], &["-H", "Authorization: Basic YWRhOmxvdmVsYWNl"]].concat();
    let forward = outcome(&demo(SHOP), "http://admin.shop.example/users", "forward", &known);
    assert_eq!(forward["service"], "shop/admin:80");
    assert_eq!(header(&forward, "authorization"), None, "the password is for the gateway");
    let reply = outcome(&demo(SHOP), "http://admin.shop.example/", "reply", &admin);
    assert_eq!(
        (&reply["status"], header(&reply, "location")),
        (&302.into(), Some("http://admin.shop.example/dashboard"))
    );
}

#[test]
fn explain_tells_what_is_denied() {
    let ran = explain(&demo("broken"), "http://secret.example/", &["--format", "json"]).status(1);
    let reply = &ran.json()["outcome"]["reply"];
    assert_eq!((&reply["status"], &reply["details"]), (&503.into(), &"denied".into()));
    assert_eq!(reply["reason"], "Secret default/no-such-secret does not exist");
    let ran = explain(&demo("broken"), "http://expression.example/api/v1", &[]).status(1);
    ran.says(&["503 from the filter (broken_expression)"]);
    let ran = explain(&demo("broken"), "http://good.example/", &[]).status(1);
    ran.says(&["Service default/web does not exist"]).warns(&["did you mean `rewrite-target`?"]);
}

#[test]
fn explain_tells_of_an_unknown_host() {
    let reply = outcome(&demo("legacy.yaml"), "http://nobody.example/", "reply", &[]);
    assert_eq!(reply["status"], 404);
    assert_eq!(reply["reason"], "no Ingress names this host");
    let landing = ["--backend", "shop/landing:80=127.0.0.1:9004"];
    let forward = outcome(&demo(SHOP), "http://nobody.example/x", "forward", &landing);
    assert_eq!(forward["service"], "shop/landing:80");
    let deep = outcome(&demo(SHOP), "http://a.b.preview.shop.example/", "forward", &landing);
    assert_eq!(deep["service"], "shop/landing:80", "a wildcard takes one label");
}
