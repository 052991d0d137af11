#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use serde_json::{Value, json};

use super::may_be_taken;
use crate::decision::{CalloutAnswer, Connection, Decision, HeaderLine, RequestView, Scheme, apply_edits};
use crate::policy::{State, decide, resume};
use crate::router::{RoutingTable, compile};

const REQUEST: &[HeaderLine<'static>] = &[
    (b":method", b"POST"),
    (b":path", b"/a/../b%20c?q=1&r=2"),
    (b":authority", b"H.example:8080"),
    (b"content-length", b"5"),
    (b"content-type", b"text/plain"),
    (b"cookie", b"s=1"),
    (b"upgrade", b"websocket"),
    (b"x-forwarded-host", b"forged"),
    (b"x-forwarded-uri", b"/forged"),
    (b"x-original-uri", b"/forged"),
    (b"x-original-url", b"http://forged/"),
    (b"x-user", b"forged"),
    (b"x-envoy-retry-on", b"5xx"),
    (b"x_under", b"score"),
];

fn table(auth: &Value, global: &Value) -> RoutingTable {
    let text = json!({
        "version": 1, "global": global, "policies": [{"externalAuth": auth}],
        "hosts": [{"name": "*", "rules": [
            {"ingress": "n/i", "path": "/", "policies": 0, "action": {"forward": {"cluster": "n/s:80"}}},
        ]}],
    });
    let text = text.to_string();
    let config = crate::config::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    compile(config).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn auth(more: Value) -> Value {
    let mut auth = json!({"cluster": "n/auth:80", "host": "auth.example", "target": "/check"});
    if let (Value::Object(auth), Value::Object(more)) = (&mut auth, more) {
        auth.extend(more);
    }
    auth
}

fn request<'a>(headers: &'a [HeaderLine<'a>]) -> RequestView<'a> {
    let connection = Connection { scheme: Scheme::Http, port: 8080, peer: b"10.0.0.9" };
    RequestView { headers, connection, now_ms: 1, random: 0xabc }
}

/// The question that is asked about the request: its lines.
fn question(auth: Value, global: &Value) -> (String, Vec<String>) {
    let (table, view) = (table(&auth, global), request(REQUEST));
    match decide(&table, &view, &mut State::new([0; 32])) {
        Decision::Ask(callout) => {
            let line = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let lines = callout.headers.iter().map(|(name, value)| format!("{name}: {}", line(value)));
            (callout.cluster.to_string(), lines.collect())
        }
        other => panic!("{auth}: {other:?}"),
    }
}

#[test]
fn what_the_service_is_told() {
    let (cluster, lines) = question(auth(json!({})), &json!({}));
    assert_eq!(cluster, "n/auth:80");
    let expected = [
        ":method: GET",
        ":path: /check",
        ":authority: auth.example",
        "content-type: text/plain",
        "cookie: s=1",
        "x-original-url: http://H.example:8080/a/../b%20c?q=1&r=2",
        "x-user: forged",
        "x-request-id: 00000000000000000000000000000abc",
        "x-original-method: POST",
        "x-sent-from: nginx-ingress-controller",
        "x-real-ip: 10.0.0.9",
        "x-forwarded-for: 10.0.0.9",
        "x-auth-request-redirect: /a/../b%20c?q=1&r=2",
    ];
    assert_eq!(lines, expected);
    let cases = [
        (json!({"method": "HEAD"}), ":method: HEAD", true),
        (json!({"method": "HEAD"}), "x-original-uri: /a/../b%20c?q=1&r=2", true),
        (json!({"requestRedirect": "https://x/$host"}), "x-auth-request-redirect: https://x/h.example", true),
        (json!({"target": "/c$uri"}), ":path: /c/b%20c", true),
        (json!({"target": "/x?h=$http_host"}), ":path: /x?h=H.example:8080", true),
        (json!({"target": ""}), ":path: /_external-auth-Lw-Prefix", true),
        (json!({"host": "$host"}), ":authority: h.example", true),
        (
            json!({"requestHeaders": [{"set": {"name": "X-T", "value": "$request_method"}}]}),
            "x-t: POST",
            true,
        ),
        (json!({"requestHeaders": [{"set": {"name": "Host", "value": "o"}}]}), ":authority: o", true),
        (json!({"requestHeaders": [{"remove": {"name": "Host"}}]}), ":authority: auth.example", true),
    ];
    for (more, line, there) in cases {
        let (_, lines) = question(auth(more.clone()), &json!({}));
        assert_eq!(lines.iter().any(|found| found == line), there, "{more}: {line}: {lines:#?}");
    }
    let (cluster, _) = question(auth(json!({"cluster": "https://$host:443"})), &json!({}));
    assert_eq!(cluster, "https://h.example:443");
    let trusting = json!({"forwarded": {"trustHeaders": true, "trustedProxies": ["0.0.0.0/0"]}});
    let (_, lines) = question(auth(json!({})), &trusting);
    assert!(lines.iter().any(|line| line == "x-forwarded-uri: /forged"), "{lines:#?}");
}

/// What becomes of the request: the status of the answer (0: it goes on) and these headers of the answer, or of
/// what the backend gets.
fn outcome(table: &RoutingTable, answer: &CalloutAnswer<'_>, names: &[&str]) -> (u16, Vec<String>) {
    let view = request(REQUEST);
    let mut state = State::new([0; 32]);
    let text = |name: &str, value: &[u8]| format!("{name}: {}", String::from_utf8_lossy(value));
    match resume(table, &view, answer, &mut state) {
        Decision::Reply(reply) => {
            let lines = reply.headers.iter().filter(|(name, _)| names.contains(&&**name));
            (reply.status, lines.map(|(name, value)| text(name, value)).collect())
        }
        Decision::Forward(forward) => {
            let edits = [forward.on_success, forward.on_response].concat();
            let there = apply_edits(REQUEST, &forward.edits);
            let back = apply_edits(&[], &edits);
            let lines = there.iter().chain(&back).map(|(name, value)| (String::from_utf8_lossy(name), value));
            let lines = lines.filter(|(name, _)| names.contains(&&**name));
            (0, lines.map(|(name, value)| text(&name, value)).collect())
        }
        Decision::Ask(callout) => panic!("asked twice: {callout:?}"),
        Decision::Count(count) => panic!("counted: {count:?}"),
    }
}

#[test]
fn what_an_answer_comes_to() {
    let plain = table(&auth(json!({"responseHeaders": ["X-User", "X-Role"]})), &json!({}));
    let sign_in = json!({"signIn": "https://l/?rd=$pass_access_scheme://$http_host$escaped_request_uri"});
    let sign_in = table(&auth(sign_in), &json!({}));
    let always = table(&auth(json!({"alwaysSetCookie": true})), &json!({}));
    let cookies: &[HeaderLine<'_>] = &[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")];
    let there = "location: https://l/?rd=http://H.example:8080%2Fa%2F..%2Fb%2520c%3Fq%3D1%26r%3D2";
    type Case<'a> = (&'a RoutingTable, &'a [u8], &'a [HeaderLine<'a>], u16, &'a [&'a str]);
    let cases: [Case<'_>; 13] = [
        (&plain, b"200", &[(b"x-user", b"ann"), (b"x-other", b"1")], 0, &["x-user: ann"]),
        (&plain, b"204", &[(b"x-role", b"a"), (b"x-role", b"b")], 0, &["x-role: a, b"]),
        (&plain, b"299", cookies, 0, &["set-cookie: a=1", "set-cookie: b=2"]),
        (&plain, b"199", &[], 500, &[]),
        (&plain, b"302", &[(b"location", b"/evil")], 500, &[]),
        (&plain, b"401", &[(b"www-authenticate", b"Bearer")], 401, &["www-authenticate: Bearer"]),
        (&plain, b"401", cookies, 401, &[]),
        (&plain, b"403", &[(b"www-authenticate", b"Bearer")], 403, &[]),
        (&plain, b"nonsense", &[], 500, &[]),
        (&sign_in, b"401", cookies, 302, &[there, "set-cookie: a=1", "set-cookie: b=2"]),
        (&sign_in, b"403", &[], 403, &[]),
        (&always, b"403", cookies, 403, &["set-cookie: a=1", "set-cookie: b=2"]),
        (&always, b"500", cookies, 500, &["set-cookie: a=1", "set-cookie: b=2"]),
    ];
    let names = ["x-user", "x-role", "x-other", "set-cookie", "location", "www-authenticate"];
    for (table, status, lines, expected, headers) in cases {
        let mut all: Vec<HeaderLine<'_>> = vec![(b":status", status)];
        all.extend(lines);
        let (found, mut told) = outcome(table, &CalloutAnswer::Answered { headers: &all, body: b"" }, &names);
        if !std::ptr::eq(table, &plain) {
            told.retain(|line| !line.starts_with("x-user"));
        }
        told.sort();
        let status = String::from_utf8_lossy(status);
        assert_eq!((found, told), (expected, headers.iter().map(|h| (*h).to_owned()).collect()), "{status}");
    }
    assert_eq!(outcome(&plain, &CalloutAnswer::Unreachable, &names), (500, vec![]));
}

#[test]
fn remembered_answers_are_not_asked_for_again() {
    let times = json!([{"status": 200, "ms": 1000}]);
    let cached = json!({"cache": {"key": "$http_cookie", "times": times}, "responseHeaders": ["X-User"]});
    let (table, view) = (table(&auth(cached), &json!({})), request(REQUEST));
    let mut state = State::new([0; 32]);
    assert!(matches!(decide(&table, &view, &mut state), Decision::Ask(_)));
    let headers: &[HeaderLine<'_>] = &[(b":status", b"200"), (b"x-user", b"ann")];
    let answer = CalloutAnswer::Answered { headers, body: b"" };
    assert!(matches!(resume(&table, &view, &answer, &mut state), Decision::Forward(_)));
    match decide(&table, &view, &mut state) {
        Decision::Forward(forward) => {
            let lines = apply_edits(REQUEST, &forward.edits);
            let user: Vec<_> = lines.iter().filter(|line| *line.0 == *b"x-user").map(|line| line.1).collect();
            assert_eq!(user, [b"ann"]);
        }
        other => panic!("{other:?}"),
    }
    let another: Vec<HeaderLine<'_>> =
        REQUEST.iter().map(|line| if line.0 == b"cookie" { (line.0, &b"s=2"[..]) } else { *line }).collect();
    assert!(matches!(decide(&table, &request(&another), &mut state), Decision::Ask(_)));
}

#[test]
fn what_may_be_taken_from_an_answer() {
    for name in ["X-User", "Authorization", "cookie", "x_y"] {
        assert!(may_be_taken(name), "{name}");
    }
    for name in [
        "",
        "Host",
        "Content-Length",
        "TRANSFER-ENCODING",
        "x-envoy-a",
        "X-Ingress-Wasm-Cluster",
        "a b",
        ":path",
    ] {
        assert!(!may_be_taken(name), "{name}");
    }
}
