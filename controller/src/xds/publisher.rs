//! Takes resource sets live, one step after the other.
//!
//! Deliberately knows nothing of the protocol: streams see snapshots and report how far they are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::resource::ResourceSet;
use super::stream::{Rejection, Standing};

/// How long a step may take before the next one is begun without its acknowledgement.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts the sets that were published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What became of a published set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every connected Envoy holds it, one at least.
    Live,
    /// An Envoy refused some of it. The last accepted set serves, with the endpoints of this one; whatever
    /// else Envoy took of it is taken back.
    Rejected(Vec<Rejection>),
    /// Another set was published before this one was live.
    Superseded,
    /// The publisher has ended.
    Ended,
}

/// What the server has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XdsEvent {
    /// An Envoy has opened a stream.
    Connected {
        /// Its node id.
        node: String,
    },
    /// An Envoy's stream has ended.
    Disconnected {
        /// Its node id.
        node: String,
    },
    /// An Envoy refused resources.
    Rejected {
        /// Its node id.
        node: String,
        /// Which, and why.
        rejection: Rejection,
    },
    /// A set is live in every connected Envoy.
    Live(Generation),
    /// A step of this set was not acknowledged in time; the next one was begun.
    Slow(Generation),
}

/// What all streams serve at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) serial: u64,
    pub(super) set: ResourceSet,
    /// What a stream holds beyond the set is to be removed; false on the way to it, and none before the first.
    pub(super) complete: Option<bool>,
}

/// How far a stream is.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    /// The snapshot that the standing is about.
    pub(super) serial: u64,
    pub(super) standing: Standing,
    /// What the stream refused of it.
    pub(super) rejections: Vec<Rejection>,
}

/// The end of the publisher that streams hold.
#[derive(Debug, Clone)]
pub(super) struct StreamSide {
    pub(super) snapshots: watch::Receiver<Snapshot>,
    pub(super) progress: Arc<watch::Sender<BTreeMap<u64, Progress>>>,
    pub(super) events: mpsc::UnboundedSender<XdsEvent>,
    streams: Arc<AtomicU64>,
}

impl StreamSide {
    /// Names a new stream.
    pub(super) fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }
}

type Target = Option<(Generation, ResourceSet)>;

/// Takes sets live. Clones publish to the same streams; when the last one is gone, publishing ends.
#[derive(Debug, Clone)]
pub struct Publisher {
    target: Arc<watch::Sender<Target>>,
    finished: watch::Receiver<Option<(Generation, Outcome)>>,
    streams: StreamSide,
}

impl Publisher {
    /// A publisher with its task on the current runtime, and what it has to tell.
    pub fn new() -> (Publisher, mpsc::UnboundedReceiver<XdsEvent>) {
        let (events, told) = mpsc::unbounded_channel();
        let (target, targets) = watch::channel(None);
        let (finish, finished) = watch::channel(None);
        let (snapshot, snapshots) = watch::channel(Snapshot::default());
        let progress = Arc::new(watch::channel(BTreeMap::new()).0);
        let streams = StreamSide {
            snapshots,
            progress: Arc::clone(&progress),
            events: events.clone(),
            streams: Arc::default(),
        };
        let progress = progress.subscribe();
        let task = Task { progress, snapshot, accepted: None, refused: false, events, finish };
        tokio::spawn(task.run(targets));
        (Publisher { target: Arc::new(target), finished, streams }, told)
    }

    /// Has this set made live, in place of any that is still on its way.
    pub fn publish(&self, set: ResourceSet) -> Generation {
        let mut generation = Generation(0);
        self.target.send_modify(|target| {
            generation = Generation(target.as_ref().map_or(0, |(Generation(last), _)| *last).wrapping_add(1));
            *target = Some((generation, set));
        });
        generation
    }

    /// Waits until it is known what became of a set. Without any Envoy, that is never.
    pub async fn outcome(&self, generation: Generation) -> Outcome {
        let mut finished = self.finished.clone();
        let found =
            finished.wait_for(|last| last.as_ref().is_some_and(|(last, _)| *last >= generation)).await;
        match found.as_deref() {
            Ok(Some((found, outcome))) if *found == generation => outcome.clone(),
            Ok(_) => Outcome::Superseded,
            Err(_) => Outcome::Ended,
        }
    }

