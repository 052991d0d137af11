//! Two replicas, each with an Envoy of its own: who writes to the API server, and who takes over.

use std::time::Duration;

use ingress_wasm_tests::apiserver::{ApiServer, Away};
use serde_json::{Value, json};

use crate::api::{Api, On};
use crate::objects::{annotated, ingress};
use crate::replica::{Replica, Terms};
use crate::world::{SOON, World, answer};

const INGRESSES: &str = "ingresses.networking.k8s.io";
const LEASES: &str = "leases.coordination.k8s.io";
const EVENTS: &str = "events.events.k8s.io";
const LEASE: &str = "ingress-wasm-leader";

/// Longer than a test waits: who takes over in a test did not wait for its end.
const LONG: &[&str] = &["--publish-status-address", "192.0.2.7", "--election-ttl", "10m"];

/// Short enough to wait for.
const SHORT: &[&str] = &["--publish-status-address", "192.0.2.7", "--election-ttl", "4s"];

/// Two replicas, in pods `one` and `two`. The first leads.
struct Two {
    world: World,
    two: Option<Replica>,
}

impl Two {
    fn new(on: &On, objects: &[Value], arguments: &[&str]) -> Result<Two, String> {
        let api = Api::start(on)?;
        api.put(pod("one"))?;
        api.put(pod("two"))?;
        let one = Terms { arguments, pod: Some("one") };
        let mut world = World::start_as(api, objects, &one)?;
        world.wait_ready()?;
        world.wait("the first leads", |world| holder(&world.api).as_deref() == Some("one"))?;
        let two = Replica::start(&world.api, &Terms { arguments, pod: Some("two") })?;
        world.wait("the second is ready", |_| two.readyz() == 200)?;
        Ok(Two { world, two: Some(two) })
    }

    /// As of [`World::wait`], with what the second says as well.
    fn wait(&mut self, what: &str, so: impl FnMut(&mut World) -> bool) -> Result<(), String> {
        let logs = || self.two.as_ref().map(Replica::logs).unwrap_or_default();
        self.world.wait(what, so).map_err(|error| format!("{error}\n{}", logs()))
    }

    fn wait_holder(&mut self, name: &str) -> Result<(), String> {
        self.wait(&format!("{name} leads"), |world| holder(&world.api).as_deref() == Some(name))
    }

    fn wait_status(&mut self, ingress: &str, expected: &Value) -> Result<(), String> {
        let mut last = Value::Null;
        self.wait(&format!("the status of {ingress} is {expected}"), |world| {
            last = status(&world.api, ingress);
            last == *expected
        })
        .map_err(|error| format!("{error}\nthe last status: {last}"))
    }

    /// The first one ends by SIGTERM.
    fn end_first(&mut self) -> Result<(), String> {
        self.world.replica.controller.terminate();
        self.wait("the first has ended", |world| world.replica.controller.ended())?;
        // As kubelet does it.
        self.world.api.delete("pods", "edge", "one");
        Ok(())
    }
}

fn double(world: &World) -> &ApiServer {
    world.api.double().expect("this test needs the switches of the double")
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "edge", "labels": {"app": "ingress-wasm", "pod-template-hash": name}},
        "spec": {"containers": [{"name": "controller", "image": "ingress-wasm"}]},
        "status": {"phase": "Running"},
    })
}

fn holder(api: &Api) -> Option<String> {
    let lease = api.get(LEASES, "edge", LEASE)?;
    lease.pointer("/spec/holderIdentity").and_then(Value::as_str).map(str::to_owned)
}

fn status(api: &Api, name: &str) -> Value {
    let ingress = api.get(INGRESSES, "default", name).unwrap_or_default();
    ingress.pointer("/status/loadBalancer/ingress").cloned().unwrap_or_default()
}

fn published() -> Value {
    json!([{"ip": "192.0.2.7"}])
}

/// `REASON: NOTE` of the Events on an Ingress.
fn events(api: &Api, name: &str) -> Vec<String> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let about = |event: &Value| event["regarding"]["name"] == name && event["regarding"]["kind"] == "Ingress";
    let all = api.list(EVENTS);
    let all = all.iter().filter(|event| about(event));
    all.map(|event| format!("{}: {}", text(event, "reason"), text(event, "note"))).collect()
}

/// What a replica wrote besides trying for the Lease.
fn writes(api: &ApiServer, user: &str) -> Vec<String> {
    let asked = api.asked();
    let of_user = asked.iter().filter(|asked| asked.user == user && asked.resource != LEASES);
    let written = of_user.filter(|asked| !matches!(asked.verb.as_str(), "get" | "list" | "watch"));
    written
        .map(|asked| format!("{} {}/{} {}", asked.verb, asked.resource, asked.subresource, asked.name))
        .collect()
}

fn bad() -> Value {
    annotated(ingress("bad", "web"), &[("proxy-read-timeout", "soon")])
}

