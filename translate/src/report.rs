//! Gathers diagnostics while objects are translated.

use std::collections::BTreeSet;

use crate::annotations::{Prefix, lookup, lookup_own, split};
use crate::diagnostic::Diagnostic;
use crate::objects::{Ingress, ObjectRef, Source};

/// The diagnostics of a translation.
#[derive(Debug, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    rejected: BTreeSet<ObjectRef>,
}

impl Report {
    /// Adds one that is complete.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Adds one about an Ingress; `line` is that of the field, 0 for that of the object.
    pub fn ingress(&mut self, ingress: &Ingress, line: u32, diagnostic: Diagnostic) {
        let source = ingress.metadata.source.as_ref().map(|source| Source {
            file: source.file.clone(),
            line: if line == 0 { source.line } else { line },
        });
        self.diagnostics.push(diagnostic.object(crate::ingress_ref(ingress), source));
    }

    /// Adds one about an annotation of an Ingress.
    pub fn annotation(&mut self, ingress: &Ingress, key: &str, diagnostic: Diagnostic) {
        let (value, line) = ingress
            .metadata
            .annotations
            .get(key)
            .map_or(("", 0), |annotation| (annotation.value.as_str(), annotation.line));
        let entry = split(key, None).and_then(|(prefix, name)| match prefix {
            Prefix::Own => lookup_own(name),
            _ => lookup(name),
        });
        let shown = if entry.is_some_and(|entry| entry.value.hides(value)) { "" } else { value };
        let diagnostic = diagnostic.field(format!("metadata.annotations[\"{key}\"]"), shown);
        self.ingress(ingress, line, diagnostic);
    }

    /// Says that an Ingress is not served as it stands, so that an earlier version should go on serving.
    pub fn reject(&mut self, ingress: &Ingress) {
        self.rejected.insert(crate::ingress_ref(ingress));
    }

    /// All diagnostics, without repetitions, in order of file, line and object; and the Ingresses
    /// that are not served as they stand.
    pub fn finish(mut self) -> (Vec<Diagnostic>, Vec<ObjectRef>) {
        put_in_order(&mut self.diagnostics);
        (self.diagnostics, self.rejected.into_iter().collect())
    }
}

/// By file, line and object, each once.
pub fn put_in_order(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| (&a.source, &a.object, a).cmp(&(&b.source, &b.object, b)));
    diagnostics.dedup();
}
