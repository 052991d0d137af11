//! From HTTP requests to answers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use super::admission::{self, Change};
use super::discovery;
use super::failure::Failure;
use super::faults::{Answer, Asked, Away};
use super::objects::{self, Form, Patch, View, Write};
use super::query::{Query, percent_decoded};
use super::resources::{Named, Resource, Target, named};
use super::select::Selector;
use super::watch::{Initial, Watching};
use super::{Shared, State};

/// A body that may come bit by bit and break off.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How long a watch lasts for which nothing else is asked.
const WATCH: Duration = Duration::from_secs(45 * 60);

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The place where clients connect.
enum Door {
    Open(TcpListener),
    /// Nobody gets in. The port stays ours: a connection that somebody makes could be given it otherwise.
    Shut(TcpSocket),
    /// Neither, for as long as the port is not to be had.
    Gone,
}

impl Door {
    fn open(self, address: SocketAddr) -> Door {
        let opened = match self {
            Door::Open(listener) => return Door::Open(listener),
            Door::Shut(socket) => socket.listen(BACKLOG),
            Door::Gone => bind(address).and_then(|socket| socket.listen(BACKLOG)),
        };
        opened.map_or(Door::Gone, Door::Open)
    }

    fn shut(self, address: SocketAddr) -> Door {
        if let Door::Shut(socket) = self {
            return Door::Shut(socket);
        }
        drop(self);
        bind(address).map_or(Door::Gone, Door::Shut)
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self {
                Door::Open(listener) => match listener.accept().await {
                    Ok((stream, _)) => return stream,
                    // Too many open files, or a client that has gone already.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
                Door::Shut(_) | Door::Gone => std::future::pending().await,
            }
        }
    }
}

/// Holds a port without listening at it.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Answers until it is dropped; while it is away, nothing listens.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let Ok(address) = listener.local_addr() else { return };
    let mut door = Door::Open(listener);
    let mut away = shared.away.subscribe();
    loop {
        let refuses = *away.borrow_and_update() == Away::Refuse;
        door = if refuses { door.shut(address) } else { door.open(address) };
        let gone = matches!(door, Door::Gone);
        if !gone {
            shared.listens.send_replace(!refuses);
        }
        tokio::select! {
            changed = away.changed() => if changed.is_err() { return },
            () = sleep(Duration::from_millis(20)), if gone => {}
            accepted = door.accept() => {
                tokio::spawn(connection(Arc::clone(&shared), accepted));
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut cuts = shared.cuts.subscribe();
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = served => {}
        // Dropped without a word.
        _ = cuts.changed() => {}
    }
}

/// What a request comes to.
enum Outcome {
    Json(u16, Vec<u8>),
    Watch(Box<Watching>),
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let mut away = shared.away.subscribe();
    if away.wait_for(|away| *away != Away::Hang).await.is_err() {
        return failed(&Failure::new(503, "ServiceUnavailable", "the double has ended"));
    }
    let (parts, body) = request.into_parts();
    let query_text = parts.uri.query().unwrap_or_default().to_owned();
    let query = Query::new(&query_text);
    let accept = header(&parts.headers, "accept");
    let content = header(&parts.headers, "content-type");
    let authorization = header(&parts.headers, "authorization");
    let user = authorization.strip_prefix("Bearer ").unwrap_or_default().to_owned();
    let Ok(body) = body.collect().await else {
        return failed(&Failure::bad_request("the body broke off"));
    };
    let request = Asking { method: parts.method, query, accept, content, body: body.to_bytes() };
    let path = percent_decoded(parts.uri.path());
    let target = match named(&path) {
        Some(Named::Objects(target)) => target,
        Some(Named::Discovery(level)) => {
            return match discovery::document(&shared.lock(), &level) {
                Some(found) => json_answer(200, found.to_string().into_bytes()),
                None => failed(&Failure::no_resource()),
            };
        }
        None => return other(&path),
    };
    let verb = request.verb(&target);
    let noted = Asked {
        user: user.clone(),
        verb: verb.to_owned(),
        resource: if target.group.is_empty() {
            target.plural.clone()
        } else {
            format!("{}.{}", target.plural, target.group)
        },
        namespace: target.namespace.clone().unwrap_or_default(),
        name: target.name.clone().unwrap_or_default(),
        subresource: target.subresource.clone().unwrap_or_default(),
        metadata_only: request.form() == Form::Metadata,
    };
    let resource_name = noted.resource.clone();
    let fault = shared.lock().faults.ask(noted);
    let mut cut = None;
    let failure = match fault {
        None => None,
        Some(Answer::TooMany { seconds }) => {
            let mut failure =
                Failure::new(429, "TooManyRequests", "Too many requests, please try again later.");
            failure.retry_after = Some(seconds);
            Some(failure)
        }
        Some(Answer::Fail) => Some(Failure::new(500, "InternalError", "Internal error occurred: as ordered")),
        Some(Answer::Unavailable) => Some(Failure::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )),
        Some(Answer::Expired) => {
            let version = shared.lock().store.version();
            Some(Failure::expired(request.version().unwrap_or_default(), version))
        }
        Some(Answer::Forbidden) => Some(Failure::forbidden(
            verb,
            &resource_name,
            target.namespace.as_deref(),
            target.name.as_deref(),
        )),
        Some(Answer::Slow { milliseconds }) => {
            sleep(Duration::from_millis(milliseconds)).await;
            None
        }
        Some(Answer::Cut { bytes }) => {
            cut = Some(bytes);
            None
        }
    };
    if let Some(failure) = failure {
        return failed(&failure);
    }
    let (outcome, warnings) = match verb {
        "create" | "update" | "patch" | "delete" => {
            let reviewed = request.reviewed(shared, verb, &target, &user, &query_text).await;
            shared.announce();
            reviewed
        }
        _ => (request.answer(&mut shared.lock(), shared, verb, &target), Vec::new()),
    };
    if verb == "deletecollection" {
        shared.announce();
    }
    match outcome {
        Ok(Outcome::Json(code, text)) => match cut {
            None => warned(json_answer(code, text), &warnings),
            Some(bytes) => cut_answer(code, text, bytes),
        },
        Ok(Outcome::Watch(mut watching)) => {
            watching.cut = cut;
            let (sender, body) = Channel::new(64);
            tokio::spawn(watching.run(Arc::clone(shared), sender));
            response(200, body.boxed_unsync())
        }
        Err(failure) => failed(&failure),
    }
}

