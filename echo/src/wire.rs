//! Reading the head of an HTTP/1 message without judging it: bytes in, the same bytes out.
//!
//! It knows the frame of a head (a start line, field lines, an empty line) and the framing of a body, and
//! deliberately nothing of what a target, a header or a status means.

/// A message head as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The first line, without its line end.
    pub start: Vec<u8>,
    /// Name and value of each field line, in order, with the case of the wire. White space around values is
    /// cut.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks, the last of them empty.
    Chunked,
    /// Neither was named: no body in a request, until the connection ends in a response.
    Unnamed,
}

/// Why a head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidHead {
    /// A field line without a colon, or with nothing before it.
    Field,
    /// A Content-Length that is not a number, or several that differ.
    Length,
}

/// Where the head at the start of these bytes ends: the number of bytes up to and including the empty line.
/// `None`: the end is not there yet.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    for (index, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        let line = bytes.get(line_start..index).unwrap_or_default();
        if line_start > 0 && (line.is_empty() || line == b"\r") {
            return Some(index + 1);
        }
        line_start = index + 1;
    }
    None
}

impl Head {
    /// Reads a head; `bytes` end with its empty line.
    ///
    /// # Errors
    ///
    /// When a field line is none. The start line is not looked into.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidHead> {
        let mut lines =
            bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = lines.next().unwrap_or_default().to_vec();
        let mut fields = Vec::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            let colon = line.iter().position(|byte| *byte == b':').ok_or(InvalidHead::Field)?;
            let (name, value) = line.split_at(colon);
            if name.is_empty() {
                return Err(InvalidHead::Field);
            }
            let value = value.get(1..).unwrap_or_default();
            fields.push((name.to_vec(), value.trim_ascii().to_vec()));
        }
        Ok(Self { start, fields })
    }

    /// The values of a field, in order; names are compared without case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let matches = move |field: &&(Vec<u8>, Vec<u8>)| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(matches).map(|(_, value)| value.as_slice())
    }

    /// Whether one of the comma-separated tokens of a field is this one; both are compared without case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// How the body after this head is framed. Chunks win over a length, as RFC 9112, section 6.3 has it.
    ///
    /// # Errors
    ///
    /// When the length is not a number or is given in different values.
    pub fn framing(&self) -> Result<Framing, InvalidHead> {
        if self.has_token("Transfer-Encoding", "chunked") {
            return Ok(Framing::Chunked);
        }
        let mut framing = Framing::Unnamed;
        for value in self.values("Content-Length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            let length = Framing::Length(length.ok_or(InvalidHead::Length)?);
            if framing != Framing::Unnamed && framing != length {
                return Err(InvalidHead::Length);
            }
            framing = length;
        }
        Ok(framing)
    }
}

/// The size that a chunk's first line gives; extensions are passed over. `None`: the line is no such line.
pub fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let digits = std::str::from_utf8(digits).ok()?;
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// Bytes as text: UTF-8 where they are UTF-8, otherwise each byte as the character of its number (ISO 8859-1),
/// so that nothing gets lost.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_ends_at_the_empty_line() {
        let cases: &[(&[u8], Option<usize>)] = &[
            (b"", None),
            (b"GET / HTTP/1.1\r\n", None),
            (b"GET / HTTP/1.1\r\n\r\n", Some(18)),
            (b"GET / HTTP/1.1\n\n", Some(16)),
            (b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest", Some(24)),
            (b"GET / HTTP/1.1\r\nA: b\r\n\r", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(head_length(bytes), *expected, "{:?}", text(bytes));
        }
    }

    #[test]
    fn fields_are_kept_as_they_are() {
        let head = Head::parse(b"GET /\xff HTTP/1.1\r\nx-ODD:  a\xe9b \r\nX-odd: 2\r\nE:\r\n\r\n").unwrap();
        assert_eq!(head.start, b"GET /\xff HTTP/1.1");
        assert_eq!(
            head.fields,
            [
                (b"x-ODD".to_vec(), b"a\xe9b".to_vec()),
                (b"X-odd".to_vec(), b"2".to_vec()),
                (b"E".to_vec(), Vec::new())
            ]
        );
        assert_eq!(head.values("X-Odd").count(), 2);
        for bad in [&b"GET / HTTP/1.1\r\nno colon\r\n\r\n"[..], b"GET / HTTP/1.1\r\n: x\r\n\r\n"] {
            assert_eq!(Head::parse(bad), Err(InvalidHead::Field), "{:?}", text(bad));
        }
    }

    #[test]
    fn framing_of_bodies() {
        let cases = [
            ("", Ok(Framing::Unnamed)),
            ("Content-Length: 3\r\n", Ok(Framing::Length(3))),
            ("Content-Length: 3\r\ncontent-length: 3\r\n", Ok(Framing::Length(3))),
            ("Content-Length: 3\r\nContent-Length: 4\r\n", Err(InvalidHead::Length)),
            ("Content-Length: -3\r\n", Err(InvalidHead::Length)),
            ("Transfer-Encoding: gzip, Chunked\r\n", Ok(Framing::Chunked)),
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ];
        for (fields, expected) in cases {
            let head = Head::parse(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
            assert_eq!(head.framing(), expected, "{fields:?}");
        }
    }

    #[test]
    fn sizes_of_chunks() {
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"0", Some(0)),
            (b"1f ", Some(31)),
            (b"A;name=value", Some(10)),
            (b"", None),
            (b"+1", None),
            (b"xyz", None),
        ];
        for (line, expected) in cases {
            assert_eq!(chunk_size(line), *expected, "{:?}", text(line));
        }
    }
}
