//! What a backend has received: a bounded list that can be waited on.
//!
//! It knows nothing of sockets and of answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::RECORDS_KEPT;

/// A request as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Counts the requests of one server from 0; never reset.
    pub serial: u64,
    /// The method.
    pub method: Vec<u8>,
    /// The request target, raw path and query.
    pub target: Vec<u8>,
    /// The version as the request line has it, `HTTP/1.1`.
    pub version: Vec<u8>,
    /// Names and values in the order and with the case of the wire.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first [`BODY_KEPT`](crate::BODY_KEPT) bytes of the body, chunk framing removed.
    pub body: Vec<u8>,
    /// The length of the whole body in bytes.
    pub body_bytes: u64,
    /// False while the body is still coming, and for good when the sender gave up in the middle.
    pub complete: bool,
    /// The address that connected.
    pub peer: SocketAddr,
}

/// The requests of one server.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Mutex<Entries>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Entries {
    next_serial: u64,
    list: VecDeque<Received>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Entries are whole after every statement, so a poisoned lock still guards good data.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request whose head has come; gives its serial.
    pub(crate) fn begin(&self, mut received: Received) -> u64 {
        let mut entries = self.lock();
        let serial = entries.next_serial;
        entries.next_serial += 1;
        received.serial = serial;
        if entries.list.len() >= RECORDS_KEPT {
            entries.list.pop_front();
        }
        entries.list.push_back(received);
        serial
    }

    /// Adds the body to the request with this serial, unless it was forgotten in the meantime.
    pub(crate) fn finish(&self, serial: u64, body: &[u8], body_bytes: u64) {
        let mut entries = self.lock();
        if let Some(entry) = entries.list.iter_mut().find(|entry| entry.serial == serial) {
            body.clone_into(&mut entry.body);
            entry.body_bytes = body_bytes;
            entry.complete = true;
        }
        drop(entries);
        self.changed.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<Received> {
        self.lock().list.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.lock().list.clear();
    }

    pub(crate) fn wait(&self, count: usize, timeout: Duration) -> Vec<Received> {
        let end = Instant::now() + timeout;
        let mut entries = self.lock();
        loop {
            let complete = entries.list.iter().filter(|entry| entry.complete).count();
            let left = end.saturating_duration_since(Instant::now());
            if complete >= count || left.is_zero() {
                return entries.list.iter().cloned().collect();
            }
            entries = match self.changed.wait_timeout(entries, left) {
                Ok((entries, _)) => entries,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
