//! The API server's double, as kube-rs sees it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use ingress_wasm_tests::apiserver::{Answer, ApiServer, Away, Rule, Settings};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// How long anything may take: what is not there by then does not come.
const SOON: Duration = Duration::from_secs(20);

fn client(server: &ApiServer) -> Result<Client, Box<dyn std::error::Error>> {
    Ok(Client::try_from(Config::new(server.url().parse()?))?)
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.data = Some(BTreeMap::from([("key".to_owned(), value.to_owned())]));
    map
}

fn put_maps(server: &ApiServer, number: usize) -> Result<(), String> {
    (0..number).try_for_each(|n| {
        server.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("map-{n:05}"), "namespace": "default", "labels": {"even": (n % 2 == 0).to_string()}},
        }))
    })
}

fn rule(verb: &str, times: u32, answer: Answer) -> Rule {
    Rule { verb: Some(verb.to_owned()), resource: None, namespace: None, times: Some(times), answer }
}

/// The code of the `Status` that a call was answered with.
fn code<T>(answer: Result<T, kube::Error>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(_) => 0,
    }
}

#[tokio::test]
async fn lists_in_pages_that_are_consistent() -> Outcome {
    let server = ApiServer::start()?;
    put_maps(&server, 1200)?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server)?);
    let mut found = 0;
    let first = maps.list(&ListParams::default().limit(500)).await?;
    assert_eq!(first.metadata.remaining_item_count, Some(700));
    let mut token = first.metadata.continue_.clone();
    found += first.items.len();
    // Comes too late for this list.
    maps.create(&PostParams::default(), &config_map("map-01100-more", "")).await?;
    while let Some(next) = token.filter(|token| !token.is_empty()) {
        let page = maps.list(&ListParams::default().limit(500).continue_token(&next)).await?;
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        found += page.items.len();
        token = page.metadata.continue_;
    }
    assert_eq!(found, 1200);
    let even = maps.list(&ListParams::default().labels("even=true")).await?;
    assert_eq!(even.items.len(), 600);
    let one = maps.list_metadata(&ListParams::default().fields("metadata.name=map-00007")).await?;
    assert_eq!((one.items.len(), one.items[0].name_any()), (1, "map-00007".to_owned()));
    server.compact();
    let late = ListParams::default().limit(500).continue_token(&first.metadata.continue_.unwrap_or_default());
    assert_eq!(code(maps.list(&late).await), 410, "{:?}", server.asked());
    Ok(())
}

type Events<K> = Pin<Box<dyn Stream<Item = Result<Event<K>, watcher::Error>> + Send>>;

/// The next thing that happened to an object, or that the watch failed.
async fn next(events: &mut Events<ConfigMap>) -> String {
    let waiting = async {
        loop {
            match events.next().await {
                Some(Ok(Event::Apply(map))) => {
                    return format!("{} {}", map.name_any(), map.data.unwrap_or_default()["key"]);
                }
                Some(Ok(Event::InitApply(map))) => return format!("there {}", map.name_any()),
                Some(Ok(Event::Delete(map))) => return format!("gone {}", map.name_any()),
                Some(Ok(Event::InitDone)) => return "listed".to_owned(),
                Some(Ok(Event::Init)) => {}
                Some(Err(watcher::Error::WatchError(status))) => return format!("failed {}", status.code),
                Some(Err(_)) => return "failed".to_owned(),
                None => return "ended".to_owned(),
            }
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| "nothing".to_owned())
}

async fn watches(config: watcher::Config, lists: u64) -> Outcome {
    let server = ApiServer::start()?;
    put_maps(&server, 2)?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server)?);
    let mut events: Events<ConfigMap> = Box::pin(watcher(maps.clone(), config));
    for expected in ["there map-00000", "there map-00001", "listed"] {
        assert_eq!(next(&mut events).await, expected);
    }
    maps.create(&PostParams::default(), &config_map("new", "1")).await?;
    assert_eq!(next(&mut events).await, "new 1");
    maps.patch("new", &PatchParams::default(), &Patch::Merge(json!({"data": {"key": "2"}}))).await?;
    assert_eq!(next(&mut events).await, "new 2");
    server.end_watches();
    maps.delete("new", &DeleteParams::default()).await?;
    assert_eq!(next(&mut events).await, "gone new", "goes on where it was");
    assert_eq!(server.count("list", "configmaps"), lists);
    server.expire_watches();
    let mut after = Vec::new();
    while after.last().is_none_or(|last| last != "listed" && last != "nothing") {
        after.push(next(&mut events).await);
    }
    assert_eq!(after, ["failed 410", "there map-00000", "there map-00001", "listed"]);
    assert_eq!(server.count("list", "configmaps"), 2 * lists);
    Ok(())
}

