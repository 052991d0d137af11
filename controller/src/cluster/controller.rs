//! The loop: what the watches tell is gathered, translated, published, and waited for.
//!
//! The first change after a pause is translated at once; while changes keep coming, a translation begins only
//! when the one before is accepted or refused, and [`Sink::interval`] after it began.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{future::Future, time::Duration};

use ingress_wasm_translate::diagnostic::{Diagnostic, Severity};
use ingress_wasm_translate::objects::ObjectRef;
use ingress_wasm_translate::output::Translation;
use tokio::sync::watch;

use super::follow::Watch;
use super::metrics::Metrics;
use super::quarantine::Quarantine;
use super::readiness::Accepted;
use super::served::Served;
use super::sink::{self, NotMade, Published as Made, Refusal, Sink, Verdict};
use super::store::{Changes, Store};
use super::watches::{News, Wanted, Watches};
use crate::xds::Rejection;

/// How long a change may wait for Secrets and ConfigMaps that it names and that are still to be fetched.
const FETCH_PATIENCE: Duration = Duration::from_secs(2);

/// How long what the API server says of Ingresses besides their content may wait: each status that is written comes
/// back by the watch, thousands in a row at times.
const TELLING: Duration = Duration::from_millis(300);

/// How many changes are taken in before it is looked whether to translate.
const BATCH: usize = 4096;

/// What the loop works with.
pub struct Controller {
    /// All objects.
    pub store: Store,
    /// Where changes come from.
    pub watches: Watches,
    /// Told which Secrets and ConfigMaps to fetch.
    pub wanted: watch::Sender<Arc<Wanted>>,
    /// Where translations go.
    pub sink: Sink,
    /// Told what Envoy has accepted.
    pub accepted: watch::Sender<Result<Accepted, String>>,
    /// Told what is served.
    pub served: watch::Sender<Served>,
    /// Told what happens.
    pub metrics: Arc<Metrics>,
}

/// A translation of which it is not known yet what becomes of it.
struct Published {
    translation: Arc<Translation>,
    since: Instant,
    at: Instant,
    /// What has changed since something was accepted.
    changes: Changes,
    verdict: Pin<Box<dyn Future<Output = Verdict> + Send>>,
}

/// The state of the loop.
struct Site {
    controller: Controller,
    /// Watches that have not listed everything yet.
    missing: BTreeSet<Watch>,
    /// When the first change came that is not translated yet.
    dirty: Option<Instant>,
    /// When the rest of the controller is to be told of what has not changed the translation.
    untold: Option<Instant>,
    /// When the last translation began.
    began: Option<Instant>,
    published: Option<Published>,
    /// What Envoy has accepted last.
    good: Option<Arc<Translation>>,
    said: BTreeSet<Diagnostic>,
    /// What the API server had to say of the last configuration.
    refused: Vec<Diagnostic>,
    /// What Envoy refuses, and what there is to say of it.
    quarantine: Quarantine,
    left_out: Vec<Diagnostic>,
    /// What had changed in what was refused.
    open: Changes,
    diagnostics: Vec<Diagnostic>,
    /// All of them, as others were told last, and as they were logged.
    told: Arc<Vec<Diagnostic>>,
    said_of: Option<Arc<Vec<Diagnostic>>>,
}

impl Controller {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let missing = self.watches.needed.union(&self.watches.optional).cloned().collect();
        let site = Site {
            controller: self,
            missing,
            dirty: Some(Instant::now()),
            untold: None,
            began: None,
            published: None,
            good: None,
            said: BTreeSet::new(),
            refused: Vec::new(),
            quarantine: Quarantine::default(),
            left_out: Vec::new(),
            open: Changes::new(),
            diagnostics: Vec::new(),
            told: Arc::default(),
            said_of: None,
        };
        site.run().await;
    }
}

impl Site {
    async fn run(mut self) {
        self.want();
        loop {
            let (due, untold) = (self.due(), self.untold);
            tokio::select! {
                biased;
                refusal = self.controller.sink.refusal() => self.refused(&refusal),
                verdict = verdict_of(&mut self.published) => self.verdict(verdict),
                () = at(due), if due.is_some() => self.translate(),
                () = at(untold), if untold.is_some() => self.tell(),
                news = self.controller.watches.news.recv() => match news {
                    Some(news) => self.take(news),
                    // The watches never end.
                    None => return,
                },
            }
        }
    }

    /// When the next translation is to begin; never as long as there is nothing to translate.
    fn due(&self) -> Option<Instant> {
        let dirty = self.dirty?;
        if !self.missing.is_empty() {
            return None;
        }
        let mut due = dirty;
        if self.controller.store.unanswered().is_some() {
            // At first, for as long as it takes: an Envoy may be serving what a controller before knew.
            self.began?;
            due = due.max(dirty + FETCH_PATIENCE);
        }
        if let Some(began) = self.began {
            due = due.max(began + self.controller.sink.interval());
        }
        if let Some(published) = &self.published {
            due = due.max(published.at + self.controller.sink.patience());
        }
        Some(due)
    }

