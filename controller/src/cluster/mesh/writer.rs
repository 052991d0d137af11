//! Brings the objects of the gateway to what is wanted, as long as this replica leads.
//!
//! What the filter is to choose from comes before the filter, and goes after it: see [`super::union`]. Each object is
//! applied on the server's side under a field manager of ours, so that what others wrote into it stays theirs.
//! Only what differs is written: from what was applied last, by a hash that the object carries, or from what the API
//! server answered to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::Value;
use tokio::sync::watch;

use super::super::leader::Leadership;
use super::super::metrics::Metrics;
use super::super::pause::Pause;
use super::super::readiness::{Accepted, Standing};
use super::kinds::{Key, Kind, Set};
use super::live::{APPLIED, Found, Live, News, OWNER, api, hash, watch};
use super::union::union;
use super::{MeshSettings, Site, Wanted};
use crate::istio::{INSTANCE, MANAGED_BY, MANAGER};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause between two repairs of an object that somebody else changes again and again.
const FIGHT: Duration = Duration::from_secs(60);

/// After this long without a repair, the next one is the first again.
const PEACE: Duration = Duration::from_secs(300);

/// How long an answer to a write may be ahead of the watch.
const LATE: Duration = Duration::from_secs(30);

/// Something that the API server refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The object.
    pub object: String,
    /// Why.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// Why it is not done.
enum Failure {
    /// Not to be had by asking again.
    Refused(Vec<Complaint>),
    /// Maybe next time.
    Transient(String),
}

/// What was applied, and what came of it.
#[derive(Debug)]
struct Written {
    hash: String,
    content: Value,
    version: String,
    at: Instant,
}

/// How often an object was repaired.
#[derive(Debug)]
struct Repairs {
    count: u32,
    last: Instant,
}

impl Repairs {
    /// When it may be repaired again.
    fn next(&self) -> Instant {
        let pause = Duration::from_secs(1_u64 << self.count.min(6)).min(FIGHT);
        self.last + pause
    }
}

/// How an object differs from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    None,
    /// Something else is wanted than before.
    Wanted,
    /// Somebody else has changed or removed it.
    Drift,
}

/// What writes.
pub(super) struct Writer {
    client: Client,
    settings: MeshSettings,
    owner: String,
    kinds: BTreeSet<Kind>,
    leadership: Leadership,
    accepted: watch::Receiver<Result<Accepted, String>>,
    standing: watch::Sender<Standing>,
    metrics: Arc<Metrics>,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    told: watch::Sender<u64>,
    complain: watch::Sender<Arc<Vec<Complaint>>>,
    live: Live,
    written: BTreeMap<Key, Written>,
    repairs: BTreeMap<Key, Repairs>,
    /// What the filter chooses from; none: not known, so whatever is there.
    in_use: Option<Arc<Set>>,
    /// What filters before may still choose from, and until when.
    earlier: Vec<(Instant, Arc<Set>)>,
    /// When to look again, without news.
    again: Option<Instant>,
    /// Why not now, after a failure.
    pause: Pause,
    resting: Option<Instant>,
    /// Everything was as it should be once.
    good: bool,
    trouble: String,
}

