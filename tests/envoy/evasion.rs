//! Ways to spell a request for something that is protected. None may reach the backend behind the protection.
//!
//! The spellings are made from the tables in [`super::spellings`] and sent once for each policy. What they come to
//! otherwise (refused, or served by the open rule beside) is nobody's promise, but for one thing: the open rule never
//! gets a path that means the protected one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ingress_wasm_echo::wire;
use ingress_wasm_tests::site::{Backend, Site};

use crate::spellings::{self, Spelling};
use crate::support::{ingress, serve_with};

/// What keeps the client of these tests, 127.0.0.1, out of `/admin` of a host.
#[derive(Clone, Copy)]
struct Guard {
    name: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    path: &'static str,
    path_type: &'static str,
    /// What each request has besides, to run into the guard.
    body: usize,
    /// The first request uses up what is allowed.
    first_passes: bool,
}

impl Guard {
    /// The service behind it.
    fn secret(&self) -> String {
        format!("secret-{}", self.name)
    }

    /// The service of the rule beside it.
    fn open(&self) -> String {
        format!("open-{}", self.name)
    }
}

const GUARD: Guard =
    Guard { name: "", annotations: &[], path: "/admin", path_type: "Prefix", body: 0, first_passes: false };

const GUARDS: &[Guard] = &[
    Guard {
        name: "limit",
        annotations: &[("limit-rpm", "1"), ("limit-burst-multiplier", "0")],
        first_passes: true,
        ..GUARD
    },
    Guard { name: "basic", annotations: &[("auth-type", "basic"), ("auth-secret", "users")], ..GUARD },
    Guard {
        name: "allow",
        annotations: &[("whitelist-source-range", "203.0.113.0/24, 2001:db8::/32")],
        ..GUARD
    },
    Guard { name: "deny", annotations: &[("denylist-source-range", "127.0.0.0/8, ::1")], ..GUARD },
    Guard {
        name: "any",
        annotations: &[
            ("satisfy", "any"),
            ("whitelist-source-range", "203.0.113.0/24"),
            ("auth-type", "basic"),
            ("auth-secret", "users"),
        ],
        ..GUARD
    },
    Guard { name: "denied", annotations: &[("whitelist-source-range", "not an address")], ..GUARD },
    Guard {
        name: "expression",
        annotations: &[("use-regex", "true"), ("whitelist-source-range", "203.0.113.0/24")],
        path: "/admin(/.*)?",
        path_type: "ImplementationSpecific",
        ..GUARD
    },
    Guard {
        name: "service",
        annotations: &[("auth-url", "http://gate.default.svc.cluster.local/status/401")],
        ..GUARD
    },
    Guard { name: "token", annotations: &[("ingress-wasm.io/jwt-jwks-secret", "signers")], ..GUARD },
    Guard {
        name: "key",
        annotations: &[
            ("ingress-wasm.io/api-key-secret", "api-keys"),
            ("ingress-wasm.io/api-key-parameter", "key"),
            ("ingress-wasm.io/api-key-client-header", "X-Client"),
        ],
        ..GUARD
    },
    Guard { name: "body", annotations: &[("proxy-body-size", "1k")], body: 1025, ..GUARD },
];

/// Alice, with a password, who signs tokens, and a client with a key: none that a spelling knows.
const USERS: &str = r#"---
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData:
  auth: 'alice:$apr1$Qw3rTy12$5NkdakcO.BIjYYafkiE/c/'
---
apiVersion: v1
kind: Secret
metadata: {name: signers}
stringData:
  jwks.json: '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
---
apiVersion: v1
kind: Secret
metadata: {name: api-keys}
stringData: {ann: 6f1d0cbb7a3e4b5f9d2a8c7e1b0f3a5d}
"#;

/// Where the host `end.example` redirects to.
const END: &str = "http://the-end.example/";

fn manifests(guards: &[Guard]) -> String {
    let rule = |name: &str, annotations: &[(&str, &str)], path: &str, kind: &str, service: &str| {
        ingress(name, service, annotations)
            .replace("path: /\n", &format!("path: {path}\n"))
            .replace("pathType: Prefix", &format!("pathType: {kind}"))
    };
    let mut text = USERS.to_owned();
    text += &rule("end", &[("permanent-redirect", END)], "/", "Prefix", &guards[0].open());
    for guard in guards {
        let Guard { name, annotations, path, path_type, .. } = guard;
        text += &rule(name, annotations, path, path_type, &guard.secret());
        text += &rule(name, &[], "/", "Prefix", &guard.open()).replacen(
            &format!("  name: {name}\n"),
            &format!("  name: {name}-open\n"),
            1,
        );
    }
    text
}

