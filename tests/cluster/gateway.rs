//! A cluster with a controller that writes objects of Istio, and no Envoy: what a mesh makes of them is another matter.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Instant;

use ingress_wasm_echo::EchoServer;
use ingress_wasm_tests::apiserver::ApiServer;
use ingress_wasm_tests::client::{Target, WireRequest, once};
use ingress_wasm_tests::product::binary;
use serde_json::{Value, json};

use crate::objects::{service, slice};
use crate::processes::Process;
use crate::world::{SOON, echo};

/// Where the gateway is.
pub const NAMESPACE: &str = "istio-ingress";

pub const PLUGINS: &str = "wasmplugins.extensions.istio.io";
pub const FILTERS: &str = "envoyfilters.networking.istio.io";
pub const RULES: &str = "destinationrules.networking.istio.io";
pub const ENTRIES: &str = "serviceentries.networking.istio.io";
pub const GATEWAYS: &str = "gateways.networking.istio.io";
pub const SERVICES: &str = "virtualservices.networking.istio.io";

pub const SECRETS: &str = "secrets";

/// All kinds of objects that are written, besides copies of Secrets.
pub const ALL: [&str; 6] = [ENTRIES, RULES, GATEWAYS, SERVICES, FILTERS, PLUGINS];

/// A replica.
pub struct Replica {
    pub process: Process,
    healthz: SocketAddr,
    log: std::path::PathBuf,
}

impl Replica {
    /// The status of `/readyz`, 0 if nobody answers.
    pub fn readyz(&self) -> u16 {
        self.ask("/readyz").map_or(0, |(status, _)| status)
    }

    /// What it says at a path of its own.
    pub fn ask(&self, path: &str) -> Result<(u16, String), String> {
        let request = WireRequest::new("GET", "probe", path);
        let answer = once(&Target::plain(self.healthz), &request).map_err(|error| error.to_string())?;
        Ok((answer.status, answer.text()))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The cluster. Ends in this order.
pub struct Gateway {
    pub replicas: Vec<Replica>,
    pub api: ApiServer,
    _web: EchoServer,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// An API server with these objects and a service `web` with one endpoint, and no replica yet.
    pub fn without(objects: &[Value]) -> Result<Gateway, String> {
        let api = ApiServer::start().map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        api.write_kubeconfig(&folder.path().join("kubeconfig"), "test").map_err(|error| error.to_string())?;
        let web = echo(Ipv4Addr::LOCALHOST.into(), "web")?;
        api.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))?;
        api.put(service("web"))?;
        api.put(slice("web", 0, web.address()))?;
        objects.iter().try_for_each(|object| api.put(object.clone()))?;
        Ok(Gateway { replicas: Vec::new(), api, _web: web, folder })
    }

    /// The same with a replica that is ready.
    pub fn new(objects: &[Value]) -> Result<Gateway, String> {
        let mut gateway = Gateway::without(objects)?;
        gateway.start(&[])?;
        gateway.wait("ready", |gateway| gateway.replicas.iter().all(|replica| replica.readyz() == 200))?;
        Ok(gateway)
    }

    /// Starts another replica.
    pub fn start(&mut self, arguments: &[&str]) -> Result<(), String> {
        let log = self.folder.path().join(format!("controller-{}.log", self.replicas.len()));
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let healthz = free.map_err(|error| error.to_string())?;
        let mut command = Command::new(binary()?);
        command.args(["controller", "--output", "istio", "--configmap", "ingress-nginx/controller"]);
        command.arg("--kubeconfig").arg(self.folder.path().join("kubeconfig"));
        command.args(["--healthz-host", "127.0.0.1", "--healthz-port", &healthz.port().to_string()]);
        command.args(["--publish-status-address", "203.0.113.7", "--election-ttl", "4s"]);
        command.args(["--istio-module", &format!("file://{}", self.module().display())]);
        command.args(["--istio-settle-time", "1s"]).args(arguments);
        let process = Process::start(&mut command, &log)?;
        self.replicas.push(Replica { process, healthz, log });
        Ok(())
    }

    /// Where the module is looked for.
    pub fn module(&self) -> std::path::PathBuf {
        self.folder.path().join("filter.wasm")
    }

    /// A file of this cluster's own.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Looks again and again until it is so; on failure with what the replicas said.
    pub fn wait(&mut self, what: &str, mut so: impl FnMut(&mut Gateway) -> bool) -> Result<(), String> {
        let end = Instant::now() + SOON;
        while !so(self) {
            if Instant::now() > end {
                return Err(format!("{what}: not in {SOON:?}\n{}", self.logs()));
            }
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        Ok(())
    }

    /// The ends of what the replicas said.
    pub fn logs(&self) -> String {
        let tail = |replica: &Replica| {
            let text = replica.log();
            let lines: Vec<&str> = text.lines().collect();
            lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
        };
        self.replicas.iter().map(tail).collect::<Vec<_>>().join("\n---\n")
    }

    /// An object of the gateway's namespace.
    pub fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.api.get(resource, NAMESPACE, name)
    }

    /// All objects of a kind in the gateway's namespace.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        let mut found = self.api.list(resource);
        found.retain(|object| object["metadata"]["namespace"] == NAMESPACE);
        found
    }

    /// The plugin configuration as it is written.
    pub fn config(&self) -> String {
        self.get(PLUGINS, "ingress-wasm")
            .map(|plugin| plugin["spec"]["pluginConfig"].to_string())
            .unwrap_or_default()
    }

    /// Waits until the plugin configuration has a text in it.
    pub fn wait_config(&mut self, text: &str) -> Result<(), String> {
        self.wait(&format!("the plugin has {text}"), |gateway| gateway.config().contains(text))
    }

    /// The subsets of all DestinationRules.
    pub fn subsets(&self) -> Vec<String> {
        let rules = self.list(RULES);
        let subsets = rules.iter().flat_map(|rule| rule["spec"]["subsets"].as_array().into_iter().flatten());
        subsets.filter_map(|subset| subset["name"].as_str().map(str::to_owned)).collect()
    }
}
