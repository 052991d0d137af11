//! The incremental protocol, seen by a client that is not Envoy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status;
use ingress_wasm_controller::xds::ResourceType::{self, Cluster, Endpoints, Extension, Listener};
use ingress_wasm_controller::xds::{Outcome, Publisher, Resource, ResourceSet, Server, XdsEvent};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// How long a message may take that has to come.
const PATIENCE: Duration = Duration::from_secs(10);

// === fixtures ===

struct Rig {
    publisher: Publisher,
    events: UnboundedReceiver<XdsEvent>,
    _server: Server,
    directory: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Rig {
        let directory = tempfile::tempdir().expect("made");
        let (publisher, events) = Publisher::new();
        let server = Server::start(&directory.path().join("xds.sock"), &publisher).expect("starts");
        Rig { publisher, events, _server: server, directory }
    }

    async fn connect(&self) -> Client {
        let address = format!("unix://{}", self.directory.path().join("xds.sock").display());
        let mut client = AggregatedDiscoveryServiceClient::connect(address).await.expect("connects");
        let (requests, stream) = mpsc::channel(16);
        let responses =
            client.delta_aggregated_resources(ReceiverStream::new(stream)).await.expect("a stream");
        Client { requests, responses: responses.into_inner(), _client: client }
    }

    /// A client that has taken `set`, which has one cluster at least.
    async fn settled(&self, set: ResourceSet) -> Client {
        let mut client = self.connect().await;
        let generation = self.publisher.publish(set.clone());
        client.subscribe(Cluster, &["*"]).await;
        client.take_in().await;
        for kind in [Endpoints, Extension] {
            let names: Vec<_> = set.of(kind).map(|resource| resource.name().to_string()).collect();
            if !names.is_empty() {
                client.subscribe(kind, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
                client.take_in().await;
            }
        }
        assert_eq!(self.outcome(generation).await, Outcome::Live);
        client
    }

    async fn outcome(&self, generation: ingress_wasm_controller::xds::Generation) -> Outcome {
        tokio::time::timeout(PATIENCE, self.publisher.outcome(generation)).await.expect("an outcome in time")
    }
}

struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    _client: AggregatedDiscoveryServiceClient<tonic::transport::Channel>,
}

