//! API keys: a client is known by a secret that it sends in a header or in the query.

use std::borrow::Cow;
use std::rc::Rc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Facts;
use super::reply::page;
use super::satisfy::Opinion;
use crate::config::ApiKeyAuth;
use crate::decision::Edit;

/// Digests of keys, each with its client.
pub type ApiKeys = Rc<[([u8; 32], Box<[u8]>)]>;

/// See [`ApiKeyAuth`].
#[derive(Debug)]
pub struct ApiKeyCheck {
    /// In lower case.
    header: Option<Box<str>>,
    parameter: Option<Box<str>>,
    client_header: Option<Box<str>>,
    forward: bool,
    keys: ApiKeys,
}

impl ApiKeyCheck {
    /// Compiles the settings.
    pub fn compile(auth: ApiKeyAuth, keys: ApiKeys) -> Self {
        let ApiKeyAuth { keys: _, header, parameter, client_header, forward } = auth;
        let lower = |name: String| name.to_ascii_lowercase().into();
        ApiKeyCheck {
            header: header.map(lower),
            parameter: parameter.map(Into::into),
            client_header: client_header.map(lower),
            forward,
            keys,
        }
    }

    /// Reads a digest of 64 hexadecimal digits.
    pub fn digest(text: &str) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        let mut digits = text.bytes().map(|digit| char::from(digit).to_digit(16));
        for byte in &mut digest {
            let (high, low) = (digits.next()??, digits.next()??);
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        digits.next().is_none().then_some(digest)
    }

    /// The client whose key the request has.
    pub fn client(&self, facts: &Facts<'_>) -> Option<&[u8]> {
        let header = self.header.as_deref().and_then(|name| {
            let value = facts.request.header(name)?;
            // Behind the scheme, as `Bearer`.
            let blank = value.iter().position(|byte| *byte == b' ').filter(|_| name == "authorization");
            Some(blank.map_or(value, |blank| value.get(blank..).unwrap_or_default()).trim_ascii())
        });
        let parameter = || {
            let name = self.parameter.as_deref()?.as_bytes();
            let pair = pairs(facts.query?).find(|pair| is_named(pair, name))?;
            Some(decoded(pair.get(name.len().saturating_add(1)..).unwrap_or_default()))
        };
        let key = header.map(Cow::Borrowed).or_else(|| parameter().map(Cow::Owned))?;
        let digest: [u8; 32] = Sha256::digest(&key).into();
        let mut found = None;
        // All of them are looked at, and each in whole: time tells nothing of the keys.
        for (other, client) in &*self.keys {
            if bool::from(other.ct_eq(&digest)) {
                found = Some(&**client);
            }
        }
        found
    }

    /// What is to be said of a request of this client.
    pub fn opinion<'a>(&self, client: Option<&[u8]>) -> Opinion<'a> {
        match client {
            Some(_) => Opinion::Passed,
            None => Opinion::Challenged(page(401, "api_key")),
        }
    }

    /// Tells the backend who the client is, and nothing that the client says of that itself.
    pub fn tell(&self, client: Option<&[u8]>) -> Option<Edit<'static>> {
        let name = Cow::Owned(self.client_header.as_deref()?.to_owned());
        Some(match client {
            Some(client) => Edit::Set(name, Cow::Owned(client.to_vec())),
            None => Edit::Remove(name),
        })
    }

    /// Takes the key from the headers that the backend gets.
    pub fn hide_header<'a>(&'a self, edits: &mut Vec<Edit<'a>>) {
        let header = self.header.as_deref().filter(|_| !self.forward);
        edits.extend(header.map(|name| Edit::Remove(Cow::Borrowed(name))));
    }

    /// Takes the key from the query that the backend gets, and from what it is told of the original one.
    pub fn hide_parameter<'a>(&self, facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
        let Some(name) = self.parameter.as_deref().filter(|_| !self.forward) else { return };
        let mut has_path = false;
        for edit in edits.iter_mut() {
            if let Edit::Set(header, target) = edit
                && (header == ":path" || header == "x-original-uri")
            {
                has_path |= header == ":path";
                if let Some(shorter) = without(target, name.as_bytes()) {
                    *target = Cow::Owned(shorter);
                }
            }
        }
        if !has_path && let Some(shorter) = without(facts.request.target(), name.as_bytes()) {
            edits.push(Edit::Set(Cow::Borrowed(":path"), Cow::Owned(shorter)));
        }
    }
}

/// A target for a copy of the request, without the key where the backend does not get it.
pub fn without_key<'a>(check: Option<&ApiKeyCheck>, target: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
    let name = check.filter(|check| !check.forward).and_then(|check| check.parameter.as_deref());
    name.and_then(|name| without(&target, name.as_bytes())).map_or(target, Cow::Owned)
}

/// A target without the parameters of a name; none where it has none.
fn without(target: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mark = target.iter().position(|byte| *byte == b'?')?;
    let mut shorter = target.get(..mark)?.to_vec();
    let mut sign = b'?';
    for pair in pairs(target.get(mark.saturating_add(1)..)?).filter(|pair| !is_named(pair, name)) {
        shorter.push(sign);
        shorter.extend_from_slice(pair);
        sign = b'&';
    }
    (shorter.len() < target.len()).then_some(shorter)
}

fn pairs(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.split(|byte| *byte == b'&')
}

