//! Whatever happens, no request is lost that a healthy backend could answer.

use ingress_wasm_tests::apiserver::{Answer, ApiServer, Away, Rule};
use serde_json::{Value, json};

use crate::api::On;
use crate::objects::{annotated, certificate, ingress, slice};
use crate::world::{World, under_load};

fn served(on: &On) -> Result<World, String> {
    let mut world = World::new(on, &[ingress("shop", "web")])?;
    world.wait_answer("shop.example", "web")?;
    Ok(world)
}

fn double(world: &World) -> &ApiServer {
    world.api.double().expect("these tests need the switches of the double")
}

fn lists(world: &World) -> u64 {
    double(world).count("list", "ingresses.networking.k8s.io")
}

fn watches(world: &World) -> u64 {
    double(world).count("watch", "ingresses.networking.k8s.io")
}

/// Shorter than in the bench, which lets a minute pass.
pub fn api_server_away_loses_nothing(on: &On) -> Result<(), String> {
    let mut world = served(on)?;
    under_load(&mut world, "shop.example", |world| {
        for away in [Away::Refuse, Away::Hang] {
            let before = watches(world);
            double(world).away(away);
            // Nobody sees it there; what happens meanwhile is seen afterwards.
            let name = format!("while-{away:?}").to_lowercase();
            world.api.put(ingress(&name, "web"))?;
            if away == Away::Refuse {
                let address = double(world).url().trim_start_matches("http://").to_owned();
                world.wait("nothing listens", |_| std::net::TcpStream::connect(&address).is_err())?;
            }
            double(world).away(Away::No);
            world.wait_answer(&format!("{name}.example"), "web")?;
            if away == Away::Refuse {
                world.wait("the watch is begun anew", |world| watches(world) > before)?;
            }
        }
        world.wait_ready()
    })
}

pub fn forgotten_history_loses_nothing(on: &On) -> Result<(), String> {
    let mut world = served(on)?;
    under_load(&mut world, "shop.example", |world| {
        for round in 0..3 {
            let before = lists(world);
            double(world).expire_watches();
            world.wait("everything is listed anew", |world| lists(world) > before)?;
            let name = format!("round-{round}");
            world.api.put(ingress(&name, "web"))?;
            world.wait_answer(&format!("{name}.example"), "web")?;
        }
        let before = watches(world);
        double(world).end_watches();
        world.wait("watches go on", |world| watches(world) > before)?;
        world.api.put(ingress("after", "web"))?;
        world.wait_answer("after.example", "web")
    })
}

pub fn refusals_of_the_api_server_lose_nothing(on: &On) -> Result<(), String> {
    let mut world = served(on)?;
    under_load(&mut world, "shop.example", |world| {
        for (round, answer) in
            [Answer::TooMany { seconds: 1 }, Answer::Fail, Answer::Unavailable, Answer::Cut { bytes: 100 }]
                .into_iter()
                .enumerate()
        {
            for verb in ["list", "watch"] {
                let (verb, times) = (Some(verb.to_owned()), Some(2));
                let answer = answer.clone();
                double(world).rule(Rule { verb, resource: None, namespace: None, times, answer });
            }
            double(world).expire_watches();
            let name = format!("round-{round}");
            world.api.put(ingress(&name, "web"))?;
            world.wait_answer(&format!("{name}.example"), "web")?;
            double(world).clear_rules();
        }
        Ok(())
    })
}

pub fn killed_controller_loses_nothing(on: &On) -> Result<(), String> {
    let mut world = served(on)?;
    under_load(&mut world, "shop.example", |world| {
        for round in 0..2 {
            world.replica.controller.kill();
            assert_eq!(world.replica.readyz(), 0);
            let name = format!("round-{round}");
            world.api.put(ingress(&name, "web"))?;
            world.replica.start_controller()?;
            world.wait_answer(&format!("{name}.example"), "web")?;
            world.wait_ready()?;
        }
        Ok(())
    })
}

