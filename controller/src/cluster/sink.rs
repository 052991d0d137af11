//! Where translations go: to an Envoy by xDS, or to the gateway of a mesh as objects of Istio.
//!
//! Deliberately knows nothing of when something is translated.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::ObjectRef;
use ingress_wasm_translate::output::Translation;
use tokio::sync::mpsc;

use super::mesh::{self, Complaint, Mesh};
use super::metrics::Metrics;
use super::served::View;
use crate::envoy::FILTER;
use crate::feed::Feed;
use crate::istio::IstioError;
use crate::xds::{Outcome, Rejection, ResourceType, XdsEvent};

/// Where translations go.
pub enum Sink {
    /// To an Envoy.
    Envoy {
        /// By this server.
        feed: Box<Feed>,
        /// What it tells.
        events: mpsc::UnboundedReceiver<XdsEvent>,
        /// Told what happens.
        metrics: Arc<Metrics>,
    },
    /// To the API server.
    Mesh(Box<Mesh>),
}

/// What becomes of a translation.
#[derive(Debug)]
pub enum Verdict {
    /// It is served.
    Live,
    /// It is not, and never will be.
    Refused(Refusal),
    /// Another has taken its place.
    Superseded,
}

/// Who refuses what.
#[derive(Debug)]
pub enum Refusal {
    /// Envoy.
    Envoy(Vec<Rejection>),
    /// The API server.
    Api(Arc<Vec<Complaint>>),
}

/// A translation on its way.
pub struct Published {
    /// What becomes of it; none: it is served already.
    pub verdict: Option<Pin<Box<dyn Future<Output = Verdict> + Send>>>,
    /// What there is to say besides.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why a translation is not on its way: what is served stays.
#[derive(Debug)]
pub enum NotMade {
    /// There is this to say.
    Said(Box<Diagnostic>),
    /// The filter would refuse it, which is found out here already.
    Refused(Box<Rejection>),
}

impl Sink {
    /// The least time between the beginnings of two translations.
    pub fn interval(&self) -> Duration {
        match self {
            Sink::Envoy { .. } => Duration::from_millis(100),
            // Each write is sent to all gateways of the mesh.
            Sink::Mesh(_) => Duration::from_secs(1),
        }
    }

    /// How long a configuration may be without an answer before a later one takes its place.
    pub fn patience(&self) -> Duration {
        match self {
            Sink::Envoy { .. } => Duration::from_secs(5),
            // A replica that does not lead has none.
            Sink::Mesh(_) => Duration::from_secs(1),
        }
    }

    /// There are workers of which it is known what they serve.
    pub fn has_workers(&self) -> bool {
        matches!(self, Sink::Envoy { .. })
    }

    /// What to say when a configuration is accepted.
    pub fn accepted(&self) -> &'static str {
        match self {
            Sink::Envoy { .. } => "accepted by Envoy",
            Sink::Mesh(_) => "the objects of the gateway are written",
        }
    }

    /// Waits for something to be refused while it is on its way, or no longer to be. Logs what else there is to tell.
    pub async fn refusal(&mut self) -> Refusal {
        match self {
            Sink::Envoy { events, metrics, .. } => {
                while let Some(event) = events.recv().await {
                    log(&event, metrics);
                }
                std::future::pending().await
            }
            Sink::Mesh(mesh) => Refusal::Api(mesh.complaint().await),
        }
    }

    /// Takes in what Envoy refused, before what is published next.
    pub fn refused(&mut self, rejections: &[Rejection]) {
        if let Sink::Envoy { feed, .. } = self {
            feed.refused(rejections);
        }
    }

    /// Sends a translation on its way, in place of any that is not live yet. `before` is what is served.
    ///
    /// # Errors
    ///
    /// [`NotMade`]
    pub fn publish(
        &mut self,
        translation: &Translation,
        before: Option<&Translation>,
        view: Option<&View>,
    ) -> Result<Published, NotMade> {
        match self {
            Sink::Envoy { feed, .. } => {
                if before.is_some_and(|before| translation.serves_like(before)) {
                    return Ok(Published { verdict: None, diagnostics: Vec::new() });
                }
                let generation = feed
                    .publish(translation)
                    .map_err(|error| NotMade::Refused(Box::new(refused_by_filter(&error))))?;
                let publisher = feed.publisher().clone();
                let verdict = async move {
                    match publisher.outcome(generation).await {
                        Outcome::Live => Verdict::Live,
                        Outcome::Rejected(rejections) => Verdict::Refused(Refusal::Envoy(rejections)),
                        Outcome::Superseded | Outcome::Ended => Verdict::Superseded,
                    }
                };
                Ok(Published { verdict: Some(Box::pin(verdict)), diagnostics: Vec::new() })
            }
            Sink::Mesh(mesh) => {
                let snapshot = view.map(|view| Arc::clone(&view.snapshot)).unwrap_or_default();
                let (diagnostics, number) =
                    mesh.publish(translation, &snapshot).map_err(|error| match error {
                        IstioError::Refused(error) => NotMade::Refused(Box::new(refused_by_filter(&error))),
                        error => {
                            let consequence = format!("{error}; what was written before goes on serving");
                            NotMade::Said(Box::new(Diagnostic::error("istio-not-written", consequence)))
                        }
                    })?;
                let verdict = number.map(|number| -> Pin<Box<dyn Future<Output = Verdict> + Send>> {
                    let written = mesh.written(number);
                    Box::pin(async move {
                        written.await;
                        Verdict::Live
                    })
                });
                Ok(Published { verdict, diagnostics })
            }
        }
    }
}

/// The translator writes nothing that the filter refuses; if it does, nobody is served by it.
fn refused_by_filter(error: &dyn std::error::Error) -> Rejection {
    tracing::error!(%error, "no configuration can be made of the translation: what is served stays");
    Rejection {
        kind: ResourceType::Extension,
        names: vec![FILTER.to_owned()],
        by_name: false,
        message: error.to_string(),
    }
}

/// What to say of a refusal of the API server. `changed` are the objects that have changed since all was well.
pub fn diagnostics(refusal: &Refusal, changed: &BTreeSet<ObjectRef>) -> Vec<Diagnostic> {
    match refusal {
        Refusal::Envoy(_) => Vec::new(),
        Refusal::Api(complaints) => mesh::diagnostics(complaints, changed),
    }
}

fn log(event: &XdsEvent, metrics: &Metrics) {
    match event {
        XdsEvent::Connected { node } => {
            metrics.connected.inc();
            tracing::info!(node, "Envoy is connected");
        }
        XdsEvent::Disconnected { node } => {
            metrics.connected.dec();
            tracing::warn!(node, "Envoy is disconnected");
        }
        XdsEvent::Rejected { rejection, .. } => tracing::error!(
            kind = %rejection.kind,
            names = rejection.names.join(", "),
            message = rejection.message,
            "refused by Envoy"
        ),
        XdsEvent::Slow(generation) => {
            tracing::warn!(%generation, "Envoy takes long to acknowledge a configuration");
        }
        XdsEvent::Live(_) => {}
    }
}
