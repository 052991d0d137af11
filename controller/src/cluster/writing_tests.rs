//! Tests of what is written to an API server, against a double of one: the Lease, status, Events, the certificate
//! of the webhook and what the webhook answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingress_wasm_tests::apiserver::ApiServer;
use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::{Kind, ObjectName, ObjectRef};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::StatusSettings;
use super::activity::Activity;
use super::addresses::OwnPod;
use super::events::Events;
use super::leader::{self, Candidate, Election, Leadership};
use super::raw::Identity;
use super::served::Served;
use super::status::{Status, Writer};

/// Long enough for a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

const TTL: Duration = Duration::from_secs(4);

struct Double {
    // Ends when it is dropped.
    _server: ApiServer,
    address: SocketAddr,
}

impl Double {
    fn start() -> Double {
        let server = ApiServer::start().expect("a double");
        for name in ["edge", "shop"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            server.put(namespace).expect("a namespace");
        }
        let address = server.url().trim_start_matches("http://").parse().expect("an address");
        Double { address, _server: server }
    }

    fn client(&self) -> Client {
        client(self.address)
    }
}

fn client(address: SocketAddr) -> Client {
    let config = Config::new(format!("http://{address}").parse().expect("an address"));
    Client::try_from(config).expect("a client")
}

fn stand(client: &Client, identity: &str) -> (Leadership, Candidate) {
    let election = Election {
        namespace: "edge".to_owned(),
        lease: "leader".to_owned(),
        identity: identity.to_owned(),
        ttl: TTL,
    };
    leader::stand(client, election, Arc::default())
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what}: waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn resign(candidate: Candidate) {
    tokio::time::timeout(PATIENCE, candidate.resign()).await.expect("it ends");
}

async fn finish(writer: Writer, candidate: Candidate) {
    tokio::time::timeout(PATIENCE, writer.finish()).await.expect("it ends");
    resign(candidate).await;
}

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("of this kind")
}

fn namespaced<T>(client: &Client, namespace: &str) -> Api<T>
where
    T: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    T::DynamicType: Default,
{
    Api::namespaced(client.clone(), namespace)
}

