//! An expression and, behind a line break, what it is matched with: groups lie within it, and a match of an
//! anchored expression begins with its literal text.
#![no_main]

use ingress_wasm::regex::{Options, Regex, Scratch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (pattern, subject) = (&bytes[..end], &bytes[end + 1..]);
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    let Ok(regex) = Regex::new(&format!("^{pattern}"), Options::CASELESS) else { return };
    let mut scratch = Scratch::default();
    let Ok(Some(captures)) = regex.captures(subject, &mut scratch) else { return };
    for group in 0..captures.len() {
        if let Some(range) = captures.get(group) {
            assert!(subject.get(range.clone()).is_some(), "group {group} is {range:?}");
        }
    }
    if regex.is_anchored() {
        let literal = regex.literal_prefix();
        assert!(subject.to_ascii_lowercase().starts_with(&literal), "{literal:?}");
    }
});
