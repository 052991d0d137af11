//! Which certificate serves which server name, and what a change of one does to the connections of others.

use ingress_wasm_tests::case::{Tls, TlsVersion};
use ingress_wasm_tests::client::{Connection, Target, WireRequest, once};
use ingress_wasm_tests::istio::free_addresses;
use ingress_wasm_tests::product::{Product, binary};
use ingress_wasm_tests::site::{Backend, Site};
use ingress_wasm_tests::tls::{TlsFacts, TlsTerms};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{SOON, Served, answered, eventually, expect_status, serve, serve_files, serve_with};

/// The common name of the certificate that stands in for none, as ingress-nginx has it.
const FAKE: &str = "Kubernetes Ingress Controller Fake Certificate";

fn web() -> [Backend; 1] {
    [Backend::new("web", 1)]
}

/// An Ingress for this host with a `tls` section that names a Secret; plain HTTP is served as well.
fn ingress(name: &str, host: &str, secret: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{nginx.ingress.kubernetes.io/ssl-redirect: 'false'}}}}
spec:
  ingressClassName: nginx
  tls: [{{hosts: ['{host}'], secretName: {secret}}}]
  rules:
  - host: '{host}'
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}
"
    )
}

/// A Secret with a new certificate for these names; `common` tells it from others.
fn secret(name: &str, common: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = rcgen::CertificateParams::new(names).expect("names");
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, common);
    let key = rcgen::KeyPair::generate().expect("a key");
    let chain = parameters.self_signed(&key).expect("a certificate").pem();
    let indent = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "---
apiVersion: v1
kind: Secret
metadata: {{name: {name}}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indent(&chain),
        indent(&key.serialize_pem())
    )
}

fn target(served: &Served, server_name: &str, terms: Tls) -> Target {
    let tls = TlsTerms { server_name: server_name.to_owned(), terms, certificate: None };
    Target { tls: Some(tls), ..Target::plain(served.product.https) }
}

fn connect(served: &Served, server_name: &str) -> Result<Connection, String> {
    Connection::open(&target(served, server_name, Tls::default()))
        .map_err(|error| format!("{server_name}: {error}\n{}", served.product.stderr_tail()))
}

fn facts(served: &Served, server_name: &str, terms: Tls) -> Result<TlsFacts, String> {
    let connection = Connection::open(&target(served, server_name, terms))
        .map_err(|error| format!("{server_name}: {error}\n{}", served.product.stderr_tail()))?;
    connection.tls().cloned().ok_or_else(|| "no TLS".to_owned())
}

/// The common name of the certificate for a server name.
fn certificate(served: &Served, server_name: &str) -> Result<String, String> {
    Ok(facts(served, server_name, Tls::default())?.certificate_cn.unwrap_or_default())
}

pub fn each_server_name_gets_its_certificate() -> Result<(), String> {
    let manifests = [
        ingress("a", "a.example", "a"),
        secret("a", "one", &["a.example"]),
        // The certificate of another Secret has the very name, but the Ingress decides.
        ingress("b", "b.example", "b"),
        secret("b", "two", &["b.example", "a.example", "x.wild.example"]),
        ingress("wild", "*.wild.example", "wild"),
        secret("wild", "wild", &["*.wild.example"]),
        ingress("own", "own.wild.example", "own"),
        secret("own", "own", &["own.wild.example"]),
        ingress("missing", "missing.example", "nowhere"),
        ingress("other", "other.example", "a"),
    ]
    .concat();
    let served = serve(&web(), &manifests)?;
    let cases = [
        ("a.example", "one"),
        ("b.example", "two"),
        ("x.wild.example", "wild"),
        ("y.wild.example", "wild"),
        ("own.wild.example", "own"),
        ("x.y.wild.example", FAKE),
        ("wild.example", FAKE),
        ("missing.example", FAKE),
        ("other.example", FAKE),
        ("nobody.example", FAKE),
        ("", FAKE),
    ];
    for (server_name, expected) in cases {
        assert_eq!(certificate(&served, server_name)?, expected, "{server_name:?}");
    }
    let mut connection = connect(&served, "a.example")?;
    let request = WireRequest::new("GET", "a.example", "/");
    let response = connection.exchange(&request).map_err(|error| error.to_string())?;
    expect_status(&response, 200, "over TLS")?;
    assert_eq!(answered(&response).as_deref(), Some("web"));
    served.product.wait_all_on_stderr(0, &["default/missing", "default/nowhere", "missing.example"], SOON)?;
    served.product.wait_all_on_stderr(0, &["default/other", "other.example"], SOON)?;
    Ok(())
}

