//! A double of the Kubernetes API server: it keeps objects, lists and watches them over real HTTP, and fails on
//! demand in the ways that real ones do.
//!
//! It knows what all resources have in common, and nothing of any: schemas are not checked, and nothing is
//! decided about objects. Authentication and TLS are left out; discovery is, too.
//!
//! [`address`] reads paths and selectors, [`store`] keeps the objects and their history, [`serve`] answers
//! requests, and this module runs it and makes it fail.

mod address;
mod serve;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::address::Address;
use self::store::{Key, Store, Wanted};

/// Kinds without a namespace.
const CLUSTER_WIDE: &[&str] = &["IngressClass", "Namespace", "Node", "ValidatingWebhookConfiguration"];

/// A running double. Ends when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What requests and the owner share.
#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    counts: Mutex<BTreeMap<String, u64>>,
    /// Told when all watches are to end.
    drop_watches: Notify,
    /// Whether connections are to be taken.
    open: watch::Sender<bool>,
    /// Whether they are.
    listens: Mutex<bool>,
    listens_changed: Condvar,
}

/// What goes wrong.
#[derive(Debug, Default)]
struct Faults {
    /// Requests are answered with this status until then; those with 429 are told to come back after a second.
    failing: Option<(u16, Instant)>,
    /// Resources that nobody may see, as `secrets` or `ingresses.networking.k8s.io`.
    forbidden: BTreeSet<String>,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_listens(&self, listens: bool) {
        *self.listens.lock().unwrap_or_else(PoisonError::into_inner) = listens;
        self.listens_changed.notify_all();
    }

    /// Opens or closes the door, and waits until it is.
    fn set_open(&self, open: bool) {
        self.open.send_replace(open);
        let listens = self.listens.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.listens_changed.wait_while(listens, |listens| *listens != open));
    }

    fn count(&self, what: String) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }
}

impl ApiServer {
    /// Starts one on this port of the loopback interface; 0 asks for a free one.
    ///
    /// # Errors
    ///
    /// When the port cannot be had.
    pub fn start(port: u16) -> io::Result<ApiServer> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            faults: Mutex::default(),
            counts: Mutex::default(),
            drop_watches: Notify::new(),
            open: watch::channel(true).0,
            listens: Mutex::new(true),
            listens_changed: Condvar::new(),
        });
        runtime.spawn(run(listener, address, Arc::clone(&shared)));
        Ok(ApiServer { address, shared, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a configuration for clients into a folder.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn kubeconfig(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join("kubeconfig");
        std::fs::write(&path, kubeconfig(self.address))?;
        Ok(path)
    }

    /// Puts objects in, each in place of one of its name. Text is YAML of one or more documents; where an object
    /// names no namespace, it is `default`.
    ///
    /// # Errors
    ///
    /// When an object lacks what every object has.
    pub fn apply(&self, manifests: &str) -> Result<(), String> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(manifests).map_err(|error| format!("no manifests: {error}"))?;
        for mut object in documents.into_iter().filter(|document| !document.is_null()) {
            let cluster_wide = object["kind"].as_str().is_some_and(|kind| CLUSTER_WIDE.contains(&kind));
            if !cluster_wide && object["metadata"]["namespace"].is_null() {
                object["metadata"]["namespace"] = "default".into();
            }
            self.put(object)?;
        }
        Ok(())
    }

    /// Puts an object in, in place of one of its name.
    ///
    /// # Errors
    ///
    /// When it lacks what every object has.
    pub fn put(&self, object: Value) -> Result<(), String> {
        put(&mut self.shared.store(), object)
    }

    /// The object at a path of the API.
    pub fn get(&self, path: &str) -> Option<Value> {
        let (_, key) = key(path)?;
        self.shared.store().get(&key).map(|object| (**object).clone())
    }

    /// The objects at a path of the API that names a resource.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let Some(address) = Address::parse(path) else { return Vec::new() };
        let found = self.shared.store().list(&address, &Wanted::default());
        found.iter().map(|object| (**object).clone()).collect()
    }

    /// Deletes the object at a path of the API; gives whether there was one.
    pub fn delete(&self, path: &str) -> bool {
        key(path).is_some_and(|(_, key)| self.shared.store().delete(&key).is_ok())
    }

    /// How often each resource was asked for, as `list ingresses.networking.k8s.io`.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes no connections any more, and breaks those that there are.
    pub fn go_away(&self) {
        self.shared.set_open(false);
    }

    /// Takes connections again.
    pub fn come_back(&self) {
        self.shared.set_open(true);
    }

    /// Ends all watches.
    pub fn drop_watches(&self) {
        self.shared.drop_watches.notify_waiters();
    }

    /// Forgets what has happened so far and ends all watches: those that are taken up where they were are told
    /// 410 Gone, by an event as real servers do it.
    pub fn forget_history(&self) {
        self.shared.store().forget_history();
        self.drop_watches();
    }

    /// Answers each request with this status for a while.
    pub fn fail(&self, status: u16, time: Duration) {
        self.shared.faults().failing = Some((status, Instant::now() + time));
    }

    /// Lets nobody see a resource, named as `secrets` or `ingresses.networking.k8s.io`.
    pub fn forbid(&self, resource: &str) {
        self.shared.faults().forbidden.insert(resource.to_owned());
    }

    /// Lets a resource be seen again.
    pub fn allow(&self, resource: &str) {
        self.shared.faults().forbidden.remove(resource);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A configuration for clients of a server at this address.
pub fn kubeconfig(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: double
  cluster: {{server: 'http://{address}'}}
users:
- name: double
  user: {{}}
contexts:
- name: double
  context: {{cluster: double, user: double}}
current-context: double
"
    )
}

