//! A cluster with a controller and its Envoy, and requests to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ingress_wasm_echo::EchoServer;
use ingress_wasm_tests::client::{Connection, Response, Target, WireRequest, once};
use serde_json::Value;

use crate::api::{Api, On};
use crate::objects::{service, slice};
use crate::replica::{Replica, Terms};

/// How long anything may take until it is so. Generous: a busy machine is no failure.
pub const SOON: Duration = Duration::from_secs(60);

/// Where the backends of all worlds run.
static RUNTIME: LazyLock<std::io::Result<tokio::runtime::Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build());

/// Starts a server that says which service it belongs to.
pub fn echo(ip: IpAddr, service: &str) -> Result<EchoServer, String> {
    let runtime = RUNTIME.as_ref().map_err(ToString::to_string)?;
    let _inside = runtime.enter();
    EchoServer::start_on(ip, service, 0).map_err(|error| error.to_string())
}

/// Waits for what a client of an API server does.
pub fn wait_for<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = RUNTIME.as_ref().map_err(ToString::to_string)?;
    let work = async { tokio::time::timeout(SOON, work).await };
    runtime.block_on(work).unwrap_or_else(|_| Err(format!("no answer in {SOON:?}")))
}

/// Everything. Ends in this order.
pub struct World {
    /// The controller that most tests have, and its Envoy.
    pub replica: Replica,
    pub api: Api,
    backends: BTreeMap<String, EchoServer>,
}

impl World {
    /// A cluster with these objects and a service `web` with one endpoint, served.
    pub fn new(on: &On, objects: &[Value]) -> Result<World, String> {
        let mut world = World::start(Api::start(on)?, objects, &[])?;
        world.wait_ready()?;
        Ok(world)
    }

    /// The same with an API server that may have orders, and further arguments; not ready yet.
    pub fn start(api: impl Into<Api>, objects: &[Value], arguments: &[&str]) -> Result<World, String> {
        World::start_as(api, objects, &Terms { arguments, ..Terms::default() })
    }

    /// The same with a controller on these terms.
    pub fn start_as(api: impl Into<Api>, objects: &[Value], terms: &Terms) -> Result<World, String> {
        let api = api.into();
        let web = echo(api.backend_ip(), "web")?;
        api.put(service("web"))?;
        api.put(slice("web", 0, web.address()))?;
        objects.iter().try_for_each(|object| api.put(object.clone()))?;
        let replica = Replica::start(&api, terms)?;
        Ok(World { replica, api, backends: BTreeMap::from([("web".to_owned(), web)]) })
    }

    /// Adds a service with one endpoint.
    pub fn serve(&mut self, name: &str) -> Result<(), String> {
        let backend = self.backend(name)?;
        self.api.put(service(name))?;
        self.api.put(slice(name, 0, backend))
    }

    /// A server that says it is this one, known to nobody.
    pub fn backend(&mut self, name: &str) -> Result<SocketAddr, String> {
        let server = echo(self.api.backend_ip(), name)?;
        let address = server.address();
        self.backends.insert(name.to_owned(), server);
        Ok(address)
    }

    /// The server is there no more.
    pub fn stop(&mut self, name: &str) {
        self.backends.remove(name);
    }

    pub fn wait_ready(&mut self) -> Result<(), String> {
        self.wait("ready", |world| world.replica.readyz() == 200)
    }

    /// Looks again and again until it is so; on failure with what controller and Envoy said.
    pub fn wait(&mut self, what: &str, mut so: impl FnMut(&mut World) -> bool) -> Result<(), String> {
        let end = Instant::now() + SOON;
        while !so(self) {
            // One that was ended took its Envoy with it.
            let lost = self.replica.envoy.ended() && !self.replica.controller.ended();
            if lost || Instant::now() > end {
                return Err(format!("{what}: not in {SOON:?}\n{}", self.replica.logs()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn get(&self, host: &str) -> Result<Response, String> {
        self.replica.get(host)
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
}

/// The service that answered, or the status where it was none.
pub fn answer(response: &Response) -> String {
    match response.header(ingress_wasm_echo::BACKEND_HEADER) {
        Some(who) if response.status == 200 => who.split('/').next().unwrap_or_default().to_owned(),
        _ => response.status.to_string(),
    }
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
    let target = Target::plain(world.replica.http);
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
            world.replica.logs()
        )),
    }
}
