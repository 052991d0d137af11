//! YAML to [`Node`]s, from the events of a parser: aliases and merge keys are resolved, within bounds.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::document::{Chunk, SyntaxFault};
use super::node::{Key, Node, Scalar, Value};

/// Nodes that the aliases of one file may add, besides one for each byte of the file. Without a bound some
/// lines of YAML expand to billions of nodes.
pub(super) const ALIAS_BUDGET: usize = 100_000;

/// Deepest nesting. Kubernetes objects stay far below; beyond it, recursion over the tree would not be safe.
const MAX_DEPTH: usize = 100;

/// Reads the documents of a chunk.
pub(super) fn parse<'t>(chunk: Chunk<'t>, alias_budget: &mut usize) -> Result<Vec<Node<'t>>, SyntaxFault> {
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder {
        first_line: chunk.line.saturating_sub(1),
        stack: Vec::new(),
        anchors: HashMap::new(),
        alias_budget,
        documents: Vec::new(),
    };
    for event in Parser::<StrInput<'_>>::new_from_str_with_options(chunk.text, options) {
        let (event, span) = event.map_err(|error| scan_fault(chunk, &error))?;
        builder.event(event, span)?;
    }
    Ok(builder.documents)
}

fn scan_fault(chunk: Chunk<'_>, error: &ScanError) -> SyntaxFault {
    let marker = error.marker();
    let line = chunk.text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    let remedy = if chunk.text.contains("{{") {
        "this looks like a template: render it first, for example with `helm template`"
    } else if line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t') {
        "indent with spaces, not with tabs"
    } else {
        "correct the YAML at this place: look for wrong indentation, a missing colon, quote or bracket, and \
         put a value with special characters in quotes"
    };
    fault(chunk.line.saturating_sub(1), marker.line(), marker.col(), error.info(), remedy)
}

fn fault(
    first_line: u32,
    line: usize,
    column: usize,
    message: impl Into<String>,
    remedy: &str,
) -> SyntaxFault {
    SyntaxFault {
        code: "yaml-syntax",
        line: first_line.saturating_add(u32::try_from(line).unwrap_or(u32::MAX)),
        column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        message: message.into(),
        remedy: remedy.to_owned(),
    }
}

/// A complete node and what copying it costs.
#[derive(Clone)]
struct Built<'t> {
    node: Node<'t>,
    /// Number of nodes in it, itself included.
    size: usize,
    /// Number of collections on the longest way down.
    height: usize,
}

/// A collection whose end has not come yet.
struct Open<'t> {
    content: Content<'t>,
    line: u32,
    anchor: usize,
    size: usize,
    height: usize,
}

enum Content<'t> {
    Sequence(Vec<Node<'t>>),
    Mapping { entries: Vec<(Key<'t>, Node<'t>)>, key: Option<Key<'t>>, merged: Vec<Node<'t>>, merging: bool },
}

struct Builder<'t, 'b> {
    /// Lines before the chunk.
    first_line: u32,
    stack: Vec<Open<'t>>,
    anchors: HashMap<usize, Built<'t>>,
    alias_budget: &'b mut usize,
    documents: Vec<Node<'t>>,
}

