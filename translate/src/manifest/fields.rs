//! Reading fields of a [`Node`] with their path and line, and gathering what is wrong with them.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::diagnostic::{Diagnostic, Severity};
use crate::objects::{Kind, ObjectRef};

use super::decode::Origin;
use super::node::{Node, Scalar, Value};

/// A node and the way to it. Lives on the stack; the path becomes text only where a fault is told.
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    pub node: &'a Node<'a>,
    /// Line of the key, or of the node where there is none.
    pub line: u32,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    /// A field of the schema.
    Field(&'a str),
    /// A key that its author chose.
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub fn root(node: &'a Node<'a>) -> Self {
        At { parent: None, step: Step::Root, node, line: node.line }
    }

    /// A field of the schema; none where it is absent or null.
    pub fn get(&'a self, field: &'a str) -> Option<At<'a>> {
        let (line, node) = self.node.get(field)?;
        Some(At { parent: Some(self), step: Step::Field(field), node, line })
    }

    /// The items of a list; none for anything else.
    pub fn items(&'a self) -> impl Iterator<Item = At<'a>> {
        let items = match &self.node.value {
            Value::Sequence(items) => items.as_slice(),
            _ => &[],
        };
        items.iter().enumerate().map(move |(index, node)| At {
            parent: Some(self),
            step: Step::Index(index),
            node,
            line: node.line,
        })
    }

    /// The entries of a mapping with keys that their author chose; none for anything else.
    pub fn entries(&'a self) -> impl Iterator<Item = (&'a str, At<'a>)> {
        self.keys().iter().map(move |(key, node)| {
            let at = At { parent: Some(self), step: Step::Key(&key.text), node, line: key.line };
            (key.text.as_ref(), at)
        })
    }

    fn keys(&self) -> &'a [(super::node::Key<'a>, Node<'a>)] {
        match &self.node.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// `spec.rules[0].host`, `metadata.annotations["a/b"]`.
    pub fn path(&self) -> String {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        self.step.write(&mut path);
        path
    }

    /// The path of a field that need not exist.
    fn path_of(&self, field: &str) -> String {
        let mut path = self.path();
        Step::Field(field).write(&mut path);
        path
    }

    /// What stands there, for a message: the text of a scalar.
    pub fn found(&self) -> &'a str {
        match &self.node.value {
            Value::Scalar(_, text) => text,
            _ => "",
        }
    }
}

impl Step<'_> {
    fn write(self, path: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Step::Root => Ok(()),
            Step::Field(field) if !field.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                write!(path, "[{field:?}]")
            }
            Step::Field(field) if path.is_empty() => write!(path, "{field}"),
            Step::Field(field) => write!(path, ".{field}"),
            Step::Key(key) => write!(path, "[{key:?}]"),
            Step::Index(index) => write!(path, "[{index}]"),
        };
    }
}

/// What to do about a field that the schema does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Always an error: leaving it out widens what the object does, as a rule without its `host`.
    Refuse,
    /// An error where it looks like a slip for a field there is, a warning elsewhere: it may come from an API
    /// version newer than this.
    RefuseSlips,
    /// An error where it looks like a slip, nothing elsewhere: the field does not matter.
    PassOver,
}

/// What is wrong with one object.
pub(super) struct Faults<'a> {
    origin: Origin<'a>,
    pub object: ObjectRef,
    diagnostics: Vec<Diagnostic>,
    rejected: bool,
}

impl<'a> Faults<'a> {
    pub fn new(origin: Origin<'a>, object: ObjectRef) -> Self {
        Faults { origin, object, diagnostics: Vec::new(), rejected: false }
    }

    /// The diagnostics, and whether the object is to be left out.
    pub fn finish(self) -> (Vec<Diagnostic>, bool) {
        (self.diagnostics, self.rejected)
    }

    /// An error, which costs the object. `what` is continued with what becomes of it.
    pub fn error(&mut self, code: &'static str, at: &At<'_>, what: &str, remedy: impl Into<String>) {
        self.error_at(code, at.line, at.path(), at.found(), what, remedy);
    }

