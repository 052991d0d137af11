//! Translation of what has changed: the Ingresses that a change may have a say in are translated by themselves, and what
//! comes out takes the place of what came out of them before.
//!
//! Gives what [`translate`](crate::translate) gives, byte for byte. Where that is doubtful, everything is translated.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config::{Action, Host, PluginConfig};
use serde::Serialize;

use crate::changes::Changes;
use crate::diagnostic::Diagnostic;
use crate::endpoints::put_endpoints;
use crate::generation::{Digests, generation};
use crate::hosts::ANY_HOST;
use crate::ledger::{Key, Ledger, Traits};
use crate::objects::{ConfigMap, Kind, ObjectName, ObjectRef, Snapshot};
use crate::output::{Options, Translation};
use crate::references;
use crate::report;
use crate::translate::{World, translate_some};
use crate::used::keep_used;

/// Up to so many Ingresses are translated by themselves, however few there are in all.
const FEW: usize = 64;

/// Translates again and again, by what has changed since the last time.
#[derive(Debug, Default)]
pub struct Translator {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    snapshot: Snapshot,
    options: Options,
    translation: Translation,
    digests: Digests,
    ledger: Ledger,
    world: World,
}

/// How a translation came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing has changed.
    Nothing,
    /// Only endpoints were put in.
    Endpoints,
    /// So many Ingresses were looked at.
    Ingresses(usize),
    /// Everything was translated.
    Everything,
}

impl Translator {
    /// Translates all objects.
    pub fn translate(&mut self, snapshot: &Snapshot, options: &Options) -> (&Translation, Extent) {
        let brought = self.held.take().filter(|held| held.options == *options);
        let brought = brought.and_then(|held| held.brought_to(snapshot));
        let (held, extent) = brought.unwrap_or_else(|| (Held::new(snapshot, options), Extent::Everything));
        (&self.held.insert(held).translation, extent)
    }
}

impl Held {
    fn new(snapshot: &Snapshot, options: &Options) -> Self {
        let (translation, asked, digests) = translate_some(snapshot, options, None);
        let ledger = Ledger::of(snapshot, options, &asked);
        let world = ledger.world();
        Held { snapshot: snapshot.clone(), options: options.clone(), translation, digests, ledger, world }
    }

    /// None where everything has to be translated.
    fn brought_to(mut self, snapshot: &Snapshot) -> Option<(Held, Extent)> {
        let changes = Changes::between(&self.snapshot, snapshot);
        if changes.is_nothing() {
            return Some((self, Extent::Nothing));
        }
        let put = changes.only_endpoints()
            && put_endpoints(&mut self.translation, &self.snapshot, snapshot, &self.options);
        let extent = if put { Extent::Endpoints } else { self.translate_changed(&changes, snapshot)? };
        changes.apply(&mut self.snapshot, snapshot);
        Some((self, extent))
    }

    /// Leaves the translation half done where it gives nothing.
    fn translate_changed(&mut self, changes: &Changes, snapshot: &Snapshot) -> Option<Extent> {
        let Held { options, ledger, snapshot: held, world, translation, .. } = &mut *self;
        let limits = translation.connections.clients.rate_limits.as_ref();
        let limits = limits.and_then(|service| translation.clusters.get(&service.cluster));
        let limits = limits.map(|cluster| cluster.service.service.clone());
        // Those that are not of single Ingresses.
        let is_default = |service: &ObjectName| {
            options.default_backend.as_ref() == Some(service) || limits.as_ref() == Some(service)
        };
        if options.mesh
            || changes.classes
            || changes.services.iter().any(is_default)
            || changes.objects().any(|object| concerns_all(object, snapshot, options))
        {
            return None;
        }
        for name in &changes.ingresses {
            let ingress = snapshot.ingresses.get(name);
            let traits = ingress.map(|ingress| Traits::of(ingress, snapshot, options)).unwrap_or_default();
            ledger.add(name, traits);
        }
        let mut first = changes.ingresses.clone();
        for service in &changes.services {
            first.extend(ledger.at(&Key::Service(service.clone())).cloned());
        }
        for object in changes.objects() {
            first.extend(ledger.at(&Key::Object(object.clone())).cloned());
        }
        let most = FEW.max(snapshot.ingresses.len() / 2);
        let involved = ledger.all_involved(first, most)?;
        let ambiguous = |service: &ObjectName| {
            is_default(service)
                || ledger.is_ambiguous(service, held)
                || ledger.is_ambiguous(service, snapshot)
        };
        if involved.iter().flat_map(|name| ledger.services(name)).any(ambiguous) {
            return None;
        }
        let traits = || involved.iter().flat_map(|name| ledger.traits(name));
        let snippets = traits().any(|traits| traits.snippets);
        let hosts: BTreeSet<String> = traits().flat_map(Traits::hosts).map(str::to_owned).collect();
        for name in &changes.ingresses {
            ledger.forget(name, !snapshot.ingresses.contains_key(name));
        }
        if ledger.world() != *world {
            return None;
        }
        let (part, asked, _) = translate_some(snapshot, options, Some((&involved, &*world)));
        for service in ledger.take_asked(&involved, &asked) {
            if ledger.matters(&service) || ledger.is_ambiguous(&service, snapshot) || is_default(&service) {
                return None;
            }
        }
        // Which headers some rule passes on holds for all.
        let passed = &self.translation.passed_headers;
        if !part.passed_headers.is_subset(passed) || (snippets && !passed.is_empty()) {
            return None;
        }
        // Nor may the part have more to say than of these Ingresses.
        let known = |host: &Host| host.name == ANY_HOST || hosts.contains(&host.name);
        if !part.config.hosts.iter().all(known) {
            return None;
        }
        let count = involved.len();
        Splice { involved, hosts, digests: &mut self.digests }.put(part, &mut self.translation);
        Some(Extent::Ingresses(count))
    }
}

