//! What is watched: objects of some kinds as a whole, and of Secrets and ConfigMaps those that are named.
//!
//! Secrets and ConfigMaps are watched by their metadata only, which holds no data. A change wakes up those who
//! want one of that name, and it is fetched by name. So what nothing refers to is neither transferred nor kept,
//! and where an account may only `get` some Secrets by name, or one is named in a namespace that is not watched, those
//! are looked at every minute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{FuturesUnordered, select_all};
use ingress_wasm_translate::manifest::Loaded;
use ingress_wasm_translate::objects::{Kind, ObjectName};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{ApiResource, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::follow::{Seen, Watch, causes, follow};
use super::metrics::Metrics;
use super::pause::Pause;
use super::raw::{AnnotationsPrefix, Identity, Raw, name_of};

/// After how many seconds the API server is to end a watch, which is then begun anew where it was. A connection
/// that died without a word is found out by it.
pub const WATCH_SECONDS: u32 = 120;

/// How many objects a list is read in at a time.
const PAGE: u32 = 500;

/// How many Secrets or ConfigMaps are fetched at a time.
const FETCHES: usize = 16;

/// How often objects are fetched that may not be watched.
const PERIOD: Duration = Duration::from_secs(60);

/// Helm keeps releases in Secrets, which are large and many.
const NO_RELEASES: &str = "type!=helm.sh/release.v1";

/// What the watches tell.
#[derive(Debug)]
pub enum News {
    /// An object is there, new, changed or as before.
    There {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: ObjectName,
        /// Which version of which object it is.
        identity: Identity,
        /// What it came to.
        loaded: Loaded,
    },
    /// An object is not there, any more or at all.
    Gone {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: ObjectName,
    },
    /// A namespace is among those that the selector chooses, or no longer.
    Namespace {
        /// Its name.
        name: String,
        /// It is chosen.
        chosen: bool,
    },
    /// A watch has told everything that there was.
    Listed(Watch),
    /// A watch is forbidden.
    Forbidden(Watch),
}

/// What to watch.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The only namespace whose Ingresses are served; none: all.
    pub namespace: Option<String>,
    /// Other namespaces in which single objects are named on the command line.
    pub more_namespaces: BTreeSet<String>,
    /// The labels of the namespaces whose Ingresses are served; none: all.
    pub namespace_selector: Option<String>,
    /// What ingress-nginx's annotations begin with.
    pub prefix: AnnotationsPrefix,
}

/// Secrets and ConfigMaps that are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Their names.
    pub names: BTreeMap<Kind, BTreeSet<ObjectName>>,
    /// The ConfigMap with the global options: what it forbids must not be forgotten, so nothing is served as
    /// long as it may not be read.
    pub must: Option<ObjectName>,
}

/// The watches, and what they were begun with.
#[derive(Debug)]
pub struct Watches {
    /// What they tell.
    pub news: mpsc::Receiver<News>,
    /// Those that have to be listed before anything is served.
    pub needed: BTreeSet<Watch>,
    /// Those that would be good to have.
    pub optional: BTreeSet<Watch>,
}

/// Begins all watches.
pub fn start(
    client: &Client,
    scope: &Scope,
    wanted: &watch::Receiver<Arc<Wanted>>,
    metrics: &Arc<Metrics>,
) -> Watches {
    let (tell, news) = mpsc::channel(1024);
    let starter = Starter { client, scope, metrics, tell };
    let mut needed = BTreeSet::new();
    let mut optional = BTreeSet::new();
    let main: Vec<Option<String>> = vec![scope.namespace.clone()];
    let mut with_more = main.clone();
    if scope.namespace.is_some() {
        with_more.extend(scope.more_namespaces.iter().cloned().map(Some));
        with_more.dedup();
    }
    for namespace in &main {
        needed.insert(starter.whole(Kind::Ingress, ApiResource::erase::<Ingress>(&()), namespace));
    }
    for namespace in &with_more {
        needed.insert(starter.whole(Kind::Service, ApiResource::erase::<Service>(&()), namespace));
        let slices = ApiResource::erase::<EndpointSlice>(&());
        needed.insert(starter.whole(Kind::EndpointSlice, slices, namespace));
    }
    optional.insert(starter.whole(Kind::IngressClass, ApiResource::erase::<IngressClass>(&()), &None));
    let secrets = ApiResource::erase::<Secret>(&());
    optional.extend(starter.named(Kind::Secret, &secrets, &with_more, wanted));
    let maps = ApiResource::erase::<ConfigMap>(&());
    optional.extend(starter.named(Kind::ConfigMap, &maps, &with_more, wanted));
    if let Some(selector) = &scope.namespace_selector {
        needed.insert(starter.namespaces(selector));
    }
    Watches { news, needed, optional }
}

