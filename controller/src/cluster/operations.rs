//! What probes and Prometheus ask: `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use super::metrics::Metrics;
use super::readiness::{Accepted, Standing};
use crate::admin;
use crate::envoy::Admin;

/// What the answers are made from.
#[derive(Debug, Clone)]
pub struct Operations {
    /// Whether every worker serves.
    pub standing: watch::Receiver<Standing>,
    /// The controller has been told to end: no more requests should come.
    pub ending: watch::Receiver<bool>,
    /// What Envoy has accepted; its sender lives as long as the loop that follows the objects.
    pub accepted: watch::Receiver<Result<Accepted, String>>,
    /// The controller's own metrics.
    pub metrics: Arc<Metrics>,
    /// Where Envoy's are; none: in the gateway of a mesh.
    pub admin: Option<Admin>,
    /// Held by who asks for those, one at a time.
    pub turn: Arc<Mutex<()>>,
}

impl Operations {
    /// Answers on a bound socket until the process ends.
    pub fn serve(self, listener: TcpListener) {
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self);
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "probes and metrics are answered no more");
            }
        });
    }
}

/// A socket for probes and metrics.
///
/// # Errors
///
/// Where the address cannot be had.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Whether a restart would help: where the loop that follows the objects is gone, what is served stays as it is for
/// good. Envoy, in its own container, goes on serving meanwhile.
async fn healthz(State(operations): State<Operations>) -> Response {
    if operations.accepted.has_changed().is_err() && !*operations.ending.borrow() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "objects are followed no more\n").into_response();
    }
    "ok\n".into_response()
}

async fn readyz(State(operations): State<Operations>) -> Response {
    let reason = if *operations.ending.borrow() {
        "the controller is ending".to_owned()
    } else {
        match &*operations.standing.borrow() {
            Standing::Ready => return "ok\n".into_response(),
            Standing::NotReady(reason) => reason.clone(),
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

/// The controller's metrics, and those of Envoy behind them.
async fn metrics(State(operations): State<Operations>) -> Response {
    let mut text = operations.metrics.text();
    if let Some(admin) = &operations.admin {
        // Envoy writes them on the thread that takes new configurations, and each cluster has dozens that most of
        // thousands never use.
        let _turn = operations.turn.lock().await;
        match admin::get(admin, "/stats/prometheus?usedonly").await {
            Ok(envoy) => text.push_str(&String::from_utf8_lossy(&envoy)),
            Err(error) => tracing::debug!(%error, "Envoy's metrics are missing"),
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn controller_without_its_loop_is_not_healthy() {
        let (accepted, follow_accepted) = watch::channel(Err("starting".to_owned()));
        let (ending, ends) = watch::channel(false);
        let (_standing, standings) = watch::channel(Standing::Ready);
        let operations = Operations {
            standing: standings,
            ending: ends,
            accepted: follow_accepted,
            metrics: Arc::default(),
            admin: None,
            turn: Arc::default(),
        };
        let status = async || healthz(State(operations.clone())).await.status();
        assert_eq!(status().await, StatusCode::OK);
        drop(accepted);
        assert_eq!(status().await, StatusCode::INTERNAL_SERVER_ERROR);
        // At the end the loop is stopped on purpose.
        ending.send_replace(true);
        assert_eq!(status().await, StatusCode::OK);
    }
}
