//! Splits a text into documents before any of them is parsed, so that a fault in one of them costs no other.

use super::json::JsonText;

/// A part of a text with the line it begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk<'t> {
    pub text: &'t str,
    /// Line of its first character in the file, from 1.
    pub line: u32,
}

/// A text that is not well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxFault {
    /// `yaml-syntax` or `json-syntax`.
    pub code: &'static str,
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What the parser says. Holds nothing of the text: that may be a Secret.
    pub message: String,
    pub remedy: String,
}

impl<'t> Chunk<'t> {
    /// The part that may be JSON: where the first thing after `---`, blanks and line breaks is `{` or `[`.
    pub fn json(self) -> Option<JsonText<'t>> {
        let body = self.text.strip_prefix("---").unwrap_or(self.text).trim_start();
        if !body.starts_with(['{', '[']) {
            return None;
        }
        let before = &self.text.as_bytes()[..self.text.len() - body.len()];
        Some(JsonText { text: body, line: self.line.saturating_add(line_breaks(before)) })
    }
}

/// The number of line feeds.
pub(super) fn line_breaks(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.iter().filter(|&&byte| byte == b'\n').count()).unwrap_or(u32::MAX)
}

/// Splits at the lines `---` and `...`. A line that begins so is a document marker wherever it stands: YAML
/// forbids it as content, in block scalars and quotes as well (YAML 1.2.2, rule 206 `c-forbidden`).
/// Directives (`%YAML 1.2`) stay with the document that they stand before.
pub(super) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk { text, line: 1 };
    let mut start = 0;
    let mut offset = 0;
    let mut number: u32 = 1;
    let mut content = false;
    for line in text.split_inclusive('\n') {
        let end = offset + line.len();
        let next = number.saturating_add(1);
        if is_marker(line, "---") {
            if content {
                chunks.push(Chunk { text: &text[start..offset], ..chunk });
                (start, chunk.line) = (offset, number);
            }
            content = !line[3..].trim_start().is_empty() && !line[3..].trim_start().starts_with('#');
        } else if is_marker(line, "...") {
            if content {
                chunks.push(Chunk { text: &text[start..end], ..chunk });
            }
            (start, chunk.line, content) = (end, next, false);
        } else if !content {
            content =
                !matches!(line.trim_start().as_bytes().first(), None | Some(b'#')) && !line.starts_with('%');
        }
        (offset, number) = (end, next);
    }
    if content {
        chunks.push(Chunk { text: &text[start..], ..chunk });
    }
    chunks
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}
