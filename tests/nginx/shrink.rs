//! Makes a difference small: takes away Ingresses, hosts, paths, annotations and bytes of the request while the
//! two still differ.

use std::path::Path;

use crate::config;
use crate::explained::explanation;
use crate::generate::Request;
use crate::outcome::{Ours, Outcome};
use crate::scene::{Annotations, Scene};
use crate::server::{Nginx, socket};

/// The scene, the request and the two outcomes, as small as they could be made.
pub fn smallest(program: &Path, scene: &Scene, request: &Request) -> String {
    let (mut scene, mut request) = (scene.clone(), request.clone());
    while let Some(smaller) =
        scenes(&scene).into_iter().find(|smaller| differs(program, smaller, &[&request]).is_some())
    {
        scene = smaller;
    }
    loop {
        let smaller = requests(&request);
        let all: Vec<&Request> = smaller.iter().collect();
        match differs(program, &scene, &all) {
            Some((index, ..)) => request = smaller[index].clone(),
            None => break,
        }
    }
    let shown = match differs(program, &scene, &[&request]) {
        Some((_, here, there)) => format!("  here  {here}\n  nginx {there}"),
        None => "  differs only together with other requests".to_owned(),
    };
    format!("{}\n{request}\n{shown}", scene.describe())
}

/// The first request for which the two differ without an explanation.
fn differs(program: &Path, scene: &Scene, requests: &[&Request]) -> Option<(usize, Outcome, Outcome)> {
    config::write(scene, "x").ok()?;
    let mut ours = Ours::new(scene).ok()?;
    let nginx =
        Nginx::start(program, |folder| config::write(scene, &socket(folder, 0)).unwrap_or_default()).ok()?;
    let mut connection = nginx.connect(0).ok()?;
    requests.iter().enumerate().find_map(|(index, request)| {
        let (here, there) = (ours.ask(request), connection.ask(request).ok()?);
        let same = here == there || explanation(scene, request, &here, &there).is_some();
        (!same).then_some((index, here, there))
    })
}

/// Takes an annotation away.
type Change = fn(&mut Annotations);

/// Scenes with one thing less.
fn scenes(scene: &Scene) -> Vec<Scene> {
    let mut smaller = Vec::new();
    let mut without = |change: &dyn Fn(&mut Scene)| {
        let mut scene = scene.clone();
        change(&mut scene);
        smaller.push(scene);
    };
    for (i, ingress) in scene.ingresses.iter().enumerate() {
        without(&|scene| drop(scene.ingresses.remove(i)));
        for (j, rule) in ingress.rules.iter().enumerate() {
            if ingress.rules.len() > 1 {
                without(&|scene| drop(scene.ingresses[i].rules.remove(j)));
            }
            if rule.paths.len() > 1 {
                for k in 0..rule.paths.len() {
                    without(&|scene| {
                        scene.ingresses[i].rules[j].paths.remove(k);
                    });
                }
            }
        }
        if ingress.default_backend.is_some() {
            without(&|scene| scene.ingresses[i].default_backend = None);
        }
        let changes: [(bool, Change); 10] = [
            (ingress.annotations.use_regex, |set| set.use_regex = false),
            (!ingress.annotations.rewrite_target.is_empty(), |set| set.rewrite_target = ""),
            (!ingress.annotations.forwarded_prefix.is_empty(), |set| set.forwarded_prefix = ""),
            (!ingress.annotations.app_root.is_empty(), |set| set.app_root = ""),
            (!ingress.annotations.permanent_redirect.is_empty(), |set| set.permanent_redirect = ""),
            (!ingress.annotations.temporal_redirect.is_empty(), |set| set.temporal_redirect = ""),
            (ingress.annotations.relative_redirects, |set| set.relative_redirects = false),
            (ingress.annotations.force_tls, |set| set.force_tls = false),
            (ingress.annotations.from_to_www, |set| set.from_to_www = false),
            (!ingress.annotations.aliases.is_empty(), |set| set.aliases = ""),
        ];
        for (_, change) in changes.into_iter().filter(|(set, _)| *set) {
            without(&|scene| change(&mut scene.ingresses[i].annotations));
        }
    }
    smaller
}

/// Requests with a part less, large parts first.
fn requests(request: &Request) -> Vec<Request> {
    let mut smaller = Vec::new();
    let mut size = request.target.len();
    while size > 0 {
        let mut at = 0;
        while at + size <= request.target.len() {
            let mut shorter = request.clone();
            shorter.target.drain(at..at + size);
            if !shorter.target.is_empty() {
                smaller.push(shorter);
            }
            at += size;
        }
        size /= 2;
    }
    smaller
}
