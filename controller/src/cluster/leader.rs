//! Which of the replicas writes to the API server: the one that holds a Lease, as client-go's leader election does it.
//!
//! * No clock but the own one is trusted. A Lease of another replica counts as held until it has not changed for
//!   as long as it says, as seen from here.
//! * The holder renews it, and gives up by itself when it could not for half that time: it has stopped writing before
//!   another replica can begin. [`Leadership::holds`] says no then even if the renewing task hangs.
//! * Two that reach for it at the same time are told apart by the API server, by `resourceVersion`.
//!
//! Deliberately knows nothing of what the holder does.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::activity::Activity;

/// How often one that does not hold the Lease looks at it, at least: one that is handed back is taken soon.
const LOOK: Duration = Duration::from_secs(2);

/// How long handing it back may take at the end.
const RELEASE: Duration = Duration::from_secs(5);

/// What a replica takes part in.
#[derive(Debug, Clone)]
pub struct Election {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub lease: String,
    /// The name of this replica; no other may have it.
    pub identity: String,
    /// How long the Lease holds without being renewed.
    pub ttl: Duration,
}

/// Whether this replica is the one that writes.
#[derive(Debug, Clone)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
    /// Another replica was seen to hold the Lease.
    elsewhere: watch::Receiver<bool>,
}

/// The task that takes part.
#[derive(Debug)]
pub struct Candidate {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Takes part in an election until [`Candidate::resign`].
pub fn stand(client: &Client, election: Election, activity: Arc<Activity>) -> (Leadership, Candidate) {
    let (until, leadership) = watch::channel(None);
    let (elsewhere, others) = watch::channel(false);
    let (end, ends) = watch::channel(false);
    let leases = Api::namespaced(client.clone(), &election.namespace);
    activity.leads(&election.lease, false);
    let said = String::new();
    let elector = Elector { leases, election, seen: None, lease: None, until, elsewhere, activity, said };
    let task = tokio::spawn(elector.run(ends));
    (Leadership { until: leadership, elsewhere: others }, Candidate { end, task })
}

impl Leadership {
    /// This replica may write now.
    pub fn holds(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Another replica holds the Lease, as far as is known here.
    pub fn is_elsewhere(&self) -> bool {
        *self.elsewhere.borrow()
    }

    /// Waits for it to be gained or lost, here or by another replica.
    pub async fn moved(&mut self) {
        let mut elsewhere = self.elsewhere.clone();
        elsewhere.mark_unchanged();
        tokio::select! {
            () = self.changed() => {}
            Ok(()) = elsewhere.changed() => {}
        }
    }

    /// Waits for it to be gained or lost.
    pub async fn changed(&mut self) {
        let before = self.until.borrow_and_update().is_some();
        while self.until.changed().await.is_ok() {
            if self.until.borrow_and_update().is_some() != before {
                return;
            }
        }
        // Nobody stands any more: it stays as it is.
        std::future::pending().await
    }

    /// Does something that only the holder may do, and breaks it off when it holds the Lease no longer.
    pub async fn while_held<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut until = self.until.clone();
        let mut work = std::pin::pin!(work);
        loop {
            let end = (*until.borrow_and_update()).filter(|end| Instant::now() < *end)?;
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep_until(end.into()) => {}
                Ok(()) = until.changed() => {}
            }
        }
    }
}

impl Candidate {
    /// Ends: a Lease that is held is handed back, so that another replica need not wait for its end.
    pub async fn resign(self) {
        self.end.send_replace(true);
        let _ = self.task.await;
    }
}

/// What another replica wrote, and when that was first seen here.
#[derive(Debug)]
struct Seen {
    spec: LeaseSpec,
    at: Instant,
}

struct Elector {
    leases: Api<Lease>,
    election: Election,
    seen: Option<Seen>,
    /// The Lease as this replica has written it last, while it holds it.
    lease: Option<Lease>,
    until: watch::Sender<Option<Instant>>,
    elsewhere: watch::Sender<bool>,
    activity: Arc<Activity>,
    /// What went wrong last.
    said: String,
}

impl Elector {
    async fn run(mut self, mut ends: watch::Receiver<bool>) {
        loop {
            let pause = tokio::select! {
                pause = self.turn() => pause,
                _ = ends.wait_for(|end| *end) => break,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = ends.wait_for(|end| *end) => break,
            }
        }
        self.resign().await;
    }

    /// As ingress-nginx has it: the holder gives up after half the time.
    fn deadline(&self) -> Duration {
        self.election.ttl / 2
    }

    /// One attempt, and how long to wait before the next.
    async fn turn(&mut self) -> Duration {
        let retry = self.election.ttl / 4;
        let began = Instant::now();
        let patience = match *self.until.borrow() {
            Some(until) => until.saturating_duration_since(began),
            None => self.deadline(),
        };
        match tokio::time::timeout(patience, self.acquire_or_renew()).await {
            Ok(Ok(true)) => {
                self.said.clear();
                self.gained(began + self.deadline());
                return retry;
            }
            Ok(Ok(false)) => {
                self.lost("another replica holds the Lease");
                self.elsewhere.send_if_modified(|held| !std::mem::replace(held, true));
            }
            Ok(Err(error)) => {
                self.lease = None;
                self.failed(&error.to_string());
            }
            Err(_) => {
                self.lease = None;
                self.failed("no answer in time");
            }
        }
        let until = *self.until.borrow();
        match until {
            // A holder tries again soon: time is short.
            Some(until) => (retry / 4).min(until.saturating_duration_since(Instant::now())),
            None => {
                let retry = retry.min(LOOK);
                retry + jitter(retry / 5)
            }
        }
    }