impl Client {
    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.expect("connected");
    }

    async fn subscribe(&self, kind: ResourceType, names: &[&str]) {
        self.subscribe_holding(kind, names, &[]).await;
    }

    async fn subscribe_holding(&self, kind: ResourceType, names: &[&str], held: &[(&str, &str)]) {
        let text = |(name, version): &(&str, &str)| ((*name).to_owned(), (*version).to_owned());
        self.send(DeltaDiscoveryRequest {
            node: Some(Node { id: "client".to_owned(), ..Node::default() }),
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            initial_resource_versions: held.iter().map(text).collect::<HashMap<_, _>>(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    async fn unsubscribe(&self, kind: ResourceType, name: &str) {
        self.send(DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_unsubscribe: vec![name.to_owned()],
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// The next response, as text: `kind: +added=content… -removed…`.
    async fn next(&mut self) -> (String, DeltaDiscoveryResponse) {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        let response = next.expect("a response in time").expect("no error").expect("not the end");
        let kind = ResourceType::from_type_url(&response.type_url).expect("known");
        let mut text = format!("{kind}:");
        for resource in &response.resources {
            let content = resource.resource.as_ref().expect("there is content");
            text.push_str(&format!(" +{}={}", resource.name, String::from_utf8_lossy(&content.value)));
        }
        for name in &response.removed_resources {
            text.push_str(&format!(" -{name}"));
        }
        (text, response)
    }

    /// The next response, acknowledged.
    async fn take_in(&mut self) -> String {
        let (text, response) = self.next().await;
        self.answer(&response, None).await;
        text
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| Status {
                code: 3,
                message: message.to_owned(),
                ..Status::default()
            }),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// That nothing else was on its way: the answer to a question of no consequence comes next.
    async fn is_quiet(&mut self, marker: &str) {
        self.subscribe(Endpoints, &[marker]).await;
        assert_eq!(self.take_in().await, format!("endpoints: -{marker}"));
    }
}

fn set(resources: &[(ResourceType, &str, &str)]) -> ResourceSet {
    let mut set = ResourceSet::default();
    for (kind, name, content) in resources {
        let content = Any { type_url: kind.type_url().to_owned(), value: content.as_bytes().to_vec() };
        set.insert(*kind, Arc::new(Resource::new(*name, content)));
    }
    set
}

// === tests ===

#[tokio::test]
async fn a_client_that_asks_for_everything_is_answered_once_where_there_is_nothing() {
    let rig = Rig::start().await;
    rig.publisher.publish(set(&[]));
    let mut client = rig.connect().await;
    client.subscribe(Cluster, &["*"]).await;
    let (_, response) = client.next().await;
    assert!(response.resources.is_empty() && response.removed_resources.is_empty(), "{response:?}");
    client.answer(&response, None).await;
    client.is_quiet("nothing-else").await;
}

/// A server that was started anew: what a client holds is not taken away before there is something in its place.
#[tokio::test]
async fn a_client_keeps_what_it_holds_until_the_first_set_is_live() {
    let mut rig = Rig::start().await;
    let mut client = rig.connect().await;
    client.subscribe_holding(Cluster, &["*"], &[("old", "v")]).await;
    client.subscribe_holding(Extension, &["filter"], &[("filter", "v")]).await;
    // Anything that was said by now would come first.
    assert_eq!(rig.events.recv().await, Some(XdsEvent::Connected { node: "client".to_owned() }));

    let generation = rig.publisher.publish(set(&[(Cluster, "new", "1"), (Extension, "filter", "to new")]));
    assert_eq!(client.take_in().await, "cluster: +new=1", "and the old one stays");
    assert_eq!(client.take_in().await, "filter configuration: +filter=to new");
    assert_eq!(client.take_in().await, "cluster: -old");
    assert_eq!(rig.outcome(generation).await, Outcome::Live);
}

#[tokio::test]
async fn only_what_changed_is_sent() {
    let rig = Rig::start().await;
    let many: Vec<_> =
        ["a", "b", "c"].iter().flat_map(|name| [(Cluster, *name, "1"), (Endpoints, *name, "1")]).collect();
    let mut client = rig.settled(set(&many)).await;

    let mut changed = many.clone();
    changed[3] = (Endpoints, "b", "2");
    let generation = rig.publisher.publish(set(&changed));
    assert_eq!(client.take_in().await, "endpoints: +b=2");
    assert_eq!(rig.outcome(generation).await, Outcome::Live);

    let generation = rig.publisher.publish(set(&changed));
    assert_eq!(rig.outcome(generation).await, Outcome::Live, "the same again is live at once");
    client.is_quiet("marker").await;
}

#[tokio::test]
async fn a_cluster_that_changes_gets_its_endpoints_again() {
    let rig = Rig::start().await;
    let mut client = rig
        .settled(set(&[
            (Cluster, "a", "1"),
            (Endpoints, "a", "1"),
            (Cluster, "b", "1"),
            (Endpoints, "b", "1"),
        ]))
        .await;
    rig.publisher.publish(set(&[
        (Cluster, "a", "2"),
        (Endpoints, "a", "1"),
        (Cluster, "b", "1"),
        (Endpoints, "b", "1"),
    ]));
    assert_eq!(client.take_in().await, "cluster: +a=2");
    assert_eq!(client.take_in().await, "endpoints: +a=1");
}

#[tokio::test]
async fn makes_before_it_breaks() {
    let rig = Rig::start().await;
    let mut client = rig
        .settled(set(&[(Cluster, "old", "1"), (Endpoints, "old", "1"), (Extension, "filter", "to old")]))
        .await;

    let generation = rig.publisher.publish(set(&[
        (Cluster, "new", "1"),
        (Endpoints, "new", "1"),
        (Extension, "filter", "to new"),
    ]));
    assert_eq!(client.take_in().await, "cluster: +new=1");
    client.is_quiet("clusters are acknowledged, endpoints are not even asked for").await;
    client.subscribe(Endpoints, &["new"]).await;
    let (text, endpoints) = client.next().await;
    assert_eq!(text, "endpoints: +new=1");
    client.answer(&endpoints, None).await;
    let (text, filter) = client.next().await;
    assert_eq!(text, "filter configuration: +filter=to new");
    client.is_quiet("nothing is removed yet").await;
    client.answer(&filter, None).await;
    let removals = [client.take_in().await, client.take_in().await];
    assert_eq!(removals, ["cluster: -old", "endpoints: -old"]);
    assert_eq!(rig.outcome(generation).await, Outcome::Live);
}

#[tokio::test]
async fn a_refused_set_is_taken_back() {
    let mut rig = Rig::start().await;
    let mut client = rig
        .settled(set(&[(Cluster, "old", "1"), (Endpoints, "old", "1"), (Extension, "filter", "good")]))
        .await;

    let bad = set(&[(Cluster, "old", "1"), (Endpoints, "old", "2"), (Extension, "filter", "bad")]);
    let generation = rig.publisher.publish(bad.clone());
    assert_eq!(client.take_in().await, "endpoints: +old=2");
    let (text, response) = client.next().await;
    assert_eq!(text, "filter configuration: +filter=bad");
    client.answer(&response, Some("no good")).await;
    let Outcome::Rejected(rejections) = rig.outcome(generation).await else { panic!("not rejected") };
    let told: Vec<_> = rejections.iter().map(|refused| (refused.kind, &*refused.message)).collect();
    assert_eq!(told, [(Extension, "no good")]);
    assert_eq!(client.take_in().await, "filter configuration: +filter=good", "the last accepted version");
    loop {
        match rig.events.recv().await.expect("goes on") {
            XdsEvent::Rejected { node, rejection } => {
                assert_eq!((&*node, &*rejection.names), ("client", &["filter".to_owned()][..]));
                break;
            }
            XdsEvent::Connected { .. } | XdsEvent::Live(_) => {}
            other => panic!("{other:?}"),
        }
    }

    let generation = rig.publisher.publish(bad);
    assert!(matches!(rig.outcome(generation).await, Outcome::Rejected(_)), "known to be bad");
    client.is_quiet("it was not sent again, and the new endpoints stay").await;

    let generation = rig.publisher.publish(set(&[
        (Cluster, "old", "1"),
        (Endpoints, "old", "2"),
        (Extension, "filter", "better"),
    ]));
    assert_eq!(client.take_in().await, "filter configuration: +filter=better");
    assert_eq!(rig.outcome(generation).await, Outcome::Live);
}

#[tokio::test]
async fn of_several_only_the_blamed_one_is_refused() {
    let rig = Rig::start().await;
    let mut client = rig.settled(set(&[(Cluster, "a", "1")])).await;
    let generation =
        rig.publisher.publish(set(&[(Cluster, "a", "1"), (Cluster, "good", "1"), (Cluster, "bad", "1")]));
    let (text, response) = client.next().await;
    assert_eq!(text, "cluster: +bad=1 +good=1");
    client.answer(&response, Some("Error adding/updating cluster(s) bad: no such thing")).await;
    let Outcome::Rejected(rejections) = rig.outcome(generation).await else { panic!("not rejected") };
    assert_eq!(rejections.iter().map(|refused| refused.names.clone()).collect::<Vec<_>>(), [["bad"]]);
    assert_eq!(client.take_in().await, "cluster: +good=1", "it may have been lost with the other");
    assert_eq!(client.take_in().await, "cluster: -bad -good", "and is taken back with the set");

    let generation =
        rig.publisher.publish(set(&[(Cluster, "a", "1"), (Cluster, "good", "1"), (Cluster, "bad", "2")]));
    assert_eq!(client.take_in().await, "cluster: +bad=2 +good=1");
    assert_eq!(rig.outcome(generation).await, Outcome::Live);
}

#[tokio::test]
async fn the_latest_wins() {
    let rig = Rig::start().await;
    let mut client = rig.settled(set(&[(Cluster, "a", "1")])).await;
    let second = rig.publisher.publish(set(&[(Cluster, "a", "2"), (Cluster, "b", "1")]));
    let (text, response) = client.next().await;
    assert_eq!(text, "cluster: +a=2 +b=1");
    rig.publisher.publish(set(&[(Cluster, "a", "3")]));
    let fourth = rig.publisher.publish(set(&[(Cluster, "a", "4")]));
    client.answer(&response, None).await;
    let mut seen = Vec::new();
    while !seen.contains(&"cluster: -b".to_owned()) {
        seen.push(client.take_in().await);
    }
    assert!(seen.contains(&"cluster: +a=4".to_owned()), "{seen:?}");
    assert_eq!(rig.outcome(second).await, Outcome::Superseded);
    assert_eq!(rig.outcome(fourth).await, Outcome::Live);
}

#[tokio::test]
async fn who_comes_back_gets_only_what_it_lacks() {
    let rig = Rig::start().await;
    let first = set(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoints, "a", "1")]);
    drop(rig.settled(first.clone()).await);
    let version = |kind, name| first.get(kind, name).expect("there").version().to_string();

    rig.publisher.publish(set(&[(Cluster, "a", "1"), (Cluster, "c", "1"), (Endpoints, "a", "1")]));
    let mut client = rig.connect().await;
    let held = [("a", version(Cluster, "a")), ("b", version(Cluster, "b"))];
    client
        .subscribe_holding(Cluster, &["*"], &held.each_ref().map(|(name, version)| (*name, &**version)))
        .await;
    assert_eq!(client.take_in().await, "cluster: +c=1 -b");
    client.subscribe_holding(Endpoints, &["a"], &[("a", &version(Endpoints, "a"))]).await;
    client.is_quiet("endpoints are the same").await;
}

#[tokio::test]
async fn subscriptions() {
    let rig = Rig::start().await;
    rig.publisher.publish(set(&[
        (Cluster, "a", "1"),
        (Endpoints, "a", "1"),
        (Endpoints, "b", "1"),
        (Listener, "l", "1"),
    ]));
    let mut client = rig.connect().await;

    client.subscribe(Listener, &[]).await;
    assert_eq!(client.take_in().await, "listener: +l=1", "a first request without names asks for all");
    client.subscribe(Endpoints, &["a", "later"]).await;
    assert_eq!(client.take_in().await, "endpoints: +a=1 -later", "what does not exist is said not to");
    client.subscribe(Endpoints, &["a"]).await;
    assert_eq!(client.take_in().await, "endpoints: +a=1", "who asks again gets it again");
    client.unsubscribe(Endpoints, "a").await;
    client.subscribe(Cluster, &["a"]).await;
    assert_eq!(client.take_in().await, "cluster: +a=1", "by name, though most ask for all");

    rig.publisher.publish(set(&[
        (Cluster, "a", "1"),
        (Endpoints, "a", "2"),
        (Endpoints, "later", "1"),
        (Listener, "l", "1"),
    ]));
    assert_eq!(client.take_in().await, "endpoints: +later=1", "without the one that is not wanted any more");
    client.is_quiet("marker").await;
}
