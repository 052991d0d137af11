//! Authorities and certificates other than those that hosts are served with: a changed one holds for the next
//! connection, without a restart.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use ingress_wasm_tests::case::{ClientCert, Tls};
use ingress_wasm_tests::client::{Target, WireRequest, once};
use ingress_wasm_tests::site::Backend;
use ingress_wasm_tests::tls::{TlsTerms, connect};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;

use crate::support::{SOON, Served, eventually, ingress, serve_files};

/// An authority: its certificate as PEM, and what signs with it.
fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    let pem = parameters.self_signed(&key).expect("signed").pem();
    (pem, Issuer::new(parameters, key))
}

/// A certificate for a name, signed by an authority, and its key.
fn signed(name: &str, issuer: &Issuer<'static, KeyPair>) -> (rcgen::Certificate, KeyPair) {
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).expect("names");
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    (parameters.signed_by(&key, issuer).expect("signed"), key)
}

fn secret(ca: &str) -> String {
    let lines: String = ca.lines().map(|line| format!("    {line}\n")).collect();
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: ca}}\nstringData:\n  ca.crt: |\n{lines}")
}

/// Looks until requests are answered with this status.
fn until_status(
    served: &Served,
    what: &str,
    expected: u16,
    target: &Target,
    request: &WireRequest,
) -> Result<(), String> {
    let mut last = String::new();
    let found = eventually(what, SOON, || match once(target, request) {
        Ok(response) => {
            last = format!("{}: {}", response.status, response.text());
            response.status == expected
        }
        Err(error) => {
            last = error.to_string();
            false
        }
    });
    found.map_err(|error| format!("{error}, the last answer: {last}\n{}", served.product.stderr_tail()))
}

pub fn changed_authorities_of_clients_are_live() -> Result<(), String> {
    let (first, issuer) = authority("first");
    let (second, _) = authority("second");
    let (certificate, key) = signed("ann", &issuer);
    let guarded = ingress("guarded", "web", &[("auth-tls-secret", "default/ca")]);
    let files = [("site.yaml", guarded.as_str()), ("ca.yaml", &secret(&first))];
    let served = serve_files(&[Backend::new("web", 1)], &files)?;
    let terms = TlsTerms {
        server_name: "guarded.example".to_owned(),
        terms: Tls::default(),
        certificate: Some(ClientCert { cert: certificate.pem(), key: key.serialize_pem() }),
    };
    let target = Target { tls: Some(terms), ..Target::plain(served.product.https) };
    let request = WireRequest::new("GET", "guarded.example", "/");
    until_status(&served, "a certificate of the authority", 200, &target, &request)?;
    served.site.write("ca.yaml", &secret(&second)).map_err(|error| error.to_string())?;
    until_status(&served, "a certificate of the former authority", 400, &target, &request)?;
    served.site.write("ca.yaml", &secret(&first)).map_err(|error| error.to_string())?;
    until_status(&served, "the authority is back", 200, &target, &request)
}

/// A backend that speaks TLS with this certificate and answers every connection once.
fn tls_backend(certificate: &rcgen::Certificate, key: &KeyPair) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok(connection) = rustls::ServerConnection::new(Arc::clone(&config)) else { return };
            let mut stream = rustls::StreamOwned::new(connection, stream);
            // A client that does not like the certificate leaves.
            if stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    port
}

/// The Service `secure` with a backend on this port.
fn service(port: u16) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: secure}}
spec: {{ports: [{{name: https, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: secure, labels: {{kubernetes.io/service-name: secure}}}}
addressType: IPv4
ports: [{{name: https, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}

/// The common name that a client is shown for a server name.
fn shown(served: &Served, server_name: &str) -> Result<Option<String>, String> {
    let terms = TlsTerms { server_name: server_name.to_owned(), terms: Tls::default(), certificate: None };
    let stream = TcpStream::connect(served.product.https).map_err(|error| error.to_string())?;
    Ok(connect(stream, &terms).map_err(|error| error.to_string())?.1.certificate_cn)
}

pub fn passed_connections_are_not_opened() -> Result<(), String> {
    let (_, issuer) = authority("internal");
    let (certificate, key) = signed("web.internal", &issuer);
    let port = tls_backend(&certificate, &key);
    let passed = ingress("passed", "secure", &[("ssl-passthrough", "true"), ("backend-protocol", "HTTPS")]);
    let site = [passed.clone(), ingress("opened", "web", &[]), service(port)].concat();
    let served = serve_files(&[Backend::new("web", 1)], &[("site.yaml", &site)])?;
    let target = |name: &str| {
        let terms = TlsTerms { server_name: name.to_owned(), terms: Tls::default(), certificate: None };
        Target { tls: Some(terms), ..Target::plain(served.product.https) }
    };
    assert_eq!(shown(&served, "passed.example")?.as_deref(), Some("web.internal"), "the backend's own");
    let request = WireRequest::new("GET", "passed.example", "/");
    until_status(&served, "the backend by TLS", 200, &target("passed.example"), &request)?;
    until_status(&served, "the backend by plain HTTP", 200, &served.http(), &request)?;
    assert_ne!(shown(&served, "opened.example")?.as_deref(), Some("web.internal"), "another host");
    let other = WireRequest::new("GET", "opened.example", "/");
    until_status(&served, "another host", 200, &target("opened.example"), &other)?;
    // Without the annotation the host is opened like every other, and the other way round.
    let opened = [ingress("passed", "web", &[]), ingress("opened", "web", &[])].concat();
    served.site.write("site.yaml", &opened).map_err(|error| error.to_string())?;
    eventually("the host is opened", SOON, || {
        shown(&served, "passed.example").is_ok_and(|name| name.as_deref() != Some("web.internal"))
    })?;
    served.site.write("site.yaml", &site).map_err(|error| error.to_string())?;
    eventually("the host is passed on again", SOON, || {
        shown(&served, "passed.example").is_ok_and(|name| name.as_deref() == Some("web.internal"))
    })
}

pub fn changed_authorities_of_backends_are_live() -> Result<(), String> {
    let (first, issuer) = authority("first");
    let (second, _) = authority("second");
    let (certificate, key) = signed("web.internal", &issuer);
    let port = tls_backend(&certificate, &key);
    let annotations = [
        ("backend-protocol", "HTTPS"),
        ("proxy-ssl-secret", "default/ca"),
        ("proxy-ssl-verify", "on"),
        ("proxy-ssl-name", "web.internal"),
    ];
    let wrong = [annotations[0], annotations[1], annotations[2], ("proxy-ssl-name", "other.internal")];
    let parts =
        [ingress("checked", "secure", &annotations), ingress("wrong", "secure", &wrong), service(port)];
    let site = parts.concat();
    let files = [("site.yaml", site.as_str()), ("ca.yaml", &secret(&first))];
    let served = serve_files(&[], &files)?;
    let request = WireRequest::new("GET", "checked.example", "/");
    until_status(&served, "a backend of the authority", 200, &served.http(), &request)?;
    let other = WireRequest::new("GET", "wrong.example", "/");
    until_status(&served, "a backend of another name", 502, &served.http(), &other)?;
    served.site.write("ca.yaml", &secret(&second)).map_err(|error| error.to_string())?;
    until_status(&served, "a backend of the former authority", 502, &served.http(), &request)?;
    served.site.write("ca.yaml", &secret(&first)).map_err(|error| error.to_string())?;
    until_status(&served, "the authority is back", 200, &served.http(), &request)
}
