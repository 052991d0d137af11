//! The JSON path of a place in a text.
//!
//! The reader of `serde_json` says line and column of a fault, not the field. Libraries that follow the path
//! while reading (`serde_path_to_error`) double the code of every type: 70 kB of the module. The path is only
//! needed when something is wrong, so it is found then, by a second look at the text.

/// An object or array that is open at some place.
enum Open {
    /// The key that was read last; none before the first.
    Object(Option<String>),
    /// The number of the present element.
    Array(usize),
}

/// The path of the value, or of the key, that ends at line and column (both from 1) of a JSON text, in the
/// form `hosts[3].rules[0].path`; empty for the document as a whole.
pub fn at(text: &[u8], line: usize, column: usize) -> String {
    let before: usize =
        text.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let end = before.saturating_add(column).min(text.len());
    let mut stack: Vec<Open> = Vec::new();
    // In an object: whether a string is a key.
    let mut expects_key = false;
    let mut bytes = text.iter().copied().take(end).peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' => {
                stack.push(Open::Object(None));
                expects_key = true;
            }
            b'[' => {
                stack.push(Open::Array(0));
                expects_key = false;
            }
            b'}' | b']' if bytes.peek().is_some() => {
                stack.pop();
            }
            b',' => match stack.last_mut() {
                Some(Open::Array(index)) => *index = index.saturating_add(1),
                Some(Open::Object(_)) => expects_key = true,
                None => {}
            },
            b'"' => {
                let string = string(&mut bytes);
                if expects_key && let Some(Open::Object(key)) = stack.last_mut() {
                    *key = Some(string);
                    expects_key = false;
                }
            }
            _ => {}
        }
    }
    let mut path = String::new();
    for open in stack {
        match open {
            Open::Object(None) => {}
            Open::Object(Some(key)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&key);
            }
            Open::Array(index) => {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
            }
        }
    }
    path
}

/// The rest of a string, behind its first quote. Escapes are kept as they are written.
fn string(bytes: &mut impl Iterator<Item = u8>) -> String {
    let mut string = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => {
                string.push(byte);
                string.extend(bytes.next());
            }
            byte => string.push(byte),
        }
    }
    String::from_utf8_lossy(&string).into_owned()
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn the_path_of_a_place() {
        // The place is where the sign `!` stands.
        let cases = [
            ("!", ""),
            ("{!", ""),
            (r#"{"a":1!"#, "a"),
            (r#"{"a":1,"b!":"#, "b"),
            (r#"{"a":{"b":[1,2,{"c":!"#, "a.b[2].c"),
            (r#"{"a":[{"x":1},{"y":"],}\"",!"#, "a[1].y"),
            (r#"{"a":[1,2],"b":!"#, "b"),
            ("{\n \"a\": [\n  1,\n  !", "a[1]"),
            (r#"{"a":{}!"#, "a"),
        ];
        for (text, expected) in cases {
            let (before, after) = text.split_once('!').expect(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, str::len);
            assert_eq!(at(format!("{before}{after}").as_bytes(), line, column), expected, "{text}");
        }
    }
}