#[tokio::test]
async fn watches_after_a_list() -> Outcome {
    watches(watcher::Config::default(), 1).await
}

#[tokio::test]
async fn watches_with_a_streamed_list() -> Outcome {
    watches(watcher::Config::default().streaming_lists(), 0).await
}

#[tokio::test]
async fn refuses_streamed_lists_as_older_servers_do() -> Outcome {
    let server = ApiServer::start_with(Settings { streaming_lists: false, ..Settings::default() })?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server)?);
    let streamed = WatchParams::default().initial_events();
    assert_eq!(code(maps.watch(&streamed, "0").await.map(|_| ())), 422);
    Ok(())
}

#[tokio::test]
async fn a_watch_tells_what_was_asked_for_and_bookmarks() -> Outcome {
    let settings = Settings { bookmarks: Duration::from_millis(50), ..Settings::default() };
    let server = ApiServer::start_with(settings)?;
    put_maps(&server, 2)?;
    let client = client(&server)?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let start = maps.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let even = WatchParams::default().labels("even=true").timeout(30);
    let mut stream = Box::pin(maps.watch_metadata(&even, &start).await?);
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"even": value}}}));
    maps.patch("map-00001", &PatchParams::default(), &label("true")).await?;
    maps.patch("map-00000", &PatchParams::default(), &label("false")).await?;
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    let other = secrets.create(&PostParams::default(), &serde_json::from_value(other)?).await?;
    let (mut told, mut mark) = (Vec::new(), String::new());
    while mark != other.resource_version().unwrap_or_default() {
        match tokio::time::timeout(SOON, stream.try_next()).await?? {
            Some(WatchEvent::Added(object)) => told.push(format!("added {}", object.name_any())),
            Some(WatchEvent::Deleted(object)) => told.push(format!("gone {}", object.name_any())),
            Some(WatchEvent::Bookmark(bookmark)) => mark = bookmark.metadata.resource_version,
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    assert_eq!(told, ["added map-00001", "gone map-00000"]);
    Ok(())
}

#[tokio::test]
async fn writes_conflict_and_status_is_apart() -> Outcome {
    let server = ApiServer::start()?;
    let ingresses: Api<Ingress> = Api::default_namespaced(client(&server)?);
    let body = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
        "spec": {"ingressClassName": "nginx"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
    });
    let made: Ingress = ingresses.create(&PostParams::default(), &serde_json::from_value(body)?).await?;
    assert_eq!((made.metadata.generation, made.status.clone()), (Some(1), None));
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(code(ingresses.create(&PostParams::default(), &made).await), 409);
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let with_status = ingresses.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await?;
    assert_eq!(with_status.metadata.generation, Some(1));
    assert_eq!(code(ingresses.replace("web", &PostParams::default(), &made).await), 409, "an old version");
    let mut changed = with_status.clone();
    changed.spec.get_or_insert_default().ingress_class_name = Some("other".to_owned());
    changed.status = None;
    let changed = ingresses.replace("web", &PostParams::default(), &changed).await?;
    assert_eq!(changed.metadata.generation, Some(2));
    assert_eq!(changed.status, with_status.status, "only /status changes it");
    let again = ingresses.replace("web", &PostParams::default(), &changed).await?;
    assert_eq!(again.resource_version(), changed.resource_version(), "nothing has changed");
    let apply = |class: &str| {
        Patch::Apply(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"ingressClassName": class},
        }))
    };
    ingresses.patch("applied", &PatchParams::apply("one"), &apply("a")).await?;
    assert_eq!(code(ingresses.patch("applied", &PatchParams::apply("two"), &apply("b")).await), 409);
    ingresses.patch("applied", &PatchParams::apply("two").force(), &apply("b")).await?;
    assert_eq!(code(ingresses.get("none").await), 404);
    ingresses.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    assert!(server.list("ingresses.networking.k8s.io").is_empty());
    let elsewhere: Api<Ingress> = Api::namespaced(client(&server)?, "nowhere");
    let fresh = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"}});
    assert_eq!(code(elsewhere.create(&PostParams::default(), &serde_json::from_value(fresh)?).await), 404);
    Ok(())
}