impl<'t> Builder<'t, '_> {
    fn event(&mut self, event: Event<'t>, span: Span) -> Result<(), SyntaxFault> {
        let line = self.first_line.saturating_add(u32::try_from(span.start.line()).unwrap_or(u32::MAX));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if plain && text == "<<" && self.begin_merge() {
                    return Ok(());
                }
                let kind = scalar_kind(&text, style, tag.as_deref())
                    .ok_or_else(|| self.refuse(span, "this tag is not supported", "remove the tag"))?;
                let built =
                    Built { node: Node { value: Value::Scalar(kind, text), line }, size: 1, height: 0 };
                self.complete(built, anchor, span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Content::Sequence(Vec::new()), anchor, tag.as_deref(), "seq", line, span)
            }
            Event::MappingStart(_, anchor, tag) => {
                let content =
                    Content::Mapping { entries: Vec::new(), key: None, merged: Vec::new(), merging: false };
                self.open(content, anchor, tag.as_deref(), "map", line, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => Ok(()), // starts and ends of the stream and of documents: the stack tells
        }
    }

    fn refuse(&self, span: Span, message: &str, remedy: &str) -> SyntaxFault {
        fault(self.first_line, span.start.line(), span.start.col(), message, remedy)
    }

    /// `<<` is a merge key where a key is awaited, and text elsewhere.
    fn begin_merge(&mut self) -> bool {
        match self.stack.last_mut() {
            Some(Open { content: Content::Mapping { key: None, merging, .. }, .. }) if !*merging => {
                *merging = true;
                true
            }
            _ => false,
        }
    }

    fn open(
        &mut self,
        content: Content<'t>,
        anchor: usize,
        tag: Option<&Tag>,
        own_tag: &str,
        line: u32,
        span: Span,
    ) -> Result<(), SyntaxFault> {
        if tag.is_some_and(|tag| !(tag.is_yaml_core_schema() && tag.suffix() == own_tag)) {
            return Err(self.refuse(span, "this tag is not supported", "remove the tag"));
        }
        self.stack.push(Open { content, line, anchor, size: 1, height: 1 });
        Ok(())
    }

    fn close(&mut self, span: Span) -> Result<(), SyntaxFault> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping { mut entries, merged, .. } => {
                merge(&mut entries, merged).map_err(|message| {
                    self.refuse(span, message, "give `<<` an alias of a mapping, or a list of such")
                })?;
                Value::Mapping(entries)
            }
        };
        let built = Built { node: Node { value, line: open.line }, size: open.size, height: open.height };
        self.complete(built, open.anchor, span)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), SyntaxFault> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(self.refuse(span, "the alias stands within what it names", "remove the alias"));
        };
        if self.stack.len().saturating_add(target.height) > MAX_DEPTH {
            return Err(self.refuse(span, "the aliases nest too deeply", "write the values out"));
        }
        let size = target.size;
        self.spend(size, span)?;
        let Some(built) = self.anchors.get(&anchor).cloned() else { return Ok(()) };
        self.complete(built, 0, span)
    }

    fn spend(&mut self, size: usize, span: Span) -> Result<(), SyntaxFault> {
        match self.alias_budget.checked_sub(size) {
            Some(left) => {
                *self.alias_budget = left;
                Ok(())
            }
            None => {
                Err(self.refuse(span, "the aliases of this file expand to too much", "write the values out"))
            }
        }
    }

    /// Hands a node to the collection around it.
    fn complete(&mut self, built: Built<'t>, anchor: usize, span: Span) -> Result<(), SyntaxFault> {
        if anchor != 0 {
            self.spend(built.size, span)?;
            self.anchors.insert(anchor, built.clone());
        }
        let Built { node, size, height } = built;
        let Some(parent) = self.stack.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        parent.size = parent.size.saturating_add(size);
        parent.height = parent.height.max(height.saturating_add(1));
        match &mut parent.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { merged, merging, .. } if *merging => {
                *merging = false;
                merged.push(node);
            }
            Content::Mapping { entries, key, .. } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let Value::Scalar(_, text) = node.value else {
                        let remedy = "render a template first, for example with `helm template`, or put `{{ … }}` in quotes";
                        return Err(self.refuse(span, "a list or a mapping cannot be a key", remedy));
                    };
                    *key = Some(Key { text, line: node.line });
                }
            },
        }
        Ok(())
    }
}

/// Adds the entries that `<<` names, without replacing any. Of several mappings the earlier one counts.
fn merge<'t>(entries: &mut Vec<(Key<'t>, Node<'t>)>, merged: Vec<Node<'t>>) -> Result<(), &'static str> {
    if merged.is_empty() {
        return Ok(());
    }
    let mut present: HashSet<Cow<'t, str>> = entries.iter().map(|(key, _)| key.text.clone()).collect();
    for node in merged {
        let mappings = match node.value {
            Value::Sequence(items) => items,
            value => vec![Node { value, line: node.line }],
        };
        for mapping in mappings {
            let Value::Mapping(added) = mapping.value else { return Err("`<<` names no mapping") };
            for (key, value) in added {
                if present.insert(key.text.clone()) {
                    entries.push((key, value));
                }
            }
        }
    }
    Ok(())
}

/// The kind of a scalar; none for a tag that is not of the core schema.
fn scalar_kind(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<Scalar> {
    let Some(tag) = tag else {
        return Some(if style == ScalarStyle::Plain { Scalar::of_plain(text) } else { Scalar::String });
    };
    if tag.handle().is_empty() && tag.suffix() == "!" || tag.handle() == "!" && tag.suffix().is_empty() {
        return Some(Scalar::String); // the non-specific tag
    }
    if !tag.is_yaml_core_schema() {
        return None;
    }
    match tag.suffix() {
        "str" => Some(Scalar::String),
        "int" => Some(Scalar::Int),
        "float" => Some(Scalar::Float),
        "bool" => Some(Scalar::Bool),
        "null" => Some(Scalar::Null),
        _ => None,
    }
}