/// Opens a WebSocket and sends something through it and back.
fn socket(mut connection: Connection, host: &str) -> Result<Connection, String> {
    let request = WireRequest::new("GET", host, "/socket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = connection.exchange(&request).map_err(|error| error.to_string())?;
    expect_status(&response, 101, host)?;
    there_and_back(&mut connection, host)?;
    Ok(connection)
}

fn there_and_back(connection: &mut Connection, what: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{what}: {error}");
    connection.send_bytes(b"\x81\x05hello").map_err(told)?;
    let back = connection.read_bytes(7).map_err(told)?;
    if back == b"\x81\x05hello" { Ok(()) } else { Err(format!("{what}: {back:?}")) }
}

/// What Envoy's admin interface says of listeners: updates, how many of them were not in place, and listeners
/// and chains that are being drained.
#[derive(Debug, PartialEq, Eq)]
struct Updates {
    all: u64,
    whole: u64,
    draining: (u64, u64),
}

fn updates(served: &Served) -> Result<Updates, String> {
    let admin = served.product.admin.ok_or("no admin interface")?;
    let request = WireRequest::new("GET", "localhost", "/stats?filter=listener_manager");
    let response = once(&Target::plain(admin), &request);
    let text = response.map_err(|error| error.to_string())?.text();
    let value = |name: &str| -> Result<u64, String> {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("listener_manager.{name}: ")));
        line.and_then(|value| value.trim().parse().ok()).ok_or_else(|| format!("no {name} in {text}"))
    };
    let all = value("listener_modified")?;
    Ok(Updates {
        all,
        whole: all - value("listener_in_place_updated")?,
        draining: (value("total_listeners_draining")?, value("total_filter_chains_draining")?),
    })
}

pub fn certificates_change_without_losing_a_connection() -> Result<(), String> {
    let first = [ingress("a", "a.example", "a"), ingress("b", "b.example", "b")].concat();
    let files = [
        ("site.yaml", first),
        ("a.yaml", secret("a", "one", &["a.example"])),
        ("b.yaml", secret("b", "two", &["b.example"])),
    ];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let served = serve_files(&web(), &files)?;
    let mut plain = socket(served.connect()?, "b.example")?;
    let mut of_a = socket(connect(&served, "a.example")?, "a.example")?;
    let mut of_b = socket(connect(&served, "b.example")?, "b.example")?;
    let mut others = |what: &str| -> Result<(), String> {
        there_and_back(&mut plain, &format!("{what}: plain"))?;
        there_and_back(&mut of_a, &format!("{what}: a.example"))?;
        there_and_back(&mut of_b, &format!("{what}: b.example"))
    };
    let change = |name: &str, text: &str| -> Result<(), String> {
        let mark = served.product.stdout_mark();
        served.site.write(name, text).map_err(|error| error.to_string())?;
        served.product.wait_stdout(mark, "reloaded", SOON).map(drop)
    };
    let shows = |server_name: &str, expected: &str| {
        eventually(&format!("{expected} for {server_name}"), SOON, || {
            certificate(&served, server_name).is_ok_and(|found| found == expected)
        })
    };

    // A renewed Secret is pushed as such: no listener hears of it.
    change("a.yaml", &secret("a", "one renewed", &["a.example"]))?;
    shows("a.example", "one renewed")?;
    assert_eq!(certificate(&served, "b.example")?, "two");
    others("a renewed Secret")?;
    assert_eq!(updates(&served)?, Updates { all: 0, whole: 0, draining: (0, 0) });

    // A host with a certificate comes: its chain is new, and no other is drained.
    let added = [ingress("c", "c.example", "c"), secret("c", "three", &["c.example"])].concat();
    change("c.yaml", &added)?;
    shows("c.example", "three")?;
    others("a new host")?;
    assert_eq!(updates(&served)?, Updates { all: 1, whole: 0, draining: (0, 0) });

    // It goes: only its own chain does.
    change("c.yaml", "")?;
    shows("c.example", FAKE)?;
    others("a host gone")?;
    let Updates { all, whole, draining: (listeners, chains) } = updates(&served)?;
    assert_eq!((all, whole, listeners), (2, 0, 0));
    assert!(chains <= 1, "{chains} chains are drained");
    Ok(())
}

