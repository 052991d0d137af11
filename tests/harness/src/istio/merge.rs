//! Merges patches into messages as istiod does: by the rules of protocol buffers, on their JSON form.
//!
//! It knows nothing of Envoy but which of the fields are maps.

use serde_json::Value;

/// Fields that are maps: an entry of the patch replaces the one of the same key.
const MAPS: [&str; 4] =
    ["typed_per_filter_config", "typed_extension_protocol_options", "filter_metadata", "fields"];

/// Merges `patch` into `target`. Lists grow, messages are merged field by field, and a value that protocol buffers do
/// not write because it is the default (`false`, zero, an empty text) replaces nothing: not even in a message that
/// only wraps it.
pub fn merge(target: &mut Value, patch: &Value) {
    merge_field(target, patch, "");
}

fn merge_field(target: &mut Value, patch: &Value, name: &str) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) if MAPS.contains(&name) => {
            target.extend(patch.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                match target.get_mut(key) {
                    Some(found) => merge_field(found, value, key),
                    None => drop(target.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Array(target), Value::Array(patch)) => target.extend(patch.iter().cloned()),
        (target, patch) if !is_default(patch) => *target = patch.clone(),
        _ => {}
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// Merges two messages in an `Any`. Nothing happens where they are of different types.
pub fn merge_any(target: &mut Value, patch: &Value) {
    if target["@type"] == patch["@type"] {
        merge(target, patch);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn as_protocol_buffers_are_merged() {
        let cases = [
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (json!({"on": true}), json!({"on": false}), json!({"on": true})),
            (json!({"n": 3, "t": "x"}), json!({"n": 0, "t": ""}), json!({"n": 3, "t": "x"})),
            (json!({"idle": "0s"}), json!({"idle": "60s"}), json!({"idle": "60s"})),
            (json!({"list": [1]}), json!({"list": [2]}), json!({"list": [1, 2]})),
            (json!({"m": {"a": [1], "b": 1}}), json!({"m": {"a": [2]}}), json!({"m": {"a": [1, 2], "b": 1}})),
            (
                json!({"typed_per_filter_config": {"f": {"a": 1}}}),
                json!({"typed_per_filter_config": {"f": {"b": 1}}}),
                json!({"typed_per_filter_config": {"f": {"b": 1}}}),
            ),
        ];
        for (mut target, patch, expected) in cases {
            let text = format!("{target} + {patch}");
            merge(&mut target, &patch);
            assert_eq!(target, expected, "{text}");
        }
    }
}
