//! An HTTP/1.1 client that puts on the wire what it is given and reads what comes, byte for byte.
//!
//! It follows no redirect, keeps no cookie and adds no header by itself. It knows nothing of cases.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use ingress_wasm_echo::wire::{Framing, Head, chunk_size, head_length};
use socket2::{Domain, Socket, Type};

use crate::tls::{self, TlsFacts, TlsStream, TlsTerms};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// How long nothing may come. Cases wait for seconds; half a minute means that nobody will answer.
const SILENCE: Duration = Duration::from_secs(30);

/// Where and how to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// The loopback address to connect from, if not the usual one.
    pub source: Option<Ipv4Addr>,
    /// TLS, if any.
    pub tls: Option<TlsTerms>,
}

impl Target {
    /// Plain HTTP to this address.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, source: None, tls: None }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The socket could not be connected.
    Socket(io::Error),
    /// The handshake failed.
    Handshake(io::Error),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "cannot connect: {error}"),
            Self::Handshake(error) => write!(f, "TLS handshake failed: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Socket(error) | ConnectError::Handshake(error) => error,
        }
    }
}

/// A request as it goes onto the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WireRequest {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// All header lines, `Host` and the framing of the body included.
    pub headers: Vec<(String, String)>,
    /// The body as it goes onto the wire.
    pub body: Vec<u8>,
}

impl WireRequest {
    /// A request without a body.
    pub fn new(method: &str, host: &str, target: &str) -> Self {
        let headers = vec![("Host".to_owned(), host.to_owned())];
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() }
    }

    /// With one more header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body whose length is declared.
    #[must_use]
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// With a body in chunks of at most this many bytes.
    #[must_use]
    pub fn chunked(mut self, body: &[u8], chunk: usize) -> Self {
        self.body.clear();
        for part in body.chunks(chunk.max(1)) {
            self.body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            self.body.extend_from_slice(part);
            self.body.extend_from_slice(b"\r\n");
        }
        self.body.extend_from_slice(b"0\r\n\r\n");
        self.header("Transfer-Encoding", "chunked")
    }

    fn head(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Header lines in order.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body, its framing removed.
    pub body: Vec<u8>,
}

impl Response {
    /// The values of a header, in order; names are compared without case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let matches = move |line: &&(Vec<u8>, Vec<u8>)| line.0.eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(matches).map(|(_, value)| value.as_slice())
    }

    /// The first value of a header as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.values(name).next().map(ingress_wasm_echo::wire::text)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Whether something to read, or the end, has come already.
    fn has_input(&mut self) -> bool {
        let _ = self.socket().set_nonblocking(true);
        let waiting = match self {
            Self::Plain(stream) => would_not_block(&stream.peek(&mut [0])),
            Self::Tls(stream) => tls_has_input(stream),
        };
        let _ = self.socket().set_nonblocking(false);
        waiting
    }
}