pub fn hosts_have_ciphers_of_their_own() -> Result<(), String> {
    let with = |manifest: String, annotations: &[(&str, &str)]| {
        let more: String = annotations
            .iter()
            .map(|(name, value)| format!(", nginx.ingress.kubernetes.io/{name}: '{value}'"))
            .collect();
        manifest.replace("ssl-redirect: 'false'", &format!("ssl-redirect: 'false'{more}"))
    };
    let both = "ECDHE+CHACHA20:ECDHE+AES128+AESGCM";
    let (ciphers, order) = ("ssl-ciphers", "ssl-prefer-server-ciphers");
    let manifests = [
        ingress("a", "a.example", "ab"),
        secret("ab", "ab", &["a.example", "b.example"]),
        with(ingress("b", "b.example", "ab"), &[(ciphers, "ECDHE-ECDSA-CHACHA20-POLY1305")]),
        with(ingress("c", "c.example", "c"), &[(ciphers, both)]),
        secret("c", "c", &["c.example", "d.example"]),
        with(ingress("d", "d.example", "c"), &[(ciphers, both), (order, "false")]),
        with(ingress("wild", "*.wild.example", "wild"), &[(ciphers, "AES256:!RSA")]),
        secret("wild", "wild", &["*.wild.example"]),
        ingress("own", "own.wild.example", "wild"),
    ]
    .concat();
    let served = serve_with(&web(), &manifests, &[(ciphers, "ECDHE+AES128+AESGCM")])?;
    let (aes128, aes256) = ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384");
    let chacha = "CHACHA20_POLY1305_SHA256";
    let cases = [
        ("a.example", aes128, "ab"),
        ("b.example", chacha, "ab"),
        // The client likes AES the most.
        ("c.example", chacha, "c"),
        ("d.example", aes128, "c"),
        ("x.wild.example", aes256, "wild"),
        ("own.wild.example", aes128, "wild"),
        ("nobody.example", aes128, FAKE),
    ];
    for (server_name, cipher, common) in cases {
        let terms = Tls { max: Some(TlsVersion::Tls12), ..Tls::default() };
        let found = facts(&served, server_name, terms)?;
        assert!(found.cipher.ends_with(cipher), "{server_name}: {}", found.cipher);
        assert_eq!(found.certificate_cn.as_deref(), Some(common), "{server_name}");
        assert_eq!(facts(&served, server_name, Tls::default())?.version, "TLSv1.3", "{server_name}");
    }
    Ok(())
}

