//! A backend over a real socket.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends bytes, ends the sending side, and reads until the server ends.
async fn talk(server: &EchoServer, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    wire::text(&answer)
}

/// The JSON of the last answer in what came back.
fn json(answer: &str) -> serde_json::Value {
    let body = answer.rsplit("\r\n\r\n").next().unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[tokio::test]
async fn targets_arrive_byte_for_byte() {
    let server = EchoServer::start("web", 1).unwrap();
    let targets: &[&[u8]] = &[
        b"/",
        b"/a/../b//c/./%2e%2E/%zz",
        b"/a b c",
        b"/\"<>\\^`{|}#frag?x=[1]&y=#",
        b"//host/path",
        b"http://other.example/abs?q",
        b"*",
        b"/\xc3\xa9?\xe9=\xff\x01",
    ];
    for target in targets {
        server.clear();
        let request = [b"GET ".as_slice(), target, b" HTTP/1.1\r\nhOsT: x\r\nX-Odd: \xe9\r\n\r\n"].concat();
        let answer = json(&talk(&server, &request).await);
        assert_eq!(answer["target"], wire::text(target), "{:?}", wire::text(target));
        assert_eq!(answer["service"], "web");
        assert_eq!(answer["endpoint"], 1);
        assert_eq!(answer["headers"], serde_json::json!([["hOsT", "x"], ["X-Odd", "\u{e9}"]]));
        assert_eq!(server.received()[0].target, *target);
    }
}

#[tokio::test]
async fn connection_is_kept_and_bodies_are_read() {
    let server = EchoServer::start("web", 0).unwrap();
    let answer = talk(
        &server,
        b"POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
          PUT /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nTrailer: t\r\n\r\n\
          HEAD /3 HTTP/1.1\r\n\r\n\
          GET /status/204 HTTP/1.1\r\n\r\n\
          GET /5 HTTP/1.1\r\nConnection: close\r\n\r\n\
          GET /never HTTP/1.1\r\n\r\n",
    )
    .await;
    let statuses: Vec<_> = answer.matches("HTTP/1.1 200").chain(answer.matches("HTTP/1.1 204")).collect();
    assert_eq!(statuses.len(), 5, "{answer}");
    assert!(answer.contains("Connection: close"), "{answer}");
    let received = server.received();
    let seen: Vec<_> =
        received.iter().map(|r| (r.serial, wire::text(&r.target), wire::text(&r.body))).collect();
    let expected = [(0, "/1", "abc"), (1, "/2", "def"), (2, "/3", ""), (3, "/status/204", ""), (4, "/5", "")];
    assert_eq!(seen, expected.map(|(serial, target, body)| (serial, target.to_owned(), body.to_owned())));
    assert!(received.iter().all(|request| request.complete));
}

#[tokio::test]
async fn large_body_is_counted_and_cut() {
    let server = EchoServer::start("web", 0).unwrap();
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 2_000_000);
    let answer = json(&talk(&server, &[head.into_bytes(), vec![b'a'; 2_000_000]].concat()).await);
    assert_eq!(answer["body_bytes"], 2_000_000);
    assert_eq!(answer["body"].as_str().unwrap().len(), BODY_KEPT);
}

#[tokio::test]
async fn unfinished_body_is_marked_so() {
    let server = EchoServer::start("web", 0).unwrap();
    assert_eq!(talk(&server, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc").await, "");
    let received = server.received();
    assert_eq!((received.len(), received[0].complete), (1, false));
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let server = EchoServer::start("web", 0).unwrap();
    let inputs: &[&[u8]] =
        &[b"PRI * HTTP/2.0\r\n\r\n", b"nonsense\n\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"];
    for input in inputs {
        let answer = talk(&server, input).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{:?}: {answer}", wire::text(input));
    }
    assert_eq!(server.received(), []);
}

#[tokio::test]
async fn upgrade_needs_a_key_and_sends_bytes_back() {
    let server = EchoServer::start("web", 0).unwrap();
    // Key and answer are those of RFC 6455, section 1.3.
    let request = "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = talk(&server, format!("{request}{key}\r\n\x01bytes\x02").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n\x01bytes\x02"), "{answer:?}");
    let answer = talk(&server, format!("{request}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn stream_comes_in_parts() {
    let server = EchoServer::start("web", 0).unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /stream/3/150 HTTP/1.1\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    while !wire::text(&seen).contains("chunk 0") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
    }
    assert!(
        !wire::text(&seen).contains("chunk 2"),
        "the first chunk came with the last: {}",
        wire::text(&seen)
    );
    while !seen.ends_with(b"0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
    }
    assert!(wire::text(&seen).contains("8\r\nchunk 2\n\r\n0\r\n\r\n"), "{}", wire::text(&seen));
}

#[tokio::test]
async fn continue_is_sent_before_the_body_comes() {
    let server = EchoServer::start("web", 0).unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(wire::text(&interim), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"x").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_request_and_with_the_time() {
    let server = EchoServer::start("web", 0).unwrap();
    let nothing = tokio::task::block_in_place(|| server.wait_received(1, Duration::from_millis(1)));
    assert_eq!(nothing, []);
    let sender = tokio::spawn({
        let address = server.address();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /w HTTP/1.1\r\n\r\n").await.unwrap();
            stream
        }
    });
    let one = tokio::task::block_in_place(|| server.wait_received(1, Duration::from_secs(20)));
    assert_eq!(one.len(), 1);
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn drop_ends_the_server_and_its_connections() {
    let server = EchoServer::start("web", 0).unwrap();
    let address = server.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_ne!(stream.read_u8().await.unwrap(), 0);
    drop(server);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(TcpStream::connect(address).await.is_err());
}
