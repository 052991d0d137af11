use super::*;

fn text(value: &str) -> Result<Value, InvalidValue> {
    Ok(Value::Text(value.to_owned()))
}

fn words(values: &[&str]) -> Result<Value, InvalidValue> {
    Ok(Value::List(values.iter().map(|value| (*value).to_owned()).collect()))
}

fn element(value: &str) -> Result<Value, InvalidValue> {
    Err(InvalidValue::Element(value.to_owned()))
}

fn check(grammar: ValueGrammar, cases: &[(&str, Result<Value, InvalidValue>)]) {
    for (input, expected) in cases {
        assert_eq!(grammar.parse(input), *expected, "{grammar:?} {input:?}");
    }
    for empty in ["", " ", "\n"] {
        assert_eq!(grammar.parse(empty), Err(InvalidValue::Empty), "{grammar:?} {empty:?}");
    }
}

const MALFORMED: Result<Value, InvalidValue> = Err(InvalidValue::Malformed);

fn foreign(character: char) -> Result<Value, InvalidValue> {
    Err(InvalidValue::Character(character))
}

#[test]
fn numbers() {
    check(
        ValueGrammar::Boolean,
        &[("true", Ok(Value::Bool(true))), ("yes", MALFORMED), (" true", MALFORMED)],
    );
    check(ValueGrammar::Seconds, &[("60", Ok(Value::Seconds(60))), ("-1", MALFORMED), ("1s", MALFORMED)]);
    check(ValueGrammar::COUNT, &[("0", Ok(Value::Integer(0))), ("-1", MALFORMED), ("ten", MALFORMED)]);
    check(ValueGrammar::ANY_INTEGER, &[("-1", Ok(Value::Integer(-1))), ("permanent", MALFORMED)]);
    check(ValueGrammar::Integer { min: 1, max: 3 }, &[("3", Ok(Value::Integer(3))), ("4", MALFORMED)]);
    check(ValueGrammar::Number, &[("0.5", Ok(Value::Number(0.5))), ("-1", MALFORMED), ("nan", MALFORMED)]);
    check(ValueGrammar::CookieSeconds, &[("-1", Ok(Value::Integer(-1))), ("1d", MALFORMED)]);
    check(
        ValueGrammar::Duration,
        &[("10s", text("10s")), ("10", text("10")), ("s", MALFORMED), ("1x", MALFORMED)],
    );
    check(
        ValueGrammar::Size,
        &[
            ("8m", Ok(Value::Size(8 << 20))),
            ("8b", Err(InvalidValue::UnknownUnit)),
            ("15r", MALFORMED),
            ("b", MALFORMED),
        ],
    );
}

#[test]
fn fixed_words() {
    let exact = ValueGrammar::one_of(&["basic", "digest"]);
    check(
        exact,
        &[("basic", text("basic")), (" basic ", text("basic")), ("Basic", MALFORMED), ("form", MALFORMED)],
    );
    let any_case = ValueGrammar::any_case(&["HTTP", "GRPC"]);
    check(any_case, &[("grpc", text("GRPC")), ("HTTP", text("HTTP")), ("SPDY", MALFORMED)]);
    let several = ValueGrammar::Words(&["error", "timeout"]);
    check(
        several,
        &[("error  timeout", words(&["error", "timeout"])), ("error http_502", element("http_502"))],
    );
}

#[test]
fn urls_and_paths() {
    check(
        ValueGrammar::RewriteTarget,
        &[
            ("/", text("/")),
            ("/$2", text("/$2")),
            ("foo", text("foo")),
            ("https://a.example/$1", text("https://a.example/$1")),
            ("/new?x=1", foreign('?')),
            ("/a=b", foreign('=')),
            (" /a", foreign(' ')),
            ("/a\n", foreign('\n')),
            ("/a;b", foreign(';')),
            ("/é", foreign('é')),
        ],
    );
    check(
        ValueGrammar::Path,
        &[("/app", text("/app")), ("app", MALFORMED), ("https://a.example", MALFORMED)],
    );
    check(
        ValueGrammar::Url,
        &[
            ("https://a.example/x?y=z&a", text("https://a.example/x?y=z&a")),
            ("/new", text("/new")),
            ("https://a.example$request_uri", foreign('$')),
            ("https://a.example/#top", foreign('#')),
        ],
    );
    check(
        ValueGrammar::AuthUrl,
        &[
            ("http://auth.ns.svc/ok", text("http://auth.ns.svc/ok")),
            ("https://$host/oauth2/auth?x=$arg_y", text("https://$host/oauth2/auth?x=$arg_y")),
            ("http:///verify", MALFORMED),
            ("/verify", MALFORMED),
            ("auth.ns.svc", MALFORMED),
            ("http://:80/x", MALFORMED),
            ("https://invalid..auth.url", MALFORMED),
            ("http://a/verify;x", foreign(';')),
            ("http://a/?next=%2F", foreign('%')),
        ],
    );
}

