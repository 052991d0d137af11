//! Which Ingresses have a say in each other's translation: those that name the same host, and, where it matters who
//! names it first, the same Service. What is translated together with all that have a say in it comes out as if
//! everything were translated.
//!
//! Where it is doubtful whether they have one, they have.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use crate::annotations::{AnnotationSet, Value};
use crate::backends::Asked;
use crate::hosts::{ANY_HOST, host_name};
use crate::objects::{Ingress, IngressBackend, ObjectName, ObjectRef, Snapshot};
use crate::output::Options;
use crate::references;
use crate::snippets;
use crate::translate::World;

/// Annotations that say of Services how they are served, to all that name them (`upstreams.rs`, `passthrough.rs`).
const OF_SERVICES: [&str; 7] = [
    "affinity",
    "canary",
    "load-balance",
    "service-upstream",
    "session-cookie",
    "ssl-passthrough",
    "upstream-hash-by",
];

/// Something that Ingresses meet at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A host, an alias or the other name of one, in lower case.
    Host(String),
    /// A Service.
    Service(ObjectName),
    /// A Secret or a ConfigMap.
    Object(ObjectRef),
}

/// What there is to know of an Ingress besides its translation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// What it names.
    keys: BTreeSet<Key>,
    /// The ports of Services that it asks by URL.
    asks: BTreeSet<(ObjectName, u16)>,
    tls: bool,
    /// It has a snippet.
    pub snippets: bool,
    variables: BTreeSet<String>,
    /// It is a canary.
    canary: bool,
    /// It says how Services are served.
    speaks: bool,
}

impl Traits {
    /// Those of an Ingress, none where it is not ours; Services that it names other than as backends come later.
    pub fn of(ingress: &Ingress, snapshot: &Snapshot, options: &Options) -> Self {
        if !references::is_ours(ingress, snapshot, options) {
            return Traits::default();
        }
        let annotations = AnnotationSet::of(ingress, None);
        let mut traits = Traits { tls: !ingress.tls.is_empty(), ..Traits::default() };
        for setting in annotations.iter() {
            let names = [setting.entry.name, setting.entry.alias_of.unwrap_or_default()];
            traits.speaks |= OF_SERVICES.iter().any(|known| names.iter().any(|name| name.starts_with(known)));
            traits.snippets |= names.iter().any(|name| name.ends_with("-snippet"));
            traits.canary |= names.contains(&"canary");
        }
        if traits.snippets {
            traits.variables = snippets::variables(&annotations);
        }
        traits.keys = references::of_ingress(ingress).into_iter().map(Key::Object).collect();
        let mut host = |name: &str| traits.keys.extend([Key::Host(name.to_ascii_lowercase())]);
        let www = annotations.get("from-to-www-redirect").is_some();
        for rule in &ingress.rules {
            let name = host_name(rule);
            host(&name);
            if www {
                host(name.strip_prefix("www.").unwrap_or(&format!("www.{name}")));
            }
        }
        if let Some(Ok(Value::List(names))) = annotations.get("server-alias").map(|found| found.parse()) {
            names.iter().for_each(|name| host(name));
        }
        // A canary of a default backend is one of all rules that have no host.
        if ingress.rules.is_empty() || (traits.canary && ingress.default_backend.is_some()) {
            host(ANY_HOST);
        }
        let paths = ingress.rules.iter().flat_map(|rule| &rule.paths);
        for backend in paths.filter_map(|path| path.backend.as_ref()).chain(&ingress.default_backend) {
            traits.keys.insert(Key::Service(service(ingress, backend)));
        }
        traits
    }

    fn ask(&mut self, asked: &BTreeSet<(ObjectName, Option<u16>)>) {
        for (service, port) in asked {
            self.keys.insert(Key::Service(service.clone()));
            self.asks.extend(port.map(|port| (service.clone(), port)));
        }
    }

    /// The hosts that it names.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| match key {
            Key::Host(host) => Some(host.as_str()),
            _ => None,
        })
    }

    fn services(&self) -> impl Iterator<Item = &ObjectName> {
        self.keys.iter().filter_map(|key| match key {
            Key::Service(service) => Some(service),
            _ => None,
        })
    }
}

fn service(ingress: &Ingress, backend: &IngressBackend) -> ObjectName {
    ObjectName::new(ingress.metadata.name.namespace.clone(), backend.service.clone())
}

/// The traits of all Ingresses, and who meets where. While a change is looked at, an Ingress may be in it twice: as
/// it was and as it is.
#[derive(Debug, Default)]
pub struct Ledger {
    traits: BTreeMap<ObjectName, Vec<Traits>>,
    met: HashMap<Key, BTreeSet<ObjectName>>,
    canary_hosts: HashMap<String, usize>,
    /// How many say how a Service is served.
    spoken: HashMap<ObjectName, usize>,
    /// How many ask a port of a Service by URL.
    asked: HashMap<ObjectName, BTreeMap<u16, usize>>,
    variables: HashMap<String, usize>,
    tls: usize,
}

impl Ledger {
    /// Of all Ingresses of a snapshot.
    pub fn of(snapshot: &Snapshot, options: &Options, asked: &Asked) -> Self {
        let mut ledger = Ledger::default();
        for (name, ingress) in &snapshot.ingresses {
            let mut traits = Traits::of(ingress, snapshot, options);
            asked.get(name).into_iter().for_each(|asked| traits.ask(asked));
            ledger.add(name, traits);
        }
        ledger
    }

    /// An Ingress has these traits too.
    pub fn add(&mut self, name: &ObjectName, traits: Traits) {
        for key in &traits.keys {
            self.met.entry(key.clone()).or_default().insert(name.clone());
        }
        self.count(&traits, true);
        self.traits.entry(name.clone()).or_default().push(traits);
    }

