//! A watch: JSON lines for as long as it lasts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::channel::Sender;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::failure::Failure;
use super::faults::Away;
use super::objects::{Form, View};
use super::select::Selector;
use super::store::Event;

/// What is watched, and how.
pub struct Watching {
    /// `plural.group`.
    pub resource: String,
    /// The namespace; none: all.
    pub namespace: Option<String>,
    /// Which objects.
    pub selector: Selector,
    /// How they are sent.
    pub view: View,
    /// What has been seen: events after it are sent.
    pub version: u64,
    /// Bookmarks are sent.
    pub bookmarks: bool,
    /// What is there is sent first.
    pub initial: Initial,
    /// When it ends.
    pub end: Instant,
    /// The connection is cut after so many bytes.
    pub cut: Option<usize>,
}

/// Whether what is there is sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// Only what happens.
    No,
    /// As events; then what happens.
    Yes,
    /// As events, with a bookmark that says where they end.
    Marked,
}

/// Tells all watches what is to become of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// Counts how often watches were ended as they end by themselves.
    pub ended: u64,
    /// Counts how often watches were told that they are too old.
    pub expired: u64,
}

/// How many events are sent before it is looked what else there is to do.
const BATCH: usize = 500;

struct Line {
    sender: Sender<Bytes, io::Error>,
    left: Option<usize>,
}

/// The client is gone, or is to be cut off.
struct Over;

impl Line {
    async fn send(&mut self, kind: &str, object: &Value) -> Result<(), Over> {
        let mut text = format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into_bytes();
        let cut = match &mut self.left {
            Some(left) if text.len() > *left => {
                text.truncate(*left);
                true
            }
            Some(left) => {
                *left -= text.len();
                false
            }
            None => false,
        };
        self.sender.send_data(text.into()).await.map_err(|_| Over)?;
        if cut { Err(Over) } else { Ok(()) }
    }
}

impl Watching {
    /// Sends until it ends.
    pub async fn run(self, shared: Arc<Shared>, sender: Sender<Bytes, io::Error>) {
        let cut = self.cut.is_some();
        let mut line = Line { sender, left: self.cut };
        let over = self.send(&shared, &mut line).await;
        if over.is_err() && cut {
            // Lets what was sent reach the client first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            line.sender.abort(io::Error::from(io::ErrorKind::ConnectionReset));
        }
    }

    async fn send(mut self, shared: &Shared, line: &mut Line) -> Result<(), Over> {
        let mut changed = shared.changed.subscribe();
        let mut orders = shared.orders.subscribe();
        let mut away = shared.away.subscribe();
        let begun = *orders.borrow_and_update();
        if self.initial != Initial::No {
            self.send_initial(shared, line).await?;
        }
        let mut bookmark = Instant::now() + shared.settings.bookmarks;
        loop {
            pass(&mut away).await?;
            changed.borrow_and_update();
            let now = *orders.borrow_and_update();
            if now.expired != begun.expired {
                return self.too_old(line, self.version).await;
            }
            if now.ended != begun.ended {
                return Ok(());
            }
            let events = shared.lock().store.since(&self.resource, self.version, BATCH);
            match events {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    for event in events {
                        self.version = event.version;
                        self.tell(line, &event).await?;
                    }
                    continue;
                }
                Err(oldest) => return self.too_old(line, oldest).await,
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return Ok(()) },
                ordered = orders.changed() => if ordered.is_err() { return Ok(()) },
                _ = away.changed() => {}
                () = sleep_until(self.end) => {
                    // As the real one does: where it ends is where the next one begins.
                    return self.mark(shared, line, false).await;
                }
                () = sleep_until(bookmark) => {
                    self.mark(shared, line, false).await?;
                    bookmark = Instant::now() + shared.settings.bookmarks;
                }
            }
        }
    }

    async fn send_initial(&mut self, shared: &Shared, line: &mut Line) -> Result<(), Over> {
        let (objects, version) = {
            let state = shared.lock();
            (state.store.objects(&self.resource), state.store.version())
        };
        for (key, object) in objects.iter() {
            if self.in_namespace(&key.0) && self.selector.takes(&object.value) {
                line.send("ADDED", &self.view.of(&object.value)).await?;
            }
        }
        self.version = version;
        if self.initial == Initial::Marked { self.mark(shared, line, true).await } else { Ok(()) }
    }

    fn in_namespace(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
    }

    /// An object that comes to be selected is new to the client, and one that ceases to be is gone.
    async fn tell(&self, line: &mut Line, event: &Event) -> Result<(), Over> {
        let namespace = event.object.value["metadata"]["namespace"].as_str().unwrap_or_default();
        if !self.in_namespace(namespace) {
            return Ok(());
        }
        let was = event.before.as_ref().is_some_and(|before| self.selector.takes(&before.value));
        let is = !event.deleted && self.selector.takes(&event.object.value);
        let kind = match (was, is) {
            (false, false) => return Ok(()),
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        line.send(kind, &self.view.of(&event.object.value)).await
    }

    async fn mark(&mut self, shared: &Shared, line: &mut Line, initial_end: bool) -> Result<(), Over> {
        if !self.bookmarks && !initial_end {
            return Ok(());
        }
        if !initial_end {
            // What has happened since is told first: a bookmark says that nothing before it is missing.
            let (events, version) = {
                let state = shared.lock();
                (state.store.since(&self.resource, self.version, usize::MAX), state.store.version())
            };
            let events = match events {
                Ok(events) => events,
                Err(oldest) => return self.too_old(line, oldest).await,
            };
            for event in events {
                self.tell(line, &event).await?;
            }
            self.version = self.version.max(version);
        }
        let mut metadata = json!({"resourceVersion": self.version.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api_version) = match self.view.form {
            Form::Whole => (self.view.kind.as_str(), self.view.api_version.as_str()),
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
        };
        line.send("BOOKMARK", &json!({"kind": kind, "apiVersion": api_version, "metadata": metadata})).await
    }

    async fn too_old(&self, line: &mut Line, oldest: u64) -> Result<(), Over> {
        line.send("ERROR", &Failure::expired(self.version, oldest).status()).await
    }
}

/// Waits while the server hangs.
async fn pass(away: &mut watch::Receiver<Away>) -> Result<(), Over> {
    while *away.borrow_and_update() == Away::Hang {
        away.changed().await.map_err(|_| Over)?;
    }
    Ok(())
}
