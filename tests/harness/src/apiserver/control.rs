//! The switches over HTTP, for those who run the double as a process of its own.
//!
//! | request | |
//! |---|---|
//! | `PUT /away` with `"no"`, `"refuse"` or `"hang"` | is away from now on, or back |
//! | `POST /watches/end`, `POST /watches/expire` | ends all watches, as they end by themselves or by 410 |
//! | `POST /compact` | forgets what happened |
//! | `POST /rules` with a rule, `DELETE /rules` | answers some requests otherwise |
//! | `GET /counts`, `GET /asked`, `DELETE /asked` | what was asked |
//! | `PUT /services` with `{"NAMESPACE/NAME": "ADDRESS:PORT"}` | where Services are that webhooks are reached by |
//! | `POST /objects` with a list of objects | puts them as they are |

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::faults::{Away, Rule};
use super::http::{Body, json_answer};
use super::{Shared, objects};

/// Answers until it is dropped.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, or a client that has gone already.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(&shared, request).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let outcome = match body.collect().await {
        Ok(body) => {
            let done = act(shared, &parts.method, parts.uri.path(), &body.to_bytes());
            settled(shared).await;
            done
        }
        Err(error) => Err(error.to_string()),
    };
    let (code, value) = match outcome {
        Ok(value) => (200, value),
        Err(error) => (400, json!({ "error": error })),
    };
    json_answer(code, value.to_string().into_bytes())
}

/// Waits until what was ordered is so: who is told that the double is back may connect at once.
async fn settled(shared: &Shared) {
    let mut listens = shared.listens.subscribe();
    // The sender lives as long as what is shared does.
    let as_ordered = |listens: &bool| *listens == (*shared.away.borrow() != Away::Refuse);
    let _ = listens.wait_for(as_ordered).await;
}

fn act(shared: &Shared, method: &Method, path: &str, body: &[u8]) -> Result<Value, String> {
    match (method, path) {
        (&Method::PUT, "/away") => shared.set_away(read::<Away>(body)?),
        (&Method::POST, "/watches/end") => shared.orders.send_modify(|orders| orders.ended += 1),
        (&Method::POST, "/watches/expire") => shared.expire_watches(),
        (&Method::POST, "/compact") => shared.lock().store.compact(),
        (&Method::POST, "/rules") => shared.lock().faults.add(read::<Rule>(body)?),
        (&Method::DELETE, "/rules") => shared.lock().faults.clear(),
        (&Method::GET, "/counts") => return Ok(json!(shared.lock().faults.counts())),
        (&Method::GET, "/asked") => {
            return Ok(shared.lock().faults.asked().map(|asked| json!(asked)).collect());
        }
        (&Method::DELETE, "/asked") => shared.lock().faults.forget(),
        (&Method::PUT, "/services") => *shared.services() = read(body)?,
        (&Method::POST, "/objects") => {
            for object in read::<Vec<Value>>(body)? {
                objects::put(&mut shared.lock(), object).map_err(|failure| failure.message)?;
            }
            shared.announce();
        }
        _ => return Err(format!("{method} {path} is no switch")),
    }
    Ok(json!({}))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}
