//! The tree that YAML and JSON are read into: scalars with their text and kind, and the line of everything.

use std::borrow::Cow;

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node<'t> {
    pub value: Value<'t>,
    /// Line in the file, from 1; 0 where not known.
    pub line: u32,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone)]
pub(super) enum Value<'t> {
    /// The text stays as written, whatever the kind: an annotation takes it as it is.
    Scalar(Scalar, Cow<'t, str>),
    Sequence(Vec<Node<'t>>),
    /// In the order of the text, duplicates included.
    Mapping(Vec<(Key<'t>, Node<'t>)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Key<'t> {
    pub text: Cow<'t, str>,
    pub line: u32,
}

/// The kinds of scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Null,
    Bool,
    Int,
    Float,
    String,
    /// `yes`, `no`, `on`, `off` without quotes: text by YAML 1.2, a boolean for kubectl, which reads YAML 1.1.
    /// Taken for whichever of the two the field wants.
    Word,
}

impl<'t> Node<'t> {
    pub fn scalar(kind: Scalar, text: impl Into<Cow<'t, str>>, line: u32) -> Self {
        Node { value: Value::Scalar(kind, text.into()), line }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Scalar::Null, _))
    }

    /// The value of a key; the last one where a key stands twice. A null counts as absent, as it does for an
    /// API server.
    pub fn get(&self, key: &str) -> Option<(u32, &Node<'t>)> {
        let Value::Mapping(entries) = &self.value else { return None };
        let (key, node) = entries.iter().rev().find(|(candidate, _)| candidate.text == key)?;
        (!node.is_null()).then_some((key.line, node))
    }

    /// The text of a scalar that is a string.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Scalar::String | Scalar::Word, text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for a message.
    pub fn describe(&self) -> &'static str {
        match &self.value {
            Value::Scalar(Scalar::Null, _) => "nothing",
            Value::Scalar(Scalar::Bool, _) => "a boolean",
            Value::Scalar(Scalar::Int | Scalar::Float, _) => "a number",
            Value::Scalar(Scalar::String | Scalar::Word, _) => "a text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

impl Scalar {
    /// The kind of a plain YAML scalar by the core schema of YAML 1.2 (section 10.3.2).
    pub fn of_plain(text: &str) -> Scalar {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Scalar::Bool,
            "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF" => {
                Scalar::Word
            }
            ".nan" | ".NaN" | ".NAN" => Scalar::Float,
            _ => Scalar::of_number(text),
        }
    }

    fn of_number(text: &str) -> Scalar {
        // Most scalars are words: one look at the first byte settles them.
        if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
            return Scalar::String;
        }
        let digits = |text: &str, of: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(of);
        if let Some(octal) = text.strip_prefix("0o") {
            return if digits(octal, |b| matches!(b, b'0'..=b'7')) { Scalar::Int } else { Scalar::String };
        }
        if let Some(hex) = text.strip_prefix("0x") {
            return if digits(hex, u8::is_ascii_hexdigit) { Scalar::Int } else { Scalar::String };
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits(unsigned, u8::is_ascii_digit) {
            return Scalar::Int;
        }
        if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
            return Scalar::Float;
        }
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let mantissa_fits =
            all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty());
        let exponent_fits = exponent.is_none_or(|exponent| {
            digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), u8::is_ascii_digit)
        });
        if mantissa_fits && exponent_fits { Scalar::Float } else { Scalar::String }
    }
}
