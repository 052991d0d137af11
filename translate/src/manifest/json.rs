//! JSON to [`Node`]s, by way of serde_json: several times as fast as reading it as YAML, but without lines.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::document::{SyntaxFault, line_breaks};
use super::node::{Key, Node, Scalar, Value};

/// A text that begins with `{` or `[`.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonText<'t> {
    pub text: &'t str,
    /// Line of its first character in the file.
    pub line: u32,
}

impl JsonText<'_> {
    /// Whether its author meant JSON rather than YAML in flow style: keys are quoted.
    pub fn looks_like_json(self) -> bool {
        self.text
            .trim_start_matches(|c: char| matches!(c, '{' | '[') || c.is_whitespace())
            .starts_with(['"', '}', ']'])
    }
}

/// Reads one value, or several one after the other. Gives those before the first fault, and the fault.
pub(super) fn parse(json: JsonText<'_>) -> (Vec<Node<'_>>, Option<SyntaxFault>) {
    let mut nodes = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(json.text).into_iter::<Node<'_>>();
    let (mut counted, mut line) = (0, json.line);
    loop {
        let rest = json.text.get(stream.byte_offset()..).unwrap_or_default();
        let start = json.text.len() - rest.trim_start().len();
        line = line.saturating_add(line_breaks(json.text.as_bytes().get(counted..start).unwrap_or_default()));
        counted = start;
        match stream.next() {
            None => return (nodes, None),
            Some(Ok(node)) => nodes.push(Node { line, ..node }),
            Some(Err(error)) => return (nodes, Some(fault(json, &error))),
        }
    }
}

fn fault(json: JsonText<'_>, error: &serde_json::Error) -> SyntaxFault {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    SyntaxFault {
        code: "json-syntax",
        line: json.line.saturating_add(count(error.line().saturating_sub(1))),
        column: count(error.column()),
        message: message.to_owned(),
        remedy: "correct the JSON at this place: look for a missing comma, quote or bracket just before it"
            .to_owned(),
    }
}

/// The tree of a value that serde_json holds already.
pub(super) fn node(value: &serde_json::Value) -> Node<'_> {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => return Node::scalar(Scalar::Null, "", 0),
        Json::Bool(value) => return Node::scalar(Scalar::Bool, if *value { "true" } else { "false" }, 0),
        Json::Number(number) => return number_node(number.is_f64(), number.to_string()),
        Json::String(text) => return Node::scalar(Scalar::String, text.as_str(), 0),
        Json::Array(items) => Value::Sequence(items.iter().map(node).collect()),
        Json::Object(fields) => Value::Mapping(
            fields
                .iter()
                .map(|(key, value)| (Key { text: key.as_str().into(), line: 0 }, node(value)))
                .collect(),
        ),
    };
    Node { value, line: 0 }
}

fn number_node<'t>(float: bool, text: String) -> Node<'t> {
    Node::scalar(if float { Scalar::Float } else { Scalar::Int }, text, 0)
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::scalar(Scalar::Null, "", 0))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::scalar(Scalar::Bool, if value { "true" } else { "false" }, 0))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(number_node(false, value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(number_node(false, value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'de>, E> {
        Ok(number_node(true, value.to_string()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::scalar(Scalar::String, text, 0))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'de>, E> {
        Ok(Node::scalar(Scalar::String, text.to_owned(), 0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'de>, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Node { value: Value::Sequence(nodes), line: 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = fields.next_entry::<Node<'de>, Node<'de>>()? {
            let text = match key.value {
                Value::Scalar(_, text) => text,
                _ => Cow::Borrowed(""),
            };
            entries.push((Key { text, line: 0 }, node));
        }
        Ok(Node { value: Value::Mapping(entries), line: 0 })
    }
}