pub fn static_bootstrap_has_its_keys_in_files() -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let site = Site::new(&web(), &BTreeMap::new()).map_err(text)?;
    let manifests = [ingress("a", "a.example", "a"), secret("a", "one", &["a.example"])].concat();
    site.write("site.yaml", &manifests).map_err(text)?;
    let (module, keys) = (site.temporary().join("filter.wasm"), site.temporary().join("keys"));
    let addresses = free_addresses();
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(binary()?).args(arguments).output().map_err(text)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok((output.stdout, said)) } else { Err(said) }
    };
    let (http, https) = (addresses.http.to_string(), addresses.https.to_string());
    let (admin, manifests) = (addresses.admin.to_string(), site.manifests());
    let translate = |keys: &[&std::ffi::OsStr]| {
        let mut arguments =
            ["translate", "--output", "envoy", "--ingress-class", "nginx"].map(AsRef::as_ref).to_vec();
        arguments.extend(["--http", &http, "--https", &https, "--admin", &admin].map(std::ffi::OsStr::new));
        arguments.extend(["--filter-path".as_ref(), module.as_os_str()]);
        arguments.extend(keys.iter().copied().chain([manifests.as_os_str()]));
        run(&arguments)
    };
    run(&["filter".as_ref(), "--output".as_ref(), module.as_os_str()])?;
    let (plain, said) = translate(&[])?;
    let plain = String::from_utf8_lossy(&plain);
    assert!(said.contains("no-tls-listener") && said.contains("--key-directory"), "{said}");
    assert!(!plain.contains("PRIVATE KEY") && !plain.contains(&https), "{plain}");

    let with_keys = ["--key-directory".as_ref(), keys.as_os_str()];
    let (bootstrap, said) = translate(&with_keys)?;
    assert!(!said.contains("no-tls-listener"), "{said}");
    assert!(translate(&with_keys)?.0 == bootstrap, "the same input has another output");
    assert!(!String::from_utf8_lossy(&bootstrap).contains("PRIVATE KEY"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&keys).map_err(text)? {
        let entry = entry.map_err(text)?;
        let mode = entry.metadata().map_err(text)?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let expected = ["default-certificate.crt", "default-certificate.key", "default_a.crt", "default_a.key"];
    assert_eq!(names, expected);

    let file = site.temporary().join("bootstrap.json");
    std::fs::write(&file, bootstrap).map_err(text)?;
    let product = Product::envoy(&file, addresses.http, addresses.https, addresses.admin)?;
    let served = Served { product, site };
    assert_eq!(certificate(&served, "a.example")?, "one");
    assert_eq!(certificate(&served, "nobody.example")?, FAKE);
    let response =
        once(&target(&served, "a.example", Tls::default()), &WireRequest::new("GET", "a.example", "/"));
    expect_status(&response.map_err(text)?, 200, "over TLS")?;
    expect_status(&served.get("a.example", "/")?, 200, "in plain text")
}

/// A ClientHello of TLS 1.1 and its one cipher, AES128-SHA.
const HELLO_OF_1_1: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x2d, 0x01, 0x00, 0x00, 0x29, 0x03, 0x02, //
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 32, //
    0x00, 0x00, 0x02, 0x00, 0x2f, 0x01, 0x00,
];

pub fn versions_and_protocols_are_those_of_nginx() -> Result<(), String> {
    let manifests = [ingress("a", "a.example", "a"), secret("a", "one", &["a.example"])].concat();
    let served = serve(&web(), &manifests)?;
    let terms = |max, alpn: &[&str]| Tls {
        max,
        alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
        ..Tls::default()
    };
    let cases = [
        (terms(None, &["h2", "http/1.1"]), "TLSv1.3", Some("h2")),
        (terms(None, &["http/1.1"]), "TLSv1.3", Some("http/1.1")),
        (terms(None, &[]), "TLSv1.3", None),
        (terms(Some(TlsVersion::Tls12), &["h2"]), "TLSv1.2", Some("h2")),
    ];
    for (terms, version, alpn) in cases {
        for server_name in ["a.example", "nobody.example"] {
            let found = facts(&served, server_name, terms.clone())?;
            assert_eq!(
                (found.version.as_str(), found.alpn.as_deref()),
                (version, alpn),
                "{server_name} {terms:?}"
            );
        }
    }
    let mut stream = TcpStream::connect(served.product.https).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
    stream.write_all(HELLO_OF_1_1).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    // A fatal alert: the version is not supported.
    assert_eq!((answer.first(), answer.get(5..7)), (Some(&0x15), Some(&[2, 70][..])), "{answer:02x?}");
    Ok(())
}
