//! What the ConfigMap says of connections, and of compressing what is sent over them.

use std::io::{Read, Write};
use std::net::TcpStream;

use ingress_wasm_echo::wire;
use ingress_wasm_tests::client::{Target, WireRequest, once};
use ingress_wasm_tests::site::Backend;

use crate::support::{Served, expect_status, ingress, serve_with};

fn web(options: &[(&str, &str)]) -> Result<Served, String> {
    serve_with(&[Backend::new("web", 1)], &ingress("web", "web", &[]), options)
}

pub fn answers_are_compressed_as_asked_for() -> Result<(), String> {
    let options =
        [("use-gzip", "true"), ("enable-brotli", "true"), ("gzip-types", "text/css application/json")];
    let served = web(&options)?;
    // What the client takes, the type of the answer, and how it comes.
    let cases = [
        ("gzip", "application/json", Some("gzip")),
        ("gzip", "text/html", Some("gzip")),
        ("gzip", "image/png", None),
        ("br, gzip", "application/json", Some("br")),
        ("", "application/json", None),
        ("identity", "application/json", None),
    ];
    for (takes, answers, expected) in cases {
        let mut request = WireRequest::new("GET", "web.example", &format!("/?set=Content-Type:{answers}"));
        if !takes.is_empty() {
            request = request.header("Accept-Encoding", takes);
        }
        let response = served.send(&request)?;
        expect_status(&response, 200, takes)?;
        let case = format!("{takes:?} of {answers}: {:?}", response.headers);
        assert_eq!(response.header("Content-Encoding").as_deref(), expected, "{case}");
        if expected == Some("gzip") {
            assert!(response.body.starts_with(&[0x1f, 0x8b]), "{case}");
            assert!(response.header("Vary").is_some_and(|vary| vary.contains("Accept-Encoding")), "{case}");
        }
    }
    Ok(())
}

pub fn connections_are_closed_as_asked_for() -> Result<(), String> {
    let options = [
        ("keep-alive-requests", "2"),
        ("client-header-timeout", "1"),
        ("upstream-keepalive-connections", "0"),
    ];
    let served = web(&options)?;
    let mut connection = served.connect()?;
    for last in [false, true] {
        let response = connection
            .exchange(&WireRequest::new("GET", "web.example", "/"))
            .map_err(|error| error.to_string())?;
        expect_status(&response, 200, "kept")?;
        let closes = response.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        assert_eq!(closes, last, "{:?}", response.headers);
    }
    let admin = served.product.admin.ok_or("the product does not tell where Envoy's administration is")?;
    let request = WireRequest::new("GET", "admin", "/stats?filter=upstream_cx_total");
    let stats = once(&Target::plain(admin), &request).map_err(|error| error.to_string())?.text();
    let opened = stats.lines().find(|line| line.starts_with("cluster.default/web_80"));
    assert_eq!(opened, Some("cluster.default/web_80.upstream_cx_total: 2"), "{stats}");

    let mut slow = TcpStream::connect(served.product.http).map_err(|error| error.to_string())?;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: web.example\r\n").map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", wire::text(&answer));
    Ok(())
}