fn would_not_block<T>(result: &io::Result<T>) -> bool {
    !matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// What comes under TLS need not be for the reader: a server sends session tickets at its leisure.
fn tls_has_input(stream: &mut TlsStream) -> bool {
    loop {
        match stream.conn.process_new_packets() {
            Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
            _ => return true,
        }
        match stream.conn.read_tls(&mut stream.sock) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => match stream.read(bytes) {
                // Many servers end without telling so in TLS.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A connection, for one request after the other.
pub struct Connection {
    stream: Stream,
    facts: Option<TlsFacts>,
    buffer: Vec<u8>,
    ended: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the socket cannot be connected, or the handshake fails.
    pub fn open(target: &Target) -> Result<Self, ConnectError> {
        let stream = connect(target).map_err(ConnectError::Socket)?;
        let (stream, facts) = match &target.tls {
            None => (Stream::Plain(stream), None),
            Some(terms) => {
                let (stream, facts) = tls::connect(stream, terms).map_err(ConnectError::Handshake)?;
                (Stream::Tls(Box::new(stream)), Some(facts))
            }
        };
        Ok(Self { stream, facts, buffer: Vec::new(), ended: false })
    }

    /// What the handshake came to, if there was one.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.facts.as_ref()
    }

    /// Whether another request may follow: the last answer was read in full, and the server has not ended.
    pub fn reusable(&mut self) -> bool {
        !self.ended && self.buffer.is_empty() && !self.stream.has_input()
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    ///
    /// When the connection ends before the answer does, or when what comes is no HTTP/1 answer.
    pub fn exchange(&mut self, request: &WireRequest) -> io::Result<Response> {
        self.send(request)?;
        self.response(&request.method)
    }

    /// Sends a request. A server may answer before it has everything; then sending stops, and the answer can
    /// be read. Errors of sending are passed over for the same reason: the answer, or its absence, tells.
    ///
    /// # Errors
    ///
    /// When not even the head can be sent.
    pub fn send(&mut self, request: &WireRequest) -> io::Result<()> {
        let mut bytes = request.head();
        // Head and a short body go out together.
        let (first, rest) = request.body.split_at(request.body.len().min(16 * 1024));
        bytes.extend_from_slice(first);
        self.stream.write_all(&bytes)?;
        self.stream.flush()?;
        for part in rest.chunks(16 * 1024) {
            if self.stream.has_input() || self.stream.write_all(part).is_err() {
                // Part of the request is missing: nothing can follow on this connection.
                self.ended = true;
                break;
            }
        }
        let _ = self.stream.flush();
        Ok(())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// When they cannot be sent.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Reads an answer to a request of this method.
    ///
    /// # Errors
    ///
    /// When the connection ends before the answer does, or when what comes is no HTTP/1 answer.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let (mut response, head) = self.response_head()?;
        let bodiless = method == "HEAD" || matches!(response.status, 101 | 204 | 304);
        if response.status == 101 || head.has_token("Connection", "close") {
            self.ended = true;
        }
        if bodiless {
            return Ok(response);
        }
        match head.framing().map_err(|error| broken(format!("{error:?}")))? {
            Framing::Length(length) => {
                let length = usize::try_from(length).map_err(|_| broken("length".to_owned()))?;
                response.body = self.read_bytes(length)?;
            }
            Framing::Chunked => {
                while let Some(chunk) = self.chunk()? {
                    response.body.extend_from_slice(&chunk);
                }
            }
            Framing::Unnamed => {
                while self.fill()? {}
                self.ended = true;
                response.body = std::mem::take(&mut self.buffer);
            }
        }
        Ok(response)
    }

    /// Reads the head of an answer; interim answers are passed over, but 101 is none of them.
    ///
    /// # Errors
    ///
    /// As with [`response`](Self::response).
    pub fn response_head(&mut self) -> io::Result<(Response, Head)> {
        loop {
            let length = loop {
                if let Some(length) = head_length(&self.buffer) {
                    break length;
                }
                if !self.fill()? {
                    let message = format!("the connection ended after {} bytes", self.buffer.len());
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
                }
            };
            let bytes = self.take(length);
            let head = Head::parse(&bytes).map_err(|error| broken(format!("{error:?}")))?;
            let line = String::from_utf8_lossy(&head.start).into_owned();
            let mut words = line.split(' ');
            let version = words.next().filter(|version| version.starts_with("HTTP/1."));
            let status = words.next().and_then(|status| status.parse::<u16>().ok());
            let (Some(_), Some(status)) = (version, status) else {
                return Err(broken(format!("no status line: {line:?}")));
            };
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            return Ok((Response { status, headers: head.fields.clone(), body: Vec::new() }, head));
        }
    }

    /// Reads the next chunk of a body in chunks; `None` after the last.
    ///
    /// # Errors
    ///
    /// When the connection ends before, or the framing is broken.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = chunk_size(&line).and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| broken(format!("no chunk size: {line:?}")))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            return Ok(None);
        }
        let chunk = self.read_bytes(size)?;
        self.line()?;
        Ok(Some(chunk))
    }

    /// Reads exactly this many bytes.
    ///
    /// # Errors
    ///
    /// When the connection ends before.
    pub fn read_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill()? {
                let message = format!("the connection ended {} bytes too early", count - self.buffer.len());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
        }
        Ok(self.take(count))
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line = self.take(end + 1);
                line.truncate(end);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count.min(self.buffer.len()));
        std::mem::replace(&mut self.buffer, rest)
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(bytes.get(..count).unwrap_or_default());
        self.ended |= count == 0;
        Ok(count > 0)
    }
}

