//! The engine that goes through an Envoy configured as istiod configures an ingress gateway: the product writes
//! objects of Istio, and here they are made into a configuration by the rules of istiod.
//!
//! It stands in for a mesh, which no test can bring along. What it takes on trust is that these rules are those of
//! istiod; they are written down in [`istiod`] and [`patches`].

pub mod istiod;
pub mod merge;
pub mod patches;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};

use crate::case::Ability;
use crate::engine::{Engine, Running};
use crate::envoy_engine::{self, Served};
use crate::group::Group;
use crate::product::Product;

/// Runs cases through an Envoy like that of an Istio gateway.
#[derive(Debug)]
pub struct IstioEngine {
    binary: Result<PathBuf, String>,
}

impl IstioEngine {
    /// With this binary, or with the reason why there is none: then each case fails with it.
    pub fn new(binary: Result<PathBuf, String>) -> Self {
        Self { binary }
    }
}

impl Engine for IstioEngine {
    fn name(&self) -> &'static str {
        "istio"
    }

    fn abilities(&self) -> BTreeSet<Ability> {
        envoy_engine::abilities()
    }

    fn start(&self, group: &Group) -> Result<Box<dyn Running>, String> {
        let binary = self.binary.as_ref().map_err(Clone::clone)?;
        let site = envoy_engine::site(group)?;
        let default = default_certificate()?.to_string();
        site.write("default-certificate.yaml", &default).map_err(|error| error.to_string())?;
        let module = site.temporary().join("filter.wasm");
        run(Command::new(binary).args(["filter", "--output"]).arg(&module))?;
        let (objects, said) = objects(binary, &site.manifests(), &module)?;
        let addresses = free_addresses();
        let bootstrap = istiod::bootstrap(&objects, &manifests(&site.manifests())?, addresses)?;
        let path = site.temporary().join("gateway.json");
        std::fs::write(&path, format!("{bootstrap:#}")).map_err(|error| error.to_string())?;
        let product = Product::envoy(&path, addresses.http, addresses.https, addresses.admin)?;
        Ok(Box::new(Served { product, site, binary: None, said }))
    }
}

/// The objects that the product writes, and its diagnostics.
///
/// # Errors
///
/// What it said where it wrote none.
pub fn objects(binary: &Path, manifests: &Path, module: &Path) -> Result<(Vec<Value>, Vec<String>), String> {
    let mut command = Command::new(binary);
    command.args(["translate", "--verbose", "--output", "istio", "--ingress-class", "nginx"]);
    command.args(["--config-map", "ingress-nginx/ingress-nginx-controller"]);
    command.args(["--default-ssl-certificate", "istio-ingress/default-certificate"]);
    command.arg(format!("--istio-module=file://{}", module.display())).arg(manifests);
    let (stdout, stderr) = run(&mut command)?;
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&stdout).map_err(|error| format!("not YAML: {error}"))?;
    if objects.is_empty() {
        return Err(format!("no objects: {stderr}"));
    }
    Ok((objects, stderr.split("\n\n").map(|said| said.trim().to_owned()).collect()))
}

/// Runs a command that ends by itself. Diagnostics that are errors do not count: what is written is complete.
fn run(command: &mut Command) -> Result<(String, String), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !matches!(output.status.code(), Some(0 | 1)) {
        return Err(format!("{command:?} ended with {}: {stderr}", output.status));
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), stderr))
}

/// All objects of a folder. Broken documents are passed over, as the product does.
fn manifests(folder: &Path) -> Result<Vec<Value>, String> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|error| error.to_string())?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_default();
        for document in documents {
            match document["items"].as_array() {
                Some(items) if document["kind"] == "List" => found.extend(items.iter().cloned()),
                _ => found.push(document),
            }
        }
    }
    Ok(found)
}

/// A certificate for hosts that have none of their own, as a Secret of the gateway's namespace.
fn default_certificate() -> Result<Value, String> {
    let made = rcgen::generate_simple_self_signed(vec!["default.example".to_owned()]);
    let made = made.map_err(|error| error.to_string())?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "default-certificate", "namespace": "istio-ingress"},
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()},
    }))
}

/// Addresses that nobody else has: of the loopback network one for each process and start.
pub fn free_addresses() -> istiod::Addresses {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(127, NEXT.fetch_add(1, Ordering::Relaxed).max(1), high, low.max(1)));
    let at = |port| SocketAddr::new(ip, port);
    istiod::Addresses { http: at(8080), https: at(8443), admin: at(15000) }
}
