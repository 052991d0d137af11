//! What the watches have told so far, as objects to translate.
//!
//! Deliberately knows nothing of clients and of Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::manifest::Loaded;
use ingress_wasm_translate::objects::{
    Annotation, ConfigMap, Ingress, Kind, Object, ObjectName, ObjectRef, Snapshot,
};
use ingress_wasm_translate::output::{Options, Translation};
use ingress_wasm_translate::references;

use super::raw::{AnnotationsPrefix, Identity};
use super::served::View;
use super::watches::{News, Wanted};
use crate::catalog::Catalog;

/// What annotations begin with here, whatever they do outside.
const NGINX: &str = "nginx.ingress.kubernetes.io";

/// What has changed since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Something that a translation reads.
    pub objects: bool,
    /// What the API server says of Ingresses besides: their versions and their status.
    pub identities: bool,
    /// Which Secrets and ConfigMaps are wanted.
    pub wanted: bool,
}

/// All objects.
#[derive(Debug)]
pub struct Store {
    options: Options,
    /// The ConfigMap that the command line names; else one that a class of ours names holds the options.
    config_map: Option<ObjectName>,
    prefix: AnnotationsPrefix,
    catalog: Catalog,
    /// Every Ingress, those of namespaces that are not chosen included.
    ingresses: BTreeMap<ObjectName, Entry>,
    /// The namespaces that are chosen; none: all.
    namespaces: Option<BTreeSet<String>>,
    /// The IngressClasses alone.
    classes: Snapshot,
    /// How many Ingresses, or the options, name an object.
    named: BTreeMap<ObjectRef, usize>,
    /// What the ConfigMap with the options names.
    named_by_options: BTreeSet<ObjectRef>,
    /// The ConfigMaps that are named.
    maps: BTreeMap<ObjectName, Arc<ConfigMap>>,
    /// Wanted objects of which it is not known yet whether they exist.
    unanswered: BTreeSet<ObjectRef>,
    identities: Arc<BTreeMap<ObjectName, Arc<Identity>>>,
    /// They may be others by now.
    other_identities: bool,
    /// Ingresses of which it is not known yet whether they are good.
    untried: BTreeSet<ObjectName>,
    /// What has changed since this was last asked.
    changes: Changes,
    /// Objects that are left out, with what there is of them; an earlier version may stand in.
    withheld: BTreeMap<ObjectRef, Loaded>,
    changed: Changed,
    view: Option<Arc<View>>,
}

/// Objects that have changed, each with what it was before the first change; none where it was not there.
pub type Changes = BTreeMap<ObjectRef, Option<Loaded>>;

/// An Ingress.
#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
    loaded: Loaded,
    /// It is ours: its namespace is chosen and its class is one of ours.
    ours: bool,
    /// What it names, where it is ours.
    names: BTreeSet<ObjectRef>,
    /// What its last good version names, while this one is not known to be good: that one may go on serving.
    held: BTreeSet<ObjectRef>,
    /// A translation has not rejected it.
    good: bool,
}

impl Store {
    /// Nothing yet. With `by_selector`, no namespace is chosen before it is told.
    pub fn new(options: Options, prefix: AnnotationsPrefix, by_selector: bool) -> Store {
        let mut store = Store {
            config_map: options.config_map.clone(),
            prefix,
            catalog: Catalog::default(),
            ingresses: BTreeMap::new(),
            namespaces: by_selector.then(BTreeSet::new),
            classes: Snapshot::default(),
            named: BTreeMap::new(),
            named_by_options: BTreeSet::new(),
            maps: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            identities: Arc::default(),
            other_identities: false,
            untried: BTreeSet::new(),
            changes: Changes::new(),
            withheld: BTreeMap::new(),
            changed: Changed { wanted: true, ..Changed::default() },
            view: None,
            options,
        };
        for reference in references::of_options(&store.options) {
            store.name(&reference);
        }
        store
    }

