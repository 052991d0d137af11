//! A translation brought up to date where only the endpoints of Services have changed, which is what changes most
//! often: Envoy is told of them by themselves, so that nothing else has to be looked at.

use std::collections::BTreeSet;

use crate::backends::{addresses, cluster_address, find_port, is_subset, pods, slices};
use crate::changes::changed;
use crate::objects::{ObjectName, PortRef, Snapshot};
use crate::output::{Cluster, Endpoint, Endpoints, Options, Translation};

/// Makes of a translation, which is of `before`, what [`translate`](crate::translate) gives for `after` with the same
/// options. The two differ in EndpointSlices alone. Gives whether it did: not where it takes more than other addresses in
/// clusters, since a Service has endpoints that had none.
pub fn put_endpoints(
    translation: &mut Translation,
    before: &Snapshot,
    after: &Snapshot,
    options: &Options,
) -> bool {
    let Some(all) = all_renewed(translation, before, after, options) else { return false };
    for (name, endpoints) in all {
        if let Some(cluster) = translation.clusters.get_mut(&name) {
            cluster.endpoints = Endpoints::Addresses(endpoints);
        }
    }
    true
}

/// The clusters with other addresses; none where that is not all.
fn all_renewed(
    translation: &Translation,
    before: &Snapshot,
    after: &Snapshot,
    options: &Options,
) -> Option<Vec<(String, Vec<Endpoint>)>> {
    let slices = changed(&before.endpoint_slices, &after.endpoint_slices);
    let changed: BTreeSet<&ObjectName> = slices.iter().map(|(service, _)| service).collect();
    if changed.iter().any(|service| wakes_or_sleeps(service, before, after)) {
        return None;
    }
    let mut all = Vec::new();
    for (name, cluster) in &translation.clusters {
        // What the command line says of endpoints counts, whatever the objects say.
        if !changed.contains(&cluster.service.service) || options.backends.contains_key(&cluster.service) {
            continue;
        }
        // How many parts of its endpoints a cluster has depends on how many endpoints there are.
        if is_subset(name) {
            return None;
        }
        all.extend(renewed(cluster, before, after)?.map(|endpoints| (name.clone(), endpoints)));
    }
    Some(all)
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