/// Whether what is said of all Ingresses may depend on this Secret or ConfigMap.
fn concerns_all(object: &ObjectRef, snapshot: &Snapshot, options: &Options) -> bool {
    let of_map = |map: &ConfigMap| references::of_config_map(map).contains(object);
    references::of_options(options).contains(object)
        || options
            .config_map
            .as_ref()
            .and_then(|name| snapshot.config_maps.get(name))
            .is_some_and(|map| of_map(map))
}

/// Puts a translation in the place of what these Ingresses came to.
struct Splice<'a> {
    involved: BTreeSet<ObjectName>,
    /// Every host that one of them names or has named.
    hosts: BTreeSet<String>,
    digests: &'a mut Digests,
}

impl Splice<'_> {
    fn put(self, part: Translation, whole: &mut Translation) {
        // Named one by one, so that a field that is added has to be thought of.
        let Translation {
            config,
            clusters,
            transports,
            route_profiles,
            default_profile: _,
            passed_headers: _,
            certificates,
            default_certificate: _,
            client_authorities,
            passthrough,
            tls: _,
            host_ciphers,
            connections: _,
            diagnostics,
            rejected,
        } = part;
        self.put_config(config, &mut whole.config);
        whole.clusters.extend(clusters);
        whole.transports.extend(transports);
        whole.route_profiles.extend(route_profiles);
        self.put_by_host(certificates, &mut whole.certificates);
        self.put_by_host(client_authorities, &mut whole.client_authorities);
        self.put_by_host(passthrough, &mut whole.passthrough);
        self.put_by_host(host_ciphers, &mut whole.host_ciphers);
        let Translation { config, clusters, transports, route_profiles, passthrough, connections, .. } =
            whole;
        keep_used(config, clusters, transports, route_profiles, (passthrough, connections));
        self.digests.retain(|host, _| !self.hosts.contains(host));
        config.generation = generation(config, self.digests);
        whole.diagnostics.retain(|said| !is_of(&self.involved, said));
        let of_part = diagnostics.into_iter().filter(|said| is_of(&self.involved, said));
        whole.diagnostics.extend(of_part);
        report::put_in_order(&mut whole.diagnostics);
        whole.rejected.retain(|object| !self.involved.contains(&object.name));
        whole.rejected.extend(rejected);
        whole.rejected.sort();
    }

    fn put_by_host<T>(&self, part: BTreeMap<String, T>, whole: &mut BTreeMap<String, T>) {
        self.hosts.iter().for_each(|host| drop(whole.remove(host)));
        whole.extend(part.into_iter().filter(|(host, _)| self.hosts.contains(host)));
    }

    fn put_config(&self, part: PluginConfig, whole: &mut PluginConfig) {
        let PluginConfig { credentials, api_keys, policies, balancing, hosts, .. } = part;
        let policies = positions(&mut whole.policies, policies);
        let balancing = positions(&mut whole.balancing, balancing);
        whole.hosts.retain(|host| !self.hosts.contains(&host.name));
        for mut host in hosts.into_iter().filter(|host| self.hosts.contains(&host.name)) {
            let locations = host.locations.iter_mut().map(|location| &mut location.rule);
            for rule in host.rules.iter_mut().chain(locations) {
                rule.policies = policies.get(rule.policies).copied().unwrap_or(rule.policies);
                if let Action::Forward { balancing: Some(position), .. } = &mut rule.action {
                    *position = balancing.get(*position).copied().unwrap_or(*position);
                }
            }
            whole.hosts.push(host);
        }
        // Two runs that are in order already.
        whole.hosts.sort_by(|one, other| one.name.cmp(&other.name));
        whole.credentials.extend(credentials);
        whole.api_keys.extend(api_keys);
    }
}

/// Whether something is said of one of these Ingresses.
fn is_of(ingresses: &BTreeSet<ObjectName>, diagnostic: &Diagnostic) -> bool {
    let object = diagnostic.object.as_ref();
    object.is_some_and(|object| object.kind == Kind::Ingress && ingresses.contains(&object.name))
}

/// Adds values to a list that does not have them; gives the position of each.
fn positions<T: PartialEq + Serialize>(list: &mut Vec<T>, values: Vec<T>) -> Vec<usize> {
    /// Of more values the list is looked through by a table of their JSON forms.
    const MANY: usize = 16;
    let json = |value: &T| serde_json::to_string(value).unwrap_or_default();
    let mut table = BTreeMap::new();
    let many = values.len() > MANY;
    if many {
        table = list.iter().enumerate().map(|(position, value)| (json(value), position)).collect();
    }
    let mut position = |value: T| {
        let found = if many {
            table.get(&json(&value)).copied()
        } else {
            list.iter().position(|held| *held == value)
        };
        found.unwrap_or_else(|| {
            list.push(value);
            list.len() - 1
        })
    };
    values.into_iter().map(&mut position).collect()
}