    /// Takes in what a watch tells.
    pub fn take(&mut self, news: News) {
        match news {
            News::There { kind: Kind::Ingress, name, identity, loaded } => {
                self.ingress(name, identity, loaded);
            }
            News::There { kind, name, loaded, .. } => {
                let reference = ObjectRef { kind, name };
                if self.is_unwanted(&reference) {
                    return;
                }
                self.unanswered.remove(&reference);
                self.object(&reference, loaded);
            }
            News::Gone { kind: Kind::Ingress, name } => self.ingress_gone(&name),
            News::Gone { kind, name } => {
                let reference = ObjectRef { kind, name };
                // That one is missing may be news as well.
                self.changed.objects |= self.unanswered.remove(&reference);
                self.object_gone(&reference);
            }
            News::Namespace { name, chosen } => self.namespace(name, chosen),
            News::Listed(_) | News::Forbidden(_) => {}
        }
    }

    /// What has changed since this was last asked.
    pub fn changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// The objects that have changed since this was last asked.
    pub fn changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Whether an object can be left out. Options and classes cannot unless an earlier version stands in: who is kept
    /// out by them would be let in.
    pub fn can_withhold(&self, reference: &ObjectRef, has_earlier: bool) -> bool {
        let guards = matches!(reference.kind, Kind::ConfigMap | Kind::IngressClass);
        let is_out = self.withheld.contains_key(reference);
        !is_out && (has_earlier || !guards) && self.catalog.get(&place(reference)).is_some()
    }

    /// Leaves an object out until it changes, is gone, or is released. An earlier version stands in where there is
    /// one, else [`closed`] for an Ingress.
    pub fn withhold(&mut self, reference: &ObjectRef, earlier: Option<Loaded>) {
        let Some(now) = self.catalog.get(&place(reference)) else { return };
        let stand_in = earlier.or_else(|| closed(&now));
        self.withheld.insert(reference.clone(), now);
        self.stand_in(reference, stand_in);
    }

    /// Has no earlier version stand in any more.
    pub fn withhold_earlier(&mut self, reference: &ObjectRef) {
        if let Some(now) = self.withheld.get(reference) {
            let stand_in = closed(now);
            self.stand_in(reference, stand_in);
        }
    }

    fn stand_in(&mut self, reference: &ObjectRef, stand_in: Option<Loaded>) {
        let before = std::mem::take(&mut self.changes);
        match stand_in {
            Some(stand_in) => self.hand(reference, stand_in),
            None => self.withdraw(reference),
        }
        // To those who have accepted the earlier one, nothing has changed.
        self.changes = before;
        self.changed.objects = true;
    }

    /// An object is left out.
    pub fn is_withheld(&self, reference: &ObjectRef) -> bool {
        self.withheld.contains_key(reference)
    }

    /// Leaves an object out no more.
    pub fn release(&mut self, reference: &ObjectRef) {
        if let Some(loaded) = self.withheld.remove(reference) {
            self.hand(reference, loaded);
            self.changed.objects = true;
        }
    }

    /// Ingresses of ours that name an object.
    pub fn users(&self, reference: &ObjectRef) -> impl Iterator<Item = ObjectName> {
        let uses = |entry: &Entry| entry.ours && entry.names.contains(reference);
        self.ingresses.iter().filter(move |(_, entry)| uses(entry)).map(|(name, _)| name.clone())
    }

    /// Releases Ingresses that are left out and name something that has changed: it may have been that.
    fn release_users(&mut self, reference: &ObjectRef) {
        let users: Vec<ObjectRef> = self
            .withheld
            .keys()
            .filter(|held| held.kind == Kind::Ingress)
            .filter(|held| {
                self.ingresses.get(&held.name).is_some_and(|entry| entry.names.contains(reference))
            })
            .cloned()
            .collect();
        users.iter().for_each(|user| self.release(user));
    }

