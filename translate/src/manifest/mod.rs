//! From manifests to [`objects`](crate::objects): YAML or JSON text, or one JSON value as an API server sends
//! it, with a [`Diagnostic`] for whatever an author should know, by file, line and field.
//!
//! Rules of the API server that matter for routing are applied here, since no API server stands between a
//! folder of files and the translator: an Ingress that it would refuse is refused here, with the same scope
//! (the whole object) and for the same reason. Where a refusal would help nobody (an annotation without
//! quotes, a host in capitals) the value is taken and a warning says so.
//!
//! Deliberately knows nothing of files, clients, classes and what an annotation means.

mod data;
mod decode;
mod document;
mod endpoints;
mod fields;
mod ingress;
mod json;
mod metadata;
mod names;
mod node;
mod service;
#[cfg(test)]
mod tests;
mod yaml;

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity};
use crate::objects::{Object, ObjectRef, Snapshot};

use decode::{Decoder, Origin};

/// What a text came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The objects that decoded, in the order of the text.
    pub objects: Vec<Object>,
    /// Faults and remarks, in the order of the text; notes about kinds passed over come last.
    pub diagnostics: Vec<Diagnostic>,
    /// Some document could not be attributed to an object at all: it does not parse, is no Kubernetes object
    /// or has no name. A caller that follows changes keeps what it held from this file before.
    pub broken: bool,
    /// Objects that are named in the text and did not decode, so that an earlier version can go on serving.
    pub rejected: Vec<ObjectRef>,
}

/// Reads the content of one file. `file` is the name that diagnostics and objects carry. Never fails: what
/// cannot be read is told in [`Loaded::diagnostics`], and the other documents of the file still load.
pub fn read(file: &Arc<str>, text: &str) -> Loaded {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut decoder = Decoder::new(Origin::File(file));
    // Every alias may cost as much as the text itself, no more.
    let mut alias_budget = yaml::ALIAS_BUDGET.saturating_add(text.len());
    for chunk in document::split(text) {
        read_chunk(file, chunk, &mut alias_budget, &mut decoder);
    }
    decoder.finish()
}

/// Reads one document of a stream (or several, where they are concatenated JSON).
fn read_chunk(
    file: &Arc<str>,
    chunk: document::Chunk<'_>,
    alias_budget: &mut usize,
    decoder: &mut Decoder<'_>,
) {
    let Some(json) = chunk.json() else {
        match yaml::parse(chunk, alias_budget) {
            Ok(nodes) => nodes.iter().for_each(|node| decoder.document(node)),
            Err(fault) => decoder.syntax(fault),
        }
        return;
    };
    let (nodes, fault) = json::parse(json);
    match fault {
        None => {
            let mut attempt = Decoder::new(Origin::File(file));
            nodes.iter().for_each(|node| attempt.document(node));
            // JSON is YAML: a slower second reading finds the lines that the fast one does not know.
            let faults = attempt.diagnostics().iter().any(|diagnostic| diagnostic.severity != Severity::Note);
            match faults.then(|| yaml::parse(chunk, alias_budget)) {
                Some(Ok(nodes)) => nodes.iter().for_each(|node| decoder.document(node)),
                _ => decoder.append(attempt),
            }
        }
        // `{` also begins a YAML mapping in flow style.
        Some(json_fault) => match yaml::parse(chunk, alias_budget) {
            Ok(nodes) => nodes.iter().for_each(|node| decoder.document(node)),
            Err(yaml_fault) => {
                nodes.iter().for_each(|node| decoder.document(node));
                decoder.syntax(if json.looks_like_json() { json_fault } else { yaml_fault });
            }
        },
    }
}

/// Decodes one object (or list of objects) as an API server sends it. There are no lines; a field that is not
/// known is a warning here and no error, as an API server sends what its schema has and no typing errors.
pub fn decode_json(value: &serde_json::Value) -> Loaded {
    let mut decoder = Decoder::new(Origin::Server);
    decoder.document(&json::node(value));
    decoder.finish()
}

/// Adds objects to a snapshot. Of two objects of the same kind and name the later one counts, as it would
/// with `kubectl apply`; a warning `object-duplicate` names both places.
pub fn merge_into(snapshot: &mut Snapshot, loaded: Vec<Object>) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for object in loaded {
        let reference = object.reference();
        let source = object.metadata().source.clone();
        let Some(replaced) = snapshot.insert(object) else { continue };
        let earlier = &replaced.metadata().source;
        if *earlier == source && source.as_ref().is_none_or(|source| source.line != 0) {
            continue; // the same place was read twice, or an API server sent a newer version
        }
        let place = |source: &Option<_>| match source {
            Some(source) => format!("at {source}"),
            None => "in the API server".to_owned(),
        };
        let consequence =
            format!("defined {} and again {}; the later one counts", place(earlier), place(&source));
        diagnostics.push(
            Diagnostic::warning("object-duplicate", consequence)
                .object(reference, source)
                .remedy("remove one of the two, or give one another name or namespace"),
        );
    }
    diagnostics
}
