//! The validating admission webhook: the API server asks before an Ingress is written.
//!
//! Whatever keeps an answer from being found, the Ingress is admitted with a warning: a cluster must not stand
//! still because a controller starts or is busy. What the API server does when nobody answers, its
//! `failurePolicy` says.
//!
//! Deliberately knows nothing of what is wrong with an Ingress, and of where certificates come from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::admission::{Question, Verdict, review};
use super::served::Receiver;

/// The largest review that is read: the object before and after, each of which may have 1.5 MiB in the store.
const BODY: usize = 8 << 20;

/// How long a review may take; API servers wait 10 s unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many reviews are under way at a time; others wait.
const PARALLEL: usize = 2;

/// How long a handshake may take, and how many may be under way.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HANDSHAKES: usize = 64;

/// How TLS is spoken; none as long as there is no certificate.
pub type Tls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// What answers are made from.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The objects that are served.
    pub served: Receiver,
    /// The only namespace whose Ingresses are served; none: all.
    pub namespace: Option<String>,
    /// Told what is decided.
    pub activity: Arc<Activity>,
}

#[derive(Debug, Clone)]
struct Site {
    webhook: Webhook,
    permits: Arc<Semaphore>,
}

impl Webhook {
    /// Answers on a bound socket until the process ends.
    pub fn serve(self, listener: TcpListener, tls: Tls) {
        let router = self.router();
        let (streams, accepted) = mpsc::channel(HANDSHAKES);
        let address = listener.local_addr();
        tokio::spawn(accept(listener, tls, streams));
        tokio::spawn(async move {
            let handshaken = Handshaken { accepted, address };
            if let Err(error) = axum::serve(handshaken, router).await {
                tracing::error!(%error, "the admission webhook answers no more");
            }
        });
    }

    fn router(self) -> Router {
        // At any path: those of ingress-nginx's chart and of ours differ.
        Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(BODY))
            .with_state(Site { webhook: self, permits: Arc::new(Semaphore::new(PARALLEL)) })
    }
}

/// Accepts connections; each handshake is a task of its own, so that none holds up another.
async fn accept(listener: TcpListener, tls: Tls, streams: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection to the webhook is not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Closed at once where there is no certificate yet: the API server need not wait to see that nobody answers.
        let Some(config) = tls.borrow().clone() else { continue };
        let streams = streams.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => {
                    let _ = streams.send((stream, peer)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a handshake with the webhook failed"),
                Err(_) => tracing::debug!(%peer, "a handshake with the webhook took too long"),
            }
        });
    }
}

/// Connections whose handshake is done.
struct Handshaken {
    accepted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: std::io::Result<SocketAddr>,
}

impl Listener for Handshaken {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // Nobody accepts any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
        }
    }
}

async fn answer(State(site): State<Site>, body: Bytes) -> Response {
    let began = Instant::now();
    let activity = Arc::clone(&site.webhook.activity);
    match Review::read(&body) {
        Ok(asked) => {
            let (decision, answer) = decide(&site, asked).await;
            activity.admission(decision, began.elapsed());
            axum::Json(answer).into_response()
        }
        Err(fault) => {
            activity.admission("unreadable", began.elapsed());
            (StatusCode::BAD_REQUEST, format!("{fault}\n")).into_response()
        }
    }
}

/// A review as the API server asks for it.
#[derive(Debug, Clone, PartialEq)]
struct Review {
    uid: String,
    /// What is to be looked at; none where anything goes.
    question: Option<(String, String, Value, Value)>,
    name: String,
}

impl Review {
    fn read(body: &[u8]) -> Result<Review, String> {
        let review: Value = serde_json::from_slice(body)
            .map_err(|error| format!("the body is no AdmissionReview in JSON: {error}"))?;
        let text = |pointer: &str| review.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/apiVersion") != "admission.k8s.io/v1" || text("/kind") != "AdmissionReview" {
            let found = format!("{} {}", text("/apiVersion"), text("/kind"));
            return Err(format!("admission.k8s.io/v1 AdmissionReview is expected, not {found:?}"));
        }
        let uid = text("/request/uid").to_owned();
        if uid.is_empty() {
            return Err("request.uid is missing".to_owned());
        }
        let (group, kind) = (text("/request/kind/group"), text("/request/kind/kind"));
        let is_ingress = kind == "Ingress" && matches!(group, "networking.k8s.io" | "extensions");
        let writes = matches!(text("/request/operation"), "CREATE" | "UPDATE");
        let is_whole = text("/request/subResource").is_empty();
        let field = |pointer: &str| review.pointer(pointer).cloned().unwrap_or(Value::Null);
        let question = (is_ingress && writes && is_whole).then(|| {
            (
                format!("{group}/{}", text("/request/kind/version")),
                text("/request/namespace").to_owned(),
                field("/request/object"),
                field("/request/oldObject"),
            )
        });
        let name = format!("{}/{}", text("/request/namespace"), text("/request/name"));
        Ok(Review { uid, question, name })
    }
}