    /// The Secrets and ConfigMaps that are wanted.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted { must: self.options.config_map.clone(), ..Wanted::default() };
        for reference in self.named.keys() {
            wanted.names.entry(reference.kind).or_default().insert(reference.name.clone());
        }
        wanted
    }

    /// Something that is named and of which it is not known yet whether it exists.
    pub fn unanswered(&self) -> Option<&ObjectRef> {
        self.unanswered.first()
    }

    /// Translates all objects; for an Ingress that is rejected its last good version stands in.
    pub fn translate(&mut self) -> Translation {
        let mut translation = self.catalog.translate(&self.options);
        self.settle(&translation);
        for diagnostic in &mut translation.diagnostics {
            self.outward(diagnostic);
        }
        let served = self.catalog.served();
        self.view = Some(Arc::new(View {
            snapshot: served,
            options: self.options.clone(),
            namespaces: self.namespaces.clone(),
            prefix: self.prefix.clone(),
        }));
        translation
    }

    /// What was translated last; none before the first time.
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.clone()
    }

    /// The Ingresses that are ours.
    pub fn identities(&mut self) -> Arc<BTreeMap<ObjectName, Arc<Identity>>> {
        if !std::mem::take(&mut self.other_identities) {
            return Arc::clone(&self.identities);
        }
        let ours = self.ingresses.iter().filter(|(_, entry)| entry.ours);
        let ours: BTreeMap<_, _> =
            ours.map(|(name, entry)| (name.clone(), Arc::clone(&entry.identity))).collect();
        if *self.identities != ours {
            self.identities = Arc::new(ours);
        }
        Arc::clone(&self.identities)
    }

    fn outward(&self, diagnostic: &mut Diagnostic) {
        self.prefix.outward(&mut diagnostic.field);
        self.prefix.outward(&mut diagnostic.consequence);
        self.prefix.outward(&mut diagnostic.remedy);
    }

    // --- Ingresses

    fn ingress(&mut self, name: ObjectName, identity: Identity, loaded: Loaded) {
        let held = self.ingresses.get_mut(&name);
        if let Some(held) = held
            && held.loaded == loaded
        {
            // A status that was written, by us or by others.
            let identity = Identity { content: held.identity.content.clone(), ..identity };
            let others = *held.identity != identity;
            held.identity = Arc::new(identity);
            if others {
                self.note_identities();
            }
            return;
        }
        let mut entry = Entry {
            identity: Arc::new(identity),
            loaded,
            ours: false,
            names: BTreeSet::new(),
            held: BTreeSet::new(),
            good: false,
        };
        let mut dropped = BTreeSet::new();
        if let Some(before) = self.ingresses.remove(&name) {
            // The names of a version that was not good are let go.
            (entry.held, dropped) =
                if before.good { (before.names, before.held) } else { (before.held, before.names) };
            entry.ours = before.ours;
        }
        self.ingresses.insert(name.clone(), entry);
        self.untried.insert(name.clone());
        self.note_identities();
        if self.is_chosen(&name.namespace) {
            self.serve(&name);
        }
        // Now that the new ones are named: what is in both is not fetched again.
        dropped.iter().for_each(|reference| self.unname(reference));
    }

    fn ingress_gone(&mut self, name: &ObjectName) {
        if let Some(entry) = self.ingresses.remove(name) {
            entry.names.iter().chain(&entry.held).for_each(|reference| self.unname(reference));
            self.untried.remove(name);
            self.note_identities();
        }
        self.object_gone(&ObjectRef { kind: Kind::Ingress, name: name.clone() });
    }

    /// Lets go what only earlier versions named of Ingresses that turned out to be good.
    fn settle(&mut self, translation: &Translation) {
        for name in std::mem::take(&mut self.untried) {
            let reference = ObjectRef { kind: Kind::Ingress, name: name.clone() };
            let rejected = translation.rejected.contains(&reference);
            let Some(entry) = self.ingresses.get_mut(&name) else { continue };
            entry.good = !rejected && !entry.loaded.objects.is_empty();
            if entry.good {
                let held = std::mem::take(&mut entry.held);
                held.iter().for_each(|reference| self.unname(reference));
            }
        }
    }

    /// Hands an Ingress of a chosen namespace to the catalog, and notes what it names.
    fn serve(&mut self, name: &ObjectName) {
        let Some(entry) = self.ingresses.get(name) else { return };
        let loaded = entry.loaded.clone();
        self.object(&ObjectRef { kind: Kind::Ingress, name: name.clone() }, loaded);
        self.claim(name);
    }

    /// Finds out whether an Ingress is ours and what it names.
    fn claim(&mut self, name: &ObjectName) {
        let chosen = self.is_chosen(&name.namespace);
        let Some(entry) = self.ingresses.get_mut(name) else { return };
        let ingress = entry.loaded.objects.iter().find_map(|object| match object {
            Object::Ingress(ingress) if chosen => Some(Arc::clone(ingress)),
            _ => None,
        });
        let ours = |ingress: &Arc<Ingress>| references::is_ours(ingress, &self.classes, &self.options);
        let ingress = ingress.filter(ours);
        // An Ingress that does not decode keeps what it had: its last good version goes on serving.
        let undecoded = chosen && entry.loaded.objects.is_empty();
        let names = ingress.as_deref().map(references::of_ingress).unwrap_or_default();
        let is_ours = ingress.is_some() || (undecoded && entry.ours);
        if entry.ours != is_ours {
            entry.ours = is_ours;
            (self.changed.identities, self.other_identities) = (true, true);
        }
        let before = std::mem::replace(&mut entry.names, names.clone());
        names.iter().for_each(|reference| self.name(reference));
        before.iter().for_each(|reference| self.unname(reference));
    }

    fn is_chosen(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|chosen| chosen.contains(namespace))
    }

    fn namespace(&mut self, namespace: String, chosen: bool) {
        let Some(namespaces) = &mut self.namespaces else { return };
        let news = if chosen { namespaces.insert(namespace.clone()) } else { namespaces.remove(&namespace) };
        if !news {
            return;
        }
        let inside: Vec<ObjectName> =
            self.ingresses.keys().filter(|name| name.namespace == namespace).cloned().collect();
        for name in inside {
            if chosen {
                self.serve(&name);
            } else {
                self.object_gone(&ObjectRef { kind: Kind::Ingress, name: name.clone() });
                self.claim(&name);
                let held = self.ingresses.get_mut(&name).map(|entry| std::mem::take(&mut entry.held));
                held.iter().flatten().for_each(|reference| self.unname(reference));
            }
        }
    }

    // --- Other objects

    fn object(&mut self, reference: &ObjectRef, loaded: Loaded) {
        if let Some(held) = self.withheld.get(reference) {
            if held.objects == loaded.objects {
                return;
            }
            self.withheld.remove(reference);
        }
        self.hand(reference, loaded);
        if !self.withheld.is_empty() {
            self.release_users(reference);
        }
    }

    /// Hands an object on as it is to be translated.
    fn hand(&mut self, reference: &ObjectRef, loaded: Loaded) {
        match reference.kind {
            Kind::IngressClass => self.class(&reference.name, &loaded),
            Kind::ConfigMap => {
                let map = loaded.objects.iter().find_map(|object| match object {
                    Object::ConfigMap(map) => Some(Arc::clone(map)),
                    _ => None,
                });
                // One that does not decode leaves the one before, as in the catalog.
                if let Some(map) = map {
                    self.maps.insert(reference.name.clone(), map);
                }
                self.options_say();
            }
            _ => {}
        }
        let place = place(reference);
        let before = self.catalog.get(&place);
        if self.catalog.put(place, loaded) {
            self.note(reference, before);
        }
    }

    fn object_gone(&mut self, reference: &ObjectRef) {
        self.withheld.remove(reference);
        self.withdraw(reference);
    }

    /// Has an object translated no more.
    fn withdraw(&mut self, reference: &ObjectRef) {
        match reference.kind {
            Kind::IngressClass if self.classes.classes.remove(&reference.name).is_some() => {
                self.claim_all();
            }
            Kind::ConfigMap if self.maps.remove(&reference.name).is_some() => self.options_say(),
            _ => {}
        }
        let place = place(reference);
        let before = self.catalog.get(&place);
        if self.catalog.take(&place) {
            self.note(reference, before);
        }
    }

    fn note_identities(&mut self) {
        self.changed.identities = true;
        self.other_identities = true;
    }

    fn note(&mut self, reference: &ObjectRef, before: Option<Loaded>) {
        self.changed.objects = true;
        self.changes.entry(reference.clone()).or_insert(before);
    }

    fn class(&mut self, name: &ObjectName, loaded: &Loaded) {
        for object in &loaded.objects {
            if let Object::IngressClass(class) = object
                && self.classes.classes.get(name) != Some(class)
            {
                self.classes.classes.insert(name.clone(), Arc::clone(class));
                self.claim_all();
            }
        }
    }

    /// A class came, changed or went: any Ingress may belong to another now, and the options be elsewhere.
    fn claim_all(&mut self) {
        let map = self.config_map.clone();
        let map = map.or_else(|| references::config_map_of_classes(&self.classes, &self.options));
        if map != self.options.config_map {
            let reference = |name: ObjectName| ObjectRef { kind: Kind::ConfigMap, name };
            let before = std::mem::replace(&mut self.options.config_map, map.clone());
            map.into_iter().for_each(|name| self.name(&reference(name)));
            before.into_iter().for_each(|name| self.unname(&reference(name)));
            self.options_say();
            self.changed.wanted = true;
        }
        let all: Vec<ObjectName> = self.ingresses.keys().cloned().collect();
        all.iter().for_each(|name| self.claim(name));
    }

    /// The ConfigMap with the options may name others than before.
    fn options_say(&mut self) {
        let map = self.options.config_map.as_ref().and_then(|name| self.maps.get(name));
        let names = map.map(|map| references::of_config_map(map)).unwrap_or_default();
        let before = std::mem::replace(&mut self.named_by_options, names.clone());
        names.iter().for_each(|reference| self.name(reference));
        before.iter().for_each(|reference| self.unname(reference));
    }

    // --- What is named

    fn name(&mut self, reference: &ObjectRef) {
        let count = self.named.entry(reference.clone()).or_insert(0);
        *count = count.saturating_add(1);
        if *count == 1 {
            self.changed.wanted = true;
            self.unanswered.insert(reference.clone());
        }
    }

    fn unname(&mut self, reference: &ObjectRef) {
        let Some(count) = self.named.get_mut(reference) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.named.remove(reference);
            self.unanswered.remove(reference);
            self.changed.wanted = true;
            self.object_gone(reference);
        }
    }

    /// A Secret or ConfigMap that nothing names any more.
    fn is_unwanted(&self, reference: &ObjectRef) -> bool {
        matches!(reference.kind, Kind::Secret | Kind::ConfigMap) && !self.named.contains_key(reference)
    }
}

