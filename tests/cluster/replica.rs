//! A controller and its Envoy, as they are together in a pod.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use ingress_wasm_tests::case::Tls;
use ingress_wasm_tests::client::{Connection, Response, Target, WireRequest, once};
use ingress_wasm_tests::product::binary;
use ingress_wasm_tests::tls::TlsTerms;

use crate::api::Api;
use crate::processes::Process;

/// What a replica is started with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// Arguments besides those that all have.
    pub arguments: &'a [&'a str],
    /// The pod it is in, of the namespace `edge`, which is what the API server knows it by as well.
    pub pod: Option<&'a str>,
}

/// What the controller is told of its pod.
struct Pod {
    name: Option<String>,
    namespace: Option<String>,
}

/// Both processes. End in this order.
pub struct Replica {
    pub controller: Process,
    pub envoy: Process,
    pub http: SocketAddr,
    https: SocketAddr,
    healthz: SocketAddr,
    arguments: Vec<String>,
    pod: Pod,
    folder: tempfile::TempDir,
}

impl Replica {
    /// Starts both; nothing is waited for.
    pub fn start(api: &Api, terms: &Terms) -> Result<Replica, String> {
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(text)?;
        let run_dir = folder.path().join("run");
        std::fs::create_dir(&run_dir).map_err(text)?;
        let run_dir = run_dir.display().to_string();
        let kubeconfig = folder.path().join("kubeconfig");
        api.write_kubeconfig(&kubeconfig, terms.pod.unwrap_or("test"))?;
        let (http, https, healthz) = (free()?, free()?, free()?);
        let mut arguments = line(&run_dir, &kubeconfig.display().to_string(), http, https, healthz, api);
        arguments.extend(terms.arguments.iter().map(|argument| (*argument).to_owned()));
        let prepared =
            Command::new(binary()?).args(["bootstrap", "--run-dir", &run_dir]).output().map_err(text)?;
        if !prepared.status.success() {
            return Err(format!("bootstrap: {}", String::from_utf8_lossy(&prepared.stderr)));
        }
        let envoy = std::env::var_os("ENVOY").map_or_else(|| PathBuf::from("envoy"), PathBuf::from);
        let mut command = Command::new(envoy);
        let bootstrap = format!("{run_dir}/bootstrap.json");
        command.args(["-c", &bootstrap, "--concurrency", "2", "--disable-hot-restart"]);
        command.args(["--log-level", "warning"]);
        let envoy = Process::start(&mut command, &folder.path().join("envoy.log"))?;
        // Without it, those of several tests would stand for one Lease in a real cluster.
        let namespace = terms.pod.is_some() || api.double().is_none();
        let namespace = namespace.then(|| api.namespace("edge").to_owned());
        let pod = Pod { name: terms.pod.map(str::to_owned), namespace };
        let controller = controller(&arguments, &pod, &folder)?;
        Ok(Replica { controller, envoy, http, https, healthz, arguments, pod, folder })
    }

    /// Starts a controller as the first one was started.
    pub fn start_controller(&mut self) -> Result<(), String> {
        self.controller = controller(&self.arguments, &self.pod, &self.folder)?;
        Ok(())
    }

    /// The status of `/readyz`, 0 if nobody answers.
    pub fn readyz(&self) -> u16 {
        self.probe("/readyz").map_or(0, |response| response.status)
    }

    /// What the controller says of itself.
    pub fn probe(&self, path: &str) -> Option<Response> {
        once(&Target::plain(self.healthz), &WireRequest::new("GET", "probe", path)).ok()
    }

    /// The ends of what controller and Envoy said.
    pub fn logs(&self) -> String {
        ["controller.log", "envoy.log"]
            .map(|name| {
                let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(100)..).unwrap_or_default();
                format!("--- {name} {}\n{}", self.pod.name.as_deref().unwrap_or_default(), tail.join("\n"))
            })
            .join("\n")
    }

    /// The whole log of the controller.
    pub fn controller_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("controller.log")).unwrap_or_default()
    }

    pub fn get(&self, host: &str) -> Result<Response, String> {
        self.send(&WireRequest::new("GET", host, "/"))
    }

    pub fn send(&self, request: &WireRequest) -> Result<Response, String> {
        once(&Target::plain(self.http), request).map_err(|error| error.to_string())
    }

    /// The common name of the certificate that a server name gets.
    pub fn certificate(&self, name: &str) -> Option<String> {
        let tls = TlsTerms { server_name: name.to_owned(), terms: Tls::default(), certificate: None };
        let target = Target { tls: Some(tls), ..Target::plain(self.https) };
        Connection::open(&target).ok()?.tls()?.certificate_cn.clone()
    }

    /// Counters of Envoy whose names contain `filter`.
    pub fn counters(&self, filter: &str) -> Result<BTreeMap<String, u64>, String> {
        let socket = self.folder.path().join("run/admin.sock");
        let mut stream = UnixStream::connect(&socket).map_err(|error| error.to_string())?;
        let request =
            format!("GET /stats?filter={filter} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        Ok(lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }
}

fn controller(arguments: &[String], pod: &Pod, folder: &tempfile::TempDir) -> Result<Process, String> {
    let mut command = Command::new(binary()?);
    command.args(arguments).env_remove("POD_NAME").env_remove("POD_NAMESPACE");
    for (name, value) in [("POD_NAME", &pod.name), ("POD_NAMESPACE", &pod.namespace)] {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    Process::start(&mut command, &folder.path().join("controller.log"))
}

fn line(
    run_dir: &str,
    kubeconfig: &str,
    http: SocketAddr,
    https: SocketAddr,
    healthz: SocketAddr,
    api: &Api,
) -> Vec<String> {
    let config_map = format!("{}/controller", api.namespace("ingress-nginx"));
    let port = |address: SocketAddr| address.port().to_string();
    let mut line = vec!["controller".to_owned()];
    for (name, value) in [
        ("--run-dir", run_dir),
        ("--kubeconfig", kubeconfig),
        ("--http-port", &port(http)),
        ("--https-port", &port(https)),
        ("--bind-address", "127.0.0.1"),
        ("--healthz-port", &port(healthz)),
        ("--healthz-host", "127.0.0.1"),
        ("--configmap", &config_map),
        ("--shutdown-grace-period", "0"),
        ("--drain-timeout", "5"),
    ] {
        line.extend([name.to_owned(), value.to_owned()]);
    }
    line.extend(api.arguments());
    line
}

/// A port that is free now.
pub fn free() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}
