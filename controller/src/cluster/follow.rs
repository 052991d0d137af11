//! One watch that never ends: listed, followed, and listed again when the API server has forgotten where it was.
//!
//! Deliberately knows nothing of what the objects are for.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ingress_wasm_translate::objects::ObjectName;
use kube::core::Status;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::metrics::Metrics;
use super::pause::Pause;
use super::raw::name_of;

/// How many objects are on their way at a time.
const CHANNEL: usize = 256;

/// A watch that holds this long after a failure works again, whether or not it had something to tell. Longer
/// than a connection may take to be made.
const HOLDS: Duration = Duration::from_secs(35);

/// What is watched, in the words of RBAC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch {
    /// As in `ingresses.networking.k8s.io`.
    pub resource: String,
    /// All of them where there is none.
    pub namespace: Option<String>,
    /// Only what Kubernetes calls metadata.
    pub metadata_only: bool,
}

impl fmt::Display for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(formatter, "{} in namespace {namespace}", self.resource),
            None => write!(formatter, "{} in the cluster", self.resource),
        }
    }
}

/// What a watch has to tell.
#[derive(Debug)]
pub enum Seen<K> {
    /// An object is there, new, changed or as before.
    There(K),
    /// An object is gone.
    Gone(ObjectName),
    /// Everything that there was has been told, for the first time or once more.
    Listed,
    /// The account may not do this. It is tried again.
    Forbidden,
}

/// Follows until nobody listens any more.
pub fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    watch: Watch,
    metrics: Arc<Metrics>,
) -> mpsc::Receiver<Seen<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (seen, receiver) = mpsc::channel(CHANNEL);
    let follower =
        Follower { watch, metrics, seen, known: BTreeSet::new(), listing: None, failing: None, failures: 0 };
    tokio::spawn(follower.run(api, config));
    receiver
}

struct Follower<K> {
    watch: Watch,
    metrics: Arc<Metrics>,
    seen: mpsc::Sender<Seen<K>>,
    /// What was told to be there.
    known: BTreeSet<ObjectName>,
    /// What the list that is being read has held so far.
    listing: Option<BTreeSet<ObjectName>>,
    /// What it fails with at present, if that was said.
    failing: Option<String>,
    /// How often it has failed in a row.
    failures: u32,
}

/// Nobody listens.
struct Closed;

impl<K> Follower<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    async fn run(mut self, api: Api<K>, config: watcher::Config) {
        let mut pause = Pause::default();
        loop {
            let stream = watcher(api.clone(), config.clone());
            let mut stream = std::pin::pin!(stream);
            loop {
                let next = stream.next();
                let event = if self.failures == 0 {
                    next.await
                } else {
                    // The stream keeps its place where this is given up.
                    match tokio::time::timeout(HOLDS, next).await {
                        Ok(event) => event,
                        Err(_) => {
                            self.recovered();
                            continue;
                        }
                    }
                };
                let Some(event) = event else { break };
                let outcome = match event {
                    Ok(event) => {
                        if !matches!(event, Event::Init) {
                            pause.reset();
                        }
                        self.event(event).await
                    }
                    Err(error) => {
                        let outcome = self.error(&error).await;
                        pause.wait().await;
                        if outcome.is_ok() && is_gone(&error) {
                            // The watcher would ask for the same version again.
                            break;
                        }
                        outcome
                    }
                };
                if outcome.is_err() {
                    return;
                }
            }
        }
    }

    async fn event(&mut self, event: Event<K>) -> Result<(), Closed> {
        if !matches!(event, Event::Init) {
            self.recovered();
        }
        match event {
            Event::Init => {
                self.listing = Some(BTreeSet::new());
                Ok(())
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let name = name_of(object.meta());
                if let Some(listing) = &mut self.listing {
                    listing.insert(name.clone());
                }
                self.known.insert(name);
                self.tell(Seen::There(object)).await
            }
            Event::Delete(object) => {
                let name = name_of(object.meta());
                self.known.remove(&name);
                self.tell(Seen::Gone(name)).await
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let known = std::mem::replace(&mut self.known, listed);
                let gone: Vec<ObjectName> = known.difference(&self.known).cloned().collect();
                for name in gone {
                    self.tell(Seen::Gone(name)).await?;
                }
                self.metrics.listed(&self.watch.resource);
                self.tell(Seen::Listed).await
            }
        }
    }

    fn recovered(&mut self) {
        self.failures = 0;
        if self.failing.take().is_some() {
            tracing::info!(watch = %self.watch, "the API server answers again");
        }
    }

    async fn error(&mut self, error: &watcher::Error) -> Result<(), Closed> {
        self.metrics.watch_failed(&self.watch.resource);
        let verb = match error {
            watcher::Error::InitialListFailed(_) => "list",
            _ => "watch",
        };
        let text = words(error);
        let forbidden = is_status(error, 403);
        self.failures = self.failures.saturating_add(1);
        // One failure is nothing: the API server ends connections now and then.
        let is_news = forbidden || is_gone(error) || self.failures > 1;
        let news = is_news && self.failing.as_ref() != Some(&text);
        match (news, forbidden) {
            (true, true) => tracing::error!(
                verb,
                resource = self.watch.resource,
                namespace = self.watch.namespace,
                error = text,
                "forbidden: the service account may not {verb} {}: grant it in its Role or ClusterRole",
                self.watch
            ),
            (true, false) if is_gone(error) => {
                tracing::info!(watch = %self.watch, "the API server has forgotten where the watch was: listing anew");
            }
            (true, false) => {
                tracing::warn!(verb, watch = %self.watch, error = text, "the API server does not answer: what is served stays");
            }
            (false, _) => tracing::debug!(verb, watch = %self.watch, error = text, "still failing"),
        }
        if is_news {
            self.failing = Some(text);
        }
        if forbidden { self.tell(Seen::Forbidden).await } else { Ok(()) }
    }

    async fn tell(&self, seen: Seen<K>) -> Result<(), Closed> {
        self.seen.send(seen).await.map_err(|_| Closed)
    }
}

/// The API server's answer, if it is one.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// An error in one line: what the API server says, or what keeps it from saying something.
fn words(error: &watcher::Error) -> String {
    match (status(error), error) {
        (Some(status), _) => format!("{} {}: {}", status.code, status.reason, status.message),
        (
            None,
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error),
        ) => causes(error),
        (None, error) => error.to_string(),
    }
}

/// An error with its causes, each said once.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

fn is_status(error: &watcher::Error, code: u16) -> bool {
    status(error).is_some_and(|status| status.code == code)
}

fn is_gone(error: &watcher::Error) -> bool {
    is_status(error, 410)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