pub fn no_spelling_evades_a_policy() -> Result<(), String> {
    let served = serve_with(&backends(GUARDS), &manifests(GUARDS), &[])?;
    // Most of the time is spent waiting for Envoy to give up a connection.
    let evaded: Vec<String> = std::thread::scope(|scope| {
        let (address, site) = (served.product.http, &served.site);
        let threads: Vec<_> =
            GUARDS.iter().map(|guard| scope.spawn(move || evading(address, site, guard))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("does not panic")).collect()
    });
    if evaded.is_empty() { Ok(()) } else { Err(format!("{} evade:\n{}", evaded.len(), evaded.join("\n"))) }
}

/// A backend behind each guard, and one beside it.
fn backends(guards: &[Guard]) -> Vec<Backend> {
    let names = guards.iter().flat_map(|guard| [guard.secret(), guard.open()]);
    names.map(|name| Backend::new(&name, 1)).chain([Backend::new("gate", 1)]).collect()
}

/// The spellings that reach the backend behind a guard, or the open one with a path that means the same.
fn evading(address: SocketAddr, site: &Site, guard: &Guard) -> Vec<String> {
    let host = format!("{}.example", guard.name);
    let spellings = spellings::all(&host, guard.body);
    assert!(spellings.len() >= 200, "{} ways", spellings.len());
    let received = |service: &str| site.servers(service)[0].received();
    if guard.first_passes {
        send(address, &spellings[0]);
        assert_eq!(received(&guard.secret()).len(), 1, "{host}: the first request passes");
    }
    let mut evaded = Vec::new();
    for spelling in &spellings {
        let before = [received(&guard.secret()).len(), received(&guard.open()).len()];
        send(address, spelling);
        // A request without its body is within the limit of bodies.
        let reached = received(&guard.secret())[before[0]..]
            .iter()
            .any(|received| received.body_bytes >= guard.body as u64);
        let meant: Vec<String> = received(&guard.open())[before[1]..]
            .iter()
            .map(|received| wire::text(&received.target))
            .filter(|target| spellings::means_admin(target))
            .collect();
        if reached || !meant.is_empty() {
            evaded.push(format!("{}: {} {meant:?}", guard.name, spelling.name));
        }
    }
    evaded
}

/// Sends a spelling, and behind it a request whose answer is known; waits for that answer, or for the one with which the
/// server gives up the connection.
fn send(address: SocketAddr, spelling: &Spelling) {
    const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: end.example\r\n\r\n";
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    // What has become a tunnel gives no answer of its own.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = stream.write_all(&spelling.bytes);
    if !spelling.is_http2 {
        let _ = stream.write_all(LAST);
    }
    let mut received = Vec::new();
    let mut part = [0; 16384];
    while let Ok(length @ 1..) = stream.read(&mut part) {
        received.extend_from_slice(&part[..length]);
        let has = |text: &[u8]| received.windows(text.len()).any(|window| window == text);
        let ended = match spelling.is_http2 {
            true => spellings::http2_ended(&received),
            false => has(END.as_bytes()) || has(b"connection: close\r\n"),
        };
        if ended {
            break;
        }
    }
}

/// The same spellings where nothing is protected: most of them arrive, or the other test would show little.
pub fn spellings_are_requests() -> Result<(), String> {
    let free = Guard { name: "free", ..GUARD };
    let served = serve_with(&backends(&[free]), &manifests(&[free]), &[])?;
    let spellings = spellings::all("free.example", 0);
    let mut lost = Vec::new();
    for spelling in &spellings {
        served.site.forget();
        send(served.product.http, spelling);
        if served.reached(&free.secret()) == 0 {
            lost.push(spelling.name.as_str());
        }
    }
    let arrived = spellings.len() - lost.len();
    assert!(arrived >= 200, "only {arrived} reach an open backend, but not\n{}", lost.join("\n"));
    Ok(())
}