fn is_named(pair: &[u8], name: &[u8]) -> bool {
    pair.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&b'='))
}

/// Without percent signs.
fn decoded(value: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        rest = after;
        let found = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high << 4 | low).ok(),
            _ => None,
        };
        if found.is_some() {
            rest = after.get(2..).unwrap_or_default();
        }
        decoded.push(found.unwrap_or(byte));
    }
    decoded
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use crate::config::from_slice;
    use crate::decision::{Connection, Decision, Edit, HeaderLine, RequestView, Scheme};
    use crate::policy::{State, decide};
    use crate::router::compile;

    /// What the backend gets, or the status of the answer.
    fn decided(policies: &str, headers: &[HeaderLine<'_>]) -> String {
        // The digest of `k`.
        let digest = "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a";
        let text = format!(
            r#"{{"version":1,"apiKeys":{{"n/k":{{"users":{{"ann":"{digest}","bob":"{}"}}}}}},"policies":[{policies}],
            "hosts":[{{"name":"*","rules":[{{"ingress":"n/i","path":"/","pathType":"Prefix","policies":0,
            "action":{{"forward":{{"cluster":"c"}}}}}}]}}]}}"#,
            "0".repeat(64)
        );
        let table = compile(from_slice(text.as_bytes()).expect("reads")).expect("compiles");
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"10.0.0.1" };
        let request = RequestView { headers, connection, now_ms: 0, random: 0 };
        match decide(&table, &request, &mut State::new([0; 32])) {
            Decision::Reply(reply) => format!("{} {}", reply.status, reply.details),
            Decision::Forward(forward) => {
                let (mut path, mut client, mut hidden) = (String::new(), String::new(), Vec::new());
                for edit in &forward.edits {
                    match edit {
                        Edit::Set(name, value) if name == ":path" => {
                            path = String::from_utf8_lossy(value).into()
                        }
                        Edit::Set(name, value) if name == "x-original-uri" => {
                            hidden.push(String::from_utf8_lossy(value).into());
                        }
                        Edit::Set(name, value) if name == "x-client" => {
                            client = String::from_utf8_lossy(value).into();
                        }
                        Edit::Remove(name) if ["x-key", "authorization", "x-client"].contains(&&**name) => {
                            hidden.push(name.to_string());
                        }
                        _ => {}
                    }
                }
                hidden.extend(forward.mirror.map(|target| String::from_utf8_lossy(&target).into()));
                format!("{client} {path} -{}", hidden.join(","))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn keys_are_asked_for_and_hidden() {
        let all = r#"{"apiKey":{"keys":"n/k","header":"X-Key","parameter":"key","clientHeader":"X-Client"}}"#;
        let kept = r#"{"apiKey":{"keys":"n/k","header":"X-Key","parameter":"key","forward":true}}"#;
        let bearer = r#"{"apiKey":{"keys":"n/k","header":"Authorization"}}"#;
        let original = r#"{"apiKey":{"keys":"n/k","parameter":"key"},"originalUriHeader":true,
            "mirror":{"cluster":"m","target":"$request_uri"}}"#;
        let any = r#"{"satisfyAny":true,"addresses":{"allow":["10.0.0.0/8"]},
            "apiKey":{"keys":"n/k","header":"X-Key","clientHeader":"X-Client"}}"#;
        type Header = (&'static str, &'static str);
        let none: Option<Header> = None;
        let cases = [
            (all, "/a", none, "401 api_key"),
            (all, "/a", Some(("x-key", "k")), "ann  -x-key"),
            (all, "/a", Some(("x-key", " k ")), "ann  -x-key"),
            (all, "/a", Some(("x-key", "K")), "401 api_key"),
            (all, "/a", Some(("x-key", "")), "401 api_key"),
            (all, "/a", Some(("x-key", "Bearer k")), "401 api_key"),
            (all, "/a?key=k", none, "ann /a -x-key"),
            (all, "/a?x=1&key=k&y=2", none, "ann /a?x=1&y=2 -x-key"),
            (all, "/a?key=k&key=l", none, "ann /a -x-key"),
            (all, "/a?key=%6b", none, "ann /a -x-key"),
            (all, "/a?key=%6", none, "401 api_key"),
            (all, "/a?KEY=k", none, "401 api_key"),
            (all, "/a?key=l&key=k", none, "401 api_key"),
            // The header counts where both are there.
            (all, "/a?key=k", Some(("x-key", "l")), "401 api_key"),
            (all, "/a", Some(("x-client", "ann")), "401 api_key"),
            (kept, "/a?key=k", none, "  -"),
            (bearer, "/a", Some(("authorization", "Bearer k")), "  -authorization"),
            (bearer, "/a", Some(("authorization", "k")), "  -authorization"),
            (bearer, "/a", Some(("authorization", "Bearer")), "401 api_key"),
            (original, "/a?key=k&x=1", none, " /a?x=1 -/a?x=1,/a?x=1"),
            // Let in by the address: nobody is named.
            (any, "/a", Some(("x-client", "ann")), "  -x-key,x-client"),
        ];
        for (policies, path, header, expected) in cases {
            let mut headers: Vec<HeaderLine<'_>> = vec![(b":authority", b"a"), (b":path", path.as_bytes())];
            headers.extend(header.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
            assert_eq!(decided(policies, &headers), expected, "{path} {header:?}");
        }
    }
}