fn connect(target: &Target) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target.address), Type::STREAM, None)?;
    if let Some(source) = target.source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect_timeout(&target.address.into(), CONNECT)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// One request on a connection of its own.
///
/// # Errors
///
/// When there is no connection or no answer.
pub fn once(target: &Target, request: &WireRequest) -> io::Result<Response> {
    Connection::open(target)?.exchange(request)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each connection with the next of these bytes once it has read a head, and ends.
    fn server(answers: Vec<Vec<u8>>) -> (SocketAddr, std::thread::JoinHandle<Vec<Vec<u8>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = Vec::new();
                while head_length(&bytes).is_none() {
                    let mut part = [0; 4096];
                    let count = stream.read(&mut part).unwrap();
                    assert_ne!(count, 0);
                    bytes.extend_from_slice(&part[..count]);
                }
                stream.write_all(&answer).unwrap();
                seen.push(bytes);
            }
            seen
        });
        (address, thread)
    }

    #[test]
    fn bytes_go_out_as_given() {
        let (address, thread) = server(vec![b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()]);
        let request = WireRequest::new("gEt", "A.example:1", "/../a b//%zz?#x")
            .header("x-y", "é")
            .body(b"abc".to_vec());
        assert_eq!(once(&Target::plain(address), &request).unwrap().status, 204);
        let expected =
            "gEt /../a b//%zz?#x HTTP/1.1\r\nHost: A.example:1\r\nx-y: é\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(String::from_utf8_lossy(&thread.join().unwrap()[0]), expected);
    }

    #[test]
    fn answers_are_read_to_their_end() {
        type Read = Result<(u16, &'static str), io::ErrorKind>;
        let cases: &[(&str, &str, Read)] = &[
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", Ok((200, "abc"))),
            (
                "GET",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\nT: t\r\n\r\n",
                Ok((200, "abcd")),
            ),
            ("GET", "HTTP/1.0 404 no such thing\r\n\r\nto the end", Ok((404, "to the end"))),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Ok((200, ""))),
            ("GET", "HTTP/1.1 304\r\nContent-Length: 3\r\n\r\n", Ok((304, ""))),
            (
                "GET",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
                Ok((201, "")),
            ),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc", Err(io::ErrorKind::UnexpectedEof)),
            ("GET", "HTTP/1.1 200 OK\r\nContent-", Err(io::ErrorKind::UnexpectedEof)),
            ("GET", "SSH-2.0\r\n\r\n", Err(io::ErrorKind::InvalidData)),
        ];
        let (address, thread) =
            server(cases.iter().map(|(_, answer, _)| answer.as_bytes().to_vec()).collect());
        for (method, answer, expected) in cases {
            let result = once(&Target::plain(address), &WireRequest::new(method, "x", "/"));
            let result =
                result.map(|response| (response.status, response.text())).map_err(|error| error.kind());
            assert_eq!(result, expected.map(|(status, body)| (status, body.to_owned())), "{answer:?}");
        }
        thread.join().unwrap();
    }

    #[test]
    fn source_address_is_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target {
            address: listener.local_addr().unwrap(),
            source: Some(Ipv4Addr::new(127, 0, 0, 9)),
            tls: None,
        };
        let _connection = Connection::open(&target).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), Ipv4Addr::new(127, 0, 0, 9));
    }

    #[test]
    fn an_early_answer_stops_a_long_body() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").unwrap();
            // Held open, unread, until the client has its answer.
            stream.read_to_end(&mut Vec::new())
        });
        let mut connection = Connection::open(&Target::plain(address)).unwrap();
        let request = WireRequest::new("POST", "x", "/").body(vec![0; 50_000_000]);
        assert_eq!(connection.exchange(&request).unwrap().status, 413);
        assert!(!connection.reusable());
        drop(connection);
        let _ = thread.join().unwrap();
    }
}
