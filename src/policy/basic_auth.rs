//! Basic authentication (RFC 7617), as nginx's `auth_basic` does it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Facts;
use super::reply::page;
use super::satisfy::Opinion;
use crate::password::{HashBudget, Postponed, VerifiedCache};
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

/// What basic authentication remembers from one request to the next.
#[derive(Debug)]
pub struct Passwords {
    /// Right ones.
    verified: VerifiedCache,
    /// Time for hashes.
    budget: HashBudget,
}

impl Passwords {
    /// Nothing yet. The key must be random and secret.
    pub fn new(key: [u8; 32]) -> Self {
        Passwords { verified: VerifiedCache::new(key), budget: HashBudget::default() }
    }
}

/// Passed by a request that names a user of the list and that user's password; others are asked for them (401).
/// Where slow hashes have taken too much time already, a client with wrong passwords gets 429, and others 503.
pub fn check<'a>(auth: &'a CompiledBasicAuth, facts: &Facts<'_>, passwords: &mut Passwords) -> Opinion<'a> {
    match is_allowed(auth, facts, passwords) {
        Ok(true) => Opinion::Passed,
        Ok(false) => {
            let mut reply = page(401, "basic_auth");
            reply.headers.push(("www-authenticate".into(), Cow::Borrowed(auth.challenge.as_bytes())));
            Opinion::Challenged(reply)
        }
        Err(postponed) => {
            let (status, details, seconds) = match postponed {
                Postponed::Client => (429, "basic_auth_wrong_passwords", &b"10"[..]),
                Postponed::Worker => (503, "basic_auth_busy", &b"1"[..]),
            };
            let mut reply = page(status, details);
            reply.headers.push(("retry-after".into(), Cow::Borrowed(seconds)));
            Opinion::Failed(reply)
        }
    }
}

fn is_allowed(
    auth: &CompiledBasicAuth,
    facts: &Facts<'_>,
    Passwords { verified, budget }: &mut Passwords,
) -> Result<bool, Postponed> {
    let (request, client) = (facts.request, &*facts.client.address);
    let Some(credentials) = request.header("authorization").and_then(decode) else { return Ok(false) };
    let mut halves = credentials.splitn(2, |byte| *byte == b':');
    let (Some(user), Some(password)) = (halves.next(), halves.next()) else { return Ok(false) };
    let Some(hash) = auth.users.get(user) else { return Ok(false) };
    if !hash.is_slow() {
        return Ok(hash.verify(password));
    }
    // A slow hash holds up every request of the worker, so it is computed once in a while only.
    if verified.contains(auth.list, user, password, request.now_ms) {
        return Ok(true);
    }
    budget.ask(client, request.now_ms)?;
    let allowed = hash.verify(password);
    budget.spend(client, hash.work_us(), allowed, request.now_ms);
    if allowed {
        verified.remember(auth.list, user, password, request.now_ms);
    }
    Ok(allowed)
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
