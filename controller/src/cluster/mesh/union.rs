//! What is needed while a gateway goes from one set of objects to the next.
//!
//! A gateway takes changes of clusters, routes and the filter one after the other, and a change of several objects
//! is not one change to it. So before the filter makes use of something new, and until nobody makes use of
//! the old, the objects hold both.

use serde_json::{Map, Value};

use super::kinds::{Key, Kind, Set};

/// The set, with what these others had besides in objects that are the same. Objects that it has not are left to the
/// caller: they stay as they are.
pub fn union<'a>(set: &Set, others: impl IntoIterator<Item = &'a Set>) -> Set {
    let mut found = set.clone();
    for other in others {
        for (key, object) in &mut found {
            if let Some(old) = other.get(key) {
                add(key, object, old);
            }
        }
    }
    found
}

fn add(key: &Key, object: &mut Value, old: &Value) {
    match key.kind {
        Kind::ServiceEntry => lists(object, old, "/spec/ports", |port| port["number"].clone()),
        Kind::DestinationRule => lists(object, old, "/spec/subsets", |subset| subset["name"].clone()),
        // Of passed connections nothing is to be kept: none of them is opened.
        Kind::VirtualService => lists(object, old, "/spec/http", |route| route["match"].clone()),
        Kind::EnvoyFilter => profiles(object, old),
        Kind::Secret | Kind::Gateway | Kind::WasmPlugin | Kind::TrafficExtension => {}
    }
}

/// Adds the entries of a list that the other has not, by what names them.
fn lists(object: &mut Value, old: &Value, pointer: &str, name: impl Fn(&Value) -> Value) {
    let Some(old) = old.pointer(pointer).and_then(Value::as_array) else { return };
    let held = object.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let missing = old.iter().filter(|entry| !held.iter().any(|held| name(held) == name(entry)));
    let all: Vec<Value> = held.iter().chain(missing).cloned().collect();
    if all.len() == held.len() {
        return;
    }
    let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.insert(field.to_owned(), all.into());
    }
}

/// Adds the routes of profiles that are gone.
fn profiles(object: &mut Value, old: &Value) {
    let old = hosts(old).find_map(|host| host.pointer(PROFILES)?.as_object().cloned());
    let Some(old) = old else { return };
    let patches = object.pointer_mut("/spec/configPatches").and_then(Value::as_array_mut);
    for patch in patches.into_iter().flatten() {
        if let Some(held) = patch.pointer_mut("/patch/value").and_then(|host| host.pointer_mut(PROFILES))
            && let Some(held) = held.as_object_mut()
        {
            let missing: Map<String, Value> = old
                .iter()
                .filter(|(name, _)| !held.contains_key(*name))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            held.extend(missing);
        }
    }
}

/// Where a virtual host has its routes, by the name of the profile.
const PROFILES: &str = "/matcher/matcher_tree/exact_match_map/map";

fn hosts(object: &Value) -> impl Iterator<Item = &Value> {
    let patches = object.pointer("/spec/configPatches").and_then(Value::as_array);
    patches.into_iter().flatten().filter_map(|patch| patch.pointer("/patch/value"))
}
