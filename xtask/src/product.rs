//! Building the product, and running it until it serves.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{self, Server};
use crate::ui;

/// How long the product may take until it serves.
const START: Duration = Duration::from_secs(300);

/// The binary `ingress-wasm`, as it is released, with the filter inside.
pub fn build() -> Result<PathBuf> {
    // The build script would make it as well, but without a word for as long as it takes.
    let filter = build_filter()?;
    ui::timed("building ingress-wasm", || {
        let mut cargo = process::cargo();
        cargo.args(["build", "--release", "--package", "ingress-wasm-controller", "--bin", "ingress-wasm"]);
        cargo.env("INGRESS_WASM_MODULE", &filter);
        process::artifacts(&mut cargo)?
            .into_iter()
            .rev()
            .map(|artifact| artifact.file)
            .find(|file| file.file_name().is_some_and(|name| name == "ingress-wasm"))
            .context("the build made no binary `ingress-wasm`")
    })
}

/// The filter module, as it is released. Not by way of `wasm-opt`: see docs/performance.md. In the target directory that the build script of the product uses
/// too, so that it is compiled once.
pub fn build_filter() -> Result<PathBuf> {
    ui::timed("building the filter", || {
        let mut cargo = process::cargo();
        cargo.args(["build", "--package", "ingress-wasm", "--lib"]);
        cargo.args(["--target", "wasm32-wasip1", "--profile", "filter"]);
        cargo.arg("--target-dir").arg(process::target_directory()?.join("filter"));
        module(&mut cargo, "ingress_wasm")
    })
}

/// The WebAssembly module that a build command makes of a library.
pub fn module(cargo: &mut Command, library: &str) -> Result<PathBuf> {
    process::artifacts(cargo)?
        .into_iter()
        .filter(|artifact| artifact.target.replace('-', "_") == library)
        .map(|artifact| artifact.file)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        .context("the build made no WebAssembly module")
}

/// Where the product shall listen. Port 0 asks for a free port.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// HTTPS.
    pub https: SocketAddr,
    /// Envoy's administration.
    pub admin: SocketAddr,
}

impl Listen {
    /// Free ports of the loopback address.
    pub const FREE: Listen = Listen { http: loopback(0), https: loopback(0), admin: loopback(0) };

    /// What was asked for; else the usual ports 8080, 8443 and 9901 of the loopback address, or a free one
    /// in place of each that is taken, which is said.
    pub fn usual(http: Option<SocketAddr>, https: Option<SocketAddr>, admin: Option<SocketAddr>) -> Listen {
        Listen {
            http: http.unwrap_or_else(|| usable("HTTP", loopback(8080))),
            https: https.unwrap_or_else(|| usable("HTTPS", loopback(8443))),
            admin: admin.unwrap_or_else(|| usable("Envoy's administration", loopback(9901))),
        }
    }
}

fn usable(what: &str, address: SocketAddr) -> SocketAddr {
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(error) => {
            ui::note(&format!("{address} cannot be used ({error}): a free port for {what} instead"));
            loopback(0)
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// The product, serving.
pub struct Running {
    /// The process.
    pub server: Server,
    /// Where it serves plain HTTP.
    pub http: SocketAddr,
    /// Where it serves HTTPS.
    pub https: Option<SocketAddr>,
    /// From its start to its first request.
    pub took: Duration,
}

/// Starts `ingress-wasm run` with further arguments and waits until it serves.
pub fn serve(
    binary: &Path,
    envoy: &Path,
    listen: Listen,
    further: &[&std::ffi::OsStr],
    interrupted: &Arc<AtomicBool>,
) -> Result<Running> {
    let mut command = Command::new(binary);
    command.arg("run").arg("--envoy").arg(envoy);
    command.args(["--http", &listen.http.to_string(), "--https", &listen.https.to_string()]);
    command.args(["--admin", &listen.admin.to_string()]).args(further);
    let start = Instant::now();
    let mut server = Server::start(&mut command, interrupted)?;
    let (at, line) = server.wait_for("ready ", START)?;
    let address = |name| address(&line, name).with_context(|| format!("read `{line}`"));
    let Some(http) = address("http")? else { bail!("`{line}` does not name the address for HTTP") };
    Ok(Running { http, https: address("https")?, server, took: at.duration_since(start) })
}

/// The address in ` name=ADDRESS` of the line that says the product is ready.
fn address(line: &str, name: &str) -> Result<Option<SocketAddr>> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.parse().with_context(|| format!("address `{value}`")))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ready_line() {
        let line = "ready http=127.0.0.1:8080 https=[::1]:8443";
        for (name, expected) in
            [("http", Some("127.0.0.1:8080")), ("https", Some("[::1]:8443")), ("admin", None)]
        {
            let found = address(line, name).unwrap().map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        assert!(address("ready http=nowhere", "http").is_err());
    }
}
