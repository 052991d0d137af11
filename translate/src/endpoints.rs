//! A translation brought up to date where only the endpoints of Services have changed, which is what changes most
//! often: Envoy is told of them by themselves, so that nothing else has to be looked at.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::backends::{addresses, cluster_address, find_port, is_subset, pods, slices};
use crate::objects::{ObjectName, PortRef, Snapshot};
use crate::output::{Cluster, Endpoint, Endpoints, Options, Translation};

/// What [`translate`](crate::translate) gives for `after`, made from `translation`, which is of `before` with the
/// same options. None where it takes more than other addresses in clusters: other objects have changed, or a
/// Service has endpoints that had none.
pub fn with_endpoints(
    mut translation: Translation,
    before: &Snapshot,
    after: &Snapshot,
    options: &Options,
) -> Option<Translation> {
    let same = same(&before.ingresses, &after.ingresses)
        && same(&before.classes, &after.classes)
        && same(&before.services, &after.services)
        && same(&before.secrets, &after.secrets)
        && same(&before.config_maps, &after.config_maps);
    if !same {
        return None;
    }
    let changed = changed(before, after);
    if changed.iter().any(|service| wakes_or_sleeps(service, before, after)) {
        return None;
    }
    for (name, cluster) in &mut translation.clusters {
        // What the command line says of endpoints counts, whatever the objects say.
        if !changed.contains(&cluster.service.service) || options.backends.contains_key(&cluster.service) {
            continue;
        }
        // How many parts of its endpoints a cluster has depends on how many endpoints there are.
        if is_subset(name) {
            return None;
        }
        if let Some(endpoints) = renewed(cluster, before, after)? {
            cluster.endpoints = Endpoints::Addresses(endpoints);
        }
    }
    Some(translation)
}

/// Whether two maps hold the same objects. Objects that did not change are mostly the same ones in memory.
fn same<K: PartialEq, V: PartialEq>(before: &BTreeMap<K, Arc<V>>, after: &BTreeMap<K, Arc<V>>) -> bool {
    before.len() == after.len()
        && before.iter().zip(after).all(|((name, one), (other_name, other))| {
            Arc::ptr_eq(one, other) || (name == other_name && one == other)
        })
}

/// The Services whose EndpointSlices are not what they were.
fn changed<'s>(before: &'s Snapshot, after: &'s Snapshot) -> BTreeSet<&'s ObjectName> {
    let mut changed = BTreeSet::new();
    let (mut old, mut new) =
        (before.endpoint_slices.iter().peekable(), after.endpoint_slices.iter().peekable());
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
            changed.extend(one.or(other).map(|((service, _), _)| service));
        }
    }
}

/// Whether a Service has endpoints now and had none, or the other way round: rules, canaries and what is said
/// depend on that. In a mesh it counts whether anything is said of them at all.
fn wakes_or_sleeps(service: &ObjectName, before: &Snapshot, after: &Snapshot) -> bool {
    let ports = before.services.get(service).into_iter().flat_map(|service| &service.ports);
    let mut ports = ports.map(|port| {
        addresses(before, service, port).is_empty() != addresses(after, service, port).is_empty()
    });
    let said = |snapshot| slices(snapshot, service).next().is_some();
    ports.any(|differs| differs)
        || pods(before, service, 0).is_empty() != pods(after, service, 0).is_empty()
        || said(before) != said(after)
}

/// The addresses of a cluster whose Service has other endpoints; none inside where they stay. None where the
/// addresses are not simply those of a port of the Service.
fn renewed(cluster: &Cluster, before: &Snapshot, after: &Snapshot) -> Option<Option<Vec<Endpoint>>> {
    let Endpoints::Addresses(held) = &cluster.endpoints else { return Some(None) };
    let service = &cluster.service.service;
    let port = match cluster.service.port.parse() {
        Ok(number) => PortRef::Number(number),
        Err(_) => PortRef::Name(cluster.service.port.clone()),
    };
    let object = before.services.get(service)?;
    let found = find_port(object, &port)?;
    if *held != addresses(before, service, found)
        || cluster_address(object, &port).is_some_and(|own| *held == [own])
    {
        return None;
    }
    let renewed = addresses(after, service, found);
    Some((renewed != *held).then_some(renewed))
}
