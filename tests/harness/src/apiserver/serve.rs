//! Requests of the API: list, watch, get, create, update, patch and delete, of any resource.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::address::{Address, Selector, parameter};
use super::store::{Key, Refusal, Wanted, merge};
use super::{Shared, put};

type Body = BoxBody<Bytes, Infallible>;

/// How often a watch that wants bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_millis(500);

/// How long a watch lasts that does not say.
const WATCH: Duration = Duration::from_secs(1800);

/// Serves one connection.
pub(super) async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return status(400, "BadRequest", "the body broke off") };
    let body = body.to_bytes();
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    match path {
        "/healthz" | "/livez" | "/readyz" => return text(200, "ok"),
        "/version" => return object(200, &json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})),
        _ => {}
    }
    if let Some(control) = path.strip_prefix("/double/") {
        return self::control(control, query, &body, shared);
    }
    let Some(address) = Address::parse(path) else { return status(404, "NotFound", "no such path") };
    let accept = head.headers.get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let metadata_only = accept.contains("as=PartialObjectMetadata");
    let watches = matches!(parameter(query, "watch").as_deref(), Some("1" | "true"));
    let verb = verb(&head.method, &address, watches);
    shared.count(format!("{verb} {}", address.resource()));
    if let Some(refused) = refused(shared, verb, &address) {
        return refused;
    }
    let dry = parameter(query, "dryRun").is_some();
    let content = head.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match verb {
        "watch" => watch(address, query, metadata_only, shared),
        "list" => list(&address, query, metadata_only, shared),
        "deletecollection" => delete_all(&address, query, shared),
        _ => {
            let outcome = one(verb, &address, content, &body, dry, shared);
            let created = verb == "create" && outcome.is_ok();
            match outcome {
                Ok(found) if metadata_only => object(200, &only_metadata(&found)),
                Ok(found) => object(if created { 201 } else { 200 }, &found),
                Err(refusal) => refuse(refusal, &address),
            }
        }
    }
}

fn verb(method: &Method, address: &Address, watches: bool) -> &'static str {
    match (method.as_str(), address.name.is_some()) {
        ("GET", _) if watches => "watch",
        ("GET", false) => "list",
        ("GET", true) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "deletecollection",
        ("DELETE", true) => "delete",
        _ => "unknown",
    }
}

/// What the faults of the moment make of a request.
fn refused(shared: &Shared, verb: &str, address: &Address) -> Option<Response<Body>> {
    let mut faults = shared.faults();
    if let Some((code, until)) = faults.failing {
        if Instant::now() < until {
            let mut answer = status(code, "InternalError", "it fails for a while");
            if code == 429 {
                answer.headers_mut().insert("retry-after", hyper::header::HeaderValue::from_static("1"));
            }
            return Some(answer);
        }
        faults.failing = None;
    }
    let resource = address.resource();
    faults.forbidden.contains(&resource).then(|| {
        let message =
            format!("{resource} is forbidden: User \"double\" cannot {verb} resource \"{}\"", address.plural);
        status(403, "Forbidden", &message)
    })
}

/// A request about one object.
fn one(
    verb: &str,
    address: &Address,
    content: &str,
    body: &[u8],
    dry: bool,
    shared: &Shared,
) -> Result<Value, Refusal> {
    let mut store = shared.store();
    let key = Key::new(
        address,
        address.namespace.as_deref().unwrap_or_default(),
        address.name.as_deref().unwrap_or_default(),
    );
    let parsed = || serde_json::from_slice::<Value>(body).map_err(|_| Refusal::Invalid);
    let is_status = address.subresource.as_deref() == Some("status");
    let done = match verb {
        "get" => store.get(&key).cloned().ok_or(Refusal::NotFound)?,
        "create" if dry => return parsed(),
        "create" => store.create(address, parsed()?)?,
        "delete" if dry => store.get(&key).cloned().ok_or(Refusal::NotFound)?,
        "delete" => store.delete(&key)?,
        "update" if dry => return parsed(),
        "update" => store.replace(&key, parsed()?, is_status)?,
        "patch" => {
            let patch = parsed()?;
            let before = store.get(&key).cloned();
            if before.is_none() && content.starts_with("application/apply-patch") {
                return store.create(address, patch).map(|made| (*made).clone());
            }
            let before = before.ok_or(Refusal::NotFound)?;
            let mut after = (*before).clone();
            // A patch is made from no version, unless it says so itself.
            after["metadata"].as_object_mut().ok_or(Refusal::Invalid)?.remove("resourceVersion");
            if content.starts_with("application/json-patch") {
                let steps =
                    serde_json::from_value::<json_patch::Patch>(patch).map_err(|_| Refusal::Invalid)?;
                json_patch::patch(&mut after, &steps).map_err(|_| Refusal::Invalid)?;
            } else {
                merge(&mut after, &patch);
            }
            if dry {
                return Ok(after);
            }
            store.replace(&key, after, is_status)?
        }
        _ => return Err(Refusal::Invalid),
    };
    Ok((*done).clone())
}

