//! What is watched, and what is not.

use ingress_wasm_tests::apiserver::{Answer, ApiServer, Rule};

use crate::api::On;
use crate::objects::{annotated, ingress, secret};
use crate::world::World;

fn rule(verb: Option<&str>, resource: &str, answer: Answer) -> Rule {
    Rule {
        verb: verb.map(str::to_owned),
        resource: Some(resource.to_owned()),
        namespace: None,
        times: None,
        answer,
    }
}

fn double(world: &World) -> &ApiServer {
    world.api.double().expect("these tests need the switches of the double")
}

fn server() -> Result<ApiServer, String> {
    ApiServer::start().map_err(|error| error.to_string())
}

pub fn not_ready_before_the_first_configuration() -> Result<(), String> {
    let api = server()?;
    api.rule(rule(None, "services", Answer::Unavailable));
    let mut world = World::start(api, &[ingress("shop", "web")], &[])?;
    world.wait("it asks for services", |world| {
        double(world).count("list", "services") + double(world).count("watch", "services") > 1
    })?;
    world.wait("it says that it is not ready", |world| world.replica.readyz() == 503)?;
    assert!(world.get("shop.example").is_err(), "nothing is served");
    double(&world).clear_rules();
    world.wait_ready()?;
    world.wait_answer("shop.example", "web")
}

pub fn other_namespaces_are_not_served() -> Result<(), String> {
    let mut elsewhere = ingress("elsewhere", "web");
    elsewhere["metadata"]["namespace"] = "other".into();
    let objects = [ingress("shop", "web"), elsewhere];
    let mut world = World::start(server()?, &objects, &["--watch-namespace", "default"])?;
    world.wait_ready()?;
    world.wait_answer("shop.example", "web")?;
    world.wait_answer("elsewhere.example", "404")?;
    let asked = double(&world).asked();
    let wide = asked.iter().find(|asked| {
        let namespaced = asked.resource != "ingressclasses.networking.k8s.io";
        namespaced && asked.namespace.is_empty()
    });
    assert_eq!(wide, None, "everything is asked for in a namespace");
    assert!(asked.iter().all(|asked| asked.namespace != "other"));
    Ok(())
}

pub fn secrets_that_nobody_names_are_not_fetched() -> Result<(), String> {
    let protected = annotated(ingress("shop", "web"), &[("auth-type", "basic"), ("auth-secret", "users")]);
    let users = secret("users", "Opaque", &[("auth", "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")]);
    let other = secret("other", "Opaque", &[("key", "value")]);
    let mut world = World::new(&On::Double, &[protected, users, other])?;
    world.wait_answer("shop.example", "401")?;
    world.api.put(secret("other", "Opaque", &[("key", "changed")]))?;
    // A change that comes after it has been seen: so has the other.
    world.api.put(secret("users", "Opaque", &[("auth", "")]))?;
    let fetched = |world: &World, name: &str| {
        let asked = double(world).asked();
        asked.iter().filter(|asked| asked.resource == "secrets" && asked.name == name).count()
    };
    world.wait("the changed Secret is fetched", |world| fetched(world, "users") >= 2)?;
    assert_eq!(fetched(&world, "other"), 0);
    let whole = double(&world)
        .asked()
        .into_iter()
        .find(|asked| asked.resource == "secrets" && asked.name.is_empty() && !asked.metadata_only);
    assert_eq!(whole, None, "Secrets are listed and watched by their metadata only");
    Ok(())
}

pub fn forbidden_secrets_leave_the_rest() -> Result<(), String> {
    let api = server()?;
    api.rule(rule(None, "secrets", Answer::Forbidden));
    let protected = annotated(ingress("closed", "web"), &[("auth-type", "basic"), ("auth-secret", "users")]);
    let mut world = World::start(api, &[ingress("shop", "web"), protected], &[])?;
    world.wait_ready()?;
    world.wait_answer("shop.example", "web")?;
    world.wait_answer("closed.example", "503")?;
    assert!(world.replica.controller_log().contains("may not"), "it is said\n{}", world.replica.logs());
    Ok(())
}
