//! A cluster with a controller and its Envoy, and requests to it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ingress_wasm_echo::EchoServer;
use ingress_wasm_tests::apiserver::ApiServer;
use ingress_wasm_tests::case::Tls;
use ingress_wasm_tests::client::{Connection, Response, Target, WireRequest, once};
use ingress_wasm_tests::product::binary;
use ingress_wasm_tests::tls::TlsTerms;
use serde_json::Value;

use crate::objects::{service, slice};
use crate::processes::Process;

/// How long anything may take until it is so. Generous: a busy machine is no failure.
pub const SOON: Duration = Duration::from_secs(60);

/// Where the backends of all worlds run.
static RUNTIME: LazyLock<std::io::Result<tokio::runtime::Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build());

/// Starts a server that says which service it belongs to.
pub fn echo(service: &str) -> Result<EchoServer, String> {
    let runtime = RUNTIME.as_ref().map_err(ToString::to_string)?;
    let _inside = runtime.enter();
    EchoServer::start(service, 0).map_err(|error| error.to_string())
}

/// Everything. Ends in this order.
pub struct World {
    pub controller: Process,
    pub envoy: Process,
    pub api: ApiServer,
    pub http: SocketAddr,
    pub https: SocketAddr,
    healthz: SocketAddr,
    arguments: Vec<String>,
    backends: BTreeMap<String, EchoServer>,
    folder: tempfile::TempDir,
}

impl World {
    /// A cluster with these objects and a service `web` with one endpoint, served.
    pub fn new(objects: &[Value]) -> Result<World, String> {
        let api = ApiServer::start().map_err(|error| error.to_string())?;
        let mut world = World::start(api, objects, &[])?;
        world.wait_ready()?;
        Ok(world)
    }

    /// The same with an API server that may have orders, and further arguments; not ready yet.
    pub fn start(api: ApiServer, objects: &[Value], arguments: &[&str]) -> Result<World, String> {
        let text = |error: std::io::Error| error.to_string();
        let product = binary()?;
        let folder = tempfile::tempdir().map_err(text)?;
        let run_dir = folder.path().join("run");
        std::fs::create_dir(&run_dir).map_err(text)?;
        let kubeconfig = folder.path().join("kubeconfig");
        api.write_kubeconfig(&kubeconfig).map_err(text)?;
        let web = echo("web")?;
        api.put(service("web"))?;
        api.put(slice("web", 0, web.address()))?;
        objects.iter().try_for_each(|object| api.put(object.clone()))?;
        let (http, https, healthz) = (free()?, free()?, free()?);
        let port = |address: SocketAddr| address.port().to_string();
        let run_dir = run_dir.display().to_string();
        let mut line: Vec<String> = [
            "controller",
            "--run-dir",
            &run_dir,
            "--kubeconfig",
            &kubeconfig.display().to_string(),
            "--http-port",
            &port(http),
            "--https-port",
            &port(https),
            "--bind-address",
            "127.0.0.1",
            "--healthz-port",
            &port(healthz),
            "--healthz-host",
            "127.0.0.1",
            "--configmap",
            "ingress-nginx/controller",
            "--shutdown-grace-period",
            "0",
            "--drain-timeout",
            "5",
        ]
        .map(str::to_owned)
        .to_vec();
        line.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let prepared =
            Command::new(&product).args(["bootstrap", "--run-dir", &run_dir]).output().map_err(text)?;
        if !prepared.status.success() {
            return Err(format!("bootstrap: {}", String::from_utf8_lossy(&prepared.stderr)));
        }
        let envoy = std::env::var_os("ENVOY").map_or_else(|| PathBuf::from("envoy"), PathBuf::from);
        let mut command = Command::new(envoy);
        command.args([
            "-c",
            &format!("{run_dir}/bootstrap.json"),
            "--concurrency",
            "2",
            "--disable-hot-restart",
        ]);
        command.args(["--log-level", "warning"]);
        let envoy = Process::start(&mut command, &folder.path().join("envoy.log"))?;
        let controller =
            Process::start(Command::new(&product).args(&line), &folder.path().join("controller.log"))?;
        let backends = BTreeMap::from([("web".to_owned(), web)]);
        Ok(World { controller, envoy, api, http, https, healthz, arguments: line, backends, folder })
    }

