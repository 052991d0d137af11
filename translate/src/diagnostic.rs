//! What could not be honoured, said by name: object, field, what was found, what happens instead, and what
//! to do about it.

use std::fmt;

use serde::Serialize;

use crate::objects::{ObjectRef, Source};

/// How grave a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something asked for does not work, or the object is not served at all.
    Error,
    /// Served, but not just as ingress-nginx would.
    Warning,
    /// Worth knowing; nothing is lost.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// One thing that its author should know. Never holds the content of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// How grave it is.
    pub severity: Severity,
    /// Stable name of the kind of finding, such as `annotation-unsupported`: for filters and tests.
    pub code: &'static str,
    /// The object at fault; none where a file does not even parse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// The file and line, as far as known; none for objects from an API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The field, as `spec.rules[0].host` or `metadata.annotations["nginx.ingress.kubernetes.io/x"]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What was found there, shortened; empty where that would tell a secret or nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub found: String,
    /// What is wrong with it and what happens instead. One sentence without a full stop.
    pub consequence: String,
    /// What to do. One sentence without a full stop; empty where nothing has to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// Longest `found` that is kept, in characters: an annotation can hold a whole snippet.
const FOUND_LIMIT: usize = 80;

impl Diagnostic {
    /// A diagnostic with a severity, a code and what happens; the rest is added by the methods below.
    pub fn new(severity: Severity, code: &'static str, consequence: impl Into<String>) -> Self {
        Diagnostic {
            severity,
            code,
            object: None,
            source: None,
            field: String::new(),
            found: String::new(),
            consequence: consequence.into(),
            remedy: String::new(),
        }
    }

    /// An error, see [`Diagnostic::new`].
    pub fn error(code: &'static str, consequence: impl Into<String>) -> Self {
        Diagnostic::new(Severity::Error, code, consequence)
    }

    /// A warning, see [`Diagnostic::new`].
    pub fn warning(code: &'static str, consequence: impl Into<String>) -> Self {
        Diagnostic::new(Severity::Warning, code, consequence)
    }

    /// A note, see [`Diagnostic::new`].
    pub fn note(code: &'static str, consequence: impl Into<String>) -> Self {
        Diagnostic::new(Severity::Note, code, consequence)
    }

    /// Names the object and, where it has one, its place in a file.
    #[must_use]
    pub fn object(mut self, object: ObjectRef, source: Option<Source>) -> Self {
        self.object = Some(object);
        self.source = source;
        self
    }

    /// Names the place in a file.
    #[must_use]
    pub fn source(mut self, source: Option<Source>) -> Self {
        self.source = source;
        self
    }

    /// Names the field and what was found there. Line breaks and control characters of the value are
    /// replaced, a long one is shortened: it comes from whoever may write the object.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, found: &str) -> Self {
        self.field = field.into();
        let mut characters = found.chars().map(|c| if c.is_control() { ' ' } else { c });
        self.found = characters.by_ref().take(FOUND_LIMIT).collect();
        if characters.next().is_some() {
            self.found.push('…');
        }
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}[{}]: {}", self.severity, self.code, self.consequence)?;
        if let Some(object) = &self.object {
            write!(formatter, "\n  object: {object}")?;
        }
        if let Some(source) = &self.source {
            write!(formatter, "\n      at: {source}")?;
        }
        match (self.field.is_empty(), self.found.is_empty()) {
            (true, _) => {}
            (false, true) => write!(formatter, "\n   field: {}", self.field)?,
            (false, false) => write!(formatter, "\n   field: {} = {:?}", self.field, self.found)?,
        }
        if !self.remedy.is_empty() {
            write!(formatter, "\n    help: {}", self.remedy)?;
        }
        Ok(())
    }
}
