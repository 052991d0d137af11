//! The JSON Schema and the reference page of the plugin configuration: made from the types and their comments,
//! kept in docs/, and checked against samples. `UPDATE_DOCS=1` writes them anew.
//!
//! They are made here and not in the root package: it must not have the feature that they need.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ingress_wasm::config::{self, PluginConfig};
use ingress_wasm_translate::manifest;
use ingress_wasm_translate::objects::Snapshot;
use ingress_wasm_translate::output::Options;
use ingress_wasm_translate::translate;
use serde_json::{Map, Value, json};

const PAGE_HEAD: &str = "\
<!-- Generated from the types in src/config/; UPDATE_DOCS=1 cargo test -p ingress-wasm-translate \
--test plugin_config writes it anew. -->

# Plugin configuration

What the filter is configured with: the JSON text in the field `configuration` of Envoy's Wasm plugin. The
controller writes it; `ingress-wasm translate` shows it. A configuration with a field that is not listed here is
refused as a whole, and the one before it keeps serving. The same as a JSON Schema:
[plugin-config.schema.json](plugin-config.schema.json).
";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema() -> Value {
    let mut schema = schemars::schema_for!(PluginConfig).to_value();
    without_null(&mut schema);
    schema["$comment"] = json!("Generated from src/config/; see docs/plugin-config.md");
    schema
}

/// What is not wanted is left out; the filter's reader knows no null.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some([simple, null]) = fields.get("type").and_then(Value::as_array).map(Vec::as_slice)
                && null == "null"
            {
                let simple = simple.clone();
                fields.insert("type".to_owned(), simple);
            }
            if let Some([other, null]) = fields.get("anyOf").and_then(Value::as_array).map(Vec::as_slice)
                && null["type"] == "null"
            {
                let other = other.as_object().cloned().unwrap_or_default();
                fields.remove("anyOf");
                fields.extend(other);
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// Compares with a file of docs/, or writes it.
fn is_current(name: &str, text: &str) {
    let path = repository().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).expect("the file is written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/{name} is not current: run this test with UPDATE_DOCS=1");
}

#[test]
fn the_schema_is_current() {
    let mut text = serde_json::to_string_pretty(&schema()).expect("JSON is written");
    text.push('\n');
    is_current("plugin-config.schema.json", &text);
}

#[test]
fn the_page_is_current() {
    let schema = schema();
    let mut page = PAGE_HEAD.to_owned();
    section(&mut page, &schema, "PluginConfig", &schema);
    // Each type behind the one that first refers to it.
    let mut names = Vec::new();
    referred(&schema, &schema, &mut names);
    for name in &names {
        section(&mut page, &schema, name, &schema["$defs"][name]);
    }
    let listed: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let defined = schema["$defs"].as_object().expect("types").keys().map(String::as_str);
    assert_eq!(listed, defined.collect(), "types on the page");
    is_current("plugin-config.md", &page);
}

// === the page ===

/// The names of the types that a schema refers to, itself or through others, in order.
fn referred(root: &Value, schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = reference(schema)
                && !names.iter().any(|known| known == name)
            {
                names.push(name.to_owned());
                referred(root, &root["$defs"][name], names);
            }
            fields.iter().filter(|(key, _)| *key != "$defs").for_each(|(_, v)| referred(root, v, names));
        }
        Value::Array(items) => items.iter().for_each(|item| referred(root, item, names)),
        _ => {}
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

fn section(page: &mut String, root: &Value, name: &str, schema: &Value) {
    _ = write!(page, "\n## {name}\n\n{}\n", text(schema));
    match schema["oneOf"].as_array() {
        None => fields(page, root, schema),
        Some(variants) if variants.iter().all(|variant| variant["const"].is_string()) => {
            page.push_str("\nOne of these texts:\n\n| Value | Meaning |\n|---|---|\n");
            for variant in variants {
                let value = variant["const"].as_str().expect("a text");
                _ = writeln!(page, "| `{value}` | {} |", cell(&text(variant)));
            }
        }
        Some(variants) => {
            page.push_str("\nAn object with exactly one of these fields:\n");
            for variant in variants {
                let (key, inner) =
                    variant["properties"].as_object().and_then(|all| all.iter().next()).expect("a field");
                _ = write!(page, "\n### `{key}`\n\n{}\n", text(variant));
                fields(page, root, inner);
            }
        }
    }
}