struct Starter<'a> {
    client: &'a Client,
    scope: &'a Scope,
    metrics: &'a Arc<Metrics>,
    tell: mpsc::Sender<News>,
}

fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
}

fn watch_of(resource: &ApiResource, namespace: &Option<String>, metadata_only: bool) -> Watch {
    let name = if resource.group.is_empty() {
        resource.plural.clone()
    } else {
        format!("{}.{}", resource.plural, resource.group)
    };
    Watch { resource: name, namespace: namespace.clone(), metadata_only }
}

impl Starter<'_> {
    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<Raw> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// Watches objects with everything in them.
    fn whole(&self, kind: Kind, resource: ApiResource, namespace: &Option<String>) -> Watch {
        let watch = watch_of(&resource, namespace, false);
        let api = self.api(&resource, namespace.as_deref());
        let mut seen = follow(api, config(), watch.clone(), Arc::clone(self.metrics));
        let (tell, prefix, told) = (self.tell.clone(), self.scope.prefix.clone(), watch.clone());
        tokio::spawn(async move {
            while let Some(seen) = seen.recv().await {
                let news = match seen {
                    Seen::There(object) => {
                        let (name, identity, loaded) = object.decode(&resource, &prefix);
                        News::There { kind, name, identity, loaded }
                    }
                    Seen::Gone(name) => News::Gone { kind, name },
                    Seen::Listed => News::Listed(told.clone()),
                    Seen::Forbidden => News::Forbidden(told.clone()),
                };
                if tell.send(news).await.is_err() {
                    return;
                }
            }
        });
        watch
    }

    /// Watches which namespaces a selector chooses.
    fn namespaces(&self, selector: &str) -> Watch {
        let resource = ApiResource::erase::<Namespace>(&());
        let watch = watch_of(&resource, &None, true);
        let api: Api<PartialObjectMeta<Raw>> = Api::all_with(self.client.clone(), &resource);
        let mut seen = follow(api, config().labels(selector), watch.clone(), Arc::clone(self.metrics));
        let (tell, told) = (self.tell.clone(), watch.clone());
        tokio::spawn(async move {
            while let Some(seen) = seen.recv().await {
                let news = match seen {
                    Seen::There(object) => {
                        News::Namespace { name: name_of(&object.metadata).name, chosen: true }
                    }
                    // One whose labels changed is told of as gone.
                    Seen::Gone(name) => News::Namespace { name: name.name, chosen: false },
                    Seen::Listed => News::Listed(told.clone()),
                    Seen::Forbidden => News::Forbidden(told.clone()),
                };
                if tell.send(news).await.is_err() {
                    return;
                }
            }
        });
        watch
    }

    /// Watches the objects of a kind that are wanted by name.
    fn named(
        &self,
        kind: Kind,
        resource: &ApiResource,
        namespaces: &[Option<String>],
        wanted: &watch::Receiver<Arc<Wanted>>,
    ) -> Vec<Watch> {
        let mut watches = Vec::new();
        let mut streams = Vec::new();
        for namespace in namespaces {
            let watch = watch_of(resource, namespace, true);
            let api: Api<PartialObjectMeta<Raw>> = match namespace {
                Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
                None => Api::all_with(self.client.clone(), resource),
            };
            let config = if kind == Kind::Secret { config().fields(NO_RELEASES) } else { config() };
            let seen = follow(api, config, watch.clone(), Arc::clone(self.metrics));
            let told = watch.clone();
            streams.push(ReceiverStream::new(seen).map(move |seen| (told.clone(), seen)));
            watches.push(watch);
        }
        let named = Named {
            kind,
            resource: resource.clone(),
            client: self.client.clone(),
            prefix: self.scope.prefix.clone(),
            tell: self.tell.clone(),
            must: None,
            namespaces: namespaces.iter().cloned().collect(),
            wanted: BTreeSet::new(),
            queue: BTreeSet::new(),
            fetching: BTreeMap::new(),
        };
        tokio::spawn(named.run(select_all(streams), wanted.clone()));
        watches
    }
}

/// Fetches the objects of a kind that are wanted by name, now and whenever they change.
struct Named {
    kind: Kind,
    resource: ApiResource,
    client: Client,
    prefix: AnnotationsPrefix,
    tell: mpsc::Sender<News>,
    /// The one that cannot be done without.
    must: Option<ObjectName>,
    /// The namespaces that are watched; none: all.
    namespaces: Option<BTreeSet<String>>,
    wanted: BTreeSet<ObjectName>,
    queue: BTreeSet<ObjectName>,
    /// Those on their way; true: it has changed since.
    fetching: BTreeMap<ObjectName, bool>,
}