    pub(super) fn streams(&self) -> StreamSide {
        self.streams.clone()
    }
}

/// The task that takes the steps.
struct Task {
    snapshot: watch::Sender<Snapshot>,
    progress: watch::Receiver<BTreeMap<u64, Progress>>,
    /// The last set that every Envoy took.
    accepted: Option<ResourceSet>,
    /// The present snapshot holds something that was refused.
    refused: bool,
    events: mpsc::UnboundedSender<XdsEvent>,
    finish: watch::Sender<Option<(Generation, Outcome)>>,
}

/// How a step ended.
enum Step {
    Done,
    Rejected(Vec<Rejection>),
}

impl Task {
    async fn run(mut self, mut targets: watch::Receiver<Target>) {
        loop {
            let target = targets.borrow_and_update().clone();
            let work = async {
                if let Some((generation, set)) = target {
                    self.make_live(generation, set).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = work => {}
                changed = targets.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Takes a set live, or back. Can be dropped at any point: the next set starts from where it was.
    async fn make_live(&mut self, generation: Generation, set: ResourceSet) {
        match self.steps(generation, &set, true).await {
            Step::Done => {
                self.accepted = Some(set);
                self.refused = false;
                let _ = self.events.send(XdsEvent::Live(generation));
                self.finish.send_replace(Some((generation, Outcome::Live)));
            }
            Step::Rejected(rejections) => {
                self.refused = true;
                self.finish.send_replace(Some((generation, Outcome::Rejected(rejections))));
                if let Some(accepted) = self.accepted.take() {
                    let accepted = accepted.with_endpoints_of(&set);
                    self.accepted = Some(accepted.clone());
                    self.steps(generation, &accepted, false).await;
                    self.refused = false;
                }
            }
        }
    }

    /// From the present snapshot to `set`. On the way back (`strict` is false) refusals do not stop it.
    async fn steps(&mut self, generation: Generation, set: &ResourceSet, strict: bool) -> Step {
        let mut present = self.snapshot.borrow().set.clone();
        if self.refused {
            // On the way to another set, what was refused is not sent once more. What is lacking then stays, since
            // only a complete set takes away.
            present = self.accepted.clone().unwrap_or_default();
        }
        for step in [set.step(&present, &present), set.step(&present, set)] {
            self.show(step, false);
            match tokio::time::timeout(PATIENCE, self.settled(false)).await {
                Ok(Step::Rejected(rejections)) if strict => return Step::Rejected(rejections),
                Ok(_) => {}
                Err(_) => {
                    let _ = self.events.send(XdsEvent::Slow(generation));
                }
            }
        }
        self.show(set.clone(), true);
        if strict { self.settled(true).await } else { Step::Done }
    }

    fn show(&self, set: ResourceSet, complete: bool) {
        self.snapshot.send_if_modified(|snapshot| {
            let news = snapshot.set != set || snapshot.complete != Some(complete);
            if news {
                let serial = snapshot.serial.wrapping_add(1);
                *snapshot = Snapshot { serial, set, complete: Some(complete) };
            }
            news
        });
    }

    /// Waits until every stream holds the present snapshot or one has refused it. Without streams there is
    /// nothing to wait for, unless `someone` has to hold it.
    async fn settled(&mut self, someone: bool) -> Step {
        let serial = self.snapshot.borrow().serial;
        let present =
            |progress: &Progress, standing| progress.serial == serial && progress.standing == standing;
        let found = self
            .progress
            .wait_for(|streams| {
                streams.values().any(|progress| present(progress, Standing::Rejected))
                    || (streams.values().all(|progress| present(progress, Standing::Settled))
                        && !(someone && streams.is_empty()))
            })
            .await;
        // The sender lives as long as this task's publisher, and nobody waits any more once it is gone.
        let Ok(streams) = found else { return Step::Done };
        let rejections: Vec<_> = streams
            .values()
            .filter(|progress| present(progress, Standing::Rejected))
            .flat_map(|progress| progress.rejections.iter().cloned())
            .collect();
        let rejected = streams.values().any(|progress| present(progress, Standing::Rejected));
        if rejected { Step::Rejected(rejections) } else { Step::Done }
    }
}
