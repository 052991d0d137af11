use super::*;
use crate::client::Response;
use crate::tls::TlsFacts;

fn expect(yaml: &str) -> Expect {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn fields(list: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// A 200 of the first endpoint of `web`.
fn answer() -> Answer {
    Answer {
        handshake: None,
        response: Some(Response {
            status: 200,
            headers: fields(&[("X-One", "1"), ("x-two", "a"), ("X-Two", "b")]),
            body: b"hello".to_vec(),
        }),
        endpoint: Some(("web".to_owned(), 0)),
        arrived: Some(Arrived {
            method: b"GET".to_vec(),
            target: b"/x?q=1".to_vec(),
            headers: fields(&[("Host", "a.example"), ("X-Many", "1"), ("X-Many", "2")]),
            body: Vec::new(),
        }),
    }
}

#[test]
fn answers_fit_or_tell_what_differs() {
    let cases = [
        ("{status: 200}", ""),
        ("{status: [301, 200]}", ""),
        ("{status: 404}", "status: expected 404, got 200"),
        ("{status: [301, 404]}", "status: expected 301 or 404, got 200"),
        ("{backend: web}", ""),
        ("{backend: other}", "backend: expected other, but web answered"),
        ("{backend: null}", "backend: expected none, but web answered"),
        ("{path: '/x?q=1', method: GET}", ""),
        ("{path: '/x'}", "path at the backend: expected \"/x\", got \"/x?q=1\""),
        ("{method: POST}", "method at the backend: expected \"POST\", got \"GET\""),
        ("{request_headers: {host: a.example, X-Gone: null}}", ""),
        ("{request_headers: {X-Many: ['1', '2']}}", ""),
        (
            "{request_headers: {X-Many: ['2', '1']}}",
            "request header X-Many: expected [\"2\", \"1\"], got [\"1\", \"2\"]",
        ),
        ("{request_headers: {X-Many: '1'}}", "request header X-Many: expected \"1\", got [\"1\", \"2\"]"),
        ("{request_headers: {X-Many: null}}", "request header X-Many: expected none, got [\"1\", \"2\"]"),
        ("{request_headers: {X-Gone: ''}}", "request header X-Gone: expected \"\", got none"),
        ("{headers: {X-ONE: '1'}}", ""),
        ("{headers: {X-Two: [a, {matches: '^b$'}]}}", ""),
        ("{headers: {X-One: {matches: '^2'}}}", "response header X-One: expected a match of /^2/, got \"1\""),
        ("{body: hello}", ""),
        ("{body: {matches: 'l+o$'}}", ""),
        ("{body: hell}", "body: expected \"hell\", got \"hello\""),
        ("{tls: {alpn: h2}}", "TLS handshake: there was none"),
    ];
    for (yaml, fault) in cases {
        let faults = check_answer(&expect(yaml), &answer(), &[]);
        let wanted: &[&str] = if fault.is_empty() { &[] } else { &[fault] };
        assert_eq!(faults, wanted, "{yaml}");
    }
}

#[test]
fn no_backend_means_none_was_reached() {
    let local = Answer { endpoint: None, arrived: None, ..answer() };
    let expect_none = expect("{backend: null}");
    assert_eq!(check_answer(&expect_none, &local, &[]), [""; 0]);
    let faults = check_answer(&expect_none, &local, &["web".to_owned()]);
    assert_eq!(faults, ["backend: expected none, but web was reached"]);
    let faults = check_answer(&expect("{backend: web, path: /}"), &local, &[]);
    assert_eq!(
        faults,
        [
            "backend: expected web, but none answered",
            "request at the backend: no backend answered, nothing to look into"
        ]
    );
}

#[test]
fn handshakes() {
    let facts = TlsFacts {
        version: "TLSv1.3".to_owned(),
        certificate_cn: Some("a.example".to_owned()),
        ..TlsFacts::default()
    };
    let done = Answer { handshake: Some(Ok(facts)), ..answer() };
    let failed = Answer { handshake: Some(Err("alert".to_owned())), ..Answer::default() };
    let cases = [
        (&done, "{tls: {version: TLSv1.3, certificate_cn: a.example, certificate_cn_not: b.example}}", ""),
        (&done, "{tls: {version: TLSv1.2}}", "TLS version: expected TLSv1.2, got TLSv1.3"),
        (&done, "{tls: {alpn: h2}}", "TLS ALPN: expected h2, got none"),
        (&done, "{tls: {certificate_cn: b.example}}", "TLS certificate: expected b.example, got a.example"),
        (&done, "{tls: {certificate_cn_not: a.example}}", "TLS certificate: must not be a.example"),
        (&done, "{tls: {handshake: failed}}", "TLS handshake: expected to fail, but it did not"),
        (&failed, "{tls: {handshake: failed}}", ""),
        (&failed, "{}", "TLS handshake: alert"),
    ];
    for (answer, yaml, fault) in cases {
        let faults = check_answer(&expect(yaml), answer, &[]);
        let wanted: &[&str] = if fault.is_empty() { &[] } else { &[fault] };
        assert_eq!(faults, wanted, "{yaml}");
    }
}

#[test]
fn totals_are_counted() {
    let of = |service: &str, index: usize, status: u16| {
        let mut answer = answer();
        answer.endpoint = Some((service.to_owned(), index));
        answer.response.as_mut().unwrap().status = status;
        answer
    };
    let answers = [of("web", 0, 200), of("web", 1, 200), of("web", 1, 503), of("canary", 0, 200)];
    let cases = [
        ("{share: {web: [3, 3], canary: [1, 2]}, statuses: {200: [3, 3], 404: [0, 0]}, endpoints: 3}", 0),
        ("{endpoints: [2, 4], endpoint_share: [1, 2]}", 0),
        ("{share: {web: [4, 9]}}", 1),
        ("{share: {other: [1, 1]}}", 1),
        ("{statuses: {503: [0, 0]}}", 1),
        ("{endpoints: 2}", 1),
        ("{endpoint_share: [2, 2]}", 2),
    ];
    for (yaml, faults) in cases {
        let found = check_totals(&expect(yaml), &answers);
        assert_eq!(found.len(), faults, "{yaml}: {found:?}");
    }
}

#[test]
fn other_backends() {
    let received = [Arrived::default(), Arrived { body: b"a=1".to_vec(), ..answer().arrived.unwrap() }];
    let cases = [
        ("{backend: auth}", 2, 0),
        ("{backend: auth}", 0, 1),
        ("{backend: auth, times: 0}", 0, 0),
        ("{backend: auth, times: 2, method: GET, path: '/x?q=1', body: 'a=1'}", 2, 0),
        ("{backend: auth, times: 1}", 2, 1),
        ("{backend: auth, times: [1, 2], request_headers: {Host: a.example}}", 2, 0),
        ("{backend: auth, method: PUT, path: /, body: b, request_headers: {Host: b}}", 2, 4),
    ];
    for (yaml, count, faults) in cases {
        let wanted: Reached = serde_saphyr::from_str(yaml).unwrap();
        let found = check_reached(&wanted, &received[..count]);
        assert_eq!(found.len(), faults, "{yaml} with {count}: {found:?}");
        assert!(found.iter().all(|fault| fault.starts_with("auth: ")), "{found:?}");
    }
}