impl Named {
    async fn run(
        mut self,
        seen: impl futures_util::Stream<Item = (Watch, Seen<PartialObjectMeta<Raw>>)>,
        mut all_wanted: watch::Receiver<Arc<Wanted>>,
    ) {
        let mut seen = std::pin::pin!(seen);
        let mut fetches = FuturesUnordered::new();
        let mut unwatched = false;
        let mut period = tokio::time::interval(PERIOD);
        loop {
            while fetches.len() < FETCHES
                && let Some(name) = self.queue.pop_first()
            {
                if self.wanted.contains(&name) {
                    self.fetching.insert(name.clone(), false);
                    let must = self.must.as_ref() == Some(&name);
                    fetches.push(fetch(self.client.clone(), self.resource.clone(), name, must));
                }
            }
            let news = tokio::select! {
                changed = all_wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let all = Arc::clone(&all_wanted.borrow_and_update());
                    self.must = all.must.clone().filter(|_| self.kind == Kind::ConfigMap);
                    self.want(all.names.get(&self.kind).cloned().unwrap_or_default());
                    None
                }
                Some((watch, seen)) = seen.next() => match seen {
                    Seen::There(object) => {
                        self.look(&name_of(&object.metadata));
                        None
                    }
                    Seen::Gone(name) => {
                        self.look(&name);
                        None
                    }
                    Seen::Listed => {
                        unwatched = false;
                        Some(News::Listed(watch))
                    }
                    Seen::Forbidden => {
                        unwatched = true;
                        Some(News::Forbidden(watch))
                    }
                },
                Some((name, found)) = fetches.next(), if !fetches.is_empty() => self.fetched(name, found),
                _ = period.tick() => {
                    let is_watched = |name: &&ObjectName| {
                        !unwatched
                            && self.namespaces.as_ref().is_none_or(|all| all.contains(&name.namespace))
                    };
                    let others: Vec<ObjectName> =
                        self.wanted.iter().filter(|name| !is_watched(name)).cloned().collect();
                    others.iter().for_each(|name| self.look(name));
                    None
                }
            };
            if let Some(news) = news
                && self.tell.send(news).await.is_err()
            {
                return;
            }
        }
    }

    fn want(&mut self, wanted: BTreeSet<ObjectName>) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        let added: Vec<ObjectName> = self.wanted.difference(&before).cloned().collect();
        added.iter().for_each(|name| self.look(name));
    }

    /// Fetches it, if it is wanted.
    fn look(&mut self, name: &ObjectName) {
        if !self.wanted.contains(name) {
            return;
        }
        match self.fetching.get_mut(name) {
            Some(changed) => *changed = true,
            None => {
                self.queue.insert(name.clone());
            }
        }
    }

    fn fetched(&mut self, name: ObjectName, found: Option<Raw>) -> Option<News> {
        if self.fetching.remove(&name) == Some(true) {
            self.queue.insert(name.clone());
        }
        if !self.wanted.contains(&name) {
            return None;
        }
        let kind = self.kind;
        Some(match found {
            Some(object) => {
                let (name, identity, loaded) = object.decode(&self.resource, &self.prefix);
                News::There { kind, name, identity, loaded }
            }
            None => News::Gone { kind, name },
        })
    }
}

/// The object, or nothing where there is none or it may not be seen, unless it `must`. Any other failure is
/// tried again.
async fn fetch(
    client: Client,
    resource: ApiResource,
    name: ObjectName,
    must: bool,
) -> (ObjectName, Option<Raw>) {
    let api: Api<Raw> = Api::namespaced_with(client, &name.namespace, &resource);
    let mut pause = Pause::default();
    let mut told = false;
    loop {
        match api.get_opt(&name.name).await {
            Ok(found) => return (name, found),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                let then = if must { "nothing new is served without it" } else { "it counts as missing" };
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(
                        verb = "get",
                        resource = resource.plural,
                        namespace = name.namespace,
                        name = name.name,
                        error = status.message,
                        "forbidden: the service account may not get {} {name}: {then}",
                        resource.kind
                    );
                }
                if !must {
                    return (name, None);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let error = causes(&error);
                    tracing::warn!(error, "{} {name} cannot be fetched: it is tried again", resource.kind);
                }
            }
        }
        pause.wait().await;
    }
}