fn fields(page: &mut String, root: &Value, schema: &Value) {
    page.push_str("\n| Field | Type | Default | Meaning |\n|---|---|---|---|\n");
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let default =
            if required.iter().any(|key| key == name) { "required".into() } else { default(root, field) };
        _ = writeln!(
            page,
            "| `{name}` | {} | {} | {} |",
            cell(&kind(field)),
            cell(&default),
            cell(&text(field))
        );
    }
}

/// The comment, on one line.
fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn kind(field: &Value) -> String {
    if let Some(name) = reference(field) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    match field["type"].as_str().unwrap_or_default() {
        "array" => format!("list of {}", kind(&field["items"])),
        "object" => format!("map to {}", kind(&field["additionalProperties"])),
        "integer" => match (&field["const"], &field["minimum"], &field["maximum"]) {
            (only, _, _) if !only.is_null() => format!("{only}"),
            (_, least, most) if !most.is_null() => format!("integer, {least} to {most}"),
            _ => "integer, 0 or more".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// What a field that may be left out stands for then.
fn default(root: &Value, field: &Value) -> String {
    if let Some(text) = field["default"].as_str() {
        return if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") };
    }
    match field["type"].as_str() {
        Some("boolean") => "`false`".to_owned(),
        Some("array" | "object") => "empty".to_owned(),
        None if reference(field).is_some_and(|name| root["$defs"][name]["properties"].is_object())
            && reference(field).is_some_and(|name| root["$defs"][name]["required"].is_null()) =>
        {
            "its own defaults".to_owned()
        }
        _ => "none".to_owned(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

// === samples ===

/// What the schema has against a configuration.
fn faults(config: &Value) -> Vec<String> {
    // The same as the one in docs/, or another test fails.
    let validator = jsonschema::validator_for(&schema()).expect("the schema is one");
    validator.iter_errors(config).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn engine_cases() -> Value {
    let text = std::fs::read_to_string(repository().join("tests/engine-cases.json")).expect("the cases");
    let cases: Value = serde_json::from_str(&text).expect("JSON");
    cases["config"].clone()
}

#[test]
fn samples_are_valid() {
    assert_eq!(faults(&engine_cases()), Vec::<String>::new(), "tests/engine-cases.json");
    assert_eq!(faults(&json!({"version": 1})), Vec::<String>::new(), "the least configuration");
    let mut samples = 0;
    for folder in ["envoy/demo", "envoy/demo/broken"] {
        for entry in std::fs::read_dir(repository().join(folder)).expect(folder) {
            let path = entry.expect(folder).path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a manifest");
            let file: Arc<str> = path.to_string_lossy().into();
            let mut snapshot = Snapshot::default();
            manifest::merge_into(&mut snapshot, manifest::read(&file, &text).objects);
            let config = translate(&snapshot, &Options::default()).config;
            let config = serde_json::to_value(&config).expect("JSON is written");
            assert_eq!(faults(&config), Vec::<String>::new(), "{file}");
            samples += 1;
        }
    }
    assert!(samples >= 4, "{samples} manifests");
}

/// What the reader refuses the schema refuses, and the other way round.
#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let base = engine_cases();
    let with = |pointer: &str, value: Value| {
        let mut config = base.clone();
        let (parent, key) = pointer.rsplit_once('/').expect(pointer);
        let parent = config.pointer_mut(parent).expect(pointer);
        match parent {
            Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
            Value::Array(items) => items[key.parse::<usize>().expect(pointer)] = value,
            other => panic!("{pointer}: {other}"),
        }
        config
    };
    let cases = [
        (with("/generation", json!("other")), true),
        (with("/hosts/0/appRoot", json!("/x")), true),
        (with("/hosts/0/appRoot", json!(null)), false),
        (with("/hosts/0/rules/0/action", json!({"respond": {"status": 599}})), true),
        (with("/policies/0", json!({"rewrite": null})), false),
        (with("/policies/0", json!({"maxBodyBytes": 0})), true),
        (with("/version", json!(2)), false),
        (with("/version", json!("1")), false),
        (with("/generation", json!(1)), false),
        (with("/hosst", json!([])), false),
        (with("/hosts/0/rules/0/policies", json!(-1)), false),
        (with("/hosts/0/rules/0/pathType", json!("prefix")), false),
        (with("/hosts/0/pathMatching", json!("Elements")), false),
        (with("/hosts/0/rules/0/action", json!({"respond": {"status": 600}})), false),
        (with("/hosts/0/rules/0/action", json!({"forward": {"cluster": "c"}})), true),
        (with("/hosts/0/rules/0/action", json!({"forward": {"service": "n/s:80"}})), false),
        (with("/hosts/0/rules/0/action", json!({})), false),
        (with("/policies/0", json!({"denied": true})), false),
        (
            with("/policies/0", json!({"rewrite": {"path": {"target": "/"}, "prefix": {"target": "/"}}})),
            false,
        ),
        (with("/policies/0", json!({"requestHeaders": [{"set": {"name": "a"}}]})), false),
        (with("/policies/0", json!({"requestHeaders": {"remove": {"name": "a"}}})), false),
        (with("/credentials", json!({"a": {"users": {"b": 1}}})), false),
    ];
    for (config, expected) in cases {
        let text = config.to_string();
        let read = config::from_slice(text.as_bytes()).and_then(ingress_wasm::router::compile);
        assert_eq!(read.is_ok(), expected, "{text}: {:?}", read.err());
        let faults = faults(&config);
        assert_eq!(faults.is_empty(), expected, "{text}: {faults:?}");
    }
}

/// The defaults that the schema names are those that the reader puts in.
#[test]
fn defaults_are_true() {
    let schema = schema();
    let mut named = BTreeSet::new();
    let types = schema["$defs"].as_object().cloned().unwrap_or_default();
    for (name, of) in std::iter::once(("PluginConfig".to_owned(), schema.clone())).chain(types) {
        for (field, schema) in of["properties"].as_object().unwrap_or(&Map::new()) {
            if schema
                .get("default")
                .is_some_and(|default| default.as_str().is_some_and(|text| !text.is_empty()))
            {
                named.insert(format!("{name}.{field}"));
            }
        }
    }
    let cases = [
        ("Forwarded.addressHeader", "Forwarded", "addressHeader", json!({})),
        ("Host.pathMatching", "Host", "pathMatching", json!({"name": "a"})),
        (
            "Rule.pathType",
            "Rule",
            "pathType",
            json!({"ingress": "n/i", "path": "/", "policies": 0, "action": {"respond": {"status": 404}}}),
        ),
    ];
    assert_eq!(named, cases.iter().map(|case| case.0.to_owned()).collect(), "fields with a default");
    for (what, name, field, left_out) in cases {
        let mut put_in = left_out.clone();
        put_in[field] = schema["$defs"][name]["properties"][field]["default"].clone();
        let read = |value: Value| {
            let text = match name {
                "Forwarded" => json!({"version": 1, "global": {"forwarded": value}}),
                "Host" => json!({"version": 1, "hosts": [value]}),
                _ => json!({"version": 1, "hosts": [{"name": "a", "rules": [value]}]}),
            };
            config::from_slice(text.to_string().as_bytes()).unwrap_or_else(|error| panic!("{what}: {error}"))
        };
        assert_eq!(read(left_out), read(put_in), "{what}");
    }
}
