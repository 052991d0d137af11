//! What differs between two snapshots. Objects that did not change are mostly the same ones in memory.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::objects::{Kind, ObjectName, ObjectRef, Snapshot};

/// The names of objects that have come, changed or gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Ingresses.
    pub ingresses: BTreeSet<ObjectName>,
    /// Some IngressClass.
    pub classes: bool,
    /// Services, and those whose endpoints have changed.
    pub services: BTreeSet<ObjectName>,
    secrets: BTreeSet<ObjectRef>,
    config_maps: BTreeSet<ObjectRef>,
    service_objects: BTreeSet<ObjectName>,
    slices: BTreeSet<(ObjectName, String)>,
}

impl Changes {
    /// From one snapshot to another.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let Snapshot { ingresses, classes, services, endpoint_slices, secrets, config_maps } = before;
        let of = |kind| move |name: &ObjectName| ObjectRef { kind, name: name.clone() };
        let service_objects = changed(services, &after.services);
        let slices = changed(endpoint_slices, &after.endpoint_slices);
        let services = service_objects.iter().chain(slices.iter().map(|(service, _)| service));
        Changes {
            ingresses: changed(ingresses, &after.ingresses),
            classes: !changed(classes, &after.classes).is_empty(),
            services: services.cloned().collect(),
            secrets: changed(secrets, &after.secrets).iter().map(of(Kind::Secret)).collect(),
            config_maps: changed(config_maps, &after.config_maps).iter().map(of(Kind::ConfigMap)).collect(),
            service_objects,
            slices,
        }
    }

    /// Nothing has changed.
    pub fn is_nothing(&self) -> bool {
        *self == Changes::default()
    }

    /// Nothing but EndpointSlices.
    pub fn only_endpoints(&self) -> bool {
        self.ingresses.is_empty()
            && !self.classes
            && self.service_objects.is_empty()
            && self.secrets.is_empty()
            && self.config_maps.is_empty()
    }

    /// The Secrets and ConfigMaps.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.secrets.iter().chain(&self.config_maps)
    }

    /// Makes `held`, the snapshot before, the one after.
    pub fn apply(&self, held: &mut Snapshot, after: &Snapshot) {
        take(&mut held.ingresses, &after.ingresses, self.ingresses.iter());
        take(&mut held.services, &after.services, self.service_objects.iter());
        take(&mut held.endpoint_slices, &after.endpoint_slices, self.slices.iter());
        take(&mut held.secrets, &after.secrets, self.secrets.iter().map(|object| &object.name));
        take(&mut held.config_maps, &after.config_maps, self.config_maps.iter().map(|object| &object.name));
        if self.classes {
            held.classes.clone_from(&after.classes);
        }
    }
}

fn take<'k, K: Ord + Clone + 'k, V>(
    held: &mut BTreeMap<K, Arc<V>>,
    after: &BTreeMap<K, Arc<V>>,
    changed: impl Iterator<Item = &'k K>,
) {
    for key in changed {
        match after.get(key) {
            Some(value) => drop(held.insert(key.clone(), Arc::clone(value))),
            None => drop(held.remove(key)),
        }
    }
}

/// The keys at which two maps differ.
pub fn changed<K: Ord + Clone, V: PartialEq>(
    before: &BTreeMap<K, Arc<V>>,
    after: &BTreeMap<K, Arc<V>>,
) -> BTreeSet<K> {
    let mut changed = BTreeSet::new();
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changed,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((_, one)), Some((_, other))) if Arc::ptr_eq(one, other) => {
                old.next();
                new.next();
                continue;
            }
            (Some((name, _)), Some((other, _))) => name.cmp(other),
        };
        let one = if order.is_le() { old.next() } else { None };
        let other = if order.is_ge() { new.next() } else { None };
        if one != other {
            changed.extend(one.or(other).map(|(key, _)| key.clone()));
        }
    }
}