    /// An error about a field that is not there.
    pub fn missing(&mut self, at: &At<'_>, field: &str, remedy: impl Into<String>) {
        let what = format!("the required field `{field}` is missing");
        self.error_at("field-missing", at.line, at.path_of(field), "", &what, remedy);
    }

    fn error_at(
        &mut self,
        code: &'static str,
        line: u32,
        field: String,
        found: &str,
        what: &str,
        remedy: impl Into<String>,
    ) {
        self.rejected = true;
        let consequence = format!("{what}; the {} is not loaded", self.object.kind);
        self.report(Severity::Error, code, line, field, found, consequence, remedy);
    }

    /// A warning: the value is taken all the same, in the way that `what` says.
    pub fn warning(&mut self, code: &'static str, at: &At<'_>, what: &str, remedy: impl Into<String>) {
        self.report(Severity::Warning, code, at.line, at.path(), at.found(), what.to_owned(), remedy);
    }

    #[expect(clippy::too_many_arguments, reason = "each becomes one field of a Diagnostic")]
    fn report(
        &mut self,
        severity: Severity,
        code: &'static str,
        line: u32,
        field: String,
        found: &str,
        consequence: String,
        remedy: impl Into<String>,
    ) {
        // Whatever a Secret holds may be the secret, an annotation included (`last-applied-configuration`).
        let found = if self.object.kind == Kind::Secret { "" } else { found };
        let source = self.origin.source(line);
        self.diagnostics.push(
            Diagnostic::new(severity, code, consequence)
                .object(self.object.clone(), source)
                .field(field, found)
                .remedy(remedy),
        );
    }

    fn wrong_type(&mut self, at: &At<'_>, wanted: &str) {
        let scalar = matches!(at.node.value, Value::Scalar(..));
        let remedy = match wanted {
            "a text" if scalar => "put the value in quotes",
            "a number" if scalar => "write the number without quotes",
            _ => "look at the indentation and at the dashes of the lines here",
        };
        let what = format!("{} is needed here, not {}", wanted, at.node.describe());
        self.error("field-type", at, &what, remedy);
    }

    // === Fields ===

    /// Looks for fields that the schema does not have. `elsewhere` names fields of other places or versions
    /// with what to write instead.
    pub fn check_fields(&mut self, at: &At<'_>, known: &[&str], elsewhere: &[(&str, &str)], policy: Unknown) {
        for (key, _) in at.keys() {
            let name = key.text.as_ref();
            if known.contains(&name) {
                continue;
            }
            let slip = near_miss(name, known);
            let hint = elsewhere.iter().find(|(field, _)| *field == name).map(|(_, hint)| *hint);
            let remedy = match (slip, hint) {
                (_, Some(hint)) => hint.to_owned(),
                (Some(slip), None) => format!("write `{slip}`"),
                (None, None) => format!("remove it; the fields here are {}", known.join(", ")),
            };
            let what = match slip {
                Some(slip) => format!("unknown field `{name}`; did you mean `{slip}`?"),
                None => format!("unknown field `{name}`"),
            };
            let refuse = match policy {
                Unknown::Refuse => true,
                Unknown::RefuseSlips | Unknown::PassOver => slip.is_some() || hint.is_some(),
            };
            if refuse && self.origin.is_file() {
                let what = what.trim_end_matches('?');
                self.error_at("field-unknown", key.line, at.path_of(name), "", what, remedy);
            } else if policy != Unknown::PassOver {
                let consequence = format!("unknown field `{name}`; it has no effect");
                let path = at.path_of(name);
                self.report(Severity::Warning, "field-unknown", key.line, path, "", consequence, remedy);
            }
        }
    }

    /// Whether the node is a mapping; an error otherwise.
    pub fn mapping(&mut self, at: &At<'_>) -> bool {
        let fits = matches!(at.node.value, Value::Mapping(_));
        if !fits {
            self.wrong_type(at, "a mapping");
        }
        fits
    }