fn wanted(query: &str) -> Wanted {
    let selector = |name: &str| Selector::parse(&parameter(query, name).unwrap_or_default());
    Wanted { labels: selector("labelSelector"), fields: selector("fieldSelector") }
}

/// The kind of a resource's objects, from one of them, else from its plural.
fn kind(address: &Address, objects: &[Arc<Value>]) -> String {
    let known = objects.first().and_then(|object| object["kind"].as_str()).map(str::to_owned);
    known.unwrap_or_else(|| address.plural.clone())
}

fn list(address: &Address, query: &str, metadata_only: bool, shared: &Shared) -> Response<Body> {
    let store = shared.store();
    let all = store.list(address, &wanted(query));
    let version = store.version();
    drop(store);
    let number = |name: &str| parameter(query, name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let (limit, start) = (number("limit"), number("continue"));
    let page: Vec<Value> = all
        .iter()
        .skip(start)
        .take(if limit == 0 { usize::MAX } else { limit })
        .map(|found| if metadata_only { only_metadata(found) } else { bare(found) })
        .collect();
    let left = all.len().saturating_sub(start + page.len());
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if left > 0 {
        metadata["continue"] = json!((start + page.len()).to_string());
        metadata["remainingItemCount"] = json!(left);
    }
    let (api_version, kind) = if metadata_only {
        ("meta.k8s.io/v1", "PartialObjectMetadata".to_owned())
    } else {
        (&*address.api_version, kind(address, &all))
    };
    object(
        200,
        &json!({"apiVersion": api_version, "kind": format!("{kind}List"), "metadata": metadata, "items": page}),
    )
}

/// As objects are in a list: what they are, the list says.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn only_metadata(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

fn delete_all(address: &Address, query: &str, shared: &Shared) -> Response<Body> {
    let mut store = shared.store();
    for found in store.list(address, &wanted(query)) {
        let text = |name: &str| found["metadata"][name].as_str().unwrap_or_default().to_owned();
        let _ = store.delete(&Key::new(address, &text("namespace"), &text("name")));
    }
    drop(store);
    object(200, &json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}))
}

