//! Counting in the data that all workers share. Each change is a read and a conditional write, repeated if another
//! worker was faster; what cannot be counted is not admitted.
//!
//! What holds when something ends: a request is counted back when its context goes, which Envoy sees to however
//! the stream ends, resets included. A changed configuration changes nothing: the VM and its name stay. What a VM
//! that crashed had counted is no longer believed after [`connections::LEASE_MS`].

use std::cell::RefCell;

use super::host::{self, HostError};
use super::http::now_ms;
use crate::decision::{Admission, Count};
use crate::limits::{Key, connections, rate};

/// How often a change is tried again.
const TRIES: usize = 64;
/// The list of workers.
const WORKERS: &[u8] = b"workers";

/// What is known of the workers that count requests under way.
#[derive(Debug)]
struct Workers {
    /// The name of this one.
    own: u64,
    /// Those that lived when they were listed last; empty: this one has not counted yet.
    living: Vec<u64>,
}

thread_local! {
    /// A VM has one thread.
    static KNOWN: RefCell<Workers> = const { RefCell::new(Workers { own: 0, living: Vec::new() }) };
}

/// A request under way; counted back when it is dropped.
#[derive(Debug)]
pub struct Lease(Key);

/// Counts a request, and gives what counts it back.
pub fn count(count: &Count) -> (Admission, Option<Lease>) {
    if count.rates.iter().any(Option::is_some) {
        let now_ms = now_ms();
        let counted =
            change(&name(b'r', count.key), |slot| rate::admit(slot, count.key, count.rates, now_ms));
        if !matches!(counted, Ok(true)) {
            return (Admission::TooFast, None);
        }
    }
    let Some(most) = count.connections else { return (Admission::Admitted, None) };
    match enter(count.key, most) {
        Ok(true) => (Admission::Admitted, Some(Lease(count.key))),
        _ => (Admission::TooMany, None),
    }
}

fn enter(key: Key, most: u32) -> Result<bool, HostError> {
    if KNOWN.with_borrow(|known| known.living.is_empty()) {
        beat()?;
    }
    match try_to_enter(key, most, false)? {
        Some(entered) => Ok(entered),
        None => {
            // A worker that has begun since the list was read is in it by now.
            beat()?;
            try_to_enter(key, most, true).map(|entered| entered == Some(true))
        }
    }
}

/// None: there is an entry of a worker that is not on the list, and the list need not be the newest.
fn try_to_enter(key: Key, most: u32, newest: bool) -> Result<Option<bool>, HostError> {
    KNOWN.with_borrow(|known| {
        let mut stranger = false;
        let entered = change(&name(b'c', key), |slot| {
            stranger = !newest && connections::names_others(slot, &known.living);
            if stranger { None } else { connections::enter(slot, key, most, known.own, &known.living) }
        })?;
        Ok((!stranger).then_some(entered))
    })
}

impl Drop for Lease {
    fn drop(&mut self) {
        let own = KNOWN.with_borrow(|known| known.own);
        let left = change(&name(b'c', self.0), |slot| Some(connections::leave(slot, self.0, own)));
        if let Err(HostError(status)) = left {
            log::error!("a request that ended was not counted back: a host call failed with status {status}");
        }
    }
}

/// Names this worker. Others know it by this name for as long as the VM lives.
pub fn name_worker(name: u64) {
    KNOWN.with_borrow_mut(|known| {
        if known.own == 0 {
            known.own = name;
        }
    });
}

/// Says that this worker lives, if it counts at all, and learns which others do.
pub fn tick() {
    if KNOWN.with_borrow(|known| !known.living.is_empty())
        && let Err(HostError(status)) = beat()
    {
        log::error!(
            "the list of workers was not brought up to date: a host call failed with status {status}"
        );
    }
}

fn beat() -> Result<(), HostError> {
    let now_ms = now_ms();
    KNOWN.with_borrow_mut(|known| {
        change(WORKERS, |list| {
            let (list, living) = connections::beat(list, known.own, now_ms);
            known.living = living;
            Some(list)
        })
        .map(drop)
    })
}

/// The name of a slot: which table, and which of its slots.
fn name(table: u8, key: Key) -> [u8; 3] {
    let [low, high] = key.slot().to_le_bytes();
    [table, low, high]
}

/// Changes an entry of the shared data. The change gives none where it refuses: then nothing is written, and the
/// result is false.
fn change(name: &[u8], mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Result<bool, HostError> {
    for _ in 0..TRIES {
        let (bytes, version) = host::shared_data(name)?;
        let Some(changed) = change(&bytes) else { return Ok(false) };
        if host::set_shared_data(name, &changed, version)? {
            return Ok(true);
        }
    }
    Err(HostError(-1))
}
