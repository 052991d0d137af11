//! The order of the policies, and what a backend gets: whole decisions, since the order is their point.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use serde_json::{Value, json};

use super::*;
use crate::decision::{CLUSTER_HEADER, Connection, HeaderLine, PROFILE_HEADER, Scheme, apply_edits};
use crate::router::compile;

/// ann:secret, in an Authorization header.
const ANN: &str = "Basic YW5uOnNlY3JldA==";

/// A configuration with one host `h` of one rule.
fn config(path: &str, matching: &str, policies: &Value, action: &Value, global: &Value) -> Value {
    json!({
        "version": 1,
        "global": global,
        "credentials": {"n/u": {"users": {"ann": "{PLAIN}secret"}}},
        "policies": [policies],
        "hosts": [{"name": "h", "pathMatching": matching, "rules": [
            {"ingress": "n/i", "path": path, "policies": 0, "action": action}
        ]}],
    })
}

fn forward() -> Value {
    json!({"forward": {"cluster": "n/s:80", "service": "n/s:80"}})
}

fn table(config: &Value) -> RoutingTable {
    let text = config.to_string();
    let config = crate::config::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    compile(config).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What becomes of a request: the word for the deciding step, and the header lines to the backend (or of the
/// answer) as `name: value`.
fn decided(
    table: &RoutingTable,
    scheme: Scheme,
    target: &str,
    lines: &[(&str, &str)],
) -> (&'static str, Vec<String>) {
    let mut headers: Vec<HeaderLine<'_>> =
        vec![(b":method", b"POST"), (b":path", target.as_bytes()), (b":authority", b"H:8080")];
    headers.extend(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let connection = Connection { scheme, port: 8443, peer: b"10.0.0.9" };
    let request = RequestView { headers: &headers, connection, now_ms: 0, random: 0xabc };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match decide(table, &request, &mut State::new([0; 32])) {
        Decision::Forward(forward) => {
            let lines = apply_edits(&headers, &forward.edits);
            let lines = lines.iter().map(|(name, value)| format!("{}: {}", text(name), text(value)));
            ("forward", lines.collect())
        }
        Decision::Reply(reply) => {
            let lines = reply.headers.iter().map(|(name, value)| format!("{name}: {}", text(value)));
            (reply.details, lines.collect())
        }
        Decision::Count(count) => ("count", vec![format!("{:?}", count.connections)]),
        Decision::Ask(callout) => {
            let lines = callout.headers.iter().map(|(name, value)| format!("{name}: {}", text(value)));
            ("ask", lines.collect())
        }
    }
}

#[test]
fn policies_are_evaluated_in_their_order() {
    let elsewhere = json!({"path": {"target": "https://o.example/"}});
    let auth = json!({"credentials": "n/u"});
    let all = json!({"denied": "x", "maxBodyBytes": 5, "basicAuth": auth, "rewrite": elsewhere});
    let not_denied = json!({"maxBodyBytes": 5, "basicAuth": auth, "rewrite": elsewhere});
    let protected = json!({"maxBodyBytes": 5, "basicAuth": auth});
    let missing = json!({"respond": {"status": 503}});
    let nothing = json!({"respond": {"status": 404}});
    let length = |length| ("content-length", length);
    let ann = ("authorization", ANN);
    type Lines<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, &Value, Value, &str, Lines<'_>, &str); 17] = [
        ("/p/", &all, forward(), "/p", &[length("6")], "missing_slash"),
        ("/p/", &all, forward(), "/p/", &[length("6")], "body_too_large"),
        ("/", &all, missing.clone(), "/", &[length("6"), ann], "body_too_large"),
        ("/", &all, missing.clone(), "/", &[length("5"), ann], "denied"),
        ("/", &all, missing.clone(), "/", &[ann], "denied"),
        ("/", &not_denied, missing.clone(), "/", &[length("6")], "body_too_large"),
        ("/", &not_denied, missing.clone(), "/", &[], "rewrite"),
        ("/", &protected, missing.clone(), "/", &[], "no_backend"),
        ("/", &protected, nothing.clone(), "/", &[length("6")], "body_too_large"),
        ("/", &protected, nothing.clone(), "/", &[], "basic_auth"),
        ("/", &protected, nothing, "/", &[ann], "respond"),
        ("/", &protected, forward(), "/", &[], "basic_auth"),
        ("/", &protected, forward(), "/", &[ann], "forward"),
        ("/", &protected, forward(), "/", &[ann, length("18446744073709551615")], "body_too_large"),
        ("/p", &all, forward(), "/x", &[length("6")], "no_rule"),
        ("/", &all, forward(), "/%zz", &[length("6")], "invalid_path"),
        ("/", &all, forward(), "", &[], "invalid_path"),
    ];
    for (path, policies, action, target, lines, expected) in cases {
        let table = table(&config(path, "elements", policies, &action, &json!({})));
        let found = decided(&table, Scheme::Http, target, lines).0;
        assert_eq!(found, expected, "{path} {policies} {action} {target} {lines:?}");
    }
}

#[test]
fn an_app_root_comes_before_every_rule() {
    let denied = json!({"denied": "x"});
    let mut config = config("/", "elements", &denied, &forward(), &json!({}));
    config["hosts"][0]["appRoot"] = json!("/start");
    let table = table(&config);
    for (target, expected) in [
        ("/", "app_root"),
        ("/?q=1", "app_root"),
        ("//", "app_root"),
        ("/a/..", "app_root"),
        ("/a", "denied"),
        ("/start", "denied"),
    ] {
        let (found, lines) = decided(&table, Scheme::Https, target, &[]);
        assert_eq!(found, expected, "{target}");
        let location = lines.contains(&"location: https://H:8080/start".to_owned());
        assert_eq!(location, expected == "app_root", "{target}: {lines:?}");
    }
}

#[test]
fn limits_of_a_body_go_with_the_request() {
    for most in [None, Some(0_u64), Some(7)] {
        let policies = most.map_or(json!({}), |most| json!({"maxBodyBytes": most}));
        let table = table(&config("/", "elements", &policies, &forward(), &json!({})));
        let headers: [HeaderLine<'_>; 2] = [(b":path", b"/"), (b":authority", b"h")];
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"::1" };
        let request = RequestView { headers: &headers, connection, now_ms: 0, random: 0 };
        match decide(&table, &request, &mut State::new([0; 32])) {
            Decision::Forward(forward) => assert_eq!(forward.max_body_bytes, most),
            other => panic!("{most:?}: {other:?}"),
        }
    }
}

/// Each case: global settings, policies, the scheme, what the client sends, and lines that the backend gets (or,
/// with `!` before the name, does not).
#[test]
fn what_the_backend_gets() {
    let none = json!({});
    let auth = json!({"basicAuth": {"credentials": "n/u"}});
    let trusting = json!({"forwarded": {"trustHeaders": true, "trustedProxies": ["10.0.0.0/8"]}});
    type Lines<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&Value, Value, Scheme, Lines<'_>, &[&str])] = &[
        // The standard headers.
        (
            &none,
            json!({}),
            Scheme::Http,
            &[],
            &[
                ":path: /p/x?q",
                ":authority: H:8080",
                "x-ingress-wasm-cluster: n/s:80",
                "x-request-id: 00000000000000000000000000000abc",
                "x-real-ip: 10.0.0.9",
                "x-forwarded-for: 10.0.0.9",
                "x-forwarded-host: H:8080",
                "x-forwarded-port: 8443",
                "x-forwarded-proto: http",
                "x-forwarded-scheme: http",
                "x-scheme: http",
                "!x-ingress-wasm-profile",
                "!x-original-uri",
                "!x-forwarded-prefix",
                "!x-original-forwarded-for",
                "!x-original-forwarded-host",
            ],
        ),
        // TLS is always port 443, as ingress-nginx says.
        (
            &none,
            json!({}),
            Scheme::Https,
            &[],
            &["x-forwarded-port: 443", "x-forwarded-proto: https", "x-scheme: https"],
        ),
        // A client is not believed.
        (
            &none,
            json!({}),
            Scheme::Http,
            &[
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-for", "7.7.7.7"),
                ("x-forwarded-host", "evil"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "6.6.6.6"),
                ("x-scheme", "https"),
                ("x-request-id", "mine"),
            ],
            &[
                "x-forwarded-for: 10.0.0.9",
                "x-real-ip: 10.0.0.9",
                "x-original-forwarded-for: 6.6.6.6, 7.7.7.7",
                "x-forwarded-host: H:8080",
                "x-original-forwarded-host: evil",
                "x-forwarded-proto: http",
                "x-scheme: http",
                "x-request-id: mine",
            ],
        ),
        // Unless it is trusted.
        (
            &trusting,
            json!({}),
            Scheme::Http,
            &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-host", "other, x"), ("x-forwarded-port", "444")],
            &["x-real-ip: 6.6.6.6", "x-forwarded-host: other", ":authority: other", "x-forwarded-port: 444"],
        ),
        // An empty host is none: the backend must get one.
        (
            &trusting,
            json!({}),
            Scheme::Http,
            &[("x-forwarded-host", " , x")],
            &[":authority: H:8080", "x-forwarded-host: H:8080"],
        ),
        // The password was for the gateway.
        (&none, auth.clone(), Scheme::Http, &[("authorization", ANN)], &["!authorization"]),
        (
            &none,
            json!({}),
            Scheme::Http,
            &[("authorization", ANN)],
            &["authorization: Basic YW5uOnNlY3JldA=="],
        ),
        // What steers Envoy, and names that backends confuse.
        (
            &none,
            json!({}),
            Scheme::Http,
            &[
                ("x-envoy-retry-on", "5xx"),
                ("x-envoy-upstream-rq-timeout-ms", "1"),
                ("x_forwarded_for", "6.6.6.6"),
                ("proxy", "evil"),
                ("x-envoyish", "stays"),
            ],
            &[
                "!x-envoy-retry-on",
                "!x-envoy-upstream-rq-timeout-ms",
                "!x_forwarded_for",
                "!proxy",
                "x-envoyish: stays",
            ],
        ),
        (
            &json!({"underscoresInHeaders": true}),
            json!({}),
            Scheme::Http,
            &[("a_b", "1"), ("x-envoy-a_b", "1")],
            &["a_b: 1", "!x-envoy-a_b"],
        ),
        // Private headers are the filter's own.
        (
            &none,
            json!({}),
            Scheme::Http,
            &[(CLUSTER_HEADER, "evil"), (CLUSTER_HEADER, "evil"), (PROFILE_HEADER, "evil")],
            &["x-ingress-wasm-cluster: n/s:80", "!x-ingress-wasm-profile"],
        ),
        (
            &none,
            json!({"routeProfile": "slow"}),
            Scheme::Http,
            &[(PROFILE_HEADER, "evil")],
            &["x-ingress-wasm-profile: slow"],
        ),
        // Edits: those of the rule after those of all, and both after the standard ones.
        (
            &json!({"requestHeaders": [
                {"set": {"name": "X-A", "value": "all"}},
                {"set": {"name": "X-B", "value": "all"}},
                {"set": {"name": "X-Scheme", "value": "none"}},
            ]}),
            json!({"requestHeaders": [
                {"set": {"name": "X-B", "value": "$uri of $http_x_c"}},
                {"add": {"name": "X-Multi", "value": "2"}},
                {"remove": {"name": "X-C"}},
                {"set": {"name": "Host", "value": "in.example"}},
            ], "originalUriHeader": true}),
            Scheme::Http,
            &[("x-c", "c"), ("x-multi", "1"), ("x-original-uri", "/forged")],
            &[
                "x-a: all",
                "x-b: /p/x of c",
                "x-scheme: none",
                "x-multi: 1",
                "x-multi: 2",
                "!x-c",
                ":authority: in.example",
                "x-original-uri: /p/x?q",
            ],
        ),
        // A value that comes to nothing takes the header away, as in nginx.
        (
            &none,
            json!({"requestHeaders": [{"set": {"name": "X-A", "value": "$arg_none"}}]}),
            Scheme::Http,
            &[("x-a", "1")],
            &["!x-a"],
        ),
    ];
    for (global, policies, scheme, sent, expected) in cases {
        let table = table(&config("/p", "elements", policies, &forward(), global));
        let (found, lines) = decided(&table, *scheme, "/p/x?q", sent);
        assert_eq!(found, "forward", "{global} {policies} {sent:?}");
        for line in *expected {
            let name = line.strip_prefix('!').or(line.split_once(": ").map(|(name, _)| name)).expect(line);
            let named: Vec<&String> =
                lines.iter().filter(|found| found.starts_with(&format!("{name}: "))).collect();
            match line.strip_prefix('!') {
                Some(_) => assert!(named.is_empty(), "{global} {policies} {sent:?}: {named:?}"),
                None => {
                    assert!(named.iter().any(|found| found == line), "{global} {policies} {line}: {named:?}");
                    let wanted =
                        expected.iter().filter(|line| line.starts_with(&format!("{name}: "))).count();
                    assert_eq!(named.len(), wanted, "{global} {policies} {name}: {named:?}");
                }
            }
        }
    }
}

#[test]
fn a_decoded_line_break_stays_in_its_line() {
    let cases = [
        ("$uri", "/p/a%0D%0AEvil: 1"),
        ("$1", "a%0D%0AEvil: 1"),
        ("[$1]", "[a%0D%0AEvil: 1]"),
        ("$request_uri", "/p/a%0d%0aEvil:%201"),
        ("${uri}\t", "/p/a%0D%0AEvil: 1\t"),
    ];
    for (value, expected) in cases {
        let edit = json!([{"set": {"name": "X-A", "value": value}}]);
        let policies = json!({
            "requestHeaders": edit, "responseHeaders": edit,
            "rewrite": {"path": {"target": "/n/$1", "forwardedPrefix": "/$1"}},
        });
        let table = table(&config("/p/([^/]*)", "expressions", &policies, &forward(), &json!({})));
        let (found, lines) = decided(&table, Scheme::Http, "/p/a%0d%0aEvil:%201", &[]);
        assert_eq!(found, "forward", "{value}");
        for line in [
            format!("x-a: {expected}"),
            ":path: /n/a%0D%0AEvil:%201".to_owned(),
            "x-forwarded-prefix: /a%0D%0AEvil: 1".to_owned(),
        ] {
            assert!(lines.contains(&line), "{value}: {line} is not among {lines:?}");
        }
    }
}

#[test]
fn every_answer_gets_the_headers_of_answers() {
    let global = json!({"responseHeaders": [
        {"set": {"name": "X-Here", "value": "$request_method"}}, {"remove": {"name": "Content-Type"}}
    ]});
    let own = json!([{"set": {"name": "X-Rule", "value": "1"}}]);
    let cases = [
        (json!({"responseHeaders": own, "basicAuth": {"credentials": "n/u"}}), "/", "basic_auth", true),
        (json!({"responseHeaders": own, "denied": "x"}), "/", "denied", false),
        (json!({"responseHeaders": own}), "/%", "invalid_path", false),
    ];
    for (policies, target, expected, of_rule) in cases {
        let table = table(&config("/", "elements", &policies, &forward(), &global));
        let (found, lines) = decided(&table, Scheme::Http, target, &[]);
        assert_eq!(found, expected, "{policies}");
        assert!(lines.contains(&"x-here: POST".to_owned()), "{policies}: {lines:?}");
        assert_eq!(lines.contains(&"x-rule: 1".to_owned()), of_rule, "{policies}: {lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("content-type")), "{policies}: {lines:?}");
    }
}
