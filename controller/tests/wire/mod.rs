//! Plain sockets on both sides of Envoy, so that a test sees each byte.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server on a loopback port, for as long as the value lives.
pub struct Backend {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// Answers with its name, and with the head of the request as body.
    pub async fn start(name: &'static str) -> Backend {
        Backend::with(move |mut stream| async move {
            while let Some(head) = read_head(&mut stream).await {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {}\r\n\r\n{head}",
                    head.len()
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// Reads requests and says nothing.
    pub async fn silent() -> Backend {
        Backend::with(|mut stream| async move { while read_head(&mut stream).await.is_some() {} }).await
    }

    /// Reads a request and hangs up.
    pub async fn rude() -> Backend {
        Backend::with(|mut stream| async move { drop(read_head(&mut stream).await) }).await
    }

    /// Takes up a WebSocket and echoes whatever comes.
    pub async fn websocket() -> Backend {
        Backend::with(|mut stream| async move {
            let Some(head) = read_head(&mut stream).await else { return };
            assert!(head.to_ascii_lowercase().contains("upgrade: websocket\r\n"), "{head}");
            let answer =
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                let (mut read, mut write) = stream.split();
                // Ends with the client.
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        })
        .await
    }

    /// A port on which nobody listens.
    pub async fn closed_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("bound").port()
    }

    async fn with<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Backend
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Backend { port, task }
    }
}

/// What came back, as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The name of the backend that answered.
    pub fn backend(&self) -> &str {
        let found = self.head.lines().find_map(|line| line.strip_prefix("x-backend: "));
        found.unwrap_or_else(|| panic!("no backend answered: {self:?}"))
    }
}

/// A GET on a connection of its own.
pub async fn ask(address: SocketAddr, host: &str, path: &str) -> Answer {
    ask_raw(address, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
}

/// These bytes on a connection of their own, and all that comes until it is closed.
pub async fn ask_raw(address: SocketAddr, request: &str) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut bytes = Vec::new();
        // A reset after the answer is no concern of the tests.
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let text = tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("answers in time");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, head: format!("{head}\r\n"), body: body.to_owned() }
}

/// The head of the next request; none once the peer has closed.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A connection that has become a WebSocket.
pub async fn upgrade(address: SocketAddr, host: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request =
        format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let head = read_head(&mut stream).await.expect("answers");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// What comes back for this text.
pub async fn echo(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.expect("sends");
    let mut bytes = vec![0; text.len()];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut bytes));
    read.await.expect("in time").expect("echoes");
    String::from_utf8_lossy(&bytes).into_owned()
}
