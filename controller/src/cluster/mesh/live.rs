//! Our objects as the API server has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select_all};
use kube::api::ApiResource;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_stream::wrappers::ReceiverStream;

use super::super::follow::{Seen, follow};
use super::super::metrics::Metrics;
use super::super::raw::{Raw, name_of};
use super::super::watches::WATCH_SECONDS;
use super::kinds::{Key, Kind, Set};
use crate::istio::{INSTANCE, MANAGED_BY, MANAGER};

/// The annotation that says which controller writes an object: the namespace and the name of its Lease.
pub const OWNER: &str = "ingress-wasm.io/owner";

/// The annotation with a hash of what was applied last.
pub const APPLIED: &str = "ingress-wasm.io/applied";

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// The controller that wrote it last; empty: a person did.
    pub owner: String,
    /// The hash of what was applied last.
    pub applied: String,
    /// What of it is compared: kind, name, our labels, and `spec` or `data`.
    pub content: Value,
}

impl Found {
    /// What an answer of the API server says.
    pub fn read(kind: Kind, object: Raw) -> (Key, Found) {
        let (metadata, value) = object.into_parts();
        let key = Key { kind, name: name_of(&metadata).name };
        let text =
            |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let annotation = |name: &str| {
            let annotations = value.pointer("/metadata/annotations");
            annotations.and_then(|all| all.get(name)).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let found = Found {
            uid: text("/metadata/uid"),
            version: text("/metadata/resourceVersion"),
            owner: annotation(OWNER),
            applied: annotation(APPLIED),
            content: content(kind, &value),
        };
        (key, found)
    }
}

/// What of an object is compared.
fn content(kind: Kind, value: &Value) -> Value {
    let metadata = value.get("metadata");
    let field = |name: &str| metadata.and_then(|metadata| metadata.get(name)).cloned().unwrap_or_default();
    let ours = [MANAGED_BY, INSTANCE, "istio.io/rev"];
    let labels = field("labels");
    let labels: BTreeMap<&str, &Value> =
        ours.iter().filter_map(|name| Some((*name, labels.get(name)?))).collect();
    let resource = kind.resource();
    let mut content = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": field("name"), "namespace": field("namespace"), "labels": labels},
    });
    let fields: &[&str] = if kind == Kind::Secret { &["type", "data"] } else { &["spec"] };
    for field in fields {
        content[*field] = value.get(*field).cloned().unwrap_or_default();
    }
    content
}

/// A name for what an object says.
pub fn hash(object: &Value) -> String {
    // Members are in the order of their names, so the same object has the same text.
    let hash = Sha256::digest(object.to_string().as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What the watches tell.
pub enum News {
    /// An object is there.
    There(Key, Box<Found>),
    /// An object is gone, or no longer one of ours.
    Gone(Key),
    /// All objects of a kind have been told.
    Listed(Kind),
    /// Objects of a kind may not be watched.
    Forbidden(Kind),
}

/// All objects of ours.
#[derive(Debug, Default)]
pub struct Live {
    /// The objects.
    pub objects: BTreeMap<Key, Found>,
    /// Kinds that are not listed yet, and whether they may not be.
    pub missing: BTreeMap<Kind, bool>,
}

impl Live {
    /// Nothing yet.
    pub fn new(kinds: &BTreeSet<Kind>) -> Live {
        Live { objects: BTreeMap::new(), missing: kinds.iter().map(|kind| (*kind, false)).collect() }
    }

    /// Takes in what a watch tells.
    pub fn take(&mut self, news: News) {
        match news {
            News::There(key, found) => {
                self.objects.insert(key, *found);
            }
            News::Gone(key) => {
                self.objects.remove(&key);
            }
            News::Listed(kind) => {
                self.missing.remove(&kind);
            }
            News::Forbidden(kind) => {
                if let Some(forbidden) = self.missing.get_mut(&kind) {
                    *forbidden = true;
                }
            }
        }
    }

    /// The objects as they are.
    pub fn set(&self) -> Set {
        self.objects.iter().map(|(key, found)| (key.clone(), found.content.clone())).collect()
    }
}

/// Watches the objects of an instance, of these kinds.
pub fn watch(
    client: &Client,
    namespace: &str,
    instance: &str,
    kinds: &BTreeSet<Kind>,
    metrics: &Arc<Metrics>,
) -> impl futures_util::Stream<Item = News> + Unpin + Send + use<> {
    let labels = format!("{MANAGED_BY}={MANAGER},{INSTANCE}={instance}");
    let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(500).labels(&labels);
    let streams = kinds.iter().map(|kind| -> BoxStream<'static, News> {
        let kind = *kind;
        let api = api(client, namespace, &kind.resource());
        let seen = follow(api, config.clone(), kind.watch(namespace), Arc::clone(metrics));
        let news = move |seen| match seen {
            Seen::There(object) => {
                let (key, found) = Found::read(kind, object);
                News::There(key, Box::new(found))
            }
            Seen::Gone(name) => News::Gone(Key { kind, name: name.name }),
            Seen::Listed => News::Listed(kind),
            Seen::Forbidden => News::Forbidden(kind),
        };
        ReceiverStream::new(seen).map(news).boxed()
    });
    select_all(streams)
}

/// The objects of a kind in a namespace.
pub fn api(client: &Client, namespace: &str, resource: &ApiResource) -> Api<Raw> {
    Api::namespaced_with(client.clone(), namespace, resource)
}
