//! The plugin configuration as documents: one, or where there are many rules one for what holds for all hosts and
//! one for each part of the hosts, so that a change is sent to and loaded by Envoy without the rest.
//!
//! A part is made so that it only changes with its hosts and with what their rules refer to: which hosts are in
//! it follows from their names, and what is referred to by position is numbered anew within the part.
//!
//! Each part is a filter of a listener that takes no connections: Envoy hands its document to the filter's VMs, and
//! no request passes it.

use std::collections::{BTreeMap, HashMap};

use ingress_wasm::config::{Action, ConfigError, Global, Host, PartNumber, PluginConfig, PolicySet};
use ingress_wasm::router::{MOST_PARTS, part_key, part_of};

use super::connection_manager::discovered;
use super::names::{FILTER, PARTS_LISTENER};
use super::pb::{boolean, core, hcm, listener, pack_any, route, router, tcp};

/// Configurations with fewer rules are one document.
const ONE_DOCUMENT: usize = 1000;
/// How many rules a part has, about: what a worker loads while it serves nobody.
const RULES: usize = 512;

/// Into how many parts so many rules are divided, if they were divided into `before` parts last: a configuration
/// that grows and shrinks a little must not be sent as a whole each time. 0: it is one document.
pub(super) fn count(rules: usize, before: usize) -> usize {
    let wanted = |rules: usize| match rules {
        0..ONE_DOCUMENT => 0,
        _ => rules.div_ceil(RULES).next_power_of_two().min(MOST_PARTS / 2),
    };
    if before >= wanted(rules) && before <= wanted(rules.saturating_mul(2)) { before } else { wanted(rules) }
}

/// How many rules the hosts have.
pub(super) fn rules(config: &PluginConfig) -> usize {
    config.hosts.iter().map(|host| host.rules.len()).sum()
}

/// The hosts that are in no part, and those of each part.
pub(super) fn divide(config: &PluginConfig, count: usize) -> (Vec<&Host>, Vec<Vec<&Host>>) {
    let mut parts = vec![Vec::new(); count];
    let mut others = Vec::new();
    for host in &config.hosts {
        let alone = host.name != "*" && host.aliases.is_empty();
        match parts.get_mut(part_of(part_key(&host.name), count)) {
            Some(part) if alone => part.push(host),
            _ => others.push(host),
        }
    }
    (others, parts)
}

/// A document that has these hosts and what their rules refer to, and nothing else.
pub(super) fn excerpt(config: &PluginConfig, hosts: &[&Host]) -> Result<PluginConfig, ConfigError> {
    let (mut policies, mut balancing) = (Positions::default(), Positions::default());
    let mut copies = Vec::with_capacity(hosts.len());
    for host in hosts {
        let mut host = (*host).clone();
        let locations = host.locations.iter_mut().map(|location| &mut location.rule);
        for rule in host.rules.iter_mut().chain(locations) {
            rule.policies = policies.new_of(rule.policies);
            if let Action::Forward { balancing: Some(position), .. } = &mut rule.action {
                *position = balancing.new_of(*position);
            }
        }
        copies.push(host);
    }
    let policies: Vec<PolicySet> = policies.take(&config.policies, "policies")?;
    let mut credentials = BTreeMap::new();
    for auth in policies.iter().filter_map(|set| set.basic_auth.as_ref()) {
        if let Some(list) = config.credentials.get(&auth.credentials) {
            credentials.insert(auth.credentials.clone(), list.clone());
        }
    }
    Ok(PluginConfig {
        version: config.version,
        generation: String::new(),
        global: Global::default(),
        credentials,
        policies,
        balancing: balancing.take(&config.balancing, "balancing")?,
        hosts: copies,
        parts: Vec::new(),
        part: None,
    })
}

/// New positions for old ones, in the order in which they are asked for.
#[derive(Default)]
struct Positions {
    new: HashMap<usize, usize>,
    old: Vec<usize>,
}

impl Positions {
    fn new_of(&mut self, old: usize) -> usize {
        *self.new.entry(old).or_insert_with(|| {
            self.old.push(old);
            self.old.len() - 1
        })
    }

    /// What stands at the old positions.
    fn take<T: Clone>(self, all: &[T], name: &str) -> Result<Vec<T>, ConfigError> {
        let taken = self.old.into_iter().map(|position| {
            all.get(position).cloned().ok_or_else(|| ConfigError::Inconsistent {
                path: name.to_owned(),
                reason: format!("a rule names number {position}, there are {}", all.len()),
            })
        });
        taken.collect()
    }
}

/// The document of a part, with a generation made of its content.
pub(super) fn part(
    config: &PluginConfig,
    number: usize,
    of: usize,
    hosts: &[&Host],
) -> Result<PluginConfig, ConfigError> {
    let as_number = |number| u32::try_from(number).unwrap_or(u32::MAX);
    let number = Some(PartNumber { number: as_number(number), of: as_number(of) });
    Ok(PluginConfig { part: number, ..excerpt(config, hosts)? })
}

/// The document that names the parts; `others` are the hosts that are in none of them.
pub(super) fn whole(
    config: &PluginConfig,
    others: &[&Host],
    parts: Vec<String>,
) -> Result<PluginConfig, ConfigError> {
    let (global, generation) = (config.global.clone(), config.generation.clone());
    Ok(PluginConfig { global, generation, parts, ..excerpt(config, others)? })
}

/// The name of a part's filter and of its resource.
pub(super) fn name(number: usize) -> String {
    format!("{FILTER}-part-{number}")
}

/// The listener with the filters of so many parts. It is bound to nothing.
pub(super) fn listener(count: usize) -> listener::Listener {
    use hcm::http_connection_manager as manager;
    use hcm::http_filter::ConfigType;

    let part = |number| hcm::HttpFilter {
        name: name(number),
        config_type: Some(discovered()),
        ..hcm::HttpFilter::default()
    };
    let router = hcm::HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(router::Router::default()))),
        ..hcm::HttpFilter::default()
    };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: PARTS_LISTENER.to_owned(),
        route_specifier: Some(manager::RouteSpecifier::RouteConfig(route::RouteConfiguration::default())),
        http_filters: (0..count).map(part).chain([router]).collect(),
        ..hcm::HttpConnectionManager::default()
    };
    let chain = listener::FilterChain {
        filters: vec![listener::Filter {
            name: "envoy.filters.network.http_connection_manager".to_owned(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
        }],
        ..listener::FilterChain::default()
    };
    listener::Listener {
        name: PARTS_LISTENER.to_owned(),
        // Not used, but there has to be one.
        address: Some(tcp("127.0.0.1", 1)),
        bind_to_port: boolean(false),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        filter_chains: vec![chain],
        ..listener::Listener::default()
    }
}
