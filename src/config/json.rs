//! A reader of JSON text for values whose types are known: it knows the path of what it reads, and refuses
//! what does not fit.
//!
//! Why not `serde_json`, with which the configuration is written: its reader is compiled anew for each type,
//! which comes to 90 kB of the module, a fifth of it, and module size is start-up time. And it does not know
//! the path of a fault. A test holds both readers against each other.

use std::borrow::Cow;

use super::ConfigError;

/// A part of a path.
#[derive(Debug, Clone, Copy)]
enum Segment {
    /// Where the key stands in the text, quotes included.
    Key(usize, usize),
    Index(usize),
}

/// Reads a JSON text from its beginning to its end.
#[derive(Debug)]
pub struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    path: Vec<Segment>,
}

/// What reading gives.
pub type Read<T> = Result<T, ConfigError>;

impl<'t> Reader<'t> {
    /// At the beginning of a text.
    pub fn new(text: &'t [u8]) -> Self {
        Reader { text, at: 0, path: Vec::new() }
    }

    /// A refusal of what was just read.
    pub fn fault(&self, reason: &str) -> ConfigError {
        let mut path = String::new();
        for segment in &self.path {
            match segment {
                Segment::Key(start, end) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    let key = self.text.get(*start..*end).unwrap_or_default();
                    path.push_str(String::from_utf8_lossy(key).trim_matches('"'));
                }
                Segment::Index(index) => {
                    path.push('[');
                    path.push_str(&index.to_string());
                    path.push(']');
                }
            }
        }
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
        let column = before.rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
        let mut text = String::from(reason);
        text.push_str(" at line ");
        text.push_str(&line.to_string());
        text.push_str(" column ");
        text.push_str(&column.to_string());
        ConfigError::Malformed { path, reason: text }
    }

    /// Nothing but blanks may follow.
    pub fn end(&mut self) -> Read<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault("trailing characters")),
        }
    }

    /// An object. Each key goes to `field`, which reads its value and says whether it knows the key.
    pub fn object(&mut self, field: &mut dyn FnMut(&mut Self, &str) -> Read<bool>) -> Read<()> {
        self.expect(b'{', "expected an object")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.fault("expected a key"));
            }
            let start = self.at;
            let key = self.text()?;
            self.path.push(Segment::Key(start, self.at));
            self.expect(b':', "expected `:`")?;
            if !field(self, &key)? {
                return Err(self.fault("unknown field"));
            }
            self.path.pop();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',', "expected `,` or `}`")?;
        }
    }

    /// An array. Each element goes to `element`.
    pub fn array(&mut self, element: &mut dyn FnMut(&mut Self) -> Read<()>) -> Read<()> {
        self.expect(b'[', "expected an array")?;
        if self.take(b']') {
            return Ok(());
        }
        let mut index = 0_usize;
        loop {
            self.path.push(Segment::Index(index));
            element(self)?;
            self.path.pop();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',', "expected `,` or `]`")?;
            index = index.saturating_add(1);
        }
    }

    /// A string.
    pub fn string(&mut self) -> Read<String> {
        self.text().map(Cow::into_owned)
    }

    /// A string, borrowed where it holds no escape.
    fn text(&mut self) -> Read<Cow<'t, str>> {
        self.expect(b'"', "expected a string")?;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' ')).unwrap_or(rest.len());
        let (plain, rest) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        self.at = self.at.saturating_add(plain.len());
        if rest.first() == Some(&b'"') {
            self.at = self.at.saturating_add(1);
            return std::str::from_utf8(plain)
                .map(Cow::Borrowed)
                .map_err(|_| self.fault("the string is not UTF-8"));
        }
        let mut bytes = plain.to_vec();
        loop {
            match self.next() {
                None => return Err(self.fault("the string does not end")),
                Some(b'"') => break,
                Some(b'\\') => self.escape(&mut bytes)?,
                Some(byte) if byte < b' ' => return Err(self.fault("control character in a string")),
                Some(byte) => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map(Cow::Owned).map_err(|_| self.fault("the string is not UTF-8"))
    }

    /// A boolean.
    pub fn boolean(&mut self) -> Read<bool> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, value) in [(&b"true"[..], true), (b"false", false)] {
            if rest.starts_with(word) {
                self.at = self.at.saturating_add(word.len());
                return Ok(value);
            }
        }
        Err(self.fault("expected true or false"))
    }

    /// A whole number from 0 to `most`.
    pub fn number(&mut self, most: u64) -> Read<u64> {
        let reason = "expected a whole number that is not negative";
        self.peek();
        let mut value: Option<u64> = None;
        while let Some(digit) = self.text.get(self.at).copied().filter(u8::is_ascii_digit) {
            if value == Some(0) {
                return Err(self.fault("a number begins with no zero"));
            }
            let digit = u64::from(digit.wrapping_sub(b'0'));
            let next = value.unwrap_or(0).checked_mul(10).and_then(|value| value.checked_add(digit));
            value = Some(next.ok_or_else(|| self.fault("the number is too large"))?);
            self.at = self.at.saturating_add(1);
        }
        if matches!(self.text.get(self.at), Some(b'.' | b'e' | b'E')) {
            return Err(self.fault(reason));
        }
        match value {
            Some(value) if value <= most => Ok(value),
            Some(_) => Err(self.fault("the number is too large")),
            None => Err(self.fault(reason)),
        }
    }

    /// Passes over a value of any kind.
    fn skip(&mut self) -> Read<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                None => return Err(self.fault("unexpected end")),
                Some(b'"') => drop(self.text()?),
                Some(byte) => {
                    self.at = self.at.saturating_add(1);
                    match byte {
                        b'{' | b'[' => depth = depth.saturating_add(1),
                        b'}' | b']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                }
            }
            if depth == 0 && matches!(self.peek(), None | Some(b',' | b'}' | b']')) {
                return Ok(());
            }
        }
    }

    /// The next byte that is no blank, without taking it.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at = self.at.saturating_add(1),
                other => return other.copied(),
            }
        }
    }

    /// The next byte, blank or not.
    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied();
        self.at = self.at.saturating_add(1).min(self.text.len());
        byte
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at = self.at.saturating_add(1);
        }
        found
    }

    fn expect(&mut self, byte: u8, reason: &str) -> Read<()> {
        if self.take(byte) {
            Ok(())
        } else if self.at >= self.text.len() {
            Err(self.fault("unexpected end"))
        } else {
            Err(self.fault(reason))
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Read<()> {
        let plain = match self.next() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.unicode()?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.fault("invalid escape")),
        };
        bytes.push(plain);
        Ok(())
    }

    /// What follows `\u`; a character beyond the first plane comes as two escapes.
    fn unicode(&mut self) -> Read<char> {
        let first = self.hex()?;
        let code = match first {
            0xd800..=0xdbff if self.next() == Some(b'\\') && self.next() == Some(b'u') => match self.hex()? {
                second @ 0xdc00..=0xdfff => {
                    let (high, low) = (first.wrapping_sub(0xd800), second.wrapping_sub(0xdc00));
                    (high << 10).wrapping_add(low).wrapping_add(0x1_0000)
                }
                _ => 0xd800,
            },
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.fault("invalid escape"))
    }

    fn hex(&mut self) -> Read<u32> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|byte| char::from(byte).to_digit(16));
            value = (value << 4) | digit.ok_or_else(|| self.fault("invalid escape"))?;
        }
        Ok(value)
    }
}

/// The number under the key `version` of a document of whatever kind.
pub fn version(text: &[u8]) -> Option<u64> {
    let mut found = None;
    let mut reader = Reader::new(text);
    // What follows the version need not even be JSON.
    let _ = reader.object(&mut |reader, key| {
        if key == "version" {
            found = Some(reader.number(u64::MAX)?);
        } else {
            reader.skip()?;
        }
        Ok(true)
    });
    found
}
