//! What became of a request, and what this project decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ingress_wasm::config::PathType;
use ingress_wasm::decision::{Connection, Decision, RequestView, Scheme, apply_edits};
use ingress_wasm::policy::{State, decide};
use ingress_wasm::router::path::parse_target;
use ingress_wasm::router::{self, RoutingTable, Selection};
use ingress_wasm_translate::manifest::{merge_into, read};
use ingress_wasm_translate::objects::{ObjectName, Snapshot};
use ingress_wasm_translate::output::{Endpoint, Options, ServicePortName};

use crate::config::id;
use crate::generate::Request;
use crate::scene::{Scene, service};

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub status: u16,
    pub location: Option<Vec<u8>>,
    /// See [`id`]; none where no location was asked.
    pub rule: Option<String>,
    /// That of the rule, whether or not it was reached.
    pub service: Option<String>,
    /// What the backend was asked for.
    pub target: Option<Vec<u8>>,
    pub forwarded_prefix: Vec<u8>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {} service {}", self.status, text(&self.rule), text(&self.service))?;
        if let Some(location) = &self.location {
            write!(f, " Location {}", location.escape_ascii())?;
        }
        if let Some(target) = &self.target {
            write!(
                f,
                " backend {} prefix {:?}",
                target.escape_ascii(),
                self.forwarded_prefix.escape_ascii().to_string()
            )?;
        }
        Ok(())
    }
}

fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("-")
}

/// A scene as this project serves it.
pub struct Ours {
    table: RoutingTable,
    state: State,
    /// The paths as the Ingresses have them.
    paths: BTreeSet<&'static str>,
}

impl Ours {
    pub fn new(scene: &Scene) -> Result<Self, String> {
        let loaded = read(&"scene.json".into(), &scene.manifests());
        let mut snapshot = Snapshot::default();
        merge_into(&mut snapshot, loaded.objects);
        let endpoint = Endpoint { address: "127.0.0.1".to_owned(), port: 80 };
        let name = |number| ServicePortName {
            service: ObjectName::new("default", service(number)),
            port: "80".to_owned(),
        };
        let backends: BTreeMap<_, _> = (0..4).map(|number| (name(number), vec![endpoint.clone()])).collect();
        let translation =
            ingress_wasm_translate::translate(&snapshot, &Options { backends, ..Options::default() });
        if !translation.rejected.is_empty() {
            let said: Vec<String> = translation.diagnostics.iter().map(ToString::to_string).collect();
            return Err(said.join("\n"));
        }
        let table = router::compile(translation.config).map_err(|error| error.to_string())?;
        let rules = scene.ingresses.iter().flat_map(|ingress| &ingress.rules);
        let paths = rules.flat_map(|rule| &rule.paths).map(|path| path.text).collect();
        Ok(Ours { table, state: State::new([0; 32]), paths })
    }

    pub fn ask(&mut self, request: &Request) -> Outcome {
        let Request { host, target } = request;
        let lines =
            [(&b":authority"[..], &**host), (b":path", target), (b":method", b"GET"), (b":scheme", b"http")];
        let view = RequestView {
            headers: &lines,
            connection: Connection { scheme: Scheme::Http, port: 80, peer: b"127.0.0.1" },
            now_ms: 0,
            random: 0,
        };
        let decision = decide(&self.table, &view, &mut self.state);
        let (rule, service) = self.selected(host, target, &decision);
        let mut outcome = Outcome {
            status: 200,
            location: None,
            rule,
            service,
            target: None,
            forwarded_prefix: Vec::new(),
        };
        match &decision {
            Decision::Reply(reply) => {
                outcome.status = reply.status;
                let location = reply.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
                outcome.location = location.map(|(_, value)| value.to_vec());
            }
            Decision::Forward(forward) => {
                let lines = apply_edits(&lines, &forward.edits);
                let value = |name: &[u8]| {
                    lines.iter().find(|(found, _)| **found == *name).map(|(_, value)| value.to_vec())
                };
                outcome.target = value(b":path");
                outcome.forwarded_prefix = value(b"x-forwarded-prefix").unwrap_or_default();
            }
            Decision::Ask(_) | Decision::Count(_) => panic!("nothing asks a service or counts here"),
        }
        outcome
    }

    /// The rule, unless the answer was given before one was looked for.
    fn selected(
        &self,
        host: &[u8],
        target: &[u8],
        decision: &Decision<'_>,
    ) -> (Option<String>, Option<String>) {
        if let Decision::Reply(reply) = decision
            && ["app_root", "host_redirect", "invalid_host", "invalid_path"].contains(&reply.details)
        {
            return (None, None);
        }
        let Ok(target) = parse_target(target) else { return (None, None) };
        match router::select(&self.table, host, &target.path, &mut <_>::default()) {
            Selection::Rule(selected) => {
                let rule = selected.rule;
                let ingress = rule.ingress.split_once('/').map_or("", |(_, name)| name);
                let service = rule
                    .action
                    .service()
                    .and_then(|name| Some(name.strip_prefix("default/")?.strip_suffix(":80")?.to_owned()));
                // A Prefix rule that leaves its own path to an Exact one has a slash behind it.
                let path = match rule.path.strip_suffix('/') {
                    Some(shorter) if !self.paths.contains(&*rule.path) && !shorter.is_empty() => shorter,
                    _ => &*rule.path,
                };
                (Some(id(ingress, path, rule.path_type == PathType::Exact)), service)
            }
            other => (Some(format!("{other:?}").chars().take(40).collect()), None),
        }
    }
}
