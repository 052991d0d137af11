//! The API server's double, as `kubectl` sees it: the plain manifests are applied, again, and deleted.
//!
//! `KUBECTL` names it, else it is taken from the PATH; without one there is nothing to try, and a line says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use ingress_wasm_tests::apiserver::ApiServer;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn kubectl() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECTL").filter(|value| !value.is_empty());
    named.map(PathBuf::from).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|file| file.is_file())
    })
}

/// What it writes to standard output.
fn run(binary: &Path, folder: &Path, arguments: &[&str]) -> Outcome<String> {
    let mut command = Command::new(binary);
    command.args(arguments).env("KUBECONFIG", folder.join("kubeconfig")).env("HOME", folder);
    let output = command.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("kubectl {}: {}", arguments.join(" "), text(&output.stderr)).into())
    }
}

#[test]
fn the_manifests_are_applied() -> Outcome {
    let Some(kubectl) = kubectl() else {
        println!("skipped: there is no kubectl; KUBECTL may name one");
        return Ok(());
    };
    let double = ApiServer::start()?;
    let folder = tempfile::tempdir()?;
    double.write_kubeconfig(&folder.path().join("kubeconfig"), "somebody")?;
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy/kubernetes");
    let manifests = manifests.display().to_string();
    // The double has no schemas to validate by.
    let apply = ["apply", "--validate=false", "-k", &manifests];
    let lines = |text: &str, end: &str| text.lines().filter(|line| line.ends_with(end)).count();

    let first = run(&kubectl, folder.path(), &apply)?;
    assert!(lines(&first, " created") >= 14, "{first}");
    let deployment = double.get("deployments.apps", "ingress-wasm", "ingress-wasm-controller");
    assert_eq!(deployment.ok_or("it is there")?["spec"]["replicas"], 2);

    let again = run(&kubectl, folder.path(), &apply)?;
    assert_eq!(lines(&again, " created"), 0, "{again}");
    let served = run(&kubectl, folder.path(), &["get", "deploy,svc", "-n", "ingress-wasm", "-o", "name"])?;
    assert_eq!(served.lines().count(), 3, "{served}");

    run(&kubectl, folder.path(), &["delete", "--wait=false", "-k", &manifests])?;
    assert_eq!(double.get("deployments.apps", "ingress-wasm", "ingress-wasm-controller"), None);
    assert_eq!(double.list("clusterroles.rbac.authorization.k8s.io").len(), 0);
    Ok(())
}
