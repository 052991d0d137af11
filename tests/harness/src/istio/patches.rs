//! Applies the patches of EnvoyFilters to what istiod makes, with the semantics of istiod
//! (`pilot/pkg/networking/core/envoyfilter`), as far as our objects use them. What they do not use is refused, so that
//! a new use of it is thought of here.

use serde_json::Value;

use super::merge::{merge, merge_any};

const MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// All patches, in the order in which istiod applies them.
#[derive(Debug, Default)]
pub struct Patches {
    all: Vec<Value>,
}

/// What a list of filters becomes.
enum Place {
    First,
    Before,
    After,
    Last,
}

impl Patches {
    /// Those of these EnvoyFilters, in order.
    ///
    /// # Errors
    ///
    /// Names what is not known here.
    pub fn new(objects: &[Value]) -> Result<Self, String> {
        let filters = objects.iter().filter(|object| object["kind"] == "EnvoyFilter");
        let lists =
            filters.map(|object| object["spec"]["configPatches"].as_array().cloned().unwrap_or_default());
        let all: Vec<Value> = lists.flatten().collect();
        for patch in &all {
            let keys = |value: &Value, known: &[&str]| {
                let found = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
                let unknown: Vec<&str> = found.filter(|key| !known.contains(key)).collect();
                if unknown.is_empty() { Ok(()) } else { Err(format!("unknown here: {unknown:?} in {patch}")) }
            };
            keys(patch, &["applyTo", "match", "patch"])?;
            keys(&patch["patch"], &["operation", "value"])?;
            keys(&patch["match"], &["context", "listener", "routeConfiguration", "cluster", "proxy"])?;
            keys(&patch["match"]["listener"], &["filterChain", "portNumber"])?;
            keys(&patch["match"]["listener"]["filterChain"], &["filter", "sni"])?;
            keys(&patch["match"]["routeConfiguration"], &["portNumber"])?;
            keys(&patch["match"]["cluster"], &["name"])?;
            let (to, operation) = (&patch["applyTo"], &patch["patch"]["operation"]);
            let known = match to.as_str().unwrap_or_default() {
                "NETWORK_FILTER" | "ROUTE_CONFIGURATION" | "CLUSTER" | "FILTER_CHAIN" => &["MERGE"][..],
                "HTTP_FILTER" => &["MERGE", "ADD", "INSERT_FIRST", "INSERT_BEFORE", "INSERT_AFTER"],
                "VIRTUAL_HOST" => &["MERGE", "ADD", "REMOVE"],
                _ => &[],
            };
            if !known.iter().any(|known| operation == known) {
                return Err(format!("unknown here: {operation} of {to}"));
            }
        }
        Ok(Self { all })
    }

