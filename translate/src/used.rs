//! What hosts refer to, and nothing else: the rest of a configuration, numbered in the order in which their rules name
//! it, and the clusters. So a configuration depends on what is in it and not on the way there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use ingress_wasm::config::{Action, Balancing, PluginConfig, PolicySet, Rule};

use crate::backend_protocol::Transports;
use crate::backends::clusters_asked;
use crate::connections::Connections;
use crate::jwt::{Jwt, Keys};
use crate::output::{Cluster, RouteProfile};
use crate::passthrough::Passthrough;

/// Takes out of a configuration and its clusters what nothing refers to. `elsewhere`: what refers to clusters beside
/// the configuration and its routes.
pub fn keep_used(
    config: &mut PluginConfig,
    clusters: &mut BTreeMap<String, Cluster>,
    transports: &mut Transports,
    profiles: &mut BTreeMap<String, RouteProfile>,
    elsewhere: (&Passthrough, &Connections),
) {
    renumber(config);
    let PluginConfig { credentials, api_keys, policies, .. } = config;
    let lists = |of: fn(&PolicySet) -> Option<&str>| policies.iter().filter_map(of).collect::<BTreeSet<_>>();
    let used = lists(|set| set.basic_auth.as_ref().map(|auth| auth.credentials.as_str()));
    credentials.retain(|name, _| used.contains(name.as_str()));
    let used = lists(|set| set.api_key.as_ref().map(|auth| auth.keys.as_str()));
    api_keys.retain(|name, _| used.contains(name.as_str()));
    let used = lists(|set| set.route_profile.as_deref());
    profiles.retain(|name, _| used.contains(name.as_str()));

    let named = named(config, profiles, elsewhere);
    clusters.retain(|name, _| named.contains(name.as_str()));
    transports.retain(|name, _| clusters.contains_key(name));
}

/// Numbers policies and balancing in the order in which rules name them.
fn renumber(config: &mut PluginConfig) {
    let mut policies = Positions::of(config.policies.len());
    let mut balancing = Positions::of(config.balancing.len());
    for host in &mut config.hosts {
        let locations = host.locations.iter_mut().map(|location| &mut location.rule);
        for rule in host.rules.iter_mut().chain(locations) {
            rule.policies = policies.new_of(rule.policies);
            if let Action::Forward { balancing: Some(position), .. } = &mut rule.action {
                *position = balancing.new_of(*position);
            }
        }
    }
    config.policies = policies.take(std::mem::take(&mut config.policies));
    config.balancing = balancing.take(std::mem::take(&mut config.balancing));
}

/// New positions for old ones, in the order in which they are asked for.
struct Positions {
    /// By the old ones.
    new: Vec<Option<usize>>,
    old: Vec<usize>,
}

impl Positions {
    fn of(count: usize) -> Self {
        Positions { new: vec![None; count], old: Vec::new() }
    }

    fn new_of(&mut self, old: usize) -> usize {
        let next = self.old.len();
        // One that leads nowhere goes on doing so.
        let Some(new) = self.new.get_mut(old) else { return old };
        *new.get_or_insert_with(|| {
            self.old.push(old);
            next
        })
    }

    /// What stood at the old positions; each is asked for once.
    fn take<T: Default>(self, mut all: Vec<T>) -> Vec<T> {
        self.old.into_iter().map(|old| all.get_mut(old).map(std::mem::take).unwrap_or_default()).collect()
    }
}

/// The names of all clusters that something refers to.
fn named<'a>(
    config: &'a PluginConfig,
    profiles: &'a BTreeMap<String, RouteProfile>,
    (passthrough, connections): (&'a Passthrough, &'a Connections),
) -> HashSet<Cow<'a, str>> {
    let limits = connections.clients.rate_limits.iter().map(|service| &service.cluster);
    let mut named: HashSet<Cow<'a, str>> =
        passthrough.values().chain(limits).map(|name| Cow::Borrowed(name.as_str())).collect();
    for host in &config.hosts {
        let mut seen = None;
        for rule in &host.rules {
            let set = config.policies.get(rule.policies);
            // Most rules of a host have the same policies.
            if seen != Some(rule.policies)
                && let Some(set) = set
            {
                seen = Some(rule.policies);
                let pages = set.error_pages.iter().filter_map(|pages| pages.cluster.as_deref());
                named.extend(pages.map(Cow::Borrowed));
                named.extend(clusters_asked(set, host));
            }
            let suffix = set.and_then(|set| set.tls_cluster_suffix.as_deref());
            clusters_of(config, rule, |cluster| {
                named.extend(suffix.map(|suffix| Cow::Owned(format!("{cluster}{suffix}"))));
                named.insert(Cow::Borrowed(cluster));
            });
        }
    }
    // A route names the clusters of its mirror and of its keys whether or not a request comes.
    for profile in profiles.values() {
        named.extend(profile.mirror.iter().map(|mirror| Cow::Borrowed(mirror.cluster.as_str())));
        if let Some(Jwt { keys: Keys::Remote { cluster, .. }, .. }) = &profile.jwt {
            named.insert(Cow::Borrowed(cluster));
        }
    }
    named
}

/// The clusters that requests of a rule go to.
fn clusters_of<'a>(config: &'a PluginConfig, rule: &'a Rule, mut take: impl FnMut(&'a str)) {
    match &rule.action {
        Action::Forward { cluster, balancing, .. } => {
            take(cluster);
            let balancing = balancing.and_then(|position| config.balancing.get(position));
            balancing.into_iter().flat_map(divided_clusters).for_each(take);
        }
        Action::StandIn { cluster, .. } => take(cluster),
        Action::Respond { .. } => {}
    }
}

/// The clusters that requests are divided among, besides that of the rule.
fn divided_clusters(balancing: &Balancing) -> impl Iterator<Item = &str> {
    let canary = balancing.canary.as_ref();
    let hashes = [balancing.hash_by.as_ref(), canary.and_then(|canary| canary.hash_by.as_ref())];
    let subsets = hashes.into_iter().flatten().flat_map(|hash| &hash.subsets).map(String::as_str);
    canary.map(|canary| canary.cluster.as_str()).into_iter().chain(subsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_in_the_order_of_use() {
        let mut positions = Positions::of(5);
        let new: Vec<usize> = [4, 2, 4, 0, 2].into_iter().map(|old| positions.new_of(old)).collect();
        assert_eq!(new, [0, 1, 0, 2, 1]);
        assert_eq!(positions.new_of(7), 7, "there is none");
        assert_eq!(positions.take(vec!["a", "b", "c", "d", "e"]), ["e", "c", "a"]);
    }
}
