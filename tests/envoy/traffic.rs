//! What happens to requests and responses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use ingress_wasm_echo::wire;
use ingress_wasm_tests::client::{Response, Target, WireRequest, once};
use ingress_wasm_tests::site::Backend;

use crate::support::{Served, answered, expect_status, ingress, serve};

/// nginx's default for `proxy-body-size`.
const MEBIBYTE: usize = 1024 * 1024;

fn web() -> Result<Served, String> {
    serve(&[Backend::new("web", 1)], &ingress("web", "web", &[]))
}

pub fn websocket_upgrade_passes_and_echoes() -> Result<(), String> {
    let served = web()?;
    let mut connection = served.connect()?;
    // Key and answer are those of RFC 6455, section 1.3.
    let request = WireRequest::new("GET", "web.example", "/socket?x=1")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = connection.exchange(&request).map_err(|error| error.to_string())?;
    expect_status(&response, 101, "upgrade")?;
    assert_eq!(response.header("Sec-WebSocket-Accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(response.header("Upgrade").is_some_and(|token| token.eq_ignore_ascii_case("websocket")));
    let large = vec![0x5a; 300_000];
    for message in [b"\x81\x05hello".as_slice(), b"\0\xff raw bytes", &large] {
        connection.send_bytes(message).map_err(|error| error.to_string())?;
        let back = connection.read_bytes(message.len()).map_err(|error| error.to_string())?;
        assert!(back == message, "{} bytes came back changed", message.len());
    }
    Ok(())
}

/// The length of the body that the backend saw.
fn body_bytes(response: &Response) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(&response.body).ok()?["body_bytes"].as_u64()
}

pub fn declared_body_over_the_limit_is_refused() -> Result<(), String> {
    let served = web()?;
    let post = |count| served.send(&WireRequest::new("POST", "web.example", "/").body(vec![b'x'; count]));
    let refused = post(MEBIBYTE + 1)?;
    expect_status(&refused, 413, "one byte too many")?;
    assert!(refused.text().contains("413 Request Entity Too Large"), "{}", refused.text());
    assert_eq!(served.reached("web"), 0, "a body that is refused by its declared length reaches no backend");
    let passed = post(MEBIBYTE)?;
    expect_status(&passed, 200, "exactly the limit")?;
    assert_eq!(body_bytes(&passed), Some(MEBIBYTE as u64));
    Ok(())
}

pub fn chunked_body_over_the_limit_is_refused() -> Result<(), String> {
    let served = web()?;
    let post = |count| {
        served.send(&WireRequest::new("POST", "web.example", "/").chunked(&vec![b'x'; count], 10_000))
    };
    expect_status(&post(MEBIBYTE + 1)?, 413, "one byte too many")?;
    let passed = post(MEBIBYTE)?;
    expect_status(&passed, 200, "exactly the limit")?;
    assert_eq!(body_bytes(&passed), Some(MEBIBYTE as u64));
    Ok(())
}

pub fn responses_are_streamed() -> Result<(), String> {
    let served = web()?;
    let mut connection = served.connect()?;
    let start = Instant::now();
    connection
        .send(&WireRequest::new("GET", "web.example", "/stream/3/1500"))
        .map_err(|error| error.to_string())?;
    let (head, _) = connection.response_head().map_err(|error| error.to_string())?;
    expect_status(&head, 200, "stream")?;
    let first = connection.chunk().map_err(|error| error.to_string())?.unwrap_or_default();
    let taken = start.elapsed();
    assert_eq!(wire::text(&first), "chunk 0\n");
    assert!(
        taken < Duration::from_millis(2500),
        "the last chunk is sent after 3 s, the first came after {taken:?}"
    );
    let mut rest = Vec::new();
    while let Some(chunk) = connection.chunk().map_err(|error| error.to_string())? {
        rest.extend(chunk);
    }
    assert_eq!(wire::text(&rest), "chunk 1\nchunk 2\n");
    Ok(())
}

pub fn proxy_header_is_dropped() -> Result<(), String> {
    let served = web()?;
    let request = WireRequest::new("GET", "web.example", "/").header("pRoXy", "http://attacker.example/");
    expect_status(&served.send(&request)?, 200, "Proxy header")?;
    let received = served.site.servers("web")[0].received();
    let names: Vec<_> = received[0].headers.iter().map(|(name, _)| wire::text(name).to_lowercase()).collect();
    assert!(!names.contains(&"proxy".to_owned()), "{names:?}");
    Ok(())
}

pub fn private_headers_of_clients_have_no_effect() -> Result<(), String> {
    let manifests = [ingress("web", "web", &[]), ingress("other", "other", &[])].concat();
    let served = serve(&[Backend::new("web", 1), Backend::new("other", 1)], &manifests)?;
    for value in stolen_names(&served) {
        for name in ["x-ingress-wasm-cluster", "X-Ingress-Wasm-Profile", "x-ingress-wasm-connection"] {
            served.site.forget();
            let response = served.send(&WireRequest::new("GET", "web.example", "/").header(name, &value))?;
            expect_status(&response, 200, &format!("{name}: {value}"))?;
            assert_eq!(answered(&response).as_deref(), Some("web"), "{name}: {value}");
            let received = served.site.servers("web")[0].received();
            let headers: Vec<_> = received[0].headers.iter().map(|(name, _)| wire::text(name)).collect();
            let private = headers.iter().find(|name| name.to_lowercase().starts_with("x-ingress-wasm-"));
            assert_eq!(private, None, "{name}: {value} has left a trace: {headers:?}");
        }
    }
    let unknown = WireRequest::new("GET", "nobody.example", "/").header("x-ingress-wasm-cluster", "other");
    expect_status(&served.send(&unknown)?, 404, "a host without a rule")?;
    assert_eq!(served.reached("other"), 0);
    Ok(())
}

/// What an attacker would write: the names of all clusters where Envoy tells them, and guesses.
fn stolen_names(served: &Served) -> Vec<String> {
    let guesses = ["other", "default/other", "default/other:80", "default-other-80", "default", "1", ""];
    let mut names: Vec<String> = guesses.into_iter().map(str::to_owned).collect();
    let clusters = WireRequest::new("GET", "localhost", "/clusters?format=json");
    let Some(Ok(response)) = served.product.admin.map(|admin| once(&Target::plain(admin), &clusters)) else {
        return names;
    };
    let clusters: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let statuses = clusters["cluster_statuses"].as_array().cloned().unwrap_or_default();
    names.extend(statuses.iter().filter_map(|status| status["name"].as_str().map(str::to_owned)));
    names
}

pub fn dead_endpoint_is_a_bad_gateway() -> Result<(), String> {
    let backend = Backend { dead: 1, ..Backend::new("web", 0) };
    let served = serve(&[backend], &ingress("web", "web", &[]))?;
    expect_page(&served.get("web.example", "/")?, 502, "502 Bad Gateway")
}

pub fn no_endpoints_is_service_unavailable() -> Result<(), String> {
    let served = serve(&[Backend::new("web", 0)], &ingress("web", "web", &[]))?;
    expect_page(&served.get("web.example", "/")?, 503, "503 Service Temporarily Unavailable")
}

pub fn unknown_host_is_not_found() -> Result<(), String> {
    let served = web()?;
    for host in ["nobody.example", "sub.web.example", "web.example.evil"] {
        expect_page(&served.get(host, "/")?, 404, "404 Not Found")?;
    }
    assert_eq!(served.reached("web"), 0);
    Ok(())
}

/// nginx's page for a status.
fn expect_page(response: &Response, status: u16, title: &str) -> Result<(), String> {
    expect_status(response, status, title)?;
    assert_eq!(response.header("Content-Type").as_deref(), Some("text/html"), "{title}");
    let body = response.text();
    for part in [format!("<title>{title}</title>"), format!("<center><h1>{title}</h1></center>")] {
        assert!(body.contains(&part), "{part} is not in {body:?}");
    }
    assert!(body.contains("<center>nginx"), "{body:?}");
    Ok(())
}

/// A user for each kind of hash; the password of all is `correct horse`.
const USERS: &str = "\
alice:$apr1$tH4mQ2xz$Nn.e/7w.nCcpx8dyn7ID/1
bob:$2y$04$kI/4ecQBSmIZVQ6vKEP/i.Gi1GEI.V3TdzaV9cquHMIfxm/NYJR/e
carol:{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=
";

pub fn basic_auth_knows_three_hashes() -> Result<(), String> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: users\ntype: Opaque\ndata:\n  auth: {}\n",
        base64.encode(USERS)
    );
    let annotations = [("auth-type", "basic"), ("auth-secret", "users"), ("auth-realm", "Staff only")];
    let served = serve(&[Backend::new("web", 1)], &(ingress("web", "web", &annotations) + &secret))?;
    let with = |credentials: &str| {
        let value = format!("Basic {}", base64.encode(credentials));
        served.send(&WireRequest::new("GET", "web.example", "/").header("Authorization", &value))
    };
    let challenge = served.get("web.example", "/")?;
    expect_status(&challenge, 401, "no credentials")?;
    assert_eq!(challenge.header("WWW-Authenticate").as_deref(), Some("Basic realm=\"Staff only\""));
    for user in ["alice", "bob", "carol"] {
        for wrong in ["wrong", "", "correct horse ", "Correct horse"] {
            expect_status(&with(&format!("{user}:{wrong}"))?, 401, &format!("{user} with {wrong:?}"))?;
        }
    }
    expect_status(&with("dave:correct horse")?, 401, "an unknown user")?;
    assert_eq!(served.reached("web"), 0);
    for user in ["alice", "bob", "carol"] {
        // Twice: what is remembered of the first time has to let the second pass as well.
        for _ in 0..2 {
            expect_status(&with(&format!("{user}:correct horse"))?, 200, user)?;
        }
        expect_status(&with(&format!("{user}:wrong"))?, 401, &format!("{user}, wrong after right"))?;
    }
    Ok(())
}

