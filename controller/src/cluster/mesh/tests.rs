use serde_json::{Value, json};

use super::kinds::{Set, set};
use super::union::union;
use super::*;

fn object(kind: &str, spec: Value) -> Set {
    set(vec![json!({"kind": kind, "metadata": {"name": "a"}, "spec": spec})])
}

#[test]
fn what_was_used_before_stays_for_a_while() {
    let routes = |names: &[&str]| {
        let map: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        let host = json!({"matcher": {"matcher_tree": {"exact_match_map": {"map": map}}}});
        json!({"configPatches": [{"patch": {"operation": "REMOVE"}}, {"patch": {"value": host}}]})
    };
    let cases = [
        (
            "DestinationRule",
            json!({"host": "h", "subsets": [{"name": "b", "n": 1}]}),
            json!({"host": "h", "subsets": [{"name": "a"}, {"name": "b", "n": 2}], "trafficPolicy": {}}),
            json!({"host": "h", "subsets": [{"name": "b", "n": 1}, {"name": "a"}]}),
        ),
        (
            "DestinationRule",
            json!({"host": "h"}),
            json!({"host": "h", "subsets": [{"name": "a"}]}),
            json!({"host": "h", "subsets": [{"name": "a"}]}),
        ),
        (
            "ServiceEntry",
            json!({"ports": [{"number": 80, "name": "http-80"}]}),
            json!({"ports": [{"number": 80, "name": "https-80"}, {"number": 443}]}),
            json!({"ports": [{"number": 80, "name": "http-80"}, {"number": 443}]}),
        ),
        (
            "VirtualService",
            json!({"http": [{"match": ["x"], "route": 1}]}),
            json!({"http": [{"match": ["x"], "route": 2}, {"match": ["y"]}]}),
            json!({"http": [{"match": ["x"], "route": 1}, {"match": ["y"]}]}),
        ),
        ("EnvoyFilter", routes(&["b"]), routes(&["a", "b"]), routes(&["a", "b"])),
        ("Gateway", json!({"servers": [1]}), json!({"servers": [2]}), json!({"servers": [1]})),
        (
            "WasmPlugin",
            json!({"pluginConfig": {"b": 1}}),
            json!({"pluginConfig": {"a": 1}}),
            json!({"pluginConfig": {"b": 1}}),
        ),
    ];
    for (kind, new, old, expected) in cases {
        let both = union(&object(kind, new.clone()), [&object(kind, old.clone())]);
        assert_eq!(both, object(kind, expected), "{kind}: {new} after {old}");
    }
}

#[test]
fn objects_are_written_in_the_order_in_which_they_depend_on_each_other() {
    let kinds =
        ["WasmPlugin", "EnvoyFilter", "DestinationRule", "ServiceEntry", "Gateway", "VirtualService", "Pod"];
    let objects = kinds.map(|kind| json!({"kind": kind, "metadata": {"name": "a"}}));
    let order: Vec<String> = set(objects.into()).keys().map(ToString::to_string).collect();
    let expected =
        ["ServiceEntry", "DestinationRule", "Gateway", "VirtualService", "EnvoyFilter", "WasmPlugin"];
    assert_eq!(order, expected.map(|kind| format!("{kind} a")));
}

#[test]
fn a_refusal_is_said_of_the_object_that_has_changed() {
    use ingress_wasm_translate::objects::{Kind, ObjectName};

    let complaint = Complaint {
        object: "EnvoyFilter edge/a".to_owned(),
        message: "403: no".to_owned(),
        remedy: "grant it".to_owned(),
    };
    let ingress = |name| ObjectRef { kind: Kind::Ingress, name: ObjectName::new("shop", name) };
    for (changed, expected) in [
        (BTreeSet::from([ingress("a")]), Some(ingress("a"))),
        (BTreeSet::from([ingress("a"), ingress("b")]), None),
        (BTreeSet::new(), None),
    ] {
        let said = diagnostics(std::slice::from_ref(&complaint), &changed);
        assert_eq!(said[0].object, expected);
        assert!(said[0].consequence.starts_with("EnvoyFilter edge/a is not written: 403: no"), "{said:?}");
    }
}
