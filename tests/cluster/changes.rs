//! What is created, changed and deleted is live.

use ingress_wasm_tests::client::WireRequest;
use serde_json::json;

use crate::api::On;
use crate::objects::{annotated, certificate, ingress, options, secret, slice};
use crate::world::World;

const CLASSES: &str = "ingressclasses.networking.k8s.io";
const INGRESSES: &str = "ingresses.networking.k8s.io";
const SLICES: &str = "endpointslices.discovery.k8s.io";

/// The certificate of hosts that have none, as ingress-nginx names it.
const FAKE: &str = "Kubernetes Ingress Controller Fake Certificate";

pub fn ingresses_are_live(on: &On) -> Result<(), String> {
    let mut world = World::new(on, &[])?;
    world.wait_answer("shop.example", "404")?;
    world.api.put(ingress("shop", "web"))?;
    world.wait_answer("shop.example", "web")?;
    world.serve("alt")?;
    world.api.put(ingress("shop", "alt"))?;
    world.wait_answer("shop.example", "alt")?;
    assert!(world.api.delete(INGRESSES, "default", "shop"));
    world.wait_answer("shop.example", "404")
}

pub fn endpoints_are_live_and_leave_the_filter_alone(on: &On) -> Result<(), String> {
    let mut world = World::new(on, &[ingress("shop", "web")])?;
    world.wait_answer("shop.example", "web")?;
    let reloads = |world: &World| world.replica.counters("extension_config_discovery.*config_reload$");
    let before = reloads(&world)?;
    assert!(before.values().any(|count| *count > 0), "the filter came that way: {before:?}");
    let other = world.backend("other")?;
    world.api.put(slice("web", 0, other))?;
    world.wait_answer("shop.example", "other")?;
    assert_eq!(reloads(&world)?, before, "a change of endpoints does not touch the filter");
    assert!(world.api.delete(SLICES, "default", "web-0"));
    world.wait_answer("shop.example", "503")?;
    world.api.put(slice("web", 0, other))?;
    world.wait_answer("shop.example", "other")
}

pub fn certificates_are_live(on: &On) -> Result<(), String> {
    let mut shop = ingress("shop", "web");
    shop["spec"]["tls"] = json!([{"hosts": ["shop.example"], "secretName": "cert"}]);
    let mut world = World::new(on, &[shop])?;
    let shown = |world: &mut World, expected: &str| {
        world.wait(&format!("the certificate is {expected}"), |world| {
            world.replica.certificate("shop.example").as_deref() == Some(expected)
        })
    };
    shown(&mut world, FAKE)?;
    world.api.put(certificate("cert", "shop.example", "first")?)?;
    shown(&mut world, "first")?;
    world.api.put(certificate("cert", "shop.example", "second")?)?;
    shown(&mut world, "second")?;
    assert!(world.api.delete("secrets", "default", "cert"));
    shown(&mut world, FAKE)
}

pub fn passwords_are_live(on: &On) -> Result<(), String> {
    // `password` and `other`, each by SHA-1.
    let users = |hash: &str| secret("users", "Opaque", &[("auth", hash)]);
    let protected = annotated(ingress("shop", "web"), &[("auth-type", "basic"), ("auth-secret", "users")]);
    let mut world = World::new(on, &[protected, users("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")])?;
    let status = |world: &World, credentials: &str| {
        let request = WireRequest::new("GET", "shop.example", "/").header("authorization", credentials);
        world.replica.send(&request).map_or(0, |response| response.status)
    };
    let (password, other) = ("Basic Ym9iOnBhc3N3b3Jk", "Basic Ym9iOm90aGVy");
    world.wait("the password is taken", |world| status(world, password) == 200)?;
    assert_eq!(status(&world, other), 401);
    world.api.put(users("bob:{SHA}0JQeaNqPOBUf+Gph/Fn3xc+fyqI=\n"))?;
    world.wait("the old password is not taken any more", |world| status(world, password) == 401)?;
    assert_eq!(status(&world, other), 200);
    assert!(world.api.delete("secrets", "default", "users"));
    world.wait("without its Secret it is closed", |world| status(world, password) == 503)?;
    Ok(())
}

pub fn options_are_live(on: &On) -> Result<(), String> {
    let mut world = World::new(on, &[ingress("shop", "web")])?;
    world.wait_answer("shop.example", "web")?;
    let status = |world: &World| {
        let request = WireRequest::new("POST", "shop.example", "/").body(vec![b'x'; 2000]);
        world.replica.send(&request).map_or(0, |response| response.status)
    };
    assert_eq!(status(&world), 200);
    world.api.put(options(&json!({"proxy-body-size": "1k"})))?;
    world.wait("the limit holds", |world| status(world) == 413)?;
    world.api.put(options(&json!({"proxy-body-size": "1m"})))?;
    world.wait("the limit is raised", |world| status(world) == 200)?;
    world.api.put(options(&json!({"proxy-body-size": "1k"})))?;
    world.wait("the limit holds again", |world| status(world) == 413)?;
    assert!(world.api.delete("configmaps", "ingress-nginx", "controller"));
    world.wait("the limit is gone with the ConfigMap", |world| status(world) == 200)
}

pub fn classes_are_live(on: &On) -> Result<(), String> {
    let class = |controller: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "second"},
            "spec": {"controller": controller},
        })
    };
    let mut shop = ingress("shop", "web");
    shop["spec"]["ingressClassName"] = "second".into();
    let mut world = World::new(on, &[shop, ingress("rest", "web")])?;
    world.wait_answer("rest.example", "web")?;
    world.wait_answer("shop.example", "404")?;
    world.api.put(class("k8s.io/ingress-nginx"))?;
    world.wait_answer("shop.example", "web")?;
    assert!(world.api.delete(CLASSES, "", "second"));
    world.wait_answer("shop.example", "404")?;
    world.api.put(class("ingress-wasm.io/controller"))?;
    world.wait_answer("shop.example", "web")?;
    assert!(world.api.delete(CLASSES, "", "second"));
    world.api.put(class("example.com/other"))?;
    world.wait_answer("shop.example", "404")
}