    fn take(&mut self, news: News) {
        self.take_one(news);
        for _ in 0..BATCH {
            match self.controller.watches.news.try_recv() {
                Ok(news) => self.take_one(news),
                Err(_) => break,
            }
        }
        let changed = self.controller.store.changed();
        if changed.objects {
            self.dirty.get_or_insert_with(Instant::now);
        }
        if changed.wanted {
            self.want();
        }
        if changed.identities && !changed.objects && self.began.is_some() {
            self.untold.get_or_insert_with(|| Instant::now() + TELLING);
        }
        if self.good.is_none() {
            self.wait();
        }
    }

    /// Says what is waited for before anything can be served.
    fn wait(&self) {
        let reason = if let Some(watch) = self.missing.first() {
            let others = self.missing.len().saturating_sub(1);
            let others = if others == 0 { String::new() } else { format!(", nor {others} other kinds") };
            format!("{watch} are not listed yet{others}")
        } else if let (None, Some(object)) = (self.began, self.controller.store.unanswered()) {
            format!("{object} is not fetched yet")
        } else {
            "no configuration is accepted yet".to_owned()
        };
        self.controller.accepted.send_if_modified(|held| {
            let news = held.as_ref().err().is_none_or(|held| *held != reason);
            *held = Err(reason);
            news
        });
    }

    fn take_one(&mut self, news: News) {
        match &news {
            News::Listed(watch) => {
                self.missing.remove(watch);
                if self.missing.is_empty() && self.began.is_none() {
                    tracing::info!("all objects are listed");
                }
            }
            News::Forbidden(watch) if self.controller.watches.optional.contains(watch) => {
                // The rest works without.
                self.missing.remove(watch);
            }
            _ => {}
        }
        self.controller.store.take(news);
    }

    fn want(&self) {
        self.controller.wanted.send_replace(Arc::new(self.controller.store.wanted()));
    }

    fn translate(&mut self) {
        let Some(since) = self.dirty.take() else { return };
        let began = Instant::now();
        self.began = Some(began);
        // Other tasks go on meanwhile on other threads.
        let translation = tokio::task::block_in_place(|| self.controller.store.translate());
        if self.controller.store.changed().wanted {
            self.want();
        }
        let seconds = began.elapsed().as_secs_f64();
        self.controller.metrics.translations.observe(seconds);
        self.left_out = self.quarantine.diagnostics(&self.controller.store);
        self.controller.metrics.objects("refused", self.quarantine.len());
        if !self.quarantine.is_searching() {
            // Meanwhile it is of no interest that something lacks what is left out.
            self.diagnostics.clone_from(&translation.diagnostics);
            self.diagnostics.retain(|diagnostic| !self.quarantine.hides(diagnostic));
        }
        let before = self.published.as_ref().map(|published| &published.translation).or(self.good.as_ref());
        // After a refusal Envoy may hold endpoints of what it refused.
        let before = before.filter(|_| self.refused.is_empty() && self.quarantine.is_settled()).cloned();
        let view = self.controller.store.view();
        let sink = &mut self.controller.sink;
        let made =
            tokio::task::block_in_place(|| sink.publish(&translation, before.as_deref(), view.as_deref()));
        let Made { verdict, mut diagnostics } = match made {
            Ok(made) => made,
            Err(error) => {
                self.controller.metrics.outcome("invalid");
                match error {
                    NotMade::Said(diagnostic) => self.diagnostics.push(*diagnostic),
                    NotMade::Refused(rejection) => {
                        let changes = self.changes();
                        self.published = None;
                        self.rejected(&translation, changes, &[*rejection]);
                    }
                }
                self.say();
                self.tell();
                return;
            }
        };
        self.diagnostics.append(&mut diagnostics);
        self.say();
        let Some(verdict) = verdict else {
            self.controller.metrics.outcome("unchanged");
            tracing::debug!(seconds, "nothing that is served has changed");
            if self.published.is_none() {
                // It is as good as accepted.
                self.controller.store.changes();
                self.quarantine.proceed(&mut self.controller.store);
                self.dirty_if_changed();
            }
            self.tell();
            return;
        };
        tracing::info!(
            generation = translation.config.generation,
            hosts = translation.config.hosts.len(),
            clusters = translation.clusters.len(),
            seconds,
            "published"
        );
        if self.good.is_none() {
            self.wait();
        }
        let changes = self.changes();
        let since = self.published.as_ref().map_or(since, |published| published.since.min(since));
        let at = Instant::now();
        self.published = Some(Published { translation: Arc::new(translation), since, at, changes, verdict });
        self.tell();
    }

    /// What has changed since something was accepted.
    fn changes(&mut self) -> Changes {
        let mut changes = self.controller.store.changes();
        // Of several changes of one object, the first says what it was then.
        if let Some(published) = &mut self.published {
            changes.append(&mut published.changes);
        }
        changes.append(&mut self.open);
        changes
    }

