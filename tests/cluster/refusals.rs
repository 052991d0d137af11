//! What Envoy refuses, though nothing was found wrong with it before, harms nobody else.

use serde_json::{Value, json};

use crate::api::On;
use crate::objects::{annotated, certificate, ingress, misissued, secret};
use crate::world::World;

/// An Ingress for `NAME.example` with a certificate of the Secret `NAME-cert`.
fn secured(name: &str) -> Value {
    let mut secured = annotated(ingress(name, "web"), &[("ssl-redirect", "false")]);
    secured["spec"]["tls"] =
        json!([{"hosts": [format!("{name}.example")], "secretName": format!("{name}-cert")}]);
    secured
}

fn good(name: &str, common: &str) -> Result<Value, String> {
    certificate(&format!("{name}-cert"), &format!("{name}.example"), common)
}

fn bad(name: &str) -> Result<Value, String> {
    misissued(&format!("{name}-cert"), &format!("{name}.example"))
}

fn wait_certificate(world: &mut World, name: &str, expected: &str) -> Result<(), String> {
    let host = format!("{name}.example");
    let mut last = None;
    world
        .wait(&format!("{host} is served with {expected}"), |world| {
            last = world.replica.certificate(&host);
            last.as_deref() == Some(expected)
        })
        .map_err(|error| format!("{error}\nthe last certificate: {last:?}"))
}

/// Waits until an Event on an Ingress says that Envoy refused something.
fn wait_event(world: &mut World, name: &str, part: &str) -> Result<(), String> {
    world.wait(&format!("an Event on {name} says {part:?}"), |world| {
        world.api.list("events.events.k8s.io").iter().any(|event| {
            event["regarding"]["name"] == name
                && event["reason"] == "EnvoyRefused"
                && event["note"].as_str().is_some_and(|note| note.contains(part))
        })
    })
}

/// How many objects are left out, as the metrics have it.
fn refused(world: &World) -> Option<String> {
    let text = world.replica.probe("/metrics")?.text();
    let line =
        text.lines().find(|line| line.starts_with("ingress_wasm_controller_objects{kind=\"refused\"}"))?;
    line.rsplit(' ').next().map(str::to_owned)
}

pub fn refused_secret_leaves_the_rest(on: &On) -> Result<(), String> {
    let mut world = World::new(on, &[secured("shop"), good("shop", "first")?])?;
    wait_certificate(&mut world, "shop", "first")?;

    // A new one, and another change with it: that one goes live.
    world.api.put(bad("odd")?)?;
    world.api.put(secured("odd"))?;
    world.api.put(ingress("late", "web"))?;
    world.wait_answer("late.example", "web")?;
    world.wait_answer("odd.example", "web")?;
    wait_event(&mut world, "odd", "/odd-cert, which is named here")?;
    wait_certificate(&mut world, "shop", "first")?;
    world.wait("one is left out", |world| refused(world).as_deref() == Some("1"))?;
    // And what comes after.
    world.api.put(ingress("later", "web"))?;
    world.wait_answer("later.example", "web")?;

    // It is tried again when it changes.
    world.api.put(good("odd", "mended")?)?;
    wait_certificate(&mut world, "odd", "mended")?;
    world.wait("none is left out", |world| refused(world).as_deref() == Some("0"))?;

    // One that was good before goes on as it was.
    world.api.put(bad("shop")?)?;
    wait_event(&mut world, "shop", "its last good version goes on serving")?;
    world.api.put(ingress("last", "web"))?;
    world.wait_answer("last.example", "web")?;
    wait_certificate(&mut world, "shop", "first")?;
    world.api.put(good("shop", "second")?)?;
    wait_certificate(&mut world, "shop", "second")
}

pub fn many_refused_secrets_are_told_from_the_good_ones(on: &On) -> Result<(), String> {
    let mut objects = Vec::new();
    for number in 0..16 {
        let name = format!("site-{number}");
        objects.push(secured(&name));
        objects.push(if [2, 3, 11].contains(&number) { bad(&name)? } else { good(&name, &name)? });
    }
    // From the beginning, so that all are in one answer to Envoy and none was good before.
    let mut world = World::new(on, &objects)?;
    for number in (0..16).filter(|number| ![2, 3, 11].contains(number)) {
        let name = format!("site-{number}");
        wait_certificate(&mut world, &name, &name)?;
    }
    for number in [2, 3, 11] {
        let name = format!("site-{number}");
        world.wait_answer(&format!("{name}.example"), "web")?;
        wait_event(&mut world, &name, "it is left out")?;
    }
    world.wait("three are left out", |world| refused(world).as_deref() == Some("3"))?;

    // A controller that is started anew finds out by itself, and no request is lost.
    crate::world::under_load(&mut world, "site-1.example", |world| {
        world.replica.controller.kill();
        world.replica.start_controller()?;
        world.wait_ready()?;
        world.wait("three are left out again", |world| refused(world).as_deref() == Some("3"))?;
        world.api.put(ingress("late", "web"))?;
        world.wait_answer("late.example", "web")
    })
}

/// What guards a host and is refused does not open it.
pub fn refused_authorities_close_their_host(on: &On) -> Result<(), String> {
    let mut world = World::new(on, &[ingress("shop", "web")])?;
    world.wait_answer("shop.example", "web")?;
    let mut authorities = secret("ca", "Opaque", &[]);
    authorities["data"]["ca.crt"] = bad("ca")?["data"]["tls.crt"].clone();
    world.api.put(authorities)?;
    world.api.put(good("guarded", "guarded")?)?;
    let mut guarded = secured("guarded");
    guarded["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-tls-secret"] =
        format!("{}/ca", world.api.namespace("default")).into();
    world.api.put(guarded)?;
    wait_event(&mut world, "guarded", "Envoy refused Secret")?;
    world.wait_answer("guarded.example", "403")?;
    world.api.put(ingress("late", "web"))?;
    world.wait_answer("late.example", "web")?;
    world.wait_answer("guarded.example", "403")
}