/// Annotations that say which requests an Ingress is for.
const MATCHING: [&str; 3] = ["use-regex", "rewrite-target", "server-alias"];

/// An Ingress that answers 503 to all requests that it is for: were it not there, they would come to rules of others,
/// which may lack what guards it. Other objects have nothing of the kind: who needs a Secret or a Service that is
/// missing answers 503 by himself.
fn closed(loaded: &Loaded) -> Option<Loaded> {
    let [Object::Ingress(ingress)] = loaded.objects.as_slice() else { return None };
    let mut ingress = Ingress::clone(ingress);
    ingress.tls.clear();
    let annotations = &mut ingress.metadata.annotations;
    let matching = MATCHING.map(|name| format!("{NGINX}/{name}"));
    annotations.retain(|key, _| matching.contains(key));
    // A Secret that nobody fetches.
    for (name, value) in [("auth-type", "basic"), ("auth-secret", "refused-by-envoy")] {
        annotations.insert(format!("{NGINX}/{name}"), Annotation { value: value.to_owned(), line: 0 });
    }
    Some(Loaded { objects: vec![Object::Ingress(Arc::new(ingress))], ..Loaded::default() })
}

/// The name of an object among the places of the catalog.
fn place(reference: &ObjectRef) -> Arc<str> {
    reference.to_string().into()
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