    fn failed(&mut self, error: &str) {
        let expired = self.until.borrow().is_none_or(|until| Instant::now() >= until);
        if expired {
            self.lost("it could not be renewed");
        }
        if self.said == error {
            return;
        }
        error.clone_into(&mut self.said);
        let Election { namespace, lease, .. } = &self.election;
        tracing::warn!(namespace, lease, error, "cannot read or write the Lease: it is tried again");
    }

    fn gained(&self, until: Instant) {
        self.elsewhere.send_if_modified(|held| std::mem::replace(held, false));
        if self.until.send_replace(Some(until)).is_none() {
            let Election { namespace, lease, identity, .. } = &self.election;
            tracing::info!(namespace, lease, identity, "leading: this replica writes status and Events");
            self.activity.leads(lease, true);
        }
    }

    fn lost(&self, reason: &str) {
        if self.until.send_replace(None).is_some() {
            let Election { namespace, lease, identity, .. } = &self.election;
            tracing::warn!(namespace, lease, identity, reason, "leading no longer");
            self.activity.leads(lease, false);
        }
    }

    /// Whether this replica holds the Lease now.
    async fn acquire_or_renew(&mut self) -> Result<bool, kube::Error> {
        let held = match self.lease.take() {
            // What was written last is what is there, unless somebody interfered.
            Some(lease) => Some(lease),
            None => self.leases.get_opt(&self.election.lease).await?,
        };
        let Some(mut lease) = held else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.election.lease.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            return self.written(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        if !self.may_take(&spec) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some(spec)));
        let written = self.leases.replace(&self.election.lease, &PostParams::default(), &lease).await;
        self.written(written)
    }

    fn written(&mut self, written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
        match written {
            Ok(lease) => {
                self.seen = None;
                self.lease = Some(lease);
                Ok(true)
            }
            // Another was faster, or something about the Lease has changed: it is looked at anew. One that holds it
            // and is still within its time goes on.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                if self.until.borrow().is_some() {
                    Err(kube::Error::Api(status))
                } else {
                    Ok(false)
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The Lease is ours, nobody's, or has not been renewed for as long as it says.
    fn may_take(&mut self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or("");
        if holder.is_empty() || holder == self.election.identity {
            return true;
        }
        let now = Instant::now();
        match &self.seen {
            Some(seen) if seen.spec == *spec => {
                let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                let ttl = seconds.map_or(self.election.ttl, Duration::from_secs).max(self.election.ttl);
                now.saturating_duration_since(seen.at) >= ttl
            }
            _ => {
                self.seen = Some(Seen { spec: spec.clone(), at: now });
                false
            }
        }
    }

    /// What this replica writes in place of what is there.
    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let seconds = self.election.ttl.as_secs().max(1);
        let before = before.unwrap_or_default();
        let is_ours = before.holder_identity.as_ref() == Some(&self.election.identity);
        let transitions = before.lease_transitions;
        let was_held = before.acquire_time.is_some();
        LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: if is_ours { before.acquire_time.or_else(|| now.clone()) } else { now.clone() },
            renew_time: now,
            lease_transitions: match transitions {
                Some(transitions) if is_ours => Some(transitions),
                Some(transitions) => Some(transitions.saturating_add(1)),
                None => Some(i32::from(was_held && !is_ours)),
            },
            ..LeaseSpec::default()
        }
    }

    /// Hands the Lease back.
    async fn resign(mut self) {
        let held = self.until.send_replace(None).is_some();
        self.activity.leads(&self.election.lease, false);
        if !held {
            return;
        }
        let patience = self.deadline().min(RELEASE);
        match tokio::time::timeout(patience, self.release()).await {
            Ok(Ok(true)) => tracing::info!(lease = self.election.lease, "the Lease is handed back"),
            Ok(Ok(false)) => tracing::info!(lease = self.election.lease, "the Lease is held by another"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the Lease is not handed back: another replica waits for its end")
            }
            Err(_) => {
                tracing::warn!("the Lease is not handed back in time: another replica waits for its end")
            }
        }
    }

    /// Whether it was ours to release.
    async fn release(&mut self) -> Result<bool, kube::Error> {
        let lease = match self.lease.take() {
            Some(lease) => Some(lease),
            None => self.leases.get_opt(&self.election.lease).await?,
        };
        let Some(mut lease) = lease else { return Ok(false) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.election.identity) {
            return Ok(false);
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        self.leases.replace(&self.election.lease, &PostParams::default(), &lease).await?;
        Ok(true)
    }
}

/// A part of a duration, by chance: replicas that were started together do not keep asking together.
fn jitter(most: Duration) -> Duration {
    // Each of these is seeded anew.
    let chance = RandomState::new().hash_one(0_u8);
    most.mul_f64((chance % 1000) as f64 / 1000.0)
}
