//! The proxies that are compared, and the backend behind all of them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Started;
use super::sets::Set;
use crate::http;
use crate::process::{self, Server};

/// How long a proxy may take until it serves.
const START: Duration = Duration::from_secs(120);

/// A kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Envoy with routes and header rules of its own.
    Routes,
    /// The same with a filter that does nothing.
    Nothing,
    /// Ours, as it is installed: standard headers, counters.
    Ours,
    /// Ours without counting.
    OursUncounted,
    /// Ours with basic authentication.
    OursAuth,
    /// Ours with a canary of half of the requests.
    OursCanary,
    /// nginx, configured as ingress-nginx does it.
    Nginx,
    /// Envoy with a Lua filter.
    Lua,
}

/// All kinds.
pub const KINDS: [Kind; 8] = [
    Kind::Routes,
    Kind::Nothing,
    Kind::Ours,
    Kind::OursUncounted,
    Kind::OursAuth,
    Kind::OursCanary,
    Kind::Nginx,
    Kind::Lua,
];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Routes => "routes",
            Kind::Nothing => "nothing",
            Kind::Ours => "ours",
            Kind::OursUncounted => "ours-uncounted",
            Kind::OursAuth => "ours-auth",
            Kind::OursCanary => "ours-canary",
            Kind::Nginx => "nginx",
            Kind::Lua => "lua",
        }
    }
}

/// The programs.
pub struct Tools {
    pub envoy: PathBuf,
    pub nginx: PathBuf,
    pub filter: PathBuf,
    pub nothing: PathBuf,
    pub product: PathBuf,
}

/// A running proxy.
pub struct Contender {
    pub kind: Kind,
    pub server: Server,
    pub address: SocketAddr,
    /// From its start to its first answer.
    pub started: Duration,
}

impl Contender {
    pub fn start(
        kind: Kind,
        set: &Set,
        tools: &Tools,
        backend: SocketAddr,
        folder: &Path,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Contender> {
        let address = free()?;
        let file = |end: &str| folder.join(format!("{}.{end}", kind.name()));
        let mut command = match kind {
            Kind::Nginx => {
                let servers = set.nginx_servers(address);
                nginx(&tools.nginx, &file("conf"), folder, &nginx_http(&servers, backend))?
            }
            Kind::Ours | Kind::OursUncounted | Kind::OursAuth | Kind::OursCanary => {
                let objects = set.manifests(kind == Kind::OursAuth, kind == Kind::OursCanary, backend);
                let manifest = file("manifest.json");
                fs::write(&manifest, objects.to_string()).context("write the objects")?;
                let mut translate = Command::new(&tools.product);
                translate.args(["translate", "--output", "envoy", "--admin", &free()?.to_string()]);
                translate.args(["--http", &address.to_string(), "--filter-path"]).arg(&tools.filter);
                if kind == Kind::OursUncounted {
                    translate.args(["--enable-metrics", "false"]);
                }
                translate.arg("--output-file").arg(file("json")).arg(&manifest);
                process::output(&mut translate)?;
                envoy(&tools.envoy, &file("json"))
            }
            Kind::Routes | Kind::Nothing | Kind::Lua => {
                let bootstrap = bootstrap(kind, set, tools, address, backend);
                fs::write(file("json"), bootstrap.to_string()).context("write the bootstrap")?;
                envoy(&tools.envoy, &file("json"))
            }
        };
        let log = file("log");
        command.stderr(Stdio::from(fs::File::create(&log).context("create a log")?));
        let begin = Instant::now();
        let mut server = Server::start(&mut command, interrupted)?;
        wait(&mut server, address, &log)?;
        Ok(Contender { kind, server, address, started: begin.elapsed() })
    }
}

/// Waits until a request is answered as all are to be answered.
fn wait(server: &mut Server, address: SocketAddr, log: &Path) -> Result<()> {
    let begin = Instant::now();
    let headers = [("authorization".to_owned(), "Basic dXNlcjpzZWNyZXQ=".to_owned())];
    loop {
        let answer =
            http::request(address, "GET", &Set::host(0), "/service-0/x", &headers, Duration::from_secs(5));
        let end = || {
            let text = fs::read(log).unwrap_or_default();
            String::from_utf8_lossy(text.get(text.len().saturating_sub(2_000)..).unwrap_or_default())
                .into_owned()
        };
        match answer {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) if begin.elapsed() > START => bail!("answers {}: {}", answer.status, end()),
            Err(error) if begin.elapsed() > START => bail!("does not answer: {error}: {}", end()),
            _ => server.check().with_context(end)?,
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn free() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("find a free port")
}

/// What answers behind each proxy: nginx, with two bytes.
pub fn backend(program: &Path, folder: &Path, interrupted: &Arc<AtomicBool>) -> Result<Started> {
    let address = free()?;
    let http = format!(
        "keepalive_requests 1000000000; server {{ listen {address}; location / {{ return 200 \"ok\"; }} }}"
    );
    let mut command = nginx(program, &folder.join("backend.conf"), folder, &http)?;
    let log = folder.join("backend.log");
    command.stderr(Stdio::from(fs::File::create(&log).context("create a log")?));
    let mut server = Server::start(&mut command, interrupted)?;
    wait(&mut server, address, &log)?;
    Ok((address, server))
}

/// nginx in one process, so that all that it does is one process's time.
fn nginx(program: &Path, file: &Path, folder: &Path, http: &str) -> Result<Command> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {}/{name}-{what};\n", folder.display()))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {}/{name}.pid; error_log stderr error;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; {paths} {http} }}\n",
        folder.display()
    );
    fs::write(file, text).context("write the configuration of nginx")?;
    let mut command = Command::new(program);
    command.arg("-c").arg(file).arg("-p").arg(folder);
    Ok(command)
}

