//! Tests of a watch, against a server that answers by a script.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::core::v1::Service;
use kube::api::ApiResource;
use kube::{Client, Config};
use serde_json::{Value, json};

use super::*;
use crate::cluster::raw::Raw;

/// One answer, and whether it is to a list or to a watch.
#[derive(Debug, Clone)]
enum Answer {
    /// These names, at this version.
    List(&'static [&'static str], u32),
    /// These events, after which the connection ends.
    Watch(Vec<Value>),
    /// A refusal of either.
    Refusal(u16, &'static str),
    /// The whole list in parts: this part, and whether another follows.
    Page(&'static [&'static str], bool),
}

type Script = Arc<Mutex<VecDeque<Answer>>>;

fn object(name: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "d", "resourceVersion": version.to_string()}})
}

fn event(kind: &str, name: &str, version: u32) -> Value {
    json!({"type": kind, "object": object(name, version)})
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
           "message": reason, "metadata": {}})
}

async fn answer(State(script): State<Script>, RawQuery(query): RawQuery) -> Response {
    let is_watch = query.unwrap_or_default().contains("watch=true");
    let next = script.lock().expect("not poisoned").pop_front();
    let list = |names: &[&str], metadata: Value| {
        let items: Vec<Value> = names.iter().map(|name| object(name, 1)).collect();
        axum::Json(json!({"metadata": metadata, "items": items})).into_response()
    };
    match (next, is_watch) {
        (None, _) => std::future::pending().await,
        (Some(Answer::List(names, version)), false) => {
            list(names, json!({"resourceVersion": version.to_string()}))
        }
        (Some(Answer::Page(names, more)), false) => {
            let more = if more { "more" } else { "" };
            list(names, json!({"resourceVersion": "9", "continue": more}))
        }
        (Some(Answer::Watch(events)), true) => {
            events.iter().map(|event| format!("{event}\n")).collect::<String>().into_response()
        }
        (Some(Answer::Refusal(code, reason)), _) => {
            let code_of = StatusCode::from_u16(code).expect("a status");
            (code_of, axum::Json(status(code, reason))).into_response()
        }
        (Some(answer), _) => panic!("watch: {is_watch}, but the script has {answer:?}"),
    }
}

/// What is told of a script, up to this many things.
async fn told(script: Vec<Answer>, count: usize) -> Vec<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let script: Script = Arc::new(Mutex::new(script.into()));
    let router = Router::new().fallback(answer).with_state(script);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = Config::new(format!("http://{address}").parse().expect("an address"));
    let client = Client::try_from(config).expect("a client");
    let resource = ApiResource::erase::<Service>(&());
    let api: Api<Raw> = Api::all_with(client, &resource);
    let watch = Watch { resource: "services".to_owned(), namespace: None, metadata_only: false };
    let mut seen = follow(api, watcher::Config::default(), watch, Arc::default());
    let mut told = Vec::new();
    while told.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), seen.recv()).await;
        let next = next.unwrap_or_else(|_| panic!("nothing more after {told:?}")).expect("it goes on");
        told.push(match next {
            Seen::There(object) => name_of(object.meta()).name,
            Seen::Gone(name) => format!("-{}", name.name),
            Seen::Listed => "listed".to_owned(),
            Seen::Forbidden => "forbidden".to_owned(),
        });
    }
    told
}

#[tokio::test]
async fn lists_and_follows() {
    let script = vec![
        Answer::Page(&["a"], true),
        Answer::Page(&["b"], false),
        Answer::Watch(vec![event("MODIFIED", "b", 10), event("DELETED", "a", 11)]),
        // The connection ended: it is followed on, not listed again.
        Answer::Watch(vec![event("ADDED", "c", 12)]),
    ];
    assert_eq!(told(script, 6).await, ["a", "b", "listed", "b", "-a", "c"]);
}

#[tokio::test]
async fn lists_anew_what_the_server_has_forgotten() {
    let gone = json!({"type": "ERROR", "object": status(410, "Expired")});
    let script = vec![
        Answer::List(&["a", "b"], 1),
        Answer::Watch(vec![event("MODIFIED", "a", 2), gone]),
        // What went meanwhile is told of.
        Answer::List(&["a"], 5),
        // Some servers say it before the watch begins.
        Answer::Refusal(410, "Expired"),
        Answer::List(&["c"], 7),
        Answer::Watch(vec![]),
    ];
    let expected = ["a", "b", "listed", "a", "a", "-b", "listed", "c", "-a", "listed"];
    assert_eq!(told(script, expected.len()).await, expected);
}

#[tokio::test]
async fn tries_again_what_fails() {
    let script = vec![
        Answer::Refusal(403, "Forbidden"),
        Answer::Refusal(500, "InternalError"),
        Answer::List(&["a"], 1),
        Answer::Refusal(500, "InternalError"),
        Answer::Watch(vec![event("ADDED", "b", 2)]),
    ];
    assert_eq!(told(script, 4).await, ["forbidden", "a", "listed", "b"]);
}
