//! What feeds an Envoy: a translation is encoded, published by xDS and waited for until every worker serves it.
//!
//! Deliberately knows nothing of the Envoy process, of files and of Kubernetes.

use std::path::Path;
use std::time::Duration;

use ingress_wasm_translate::output::Translation;
use tokio::sync::mpsc;

use crate::envoy::{BuildError, ResourceBuilder};
use crate::ready::{NotReady, Workers};
use crate::xds::{Generation, Outcome, Publisher, Rejection, ResourceType, Server, ServerError, XdsEvent};

/// Why a translation is not live.
#[derive(Debug, thiserror::Error)]
pub enum NotLive {
    /// Envoy refused it; the one before goes on serving.
    #[error("refused by Envoy: {}", .0.iter().map(|refused| refused.message.as_str()).collect::<Vec<_>>().join("; "))]
    Rejected(Vec<Rejection>),
    /// Another was published meanwhile.
    #[error("superseded by a later configuration")]
    Superseded,
    /// Envoy does not take it in time.
    #[error("Envoy has not acknowledged it after {} ms", .0.as_millis())]
    Unacknowledged(Duration),
    /// Not every worker serves it in time.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

/// The xDS server of one Envoy, with what encodes translations for it.
#[derive(Debug)]
pub struct Feed {
    builder: ResourceBuilder,
    publisher: Publisher,
    server: Server,
}

impl Feed {
    /// Serves on a Unix socket that does not exist yet. Nothing is said to an Envoy that connects before
    /// something is published: what it may serve goes on being served.
    ///
    /// # Errors
    ///
    /// [`ServerError`] where the socket cannot be made.
    pub fn start(
        socket: &Path,
        builder: ResourceBuilder,
    ) -> Result<(Feed, mpsc::UnboundedReceiver<XdsEvent>), ServerError> {
        let (publisher, events) = Publisher::new();
        let server = Server::start(socket, &publisher)?;
        Ok((Feed { builder, publisher, server }, events))
    }

    /// Sends a translation on its way, in place of any that is not live yet.
    ///
    /// # Errors
    ///
    /// [`BuildError`]; nothing is published then.
    pub fn publish(&mut self, translation: &Translation) -> Result<Generation, BuildError> {
        let set = self.builder.build(translation)?;
        Ok(self.publisher.publish(set))
    }

    /// Takes in what Envoy refused, before what is published next.
    pub fn refused(&mut self, rejections: &[Rejection]) {
        let secrets = rejections.iter().filter(|rejection| rejection.kind == ResourceType::Secret);
        self.builder.refused(secrets.flat_map(|rejection| &rejection.names));
    }

    /// What tells what became of what was published.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Waits until a published translation is live: Envoy has acknowledged all of it and every worker serves
    /// the plugin configuration of this generation. Gives how long the workers took after that.
    ///
    /// # Errors
    ///
    /// [`NotLive`]. After `patience`, Envoy may still get there.
    pub async fn live(
        &self,
        workers: &mut Workers,
        published: Generation,
        translation: &Translation,
        patience: Duration,
    ) -> Result<Duration, NotLive> {
        let deadline = tokio::time::Instant::now() + patience;
        match tokio::time::timeout_at(deadline, self.publisher.outcome(published)).await {
            Ok(Outcome::Live) => {}
            Ok(Outcome::Rejected(rejections)) => return Err(NotLive::Rejected(rejections)),
            Ok(Outcome::Superseded | Outcome::Ended) => return Err(NotLive::Superseded),
            Err(_) => return Err(NotLive::Unacknowledged(patience)),
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        Ok(workers.serve(&translation.config.generation, left).await?)
    }

    /// Ends the server.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}
