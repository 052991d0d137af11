//! What a rate limit service is told of a request: the route makes descriptors from private headers.
//!
//! Envoy asks the service behind this filter, so what is refused here is not counted there.

use std::borrow::Cow;

use super::Facts;
use crate::decision::{Edit, LIMIT_HEADERS};
use crate::router::CompiledGlobalLimit;
use crate::router::path::escape_byte;

/// How much of a value is told, in bytes: a client must not fill the service's memory.
const LONGEST: usize = 1024;

/// Stands for a value that is empty: without its header Envoy would not ask at all.
const NOTHING: &[u8] = b"-";

/// Tells the values, or takes the headers away where the client is not counted.
pub fn edits<'a>(limit: &'a CompiledGlobalLimit, facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
    let exempt = facts.client.ip().is_some_and(|ip| limit.exempt.contains(ip));
    let mut headers = LIMIT_HEADERS.iter().map(|name| Cow::Borrowed(*name));
    if exempt {
        edits.extend(headers.map(Edit::Remove));
        return;
    }
    let Some(first) = headers.next() else { return };
    edits.push(match &limit.limit {
        Some(limit) => Edit::Set(first, Cow::Borrowed(limit.as_bytes())),
        None => Edit::Remove(first),
    });
    let values = headers.zip(&limit.values);
    edits.extend(values.map(|(name, value)| Edit::Set(name, told(value.render(facts)))));
}

/// A value as text that every service can read: a message whose text is none would be refused by it.
fn told(value: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if value.is_empty() {
        return Cow::Borrowed(NOTHING);
    }
    let plain = |byte: &u8| (b' '..=b'~').contains(byte);
    if value.len() <= LONGEST && value.iter().all(plain) {
        return value;
    }
    let mut text = Vec::with_capacity(LONGEST);
    for byte in value.iter() {
        if text.len() >= LONGEST {
            break;
        }
        if plain(byte) { text.push(*byte) } else { escape_byte(*byte, &mut text) }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use crate::decision::{
        Connection, Decision, HeaderLine, LIMIT_HEADERS, RequestView, Scheme, apply_edits,
    };
    use crate::policy::{State, decide};

    const CONFIG: &str = r#"{"version":1,
        "policies":[{"globalLimit":{"values":["n/i","$remote_addr","$http_x_key$arg_a"],"limit":"AAA=",
            "exempt":["10.0.0.0/8"]}}],
        "hosts":[{"name":"a","rules":[
            {"ingress":"n/i","path":"/","policies":0,"action":{"forward":{"cluster":"c"}}}]}]}"#;

    /// The private headers that a request goes on with.
    fn told(peer: &str, sent: &[HeaderLine<'_>]) -> Vec<String> {
        let config = crate::config::from_slice(CONFIG.as_bytes()).expect("reads");
        let table = crate::router::compile(config).expect("compiles");
        let mut headers: Vec<HeaderLine<'_>> =
            vec![(b":method", b"GET"), (b":path", b"/?a="), (b":authority", b"a")];
        headers.extend(sent);
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: peer.as_bytes() };
        let request = RequestView { headers: &headers, connection, now_ms: 0, random: 0 };
        let Decision::Forward(forward) = decide(&table, &request, &mut State::new([0; 32])) else {
            panic!("is not forwarded")
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lines = apply_edits(&headers, &forward.edits);
        let lines =
            lines.iter().filter(|(name, _)| LIMIT_HEADERS.iter().any(|own| own.as_bytes() == &**name));
        lines.map(|(_, value)| text(value)).collect()
    }

    #[test]
    fn values_are_text_and_never_empty() {
        let long = "x".repeat(2000);
        let cut = "x".repeat(1024);
        let cases: [(&[u8], &str); 5] = [
            (b"k", "k"),
            (b"", "-"),
            (b"a\xffb\tc d", "a%FFb%09c d"),
            ("ä".as_bytes(), "%C3%A4"),
            (long.as_bytes(), &cut),
        ];
        for (key, expected) in cases {
            let told = told("192.0.2.1", &[(b"x-key", key)]);
            assert_eq!(told, ["AAA=", "n/i", "192.0.2.1", expected], "{key:?}");
        }
    }

    #[test]
    fn a_client_has_no_say_in_them() {
        let sent: [HeaderLine<'_>; 3] = [
            (b"x-ingress-wasm-limit", b"own"),
            (b"x-ingress-wasm-limit-2", b"own"),
            (b"x-ingress-wasm-limit-2", b"other"),
        ];
        let mut told = [told("192.0.2.1", &sent), told("10.1.2.3", &sent)];
        told[0].sort();
        assert_eq!(told, [vec!["-", "192.0.2.1", "AAA=", "n/i"], vec![]]);
    }
}
