//! A real Envoy, fed by the xDS server, with the filter that is built in. Skipped, and said so, where no
//! Envoy is found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingress_wasm::config::{
    Action, Global, Host, PathMatching, PathType, PluginConfig, PolicySet, Rule, SCHEMA_VERSION,
};
use ingress_wasm_controller::admin;
use ingress_wasm_controller::certificate::Certificate;
use ingress_wasm_controller::envoy::{Bind, Listeners, StaticBootstrap, static_bootstrap};
use ingress_wasm_controller::feed::NotLive;
use ingress_wasm_controller::filter;
use ingress_wasm_controller::local::{Local, Settings};
use ingress_wasm_controller::supervisor::{
    self, Binary, BinaryError, Level, RunDir, State, Supervisor, find,
};
use ingress_wasm_controller::xds::{ResourceType, XdsEvent};
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::{
    Cluster, Endpoint, Endpoints, RouteProfile, ServicePortName, Translation,
};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::wire::{Backend, ask, ask_raw, echo, upgrade};

mod wire;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

// === fixtures ===

/// Hosts with one backend each.
struct Site {
    generation: &'static str,
    version: u32,
    hosts: Vec<(&'static str, Endpoints, Option<&'static str>)>,
}

impl Site {
    fn new(generation: &'static str, hosts: &[(&'static str, Endpoints)]) -> Site {
        let hosts = hosts.iter().map(|(name, endpoints)| (*name, endpoints.clone(), None)).collect();
        Site { generation, version: SCHEMA_VERSION, hosts }
    }

    fn translation(&self) -> Translation {
        let cluster_of = |host: &str| format!("test/{host}:80");
        let mut policies = vec![PolicySet::default()];
        let mut hosts = Vec::new();
        let mut clusters = BTreeMap::new();
        for (name, endpoints, profile) in &self.hosts {
            let policy = match profile {
                None => 0,
                Some(profile) => {
                    policies.push(PolicySet {
                        route_profile: Some((*profile).to_owned()),
                        ..PolicySet::default()
                    });
                    policies.len() - 1
                }
            };
            hosts.push(Host {
                name: (*name).to_owned(),
                path_matching: PathMatching::Elements,
                app_root: None,
                tls: false,
                aliases: Vec::new(),
                redirect_to: None,
                script: None,
                locations: Vec::new(),
                client_certificate: None,
                rules: vec![Rule {
                    ingress: format!("test/{name}"),
                    path: "/".to_owned(),
                    path_type: PathType::Prefix,
                    policies: policy,
                    action: Action::Forward {
                        cluster: cluster_of(name),
                        service: cluster_of(name),
                        balancing: None,
                    },
                }],
            });
            let service = ServicePortName { service: ObjectName::new("test", *name), port: "80".to_owned() };
            let cluster = Cluster {
                service,
                connect_timeout: Duration::from_secs(5),
                load_balancing: <_>::default(),
                mirror: false,
                endpoints: endpoints.clone(),
                tls: None,
            };
            clusters.insert(cluster_of(name), cluster);
        }
        let short = RouteProfile { read_timeout: Duration::from_millis(300), ..RouteProfile::default() };
        Translation {
            config: PluginConfig {
                version: self.version,
                generation: self.generation.to_owned(),
                global: Global { connection_header: true, ..Global::default() },
                credentials: BTreeMap::new(),
                api_keys: BTreeMap::new(),
                balancing: Vec::new(),
                policies,
                hosts,
                parts: Vec::new(),
                part: None,
            },
            clusters,
            route_profiles: BTreeMap::from([("short".to_owned(), short)]),
            default_profile: RouteProfile::default(),
            passed_headers: <_>::default(),
            certificates: BTreeMap::new(),
            default_certificate: None,
            client_authorities: Default::default(),
            passthrough: <_>::default(),
            host_ciphers: <_>::default(),
            transports: Default::default(),
            tls: ingress_wasm_translate::tls::TlsSettings::default(),
            connections: Default::default(),
            diagnostics: Vec::new(),
            rejected: Vec::new(),
        }
    }
}

fn at(ports: &[u16]) -> Endpoints {
    let endpoint = |port: &u16| Endpoint { address: "127.0.0.1".to_owned(), port: *port };
    Endpoints::Addresses(ports.iter().map(endpoint).collect())
}