pub fn read_timeout_is_between_bytes() -> Result<(), String> {
    let annotations = [("proxy-read-timeout", "1")];
    let served = serve(&[Backend::new("web", 1)], &ingress("web", "web", &annotations))?;
    let slow = served.get("web.example", "/stream/4/500")?;
    expect_status(&slow, 200, "1.5 s in all, never 1 s of silence")?;
    assert_eq!(slow.text(), "chunk 0\nchunk 1\nchunk 2\nchunk 3\n");
    expect_page(&served.get("web.example", "/delay/3000")?, 504, "504 Gateway Time-out")
}

/// A backend whose answers have headers of this many bytes, and this many lines more.
fn with_large_headers(bytes: usize, lines: usize) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let more: String = (0..lines).map(|number| format!("X-Line-{number}: 1\r\n")).collect();
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Big: {}\r\n{more}\r\nok", "a".repeat(bytes));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut buffer = [0; 4096];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(length @ 1..) => head.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    Ok(address)
}

pub fn answers_may_have_large_headers() -> Result<(), String> {
    let backend = with_large_headers(200_000, 500).map_err(|error| error.to_string())?;
    let manifests = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: big}}\nspec: {{ports: [{{port: 80}}]}}\n---\napiVersion: \
         discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: big-1, labels: {{kubernetes.io/service-name: \
         big}}}}\naddressType: IPv4\nports: [{{port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n{}",
        backend.port(),
        backend.ip(),
        ingress("big", "big", &[]),
    );
    let served = serve(&[], &manifests)?;
    let response = served.get("big.example", "/")?;
    expect_status(&response, 200, "large headers")?;
    assert_eq!(response.header("X-Big").map(|value| value.len()), Some(200_000));
    assert_eq!(response.header("X-Line-499").as_deref(), Some("1"));
    Ok(())
}