pub fn only_the_leader_writes_and_both_serve(on: &On) -> Result<(), String> {
    let mut two = Two::new(on, &[ingress("shop", "web")], LONG)?;
    two.wait_status("shop", &published())?;
    two.world.api.put(bad())?;
    two.world.api.put(ingress("late", "web"))?;
    two.wait_status("late", &published())?;
    two.wait("the fault is an Event", |world| {
        events(&world.api, "bad")
            .iter()
            .any(|event| event.contains("proxy-read-timeout") && event.contains("soon"))
    })?;
    two.wait("what comes is announced", |world| {
        events(&world.api, "late").iter().any(|event| event.starts_with("Sync: "))
    })?;
    let second = two.two.take().ok_or("there are two")?;
    for host in ["shop.example", "late.example", "bad.example"] {
        two.world.wait_answer(host, "web")?;
        two.world.wait(&format!("the second serves {host}"), |_| {
            second.get(host).is_ok_and(|response| answer(&response) == "web")
        })?;
    }
    let hash = |replica: &Replica| {
        let text = replica.probe("/metrics").map(|response| response.text()).unwrap_or_default();
        text.lines()
            .find(|line| line.starts_with("nginx_ingress_controller_config_hash{"))
            .and_then(|line| line.rsplit(' ').next().map(str::to_owned))
    };
    two.world.wait("both serve the same configuration", |world| {
        let (first, second) = (hash(&world.replica), hash(&second));
        first.is_some() && first == second
    })?;
    if let Some(double) = two.world.api.double() {
        assert_eq!(writes(double, "two"), Vec::<String>::new(), "the second writes nothing");
        assert!(!writes(double, "one").is_empty());
    }
    Ok(())
}

pub fn killed_leader_is_followed(on: &On) -> Result<(), String> {
    let mut two = Two::new(on, &[ingress("shop", "web")], SHORT)?;
    two.wait_status("shop", &published())?;
    two.world.replica.controller.kill();
    two.world.api.put(ingress("late", "web"))?;
    two.world.api.put(bad())?;
    two.wait_holder("two")?;
    two.wait_status("late", &published())?;
    two.wait_status("shop", &published())?;
    two.wait("the fault is an Event", |world| !events(&world.api, "bad").is_empty())?;
    // The first comes back and is the second now.
    two.world.replica.start_controller()?;
    two.world.wait_ready()?;
    assert_eq!(holder(&two.world.api).as_deref(), Some("two"));
    two.world.wait_answer("late.example", "web")
}

pub fn lease_is_handed_back_and_the_last_clears_the_status(on: &On) -> Result<(), String> {
    let mut two = Two::new(on, &[ingress("shop", "web")], LONG)?;
    two.wait_status("shop", &published())?;
    two.end_first()?;
    two.wait_holder("two")?;
    two.wait_status("shop", &published())?;
    two.world.api.put(ingress("late", "web"))?;
    two.wait_status("late", &published())?;
    let log = two.world.replica.controller_log();
    assert!(log.contains("other replicas go on"), "it is said why the status stays:\n{log}");
    let second = two.two.as_mut().ok_or("there are two")?;
    second.controller.terminate();
    two.world.wait("the second has ended", |_| second.controller.ended())?;
    two.wait_status("shop", &Value::Null)?;
    two.wait_status("late", &Value::Null)?;
    assert_eq!(holder(&two.world.api).as_deref(), Some(""), "the Lease is nobody's");
    Ok(())
}

pub fn status_follows_the_published_service(on: &On) -> Result<(), String> {
    // Of type NodePort, since the address of a load balancer is not for a test to say in a real cluster.
    let proxy = |ip: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "proxy", "namespace": "edge"},
            "spec": {"type": "NodePort", "externalIPs": [ip], "ports": [{"port": 80}]},
        })
    };
    let api = Api::start(on)?;
    api.put(pod("one"))?;
    api.put(proxy("192.0.2.1"))?;
    let service = format!("{}/proxy", api.namespace("edge"));
    let arguments: &[&str] = &["--publish-service", &service];
    let terms = Terms { arguments, pod: Some("one") };
    let world = World::start_as(api, &[ingress("shop", "web")], &terms)?;
    let mut two = Two { world, two: None };
    two.wait_status("shop", &json!([{"ip": "192.0.2.1"}]))?;
    two.world.api.put(proxy("192.0.2.2"))?;
    two.wait_status("shop", &json!([{"ip": "192.0.2.2"}]))
}

/// Whatever the API server does not answer at the end, the controller ends.
pub fn silent_api_server_does_not_hold_up_the_end(on: &On) -> Result<(), String> {
    let api = Api::start(on)?;
    api.put(pod("one"))?;
    let terms = Terms { arguments: LONG, pod: Some("one") };
    let mut world = World::start_as(api, &[ingress("shop", "web")], &terms)?;
    world.wait("the status is written", |world| status(&world.api, "shop") == published())?;
    double(&world).away(Away::Hang);
    world.replica.controller.terminate();
    assert!(
        SOON > Duration::from_secs(45),
        "clearing the status and handing back the Lease have their bounds"
    );
    world.wait("it ends", |world| world.replica.controller.ended())
}
