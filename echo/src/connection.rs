//! One connection: requests in, answers out, one after the other.
//!
//! It knows the framing of HTTP/1; what an answer says is decided in `answer`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::{Answer, Body, answer, identity};
use crate::record::Received;
use crate::wire::{Framing, Head, chunk_size, head_length};
use crate::{BODY_KEPT, Backend};

/// The longest head and the longest line of chunk framing that is read, in bytes.
const LONGEST_HEAD: usize = 1024 * 1024;

/// What RFC 6455, section 1.3 has a server append to the key.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Serves a connection until either side ends it. Errors of the connection end it as well; there is nobody
/// to tell.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, backend: Arc<Backend>) {
    let _ = stream.set_nodelay(true);
    let mut connection = Connection { stream, buffer: Vec::new() };
    while let Ok(true) = exchange(&mut connection, peer, &backend).await {}
}

/// Reads one request and answers it; true when the next one may follow.
async fn exchange(connection: &mut Connection, peer: SocketAddr, backend: &Backend) -> io::Result<bool> {
    let Some(bytes) = connection.head().await? else { return Ok(false) };
    let (head, framing) = match Head::parse(&bytes).and_then(|head| Ok((head.framing()?, head))) {
        Ok((framing, head)) => (head, framing),
        Err(_) => return connection.refuse().await,
    };
    let Some((method, target, version)) = request_line(&head.start) else {
        return connection.refuse().await;
    };
    let mut request = Received {
        serial: 0,
        method: method.to_vec(),
        target: target.to_vec(),
        version: version.to_vec(),
        headers: head.fields.clone(),
        body: Vec::new(),
        body_bytes: 0,
        complete: false,
        peer,
    };
    request.serial = backend.log.begin(request.clone());
    if head.has_token("Expect", "100-continue") {
        connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    (request.body, request.body_bytes) = connection.body(framing).await?;
    request.complete = true;
    backend.log.finish(request.serial, &request.body, request.body_bytes);
    if let Some(head) = upgrade(&head, backend, &request) {
        connection.stream.write_all(&head).await?;
        connection.send_back().await?;
        return Ok(false);
    }
    let keep = match version {
        b"HTTP/1.0" => head.has_token("Connection", "keep-alive"),
        _ => !head.has_token("Connection", "close"),
    };
    let answer = answer(backend, &request);
    tokio::time::sleep(answer.delay).await;
    connection.write(&answer, method == b"HEAD", version == b"HTTP/1.0", keep).await
}

/// Method, target and version. A target may hold anything, spaces included: what is between the first and
/// the last space.
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let first = line.iter().position(|byte| *byte == b' ')?;
    let last = line.iter().rposition(|byte| *byte == b' ').filter(|last| *last > first)?;
    let version = line.get(last + 1..).filter(|version| version.starts_with(b"HTTP/1."))?;
    Some((line.get(..first).filter(|method| !method.is_empty())?, line.get(first + 1..last)?, version))
}

/// The head that accepts an upgrade, if the request asks for one in the way of RFC 6455: with a key. Without
/// a key it is answered like any other, so that a test can see which headers arrived.
fn upgrade(head: &Head, backend: &Backend, request: &Received) -> Option<Vec<u8>> {
    let token = head.values("Upgrade").next().filter(|token| !token.is_empty())?;
    let key = head.values("Sec-WebSocket-Key").next()?;
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(WEBSOCKET_GUID);
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.finalize());
    let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n".to_vec();
    write_field(&mut bytes, b"Upgrade", token);
    write_field(&mut bytes, b"Sec-WebSocket-Accept", accept.as_bytes());
    let (name, value) = identity(backend, request);
    write_field(&mut bytes, &name, &value);
    bytes.extend_from_slice(b"\r\n");
    Some(bytes)
}