    /// Those of a kind that are for gateways.
    fn of<'a>(&'a self, apply_to: &'a str) -> impl Iterator<Item = (&'a Value, &'a str, &'a Value)> {
        let fits = move |patch: &&Value| {
            let context = patch["match"]["context"].as_str().unwrap_or("ANY");
            patch["applyTo"] == apply_to && matches!(context, "GATEWAY" | "ANY")
        };
        self.all.iter().filter(fits).map(|patch| {
            let operation = patch["patch"]["operation"].as_str().unwrap_or_default();
            (&patch["match"], operation, &patch["patch"]["value"])
        })
    }

    /// Patches the filters of a listener.
    pub fn listener(&self, listener: &mut Value) {
        let port = listener["address"]["socket_address"]["port_value"].clone();
        for chain in listener["filter_chains"].as_array_mut().into_iter().flatten() {
            for (matches, _, value) in self.of("FILTER_CHAIN") {
                let wanted = &matches["listener"]["filterChain"]["sni"];
                let names = chain["filter_chain_match"]["server_names"].as_array();
                let here = wanted.is_null() || names.is_some_and(|names| names.contains(wanted));
                if here && at_port(matches, &port) {
                    // Of a transport socket of the same name the two configurations are merged.
                    let patch = &value["transport_socket"];
                    if chain["transport_socket"]["name"] == patch["name"] {
                        merge_any(&mut chain["transport_socket"]["typed_config"], &patch["typed_config"]);
                    } else {
                        merge(chain, value);
                    }
                }
            }
        }
        let chains = listener["filter_chains"].as_array_mut().into_iter().flatten();
        for filter in chains.flat_map(|chain| chain["filters"].as_array_mut().into_iter().flatten()) {
            for (matches, _, value) in self.of("NETWORK_FILTER") {
                if at_port(matches, &port) && names_filter(matches, filter) {
                    merge_any(&mut filter["typed_config"], &value["typed_config"]);
                }
            }
            if filter["name"] == MANAGER {
                self.http_filters(&port, filter);
            }
        }
    }

    fn http_filters(&self, port: &Value, manager: &mut Value) {
        let Some(mut filters) = manager["typed_config"]["http_filters"].as_array().cloned() else { return };
        for (matches, operation, value) in self.of("HTTP_FILTER") {
            if !at_port(matches, port) || !names_filter(matches, manager) {
                continue;
            }
            let wanted = &matches["listener"]["filterChain"]["filter"]["subFilter"]["name"];
            let place = match operation {
                "ADD" => Place::Last,
                "INSERT_FIRST" => Place::First,
                "INSERT_BEFORE" if wanted.is_null() => Place::First,
                "INSERT_AFTER" if wanted.is_null() => Place::Last,
                "INSERT_BEFORE" => Place::Before,
                "INSERT_AFTER" => Place::After,
                _ => continue,
            };
            let found = filters.iter().position(|filter| filter["name"] == *wanted);
            let at = match place {
                Place::First => Some(0),
                Place::Last => Some(filters.len()),
                Place::Before => found,
                Place::After => found.map(|at| at + 1),
            };
            if let Some(at) = at {
                filters.insert(at, value.clone());
            }
        }
        for filter in &mut filters {
            for (matches, operation, value) in self.of("HTTP_FILTER") {
                let wanted = &matches["listener"]["filterChain"]["filter"]["subFilter"]["name"];
                let here = wanted.is_null() || *wanted == filter["name"];
                if operation == "MERGE" && at_port(matches, port) && here {
                    merge_any(&mut filter["typed_config"], &value["typed_config"]);
                }
            }
        }
        manager["typed_config"]["http_filters"] = filters.into();
    }

    /// Patches a route configuration; `port` is that of the gateway's Service.
    pub fn route_configuration(&self, port: u16, routes: &mut Value) {
        let here = |matches: &Value| {
            let wanted = &matches["routeConfiguration"]["portNumber"];
            wanted.is_null() || *wanted == port
        };
        for (_, _, value) in self.of("ROUTE_CONFIGURATION").filter(|(matches, ..)| here(matches)) {
            merge(routes, value);
        }
        let Some(mut hosts) = routes["virtual_hosts"].as_array().cloned() else { return };
        let mut removed = Vec::new();
        for host in &mut hosts {
            for (_, operation, value) in self.of("VIRTUAL_HOST").filter(|(matches, ..)| here(matches)) {
                match operation {
                    "REMOVE" => {
                        removed.push(host["name"].clone());
                        break;
                    }
                    "MERGE" => merge(host, value),
                    _ => {}
                }
            }
        }
        let adds =
            self.of("VIRTUAL_HOST").filter(|(matches, operation, _)| *operation == "ADD" && here(matches));
        hosts.extend(adds.map(|(_, _, value)| value.clone()));
        // By name, as istiod does: one that is added must not have the name of one that goes.
        hosts.retain(|host| !removed.contains(&host["name"]));
        routes["virtual_hosts"] = hosts.into();
    }

    /// Patches a cluster.
    pub fn cluster(&self, cluster: &mut Value) {
        for (matches, _, value) in self.of("CLUSTER") {
            let wanted = &matches["cluster"]["name"];
            if wanted.is_null() || *wanted == cluster["name"] {
                merge(cluster, value);
            }
        }
    }
}

fn at_port(matches: &Value, port: &Value) -> bool {
    let wanted = &matches["listener"]["portNumber"];
    wanted.is_null() || wanted == port
}

fn names_filter(matches: &Value, filter: &Value) -> bool {
    let wanted = &matches["listener"]["filterChain"]["filter"]["name"];
    wanted.is_null() || *wanted == filter["name"]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patches(list: Value) -> Result<Patches, String> {
        Patches::new(&[json!({"kind": "EnvoyFilter", "spec": {"configPatches": list}})])
    }

    #[test]
    fn virtual_hosts_are_replaced() {
        let at = |port: u16| json!({"context": "GATEWAY", "routeConfiguration": {"portNumber": port}});
        let patches = patches(json!([
            {"applyTo": "ROUTE_CONFIGURATION", "match": at(80), "patch": {"operation": "MERGE", "value": {"x": ["b"]}}},
            {"applyTo": "VIRTUAL_HOST", "match": at(80), "patch": {"operation": "REMOVE"}},
            {"applyTo": "VIRTUAL_HOST", "match": at(80), "patch": {"operation": "ADD", "value": {"name": "ours"}}},
        ]))
        .unwrap();
        let made = json!({"virtual_hosts": [{"name": "blackhole:80"}], "x": ["a"]});
        let (mut here, mut elsewhere) = (made.clone(), made.clone());
        patches.route_configuration(80, &mut here);
        patches.route_configuration(15443, &mut elsewhere);
        assert_eq!(here, json!({"virtual_hosts": [{"name": "ours"}], "x": ["a", "b"]}));
        assert_eq!(elsewhere, made);
    }

    #[test]
    fn what_is_not_known_here_is_refused() {
        for patch in [
            json!({"applyTo": "BOOTSTRAP", "patch": {"operation": "MERGE"}}),
            json!({"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}}),
            json!({"applyTo": "CLUSTER", "match": {"cluster": {"subset": "a"}}, "patch": {"operation": "MERGE"}}),
        ] {
            assert!(patches(json!([patch])).is_err(), "{patch}");
        }
    }
}
