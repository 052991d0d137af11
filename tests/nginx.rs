//! Random Ingresses and requests, decided by this project and by a real nginx that is configured as
//! ingress-nginx does it: rule, status, Location, and what the backend is asked for have to be the same, byte
//! for byte, but for the differences in the table of `nginx/explained.rs`.
//!
//!     cargo test -p ingress-wasm-tests --test nginx
//!
//! `NGINX` names another nginx, `INGRESS_WASM_SEED` another seed, `INGRESS_WASM_SCENES` another number of
//! scenes.

#[path = "nginx/config.rs"]
mod config;
#[path = "nginx/explained.rs"]
mod explained;
#[path = "nginx/generate.rs"]
mod generate;
#[path = "nginx/outcome.rs"]
mod outcome;
#[path = "nginx/scene.rs"]
mod scene;
#[path = "nginx/server.rs"]
mod server;
#[path = "nginx/shrink.rs"]
mod shrink;

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::explained::{EXPLAINED, explanation};
use crate::outcome::Ours;
use crate::scene::Scene;
use crate::server::{Nginx, socket};

const SEED: u64 = 12;
const SCENES: usize = 400;
const REQUESTS: usize = 100;

/// How many differences are shown.
const SHOWN: usize = 8;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn decides_as_nginx_does() {
    if let Err(error) = compare() {
        panic!("{error}");
    }
}

fn compare() -> Result<(), String> {
    let seed = number("INGRESS_WASM_SEED", SEED);
    let count = usize::try_from(number("INGRESS_WASM_SCENES", SCENES as u64)).unwrap_or(SCENES);
    let program = server::program()?;
    let mut rng = Rng::with_seed(seed);
    let scenes: Vec<Scene> = std::iter::repeat_with(|| generate::scene(&mut rng))
        .filter(|scene| config::write(scene, "x").is_ok())
        .take(count)
        .collect();
    let nginx = Nginx::start(&program, |folder| {
        let servers = scenes.iter().enumerate();
        servers
            .map(|(number, scene)| config::write(scene, &socket(folder, number)).unwrap_or_default())
            .collect()
    })?;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    let mut reached = 0;
    for (number, scene) in scenes.iter().enumerate() {
        let mut ours = Ours::new(scene).map_err(|error| format!("{}\n{error}", scene.describe()))?;
        let mut connection = nginx.connect(number)?;
        for _ in 0..REQUESTS {
            let request = generate::request(&mut rng, scene);
            let (here, there) = (ours.ask(&request), connection.ask(&request)?);
            reached += usize::from(there.target.is_some());
            if here == there {
                continue;
            }
            match explanation(scene, &request, &here, &there) {
                Some(name) => *seen.entry(name).or_default() += 1,
                None => differences.push((scene, request)),
            }
        }
    }
    drop(nginx);
    println!("seed {seed}: {} requests, {reached} reached a backend", count * REQUESTS);
    for explained in &EXPLAINED {
        println!("  {:6} {}", seen.get(explained.name).copied().unwrap_or_default(), explained.name);
    }
    if !differences.is_empty() {
        let shown: Vec<String> = differences
            .iter()
            .step_by(differences.len() / SHOWN + 1)
            .map(|(scene, request)| shrink::smallest(&program, scene, request))
            .collect();
        return Err(format!(
            "seed {seed}: {} differences of {}\n\n{}",
            differences.len(),
            count * REQUESTS,
            shown.join("\n\n")
        ));
    }
    // What no longer occurs has no place in the table; other seeds and numbers may miss the rare ones.
    if (seed, count) == (SEED, SCENES) {
        let gone: Vec<&str> = EXPLAINED
            .iter()
            .map(|explained| explained.name)
            .filter(|name| !seen.contains_key(name))
            .collect();
        assert!(gone.is_empty(), "explained, but not seen: {gone:?}");
        assert!(reached > count * REQUESTS / 4, "only {reached} requests reached a backend");
    }
    Ok(())
}