impl Writer {
    pub fn new(
        settings: &MeshSettings,
        site: Site<'_>,
        wanted: watch::Receiver<Option<Arc<Wanted>>>,
        told: watch::Sender<u64>,
        complain: watch::Sender<Arc<Vec<Complaint>>>,
    ) -> Writer {
        let Site { client, owner, leadership, accepted, standing, metrics } = site;
        Writer {
            client: client.clone(),
            settings: settings.clone(),
            owner,
            kinds: BTreeSet::new(),
            leadership,
            accepted,
            standing,
            metrics,
            wanted,
            told,
            complain,
            live: Live::default(),
            written: BTreeMap::new(),
            repairs: BTreeMap::new(),
            in_use: None,
            earlier: Vec::new(),
            again: None,
            pause: Pause::default(),
            resting: None,
            good: false,
            trouble: "the objects of the gateway are not written yet".to_owned(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        self.kinds = self.kinds().await;
        self.live = Live::new(&self.kinds);
        let istio = &self.settings.istio;
        let mut news = watch(&self.client, &istio.namespace, &istio.name, &self.kinds, &self.metrics);
        loop {
            self.turn().await;
            self.tell();
            self.wait(&mut news).await;
        }
    }

    /// The kinds that are written, and the other one that could load the filter where the API server knows it: one
    /// that was written before has to go.
    async fn kinds(&self) -> BTreeSet<Kind> {
        use crate::istio::Api;

        let (mine, other) = match self.settings.istio.api {
            Api::WasmPlugin => (Kind::WasmPlugin, Kind::TrafficExtension),
            Api::TrafficExtension => (Kind::TrafficExtension, Kind::WasmPlugin),
        };
        let mut kinds: BTreeSet<Kind> = Kind::ALL.into_iter().filter(|kind| !kind.loads_filter()).collect();
        kinds.insert(mine);
        if !self.settings.istio.copy_secrets {
            kinds.remove(&Kind::Secret);
        }
        let resource = other.resource();
        let mut pause = Pause::default();
        loop {
            let known = self.client.list_api_group_resources(&resource.api_version);
            match tokio::time::timeout(PATIENCE, known).await {
                Ok(Ok(known)) => {
                    kinds.extend(
                        known.resources.iter().any(|known| known.kind == resource.kind).then_some(other),
                    );
                    return kinds;
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 403 => {
                    return kinds;
                }
                Ok(Err(error)) => tracing::debug!(%error, "the kinds of Istio are not known yet"),
                Err(_) => tracing::debug!("the kinds of Istio are not known yet: no answer in time"),
            }
            pause.wait().await;
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self, news: &mut (impl Stream<Item = News> + Unpin)) {
        let again = match (self.again, self.resting) {
            // What failed is not tried before its time, whatever happens meanwhile.
            (_, Some(rest)) => Some(rest),
            (again, None) => again,
        };
        tokio::select! {
            Some(one) = news.next() => {
                self.live.take(one);
                // What is there already is taken in at once.
                while let Some(Some(one)) = futures_util::FutureExt::now_or_never(news.next()) {
                    self.live.take(one);
                }
            }
            Ok(()) = self.wanted.changed() => {}
            Ok(()) = self.accepted.changed() => {}
            () = self.leadership.moved() => {}
            () = at(again), if again.is_some() => self.resting = None,
        }
    }

    /// One look at everything.
    async fn turn(&mut self) {
        if !self.leadership.holds() {
            // What others write meanwhile is not known.
            self.written.clear();
            self.repairs.clear();
            self.in_use = None;
            self.earlier.clear();
            self.again = None;
            self.complain(Vec::new());
            return;
        }
        let wanted = self.wanted.borrow_and_update().clone();
        let Some(wanted) = wanted else { return };
        if self.resting.is_some_and(|rest| Instant::now() < rest) {
            return;
        }
        if let Some((kind, forbidden)) = self.live.missing.first_key_value() {
            let watch = kind.watch(&self.settings.istio.namespace);
            self.trouble = if *forbidden {
                format!("{watch} may not be listed and watched: grant it in a Role there")
            } else {
                format!(
                    "{watch} are not listed yet{}",
                    if *kind == Kind::Secret { "" } else { ": is Istio installed?" }
                )
            };
            return;
        }
        let leadership = self.leadership.clone();
        match leadership.while_held(self.reconcile(&wanted)).await {
            None => {}
            Some(Ok(())) => {
                self.resting = None;
                self.pause = Pause::default();
                self.good = true;
                self.complain(Vec::new());
                self.told.send_if_modified(|told| std::mem::replace(told, wanted.number) != wanted.number);
            }
            Some(Err(failure)) => self.failed(failure),
        }
    }

    fn failed(&mut self, failure: Failure) {
        self.resting = Some(Instant::now() + self.pause.take());
        match failure {
            Failure::Refused(complaints) => {
                if let Some(Complaint { object, message, .. }) = complaints.first() {
                    self.trouble = format!("{object}: {message}");
                }
                self.complain(complaints);
            }
            Failure::Transient(error) => {
                if self.trouble != error {
                    tracing::warn!(
                        error,
                        "the objects of the gateway are not all written: it is tried again"
                    );
                }
                self.trouble = error;
            }
        }
    }

    fn complain(&self, complaints: Vec<Complaint>) {
        self.complain.send_if_modified(|held| {
            let news = **held != complaints;
            if news {
                *held = Arc::new(complaints);
            }
            news
        });
    }

    /// Says how it stands.
    fn tell(&self) {
        let standing = if self.wanted.borrow().is_none() {
            let waiting = self.accepted.borrow().as_ref().err().cloned();
            Standing::NotReady(waiting.unwrap_or_else(|| "nothing is translated yet".to_owned()))
        } else if self.leadership.holds() {
            if self.good { Standing::Ready } else { Standing::NotReady(self.trouble.clone()) }
        } else if self.leadership.is_elsewhere() {
            // Ready to take over: what another replica writes is none of its business.
            Standing::Ready
        } else {
            Standing::NotReady(format!("no replica is known to hold the Lease {}", self.owner))
        };
        self.metrics.ready.set(i64::from(standing == Standing::Ready));
        self.standing.send_if_modified(|held| {
            if *held == standing {
                return false;
            }
            match &standing {
                Standing::Ready => tracing::info!("ready"),
                Standing::NotReady(reason) => tracing::info!(reason, "not ready"),
            }
            *held = standing;
            true
        });
    }

    /// Brings everything to what is wanted.
    async fn reconcile(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let now = Instant::now();
        self.again = None;
        self.earlier.retain(|(until, _)| *until > now);
        let base = self.in_use.clone().unwrap_or_else(|| Arc::new(self.live.set()));
        let replaced = *base != wanted.set;
        let earlier: Vec<Arc<Set>> = self.earlier.iter().map(|(_, set)| Arc::clone(set)).collect();
        let besides = earlier.iter().chain(replaced.then_some(&base)).map(|set| &**set);
        let target = union(&wanted.set, besides);
        let (filter, rest): (Vec<_>, Vec<_>) = target.iter().partition(|(key, _)| key.kind.loads_filter());
        let mut added = false;
        let mut refused = Vec::new();
        for (key, object) in rest {
            match self.bring(key, object).await {
                Ok(changed) => added |= changed,
                // The others may be good: nothing makes use of them yet.
                Err(Failure::Refused(mut complaints)) => refused.append(&mut complaints),
                Err(failure) => return Err(failure),
            }
        }
        if !refused.is_empty() {
            return Err(Failure::Refused(refused));
        }
        for (key, object) in filter {
            let there = self.live.objects.contains_key(key);
            if added && there && self.differs(key, &hash(object), object) != Difference::None {
                tokio::time::sleep(self.settings.settle).await;
            }
            self.bring(key, object).await?;
        }
        if replaced {
            self.earlier.push((Instant::now() + self.settings.settle, base));
            self.in_use = Some(Arc::new(wanted.set.clone()));
        }
        self.prune(wanted).await?;
        let ends = self.earlier.iter().map(|(until, _)| *until).chain(self.again);
        self.again = ends.min();
        Ok(())
    }

    /// Removes what nothing makes use of any more, in reverse order.
    async fn prune(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let kept = |key: &Key| {
            // Two objects that load the filter would have it decide twice.
            wanted.set.contains_key(key)
                || !key.kind.loads_filter() && self.earlier.iter().any(|(_, set)| set.contains_key(key))
        };
        let ours = |found: &Found| found.owner.is_empty() || found.owner == self.owner;
        let gone = self.live.objects.iter().rev().filter(|(key, found)| !kept(key) && ours(found));
        let gone: Vec<(Key, Found)> = gone.map(|(key, found)| (key.clone(), found.clone())).collect();
        for (key, found) in gone {
            let api = api(&self.client, &self.settings.istio.namespace, &key.kind.resource());
            let preconditions =
                Preconditions { uid: Some(found.uid.clone()), resource_version: Some(found.version.clone()) };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            let outcome = match within(api.delete(&key.name, &params)).await {
                Ok(_) => Ok(()),
                Err(Error::Api(status)) if status.code == 404 => Ok(()),
                // It has changed since: the watch is about to tell.
                Err(Error::Api(status)) if status.code == 409 => {
                    Err(Failure::Transient(format!("{key} has changed meanwhile")))
                }
                Err(error) => Err(self.failure(&key, error)),
            };
            self.count(&key, if outcome.is_ok() { "deleted" } else { "failed" });
            outcome?;
            tracing::info!(object = %key, "removed");
            self.live.objects.remove(&key);
            self.written.remove(&key);
            self.repairs.remove(&key);
        }
        Ok(())
    }

    /// How an object differs from what it should be.
    fn differs(&self, key: &Key, hash: &str, target: &Value) -> Difference {
        let written = self.written.get(key).filter(|written| written.hash == hash);
        match (self.live.objects.get(key), written) {
            (None, Some(_)) => Difference::Drift,
            (None, None) => Difference::Wanted,
            (Some(found), Some(written)) => {
                let late = number(&found.version) < number(&written.version) && written.at.elapsed() < LATE;
                let same = found.applied == hash && found.content == written.content;
                if late || same { Difference::None } else { Difference::Drift }
            }
            (Some(found), None) => {
                let same = found.applied == hash && found.owner == self.owner && has(&found.content, target);
                if same { Difference::None } else { Difference::Wanted }
            }
        }
    }

    /// Brings one object to what it should be. Gives whether anything was to be done.
    async fn bring(&mut self, key: &Key, target: &Value) -> Result<bool, Failure> {
        let hash = hash(target);
        let difference = self.differs(key, &hash, target);
        match difference {
            Difference::None => return Ok(false),
            Difference::Wanted => {
                self.repairs.remove(key);
            }
            Difference::Drift => {
                let now = Instant::now();
                let repairs =
                    self.repairs.entry(key.clone()).or_insert(Repairs { count: 0, last: now - FIGHT });
                if now.duration_since(repairs.last) > PEACE {
                    repairs.count = 0;
                }
                let next = repairs.next();
                if next > now {
                    self.again = Some(self.again.map_or(next, |again| again.min(next)));
                    return Ok(false);
                }
                repairs.count = repairs.count.saturating_add(1);
                repairs.last = now;
                tracing::warn!(object = %key, "somebody else has changed this object of ours: it is written anew");
            }
        }
        let outcome = self.apply(key, target, &hash).await;
        self.count(
            key,
            match (&outcome, difference) {
                (Ok(()), Difference::Drift) => "repaired",
                (Ok(()), _) => "applied",
                (Err(Failure::Refused(_)), _) => "refused",
                (Err(Failure::Transient(_)), _) => "failed",
            },
        );
        outcome.map(|()| true)
    }

    async fn apply(&mut self, key: &Key, target: &Value, hash: &str) -> Result<(), Failure> {
        let api = api(&self.client, &self.settings.istio.namespace, &key.kind.resource());
        if !self.live.objects.contains_key(key) {
            // Not one with our labels: if there is one, it is somebody else's.
            match within(api.get_opt(&key.name)).await {
                Ok(None) => {}
                Ok(Some(object)) => {
                    let (_, found) = Found::read(key.kind, object);
                    if !self.is_labelled(&found) {
                        return Err(self.refused(
                            key,
                            "there is an object of that name that is not ours",
                            format!(
                                "rename one of them (--istio-name), or give it the labels {MANAGED_BY}={MANAGER} and \
                                 {INSTANCE}={} to have it taken over",
                                self.settings.istio.name
                            ),
                        ));
                    }
                    self.live.objects.insert(key.clone(), found);
                }
                Err(error) => return Err(self.failure(key, error)),
            }
        }
        let held = self.live.objects.get(key);
        if let Some(owner) =
            held.map(|found| &found.owner).filter(|owner| !owner.is_empty() && **owner != self.owner)
        {
            let message = format!("it is written by the controller that holds the Lease {owner}");
            let remedy = format!(
                "give each controller an --istio-name of its own, or remove the annotation {OWNER} where that one is \
                 there no more"
            );
            return Err(self.refused(key, &message, remedy));
        }
        let mut body = target.clone();
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".to_owned(), serde_json::json!({OWNER: self.owner, APPLIED: hash}));
        }
        // Fields of ours that others wrote into an object of ours are ours again; one that is new is not fought for.
        let params = PatchParams {
            force: held.is_some(),
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let answer = within(api.patch(&key.name, &params, &Patch::Apply(&body))).await;
        let (_, found) = Found::read(key.kind, answer.map_err(|error| self.failure(key, error))?);
        tracing::info!(object = %key, "applied");
        let written = Written {
            hash: hash.to_owned(),
            content: found.content.clone(),
            version: found.version.clone(),
            at: Instant::now(),
        };
        self.written.insert(key.clone(), written);
        self.live.objects.insert(key.clone(), found);
        Ok(())
    }

    fn is_labelled(&self, found: &Found) -> bool {
        let label = |name: &str| found.content["metadata"]["labels"].get(name).and_then(Value::as_str);
        label(MANAGED_BY) == Some(MANAGER) && label(INSTANCE) == Some(&self.settings.istio.name)
    }

    fn count(&self, key: &Key, outcome: &'static str) {
        self.metrics.activity.mesh_write(key.kind.name(), outcome);
    }

    fn refused(&self, key: &Key, message: &str, remedy: String) -> Failure {
        let object = format!("{} {}/{}", key.kind.name(), self.settings.istio.namespace, key.name);
        Failure::Refused(vec![Complaint { object, message: message.to_owned(), remedy }])
    }

    fn failure(&self, key: &Key, error: Error) -> Failure {
        match error {
            Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
                let remedy = match status.code {
                    403 => {
                        "grant get, list, watch, create, patch and delete of it in the gateway's namespace"
                    }
                    404 => "install Istio, and make the gateway's namespace",
                    409 => {
                        "let the field manager that is named give the field up, or rename the object (--istio-name)"
                    }
                    _ => {
                        "correct or remove the object that changed last, and report this: it should have been found before"
                    }
                };
                self.refused(key, &format!("{}: {}", status.code, status.message), remedy.to_owned())
            }
            Error::Api(status) => Failure::Transient(format!("{key}: {} {}", status.code, status.message)),
            Error::Other(error) => Failure::Transient(format!("{key}: {error}")),
        }
    }
}

/// Why a request failed.
enum Error {
    Api(Box<kube::core::Status>),
    Other(String),
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(Error::Api(status)),
        Ok(Err(error)) => Err(Error::Other(super::super::follow::causes(&error))),
        Err(_) => Err(Error::Other("no answer in time".to_owned())),
    }
}

/// Whether an object has everything that is wanted of it: the API server may have added to it.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| match found.get(name) {
                Some(found) => has(found, wanted),
                // What is null is not kept.
                None => wanted.is_null(),
            })
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| has(found, wanted))
        }
        (Value::Number(found), Value::Number(wanted)) => found == wanted || found.as_f64() == wanted.as_f64(),
        (found, wanted) => found == wanted,
    }
}

/// A version as a number: later ones are higher.
fn number(version: &str) -> u64 {
    version.parse().unwrap_or(u64::MAX)
}

async fn at(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment.into()).await;
    }
}
