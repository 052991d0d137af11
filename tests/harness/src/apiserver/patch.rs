//! The kinds of patches.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::failure::Failure;

/// Who applied what: by field manager and subresource.
pub type Applied = BTreeMap<(String, String), Value>;

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

/// RFC 6902.
pub fn operations(target: &mut Value, patch: &Value) -> Result<(), Failure> {
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|error| Failure::bad_request(error.to_string()))?;
    json_patch::patch(target, &patch).map_err(|error| Failure::invalid(error.to_string()))
}

/// Server-side apply. Lists are taken as a whole, whoever wrote parts of them.
///
/// What this manager applied before and does not any more goes, unless another applied it too. What another
/// applied with another value is a conflict, unless `force`: then it is this manager's.
pub fn apply(
    live: &mut Value,
    applied: &mut Applied,
    owner: &(String, String),
    config: &Value,
    force: bool,
) -> Result<(), Failure> {
    let mut fields = BTreeMap::new();
    leaves(config, &mut String::new(), &mut fields);
    let mut conflicts = Vec::new();
    for (other, theirs) in applied.iter().filter(|(other, _)| *other != owner) {
        for (pointer, value) in &fields {
            if theirs.pointer(pointer).is_some() && live.pointer(pointer).is_some_and(|live| live != value) {
                conflicts.push((other.0.clone(), pointer.clone()));
            }
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    let mut gone = BTreeMap::new();
    if let Some(before) = applied.get(owner) {
        leaves(before, &mut String::new(), &mut gone);
    }
    gone.retain(|pointer, _| {
        !fields.contains_key(pointer)
            && !applied.iter().any(|(other, theirs)| other != owner && theirs.pointer(pointer).is_some())
    });
    for pointer in gone.keys() {
        remove(live, pointer);
    }
    for (manager, pointer) in &conflicts {
        if let Some(theirs) =
            applied.iter_mut().find(|((name, _), _)| name == manager).map(|(_, theirs)| theirs)
        {
            remove(theirs, pointer);
        }
    }
    lay_over(live, config);
    applied.insert(owner.clone(), config.clone());
    Ok(())
}

fn conflict(conflicts: &[(String, String)]) -> Failure {
    let fields: Vec<String> = conflicts
        .iter()
        .map(|(manager, pointer)| format!("conflict with \"{manager}\": {}", dotted(pointer)))
        .collect();
    let mut failure = Failure::new(
        409,
        "Conflict",
        format!("Apply failed with {} conflicts: {}", fields.len(), fields.join(", ")),
    );
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(manager, pointer)| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with \"{manager}\""),
                "field": dotted(pointer),
            })
        })
        .collect();
    failure.details = json!({ "causes": causes });
    failure
}

fn dotted(pointer: &str) -> String {
    pointer.replace('/', ".").replace("~1", "/").replace("~0", "~")
}

/// What a manager can own: everything but what names the object.
fn leaves(value: &Value, pointer: &mut String, found: &mut BTreeMap<String, Value>) {
    const IDENTITY: [&str; 4] = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"];
    if IDENTITY.contains(&pointer.as_str()) {
        return;
    }
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                let length = pointer.len();
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                leaves(member, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {
            found.insert(pointer.clone(), value.clone());
        }
    }
}

fn lay_over(live: &mut Value, config: &Value) {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) => {
            for (key, value) in config {
                lay_over(live.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (live, config) => *live = config.clone(),
    }
}

/// Takes a field away, and what is empty without it.
fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let key = key.replace("~1", "/").replace("~0", "~");
    let Some(members) = value.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    members.remove(&key);
    if members.is_empty() && !parent.is_empty() && parent != "/metadata" {
        remove(value, parent);
    }
}

/// `managedFields`, for people who look: managers, not their fields.
pub fn managers(applied: &Applied, api_version: &str) -> Value {
    applied
        .iter()
        .map(|((manager, subresource), _)| {
            let mut entry = json!({
                "manager": manager, "operation": "Apply", "apiVersion": api_version, "fieldsType": "FieldsV1",
                "fieldsV1": {},
            });
            if let (false, Some(entry)) = (subresource.is_empty(), entry.as_object_mut()) {
                entry.insert("subresource".to_owned(), subresource.as_str().into());
            }
            entry
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> (String, String) {
        (name.to_owned(), String::new())
    }

    #[test]
    fn applies_and_takes_back() {
        let (mut live, mut applied) = (json!({"metadata": {"name": "a"}}), Applied::new());
        let first = json!({"metadata": {"name": "a", "labels": {"x/y": "1"}}, "spec": {"a": 1, "b": [1, 2]}});
        apply(&mut live, &mut applied, &owner("one"), &first, false).expect("applies");
        assert_eq!(live, first);
        let second = json!({"metadata": {"name": "a"}, "spec": {"b": [3]}});
        apply(&mut live, &mut applied, &owner("one"), &second, false).expect("applies");
        assert_eq!(live, second, "what is not applied any more goes");
    }

    #[test]
    fn conflicts_unless_forced() {
        let (mut live, mut applied) = (json!({}), Applied::new());
        apply(&mut live, &mut applied, &owner("one"), &json!({"spec": {"a": 1, "b": 1}}), false)
            .expect("applies");
        let other = json!({"spec": {"a": 2}});
        let refused = apply(&mut live, &mut applied, &owner("two"), &other, false).expect_err("a conflict");
        assert_eq!(refused.code, 409);
        assert!(refused.message.contains("conflict with \"one\": .spec.a"), "{}", refused.message);
        apply(&mut live, &mut applied, &owner("two"), &other, true).expect("forced");
        assert_eq!(live, json!({"spec": {"a": 2, "b": 1}}));
        // It is no longer the first one's, which may forget about it.
        apply(&mut live, &mut applied, &owner("one"), &json!({"spec": {"b": 2}}), false).expect("applies");
        assert_eq!(live, json!({"spec": {"a": 2, "b": 2}}));
    }
}