    /// Whether the node is a list; an error otherwise.
    pub fn list(&mut self, at: &At<'_>) -> bool {
        let fits = matches!(at.node.value, Value::Sequence(_));
        if !fits {
            self.wrong_type(at, "a list");
        }
        fits
    }

    /// The text; an error where it is anything else, numbers included, as for the API server.
    pub fn text(&mut self, at: &At<'_>) -> Option<String> {
        let text = at.node.text().map(str::to_owned);
        if text.is_none() {
            self.wrong_type(at, "a text");
        }
        text
    }

    /// The text of a field, where it is there.
    pub fn text_field(&mut self, at: &At<'_>, field: &str) -> Option<String> {
        self.text(&at.get(field)?)
    }

    /// The value of a field that is true or false, where it is there.
    pub fn bool_field(&mut self, at: &At<'_>, field: &str) -> Option<bool> {
        let at = at.get(field)?;
        if let Value::Scalar(Scalar::Bool | Scalar::Word, text) = &at.node.value {
            return Some(matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on"));
        }
        self.wrong_type(&at, "a boolean");
        None
    }

    /// A port number from 1 to 65535.
    pub fn port(&mut self, at: &At<'_>) -> Option<u16> {
        let Value::Scalar(Scalar::Int, text) = &at.node.value else {
            self.wrong_type(at, "a number");
            return None;
        };
        match text.parse::<u16>() {
            Ok(port) if port != 0 => Some(port),
            _ => {
                self.error("port-invalid", at, "this is no port number", "use a number from 1 to 65535");
                None
            }
        }
    }

    /// The value of a mapping from texts to texts. An API server refuses numbers and booleans there; people
    /// write them, so their text is taken with a warning.
    pub fn loose_text(&mut self, at: &At<'_>, code: &'static str) -> Option<String> {
        let Value::Scalar(kind, text) = &at.node.value else {
            self.wrong_type(at, "a text");
            return None;
        };
        match kind {
            Scalar::String => {}
            Scalar::Null => return Some(String::new()),
            _ => {
                let what =
                    "this is no text for Kubernetes, which refuses it without quotes; its text is taken here";
                self.warning(code, at, what, "put the value in quotes");
            }
        }
        Some(text.clone().into_owned())
    }

    /// Keys that stand twice in one mapping, anywhere in the object.
    pub fn check_duplicates(&mut self, at: &At<'_>) {
        let entries = at.keys();
        let mut seen = HashMap::new();
        for (index, (key, _)) in entries.iter().enumerate() {
            // Short mappings are the rule, and for them comparing is faster than hashing.
            let first = if entries.len() <= 16 {
                entries[..index]
                    .iter()
                    .find(|(earlier, _)| earlier.text == key.text)
                    .map(|(earlier, _)| earlier.line)
            } else {
                let first = *seen.entry(key.text.as_ref()).or_insert((index, key.line));
                (first.0 != index).then_some(first.1)
            };
            let place = match first {
                None => continue,
                Some(0) => String::new(),
                Some(line) => format!(", first in line {line}"),
            };
            let what = format!("the key `{}` stands twice{place}", key.text.escape_debug());
            self.error_at(
                "key-duplicate",
                key.line,
                at.path_of(&key.text),
                "",
                &what,
                "remove one of the two",
            );
        }
        for (key, node) in entries {
            if !matches!(node.value, Value::Scalar(..)) {
                let child = At { parent: Some(at), step: Step::Field(&key.text), node, line: key.line };
                self.check_duplicates(&child);
            }
        }
        for item in at.items() {
            self.check_duplicates(&item);
        }
    }
}

/// The known name that a name was probably meant to be.
pub(super) fn near_miss<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if name.len() > 64 {
        return None;
    }
    let plain = |text: &str| -> Vec<u8> {
        text.bytes().filter(|b| !matches!(b, b'-' | b'_' | b' ')).map(|b| b.to_ascii_lowercase()).collect()
    };
    let name = plain(name);
    known
        .iter()
        .map(|candidate| (edit_distance(&name, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= if candidate.len() < 6 { 1 } else { 2 })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| *candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours from one to the other.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replaced = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}
