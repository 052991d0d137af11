#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::config::from_slice;
use crate::decision::{
    CERTIFICATE_HEADER, CONNECTION_HEADER, Connection, Decision, HeaderLine, RequestView, Scheme, apply_edits,
};
use crate::policy::{State, decide};
use crate::router::compile;

/// The certificate of a client as the listener tells it.
const GOOD: &str = "verified\t1000\t2000\tCN=CA,O=o\tCN=ann,O=o\tPEM";
const UNKNOWN: &str = "presented\t1000\t2000\tCN=x\tCN=ann,O=o\tPEM";
const EXPIRED: &str = "presented\t1000\t1499\tCN=x\tCN=ann,O=o\tPEM";
const NONE: &str = "presented\t-\t-\t-\t-\t-";

/// A configuration with one host that has these settings, one below the wildcard `*.wild`, and one without.
fn config(settings: &str) -> String {
    let rule = |path: &str| {
        format!(
            r#"{{"ingress":"n/i","path":"{path}","policies":0,"action":{{"forward":{{"cluster":"n/s:80"}}}}}}"#
        )
    };
    let host = |name: &str, settings: &str| {
        format!(r#"{{"name":"{name}",{settings}"aliases":[],"rules":[{}]}}"#, rule("/"))
    };
    let settings = format!(r#""clientCertificate":{settings},"#);
    format!(
        r#"{{"version":1,"global":{{"connectionHeader":true}},"policies":[{{}}],"hosts":[{},{},{}]}}"#,
        host("a.x", &settings),
        host("*.wild", &settings),
        host("open.x", ""),
    )
}

/// What becomes of a request: the answer, or what the backend is told.
fn outcome(settings: &str, url: &str, server_name: &str, certificate: &str) -> String {
    let text = config(settings);
    let table = compile(from_slice(text.as_bytes()).expect(&text)).expect(&text);
    let (scheme, rest) = url.split_once("://").expect(url);
    let (host, path) = rest.split_at(rest.find('/').expect(url));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let told = format!("{} 443 1.2.3.4 {server_name}", scheme.as_str());
    let headers: Vec<HeaderLine<'_>> = vec![
        (b":method", b"POST"),
        (b":path", path.as_bytes()),
        (b":authority", host.as_bytes()),
        (CONNECTION_HEADER.as_bytes(), told.as_bytes()),
        (CERTIFICATE_HEADER.as_bytes(), certificate.as_bytes()),
        (b"ssl-client-verify", b"SUCCESS"),
        (b"ssl-client-subject-dn", b"CN=root"),
        (b"ssl-client-cert", b"forged"),
    ];
    let connection = Connection { scheme, port: 443, peer: b"1.2.3.4" };
    let request = RequestView { headers: &headers, connection, now_ms: 1_500_000, random: 0 };
    match decide(&table, &request, &mut State::new([0; 32])) {
        Decision::Forward(forward) => {
            let lines = apply_edits(&headers, &forward.edits);
            let value = |name: &str| {
                let line = lines.iter().find(|(found, _)| **found == *name.as_bytes());
                line.map_or("-".to_owned(), |(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            let told = ["verify", "subject-dn", "issuer-dn", "cert"];
            let told = told.map(|name| value(&format!("ssl-client-{name}"))).join("|");
            let verify = told.replace("FAILED:unable to verify the first certificate", "FAILED");
            format!("{} {} {verify}", value(":method"), value(":path"))
        }
        Decision::Reply(reply) => {
            let location = reply.headers.iter().find(|(name, _)| name == "location");
            let location = location.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
            format!("{} {}", reply.status, location.unwrap_or_else(|| reply.details.to_owned()))
        }
        Decision::Ask(_) => "asks".to_owned(),
        Decision::Count(_) => "counts".to_owned(),
    }
}

#[test]
fn who_is_let_in_and_what_backends_are_told() {
    let on = r#"{"verify":"on"}"#;
    let off = r#"{"verify":"off","passCertificate":true}"#;
    let optional = r#"{"verify":"optional"}"#;
    let any = r#"{"verify":"optionalNoCa","passCertificate":true}"#;
    let refuse = r#"{"verify":"refuse"}"#;
    let own = "https://a.x/p";
    let cases = [
        (on, own, "a.x", GOOD, "POST /p SUCCESS|CN=ann,O=o|CN=CA,O=o|-"),
        (on, "https://A.x.:8443/p", "a.x", GOOD, "POST /p SUCCESS|CN=ann,O=o|CN=CA,O=o|-"),
        (on, own, "a.x", UNKNOWN, "400 client_certificate"),
        (on, own, "a.x", NONE, "400 client_certificate"),
        (on, own, "a.x", "", "400 client_certificate"),
        (on, own, "a.x", "verified\tx", "400 client_certificate"),
        // By plain HTTP nothing is asked, and nothing is told.
        (on, "http://a.x/p", "-", GOOD, "POST /p -|-|-|-"),
        // The certificate was shown to another host.
        (on, own, "open.x", GOOD, "421 server_name"),
        (on, own, "b.wild", GOOD, "421 server_name"),
        (on, "https://c.wild/p", "b.wild", GOOD, "421 server_name"),
        (on, "https://b.wild/p", "b.wild", GOOD, "POST /p SUCCESS|CN=ann,O=o|CN=CA,O=o|-"),
        // Without a server name, or with one that nobody knows, no certificate was asked for.
        (on, own, "-", GOOD, "400 client_certificate"),
        (on, own, "nobody.x", GOOD, "400 client_certificate"),
        (optional, own, "-", GOOD, "POST /p NONE|-|-|-"),
        (optional, own, "a.x", NONE, "POST /p NONE|-|-|-"),
        (optional, own, "a.x", GOOD, "POST /p SUCCESS|CN=ann,O=o|CN=CA,O=o|-"),
        (optional, own, "a.x", UNKNOWN, "400 client_certificate"),
        (any, own, "a.x", NONE, "POST /p NONE|-|-|-"),
        (any, own, "a.x", GOOD, "POST /p SUCCESS|CN=ann,O=o|CN=CA,O=o|PEM"),
        (any, own, "a.x", UNKNOWN, "POST /p FAILED|CN=ann,O=o|CN=x|PEM"),
        (any, own, "a.x", EXPIRED, "400 client_certificate"),
        (off, own, "a.x", GOOD, "POST /p NONE|-|-|-"),
        (off, own, "open.x", GOOD, "POST /p NONE|-|-|-"),
        (refuse, own, "a.x", GOOD, "403 client_authorities"),
        (refuse, "http://a.x/p", "-", NONE, "403 client_authorities"),
        // Other hosts know nothing of it.
        (on, "https://open.x/p", "a.x", GOOD, "POST /p SUCCESS|CN=root|-|forged"),
    ];
    for (settings, url, server_name, certificate, expected) in cases {
        let found = outcome(settings, url, server_name, certificate);
        assert_eq!(found, expected, "{settings} {url} {server_name} {certificate:?}");
    }
}

#[test]
fn subjects() {
    let with = |subject: &str, verify: &str| format!(r#"{{"verify":"{verify}","subject":"{subject}"}}"#);
    let passes = "POST / SUCCESS|CN=ann,O=o|CN=CA,O=o|-";
    let cases = [
        ("CN=ann", "on", "https://a.x/", GOOD, passes),
        // It is looked for anywhere, and with case.
        ("CN=a", "on", "https://a.x/", GOOD, passes),
        ("CN=(bob|ann),", "on", "https://a.x/", GOOD, passes),
        ("CN=ann$", "on", "https://a.x/", GOOD, "403 client_subject"),
        ("CN=ANN", "on", "https://a.x/", GOOD, "403 client_subject"),
        ("CN=ann", "on", "https://a.x/", NONE, "400 client_certificate"),
        ("CN=ann", "optional", "https://a.x/", NONE, "403 client_subject"),
        ("CN=ann", "off", "https://a.x/", GOOD, "403 client_subject"),
        // By plain HTTP there is no subject.
        ("CN=ann", "on", "http://a.x/", GOOD, "403 client_subject"),
        // What cannot be matched lets nobody in.
        ("CN=(", "on", "https://a.x/", GOOD, "403 client_authorities"),
    ];
    for (subject, verify, url, certificate, expected) in cases {
        let found = outcome(&with(subject, verify), url, "a.x", certificate);
        assert_eq!(found, expected, "{subject} {verify} {url} {certificate:?}");
    }
}

#[test]
fn error_pages() {
    let with = |page: &str, more: &str| format!(r#"{{"verify":"on","errorPage":"{page}"{more}}}"#);
    let cases = [
        ("https://help.x/c", "", NONE, "302 https://help.x/c"),
        ("https://help.x/c", "", UNKNOWN, "302 https://help.x/c"),
        ("help.x/c", "", NONE, "302 help.x/c"),
        ("https://help.x/c", "", GOOD, "POST /p?q SUCCESS|CN=ann,O=o|CN=CA,O=o|-"),
        // A path is what the host has there, for whoever comes.
        ("/why.html", "", NONE, "GET /why.html NONE|-|-|-"),
        ("/why.html", "", UNKNOWN, "GET /why.html FAILED|CN=ann,O=o|CN=x|-"),
        ("/why.html", r#","subject":"CN=bob""#, UNKNOWN, "403 client_subject"),
    ];
    for (page, more, certificate, expected) in cases {
        let found = outcome(&with(page, more), "https://a.x/p?q", "a.x", certificate);
        assert_eq!(found, expected, "{page} {more} {certificate:?}");
    }
}

#[test]
fn pages_are_nginx_s() {
    let body = String::from_utf8(super::bad_request(super::NO_CERTIFICATE).body.into_owned()).expect("text");
    assert!(body.contains("<title>400 No required SSL certificate was sent</title>"), "{body}");
    assert!(body.contains("<center>No required SSL certificate was sent</center>"), "{body}");
}

#[test]
fn nothing_is_believed_that_no_listener_of_ours_wrote() {
    let text = config(r#"{"verify":"on"}"#).replace(r#""connectionHeader":true"#, "");
    let table = compile(from_slice(text.as_bytes()).expect(&text)).expect(&text);
    let headers: Vec<HeaderLine<'_>> = vec![
        (b":path", b"/"),
        (b":authority", b"a.x"),
        (CONNECTION_HEADER.as_bytes(), b"https 443 1.2.3.4 a.x"),
        (CERTIFICATE_HEADER.as_bytes(), GOOD.as_bytes()),
    ];
    let connection = Connection { scheme: Scheme::Https, port: 443, peer: b"1.2.3.4" };
    let request = RequestView { headers: &headers, connection, now_ms: 0, random: 0 };
    let mut state = State::new([0; 32]);
    match decide(&table, &request, &mut state) {
        Decision::Reply(reply) => assert_eq!(reply.status, 400),
        other => panic!("{other:?}"),
    }
}