/// Answers with events, each a line, until the time is over or watches are ended.
fn watch(address: Address, query: &str, metadata_only: bool, shared: &Arc<Shared>) -> Response<Body> {
    let wanted = wanted(query);
    let from =
        parameter(query, "resourceVersion").and_then(|version| version.parse::<u64>().ok()).unwrap_or(0);
    let is = |name: &str| parameter(query, name).as_deref() == Some("true");
    let (initial, bookmarks) = (is("sendInitialEvents"), is("allowWatchBookmarks"));
    let time = parameter(query, "timeoutSeconds").and_then(|seconds| seconds.parse().ok());
    let end = tokio::time::Instant::now() + time.map_or(WATCH, Duration::from_secs);
    let too_old = from > 0 && !initial && shared.store().since(from).is_none();
    let (lines, received) = mpsc::channel::<Bytes>(64);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let shape = |object: &Value| if metadata_only { only_metadata(object) } else { object.clone() };
        if too_old {
            let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "too old resource version", "reason": "Expired", "code": 410});
            let _ = lines.send(line("ERROR", &gone)).await;
            return;
        }
        let dropped = shared.drop_watches.notified();
        tokio::pin!(dropped);
        dropped.as_mut().enable();
        let (mut news, mut seen, first) = {
            let store = shared.store();
            let all = if from == 0 || initial { store.list(&address, &wanted) } else { Vec::new() };
            let seen = if from == 0 || initial { store.version() } else { from };
            (store.news(), seen, all)
        };
        let kind = kind(&address, &first);
        let bookmark = |version: u64, ends: bool| {
            let annotations = if ends { json!({"k8s.io/initial-events-end": "true"}) } else { json!({}) };
            let (api_version, kind) = if metadata_only {
                ("meta.k8s.io/v1", "PartialObjectMetadata")
            } else {
                (&*address.api_version, &*kind)
            };
            let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
            line("BOOKMARK", &json!({"kind": kind, "apiVersion": api_version, "metadata": metadata}))
        };
        let mut batch: Vec<Bytes> = first.iter().map(|object| line("ADDED", &shape(object))).collect();
        if initial {
            batch.push(bookmark(seen, true));
        }
        let mut tick = tokio::time::interval(BOOKMARKS);
        loop {
            for event in batch.drain(..) {
                tokio::select! {
                    sent = lines.send(event) => if sent.is_err() { return },
                    () = &mut dropped => return,
                }
            }
            let is_bookmark = tokio::select! {
                changed = news.wait_for(|version| *version > seen) => match changed {
                    Ok(_) => false,
                    Err(_) => return,
                },
                _ = tick.tick(), if bookmarks => true,
                () = &mut dropped => return,
                () = tokio::time::sleep_until(end) => return,
                () = lines.closed() => return,
            };
            let store = shared.store();
            let Some(changes) = store.since(seen) else { return };
            for change in changes {
                let event = change.event(&address, address.namespace.as_deref(), &wanted);
                batch.extend(event.map(|(kind, object)| line(kind, &shape(object))));
            }
            seen = store.version();
            drop(store);
            if is_bookmark {
                batch.push(bookmark(seen, false));
            }
        }
    });
    let mut received = received;
    let events = futures_util::stream::poll_fn(move |context| {
        received.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    });
    reply(200, "application/json", StreamBody::new(events).boxed())
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

fn refuse(refusal: Refusal, address: &Address) -> Response<Body> {
    let name = address.name.as_deref().unwrap_or_default();
    let what = format!("{} \"{name}\"", address.resource());
    match refusal {
        Refusal::NotFound => status(404, "NotFound", &format!("{what} not found")),
        Refusal::AlreadyExists => status(409, "AlreadyExists", &format!("{what} already exists")),
        Refusal::Conflict => status(409, "Conflict", &format!("{what}: the object has been modified")),
        Refusal::Invalid => status(422, "Invalid", &format!("{what} is invalid")),
    }
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    object(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code}),
    )
}

fn object(code: u16, object: &Value) -> Response<Body> {
    reply(code, "application/json", Full::new(Bytes::from(object.to_string())).boxed())
}

fn text(code: u16, text: &'static str) -> Response<Body> {
    reply(code, "text/plain", Full::new(Bytes::from(text)).boxed())
}

fn reply(code: u16, kind: &str, body: Body) -> Response<Body> {
    let made = Response::builder().status(code).header("content-type", kind).body(body);
    made.unwrap_or_else(|_| Response::new(Full::default().boxed()))
}

/// What a program of its own tells the double, since it cannot call it.
fn control(what: &str, query: &str, body: &[u8], shared: &Arc<Shared>) -> Response<Body> {
    let number = |name: &str| parameter(query, name).and_then(|text| text.parse::<u64>().ok());
    match what {
        "objects" => {
            let Ok(Value::Array(objects)) = serde_json::from_slice(body) else {
                return status(400, "BadRequest", "an array of objects is wanted");
            };
            let mut store = shared.store();
            for object in objects {
                if let Err(error) = put(&mut store, object) {
                    return status(400, "BadRequest", &error);
                }
            }
        }
        "away" => {
            let time = Duration::from_millis(number("ms").unwrap_or(1000));
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                // The answer goes out first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                shared.open.send_replace(false);
                tokio::time::sleep(time).await;
                shared.open.send_replace(true);
            });
        }
        "drop-watches" => shared.drop_watches.notify_waiters(),
        "forget-history" => {
            shared.store().forget_history();
            shared.drop_watches.notify_waiters();
        }
        "fail" => {
            let time = Duration::from_millis(number("ms").unwrap_or(1000));
            let code = number("status").and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            shared.faults().failing = Some((code, Instant::now() + time));
        }
        "requests" => {
            let counts = shared.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            return object(200, &json!(counts));
        }
        _ => return status(404, "NotFound", "no such control"),
    }
    object(200, &json!({}))
}