/// Breaks connections to the double when it is dropped, as a network does.
struct Cable {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Cable {
    async fn to(target: SocketAddr) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                all.spawn(async move {
                    let mut there = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut here, &mut there).await
                });
            }
        });
        Cable { address, task }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_another_follows_when_it_is_cut_off() {
    let double = Double::start();
    let cable = Cable::to(double.address).await;
    let (first, _dead) = stand(&client(cable.address), "first");
    until("the first leads", async || first.holds()).await;
    let (second, candidate) = stand(&double.client(), "second");
    let leases: Api<Lease> = namespaced(&double.client(), "edge");
    let spec = async || leases.get("leader").await.expect("a Lease").spec.expect("a spec");
    let before = spec().await.renew_time;
    until("it is renewed", async || spec().await.renew_time != before).await;
    assert!(!second.holds());

    drop(cable);
    let cut = Instant::now();
    until("the second leads", async || {
        let (second, first) = (second.holds(), first.holds());
        assert!(!(second && first), "two lead after {:?}", cut.elapsed());
        second
    })
    .await;
    let taken = spec().await;
    assert_eq!(taken.holder_identity.as_deref(), Some("second"));
    assert_eq!(taken.lease_transitions, Some(1));

    // One that hands it back is followed without waiting for the end of its time.
    resign(candidate).await;
    assert!(!second.holds());
    assert_eq!(spec().await.holder_identity.as_deref(), Some(""));
    let (third, _candidate) = stand(&double.client(), "third");
    until("the third leads", async || third.holds()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_stand_at_once_one_leads() {
    let double = Double::start();
    let all: Vec<_> = (0..5).map(|number| stand(&double.client(), &format!("replica-{number}"))).collect();
    let leading = || all.iter().filter(|(leadership, _)| leadership.holds()).count();
    until("one leads", async || leading() == 1).await;
    let leases: Api<Lease> = namespaced(&double.client(), "edge");
    let renewed = async || leases.get("leader").await.expect("a Lease").spec.expect("a spec").renew_time;
    let mut seen = renewed().await;
    let mut times = 0;
    until("it is renewed some times", async || {
        assert!(leading() <= 1, "{} lead", leading());
        let now = renewed().await;
        times += u32::from(now != seen);
        seen = now;
        times == 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_leader_ends_with_its_time() {
    let double = Double::start();
    let cable = Cable::to(double.address).await;
    let (leadership, _candidate) = stand(&client(cable.address), "first");
    until("it leads", async || leadership.holds()).await;
    assert_eq!(leadership.while_held(async { 7 }).await, Some(7));
    drop(cable);
    let endless = leadership.while_held(std::future::pending::<()>());
    let ended = tokio::time::timeout(PATIENCE, endless).await;
    assert_eq!(ended.expect("it is broken off"), None);
    assert!(!leadership.holds());
}

fn settings() -> StatusSettings {
    StatusSettings {
        publish_service: Some(ObjectName::new("edge", "proxy")),
        publish_addresses: Vec::new(),
        internal_addresses: false,
        update: true,
        clear_at_end: true,
        election_id: "leader".to_owned(),
        election_ttl: TTL,
    }
}

fn ingress(name: &str) -> Ingress {
    typed(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"ingressClassName": "nginx"}}))
}

fn pod(name: &str) -> Pod {
    typed(json!({
        "metadata": {"name": name, "namespace": "edge", "labels": {"app": "ingress", "pod-template-hash": name}},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Running"},
    }))
}

/// Tells of the Ingresses of the double as the watches do.
fn mirror(client: &Client, diagnostics: Vec<Diagnostic>) -> watch::Receiver<Served> {
    let (served, follow) = watch::channel(Served::default());
    let ingresses: Api<Ingress> = namespaced(client, "shop");
    let diagnostics = Arc::new(diagnostics);
    tokio::spawn(async move {
        while !served.is_closed() {
            if let Ok(list) = ingresses.list(&ListParams::default()).await {
                let identity = |ingress: &Ingress| Identity {
                    uid: ingress.metadata.uid.clone().unwrap_or_default(),
                    resource_version: ingress.metadata.resource_version.clone().unwrap_or_default(),
                    content: "1".to_owned(),
                    status: serde_json::to_value(&ingress.status).unwrap_or_default(),
                };
                let name = |ingress: &Ingress| {
                    ObjectName::new("shop", ingress.metadata.name.clone().unwrap_or_default())
                };
                let all: BTreeMap<_, _> =
                    list.items.iter().map(|one| (name(one), Arc::new(identity(one)))).collect();
                served.send_replace(Served {
                    ingresses: Arc::new(all),
                    diagnostics: Arc::clone(&diagnostics),
                    generation: "1".into(),
                    ..Served::default()
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    follow
}

async fn status_of(client: &Client, name: &str) -> Value {
    let ingress = namespaced::<Ingress>(client, "shop").get(name).await.expect("an Ingress");
    let status = serde_json::to_value(ingress.status).expect("JSON");
    status.pointer("/loadBalancer/ingress").cloned().unwrap_or(Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_writes_the_status_and_clears_it_when_it_is_the_last() {
    let double = Double::start();
    let client = double.client();
    let params = PostParams::default();
    let service: Service = typed(json!({
        "metadata": {"name": "proxy", "namespace": "edge"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.1.2.3"},
    }));
    namespaced::<Service>(&client, "edge").create(&params, &service).await.expect("made");
    let pods: Api<Pod> = namespaced(&client, "edge");
    pods.create(&params, &pod("one")).await.expect("made");
    pods.create(&params, &pod("two")).await.expect("made");
    let ingresses: Api<Ingress> = namespaced(&client, "shop");
    for number in 0..30 {
        ingresses.create(&params, &ingress(&format!("i{number}"))).await.expect("made");
    }

    let replica = |name: &str| {
        let (leadership, candidate) = stand(&client, name);
        let status = Status {
            client: client.clone(),
            settings: settings(),
            own: OwnPod { namespace: "edge".to_owned(), name: Some(name.to_owned()) },
            served: mirror(&client, Vec::new()),
            leadership: leadership.clone(),
            activity: Arc::default(),
        };
        (leadership, candidate, status.start())
    };
    let (leads, candidate, writer) = replica("one");
    until("the first leads", async || leads.holds()).await;
    let (leads, second_candidate, second_writer) = replica("two");
    let written = json!([{"ip": "10.1.2.3"}]);
    for number in 0..30 {
        let name = format!("i{number}");
        until("status is written", async || status_of(&client, &name).await == written).await;
    }
    let version = async |name: &str| ingresses.get(name).await.expect("there").metadata.resource_version;
    let before = version("i7").await;

    // Another replica goes on: the status stays.
    finish(writer, candidate).await;
    pods.delete("one", &kube::api::DeleteParams::default()).await.expect("deleted");
    until("the second leads", async || leads.holds()).await;
    ingresses.create(&params, &ingress("new")).await.expect("made");
    until("of a new one as well", async || status_of(&client, "new").await == written).await;
    assert_eq!(version("i7").await, before, "written again though nothing differs");

    finish(second_writer, second_candidate).await;
    assert_eq!(status_of(&client, "i7").await, Value::Null, "the last one clears it");
    assert_eq!(status_of(&client, "new").await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_written_once_whoever_leads() {
    let double = Double::start();
    let client = double.client();
    let ingresses: Api<Ingress> = namespaced(&client, "shop");
    let params = PostParams::default();
    ingresses.create(&params, &ingress("a")).await.expect("made");
    let warning = |code, text: &str| {
        let object = ObjectRef { kind: Kind::Ingress, name: ObjectName::new("shop", "a") };
        Diagnostic::warning(code, text).object(object, None).field("spec.x", "v").remedy("write y")
    };
    let diagnostics =
        || vec![warning("annotation-invalid", "this is odd"), warning("annotation-invalid", "that too")];
    let events: Api<Event> = namespaced(&client, "shop");
    let said = async || {
        let all = events.list(&ListParams::default()).await.expect("a list").items;
        let text = |event: &Event| {
            let of = |part: &Option<String>| part.clone().unwrap_or_default();
            format!("{} {}: {}", of(&event.type_), of(&event.reason), of(&event.note))
        };
        let mut all: Vec<String> = all.iter().map(text).collect();
        all.sort();
        all
    };
    let start = |name: &str, activity: &Arc<Activity>| {
        let (leadership, candidate) = stand(&client, name);
        let events = Events {
            client: client.clone(),
            identity: name.to_owned(),
            served: mirror(&client, diagnostics()),
            leadership: leadership.clone(),
            activity: Arc::clone(activity),
        };
        (leadership, candidate, tokio::spawn(events.run()))
    };
    let expected = [
        "Warning AnnotationInvalid: spec.x = \"v\": that too; write y",
        "Warning AnnotationInvalid: spec.x = \"v\": this is odd; write y",
    ];
    let (_, candidate, task) = start("one", &Arc::default());
    until("both are there", async || said().await == expected).await;
    task.abort();
    resign(candidate).await;

    // The next one finds them, and announces what is new.
    let activity = Arc::new(Activity::default());
    let (leads, _candidate, _task) = start("two", &activity);
    until("the second leads", async || leads.holds()).await;
    until("the second has seen them", async || activity.events_of("known") == 2).await;
    ingresses.create(&params, &ingress("b")).await.expect("made");
    until("the new one is announced", async || said().await.len() == 3).await;
    assert_eq!(said().await.first().map(String::as_str), Some("Normal Sync: Scheduled for sync"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_makes_its_certificate_and_answers_by_it() {
    use super::webhook::Webhook;
    use super::webhook_certificate::{Origin, follow};
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let double = Double::start();
    let client = double.client();
    let configuration: ValidatingWebhookConfiguration = typed(json!({
        "metadata": {"name": "admission"},
        "webhooks": [{
            "name": "validate.ingress-wasm.io", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"namespace": "edge", "name": "admission"}},
        }],
    }));
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    configurations.create(&PostParams::default(), &configuration).await.expect("made");
    let origin = Origin::Made {
        namespace: "edge".to_owned(),
        secret: "admission".to_owned(),
        service: "admission".to_owned(),
        configuration: "admission".to_owned(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (_keep, served) = watch::channel(Served::default());
    let webhook = Webhook { served, namespace: None, activity: Arc::default() };
    let mut tls = follow(client.clone(), origin);
    webhook.serve(listener, tls.clone());
    let certificate = tls.wait_for(Option::is_some);
    let certificate = tokio::time::timeout(PATIENCE, certificate).await.expect("a certificate in time");
    drop(certificate.expect("a certificate"));

    let told = configurations.get("admission").await.expect("there");
    let bundle = told.webhooks.expect("one").remove(0).client_config.ca_bundle.expect("a bundle").0;
    let secret = namespaced::<Secret>(&client, "edge").get("admission").await.expect("a Secret");
    assert_eq!(secret.data.expect("data").get("ca.crt").map(|value| &value.0), Some(&bundle));

    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let ask = async |body: &str| {
        let stream = TcpStream::connect(address).await.expect("connects");
        let name = ServerName::try_from("admission.edge.svc").expect("a name");
        let mut stream = connector.connect(name, stream).await.expect("trusts");
        let head = format!(
            "POST /networking/v1/ingresses HTTP/1.1\r\nhost: admission.edge.svc\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("writes");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    };
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u-1", "operation": "DELETE", "namespace": "shop", "name": "a",
                    "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"}},
    });
    let answer = ask(&review.to_string()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"allowed\":true"), "{answer}");
    assert!(answer.contains("\"uid\":\"u-1\""), "{answer}");
    assert!(ask("{").await.starts_with("HTTP/1.1 400"), "garbage");
}
