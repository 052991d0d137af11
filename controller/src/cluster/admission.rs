//! Whether an Ingress that is about to be written may be: what `check` calls an error is refused.
//!
//! The Ingress is translated with those that share a host with it, not with all: a review takes as long with ten
//! thousand Ingresses as with ten. That an object does not exist is no reason to refuse: it may come next.
//!
//! Deliberately knows nothing of HTTP, TLS and who asks.

use std::collections::BTreeSet;
use std::sync::Arc;

use ingress_wasm_translate::annotations::AnnotationSet;
use ingress_wasm_translate::diagnostic::{Diagnostic, Severity};
use ingress_wasm_translate::manifest::Loaded;
use ingress_wasm_translate::objects::{Ingress, Kind, Object, ObjectRef, Snapshot};
use ingress_wasm_translate::{references, translate};
use kube::api::ApiResource;
use serde_json::{Value, json};

use super::events::{note, shortened};
use super::raw::Raw;
use super::served::View;

/// What is said of an Ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is of no concern here: another class, or a namespace that is not served.
    Foreign,
    /// It may be written.
    Allowed(Vec<String>),
    /// It may not, for this reason.
    Refused(String, Vec<String>),
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// `networking.k8s.io/v1` or an earlier version.
    pub api_version: String,
    /// The namespace it is written to.
    pub namespace: String,
    /// The Ingress as it would be.
    pub object: Value,
    /// The Ingress as it is; null where there is none.
    pub old: Value,
}

/// How many warnings are handed back. `kubectl` prints each on a line of its own.
const WARNINGS: usize = 10;

/// The longest warning that an API server hands on in any case.
const WARNING: usize = 250;

/// How many reasons are told.
const REASONS: usize = 10;

/// Says whether an Ingress may be written.
pub fn review(view: &View, watched: Option<&str>, question: &Question) -> Verdict {
    let Question { api_version, namespace, object, old } = question;
    let chosen = view.namespaces.as_ref().is_none_or(|chosen| chosen.contains(namespace))
        && watched.is_none_or(|watched| watched == namespace);
    let is_ending = object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    if !chosen || is_ending {
        return Verdict::Foreign;
    }
    let (Some(loaded), Some(bare)) = (
        decode(view, api_version, namespace, object.clone()),
        decode(view, api_version, namespace, bare(object)),
    ) else {
        return Verdict::Refused("the object is no Ingress".to_owned(), Vec::new());
    };
    let is_ours = |loaded: &Loaded| {
        ingress_of(loaded).is_some_and(|ingress| references::is_ours(&ingress, &view.snapshot, &view.options))
    };
    if !is_ours(&bare) {
        return Verdict::Foreign;
    }
    let mut found = loaded.diagnostics.clone();
    if let Some(ingress) = ingress_of(&loaded) {
        found.extend(of_translation(view, &ingress));
    }
    for diagnostic in &mut found {
        view.prefix.outward(&mut diagnostic.field);
        view.prefix.outward(&mut diagnostic.consequence);
        view.prefix.outward(&mut diagnostic.remedy);
    }
    found.sort();
    found.dedup();
    let unchanged = !old.is_null()
        && old.get("spec") == object.get("spec")
        && old.pointer("/metadata/annotations") == object.pointer("/metadata/annotations");
    decide(&found, unchanged)
}

/// An Ingress with what decides on its class and nothing else: one that does not decode may be another's.
fn bare(object: &Value) -> Value {
    let at = |pointer: &str| object.pointer(pointer).cloned().unwrap_or(Value::Null);
    let class = at("/metadata/annotations/kubernetes.io~1ingress.class");
    let mut annotations = json!({});
    if class.is_string() {
        annotations = json!({ ingress_wasm_translate::CLASS_ANNOTATION: class });
    }
    let mut spec = json!({
        "defaultBackend": {"service": {"name": "a", "port": {"number": 80}}},
        "backend": {"serviceName": "a", "servicePort": 80},
    });
    if let Some(class) = object.pointer("/spec/ingressClassName").filter(|class| class.is_string()) {
        spec["ingressClassName"] = class.clone();
    }
    json!({"metadata": {"name": "a", "annotations": annotations}, "spec": spec})
}

