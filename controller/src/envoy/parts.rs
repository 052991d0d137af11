//! The plugin configuration as documents: one, or where there are many rules one for what holds for all hosts and
//! one for each part of the hosts, so that a change is sent to and loaded by Envoy without the rest.
//!
//! A part is made so that it only changes with its hosts and with what their rules refer to: which hosts are in
//! it follows from their names, and what is referred to by position is numbered anew within the part.
//!
//! Each part is a filter of a listener that takes no connections: Envoy hands its document to the filter's VMs, and
//! no request passes it.

use std::collections::{BTreeMap, HashMap};

use ingress_wasm::config::{
    Action, ConfigError, Global, Host, Location, PartNumber, PluginConfig, PolicySet, Rule,
};
use ingress_wasm::router::{MOST_PARTS, part_key, part_of};

use super::connection_manager::discovered;
use super::names::{FILTER, PARTS_LISTENER};
use super::pb::{boolean, core, hcm, listener, pack_any, route, router, tcp};

/// Configurations with fewer rules are one document.
const ONE_DOCUMENT: usize = 1000;
/// How many rules a part has, about: what a worker loads while it serves nobody.
const RULES: usize = 1024;

/// Into how many parts so many rules are divided, if they were divided into `before` parts last: a configuration
/// that grows and shrinks a little must not be sent as a whole each time. 0: it is one document.
pub(super) fn count(rules: usize, before: usize) -> usize {
    let wanted = |rules: usize| match rules {
        0..ONE_DOCUMENT => 0,
        _ => rules.div_ceil(RULES).next_power_of_two().min(MOST_PARTS),
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
    let mut api_keys = BTreeMap::new();
    for auth in policies.iter().filter_map(|set| set.api_key.as_ref()) {
        if let Some(list) = config.api_keys.get(&auth.keys) {
            api_keys.insert(auth.keys.clone(), list.clone());
        }
    }
    Ok(PluginConfig {
        version: config.version,
        generation: String::new(),
        global: Global::default(),
        credentials,
        api_keys,
        policies,
        balancing: balancing.take(&config.balancing, "balancing")?,
        hosts: copies,
        parts: Vec::new(),
        part: None,
    })
}

/// Whether a document is what [`part`] would make of these hosts, but for its generation.
pub(super) fn is_part(
    document: &PluginConfig,
    config: &PluginConfig,
    number: usize,
    of: usize,
    hosts: &[&Host],
) -> bool {
    document.part == Some(part_number(number, of)) && is_excerpt(document, config, hosts)
}

fn part_number(number: usize, of: usize) -> PartNumber {
    let as_number = |number| u32::try_from(number).unwrap_or(u32::MAX);
    PartNumber { number: as_number(number), of: as_number(of) }
}

/// Whether a document is what [`excerpt`] would make of these hosts, but for its generation. Cheaper than to make it:
/// most parts are as they were.
fn is_excerpt(document: &PluginConfig, config: &PluginConfig, hosts: &[&Host]) -> bool {
    let PluginConfig { version, credentials, api_keys, policies, balancing, hosts: held, .. } = document;
    let mut compared =
        Compared { config, document, policies: Positions::default(), balancing: Positions::default() };
    *version == config.version
        && held.len() == hosts.len()
        && held.iter().zip(hosts).all(|(held, host)| compared.same_host(held, host))
        && compared.policies.old.len() == policies.len()
        && compared.balancing.old.len() == balancing.len()
        && credentials.iter().all(|(name, list)| config.credentials.get(name) == Some(list))
        && api_keys.iter().all(|(name, list)| config.api_keys.get(name) == Some(list))
}

/// A document that is compared with what would be made of the configuration.
struct Compared<'a> {
    config: &'a PluginConfig,
    document: &'a PluginConfig,
    policies: Positions,
    balancing: Positions,
}

