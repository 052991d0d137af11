//! Requests on connections that are kept, for what wrk cannot tell: which answer a request got, and how long that one
//! took.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection; it is made when it is first used, and anew after a fault.
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Connection {
    pub fn new(address: SocketAddr) -> Self {
        Connection { address, stream: None }
    }

    /// Sends a request without a body, with these header lines and `Host`; the status, and how long it took.
    ///
    /// # Errors
    ///
    /// Where there is no answer, or one without Content-Length.
    pub fn get(&mut self, host: &str, target: &str, headers: &str) -> io::Result<(u16, Duration)> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        let start = Instant::now();
        let answered = self.exchange(request.as_bytes());
        if answered.is_err() {
            self.stream = None;
        }
        Ok((answered?, start.elapsed()))
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(LIMIT))?;
                self.stream.insert(stream)
            }
        };
        stream.write_all(request)?;
        let mut received = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let count = stream.read(&mut buffer)?;
            received.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(status) = answered(&received)? {
                return Ok(status);
            }
        }
    }
}

/// The status of an answer that is there as a whole.
fn answered(received: &[u8]) -> io::Result<Option<u16>> {
    let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let head = String::from_utf8_lossy(received.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(invalid)?;
    let body = received.len() - end - 4;
    if head.contains("transfer-encoding: chunked") {
        return Ok(received.ends_with(b"0\r\n\r\n").then_some(status));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).ok_or_else(invalid)?;
    Ok((body >= length).then_some(status))
}

/// What so many in a hundred are at most; the times need not be in order.
pub fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut ascending = times.to_vec();
    ascending.sort_unstable();
    let position = (ascending.len() * percent).div_ceil(100).saturating_sub(1);
    ascending.get(position).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_end() {
        let cases: [(&[u8], Option<u16>); 5] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", None),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Some(200)),
            (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", Some(503)),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", None),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Some(200)),
        ];
        for (wire, expected) in cases {
            assert_eq!(answered(wire).ok().flatten(), expected, "{}", wire.escape_ascii());
        }
        assert!(answered(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn percentiles() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        for (percent, expected) in [(50, 100), (99, 198), (100, 200)] {
            assert_eq!(percentile(&times, percent), Duration::from_millis(expected), "{percent}");
        }
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