fn decode(view: &View, api_version: &str, namespace: &str, mut object: Value) -> Option<Loaded> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("namespace".to_owned(), namespace.into());
    if metadata.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
        // The API server makes the rest of the name after the review.
        let begin = metadata.get("generateName").and_then(Value::as_str).unwrap_or("new-").to_owned();
        metadata.insert("name".to_owned(), format!("{begin}x").into());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: "Ingress".to_owned(),
        plural: "ingresses".to_owned(),
    };
    let raw: Raw = serde_json::from_value(object).ok()?;
    let (_, _, loaded) = raw.decode(&kind, &view.prefix);
    Some(loaded)
}

fn ingress_of(loaded: &Loaded) -> Option<Arc<Ingress>> {
    loaded.objects.iter().find_map(|object| match object {
        Object::Ingress(ingress) => Some(Arc::clone(ingress)),
        _ => None,
    })
}

/// What a translation says of the Ingress, beside those that share a host with it.
fn of_translation(view: &View, ingress: &Arc<Ingress>) -> Vec<Diagnostic> {
    let name = &ingress.metadata.name;
    let hosts = hosts(ingress);
    let View { snapshot, options, .. } = view;
    let beside = snapshot.ingresses.iter().filter(|(other, ingress)| {
        *other != name && hosts_of(ingress).any(|host| hosts.contains(&host.to_ascii_lowercase()))
    });
    let mut ingresses: std::collections::BTreeMap<_, _> =
        beside.map(|(name, ingress)| (name.clone(), Arc::clone(ingress))).collect();
    ingresses.insert(name.clone(), Arc::clone(ingress));
    let Snapshot { classes, services, endpoint_slices, secrets, config_maps, .. } = &**snapshot;
    let candidate = Snapshot {
        ingresses,
        classes: classes.clone(),
        services: services.clone(),
        endpoint_slices: endpoint_slices.clone(),
        secrets: secrets.clone(),
        config_maps: config_maps.clone(),
    };
    let translation = translate(&candidate, options);
    let reference = ObjectRef { kind: Kind::Ingress, name: name.clone() };
    let mut found = translation.diagnostics;
    found.retain(|diagnostic| diagnostic.object.as_ref() == Some(&reference));
    found
}

/// The hosts of rules; empty for any host.
fn hosts_of(ingress: &Ingress) -> impl Iterator<Item = &str> {
    ingress.rules.iter().map(|rule| rule.host.as_deref().unwrap_or_default())
}

/// The hosts of rules and aliases.
fn hosts(ingress: &Ingress) -> BTreeSet<String> {
    let annotations = AnnotationSet::of(ingress, None);
    let aliases = annotations.get("server-alias").map(|setting| setting.text).unwrap_or_default();
    let aliases = aliases.split(',').map(str::trim).filter(|alias| !alias.is_empty());
    hosts_of(ingress).chain(aliases).map(str::to_ascii_lowercase).collect()
}

/// It is about an object that is not there, yet.
fn is_absence(diagnostic: &Diagnostic) -> bool {
    diagnostic.code.ends_with("-missing") || diagnostic.consequence.contains("does not exist")
}

fn is_of_unfollowed(diagnostic: &Diagnostic) -> bool {
    ["Secret", "ConfigMap"].iter().any(|kind| diagnostic.consequence.contains(kind))
}

fn decide(found: &[Diagnostic], unchanged: bool) -> Verdict {
    let mut reasons = Vec::new();
    let mut warnings = Vec::new();
    for diagnostic in found {
        match diagnostic.severity {
            // Secrets and ConfigMaps that nothing named so far are not known here.
            _ if is_absence(diagnostic) && is_of_unfollowed(diagnostic) => {}
            // A label may be changed of what was wrong before.
            Severity::Error if !is_absence(diagnostic) && !unchanged => reasons.push(note(diagnostic)),
            Severity::Error | Severity::Warning => {
                warnings.push(shortened(format!("{}: {}", diagnostic.code, note(diagnostic)), WARNING));
            }
            Severity::Note => {}
        }
    }
    let more = warnings.len().saturating_sub(WARNINGS);
    warnings.truncate(WARNINGS);
    if more > 0 {
        warnings.push(format!("{more} more: `ingress-wasm check` lists all of them"));
    }
    if reasons.is_empty() {
        return Verdict::Allowed(warnings);
    }
    let more = reasons.len().saturating_sub(REASONS);
    reasons.truncate(REASONS);
    if more > 0 {
        reasons.push(format!("{more} more: `ingress-wasm check` lists all of them"));
    }
    Verdict::Refused(reasons.join("\n"), warnings)
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