    /// An Ingress has no traits any more but the last that were added, or none at all.
    pub fn forget(&mut self, name: &ObjectName, all: bool) {
        let mut held = self.traits.remove(name).unwrap_or_default();
        let last = if all { None } else { held.pop() };
        for traits in held {
            self.count(&traits, false);
            for key in &traits.keys {
                if last.as_ref().is_some_and(|last| last.keys.contains(key)) {
                    continue;
                }
                if let Some(met) = self.met.get_mut(key) {
                    met.remove(name);
                    if met.is_empty() {
                        self.met.remove(key);
                    }
                }
            }
        }
        if let Some(last) = last {
            self.traits.insert(name.clone(), vec![last]);
        }
    }

    fn count(&mut self, traits: &Traits, more: bool) {
        let Traits { keys: _, asks, tls, snippets: _, variables, canary, speaks } = traits;
        if *canary {
            traits.hosts().for_each(|host| count(&mut self.canary_hosts, host, more));
        }
        if *speaks {
            traits.services().for_each(|service| count(&mut self.spoken, service, more));
        }
        for (service, port) in asks {
            let ports = self.asked.entry(service.clone()).or_default();
            let count = ports.entry(*port).or_default();
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
            ports.retain(|_, count| *count > 0);
            if ports.is_empty() {
                self.asked.remove(service);
            }
        }
        variables.iter().for_each(|name| count(&mut self.variables, name.as_str(), more));
        if *tls {
            self.tls = if more { self.tls + 1 } else { self.tls.saturating_sub(1) };
        }
    }

    /// All traits of an Ingress.
    pub fn traits(&self, name: &ObjectName) -> impl Iterator<Item = &Traits> {
        self.traits.get(name).into_iter().flatten()
    }

    /// The Ingresses that name something.
    pub fn at(&self, key: &Key) -> impl Iterator<Item = &ObjectName> {
        self.met.get(key).into_iter().flatten()
    }

    /// The world that all traits make.
    pub fn world(&self) -> World {
        World { any_tls: self.tls > 0, variables: self.variables.keys().cloned().collect() }
    }

    /// These Ingresses and all that have a say in their translation, or they in theirs; none where there are more than
    /// `most`.
    pub fn all_involved(&self, first: BTreeSet<ObjectName>, most: usize) -> Option<BTreeSet<ObjectName>> {
        let mut due: Vec<ObjectName> = first.iter().cloned().collect();
        let mut involved = first;
        let mut seen: BTreeSet<&Key> = BTreeSet::new();
        while let Some(name) = due.pop() {
            for key in self.traits(&name).flat_map(|traits| &traits.keys) {
                let joins = match key {
                    Key::Host(_) => true,
                    Key::Service(service) => self.matters(service),
                    Key::Object(_) => false,
                };
                if !joins || !seen.insert(key) {
                    continue;
                }
                for other in self.at(key) {
                    if involved.insert(other.clone()) {
                        due.push(other.clone());
                    }
                }
                if involved.len() > most {
                    return None;
                }
            }
        }
        Some(involved)
    }

    /// Whether it matters to others who names a Service: somebody says how it is served, or a canary stands beside it.
    pub fn matters(&self, service: &ObjectName) -> bool {
        if self.spoken.contains_key(service) {
            return true;
        }
        let near_canary = |name: &ObjectName| {
            self.traits(name).any(|traits| traits.hosts().any(|host| self.canary_hosts.contains_key(host)))
        };
        !self.canary_hosts.is_empty() && self.at(&Key::Service(service.clone())).any(near_canary)
    }

    /// Whether a Service, which may have been asked by URL, is seen otherwise by those who ask than by those who have
    /// it as a backend: then the first of them decides what its cluster is.
    pub fn is_ambiguous(&self, service: &ObjectName, snapshot: &Snapshot) -> bool {
        let Some(ports) = self.asked.get(service) else { return false };
        let Some(found) = snapshot.services.get(service) else { return true };
        let has = |port: &u16| found.ports.iter().any(|known| known.port == *port);
        found.external_name.is_some() || !ports.keys().all(has)
    }

    /// All Services that an Ingress names.
    pub fn services(&self, name: &ObjectName) -> impl Iterator<Item = &ObjectName> {
        self.traits(name).flat_map(Traits::services)
    }

    /// Notes what Ingresses name other than as backends. Gives the Services that are new to the last traits of one.
    pub fn take_asked(&mut self, names: &BTreeSet<ObjectName>, asked: &Asked) -> BTreeSet<ObjectName> {
        let mut new = BTreeSet::new();
        for name in names {
            let Some(asked) = asked.get(name) else { continue };
            let Some(mut traits) = self.traits.get_mut(name).and_then(Vec::pop) else { continue };
            self.count(&traits, false);
            let before = traits.clone();
            traits.ask(asked);
            if traits != before {
                new.extend(asked.iter().map(|(service, _)| service.clone()));
            }
            self.add(name, traits);
        }
        new
    }
}

fn count<K, Q>(counts: &mut HashMap<K, usize>, key: &Q, more: bool)
where
    K: Borrow<Q> + Hash + Eq,
    Q: ToOwned<Owned = K> + Hash + Eq + ?Sized,
{
    match counts.get_mut(key) {
        Some(count) if more => *count += 1,
        Some(count) if *count > 1 => *count -= 1,
        Some(_) => drop(counts.remove(key)),
        None if more => drop(counts.insert(key.to_owned(), 1)),
        None => {}
    }
}
