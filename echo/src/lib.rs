//! Echo backends: HTTP/1.1 servers on the loopback interface that answer with what they received.
//!
//! A proxy is judged by what arrives behind it, so nothing here normalises: the request target, header names
//! and header values are kept byte for byte, odd bytes included. That is why the request head is parsed here
//! and not by an HTTP library, which would refuse or rewrite exactly the requests that are worth testing.
//!
//! What a request can ask for:
//!
//! | where | form | effect |
//! |---|---|---|
//! | path | `/status/CODE` anywhere | answers with that status, 200 to 999 |
//! | path | `/delay/MS` anywhere | waits first, at most a minute |
//! | path | `/stream/N/MS` anywhere | N chunks, each flushed, with MS milliseconds between them |
//! | query | `set=Header:value`, percent-encoded, repeatable | adds response headers |
//! | header | `X-Echo-Response: {"for": SERVICE, "status": …, "headers": {…}, "body": …}` or a list of such | answers so when `for` names the service or is missing |
//! | header | `Upgrade: TOKEN` with `Sec-WebSocket-Key` | 101, then bytes are sent back as they come |
//!
//! Each answer carries [`BACKEND_HEADER`], which tells who answered and which record belongs to it.
//!
//! This crate deliberately knows nothing of Kubernetes, of Envoy and of test cases. It speaks no TLS and no
//! HTTP/2.

#![forbid(unsafe_code)]

mod answer;
mod connection;
mod record;
pub mod wire;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use crate::record::Log;
pub use crate::record::Received;

/// The response header that names who answered: `SERVICE/ENDPOINT/SERIAL`, where the serial is
/// [`Received::serial`] of the request that was answered.
pub const BACKEND_HEADER: &str = "X-Echo-Backend";

/// The most bytes of a request body that are kept and shown; the length is counted beyond it.
pub const BODY_KEPT: usize = 64 * 1024;

/// The most requests that a server remembers; the oldest are forgotten first.
pub const RECORDS_KEPT: usize = 4096;

/// Who answers, and what it has received so far.
#[derive(Debug)]
struct Backend {
    service: String,
    endpoint: usize,
    log: Log,
}

/// An echo backend that listens on a loopback port of its own until it is dropped.
#[derive(Debug)]
pub struct EchoServer {
    address: SocketAddr,
    backend: Arc<Backend>,
    accepting: Mutex<JoinHandle<()>>,
    runtime: Handle,
}

impl EchoServer {
    /// Starts a backend on 127.0.0.1 and a free port; it stands for the endpoint with this index of the
    /// service.
    ///
    /// # Errors
    ///
    /// When no port can be bound, or when called outside a tokio runtime.
    pub fn start(service: &str, endpoint: usize) -> io::Result<Self> {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), service, endpoint)
    }

    /// The same on another address of this machine.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_on(ip: IpAddr, service: &str, endpoint: usize) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let listener = std::net::TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        let backend = Arc::new(Backend { service: service.to_owned(), endpoint, log: Log::default() });
        let accepting = Mutex::new(accept_on(&runtime, listener, &backend)?);
        Ok(Self { address, backend, accepting, runtime })
    }

    /// Ends all connections, and takes no more until [`EchoServer::listen`]. The port is free some time after this.
    pub fn refuse(&self) {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner).abort();
    }

    /// Takes connections again after [`EchoServer::refuse`].
    ///
    /// # Errors
    ///
    /// When the port is not free, or not free yet.
    pub fn listen(&self) -> io::Result<()> {
        let listener = std::net::TcpListener::bind(self.address)?;
        let accepting = accept_on(&self.runtime, listener, &self.backend)?;
        *self.accepting.lock().unwrap_or_else(PoisonError::into_inner) = accepting;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The service it stands for.
    pub fn service(&self) -> &str {
        &self.backend.service
    }

    /// Which endpoint of its service it is, counted from 0.
    pub fn endpoint(&self) -> usize {
        self.backend.endpoint
    }

    /// The requests received since the start or the last [`clear`](Self::clear), oldest first; of more than
    /// [`RECORDS_KEPT`] the newest. A request whose body never came to its end is among them, marked so.
    pub fn received(&self) -> Vec<Received> {
        self.backend.log.all()
    }

    /// Waits until at least `count` requests have been received in full, or until the time is over; gives
    /// what there is then. Blocks the thread: not for use inside an asynchronous task.
    pub fn wait_received(&self, count: usize, timeout: Duration) -> Vec<Received> {
        self.backend.log.wait(count, timeout)
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.backend.log.clear();
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // The connections belong to the accepting task and end with it.
        self.refuse();
    }
}

fn accept_on(
    runtime: &Handle,
    listener: std::net::TcpListener,
    backend: &Arc<Backend>,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    Ok(runtime.spawn(accept(TcpListener::from_std(listener)?, Arc::clone(backend))))
}

async fn accept(listener: TcpListener, backend: Arc<Backend>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                connections.spawn(connection::serve(stream, peer, Arc::clone(&backend)));
            }
            // No descriptor left, most likely: some connection has to end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests;
