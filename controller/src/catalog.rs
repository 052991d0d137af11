//! The objects of all files at one moment, and the last good version of those that turned bad.
//!
//! This is the one place that says what happens to an object that becomes invalid: its last version that
//! was served goes on serving until it is mended or taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::manifest::{Loaded, merge_into, read};
use ingress_wasm_translate::objects::{Object, ObjectRef, Snapshot, Source};
use ingress_wasm_translate::output::{Options, Translation};

use crate::files::Changes;

/// The objects of all files.
#[derive(Debug, Default)]
pub struct Catalog {
    files: BTreeMap<Arc<str>, FileObjects>,
    /// The last version of each Ingress that was served as it stood.
    accepted: BTreeMap<ObjectRef, Object>,
}

#[derive(Debug, Default)]
struct FileObjects {
    objects: Vec<Object>,
    /// Objects of an earlier version of the file that the present one does not replace, since it is broken.
    kept: Vec<Object>,
    diagnostics: Vec<Diagnostic>,
}

impl Catalog {
    /// Takes over what changed in the files.
    pub fn apply(&mut self, changes: Changes) {
        for file in changes.removed {
            self.files.remove(&file);
        }
        for (file, loaded) in load(changes.read) {
            let before = self.files.remove(&file).unwrap_or_default();
            self.files.insert(file.clone(), FileObjects::replacing(before, loaded));
        }
    }

    /// All objects.
    pub fn snapshot(&self) -> (Snapshot, Vec<Diagnostic>) {
        let mut snapshot = Snapshot::default();
        let mut diagnostics = Vec::new();
        for file in self.files.values() {
            diagnostics.extend(file.diagnostics.iter().cloned());
            diagnostics.extend(merge_into(&mut snapshot, file.objects.clone()));
        }
        // What is kept of a broken file yields to what another file says now: the object may have moved there.
        let present: BTreeSet<ObjectRef> =
            self.files.values().flat_map(|file| &file.objects).map(Object::reference).collect();
        for object in self.files.values().flat_map(|file| &file.kept) {
            let reference = object.reference();
            if !present.contains(&reference) {
                diagnostics.push(kept_note(reference, object.metadata().source.clone()));
                diagnostics.extend(merge_into(&mut snapshot, vec![object.clone()]));
            }
        }
        (snapshot, diagnostics)
    }

    /// Translates all objects; for an Ingress that is rejected its last good version stands in.
    pub fn translate(&mut self, options: &Options) -> Translation {
        let (mut snapshot, mut diagnostics) = self.snapshot();
        let mut translation = ingress_wasm_translate::translate(&snapshot, options);
        let rejected = std::mem::take(&mut translation.rejected);
        let mut substituted = Vec::new();
        for reference in &rejected {
            let Some(good) = self.accepted.get(reference) else { continue };
            snapshot.insert(good.clone());
            substituted.push(reference.clone());
        }
        for ingress in snapshot.ingresses.values() {
            let object = Object::Ingress(ingress.clone());
            let reference = object.reference();
            if !rejected.contains(&reference) {
                self.accepted.insert(reference, object);
            }
        }
        self.accepted.retain(|reference, _| snapshot.ingresses.contains_key(&reference.name));
        if !substituted.is_empty() {
            // What was found in the rejected version is what its author has to know; what the good one says
            // was said when it came.
            let is_substituted = |diagnostic: &Diagnostic| {
                diagnostic.object.as_ref().is_some_and(|object| substituted.contains(object))
            };
            diagnostics.extend(translation.diagnostics.into_iter().filter(is_substituted));
            translation = ingress_wasm_translate::translate(&snapshot, options);
            translation.diagnostics.retain(|diagnostic| !is_substituted(diagnostic));
            diagnostics.extend(substituted.iter().map(|object| kept_note(object.clone(), None)));
        }
        diagnostics.append(&mut translation.diagnostics);
        diagnostics.sort_by(|a, b| (&a.source, &a.object, a).cmp(&(&b.source, &b.object, b)));
        diagnostics.dedup();
        translation.diagnostics = diagnostics;
        translation.rejected = rejected;
        translation
    }
}

impl FileObjects {
    fn replacing(before: FileObjects, loaded: Result<Loaded, Diagnostic>) -> Self {
        let loaded = loaded.unwrap_or_else(|diagnostic| Loaded {
            broken: true,
            diagnostics: vec![diagnostic],
            ..Loaded::default()
        });
        let Loaded { objects, diagnostics, broken, rejected } = loaded;
        let present = |reference: &ObjectRef| objects.iter().any(|object| object.reference() == *reference);
        let mut kept = Vec::new();
        // Where a document cannot even be attributed to an object, any that is missing may be meant.
        for object in before.objects.into_iter().chain(before.kept) {
            let reference = object.reference();
            if (broken || rejected.contains(&reference)) && !present(&reference) {
                kept.push(object);
            }
        }
        FileObjects { objects, kept, diagnostics }
    }
}

fn kept_note(object: ObjectRef, source: Option<Source>) -> Diagnostic {
    Diagnostic::note("last-good-version", "the last good version goes on serving until this one is mended")
        .object(object, source)
}

/// Reads the texts, on all cores where there are many.
fn load(texts: Vec<(Arc<str>, Result<String, String>)>) -> Vec<(Arc<str>, Result<Loaded, Diagnostic>)> {
    let load_one = |(file, text): (Arc<str>, Result<String, String>)| {
        let loaded = match text {
            Ok(text) => Ok(read(&file, &text)),
            Err(error) => {
                Err(Diagnostic::error("file-unreadable", format!("the file cannot be read: {error}"))
                    .source(Some(Source { file: file.clone(), line: 0 }))
                    .remedy("check the path and its permissions"))
            }
        };
        (file, loaded)
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = texts.len().div_ceil(threads).max(1);
    let mut texts = texts.into_iter();
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        loop {
            let chunk: Vec<_> = texts.by_ref().take(share).collect();
            if chunk.is_empty() {
                break;
            }
            workers.push(scope.spawn(move || chunk.into_iter().map(load_one).collect::<Vec<_>>()));
        }
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
