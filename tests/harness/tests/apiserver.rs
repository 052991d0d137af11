//! The double of an API server, by a client that real ones are spoken to with.

use std::time::Duration;

use futures_util::StreamExt;
use ingress_wasm_tests::apiserver::ApiServer;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn client(server: &ApiServer) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("http://{}", server.address()).parse().expect("a URL");
    Client::try_from(Config::new(url)).expect("a client")
}

fn map(name: &str, value: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default",
        "labels": {"tier": value}}, "data": {"a": value}})
}

/// The next event, as kind and name; initial ones in lower case.
async fn next(events: &mut (impl StreamExt<Item = watcher::Result<Event<ConfigMap>>> + Unpin)) -> String {
    let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
    let name = |map: &ConfigMap| map.metadata.name.clone().unwrap_or_default();
    match event.expect("an event in time").expect("no end") {
        Ok(Event::Init) => "init".to_owned(),
        Ok(Event::InitApply(map)) => format!("has {}", name(&map)),
        Ok(Event::InitDone) => "done".to_owned(),
        Ok(Event::Apply(map)) => format!("apply {}={}", name(&map), map.data.unwrap_or_default()["a"]),
        Ok(Event::Delete(map)) => format!("delete {}", name(&map)),
        Err(error) => {
            format!("error {error}").split_inclusive("too old").next().unwrap_or_default().to_owned()
        }
    }
}

#[tokio::test]
async fn objects_are_written_and_read() {
    let server = ApiServer::start(0).expect("a server");
    let maps: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    let one: ConfigMap = serde_json::from_value(map("one", "1")).expect("a map");
    let made = maps.create(&PostParams::default(), &one).await.expect("created");
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let again = maps.create(&PostParams::default(), &one).await.expect_err("twice");
    assert!(again.to_string().contains("already exists"), "{again}");
    let patch = Patch::Merge(json!({"data": {"b": "2"}}));
    let patched = maps.patch("one", &PatchParams::default(), &patch).await.expect("patched");
    assert_eq!(patched.data.map(|data| data.len()), Some(2));
    let stale = maps.replace("one", &PostParams::default(), &made).await.expect_err("stale");
    assert!(matches!(stale, kube::Error::Api(ref status) if status.code == 409), "{stale}");
    let patch = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}}));
    maps.patch("two", &PatchParams::apply("test"), &patch).await.expect("applied");
    let names = |list: kube::core::ObjectList<ConfigMap>| -> Vec<String> {
        list.items.into_iter().filter_map(|map| map.metadata.name).collect()
    };
    let all = maps.list(&ListParams::default().limit(1)).await.expect("a page");
    let token = all.metadata.continue_.clone().expect("more");
    assert_eq!(names(all), ["one"]);
    let rest = maps.list(&ListParams::default().limit(1).continue_token(&token)).await.expect("a page");
    assert_eq!(names(rest), ["two"]);
    let labelled = maps.list(&ListParams::default().labels("tier in (1, 2)")).await.expect("a list");
    assert_eq!(names(labelled), ["one"]);
    let named = maps.list(&ListParams::default().fields("metadata.name=two")).await.expect("a list");
    assert_eq!(names(named), ["two"]);
    let metadata = maps.list_metadata(&ListParams::default()).await.expect("a list");
    let first: &PartialObjectMeta<ConfigMap> = &metadata.items[0];
    assert_eq!(first.metadata.name.as_deref(), Some("one"));
    maps.delete("one", &Default::default()).await.expect("deleted");
    assert!(maps.get_opt("one").await.expect("an answer").is_none());
    assert_eq!(server.requests()["get configmaps"], 1);
}

#[tokio::test]
async fn status_is_written_by_itself() {
    let server = ApiServer::start(0).expect("a server");
    server
        .apply("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec: {}\n")
        .expect("an Ingress");
    let ingresses: Api<Ingress> = Api::namespaced(client(&server), "default");
    let patch = Patch::Merge(
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, "spec": {"ingressClassName": "x"}}),
    );
    let found = ingresses.patch("a", &PatchParams::default(), &patch).await.expect("patched");
    assert!(found.status.is_none() && found.metadata.generation == Some(2), "{found:?}");
    let patch =
        Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, "spec": null}));
    let found = ingresses.patch_status("a", &PatchParams::default(), &patch).await.expect("patched");
    assert!(
        found.status.is_some() && found.spec.is_some() && found.metadata.generation == Some(2),
        "{found:?}"
    );
}

#[tokio::test]
async fn watches_see_changes_and_survive_faults() {
    for streaming in [false, true] {
        let server = ApiServer::start(0).expect("a server");
        server.put(map("old", "0")).expect("put");
        let maps: Api<ConfigMap> = Api::namespaced(client(&server), "default");
        let config = watcher::Config::default();
        let config = if streaming { config.streaming_lists() } else { config };
        let mut events = Box::pin(watcher::watcher(maps, config));
        for expected in ["init", "has old", "done"] {
            assert_eq!(next(&mut events).await, expected, "{streaming}");
        }
        server.put(map("new", "1")).expect("put");
        assert_eq!(next(&mut events).await, "apply new=1");
        server.put(map("new", "2")).expect("put");
        assert_eq!(next(&mut events).await, "apply new=2");
        assert!(server.delete(&format!("{MAPS}/old")));
        assert_eq!(next(&mut events).await, "delete old");
        // A watch that breaks is taken up where it was.
        server.drop_watches();
        server.put(map("new", "3")).expect("put");
        assert_eq!(next(&mut events).await, "apply new=3");
        // One that cannot be is begun anew.
        for other in ["one", "two"] {
            server.put(map("new", "4")).expect("put");
            assert_eq!(next(&mut events).await, "apply new=4");
            server.go_away();
            server.put(map(other, "5")).expect("put");
            server.forget_history();
            server.come_back();
            let mut seen = Vec::new();
            while seen.last().is_none_or(|last| last != "done") {
                seen.push(next(&mut events).await);
            }
            assert!(seen.iter().any(|event| *event == format!("has {other}")), "{streaming} {seen:?}");
            server.put(map("new", "6")).expect("put");
            assert_eq!(next(&mut events).await, "apply new=6");
        }
    }
}

#[tokio::test]
async fn it_goes_away_and_comes_back() {
    let server = ApiServer::start(0).expect("a server");
    let maps: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    maps.list(&ListParams::default()).await.expect("a list");
    server.go_away();
    // The connections are cut as soon as the server has heard of it.
    let gone = async { while maps.list(&ListParams::default()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("gone");
    server.come_back();
    let back = async { while maps.list(&ListParams::default()).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(30), back).await.expect("back");
}

#[tokio::test]
async fn refusals_are_those_of_a_server() {
    let server = ApiServer::start(0).expect("a server");
    let secrets: Api<Secret> = Api::all(client(&server));
    server.forbid("secrets");
    let error = secrets.list(&ListParams::default()).await.expect_err("forbidden");
    assert!(matches!(error, kube::Error::Api(ref status) if status.code == 403), "{error}");
    server.allow("secrets");
    secrets.list(&ListParams::default()).await.expect("allowed");
    server.fail(500, Duration::from_secs(60));
    let error = secrets.list(&ListParams::default()).await.expect_err("failing");
    assert!(matches!(error, kube::Error::Api(ref status) if status.code == 500), "{error}");
}