    /// Adds a service with one endpoint.
    pub fn serve(&mut self, name: &str) -> Result<(), String> {
        let backend = self.backend(name)?;
        self.api.put(service(name))?;
        self.api.put(slice(name, 0, backend))
    }

    /// A server that says it is this one, known to nobody.
    pub fn backend(&mut self, name: &str) -> Result<SocketAddr, String> {
        let server = echo(name)?;
        let address = server.address();
        self.backends.insert(name.to_owned(), server);
        Ok(address)
    }

    /// The server is there no more.
    pub fn stop(&mut self, name: &str) {
        self.backends.remove(name);
    }

    /// Kills the controller with SIGKILL.
    pub fn kill_controller(&mut self) {
        self.controller.kill();
    }

    /// Starts a controller as the first one was started.
    pub fn start_controller(&mut self) -> Result<(), String> {
        let log = self.folder.path().join("controller.log");
        self.controller = Process::start(Command::new(binary()?).args(&self.arguments), &log)?;
        Ok(())
    }

    /// The status of `/readyz`, 0 if nobody answers.
    pub fn readyz(&self) -> u16 {
        let request = WireRequest::new("GET", "probe", "/readyz");
        once(&Target::plain(self.healthz), &request).map_or(0, |response| response.status)
    }

    pub fn wait_ready(&mut self) -> Result<(), String> {
        self.wait("ready", |world| world.readyz() == 200)
    }

    /// Looks again and again until it is so; on failure with what controller and Envoy said.
    pub fn wait(&mut self, what: &str, mut so: impl FnMut(&mut World) -> bool) -> Result<(), String> {
        let end = Instant::now() + SOON;
        while !so(self) {
            if self.envoy.ended() || Instant::now() > end {
                return Err(format!("{what}: not in {SOON:?}\n{}", self.logs()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The ends of what controller and Envoy said.
    pub fn logs(&self) -> String {
        ["controller.log", "envoy.log"]
            .map(|name| {
                let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
                format!("--- {name}\n{}", tail.join("\n"))
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

    /// Waits until a host is answered by a service, or by a status.
    pub fn wait_answer(&mut self, host: &str, expected: &str) -> Result<(), String> {
        let mut last = String::new();
        self.wait(&format!("{host} is answered by {expected}"), |world| {
            last = world.get(host).map_or_else(|error| error, |response| answer(&response));
            last == expected
        })
        .map_err(|error| format!("{error}\nthe last answer: {last}"))
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

/// The service that answered, or the status where it was none.
pub fn answer(response: &Response) -> String {
    match response.header(ingress_wasm_echo::BACKEND_HEADER) {
        Some(who) if response.status == 200 => who.split('/').next().unwrap_or_default().to_owned(),
        _ => response.status.to_string(),
    }
}

/// A port that is free now.
fn free() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}

/// Ends the load, even if a test panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something while requests are sent to a host, over connections that are kept and over fresh ones; every
/// one of them has to be answered with 200.
pub fn under_load(
    world: &mut World,
    host: &str,
    during: impl FnOnce(&mut World) -> Result<(), String>,
) -> Result<(), String> {
    let target = Target::plain(world.http);
    let request = WireRequest::new("GET", host, "/");
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    let note = |result: std::io::Result<Response>| {
        sent.fetch_add(1, Ordering::Relaxed);
        let fault = match result {
            Ok(response) if response.status == 200 => return,
            Ok(response) => format!("{}: {}", response.status, response.text()),
            Err(error) => error.to_string(),
        };
        failed.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    };
    let outcome = std::thread::scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                note(once(&target, &request));
            }
        });
        scope.spawn(|| {
            let mut open: Option<Connection> = None;
            while !over.load(Ordering::Relaxed) {
                let usable = open.take().and_then(|mut open| open.reusable().then_some(open));
                let connection = match usable {
                    Some(open) => Ok(open),
                    None => Connection::open(&target).map_err(Into::into),
                };
                note(connection.and_then(|mut connection| {
                    let response = connection.exchange(&request);
                    open = Some(connection);
                    response
                }));
            }
        });
        let outcome = during(world);
        // What comes after it is part of it.
        let before = sent.load(Ordering::Relaxed);
        while sent.load(Ordering::Relaxed) < before + 50 {
            std::thread::yield_now();
        }
        outcome
    });
    outcome?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} of {} requests failed, the first: {first}\n{}",
            failed.len(),
            sent.into_inner(),
            world.logs()
        )),
    }
}
