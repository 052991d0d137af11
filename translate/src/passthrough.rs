//! Hosts whose TLS connections are handed to the backend unopened (`ssl-passthrough`), as ingress-nginx does it
//! (`controller.go`, `SSLPassthroughBackend`): the first Ingress of the host decides, and the backend is that of the
//! path `/`.
//!
//! Deliberately knows nothing of listeners and server names.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config::{Action, Host, PluginConfig};

use crate::diagnostic::Diagnostic;
use crate::hosts;
use crate::objects::Ingress;
use crate::output::{Cluster, LoadBalancing};
use crate::report::Report;
use crate::upstreams::Admitted;

/// Clusters by the host whose TLS connections they get. Wildcard hosts are among them.
pub type Passthrough = BTreeMap<String, String>;

const ANNOTATION: &str = "ssl-passthrough";

/// Finds the hosts, and adds a cluster for each that knows nothing of HTTP and TLS.
pub fn read(
    admitted: &[Admitted<'_>],
    config: &PluginConfig,
    clusters: &mut BTreeMap<String, Cluster>,
    report: &mut Report,
) -> Passthrough {
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    for admitted in admitted.iter().filter(|admitted| !admitted.is_canary()) {
        let asks = admitted.annotations.is_true(ANNOTATION) && admitted.withheld.is_none();
        for name in admitted.ingress.rules.iter().map(hosts::host_name).collect::<BTreeSet<_>>() {
            let Entry::Vacant(entry) = found.entry(name.clone()) else {
                if asks {
                    say(admitted.ingress, &admitted.annotations, &not_first(&name, &found), report);
                }
                continue;
            };
            let cluster = if asks { cluster(&name, config, clusters) } else { Ok(None) };
            match cluster {
                Ok(cluster) => drop(entry.insert(cluster)),
                Err(fault) => {
                    entry.insert(None);
                    say(admitted.ingress, &admitted.annotations, &Some(fault), report);
                }
            }
        }
    }
    found.into_iter().filter_map(|(host, cluster)| Some((host, cluster?))).collect()
}

/// What is to be said of a later Ingress that asks: nothing where the first one did.
fn not_first(name: &str, found: &BTreeMap<String, Option<String>>) -> Option<String> {
    let first_did = found.get(name).is_some_and(Option::is_some);
    (!first_did).then(|| format!("an older Ingress of {name} does not ask for it"))
}

/// The cluster for a host; the reason where there can be none.
fn cluster(
    name: &str,
    config: &PluginConfig,
    clusters: &mut BTreeMap<String, Cluster>,
) -> Result<Option<String>, String> {
    if name == "*" {
        return Err("it needs a host, since connections are told apart by server name".to_owned());
    }
    let host = config.hosts.iter().find(|host| host.name == name);
    let rule = host.and_then(|host: &Host| host.rules.iter().find(|rule| rule.path == "/"));
    let rule = rule.ok_or_else(|| format!("{name} has no rule for the path /"))?;
    if config.policies.get(rule.policies).is_some_and(|policies| policies.denied.is_some()) {
        return Err(format!("the rule for / of {name} answers 503"));
    }
    let Action::Forward { cluster, .. } = &rule.action else {
        return Err(format!("the rule for / of {name} has no backend"));
    };
    let cluster = clusters.get(cluster).ok_or_else(|| format!("{name} has no backend"))?;
    let plain = Cluster { load_balancing: LoadBalancing::RoundRobin, tls: None, ..cluster.clone() };
    let passed = format!("{}#tcp", plain.service);
    clusters.insert(passed.clone(), plain);
    Ok(Some(passed))
}

fn say(
    ingress: &Ingress,
    annotations: &crate::annotations::AnnotationSet<'_>,
    fault: &Option<String>,
    report: &mut Report,
) {
    let Some(fault) = fault else { return };
    let consequence = format!("TLS connections are opened here and not handed on: {fault}");
    let diagnostic = Diagnostic::error("ssl-passthrough", consequence)
        .remedy("give the host a rule for the path / in the Ingress that has the annotation");
    let key = annotations.get(ANNOTATION).map_or(ANNOTATION, |setting| setting.key);
    report.annotation(ingress, key, diagnostic);
}