impl Compared<'_> {
    fn same_host(&mut self, held: &Host, host: &Host) -> bool {
        // Named one by one, so that a field that is added has to be thought of.
        let Host {
            name,
            path_matching,
            app_root,
            tls,
            aliases,
            redirect_to,
            client_certificate,
            script,
            locations,
            rules,
        } = host;
        held.name == *name
            && held.path_matching == *path_matching
            && held.app_root == *app_root
            && held.tls == *tls
            && held.aliases == *aliases
            && held.redirect_to == *redirect_to
            && held.client_certificate == *client_certificate
            && held.script == *script
            && held.rules.len() == rules.len()
            && held.locations.len() == locations.len()
            && held.rules.iter().zip(rules).all(|(held, rule)| self.same_rule(held, rule))
            && held.locations.iter().zip(locations).all(|(held, location)| {
                let Location { modifier, rule } = location;
                held.modifier == *modifier && self.same_rule(&held.rule, rule)
            })
    }

    fn same_rule(&mut self, held: &Rule, rule: &Rule) -> bool {
        let Rule { ingress, path, path_type, policies, action } = rule;
        let same_action = match (&held.action, action) {
            (
                Action::Forward { cluster: held_cluster, service: held_service, balancing: held_position },
                Action::Forward { cluster, service, balancing: position },
            ) => {
                held_cluster == cluster
                    && held_service == service
                    && match (held_position, position) {
                        (Some(held), Some(position)) => self.balancing.leads(
                            *position,
                            *held,
                            &self.config.balancing,
                            &self.document.balancing,
                        ),
                        (held, position) => held == position,
                    }
            }
            (held, action) => held == action,
        };
        same_action
            && held.path == *path
            && held.ingress == *ingress
            && held.path_type == *path_type
            && self.policies.leads(*policies, held.policies, &self.config.policies, &self.document.policies)
    }
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

    /// Whether an old position becomes this new one, at which the same stands.
    fn leads<T: PartialEq>(&mut self, old: usize, new: usize, all: &[T], taken: &[T]) -> bool {
        let known = self.new.contains_key(&old);
        self.new_of(old) == new && (known || all.get(old).is_some_and(|value| taken.get(new) == Some(value)))
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
    Ok(PluginConfig { part: Some(part_number(number, of)), ..excerpt(config, hosts)? })
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
        config_type: Some(discovered("envoy.extensions.filters.http.wasm.v3.Wasm")),
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use ingress_wasm::config::{Alias, Balancing, HashBy, PathMatching, PathType};
    use ingress_wasm::router::{
        CompiledAction, CompiledRule, Document, RoutingTable, Selection, compile, compile_document, select,
    };

    use super::*;

    /// A host with rules whose policies and balancing are those at the positions.
    fn host(name: &str, position: usize) -> Host {
        let rule = |path: &str| Rule {
            ingress: format!("n/{}", name.trim_start_matches("*.")),
            path: path.to_owned(),
            path_type: PathType::Prefix,
            policies: position,
            action: Action::Forward {
                cluster: format!("{name}{path}"),
                service: String::new(),
                balancing: (!position.is_multiple_of(2)).then_some(position / 2),
            },
        };
        Host {
            name: name.to_owned(),
            path_matching: PathMatching::Elements,
            app_root: None,
            tls: position.is_multiple_of(3),
            aliases: Vec::new(),
            redirect_to: None,
            client_certificate: None,
            script: None,
            locations: Vec::new(),
            rules: vec![rule("/"), rule("/a")],
        }
    }

    fn config() -> PluginConfig {
        let set = |number: usize| PolicySet { denied: Some(format!("{number}")), ..PolicySet::default() };
        let mut hosts: Vec<Host> = (0..40).map(|at| host(&format!("h{at}.example"), at % 7)).collect();
        hosts.extend((0..10).map(|at| host(&format!("*.w{at}.example"), at % 7)));
        hosts.push(host("*.example", 3));
        hosts.push(host("*", 1));
        let alias = |name: &str| Alias { name: name.to_owned(), tls: name.contains("tls") };
        let aliases = ["h1.example", "tls.example", "*.w1.example", "www.*", "~^x\\d"].map(alias).to_vec();
        hosts.push(Host { aliases, ..host("aliased.example", 5) });
        let balancing = |number: usize| Balancing {
            canary: None,
            affinity: None,
            hash_by: Some(HashBy { value: format!("${{host}}{number}"), subsets: Vec::new() }),
        };
        PluginConfig {
            version: ingress_wasm::config::SCHEMA_VERSION,
            generation: "whole".to_owned(),
            global: Global { redirect_status: Some(301), ..Global::default() },
            credentials: BTreeMap::new(),
            api_keys: BTreeMap::new(),
            policies: (0..7).map(set).collect(),
            balancing: (0..4).map(balancing).collect(),
            hosts,
            parts: Vec::new(),
            part: None,
        }
    }

    /// The table of the configuration in so many parts.
    fn divided(config: &PluginConfig, count: usize) -> RoutingTable {
        let (others, hosts) = divide(config, count);
        let compiled: Vec<_> = hosts
            .iter()
            .enumerate()
            .map(|(number, hosts)| {
                let mut document = part(config, number, count, hosts).expect("a part");
                document.generation = format!("g{number}");
                match compile_document(document) {
                    Ok(Document::Part(part)) => part,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        let generations = (0..count).map(|number| format!("g{number}")).collect();
        let document = whole(config, &others, generations).expect("a document");
        let Ok(Document::Whole(draft)) = compile_document(document) else { panic!("no draft") };
        let missing =
            |number: usize, _: &str| compiled.get(number).filter(|_| number != count - 1).map(Rc::clone);
        let draft = draft.complete(missing).expect_err("a part is missing");
        let found = |number: usize, generation: &str| {
            compiled.get(number).filter(|part| &*part.generation == generation).map(Rc::clone)
        };
        draft.complete(found).expect("all parts are there")
    }

    fn told(rule: &CompiledRule) -> String {
        let balanced = match &rule.action {
            CompiledAction::Forward { cluster, balancing, .. } => format!("{cluster} {balancing:?}"),
            other => format!("{other:?}"),
        };
        format!("{} {} {:?} {balanced}", rule.ingress, rule.path, rule.policies.denied)
    }

    #[test]
    fn requests_are_decided_as_by_one_document() {
        let config = config();
        let one = compile(config.clone()).expect("compiles");
        for count in [1, 2, 16, 512] {
            let table = divided(&config, count);
            assert_eq!(table.hosts().count(), one.hosts().count());
            assert_eq!(&*table.generation, "whole");
            assert_eq!(table.redirect_status, 301);
            let names = config.hosts.iter().map(|host| host.name.replace('*', "any"));
            let others =
                ["H1.example:80", "TLS.example.", "deep.er.w1.example", "www.x", "x1.y", "nobody", ""];
            for name in names.chain(others.map(str::to_owned)) {
                for path in ["/", "/a/b"] {
                    let decide = |table: &RoutingTable| match select(
                        table,
                        name.as_bytes(),
                        path.as_bytes(),
                        &mut <_>::default(),
                    ) {
                        Selection::Rule(selected) => {
                            let by_number = table.rule(selected.rule.number).map(told);
                            assert_eq!(by_number, Some(told(selected.rule)), "{name}{path}");
                            format!("{} {:?}", told(selected.rule), selected.host_match)
                        }
                        other => format!("{other:?}"),
                    };
                    assert_eq!(decide(&table), decide(&one), "{name}{path} in {count} parts");
                }
                let certificate = |table: &RoutingTable| table.has_certificate(name.as_bytes());
                assert_eq!(certificate(&table), certificate(&one), "{name} in {count} parts");
            }
        }
    }

    #[test]
    fn a_part_changes_only_with_its_hosts() {
        let before = config();
        let mut after = before.clone();
        // All positions move by one, and one host changes.
        after.policies.insert(0, PolicySet { denied: Some("new".to_owned()), ..PolicySet::default() });
        for host in &mut after.hosts {
            host.rules.iter_mut().for_each(|rule| rule.policies += 1);
        }
        let changed = after.hosts.iter_mut().find(|host| host.name == "h7.example").expect("is there");
        changed.rules[0].policies = 0;
        let count = 16;
        let parts = |config: &PluginConfig| -> Vec<PluginConfig> {
            let (_, hosts) = divide(config, count);
            (0..count).map(|number| part(config, number, count, &hosts[number]).expect("a part")).collect()
        };
        let (before, after) = (parts(&before), parts(&after));
        let different: Vec<usize> = (0..count).filter(|number| before[*number] != after[*number]).collect();
        assert_eq!(different, [part_of(b"h7.example", count)]);
    }

    #[test]
    fn a_little_growth_divides_nothing_anew() {
        let cases = [
            (0, 0, 0),
            (ONE_DOCUMENT - 1, 0, 0),
            (ONE_DOCUMENT, 0, 1),
            (3000, 0, 4),
            (50_000, 0, 64),
            (10_000_000, 0, MOST_PARTS),
            // It stays in parts until there are half as many rules.
            (ONE_DOCUMENT - 1, 1, 1),
            (ONE_DOCUMENT / 2 - 1, 1, 0),
            (33_000, 32, 64),
            (32_000, 64, 64),
            (16_000, 64, 16),
        ];
        for (rules, before, expected) in cases {
            assert_eq!(count(rules, before), expected, "{rules} rules after {before} parts");
        }
    }

    #[test]
    fn a_part_is_known_without_making_it() {
        let base = config();
        let hosts = |config: &'static PluginConfig| divide(config, 4).1;
        let leak = |config: PluginConfig| -> &'static PluginConfig { Box::leak(Box::new(config)) };
        let held: Vec<PluginConfig> = hosts(leak(base.clone()))
            .iter()
            .enumerate()
            .map(|(number, hosts)| part(&base, number, 4, hosts).expect("a part"))
            .collect();
        let mut changes: Vec<PluginConfig> = vec![base.clone()];
        for change in [
            |config: &mut PluginConfig| config.hosts[3].rules[1].path.push('x'),
            |config: &mut PluginConfig| config.hosts[3].rules[0].policies = 2,
            |config: &mut PluginConfig| config.hosts[3].tls = !config.hosts[3].tls,
            |config: &mut PluginConfig| drop(config.hosts[3].rules.pop()),
            |config: &mut PluginConfig| drop(config.hosts.remove(3)),
            |config: &mut PluginConfig| config.policies[3].denied = None,
            |config: &mut PluginConfig| config.balancing[1].hash_by = None,
            // Only the numbers change.
            |config: &mut PluginConfig| {
                config.policies.insert(0, PolicySet::default());
                let rules = config.hosts.iter_mut().flat_map(|host| &mut host.rules);
                rules.for_each(|rule| rule.policies += 1);
            },
        ] {
            let mut changed = base.clone();
            change(&mut changed);
            changes.push(changed);
        }
        let mut same = 0;
        for (index, config) in changes.into_iter().enumerate() {
            let config = leak(config);
            for (number, hosts) in hosts(config).iter().enumerate() {
                let expected = part(config, number, 4, hosts).expect("a part") == held[number];
                assert_eq!(is_part(&held[number], config, number, 4, hosts), expected, "{index}, {number}");
                assert!(!is_part(&held[number], config, number, 8, hosts), "{index}, {number}");
                same += usize::from(expected);
            }
        }
        assert!((10..34).contains(&same), "{same} are the same");
    }

    #[test]
    fn a_position_of_nothing_is_refused() {
        let mut config = config();
        config.hosts[0].rules[0].policies = 7;
        let error = excerpt(&config, &[&config.hosts[0]]).expect_err("there are 7").to_string();
        assert!(error.contains("a rule names number 7, there are 7"), "{error}");
    }
}