/// The Envoy to run; none where there is none.
async fn binary() -> Option<Binary> {
    let cache = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.cache/envoy");
    match find(None, &executables(&cache)).await {
        Ok(binary) => Some(binary),
        Err(BinaryError::NotFound) => {
            eprintln!("SKIPPED: no Envoy in $ENVOY, on the PATH or in .cache/envoy");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// An Envoy of its own for each test; none where there is none to run.
async fn start() -> Option<(Local, UnboundedReceiver<XdsEvent>)> {
    start_with(|_| {}).await
}

async fn start_with(change: impl FnOnce(&mut Settings)) -> Option<(Local, UnboundedReceiver<XdsEvent>)> {
    let on_log = Arc::new(|line| eprintln!("envoy: {line:?}"));
    let mut settings = Settings::loopback(binary().await?, on_log);
    change(&mut settings);
    Some(Local::start(settings).await.expect("starts"))
}

/// The files named `envoy` below a directory.
fn executables(directory: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .flat_map(|path| if path.is_dir() { executables(&path) } else { vec![path] })
        .filter(|path| path.file_name().is_some_and(|name| name == "envoy"))
        .collect()
}

async fn live(local: &mut Local, site: &Site) {
    let translation = site.translation();
    let generation = local.publish(&translation).expect("encodes");
    local.live(generation, &translation, PATIENCE).await.expect(site.generation);
}

fn http(local: &Local) -> std::net::SocketAddr {
    local.addresses().http.expect("there is one")
}

fn pid(local: &Local) -> u32 {
    match &*local.state().borrow() {
        State::Running { pid, .. } => *pid,
        other => panic!("{other:?}"),
    }
}

// === tests ===

#[tokio::test]
async fn serves_and_follows_changes() {
    let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let Some((mut local, _events)) = start_with(|settings| settings.admin = Some(any_port)).await else {
        return;
    };
    let (one, two, three) =
        (Backend::start("one").await, Backend::start("two").await, Backend::start("three").await);

    live(&mut local, &Site::new("g1", &[("a.test", at(&[one.port])), ("b.test", at(&[two.port]))])).await;
    let http = http(&local);
    assert_eq!(ask(http, "a.test", "/x").await.backend(), "one");
    assert_eq!(ask(http, "b.test", "/x").await.backend(), "two");
    assert_eq!(local.bound().await.expect("answers"), local.addresses());

    live(&mut local, &Site::new("g2", &[("a.test", at(&[three.port])), ("b.test", at(&[two.port]))])).await;
    assert_eq!(ask(http, "a.test", "/x").await.backend(), "three", "endpoints follow");

    live(&mut local, &Site::new("g3", &[("a.test", at(&[three.port]))])).await;
    assert_eq!(ask(http, "b.test", "/x").await.status, 404, "the host is gone");
    let clusters = admin::get(&local.admin().expect("known"), "/clusters").await.expect("answers");
    let clusters = String::from_utf8_lossy(&clusters);
    assert!(clusters.contains("test/a.test:80"), "{clusters}");
    assert!(!clusters.contains("test/b.test:80"), "{clusters}");
    local.shutdown().await;
}

#[tokio::test]
async fn a_refused_configuration_leaves_the_last_one() {
    let Some((mut local, mut events)) = start().await else { return };
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    live(&mut local, &Site::new("g1", &[("a.test", at(&[one.port])), ("b.test", at(&[one.port]))])).await;

    let mut broken = Site::new("g2", &[("a.test", at(&[two.port]))]);
    broken.version = SCHEMA_VERSION + 1;
    let broken = broken.translation();
    let generation = local.publish(&broken).expect("encodes");
    let refused = local.live(generation, &broken, PATIENCE).await.expect_err("refused");
    assert!(matches!(refused, NotLive::Rejected(_)), "{refused}");
    let rejection = loop {
        match events.recv().await.expect("goes on") {
            XdsEvent::Rejected { rejection, .. } => break rejection,
            XdsEvent::Connected { .. } | XdsEvent::Live(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (rejection.kind, &*rejection.names),
        (ResourceType::Extension, &["ingress-wasm".to_owned()][..])
    );

    let http = http(&local);
    assert_eq!(ask(http, "b.test", "/x").await.backend(), "one", "the host of the last good one is there");
    assert_eq!(ask(http, "a.test", "/x").await.backend(), "two", "endpoints are never taken back");

    live(&mut local, &Site::new("g3", &[("a.test", at(&[one.port]))])).await;
    assert_eq!(ask(http, "a.test", "/x").await.backend(), "one", "and it goes on");
    local.shutdown().await;
}

#[tokio::test]
async fn a_killed_envoy_comes_back_and_shutdown_leaves_nothing() {
    let Some((mut local, _events)) = start().await else { return };
    let one = Backend::start("one").await;
    let site = Site::new("g1", &[("a.test", at(&[one.port]))]);
    live(&mut local, &site).await;

    let first = pid(&local);
    let process = rustix::process::Pid::from_raw(i32::try_from(first).expect("fits")).expect("not zero");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
    let mut state = local.state();
    let back = state.wait_for(|state| matches!(state, State::Running { starts: 2, .. }));
    tokio::time::timeout(PATIENCE, back).await.expect("in time").expect("supervised");
    // What is published again is at once acknowledged; the workers are new.
    live(&mut local, &site).await;
    assert_eq!(ask(http(&local), "a.test", "/x").await.backend(), "one");

    let second = pid(&local);
    let directory = local.run_dir().path().to_owned();
    local.shutdown().await;
    for pid in [first, second] {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "process {pid}");
    }
    assert!(!directory.exists(), "{}", directory.display());
}

#[tokio::test]
async fn private_headers_cannot_be_forged() {
    let Some((mut local, _events)) = start().await else { return };
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    live(&mut local, &Site::new("g1", &[("a.test", at(&[one.port])), ("b.test", at(&[two.port]))])).await;
    let forged = "x-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-max-retries: 9\r\nx-ingress-wasm-cluster: test/b.test:80\r\nX-Ingress-Wasm-Profile: short\r\n\
                  x-ingress-wasm-connection: probe 0 -\r\nX-Ingress-Wasm-Connection: https 443 6.6.6.6\r\n";
    for (what, more) in [
        ("plain", ""),
        ("from an internal address", "x-forwarded-for: 10.0.0.1\r\nx-envoy-internal: true\r\n"),
    ] {
        let answer = ask_raw(
            http(&local),
            &format!(
                "GET //a/../%2F%2e?q HTTP/1.1\r\nhost: a.test\r\n{forged}{more}connection: close\r\n\r\n"
            ),
        )
        .await;
        assert_eq!(answer.backend(), "one", "{what}: {answer:?}");
        assert!(!answer.body.to_ascii_lowercase().contains("x-ingress-wasm-"), "{what}: {}", answer.body);
        assert!(answer.body.contains("GET //a/../%2F%2e?q HTTP/1.1"), "{what}: {}", answer.body);
    }
    local.shutdown().await;
}

#[tokio::test]
async fn failures_are_answered_as_by_nginx() {
    let Some((mut local, _events)) = start().await else { return };
    let (silent, rude) = (Backend::silent().await, Backend::rude().await);
    let closed = Backend::closed_port().await;
    let mut site = Site::new(
        "g1",
        &[("closed.test", at(&[closed])), ("rude.test", at(&[rude.port])), ("empty.test", at(&[]))],
    );
    site.hosts.push(("silent.test", at(&[silent.port]), Some("short")));
    live(&mut local, &site).await;
    let cases = [
        ("closed.test", 502, "502 Bad Gateway"),
        ("rude.test", 502, "502 Bad Gateway"),
        ("empty.test", 503, "503 Service Temporarily Unavailable"),
        ("silent.test", 504, "504 Gateway Time-out"),
    ];
    for (host, status, title) in cases {
        let answer = ask(http(&local), host, "/").await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
        let start = format!("<html>\r\n<head><title>{title}</title></head>\r\n");
        assert!(answer.body.starts_with(&start), "{host}: {answer:?}");
        assert!(
            answer.head.to_ascii_lowercase().contains("content-type: text/html\r\n"),
            "{host}: {answer:?}"
        );
    }
    local.shutdown().await;
}

#[tokio::test]
async fn an_open_websocket_outlives_changes() {
    let Some((mut local, _events)) = start().await else { return };
    let (socket, one, two) =
        (Backend::websocket().await, Backend::start("one").await, Backend::start("two").await);
    live(&mut local, &Site::new("g1", &[("ws.test", at(&[socket.port])), ("a.test", at(&[one.port]))])).await;
    let mut stream = upgrade(http(&local), "ws.test").await;
    assert_eq!(echo(&mut stream, "before").await, "before");
    for (generation, backend) in [("g2", two.port), ("g3", one.port), ("g4", two.port)] {
        let site = Site::new(generation, &[("ws.test", at(&[socket.port])), ("a.test", at(&[backend]))]);
        live(&mut local, &site).await;
        assert_eq!(echo(&mut stream, generation).await, generation);
    }
    drop(stream);
    local.shutdown().await;
}

#[tokio::test]
async fn a_static_bootstrap_serves_by_itself() {
    let Some(binary) = binary().await else { return };
    let run = RunDir::create().expect("made");
    let one = Backend::start("one").await;
    let named = Endpoints::Name(Endpoint { address: "localhost".to_owned(), port: one.port });
    let site = Site::new("g1", &[("a.test", at(&[one.port])), ("b.test", named)]);
    let bind = |port| Some(Bind::from(std::net::SocketAddr::from(([127, 0, 0, 1], port))));
    let (http, https) = (Backend::closed_port().await, Backend::closed_port().await);
    let settings = StaticBootstrap {
        admin: None,
        listeners: Listeners { http: bind(http), https: bind(https), ..Listeners::default() },
        certificate: Some(Certificate::self_signed().expect("made")),
        key_directory: None,
        module: run.write("ingress_wasm.wasm", filter::MODULE).expect("written"),
    };
    let bootstrap = static_bootstrap(&settings, &site.translation()).expect("has a JSON form");
    let text = format!("{bootstrap:#}");
    let supervisor = Supervisor::start(supervisor::Settings {
        binary: binary.path,
        bootstrap: run.write("bootstrap.json", text.as_bytes()).expect("written"),
        concurrency: std::num::NonZeroU32::MIN,
        log_level: Level::Warning,
        admin_address_file: None,
        on_log: Arc::new(|line| eprintln!("envoy: {line:?}")),
    })
    .await
    .expect("starts");
    let listens = async {
        for port in [http, https] {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, listens).await.expect("listens in time");
    for host in ["a.test", "b.test"] {
        let answer = ask(std::net::SocketAddr::from(([127, 0, 0, 1], http)), host, "/x").await;
        assert_eq!(answer.backend(), "one", "{host}");
    }
    supervisor.shutdown().await;
}
