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
use super::readiness::Standing;
use crate::admin;
use crate::envoy::Admin;

/// What the answers are made from.
#[derive(Debug, Clone)]
pub struct Operations {
    /// Whether every worker serves.
    pub standing: watch::Receiver<Standing>,
    /// The controller has been told to end: no more requests should come.
    pub ending: watch::Receiver<bool>,
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
            .route("/healthz", get(async || "ok\n"))
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
