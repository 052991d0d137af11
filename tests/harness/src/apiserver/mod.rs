//! A double of the Kubernetes API server: list, watch, get and the ways to write, over HTTP and for any
//! resource, with faults at the flick of a switch.
//!
//! What clients rely on is as in the real one: one counter of versions for everything, lists in pages that are
//! consistent, watches that go on from a version or answer 410, bookmarks, selectors, metadata alone,
//! conflicts, `status` as a subresource, server-side apply, validating webhooks. There is no validation of what objects
//! say, no admission besides, no garbage collection, and everybody may do everything unless a [`Rule`] says otherwise.
//!
//! `resources` reads URLs, `http` answers requests, `objects` does what they ask for, `watch` sends what
//! happens, `store` keeps it, `patch`, `select` and `admission` are what their names say, `faults` are the switches.

mod admission;
mod control;
mod discovery;
mod failure;
mod faults;
mod http;
mod objects;
mod patch;
mod query;
mod resources;
mod select;
mod store;
mod watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

pub use faults::{Answer, Asked, Away, Rule};
pub use resources::{Resource, known};

use admission::Services;
use faults::Faults;
use store::Store;
use watch::Orders;

/// How the double is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// How many events of a resource it remembers.
    pub history: usize,
    /// How often a watch is sent a bookmark.
    pub bookmarks: Duration,
    /// It can send what is there as a watch (`sendInitialEvents`), as API servers since 1.34 do.
    pub streaming_lists: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            history: 50_000,
            bookmarks: Duration::from_secs(5),
            streaming_lists: true,
        }
    }
}

/// What all requests share.
struct Shared {
    settings: Settings,
    state: Mutex<State>,
    /// The newest version: changes with every write.
    changed: tokio::sync::watch::Sender<u64>,
    orders: tokio::sync::watch::Sender<Orders>,
    away: tokio::sync::watch::Sender<Away>,
    /// Whether something listens, as the last who asked for it wants.
    listens: tokio::sync::watch::Sender<bool>,
    /// Counts how often all connections were cut.
    cuts: tokio::sync::watch::Sender<u64>,
    /// Where Services are that webhooks are reached by.
    services: Mutex<Services>,
}

struct State {
    store: Store,
    resources: Vec<Resource>,
    faults: Faults,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes up the watches.
    fn announce(&self) {
        let version = self.lock().store.version();
        self.changed.send_replace(version);
    }
}

/// A running double. Ends with its owner.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl ApiServer {
    /// Starts one on a free port.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn start() -> io::Result<ApiServer> {
        ApiServer::start_with(Settings::default())
    }

    /// Starts one.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn start_with(settings: Settings) -> io::Result<ApiServer> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("apiserver")
            .enable_all()
            .build()?;
        let state =
            State { store: Store::new(settings.history), resources: known(), faults: Faults::default() };
        let address = settings.address;
        let shared = Arc::new(Shared {
            settings,
            state: Mutex::new(state),
            changed: tokio::sync::watch::Sender::new(0),
            orders: tokio::sync::watch::Sender::default(),
            away: tokio::sync::watch::Sender::new(Away::No),
            listens: tokio::sync::watch::Sender::new(true),
            cuts: tokio::sync::watch::Sender::default(),
            services: Mutex::default(),
        });
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            objects::make_namespace(&mut shared.lock(), namespace);
        }
        let listener = listen(&runtime, address)?;
        let address = listener.local_addr()?;
        runtime.spawn(http::serve(Arc::clone(&shared), listener));
        Ok(ApiServer { shared, address, runtime: Some(runtime) })
    }

    /// Answers requests that set the switches, at an address of their own.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn control(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let runtime = self.runtime.as_ref().ok_or_else(|| io::Error::other("it has ended"))?;
        let listener = listen(runtime, address)?;
        let address = listener.local_addr()?;
        runtime.spawn(control::serve(Arc::clone(&self.shared), listener));
        Ok(address)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a kubeconfig with which clients find it, as this user: the name is the token, too.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path, user: &str) -> io::Result<()> {
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: double\n  cluster:\n    server: {}\ncontexts:\n\
             - name: double\n  context:\n    cluster: double\n    user: double\nusers:\n- name: double\n  \
             user: {{token: {user}}}\ncurrent-context: double\n",
            self.url()
        );
        std::fs::write(path, text)
    }

    /// Puts an object as it is, status included; makes its namespace where there is none.
    ///
    /// # Errors
    ///
    /// When its `apiVersion` and `kind` are not known, or it has no name.
    pub fn put(&self, object: Value) -> Result<(), String> {
        objects::put(&mut self.shared.lock(), object).map_err(|failure| failure.message)?;
        self.shared.announce();
        Ok(())
    }

    /// Puts the objects of manifests, YAML of one or more documents.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or as of [`ApiServer::put`].
    pub fn apply(&self, manifests: &str) -> Result<(), String> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(manifests).map_err(|error| format!("no manifests: {error}"))?;
        documents.into_iter().filter(|document| !document.is_null()).try_for_each(|object| self.put(object))
    }

    /// The object, if there is one. `resource` is `plural.group`; no namespace is the empty one.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        self.shared.lock().store.get(resource, &key).map(|object| object.value.clone())
    }

    /// All objects of a resource.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        self.shared.lock().store.objects(resource).values().map(|object| object.value.clone()).collect()
    }

    /// Removes an object; whether there was one.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let deleted = self.shared.lock().store.delete(resource, &key).is_some();
        self.shared.announce();
        deleted
    }

    /// Is away from now on, or back.
    pub fn away(&self, away: Away) {
        self.shared.set_away(away);
    }

    /// Ends all watches, as they end by themselves.
    pub fn end_watches(&self) {
        self.shared.orders.send_modify(|orders| orders.ended += 1);
    }

    /// Forgets everything that happened, and tells all watches with 410 that they have to list anew.
    pub fn expire_watches(&self) {
        self.shared.expire_watches();
    }

    /// Forgets everything that happened; a watch that is begun from a version before is answered 410.
    pub fn compact(&self) {
        self.shared.lock().store.compact();
    }

    /// Says where a Service is by which a webhook is reached: nothing routes to its cluster address here.
    pub fn route_service(&self, namespace: &str, name: &str, address: SocketAddr) {
        self.shared.services().insert(format!("{namespace}/{name}"), address);
    }

    /// Answers some requests otherwise from now on.
    pub fn rule(&self, rule: Rule) {
        self.shared.lock().faults.add(rule);
    }

    /// Answers as usual.
    pub fn clear_rules(&self) {
        self.shared.lock().faults.clear();
    }

    /// How many requests of a verb for a resource there were.
    pub fn count(&self, verb: &str, resource: &str) -> u64 {
        self.shared.lock().faults.count(verb, resource)
    }

    /// The requests there were, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().faults.asked().cloned().collect()
    }

    /// Forgets the requests there were.
    pub fn forget_asked(&self) {
        self.shared.lock().faults.forget();
    }
}

/// Does not block, so that tests may themselves be asynchronous.
fn listen(runtime: &Runtime, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    tokio::net::TcpListener::from_std(listener)
}

impl Shared {
    fn set_away(&self, away: Away) {
        self.away.send_replace(away);
        if away == Away::Refuse {
            self.cuts.send_modify(|cuts| *cuts += 1);
        }
    }

    fn expire_watches(&self) {
        self.lock().store.compact();
        self.orders.send_modify(|orders| orders.expired += 1);
        self.announce();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