#[test]
fn lists() {
    check(
        ValueGrammar::HeaderNames,
        &[("X-A, X_B,", words(&["X-A", "X_B"])), ("X-A;X-B", element("X-A;X-B")), (",", MALFORMED)],
    );
    check(
        ValueGrammar::StatusCodes,
        &[
            ("404, 503", Ok(Value::Codes(vec![404, 503]))),
            ("404,abc", element("abc")),
            ("302", element("302")),
            ("4xx", element("4xx")),
            ("+404", element("+404")),
        ],
    );
    check(
        ValueGrammar::Methods,
        &[("GET, POST", words(&["GET", "POST"])), ("GET;POST", element("GET;POST"))],
    );
    check(
        ValueGrammar::Origins,
        &[
            ("*", words(&["*"])),
            ("https://a.example, null", words(&["https://a.example", "null"])),
            ("https://*.a.example:8080", words(&["https://*.a.example:8080"])),
            ("origin.example", words(&[])),
            ("https://a.example/", element("https://a.example/")),
            ("https://a.example,*", words(&["*"])),
            ("https://a.example/,*", element("https://a.example/")),
            ("https://a.example:", element("https://a.example:")),
        ],
    );
    check(
        ValueGrammar::CacheDurations,
        &[("200 202 30m", words(&["200 202 30m"])), ("200", element("200")), ("30m 200", element("30m 200"))],
    );
    check(
        ValueGrammar::HostNames,
        &[
            ("a.example, *.b.example", words(&["a.example", "*.b.example"])),
            (r"~^www\d+\.a\.example$", words(&[r"~^www\d+\.a\.example$"])),
            ("a;b", element("a;b")),
        ],
    );
}

#[test]
fn networks() {
    let list =
        |networks: &[&str]| Ok(Value::Networks(networks.iter().filter_map(|n| Network::parse(n)).collect()));
    check(
        ValueGrammar::CidrList,
        &[
            ("10.0.0.0/8, ::1", list(&["10.0.0.0/8", "::1"])),
            ("10.0.0.0/8,", element("")),
            ("10.0.0.0/8, not-an-ip", element("not-an-ip")),
        ],
    );
}

#[test]
fn names() {
    let name = |namespace: Option<&str>, name: &str| {
        Ok(Value::Name { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    };
    check(
        ValueGrammar::SecretName { namespace_required: false },
        &[("a", name(None, "a")), ("n/a", name(Some("n"), "a")), ("n/a/b", MALFORMED), ("/a", MALFORMED)],
    );
    check(
        ValueGrammar::SecretName { namespace_required: true },
        &[("n/a", name(Some("n"), "a")), ("a", MALFORMED), ("n/a b", foreign(' '))],
    );
    check(
        ValueGrammar::ConfigMapName,
        &[("n/a", name(Some("n"), "a")), ("default/has space!", foreign(' '))],
    );
    let long = "a".repeat(64);
    check(
        ValueGrammar::ServiceName,
        &[("errors", text("errors")), ("default/errors", MALFORMED), ("1a", MALFORMED), (&long, MALFORMED)],
    );
    check(
        ValueGrammar::HostName,
        &[("a.$namespace.svc", text("a.$namespace.svc")), ("a; deny all", foreign(';'))],
    );
    check(ValueGrammar::Method, &[("GET", text("GET")), ("get", MALFORMED), ("FETCH", MALFORMED)]);
    check(ValueGrammar::CommonName, &[("CN=a.*", text("CN=a.*")), ("a", MALFORMED), ("CN=", MALFORMED)]);
    check(
        ValueGrammar::CookieDomains,
        &[
            ("a.example b.example", text("a.example b.example")),
            ("off", text("off")),
            ("one two three", MALFORMED),
        ],
    );
    check(ValueGrammar::HeaderName, &[("X-A", text("X-A")), ("X A", MALFORMED)]);
    check(ValueGrammar::Characters(&REALM), &[("Test Realm", text("Test Realm")), ("a, b", foreign(','))]);
    check(
        ValueGrammar::Characters(&VARIABLES),
        &[("${a}-b", text("${a}-b")), ("$remote_addr;", foreign(';'))],
    );
}

#[test]
fn header_lines_set_and_remove() {
    let line = |name: &str, value: Option<&str>| HeaderLine {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    let at = |line| Err(InvalidValue::Line(line));
    check(
        ValueGrammar::HeaderLines,
        &[
            ("X-A: b", Ok(Value::Headers(vec![line("X-A", Some("b"))]))),
            ("X-A: b\n\n  X-B:\n", Ok(Value::Headers(vec![line("X-A", Some("b")), line("X-B", None)]))),
            ("X-A: b: c\r\n", Ok(Value::Headers(vec![line("X-A", Some("b: c"))]))),
            ("X-A", at(1)),
            ("X-A: b\nX B: c", at(2)),
            ("X-A: b\nx-a: c", at(2)),
            ("X-A: a\tb", at(1)),
            (": b", at(1)),
            ("Host: a", at(1)),
            ("Content-Length: 0", at(1)),
            ("Transfer-Encoding: chunked", at(1)),
            ("x-ingress-wasm-cluster: other", at(1)),
            ("X-Envoy-Max-Retries: 9", at(1)),
        ],
    );
}

#[test]
fn descriptions_say_something() {
    for entry in crate::annotations::all().iter().chain(crate::annotations::own()) {
        assert!(!entry.value.description().is_empty(), "{}", entry.name);
    }
    assert_eq!(ValueGrammar::one_of(&["a", "b", "c"]).description(), "`a`, `b` or `c`");
}
