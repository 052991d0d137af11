//! Basic authentication (RFC 7617), as nginx's `auth_basic` does it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::reply::page;
use super::satisfy::Opinion;
use crate::decision::RequestView;
use crate::password::VerifiedCache;
use crate::router::CompiledBasicAuth;

/// The challenge for a realm, the value of WWW-Authenticate. Quotes, backslashes and control characters
/// cannot leave the quoted string.
pub fn challenge(realm: &str) -> Box<str> {
    let mut challenge = String::from("Basic realm=\"");
    for character in realm.chars().filter(|character| !character.is_control()) {
        if matches!(character, '"' | '\\') {
            challenge.push('\\');
        }
        challenge.push(character);
    }
    challenge.push('"');
    challenge.into()
}

/// Passed by a request that names a user of the list and that user's password; others are asked for them (401).
pub fn check<'a>(
    auth: &'a CompiledBasicAuth,
    request: &RequestView<'_>,
    verified: &mut VerifiedCache,
) -> Opinion<'a> {
    if is_allowed(auth, request, verified) {
        return Opinion::Passed;
    }
    let mut reply = page(401, "basic_auth");
    reply.headers.push(("www-authenticate".into(), Cow::Borrowed(auth.challenge.as_bytes())));
    Opinion::Challenged(reply)
}

fn is_allowed(auth: &CompiledBasicAuth, request: &RequestView<'_>, verified: &mut VerifiedCache) -> bool {
    let Some(credentials) = request.header("authorization").and_then(decode) else { return false };
    let mut halves = credentials.splitn(2, |byte| *byte == b':');
    let (Some(user), Some(password)) = (halves.next(), halves.next()) else { return false };
    let Some(hash) = auth.users.get(user) else { return false };
    if !hash.is_slow() {
        return hash.verify(password);
    }
    // A slow hash holds up every request of the worker, so it is computed once in a while only.
    if verified.contains(auth.list, user, password, request.now_ms) {
        return true;
    }
    let allowed = hash.verify(password);
    if allowed {
        verified.remember(auth.list, user, password, request.now_ms);
    }
    allowed
}

/// User and password of an Authorization header.
pub(super) fn decode(header: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = header.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    STANDARD.decode(rest.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn credentials_are_taken_from_the_header() {
        let cases = [
            ("Basic Zm9vOmJhcg==", Some("foo:bar")),
            ("basic Zm9vOmJhcg==", Some("foo:bar")),
            ("BASIC   Zm9vOmJhcg== ", Some("foo:bar")),
            ("Basic Zm9vOmJhcg", None),
            ("Bearer Zm9vOmJhcg==", None),
            ("Basic", None),
            ("Basic ", Some("")),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(decode(header.as_bytes()).as_deref(), expected.map(str::as_bytes), "{header}");
        }
    }

    #[test]
    fn the_realm_stays_within_its_quotes() {
        let cases = [
            ("Members only", "Basic realm=\"Members only\""),
            ("", "Basic realm=\"\""),
            ("a\"b\\c\r\nd", "Basic realm=\"a\\\"b\\\\cd\""),
        ];
        for (realm, expected) in cases {
            assert_eq!(&*challenge(realm), expected, "{realm}");
        }
    }
}
