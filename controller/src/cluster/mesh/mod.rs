//! The gateway of a mesh in place of an Envoy of our own: a translation becomes objects of Istio, and they are
//! written to the API server by the replica that leads.
//!
//! * `kinds`: which objects, and in which order; `union`: what is needed while one set follows another.
//! * `live`: our objects as the API server has them; `writer`: brings them to what is wanted.
//!
//! Deliberately knows nothing of how the objects are made, and of Ingresses.

mod kinds;
mod live;
#[cfg(test)]
mod tests;
mod union;
mod writer;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::{ObjectRef, Snapshot};
use ingress_wasm_translate::output::Translation;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::leader::Leadership;
use super::metrics::Metrics;
use super::readiness::{Accepted, Standing};
use crate::istio::{self, IstioError};
use kinds::Set;
pub use writer::Complaint;
use writer::Writer;

/// How the gateway is served.
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// The gateway, and what is written for it.
    pub istio: istio::Settings,
    /// How long the mesh may take until its gateways know of a change.
    pub settle: Duration,
}

/// What is wanted.
#[derive(Debug)]
struct Wanted {
    /// Later ones have higher numbers.
    number: u64,
    set: Set,
}

/// Where translations go.
pub struct Mesh {
    settings: istio::Settings,
    cache: istio::Cache,
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    written: watch::Receiver<u64>,
    complaints: watch::Receiver<Arc<Vec<Complaint>>>,
    task: JoinHandle<()>,
}

/// What the objects are written with.
pub struct Site<'a> {
    /// The client of the API server.
    pub client: &'a Client,
    /// The namespace and the name of the Lease: what tells this controller from others.
    pub owner: String,
    /// Whether this replica writes.
    pub leadership: Leadership,
    /// What is waited for before anything is translated.
    pub accepted: watch::Receiver<Result<Accepted, String>>,
    /// Told how it stands.
    pub standing: watch::Sender<Standing>,
    /// Told what happens.
    pub metrics: Arc<Metrics>,
}

impl Mesh {
    /// Begins to write what is published.
    pub fn start(settings: &MeshSettings, site: Site<'_>) -> Mesh {
        let (wanted, follow_wanted) = watch::channel(None);
        let (written, follow_written) = watch::channel(0);
        let (complain, complaints) = watch::channel(Arc::default());
        let writer = Writer::new(settings, site, follow_wanted, written, complain);
        let task = tokio::spawn(writer.run());
        Mesh {
            settings: settings.istio.clone(),
            cache: istio::Cache::default(),
            wanted,
            written: follow_written,
            complaints,
            task,
        }
    }

    /// Has the objects of a translation written. Gives what there is to say of them, and the number by which
    /// [`Mesh::written`] knows them; none where they are those that were wanted before.
    ///
    /// # Errors
    ///
    /// [`IstioError`]: what was wanted before still is.
    pub fn publish(
        &mut self,
        translation: &Translation,
        snapshot: &Snapshot,
    ) -> Result<(Vec<Diagnostic>, Option<u64>), IstioError> {
        let made = istio::objects(translation, snapshot, &self.settings, &mut self.cache)?;
        let set = kinds::set(made.objects);
        let number = {
            let held = self.wanted.borrow();
            match held.as_deref() {
                Some(held) if held.set == set => return Ok((made.diagnostics, None)),
                held => held.map_or(0, |held| held.number).saturating_add(1),
            }
        };
        self.wanted.send_replace(Some(Arc::new(Wanted { number, set })));
        Ok((made.diagnostics, Some(number)))
    }

    /// Waits until the objects are written. Others that were published later may have taken their place by then.
    pub fn written(&self, number: u64) -> impl Future<Output = ()> + Send + use<> {
        let mut written = self.written.clone();
        async move {
            if written.wait_for(|written| *written >= number).await.is_err() {
                // Nobody writes any more.
                std::future::pending().await
            }
        }
    }

    /// Waits for news of what the API server refuses.
    pub async fn complaint(&mut self) -> Arc<Vec<Complaint>> {
        if self.complaints.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        Arc::clone(&self.complaints.borrow_and_update())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What to say of what the API server refuses. `changed` are the objects that have changed since all was well.
pub fn diagnostics(complaints: &[Complaint], changed: &BTreeSet<ObjectRef>) -> Vec<Diagnostic> {
    let only = changed.first().filter(|_| changed.len() == 1);
    let diagnostic = |Complaint { object, message, remedy }: &Complaint| {
        let consequence =
            format!("{object} is not written: {message}; what was written before goes on serving");
        let diagnostic = Diagnostic::error("istio-refused", consequence).remedy(remedy);
        match only {
            Some(object) => diagnostic.object(object.clone(), None),
            None => diagnostic,
        }
    };
    complaints.iter().map(diagnostic).collect()
}
