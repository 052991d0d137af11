//! A normalised path has neither dot segments nor empty ones, and escaped it is read as itself.
#![no_main]

use ingress_wasm::router::path::{escape, parse_target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A raw NUL never comes from Envoy, and an escaped one is refused.
    if bytes.contains(&0) {
        return;
    }
    let Ok(target) = parse_target(bytes) else { return };
    let path = &*target.path;
    assert_eq!(path.first(), Some(&b'/'));
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        assert!(segment != b"." && segment != b"..", "{path:?}");
        assert!(!segment.is_empty() || segments.peek().is_none(), "{path:?}");
    }
    let mut escaped = Vec::new();
    escape(path, &mut escaped);
    let again = parse_target(&escaped).expect("an escaped path is a target");
    assert_eq!((&*again.path, again.query), (path, None));
});
