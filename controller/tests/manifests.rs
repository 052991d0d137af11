//! The manifests, the chart and the compose file name options of the binary: each has to be one that it has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// The options in the help of a subcommand.
fn options(subcommand: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_ingress-wasm"))
        .args([subcommand, "--help"])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{subcommand} --help");
    words(&String::from_utf8_lossy(&output.stdout))
}

/// Words that begin with `--`, up to a `=` or the like.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|byte: char| !(byte.is_ascii_alphanumeric() || byte == '-'))
        .filter(|word| word.starts_with("--") && word.len() > 2 && !word.starts_with("---"))
        .map(str::to_owned)
        .collect()
}

/// Options in the lines of an argument list, of those arguments that follow a line with `begin`.
fn used(file: &str, begin: &str, end: &str) -> BTreeSet<String> {
    let path = repository().join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{file} has no `{begin}`"));
    let (list, _) = rest.split_once(end).unwrap_or_else(|| panic!("{file}: no `{end}` after `{begin}`"));
    let found = list.lines().map(str::trim).filter_map(|line| line.strip_prefix("- "));
    found.flat_map(words).collect()
}

#[test]
fn options_of_the_controller_exist() {
    let known = options("controller");
    for (file, begin, end) in [
        ("envoy/kubernetes/ingress-wasm.yaml", "- controller\n", "env:"),
        ("istio/kubernetes/ingress-wasm.yaml", "- controller\n", "env:"),
        ("envoy/kubernetes/chart/ingress-wasm/templates/_pod.tpl", "- controller\n", "{{/* The pod of"),
    ] {
        let used = used(file, begin, end);
        assert!(used.len() > 10, "{file}: only {used:?} were found");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}, which `ingress-wasm controller` does not have");
    }
}

#[test]
fn options_of_bootstrap_exist() {
    let known = options("bootstrap");
    let text = fs::read_to_string(repository().join("envoy/kubernetes/ingress-wasm.yaml")).expect("there");
    let line = text.lines().find(|line| line.contains("args: [bootstrap")).expect("the init container");
    let used = words(line);
    assert_eq!(used.len(), 1, "{line}");
    assert!(used.is_subset(&known), "{used:?}");
}

/// What the values of the chart are handed on as has to be read, not only known by name.
#[test]
fn the_manifests_arguments_are_read() {
    for file in ["envoy/kubernetes/ingress-wasm.yaml", "istio/kubernetes/ingress-wasm.yaml"] {
        arguments_are_read(file);
    }
}

fn arguments_are_read(file: &str) {
    let text = fs::read_to_string(repository().join(file)).expect("there");
    let (_, rest) = text.split_once("- controller\n").expect("the arguments");
    let (list, _) = rest.split_once("env:").expect("their end");
    let arguments: Vec<&str> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .map(|word| word.trim_matches('"'))
        .collect();
    // A kubeconfig that is not there: the arguments are read before it is.
    let output = Command::new(env!("CARGO_BIN_EXE_ingress-wasm"))
        .arg("controller")
        .args(arguments)
        .args(["--kubeconfig", "/nonexistent/kubeconfig"])
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/nonexistent/kubeconfig"), "{stderr}");
}
