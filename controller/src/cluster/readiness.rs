//! Whether every worker of Envoy serves a configuration: what `/readyz` says.
//!
//! Deliberately knows nothing of what is in a configuration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::metrics::Metrics;
use crate::admin;
use crate::envoy::Admin;
use crate::ready::Workers;
use crate::supervisor;

/// The pause between looks while it is not ready.
const SOON: Duration = Duration::from_millis(100);

/// The pause between looks while it is: Envoy may have been started anew.
const LATER: Duration = Duration::from_secs(2);

/// How long workers may take to serve what Envoy has accepted before it is looked whether they serve at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// A configuration that Envoy has accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Its generation.
    pub generation: Arc<str>,
    /// When the first change came that it has.
    pub since: Instant,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Every worker serves a configuration.
    Ready,
    /// Why not.
    NotReady(String),
}

/// Follows what the workers serve.
#[derive(Debug)]
pub struct Readiness {
    /// Where Envoy says how many workers there are.
    pub admin: Admin,
    /// The workers, as many as there may be.
    pub workers: Workers,
    /// What Envoy has accepted last, or what is waited for before the first.
    pub accepted: watch::Receiver<Result<Accepted, String>>,
    /// Told how it stands.
    pub standing: watch::Sender<Standing>,
    /// Told how long it took.
    pub metrics: Arc<Metrics>,
}

impl Readiness {
    /// Looks until nobody accepts anything any more.
    pub async fn run(mut self) {
        let mut confirmed: Option<Arc<str>> = None;
        let mut refused = None;
        loop {
            let accepted = self.accepted.borrow_and_update().clone();
            let fresh = match (self.supported(&mut refused).await, accepted) {
                (Err(reason), _) | (Ok(()), Err(reason)) => Err(reason),
                (Ok(()), Ok(accepted)) => {
                    let fresh = self.look(&accepted, &mut confirmed).await;
                    // Whoever is late serves the one before.
                    if fresh.is_err() { self.workers.serve_any().await } else { fresh }
                }
            };
            let pause = if fresh.is_ok() { LATER } else { SOON };
            self.tell(fresh);
            if let Ok(Err(_)) = tokio::time::timeout(pause, self.accepted.changed()).await {
                return;
            }
        }
    }

    /// Refuses an Envoy of a version that this program was not tried with, whatever it serves: what guards a
    /// backend may be a field that it does not know.
    async fn supported(&self, refused: &mut Option<String>) -> Result<(), String> {
        // One that is not there is told of by whoever asks next.
        let Ok(build) = admin::version(&self.admin).await else { return Ok(()) };
        let checked = supervisor::check_running(&build);
        let reason = checked.as_ref().err();
        if refused.as_ref() != reason {
            if let Some(reason) = reason {
                tracing::error!(version = build, "{reason}");
            }
            *refused = reason.cloned();
        }
        checked
    }

    /// Whether the workers serve what was accepted. Is given up when something else is accepted meanwhile.
    async fn look(&mut self, accepted: &Accepted, confirmed: &mut Option<Arc<str>>) -> Result<(), String> {
        let count = admin::concurrency(&self.admin).await;
        let count = count.map_err(|error| format!("Envoy's admin interface: {error}"))?;
        self.workers.set_count(count);
        if confirmed.as_ref() == Some(&accepted.generation) {
            return self.workers.serve_any().await;
        }
        let served = tokio::select! {
            served = self.workers.serve(&accepted.generation, PATIENCE) => served,
            _ = self.accepted.changed() => {
                self.accepted.mark_changed();
                return Err("another configuration has come".to_owned());
            }
        };
        served.map_err(|error| error.to_string())?;
        self.metrics.latency.observe(accepted.since.elapsed().as_secs_f64());
        self.metrics.outcome("live");
        *confirmed = Some(Arc::clone(&accepted.generation));
        Ok(())
    }

    fn tell(&self, fresh: Result<(), String>) {
        let standing = fresh.map_or_else(Standing::NotReady, |()| Standing::Ready);
        self.metrics.ready.set(i64::from(standing == Standing::Ready));
        self.standing.send_if_modified(|held| {
            let turned = (*held == Standing::Ready) != (standing == Standing::Ready);
            match &standing {
                Standing::Ready if turned => tracing::info!("ready: every worker of Envoy serves"),
                Standing::NotReady(reason) if turned => tracing::warn!(reason, "not ready"),
                _ => {}
            }
            let news = *held != standing;
            *held = standing;
            news
        });
    }
}
