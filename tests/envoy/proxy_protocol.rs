//! Connections that begin with the PROXY protocol.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ingress_wasm_echo::{Received, wire};
use ingress_wasm_tests::case::Tls;
use ingress_wasm_tests::client::{Connection, Target, WireRequest};
use ingress_wasm_tests::site::Backend;
use ingress_wasm_tests::tls::{self, TlsTerms};

use crate::support::{Served, ingress, serve_with};

const ALLOWED: (&str, &str) = ("whitelist-source-range", "203.0.113.0/24, 2001:db8::/32");

fn site(options: &[(&str, &str)]) -> Result<Served, String> {
    let all: Vec<_> = [("use-proxy-protocol", "true")].iter().chain(options).copied().collect();
    let manifests =
        ingress("web", "web", &[("ssl-redirect", "false")]) + &ingress("staff", "web", &[ALLOWED]);
    serve_with(&[Backend::new("web", 1)], &manifests, &all)
}

/// A connection that begins with these bytes.
fn begin(address: SocketAddr, first: &[u8]) -> Result<Connection, String> {
    let mut connection = Connection::open(&Target::plain(address)).map_err(|error| error.to_string())?;
    connection.send_bytes(first).map_err(|error| error.to_string())?;
    Ok(connection)
}

fn values(received: &Received, name: &str) -> Vec<String> {
    let named = received.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| wire::text(value)).collect()
}

/// The second version, with a client and a port that it connected to.
fn version_2(client: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend(client);
    bytes.extend([127, 0, 0, 1]);
    bytes.extend(4000_u16.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    bytes
}

pub fn proxy_protocol_names_the_client() -> Result<(), String> {
    let served = site(&[])?;
    let address = served.product.http;
    let line = |client: &str, port| format!("PROXY TCP4 {client} 127.0.0.1 4000 {port}\r\n").into_bytes();
    // How a connection begins; then the status of the rule with a list of addresses, the client as the backend is
    // told it, and the scheme.
    let cases = [
        (line("203.0.113.7", 80), 200, "203.0.113.7", "http"),
        (line("203.0.113.7", 443), 200, "203.0.113.7", "https"),
        (line("198.51.100.1", 80), 403, "198.51.100.1", "http"),
        (b"PROXY TCP6 2001:db8::9 ::1 4000 80\r\n".to_vec(), 200, "2001:db8::9", "http"),
        (version_2([203, 0, 113, 8], 80), 200, "203.0.113.8", "http"),
        (b"PROXY UNKNOWN\r\n".to_vec(), 403, "127.0.0.1", "http"),
    ];
    for (first, staff, client, scheme) in cases {
        let what = first.escape_ascii().to_string();
        let mut connection = begin(address, &first)?;
        for (host, status) in [("staff.example", staff), ("web.example", 200)] {
            served.site.forget();
            // What a client writes itself counts for nothing.
            let request = WireRequest::new("GET", host, "/")
                .header("X-Forwarded-For", "203.0.113.99")
                .header("X-Ingress-Wasm-Connection", "https 443 203.0.113.99,203.0.113.99,443");
            let response = connection.exchange(&request).map_err(|error| format!("{what}: {error}"))?;
            assert_eq!(response.status, status, "{what} {host}");
            for received in served.site.servers("web")[0].received() {
                let header = |name: &str| values(&received, name);
                assert_eq!(header("X-Forwarded-For"), [client], "{what}");
                assert_eq!(header("X-Real-IP"), [client], "{what}");
                assert_eq!(header("X-Forwarded-Proto"), [scheme], "{what}");
                assert_eq!(header("X-Forwarded-Port"), [address.port().to_string()], "{what}");
            }
        }
    }
    // A connection that begins otherwise is none.
    let mut connection = begin(address, b"")?;
    let answer = connection.exchange(&WireRequest::new("GET", "web.example", "/"));
    assert!(answer.is_err(), "{answer:?}");
    over_tls(&served)?;
    untrusted()
}

/// It stands before the handshake.
fn over_tls(served: &Served) -> Result<(), String> {
    let terms =
        TlsTerms { server_name: "staff.example".to_owned(), terms: Tls::default(), certificate: None };
    for (client, status) in [("203.0.113.7", 200), ("198.51.100.1", 403)] {
        let stream = TcpStream::connect(served.product.https).map_err(|error| error.to_string())?;
        let line = format!("PROXY TCP4 {client} 127.0.0.1 4000 443\r\n");
        std::io::Write::write_all(&mut &stream, line.as_bytes()).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
        let (mut stream, _) = tls::connect(stream, &terms).map_err(|error| error.to_string())?;
        let request = b"GET / HTTP/1.1\r\nHost: staff.example\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request).map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        // The server may end without telling so in TLS.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{client}: {answer}");
    }
    Ok(())
}

/// The word of a proxy that is not among `proxy-real-ip-cidr` is read and not believed.
fn untrusted() -> Result<(), String> {
    let served = site(&[("proxy-real-ip-cidr", "10.0.0.0/8")])?;
    let mut connection = begin(served.product.http, b"PROXY TCP4 203.0.113.7 127.0.0.1 4000 80\r\n")?;
    for (host, status) in [("staff.example", 403), ("web.example", 200)] {
        let response =
            connection.exchange(&WireRequest::new("GET", host, "/")).map_err(|error| error.to_string())?;
        assert_eq!(response.status, status, "{host}");
    }
    let received = served.site.servers("web")[0].received();
    let told: Vec<_> = received.iter().flat_map(|one| values(one, "X-Forwarded-For")).collect();
    assert_eq!(told, ["127.0.0.1"]);
    Ok(())
}
