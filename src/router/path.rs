//! The path that rules are matched against: percent-decoded once, slashes merged, dot segments resolved.
//!
//! This is what nginx calls `$uri`; the rules are those of `ngx_http_parse_complex_uri` with
//! `merge_slashes on`. What the backend receives is not made here: it gets the target as it came.

use std::borrow::Cow;

/// A request target that nginx answers with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTarget;

/// A target taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// The normalised path; begins with a slash.
    pub path: Cow<'a, [u8]>,
    /// What stands behind the first `?`; none where there is no `?`.
    pub query: Option<&'a [u8]>,
}

/// Takes the target of a request apart and normalises its path.
///
/// # Errors
///
/// [`InvalidTarget`] where it does not begin with `/`, holds a broken percent-escape or an escaped NUL, or
/// climbs above the root.
pub fn parse_target(target: &[u8]) -> Result<Target<'_>, InvalidTarget> {
    // A fragment is never sent by a proper client; nginx drops it.
    let target = until(target, b'#');
    let raw = until(target, b'?');
    let query = target.get(raw.len().saturating_add(1)..);
    if raw.first() != Some(&b'/') {
        return Err(InvalidTarget);
    }
    let path = if is_plain(raw) { Cow::Borrowed(raw) } else { Cow::Owned(normalise(raw)?) };
    Ok(Target { path, query })
}

/// The part before the first `end`, or all.
fn until(bytes: &[u8], end: u8) -> &[u8] {
    bytes.split(|byte| *byte == end).next().unwrap_or_default()
}

/// Nothing in the path needs normalisation. May say no for a path that turns out unchanged.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        if byte == b'%' || (previous == b'/' && (byte == b'/' || byte == b'.')) {
            return false;
        }
        previous = byte;
    }
    true
}

fn normalise(raw: &[u8]) -> Result<Vec<u8>, InvalidTarget> {
    let mut decoded: Vec<u8> = Vec::with_capacity(raw.len());
    // An escaped slash or dot counts as one: decoding comes before the segments are looked at.
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (bytes.next().and_then(hex), bytes.next().and_then(hex)) else {
            return Err(InvalidTarget);
        };
        let byte = (high << 4) | low;
        if byte == 0 {
            return Err(InvalidTarget);
        }
        decoded.push(byte);
    }
    let mut path: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => {
                // Nothing to take away: the path climbs above the root.
                let parent = path.iter().rposition(|byte| *byte == b'/').ok_or(InvalidTarget)?;
                path.truncate(parent);
            }
            segment => {
                path.push(b'/');
                path.extend_from_slice(segment);
                continue;
            }
        }
        if last {
            path.push(b'/');
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Ok(path)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Escapes a changed path for the way to the backend, as nginx does when it proxies a rewritten URI
/// (`ngx_escape_uri` with `NGX_ESCAPE_URI`, nginx 1.21.1 and later).
pub fn escape(path: &[u8], out: &mut Vec<u8>) {
    out.reserve(path.len());
    for &byte in path {
        if byte <= b' ' || byte >= 0x7f || b"#%?\"<>\\^`{|}".contains(&byte) {
            escape_byte(byte, out);
        } else {
            out.push(byte);
        }
    }
}

/// A byte as `%XX`.
pub fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or(b'0');
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
}

/// The byte that the two digits at the beginning of `text` stand for, those that follow a `%`.
pub fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [high, low, ..] = text else { return None };
    Some((hex(*high)? << 4) | hex(*low)?)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Each line was tried on nginx 1.22.1 (`return 200 $uri`).
    #[test]
    fn paths_are_normalised_as_nginx_does() {
        let cases: [(&str, Option<&[u8]>); 38] = [
            ("/", Some(b"/")),
            ("/a", Some(b"/a")),
            ("/a/", Some(b"/a/")),
            ("//", Some(b"/")),
            ("/a//b", Some(b"/a/b")),
            ("/a///", Some(b"/a/")),
            ("/a/./b", Some(b"/a/b")),
            ("/a/.", Some(b"/a/")),
            ("/a/..", Some(b"/")),
            ("/a/b/..", Some(b"/a/")),
            ("/a/../b", Some(b"/b")),
            ("/a//../b", Some(b"/b")),
            ("/a/..b", Some(b"/a/..b")),
            ("/a/...", Some(b"/a/...")),
            ("/a/.b", Some(b"/a/.b")),
            ("/..", None),
            ("/../a", None),
            ("/a/../../b", None),
            ("/%2e%2e/a", None),
            ("/a/%2e%2e/b", Some(b"/b")),
            ("/a%2Fb", Some(b"/a/b")),
            ("/a%2F%2Fb", Some(b"/a/b")),
            ("/a/%2E", Some(b"/a/")),
            ("/%41%62", Some(b"/Ab")),
            ("/%2541", Some(b"/%41")),
            ("/a%3Fb", Some(b"/a?b")),
            ("/a%23b", Some(b"/a#b")),
            ("/a%20b", Some(b"/a b")),
            ("/%ff", Some(b"/\xff")),
            ("/%0a", Some(b"/\n")),
            ("/%00", None),
            ("/%", None),
            ("/%4", None),
            ("/%zz", None),
            ("/a+b", Some(b"/a+b")),
            ("/a;x=1/../b", Some(b"/b")),
            ("", None),
            ("*", None),
        ];
        for (input, expected) in cases {
            let found = parse_target(input.as_bytes()).map(|target| target.path.into_owned()).ok();
            assert_eq!(found.as_deref(), expected, "{input}");
        }
    }

    #[test]
    fn the_query_is_left_alone() {
        let cases: [(&str, Option<&str>); 6] = [
            ("/a", None),
            ("/a?", Some("")),
            ("/a?b", Some("b")),
            ("/a?b?c/../d%2e", Some("b?c/../d%2e")),
            ("/a?b#c", Some("b")),
            ("/a#b?c", None),
        ];
        for (input, expected) in cases {
            let target = parse_target(input.as_bytes()).expect(input);
            assert_eq!(target.query, expected.map(str::as_bytes), "{input}");
            assert_eq!(&*target.path, b"/a", "{input}");
        }
    }

    #[test]
    fn changed_paths_are_escaped() {
        let mut out = Vec::new();
        escape(b"/a b%#?\"<>\\^`{|}[]~'!$&()*+,;=:@\x7f\xc3\xa4\x01", &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "/a%20b%25%23%3F%22%3C%3E%5C%5E%60%7B%7C%7D[]~'!$&()*+,;=:@%7F%C3%A4%01"
        );
    }
}