fn response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

/// An answer as a whole.
pub fn json_answer(code: u16, text: Vec<u8>) -> Response<Body> {
    response(code, Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync())
}

/// An answer with warnings, as clients print them.
fn warned(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = hyper::header::HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(hyper::header::WARNING, value);
        }
    }
    response
}

/// An answer that breaks off.
fn cut_answer(code: u16, mut text: Vec<u8>, bytes: usize) -> Response<Body> {
    text.truncate(bytes);
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let _ = sender.send_data(Bytes::from(text)).await;
        sleep(Duration::from_millis(20)).await;
        sender.abort(io::Error::from(io::ErrorKind::ConnectionReset));
    });
    response(code, body.boxed_unsync())
}

fn failed(failure: &Failure) -> Response<Body> {
    let mut answer = json_answer(failure.code, failure.status().to_string().into_bytes());
    if let Some(seconds) = failure.retry_after {
        answer.headers_mut().insert(hyper::header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// What is no API group.
fn other(path: &str) -> Response<Body> {
    match path {
        "/version" => {
            let version = json!({
                "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "clean",
                "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
            });
            json_answer(200, version.to_string().into_bytes())
        }
        "/healthz" | "/livez" | "/readyz" => json_answer(200, b"ok".to_vec()),
        _ => failed(&Failure::no_resource()),
    }
}

/// A request.
struct Asking {
    method: Method,
    query: Query,
    accept: String,
    content: String,
    body: Bytes,
}

impl Asking {
    fn verb(&self, target: &Target) -> &'static str {
        let watch = self.query.flag("watch");
        match (&self.method, &target.name) {
            (&Method::GET, None) if watch => "watch",
            (&Method::GET, None) => "list",
            (&Method::GET, Some(_)) => "get",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, Some(_)) => "delete",
            (&Method::DELETE, None) => "deletecollection",
            _ => "",
        }
    }

    /// The best of what the client takes. Tables are not made.
    fn form(&self) -> Form {
        let first = self.accept.split(',').next().unwrap_or_default();
        if first.contains("as=PartialObjectMetadata") { Form::Metadata } else { Form::Whole }
    }

    fn version(&self) -> Option<u64> {
        self.query.get("resourceVersion").and_then(|version| version.parse().ok())
    }

    fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::bad_request(format!(
                "the object provided is unrecognized: {error} (only JSON is understood)"
            ))
        })
    }

    /// Writes, once the webhooks that have a say in it have no objection. Gives their warnings as well.
    async fn reviewed(
        &self,
        shared: &Arc<Shared>,
        verb: &str,
        target: &Target,
        user: &str,
        query: &str,
    ) -> (Result<Outcome, Failure>, Vec<String>) {
        loop {
            let (change, hooks) = {
                let mut state = shared.lock();
                let services = shared.services();
                let change = self.change(&mut state, shared, verb, target, user, query);
                let hooks = match &change {
                    Ok(change) => admission::hooks(&state, &services, change),
                    // What fails anyway is nobody's concern.
                    Err(_) => Vec::new(),
                };
                match change {
                    Ok(change) if !hooks.is_empty() => (change, hooks),
                    _ => return (self.answer(&mut state, shared, verb, target), Vec::new()),
                }
            };
            let warnings = match admission::ask(&hooks, &change).await {
                Ok(warnings) => warnings,
                Err(failure) => return (Err(failure), Vec::new()),
            };
            let mut state = shared.lock();
            // What has changed meanwhile was not asked about.
            if live(&state, target) == change.old {
                return (self.answer(&mut state, shared, verb, target), warnings);
            }
        }
    }

    /// What a request comes to, without keeping it.
    fn change(
        &self,
        state: &mut State,
        shared: &Arc<Shared>,
        verb: &str,
        target: &Target,
        user: &str,
        query: &str,
    ) -> Result<Change, Failure> {
        let trial = Asking {
            method: self.method.clone(),
            query: Query::new(&format!("{query}&dryRun=All")),
            accept: String::new(),
            content: self.content.clone(),
            body: self.body.clone(),
        };
        let old = live(state, target);
        let Outcome::Json(_, text) = trial.answer(state, shared, verb, target)? else {
            return Err(Failure::no_resource());
        };
        let of_it = |resource: &&Resource| resource.group == target.group && resource.plural == target.plural;
        let resource = state.resources.iter().find(of_it).cloned().ok_or_else(Failure::no_resource)?;
        let operation = match (verb, &old) {
            ("delete", _) => "DELETE",
            (_, Value::Null) => "CREATE",
            _ => "UPDATE",
        };
        let object = match operation {
            "DELETE" => Value::Null,
            _ => serde_json::from_slice(&text).unwrap_or_default(),
        };
        let dry_run = self.query.get("dryRun").is_some();
        let (target, user) = (target.clone(), user.to_owned());
        Ok(Change { operation, resource, target, object, old, user, dry_run })
    }

    fn answer(
        &self,
        state: &mut State,
        shared: &Arc<Shared>,
        verb: &str,
        target: &Target,
    ) -> Result<Outcome, Failure> {
        let of_it = |resource: &&Resource| resource.group == target.group && resource.plural == target.plural;
        let resource = state.resources.iter().find(of_it).cloned().ok_or_else(Failure::no_resource)?;
        let scoped = resource.namespaced || target.namespace.is_none();
        let whole = target.name.is_none() || target.namespace.is_some() == resource.namespaced;
        if !resource.versions.contains(&target.version) || !scoped || !whole {
            return Err(Failure::no_resource());
        }
        if target.subresource.as_deref().is_some_and(|name| name != "status" || !resource.status) {
            return Err(Failure::no_resource());
        }
        let view = View {
            form: self.form(),
            api_version: resource.api_version(&target.version),
            kind: resource.kind.clone(),
        };
        let write = Write {
            dry_run: self.query.get("dryRun").is_some(),
            manager: self.query.get("fieldManager").map(str::to_owned),
            force: self.query.flag("force"),
        };
        let selector = Selector::new(
            &resource.name(),
            self.query.get("labelSelector"),
            self.query.get("fieldSelector"),
        )?;
        let json = |code, value: &Value| Ok(Outcome::Json(code, view.of(value).to_string().into_bytes()));
        match verb {
            "get" => json(200, &objects::get(state, &resource, target)?.value),
            "list" => self.list(state, &resource, target, &selector, &view),
            "watch" => self.watch(shared, &resource, target, selector, view),
            "create" if target.name.is_none() => {
                json(201, &objects::create(state, &resource, target, self.json()?, &write)?)
            }
            "update" if target.name.is_some() => {
                json(200, &objects::update(state, &resource, target, self.json()?, &write)?)
            }
            "patch" if target.name.is_some() => {
                let kind = match self.content.split(';').next().unwrap_or_default().trim() {
                    "application/merge-patch+json" | "application/strategic-merge-patch+json" => Patch::Merge,
                    "application/json-patch+json" => Patch::Operations,
                    "application/apply-patch+yaml" => Patch::Apply,
                    other => {
                        return Err(Failure::new(
                            415,
                            "UnsupportedMediaType",
                            format!("the body of the request was in an unknown format: {other}"),
                        ));
                    }
                };
                let there = objects::get(state, &resource, target).is_ok();
                let code = if there { 200 } else { 201 };
                json(code, &objects::patch(state, &resource, target, kind, &self.json()?, &write)?)
            }
            "delete" => {
                let options = if self.body.is_empty() { Value::Null } else { self.json()? };
                let outcome = objects::delete(state, &resource, target, &options, &write)?;
                Ok(Outcome::Json(200, outcome.to_string().into_bytes()))
            }
            "deletecollection" => {
                let gone = objects::delete_all(state, &resource, target, &selector, &write)?;
                let items = gone.iter().map(|object| &object.value);
                Ok(Outcome::Json(200, list_text(&view, items, &json!({}))))
            }
            _ => Err(Failure::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    fn list(
        &self,
        state: &mut State,
        resource: &Resource,
        target: &Target,
        selector: &Selector,
        view: &View,
    ) -> Result<Outcome, Failure> {
        let limit = self.query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(0);
        let newest = state.store.version();
        let (objects, version, after) = match self.query.get("continue") {
            Some(token) => {
                let (version, after) =
                    read_token(token).ok_or_else(|| Failure::bad_request("continue key is not valid"))?;
                let kept = state.store.kept(&resource.name(), version).ok_or_else(|| {
                    Failure::new(
                        410,
                        "Expired",
                        "The provided continue parameter is too old to display a consistent list result.",
                    )
                })?;
                (kept, version, Some(after))
            }
            None => {
                let asked = self.version().unwrap_or_default();
                if asked > newest {
                    let message = format!("Too large resource version: {asked}, current: {newest}");
                    return Err(Failure::new(504, "Timeout", message));
                }
                let exact = self.query.get("resourceVersionMatch") == Some("Exact");
                let nothing_since =
                    || state.store.since(&resource.name(), asked, 1).is_ok_and(|events| events.is_empty());
                if exact && !nothing_since() {
                    return Err(Failure::expired(asked, newest));
                }
                (state.store.objects(&resource.name()), newest, None)
            }
        };
        let mut page = Vec::new();
        let mut last = None;
        let mut more = 0;
        for (key, object) in objects.iter() {
            let here = target.namespace.as_ref().is_none_or(|namespace| *namespace == key.0);
            if !here || after.as_ref().is_some_and(|after| key <= after) || !selector.takes(&object.value) {
                continue;
            }
            if limit == 0 || page.len() < limit {
                page.push(&object.value);
                last = Some(key.clone());
            } else {
                more += 1;
            }
        }
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if more > 0 {
            state.store.keep(&resource.name(), version, &objects);
            metadata["continue"] = token(version, &last).into();
            metadata["remainingItemCount"] = more.into();
        }
        Ok(Outcome::Json(200, list_text(view, page.into_iter(), &metadata)))
    }

    fn watch(
        &self,
        shared: &Arc<Shared>,
        resource: &Resource,
        target: &Target,
        selector: Selector,
        view: View,
    ) -> Result<Outcome, Failure> {
        let asked = self.version();
        let bookmarks = self.query.flag("allowWatchBookmarks");
        let initial = match self.query.get("sendInitialEvents") {
            Some("true") => {
                if !shared.settings.streaming_lists {
                    return Err(Failure::invalid(
                        "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is \
                         forbidden for watch unless the WatchList feature gate is enabled",
                    ));
                }
                if self.query.get("resourceVersionMatch") != Some("NotOlderThan") {
                    return Err(Failure::invalid(
                        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                         sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    ));
                }
                if bookmarks { Initial::Marked } else { Initial::Yes }
            }
            _ if asked.unwrap_or_default() == 0 => Initial::Yes,
            _ => Initial::No,
        };
        let lasts = self.query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
        let lasts = lasts.filter(|seconds| *seconds > 0).map_or(WATCH, Duration::from_secs);
        Ok(Outcome::Watch(Box::new(Watching {
            resource: resource.name(),
            namespace: target.namespace.clone(),
            selector,
            view,
            version: asked.unwrap_or_default(),
            bookmarks,
            initial,
            end: Instant::now() + lasts,
            cut: None,
        })))
    }
}

/// The object that a request names, as it is now; null where there is none.
fn live(state: &State, target: &Target) -> Value {
    let of_it = |resource: &&Resource| resource.group == target.group && resource.plural == target.plural;
    let resource = state.resources.iter().find(of_it).filter(|_| target.name.is_some());
    let object = resource.and_then(|resource| objects::get(state, resource, target).ok());
    object.map(|object| object.value.clone()).unwrap_or_default()
}

/// A list. Written by hand, since thousands of objects are not copied for it.
fn list_text<'a>(view: &View, items: impl Iterator<Item = &'a Value>, metadata: &Value) -> Vec<u8> {
    let (kind, api_version) = match view.form {
        Form::Whole => (format!("{}List", view.kind), view.api_version.as_str()),
        Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
    };
    let mut text =
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[")
            .into_bytes();
    for (at, item) in items.enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend(view.of(item).to_string().into_bytes());
    }
    text.extend(b"]}");
    text
}

fn token(version: u64, last: &Option<(String, String)>) -> String {
    URL_SAFE_NO_PAD.encode(json!({"version": version, "last": last}).to_string())
}

fn read_token(token: &str) -> Option<(u64, (String, String))> {
    let token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let last = serde_json::from_value(token["last"].clone()).ok()?;
    Some((token["version"].as_u64()?, last))
}

fn header(headers: &hyper::HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