/// The plural of a kind, by the rules of English that suffice.
fn plural(kind: &str) -> String {
    let name = kind.to_ascii_lowercase();
    if name == "endpoints" {
        return name;
    }
    match name.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if name.ends_with(['s', 'x']) => format!("{name}es"),
        _ => format!("{name}s"),
    }
}

fn put(store: &mut Store, object: Value) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let address = Address {
        api_version: text(&object["apiVersion"]),
        plural: plural(&text(&object["kind"])),
        namespace: None,
        name: None,
        subresource: None,
    };
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    if address.api_version.is_empty() || address.plural == "s" || name.is_empty() {
        return Err(format!("apiVersion, kind and metadata.name are needed: {object}"));
    }
    let key = Key::new(&address, &namespace, &name);
    let put = match store.get(&key).cloned() {
        None => store.create(&address, object),
        Some(before) => {
            let mut object = object;
            // Whatever version it was made from.
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            store.replace(&key, object, false)
        }
    };
    put.map(drop).map_err(|refusal| format!("{refusal:?}: {namespace}/{name}"))
}

fn key(path: &str) -> Option<(Address, Key)> {
    let address = Address::parse(path)?;
    let key = Key::new(&address, address.namespace.as_deref().unwrap_or_default(), address.name.as_deref()?);
    Some((address, key))
}

/// Takes connections while it is to be there.
async fn run(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut open = shared.open.subscribe();
    let mut listener = Some(listener);
    loop {
        let here = match listener.take() {
            Some(listener) => listener,
            None => match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        shared.set_listens(true);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = here.accept() => if let Ok((stream, _)) = accepted {
                    connections.spawn(serve::connection(stream, Arc::clone(&shared)));
                },
                Some(_) = connections.join_next() => {}
                changed = open.changed() => match changed {
                    Ok(()) if !*open.borrow_and_update() => break,
                    Ok(()) => {}
                    Err(_) => return,
                },
            }
        }
        // Whoever is connected is cut off, and nobody is let in.
        drop(here);
        connections.shutdown().await;
        shared.set_listens(false);
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
    }
}
