//! Requests without a pause, and how many of them failed.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How many connections send.
const CONNECTIONS: usize = 4;

/// After how many requests a connection is opened anew.
const KEPT: usize = 100;

/// Load that is on.
pub struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Counts>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that were sent.
    pub sent: u64,
    /// Those that were not answered with 200.
    pub failed: u64,
    /// What happened to the first of those.
    pub first: Option<String>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.sent, self.failed)
    }
}

impl Load {
    /// Begins to ask for `/` of a host.
    pub fn start(address: SocketAddr, host: &str) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let threads = (0..CONNECTIONS)
            .map(|_| {
                let (over, request) = (Arc::clone(&over), request.clone());
                thread::spawn(move || send(address, &request, &over))
            })
            .collect();
        Load { over, threads }
    }

    /// Ends it.
    pub fn end(self) -> Counts {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Counts::default();
        for counts in self.threads.into_iter().filter_map(|thread| thread.join().ok()) {
            all.sent += counts.sent;
            all.failed += counts.failed;
            all.first = all.first.or(counts.first);
        }
        all
    }
}

fn send(address: SocketAddr, request: &str, over: &AtomicBool) -> Counts {
    let mut counts = Counts::default();
    let mut open: Option<(BufReader<TcpStream>, usize)> = None;
    while !over.load(Ordering::Relaxed) {
        let (connection, used) = match open.take() {
            Some((connection, used)) if used < KEPT => (Ok(connection), used),
            _ => (connect(address), 0),
        };
        counts.sent += 1;
        let outcome = connection.and_then(|mut connection| {
            let (status, stays) = exchange(&mut connection, request)?;
            Ok((status, stays.then_some((connection, used + 1))))
        });
        let fault = match outcome {
            Ok((status, kept)) => {
                open = kept;
                (status != 200).then(|| format!("status {status}"))
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(fault) = fault {
            counts.failed += 1;
            counts.first.get_or_insert(fault);
        }
        // The machine has other things to do, too.
        thread::sleep(Duration::from_millis(1));
    }
    counts
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(BufReader::new(stream))
}

/// The status, and whether the connection stays open.
fn exchange(connection: &mut BufReader<TcpStream>, request: &str) -> io::Result<(u16, bool)> {
    connection.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut length, mut stays) = (0, 0, true);
    let mut line = String::new();
    loop {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            break;
        } else if let Some(rest) = text.strip_prefix("http/1.1 ") {
            status = rest.split(' ').next().and_then(|status| status.parse().ok()).unwrap_or(0);
        } else if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        } else if text == "connection: close" {
            stays = false;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok((status, stays))
}