/// Values that an API server takes and that mean nothing, one Ingress each.
fn bad() -> Vec<Value> {
    let with = |name: &str, annotations: &[(&str, &str)]| annotated(ingress(name, "web"), annotations);
    let mut objects = vec![
        with("bad-regex", &[("use-regex", "true"), ("rewrite-target", "/$9")]),
        with("bad-number", &[("proxy-read-timeout", "soon"), ("limit-rps", "many")]),
        with("bad-size", &[("proxy-body-size", "lots")]),
        with("bad-switch", &[("ssl-redirect", "perhaps")]),
        with("bad-cidr", &[("whitelist-source-range", "10.0.0.0/99")]),
        with("bad-auth", &[("auth-type", "digest"), ("auth-secret", "none/of/these")]),
        with("bad-auth-url", &[("auth-url", "not a url")]),
        with("bad-canary", &[("canary", "true"), ("canary-weight", "-5")]),
        with("bad-cookie", &[("affinity", "cookie"), ("session-cookie-name", "a b;c")]),
        with("bad-protocol", &[("backend-protocol", "GOPHER")]),
        with("bad-redirect", &[("permanent-redirect", "\u{1}"), ("permanent-redirect-code", "999")]),
        with("bad-cors", &[("enable-cors", "true"), ("cors-allow-origin", "no origin")]),
        with("bad-snippet", &[("configuration-snippet", "} server { listen 1; ")]),
        with("unknown", &[("no-such-annotation", "x")]),
        ingress("no-service", "nowhere"),
    ];
    let mut path = with("bad-path", &[("use-regex", "true")]);
    path["spec"]["rules"][0]["http"]["paths"][0]["path"] = "/(((".into();
    path["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = "ImplementationSpecific".into();
    let mut host = ingress("bad-host", "web");
    host["spec"]["rules"][0]["host"] = "*.*.example".into();
    let mut kind = ingress("bad-path-type", "web");
    kind["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = "Nonsense".into();
    let mut shape = ingress("bad-shape", "web");
    shape["spec"]["rules"] = json!("none");
    let mut tls = ingress("bad-tls", "web");
    tls["spec"]["tls"] = json!([{"hosts": ["bad-tls.example"], "secretName": "no-such"}]);
    objects.extend([path, host, kind, shape, tls]);
    objects
}

pub fn bad_ingresses_lose_nothing(on: &On) -> Result<(), String> {
    let mut world = served(on)?;
    under_load(&mut world, "shop.example", |world| {
        for object in bad() {
            world.api.put(object)?;
        }
        world.api.put(ingress("good", "web"))?;
        world.wait_answer("good.example", "web")?;
        // And one that was good and turns bad goes on as it was.
        let mut spoilt = ingress("good", "web");
        spoilt["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = "Nonsense".into();
        world.api.put(spoilt)?;
        world.api.put(ingress("better", "web"))?;
        world.wait_answer("better.example", "web")?;
        world.wait_answer("good.example", "web")
    })
}

pub fn deleted_secret_loses_nothing(on: &On) -> Result<(), String> {
    let mut world = served(on)?;
    let mut shop = ingress("safe", "web");
    shop["spec"]["tls"] = json!([{"hosts": ["safe.example"], "secretName": "cert"}]);
    world.api.put(certificate("cert", "safe.example", "mine")?)?;
    world.api.put(shop)?;
    world.wait("the certificate is there", |world| {
        world.replica.certificate("safe.example").as_deref() == Some("mine")
    })?;
    under_load(&mut world, "shop.example", |world| {
        assert!(world.api.delete("secrets", "default", "cert"));
        world.wait("the host has another certificate", |world| {
            world.replica.certificate("safe.example").is_some_and(|name| name != "mine")
        })
    })
}

pub fn replaced_endpoints_lose_nothing(on: &On) -> Result<(), String> {
    let mut world = served(on)?;
    under_load(&mut world, "shop.example", |world| {
        let mut current = "web".to_owned();
        for round in 0..4 {
            let next = format!("next-{round}");
            let address = world.backend(&next)?;
            world.api.put(slice("web", 0, address))?;
            world.wait_answer("shop.example", &next)?;
            // Others may have been chosen an endpoint before: a pod that ends lets its requests finish.
            world.wait("the old endpoint has nothing to do", |world| {
                world.replica.counters("upstream_rq_active").is_ok_and(|active| !active.is_empty())
            })?;
            world.stop(&current);
            current = next;
        }
        Ok(())
    })
}
