//! Calls to Envoy's admin interface, and the small HTTP client that they and the probes share.
//!
//! Deliberately knows nothing of the process and of why something is asked.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::envoy::Admin;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The exchange broke off.
    #[error("{0}")]
    Exchange(#[from] hyper::Error),
    /// Not the answer that was hoped for.
    #[error("status {0}")]
    Status(StatusCode),
    /// Not in the form that was expected.
    #[error("unreadable answer: {0}")]
    Answer(String),
}

/// A connection that can be used again and again.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: &Admin) -> Result<Connection, CallError> {
        match address {
            Admin::Tcp(address) => Connection::over(TcpStream::connect(address).await?).await,
            Admin::Unix(path) => Connection::over(UnixStream::connect(path).await?).await,
        }
    }

    async fn over<S>(stream: S) -> Result<Connection, CallError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender or the peer; the error, if any, is seen by whoever sends.
        tokio::spawn(connection);
        Ok(Connection { sender })
    }

    /// The head and body of the answer to a GET.
    pub(crate) async fn get(&mut self, path: &str) -> Result<(Response<()>, Bytes), CallError> {
        self.call(Method::GET, path).await
    }

    async fn call(&mut self, method: Method, path: &str) -> Result<(Response<()>, Bytes), CallError> {
        let request =
            Request::builder().method(method).uri(path).header("host", "localhost").body(Empty::new());
        let request = request.map_err(|error| CallError::Answer(error.to_string()))?;
        self.sender.ready().await?;
        let response: Response<Incoming> = self.sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((Response::from_parts(head, ()), body))
    }
}

/// What the admin interface answers to a GET.
///
/// # Errors
///
/// [`CallError`], also for any status but 200.
pub async fn get(admin: &Admin, path: &str) -> Result<Bytes, CallError> {
    let (head, body) = Connection::open(admin).await?.get(path).await?;
    if head.status() == StatusCode::OK { Ok(body) } else { Err(CallError::Status(head.status())) }
}

/// What the admin interface answers to a POST, which changes something.
///
/// # Errors
///
/// [`CallError`], also for any status but 200.
pub async fn post(admin: &Admin, path: &str) -> Result<Bytes, CallError> {
    let (head, body) = Connection::open(admin).await?.call(Method::POST, path).await?;
    if head.status() == StatusCode::OK { Ok(body) } else { Err(CallError::Status(head.status())) }
}

/// How many workers Envoy has.
///
/// # Errors
///
/// [`CallError`]
pub async fn concurrency(admin: &Admin) -> Result<NonZeroU32, CallError> {
    let body = get(admin, "/server_info").await?;
    let answer: Value =
        serde_json::from_slice(&body).map_err(|error| CallError::Answer(error.to_string()))?;
    let number = answer.pointer("/command_line_options/concurrency").and_then(Value::as_u64);
    let number = number.and_then(|number| u32::try_from(number).ok()).and_then(NonZeroU32::new);
    number.ok_or_else(|| CallError::Answer("server_info names no concurrency".to_owned()))
}

/// What Envoy calls its version, as in `COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
///
/// # Errors
///
/// [`CallError`]
pub async fn version(admin: &Admin) -> Result<String, CallError> {
    let body = get(admin, "/server_info").await?;
    let answer: Value =
        serde_json::from_slice(&body).map_err(|error| CallError::Answer(error.to_string()))?;
    let version = answer.get("version").and_then(Value::as_str);
    version.map(str::to_owned).ok_or_else(|| CallError::Answer("server_info names no version".to_owned()))
}

/// The TCP addresses at which Envoy's listeners really are, by name.
///
/// # Errors
///
/// [`CallError`]
pub async fn listeners(admin: &Admin) -> Result<BTreeMap<String, SocketAddr>, CallError> {
    let body = get(admin, "/listeners?format=json").await?;
    let answer: Value =
        serde_json::from_slice(&body).map_err(|error| CallError::Answer(error.to_string()))?;
    Ok(read_listeners(&answer))
}

fn read_listeners(answer: &Value) -> BTreeMap<String, SocketAddr> {
    let statuses = answer.get("listener_statuses").and_then(Value::as_array).into_iter().flatten();
    let read = |status: &Value| {
        let name = status.get("name")?.as_str()?.to_owned();
        let socket = status.get("local_address")?.get("socket_address")?;
        let address = socket.get("address")?.as_str()?.parse().ok()?;
        let port = u16::try_from(socket.get("port_value")?.as_u64()?).ok()?;
        Some((name, SocketAddr::new(address, port)))
    };
    statuses.filter_map(read).collect()
}

/// The address in the file that Envoy writes for `--admin-address-path`.
///
/// # Errors
///
/// [`CallError`], as long as the file is not there or not complete.
pub fn address_in_file(path: &Path) -> Result<SocketAddr, CallError> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| CallError::Answer(format!("{text:?} is no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_list_of_listeners() {
        let answer = serde_json::json!({"listener_statuses": [
            {"name": "http", "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}},
            {"name": "https", "local_address": {"socket_address": {"address": "::1", "port_value": 8443}}},
            {"name": "probe", "local_address": {"pipe": {"path": "/x"}}},
            {"name": "odd", "local_address": {"socket_address": {"address": "here", "port_value": 1}}},
        ]});
        let expected = [("http", "127.0.0.1:8080"), ("https", "[::1]:8443")]
            .map(|(name, address)| (name.to_owned(), address.parse().expect("an address")));
        assert_eq!(read_listeners(&answer), BTreeMap::from(expected));
        assert_eq!(read_listeners(&Value::Null), BTreeMap::new());
    }
}
