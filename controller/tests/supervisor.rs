//! The supervisor with programs that are not Envoy.

use std::io::{BufRead, BufReader};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ingress_wasm_controller::supervisor::{Level, LogLine, Settings, State, Supervisor};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The variable that turns a test into the parent that is killed: the program that it runs.
const PARENT_OF: &str = "INGRESS_WASM_TEST_PARENT_OF";

fn program(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("set");
    path
}

fn settings(binary: PathBuf, lines: &Arc<Mutex<Vec<LogLine>>>) -> Settings {
    let lines = Arc::clone(lines);
    Settings {
        binary,
        bootstrap: "bootstrap.json".into(),
        concurrency: NonZeroU32::MIN,
        log_level: Level::Warning,
        admin_address_file: None,
        on_log: Arc::new(move |line| lines.lock().expect("whole").push(line)),
    }
}

fn is_alive(pid: u32) -> bool {
    // A process that has ended but was not waited for has nothing mapped any more.
    std::fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|sizes| !sizes.starts_with("0 "))
}

async fn pid(supervisor: &Supervisor, wanted: u64) -> u32 {
    let mut state = supervisor.state();
    let state = state.wait_for(|state| matches!(state, State::Running { starts, .. } if *starts == wanted));
    match &*tokio::time::timeout(PATIENCE, state).await.expect("in time").expect("supervised") {
        State::Running { pid, .. } => *pid,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn relays_what_is_said_and_starts_again() {
    let directory = tempfile::tempdir().expect("made");
    let lines = Arc::default();
    // Ends twice, and stays the third time: a state that lasts is one that cannot be missed.
    let count = directory.path().join("count");
    let text = format!(
        "echo x >> {0}; printf 'warning\\tmain\\tgoing\\n' >&2; [ $(wc -l < {0}) -lt 3 ] && exit 3; exec sleep 1000",
        count.display()
    );
    let program = program(directory.path(), &text);
    let supervisor = Supervisor::start(settings(program, &lines)).await.expect("starts");
    assert!(is_alive(pid(&supervisor, 3).await));
    supervisor.shutdown().await;
    let lines = lines.lock().expect("whole");
    let expected = LogLine { level: Level::Warning, component: "main".to_owned(), text: "going".to_owned() };
    assert!(lines.len() >= 2 && lines.iter().all(|line| *line == expected), "{lines:?}");
}

#[tokio::test]
async fn who_does_not_want_to_end_is_killed() {
    let directory = tempfile::tempdir().expect("made");
    let lines: Arc<Mutex<Vec<LogLine>>> = Arc::default();
    let program = program(directory.path(), "trap '' TERM; echo deaf >&2; while :; do sleep 1; done");
    let supervisor = Supervisor::start(settings(program, &lines)).await.expect("starts");
    let pid = pid(&supervisor, 1).await;
    while lines.lock().expect("whole").is_empty() {
        tokio::task::yield_now().await;
    }
    supervisor.shutdown().await;
    assert!(!is_alive(pid), "process {pid}");
}

#[tokio::test]
async fn what_cannot_be_started_is_an_error() {
    let error = Supervisor::start(settings("/nonexistent/envoy".into(), &Arc::default()))
        .await
        .expect_err("not there");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn does_not_outlive_a_parent_that_is_killed() {
    if let Some(program) = std::env::var_os(PARENT_OF) {
        let supervisor = Supervisor::start(settings(program.into(), &Arc::default())).await.expect("starts");
        eprintln!("\nchild {}", pid(&supervisor, 1).await);
        return std::future::pending().await;
    }
    let directory = tempfile::tempdir().expect("made");
    let program = program(directory.path(), "exec sleep 1000");
    let mut parent = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "does_not_outlive_a_parent_that_is_killed", "--nocapture"])
        .env(PARENT_OF, program)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let stderr = parent.stderr.take().expect("piped");
    let child = BufReader::new(stderr)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("child ")?.parse().ok())
        .expect("tells its child");
    assert!(is_alive(child), "process {child}");
    parent.kill().expect("killed");
    parent.wait().expect("ended");
    let start = Instant::now();
    while is_alive(child) {
        assert!(start.elapsed() < PATIENCE, "process {child} lives on");
        tokio::task::yield_now().await;
    }
}