#[tokio::test]
async fn discovery_knows_resources_and_those_that_are_defined() -> Outcome {
    let server = ApiServer::start()?;
    server.put(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1"}],
        },
    }))?;
    let client = client(&server)?;
    let discovery = kube::Discovery::new(client.clone()).run().await?;
    let thing = kube::api::GroupVersionKind::gvk("example.com", "v1", "Thing");
    let (resource, _) = discovery.resolve_gvk(&thing).ok_or("not discovered")?;
    let things: Api<kube::api::DynamicObject> = Api::default_namespaced_with(client, &resource);
    let made = kube::api::DynamicObject::new("one", &resource);
    things.create(&PostParams::default(), &made).await?;
    assert_eq!(things.list(&ListParams::default()).await?.items.len(), 1);
    Ok(())
}

#[tokio::test]
async fn goes_wrong_when_told() -> Outcome {
    let server = ApiServer::start()?;
    put_maps(&server, 3)?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server)?);
    let all = ListParams::default();
    for (answer, expected) in [
        (Answer::Fail, 500),
        (Answer::Expired, 410),
        (Answer::Forbidden, 403),
        (Answer::Cut { bytes: 40 }, 0),
        (Answer::Slow { milliseconds: 1 }, 200),
    ] {
        server.rule(rule("list", 1, answer.clone()));
        assert_eq!(code(maps.list(&all).await), expected, "{answer:?}");
        assert_eq!(code(maps.list(&all).await), 200, "only once");
    }
    server.rule(rule("watch", 1, Answer::Cut { bytes: 30 }));
    let mut cut = Box::pin(maps.watch(&WatchParams::default(), "0").await?);
    let first = tokio::time::timeout(SOON, cut.next()).await?;
    assert!(!matches!(first, Some(Ok(_))), "{first:?}");
    Ok(())
}

#[tokio::test]
async fn is_away_and_comes_back() -> Outcome {
    let server = ApiServer::start()?;
    let address = server.url().trim_start_matches("http://").to_owned();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server)?);
    let mut open = Box::pin(maps.watch(&WatchParams::default(), "0").await?);
    server.away(Away::Refuse);
    let end = tokio::time::timeout(SOON, open.next()).await?;
    assert!(!matches!(end, Some(Ok(_))), "the open watch is cut: {end:?}");
    tokio::time::timeout(SOON, async {
        while std::net::TcpStream::connect(&address).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    server.away(Away::No);
    tokio::time::timeout(SOON, async { while maps.list(&ListParams::default()).await.is_err() {} }).await?;
    server.away(Away::Hang);
    let before = server.count("list", "configmaps");
    let list = ListParams::default();
    let mut hanging = Box::pin(maps.list(&list));
    let soon = tokio::time::timeout(Duration::from_millis(100), &mut hanging).await;
    assert!(soon.is_err(), "nothing is answered");
    assert_eq!(server.count("list", "configmaps"), before);
    server.away(Away::No);
    assert!(tokio::time::timeout(SOON, hanging).await?.is_ok());
    Ok(())
}