async fn decide(site: &Site, asked: Review) -> (&'static str, Value) {
    let Review { uid, question, name } = asked;
    let Some((api_version, namespace, object, old)) = question else {
        return ("foreign", allowed(&uid, &[]));
    };
    let Some(view) = site.webhook.served.borrow().view.clone() else {
        let warning = "the ingress controller is starting: this Ingress is not checked".to_owned();
        return ("unchecked", allowed(&uid, &[warning]));
    };
    let question = Question { api_version, namespace, object, old };
    let watched = site.webhook.namespace.clone();
    let permits = Arc::clone(&site.permits);
    let work = async move {
        let permit = permits.acquire_owned().await.ok()?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            review(&view, watched.as_deref(), &question)
        })
        .await
        .ok()
    };
    let Ok(Some(verdict)) = tokio::time::timeout(PATIENCE, work).await else {
        tracing::warn!(ingress = name, "an Ingress is admitted unchecked: the review took too long");
        let warning = "the ingress controller is busy: this Ingress is not checked".to_owned();
        return ("unchecked", allowed(&uid, &[warning]));
    };
    match verdict {
        Verdict::Foreign => ("foreign", allowed(&uid, &[])),
        Verdict::Allowed(warnings) => {
            site.webhook.activity.checked(true);
            ("allowed", allowed(&uid, &warnings))
        }
        Verdict::Refused(message, warnings) => {
            site.webhook.activity.checked(false);
            tracing::info!(ingress = name, message, "an Ingress is refused");
            ("refused", refused(&uid, &message, &warnings))
        }
    }
}

fn allowed(uid: &str, warnings: &[String]) -> Value {
    response(json!({"uid": uid, "allowed": true}), warnings)
}

fn refused(uid: &str, message: &str, warnings: &[String]) -> Value {
    // As ingress-nginx says it.
    let status = json!({"status": "Failure", "code": 400, "reason": "BadRequest", "message": message});
    response(json!({"uid": uid, "allowed": false, "status": status}), warnings)
}

fn response(mut response: Value, warnings: &[String]) -> Value {
    if !warnings.is_empty() {
        response["warnings"] = warnings.into();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(change: impl FnOnce(&mut Value)) -> Value {
        let mut review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"},
                "operation": "CREATE", "namespace": "shop", "name": "a",
                "object": {"metadata": {"name": "a"}}, "oldObject": null,
            },
        });
        change(&mut review);
        review
    }

    fn read(review: &Value) -> Result<Review, String> {
        Review::read(review.to_string().as_bytes())
    }

    #[test]
    fn reviews_are_read() {
        let read_one = read(&review(|_| {})).expect("reads");
        let (api, namespace, object, old) = read_one.question.expect("a question");
        assert_eq!((api.as_str(), namespace.as_str()), ("networking.k8s.io/v1", "shop"));
        assert_eq!((object, old), (json!({"metadata": {"name": "a"}}), Value::Null));
        type Change = fn(&mut Value);
        let of_no_concern: [Change; 4] = [
            |review| review["request"]["operation"] = "DELETE".into(),
            |review| review["request"]["operation"] = "CONNECT".into(),
            |review| review["request"]["subResource"] = "status".into(),
            |review| review["request"]["kind"]["kind"] = "Service".into(),
        ];
        for change in of_no_concern {
            let review = review(change);
            assert_eq!(read(&review).expect("reads").question, None, "{review}");
        }
        let unreadable: [Change; 3] = [
            |review| review["apiVersion"] = "admission.k8s.io/v1beta1".into(),
            |review| review["request"]["uid"] = Value::Null,
            |review| review["request"] = json!([]),
        ];
        for change in unreadable {
            let review = review(change);
            assert!(read(&review).is_err(), "{review}");
        }
        for garbage in ["", "{", "[]", "null", "\u{0}"] {
            assert!(Review::read(garbage.as_bytes()).is_err(), "{garbage:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_held_up_while_starting() {
        let (_keep, served) = watch::channel(super::super::served::Served::default());
        let webhook = Webhook { served, namespace: None, activity: Arc::default() };
        let site = Site { webhook, permits: Arc::new(Semaphore::new(1)) };
        let asked = read(&review(|_| {})).expect("reads");
        let (decision, answer) = decide(&site, asked).await;
        assert_eq!(decision, "unchecked");
        assert_eq!(answer.pointer("/response/allowed"), Some(&Value::Bool(true)));
        assert_eq!(answer.pointer("/response/uid"), Some(&"u".into()));
        assert!(answer.pointer("/response/warnings/0").is_some(), "{answer}");
    }
}
