//! Translation of what has changed: the Ingresses that a change may have a say in are translated by themselves, and what
//! comes out takes the place of what came out of them before.
//!
//! Gives what [`translate`](crate::translate) gives, byte for byte. Where that is doubtful, everything is translated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ingress_wasm::config::{Action, Host, PluginConfig};
use serde::Serialize;

use crate::changes::Changes;
use crate::diagnostic::Diagnostic;
use crate::endpoints::with_endpoints;
use crate::ledger::{Key, Ledger, Traits};
use crate::objects::{ConfigMap, Kind, ObjectName, ObjectRef, Snapshot};
use crate::output::{Options, Translation};
use crate::references;
use crate::report;
use crate::translate::{World, generation, translate_some};
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
    translation: Arc<Translation>,
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
    pub fn translate(&mut self, snapshot: &Snapshot, options: &Options) -> (Arc<Translation>, Extent) {
        if let Some(held) = self.held.take().filter(|held| held.options == *options)
            && let Some((held, extent)) = held.brought_to(snapshot)
        {
            return (Arc::clone(&self.held.insert(held).translation), extent);
        }
        let (translation, asked) = translate_some(snapshot, options, None);
        let ledger = Ledger::of(snapshot, options, &asked);
        let held = Held {
            snapshot: snapshot.clone(),
            options: options.clone(),
            translation: Arc::new(translation),
            world: ledger.world(),
            ledger,
        };
        (Arc::clone(&self.held.insert(held).translation), Extent::Everything)
    }
}

impl Held {
    /// None where everything has to be translated.
    fn brought_to(mut self, snapshot: &Snapshot) -> Option<(Held, Extent)> {
        let changes = Changes::between(&self.snapshot, snapshot);
        if changes.is_nothing() {
            return Some((self, Extent::Nothing));
        }
        if changes.only_endpoints()
            && let Some(found) = with_endpoints(&self.translation, &self.snapshot, snapshot, &self.options)
        {
            self.translation = Arc::new(found);
            self.snapshot.endpoint_slices = snapshot.endpoint_slices.clone();
            return Some((self, Extent::Endpoints));
        }
        let extent = self.translate_changed(&changes, snapshot)?;
        changes.apply(&mut self.snapshot, snapshot);
        Some((self, extent))
    }

    fn translate_changed(&mut self, changes: &Changes, snapshot: &Snapshot) -> Option<Extent> {
        let Held { options, ledger, snapshot: held, world, translation } = &mut *self;
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
        let (part, asked) = translate_some(snapshot, options, Some((&involved, &*world)));
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
        let count = involved.len();
        self.translation = Arc::new(Splice { before: &self.translation, involved, hosts }.with(part)?);
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

/// A translation in which another one takes the place of what these Ingresses came to.
struct Splice<'a> {
    before: &'a Translation,
    involved: BTreeSet<ObjectName>,
    /// Every host that one of them names or has named.
    hosts: BTreeSet<String>,
}

impl Splice<'_> {
    /// None where the part has more to say than of these Ingresses.
    fn with(&self, part: Translation) -> Option<Translation> {
        let Splice { before, hosts, .. } = self;
        let base = |host: &Host| host.name == crate::hosts::ANY_HOST;
        if !part.config.hosts.iter().all(|host| base(host) || hosts.contains(&host.name)) {
            return None;
        }
        let mut config = self.config(&before.config, part.config);
        let mut clusters = before.clusters.clone();
        clusters.extend(part.clusters);
        let mut transports = before.transports.clone();
        transports.extend(part.transports);
        let mut route_profiles = before.route_profiles.clone();
        route_profiles.extend(part.route_profiles);
        let passthrough = self.by_host(&before.passthrough, part.passthrough);
        let elsewhere = (&passthrough, &before.connections);
        keep_used(&mut config, &mut clusters, &mut transports, &mut route_profiles, elsewhere);
        config.generation.clear();
        config.generation = generation(&config);
        let mut diagnostics: Vec<Diagnostic> =
            before.diagnostics.iter().filter(|said| !self.is_of(said)).cloned().collect();
        diagnostics.extend(part.diagnostics.into_iter().filter(|said| self.is_of(said)));
        report::put_in_order(&mut diagnostics);
        let mut rejected: Vec<ObjectRef> =
            before.rejected.iter().filter(|object| !self.involved.contains(&object.name)).cloned().collect();
        rejected.extend(part.rejected);
        rejected.sort();
        Some(Translation {
            config,
            clusters,
            transports,
            route_profiles,
            default_profile: before.default_profile.clone(),
            passed_headers: before.passed_headers.clone(),
            certificates: self.by_host(&before.certificates, part.certificates),
            default_certificate: before.default_certificate.clone(),
            client_authorities: self.by_host(&before.client_authorities, part.client_authorities),
            passthrough,
            tls: before.tls.clone(),
            host_ciphers: self.by_host(&before.host_ciphers, part.host_ciphers),
            connections: before.connections.clone(),
            diagnostics,
            rejected,
        })
    }

    fn is_of(&self, diagnostic: &Diagnostic) -> bool {
        let object = diagnostic.object.as_ref();
        object.is_some_and(|object| object.kind == Kind::Ingress && self.involved.contains(&object.name))
    }

    fn by_host<T: Clone>(
        &self,
        before: &BTreeMap<String, T>,
        part: BTreeMap<String, T>,
    ) -> BTreeMap<String, T> {
        let mut all = before.clone();
        self.hosts.iter().for_each(|host| drop(all.remove(host)));
        all.extend(part.into_iter().filter(|(host, _)| self.hosts.contains(host)));
        all
    }

    fn config(&self, before: &PluginConfig, part: PluginConfig) -> PluginConfig {
        let PluginConfig { credentials, api_keys, policies, balancing, hosts, .. } = part;
        let mut all_policies = before.policies.clone();
        let policies = positions(&mut all_policies, policies);
        let mut all_balancing = before.balancing.clone();
        let balancing = positions(&mut all_balancing, balancing);
        let mut all: Vec<Host> =
            before.hosts.iter().filter(|host| !self.hosts.contains(&host.name)).cloned().collect();
        for mut host in hosts.into_iter().filter(|host| self.hosts.contains(&host.name)) {
            let locations = host.locations.iter_mut().map(|location| &mut location.rule);
            for rule in host.rules.iter_mut().chain(locations) {
                rule.policies = policies.get(rule.policies).copied().unwrap_or(rule.policies);
                if let Action::Forward { balancing: Some(position), .. } = &mut rule.action {
                    *position = balancing.get(*position).copied().unwrap_or(*position);
                }
            }
            all.push(host);
        }
        // Two runs that are in order already.
        all.sort_by(|one, other| one.name.cmp(&other.name));
        let mut all_credentials = before.credentials.clone();
        all_credentials.extend(credentials);
        let mut all_api_keys = before.api_keys.clone();
        all_api_keys.extend(api_keys);
        PluginConfig {
            credentials: all_credentials,
            api_keys: all_api_keys,
            policies: all_policies,
            balancing: all_balancing,
            hosts: all,
            global: before.global.clone(),
            generation: before.generation.clone(),
            parts: Vec::new(),
            part: None,
            version: before.version,
        }
    }
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