fn write_field(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The socket and what was read from it but not used yet.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Reads more; false at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(16 * 1024);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count.min(self.buffer.len()));
        std::mem::replace(&mut self.buffer, rest)
    }

    /// The bytes of the next head; `None` when the client has ended the connection.
    async fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(length) = head_length(&self.buffer) {
                return Ok(Some(self.take(length)));
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(broken("head too long"));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The body: as much of it as is kept, and its length.
    async fn body(&mut self, framing: Framing) -> io::Result<(Vec<u8>, u64)> {
        let mut kept = Vec::new();
        match framing {
            Framing::Unnamed => Ok((kept, 0)),
            Framing::Length(length) => {
                self.read_into(&mut kept, length).await?;
                Ok((kept, length))
            }
            Framing::Chunked => {
                let mut total = 0u64;
                loop {
                    let size = chunk_size(&self.line().await?).ok_or_else(|| broken("chunk size"))?;
                    if size == 0 {
                        break;
                    }
                    self.read_into(&mut kept, size).await?;
                    self.line().await?;
                    total = total.saturating_add(size);
                }
                while !self.line().await?.is_empty() {}
                Ok((kept, total))
            }
        }
    }

    /// Reads this many bytes; adds them as long as no more than [`BODY_KEPT`] are there.
    async fn read_into(&mut self, kept: &mut Vec<u8>, mut left: u64) -> io::Result<()> {
        while left > 0 {
            if self.buffer.is_empty() && !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let bytes = self.take(here);
            let room = BODY_KEPT.saturating_sub(kept.len()).min(here);
            kept.extend(bytes.into_iter().take(room));
            left = left.saturating_sub(here as u64);
        }
        Ok(())
    }

    /// A line of chunk framing, without its end.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line = self.take(end + 1);
                line.truncate(end);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(broken("line too long"));
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Answers what is no HTTP/1 request.
    async fn refuse(&mut self) -> io::Result<bool> {
        let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        self.stream.write_all(answer).await?;
        Ok(false)
    }

    /// Sends back what comes, until the client ends.
    async fn send_back(&mut self) -> io::Result<()> {
        loop {
            self.stream.write_all(&self.buffer).await?;
            self.buffer.clear();
            if !self.fill().await? {
                return self.stream.shutdown().await;
            }
        }
    }

    /// Writes an answer; true when the connection stays open.
    async fn write(&mut self, answer: &Answer, head_only: bool, old: bool, keep: bool) -> io::Result<bool> {
        let bodiless = matches!(answer.status, 204 | 304);
        // HTTP/1.0 has no chunks: there the end of the connection ends a stream.
        let keep = keep && !(old && matches!(answer.body, Body::Stream { .. }));
        let mut bytes = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status)).into_bytes();
        for (name, value) in &answer.headers {
            write_field(&mut bytes, name, value);
        }
        match &answer.body {
            _ if bodiless => {}
            Body::Whole(body) => {
                write_field(&mut bytes, b"Content-Length", body.len().to_string().as_bytes());
            }
            Body::Stream { .. } if old => {}
            Body::Stream { .. } => write_field(&mut bytes, b"Transfer-Encoding", b"chunked"),
        }
        if !keep {
            write_field(&mut bytes, b"Connection", b"close");
        }
        bytes.extend_from_slice(b"\r\n");
        match &answer.body {
            _ if bodiless || head_only => self.stream.write_all(&bytes).await?,
            Body::Whole(body) => {
                bytes.extend_from_slice(body);
                self.stream.write_all(&bytes).await?;
            }
            Body::Stream { chunks, pause } => {
                self.stream.write_all(&bytes).await?;
                self.write_stream(*chunks, *pause, old).await?;
            }
        }
        if !keep {
            self.stream.shutdown().await?;
        }
        Ok(keep)
    }

    async fn write_stream(&mut self, chunks: u32, pause: Duration, old: bool) -> io::Result<()> {
        for number in 0..chunks {
            if number > 0 {
                tokio::time::sleep(pause).await;
            }
            let text = format!("chunk {number}\n");
            let chunk = if old { text } else { format!("{:x}\r\n{text}\r\n", text.len()) };
            self.stream.write_all(chunk.as_bytes()).await?;
        }
        if old { Ok(()) } else { self.stream.write_all(b"0\r\n\r\n").await }
    }
}

/// The reason phrase; clients do not look at it, people do.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
