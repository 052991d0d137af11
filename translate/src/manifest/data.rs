//! Secret and ConfigMap. No value of a Secret ever enters a diagnostic.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::objects::{ConfigMap, Metadata, Secret};

use super::fields::{At, Faults, Unknown};

pub(super) fn secret(root: &At<'_>, metadata: Metadata, faults: &mut Faults<'_>) -> Secret {
    const FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"];
    faults.check_fields(root, &FIELDS, &[], Unknown::RefuseSlips);
    let type_ = faults.text_field(root, "type").filter(|text| !text.is_empty());
    let mut data = BTreeMap::new();
    if let Some(fields) = root.get("data").filter(|at| faults.mapping(at)) {
        for (key, at) in fields.entries() {
            if let Some(value) = decoded(&at, faults) {
                data.insert(key.to_owned(), value);
            }
        }
    }
    if let Some(fields) = root.get("stringData").filter(|at| faults.mapping(at)) {
        for (key, at) in fields.entries() {
            if let Some(text) = faults.loose_text(&at, "data-not-string") {
                data.insert(key.to_owned(), text.into_bytes());
            }
        }
    }
    Secret { metadata, type_: type_.unwrap_or_else(|| "Opaque".to_owned()), data }
}

/// The bytes of a base64 text. Line breaks are passed over, as the API server does; blanks are not.
fn decoded(at: &At<'_>, faults: &mut Faults<'_>) -> Option<Vec<u8>> {
    if at.node.is_null() {
        return Some(Vec::new());
    }
    let mut text = faults.text(at)?;
    text.retain(|c| !matches!(c, '\n' | '\r'));
    let value = STANDARD.decode(&text).ok();
    if value.is_none() {
        let remedy = "encode the value with `base64`, or write it in plain text below `stringData:`";
        faults.error("secret-base64", at, "the value is not base64", remedy);
    }
    value
}

pub(super) fn config_map(root: &At<'_>, metadata: Metadata, faults: &mut Faults<'_>) -> ConfigMap {
    const FIELDS: [&str; 6] = ["apiVersion", "kind", "metadata", "data", "binaryData", "immutable"];
    faults.check_fields(root, &FIELDS, &[], Unknown::RefuseSlips);
    let mut data = BTreeMap::new();
    if let Some(fields) = root.get("data").filter(|at| faults.mapping(at)) {
        for (key, at) in fields.entries() {
            if let Some(text) = faults.loose_text(&at, "data-not-string") {
                data.insert(key.to_owned(), text);
            }
        }
    }
    ConfigMap { metadata, data }
}