fn nginx_http(servers: &str, backend: SocketAddr) -> String {
    format!(
        "server_names_hash_max_size 131072; server_names_hash_bucket_size 128; keepalive_timeout 75s; \
         keepalive_requests 1000000000; underscores_in_headers off; server_tokens off;\n\
         upstream upstream_balancer {{ server {backend}; keepalive 320; keepalive_requests 1000000000; }}\n\
         {servers}"
    )
}

fn envoy(program: &Path, bootstrap: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path"]);
    command.arg(bootstrap);
    command
}

/// Envoy without ours. The headers are those that ours sets.
fn bootstrap(kind: Kind, set: &Set, tools: &Tools, address: SocketAddr, backend: SocketAddr) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";
    let further = match kind {
        Kind::Nothing => Some(json!({
            "@type": format!("{TYPES}.http.wasm.v3.Wasm"),
            "config": {"name": "nothing", "root_id": "", "vm_config": {
                "vm_id": "nothing", "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": tools.nothing}},
            }},
        })),
        Kind::Lua => Some(json!({
            "@type": format!("{TYPES}.http.lua.v3.Lua"),
            "default_source_code": {"inline_string": set.lua()},
        })),
        _ => None,
    };
    let router = json!({"@type": format!("{TYPES}.http.router.v3.Router"), "suppress_envoy_headers": true});
    let filters: Vec<Value> = further
        .into_iter()
        .map(|filter| json!({"name": "further", "typed_config": filter}))
        .chain([json!({"name": "router", "typed_config": router})])
        .collect();
    let add: Vec<Value> = [
        ("x-real-ip", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
        ("x-forwarded-for", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
        ("x-forwarded-host", "%REQ(:authority)%"),
        ("x-forwarded-port", "80"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-scheme", "http"),
        ("x-scheme", "http"),
    ]
    .into_iter()
    .map(|(key, value)| {
        json!({"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"})
    })
    .collect();
    let routes = if kind == Kind::Lua {
        json!({
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster_header": "x-bench-cluster"}},
            ]}],
            "request_headers_to_remove": ["x-bench-cluster"],
        })
    } else {
        json!({
            "virtual_hosts": set.virtual_hosts(),
            "request_headers_to_add": add,
            "request_headers_to_remove": ["proxy"],
        })
    };
    let manager = json!({
        "@type": format!("{TYPES}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "route_config": routes,
        "http_filters": filters,
        "generate_request_id": true,
        "server_header_transformation": "PASS_THROUGH",
    });
    json!({"static_resources": {
        "listeners": [{
            "name": "bench",
            "address": {"socket_address": {
                "address": address.ip().to_string(), "port_value": address.port(),
            }},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }],
        "clusters": [{
            "name": "backend", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [{
                "endpoint": {"address": {"socket_address": {
                    "address": backend.ip().to_string(), "port_value": backend.port(),
                }}},
            }]}]},
        }],
    }})
}