    fn verdict(&mut self, verdict: Verdict) {
        let Some(published) = self.published.take() else { return };
        match verdict {
            Verdict::Live => {
                let generation: Arc<str> = published.translation.config.generation.as_str().into();
                tracing::info!(
                    generation = &*generation,
                    seconds = published.since.elapsed().as_secs_f64(),
                    "{}",
                    self.controller.sink.accepted()
                );
                self.controller.metrics.accepted.set(1);
                self.controller.metrics.activity.configured(&generation, true);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.controller.metrics.accepted_at.set(now.as_secs_f64());
                self.controller.metrics.objects("host", published.translation.config.hosts.len());
                self.controller.metrics.objects("cluster", published.translation.clusters.len());
                if !self.controller.sink.has_workers() {
                    self.controller.metrics.latency.observe(published.since.elapsed().as_secs_f64());
                    self.controller.metrics.outcome("live");
                }
                self.refused.clear();
                let is_whole = !self.quarantine.is_searching();
                self.quarantine.accepted(&mut self.controller.store);
                self.dirty_if_changed();
                if is_whole || self.good.is_some() {
                    let accepted = Accepted { generation, since: published.since };
                    let _ = self.controller.accepted.send_replace(Ok(accepted));
                }
                self.good = Some(published.translation);
            }
            Verdict::Refused(Refusal::Envoy(rejections)) => {
                self.controller.metrics.outcome("rejected");
                self.rejected(&published.translation, published.changes, &rejections);
            }
            Verdict::Refused(refusal) => {
                self.open = published.changes;
                self.refused(&refusal);
            }
            Verdict::Superseded => self.controller.metrics.outcome("superseded"),
        }
        self.tell();
    }

    /// Envoy refuses something: it is left out, or searched for.
    fn rejected(&mut self, translation: &Translation, changes: Changes, rejections: &[Rejection]) {
        self.controller.metrics.accepted.set(0);
        self.controller.metrics.activity.configured("", false);
        self.controller.sink.refused(rejections);
        let store = &mut self.controller.store;
        self.open = self.quarantine.refused(store, rejections, translation, changes);
        self.left_out = self.quarantine.diagnostics(store);
        self.dirty_if_changed();
        self.say();
    }

    fn dirty_if_changed(&mut self) {
        let changed = self.controller.store.changed();
        if changed.objects {
            self.dirty.get_or_insert_with(Instant::now);
        }
        if changed.wanted {
            self.want();
        }
    }

    /// The API server refuses something of what is published, which may be accepted yet; or nothing any more.
    fn refused(&mut self, refusal: &Refusal) {
        let published = self.published.as_ref().map(|published| published.changes.keys());
        let suspects: BTreeSet<ObjectRef> =
            published.into_iter().flatten().chain(self.open.keys()).cloned().collect();
        self.refused = sink::diagnostics(refusal, &suspects);
        if !self.refused.is_empty() {
            self.controller.metrics.outcome("rejected");
            self.controller.metrics.accepted.set(0);
            self.controller.metrics.activity.configured("", false);
        } else if self.good.is_some() {
            self.controller.metrics.accepted.set(1);
        }
        self.say();
        self.tell();
    }

    /// Everything there is to say: the same in memory as long as it is the same.
    fn whole_report(&mut self) -> Arc<Vec<Diagnostic>> {
        let all = || self.diagnostics.iter().chain(&self.refused).chain(&self.left_out);
        if !self.told.iter().eq(all()) {
            self.told = Arc::new(all().cloned().collect());
        }
        Arc::clone(&self.told)
    }

    /// Logs what is new among what there is to say.
    fn say(&mut self) {
        let now = self.whole_report();
        if self.said_of.as_ref().is_some_and(|before| Arc::ptr_eq(before, &now)) {
            return;
        }
        let all: BTreeSet<Diagnostic> = now.iter().cloned().collect();
        self.said_of = Some(now);
        for diagnostic in all.difference(&self.said) {
            say(diagnostic);
        }
        for (name, severity) in
            [("error", Severity::Error), ("warning", Severity::Warning), ("note", Severity::Note)]
        {
            let count = all.iter().filter(|diagnostic| diagnostic.severity == severity).count();
            self.controller.metrics.diagnostics(name, count);
        }
        self.said = all;
    }

    /// Tells the rest of the controller what is served.
    fn tell(&mut self) {
        self.untold = None;
        let ingresses = self.controller.store.identities();
        self.controller.metrics.objects("ingress", ingresses.len());
        let diagnostics = self.whole_report();
        let generation = self.good.as_ref().map_or("", |good| good.config.generation.as_str()).into();
        self.controller.served.send_replace(Served {
            ingresses,
            diagnostics,
            generation,
            view: self.controller.store.view(),
        });
    }
}

fn say(diagnostic: &Diagnostic) {
    let Diagnostic { severity, code, object, field, found, consequence, remedy, .. } = diagnostic;
    let object = object.as_ref().map(ToString::to_string);
    match severity {
        Severity::Error => tracing::error!(code, object, field, found, remedy, "{consequence}"),
        Severity::Warning => tracing::warn!(code, object, field, found, remedy, "{consequence}"),
        Severity::Note => tracing::debug!(code, object, field, found, remedy, "{consequence}"),
    }
}

/// What becomes of what is published; never, where nothing is.
async fn verdict_of(published: &mut Option<Published>) -> Verdict {
    match published {
        Some(published) => (&mut published.verdict).await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}
