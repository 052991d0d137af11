//! Stamps version, commit and config-schema version into the filter, so that the log line at its start
//! tells which build serves.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=INGRESS_WASM_COMMIT");
    for path in [".git/HEAD", ".git/refs/heads", ".git/packed-refs"] {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rustc-env=INGRESS_WASM_COMMIT={}", commit());
}

/// The commit this is built from: the environment (a build without a repository, as in a container) or
/// git; "unknown" where neither tells.
fn commit() -> String {
    if let Ok(commit) = std::env::var("INGRESS_WASM_COMMIT")
        && !commit.is_empty()
    {
        return commit;
    }
    Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|commit| commit.trim().to_owned())
        .filter(|commit| !commit.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
