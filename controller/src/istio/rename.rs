//! The plugin configuration with the clusters' names in the mesh.

use ingress_wasm::config::{Action, Balancing, Canary, HashBy, PluginConfig, PolicySet, Rule};

use super::clusters::Clusters;

/// Gives each cluster its name in the mesh. Services keep theirs.
pub(super) fn rename(config: &PluginConfig, clusters: &Clusters) -> PluginConfig {
    let mut config = config.clone();
    let rules = config.hosts.iter_mut().flat_map(|host| {
        host.rules.iter_mut().chain(host.locations.iter_mut().map(|location| &mut location.rule))
    });
    rules.for_each(|rule| rename_rule(rule, clusters));
    for Balancing { canary, hash_by, affinity: _ } in &mut config.balancing {
        rename_hash(hash_by, clusters);
        if let Some(Canary { cluster, hash_by, .. }) = canary {
            *cluster = clusters.renamed(cluster);
            rename_hash(hash_by, clusters);
        }
    }
    config.policies.iter_mut().for_each(|set| rename_policies(set, clusters));
    config
}

fn rename_rule(rule: &mut Rule, clusters: &Clusters) {
    match &mut rule.action {
        Action::Forward { cluster, service, balancing: _ } => {
            if service.is_empty() {
                service.clone_from(cluster);
            }
            *cluster = clusters.renamed(cluster);
        }
        Action::StandIn { cluster, service: _ } => *cluster = clusters.renamed(cluster),
        Action::Respond { .. } => {}
    }
}

fn rename_hash(hash_by: &mut Option<HashBy>, clusters: &Clusters) {
    let subsets = hash_by.iter_mut().flat_map(|hash| &mut hash.subsets);
    subsets.for_each(|cluster| *cluster = clusters.renamed(cluster));
}

fn rename_policies(set: &mut PolicySet, clusters: &Clusters) {
    let pages = set.error_pages.as_mut().and_then(|pages| pages.cluster.as_mut());
    let asked = set.external_auth.as_mut().map(|auth| &mut auth.cluster);
    let mirror = set.mirror.as_mut().map(|mirror| &mut mirror.cluster);
    for cluster in pages.into_iter().chain(asked).chain(mirror) {
        *cluster = clusters.renamed(cluster);
    }
}
