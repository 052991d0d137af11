//! What kinds of objects there are, as clients like kubectl ask before anything else.

use serde_json::{Value, json};

use super::State;
use super::objects;
use super::resources::{Discovery, Resource};

/// The document of a level; none: there is no such group or version.
pub fn document(state: &State, level: &Discovery) -> Option<Value> {
    let group = |name: &str, versions: &[String]| {
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
            .collect();
        json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
    };
    match level {
        Discovery::Core => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        Discovery::Groups => {
            let groups: Vec<Value> =
                objects::groups(state).iter().map(|(name, versions)| group(name, versions)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        Discovery::Group(name) => {
            let groups = objects::groups(state);
            let mut found = group(name, groups.get(name)?);
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            Some(found)
        }
        Discovery::Version(name, version) => {
            let of_it = |resource: &&Resource| resource.group == *name && resource.versions.contains(version);
            let mut found = Vec::new();
            for resource in state.resources.iter().filter(of_it) {
                let verbs =
                    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
                let short_names = short_names(&resource.plural);
                let entry = |name: String, verbs: &[&str]| {
                    json!({
                        "shortNames": short_names,
                        "name": name, "singularName": resource.kind.to_lowercase(),
                        "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs,
                    })
                };
                found.push(entry(resource.plural.clone(), &verbs));
                if resource.status {
                    found.push(entry(format!("{}/status", resource.plural), &["get", "patch", "update"]));
                }
            }
            let group_version = if name.is_empty() { version.clone() } else { format!("{name}/{version}") };
            let list = json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found,
            });
            (!found.is_empty()).then_some(list)
        }
    }
}

/// What kubectl's users write.
fn short_names(plural: &str) -> &'static [&'static str] {
    match plural {
        "configmaps" => &["cm"],
        "deployments" => &["deploy"],
        "daemonsets" => &["ds"],
        "events" => &["ev"],
        "ingresses" => &["ing"],
        "namespaces" => &["ns"],
        "pods" => &["po"],
        "services" => &["svc"],
        _ => &[],
    }
}
