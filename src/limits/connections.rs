//! How many requests of a client are under way (nginx `limit_conn`).
//!
//! Each worker counts its own in entries that bear its name. A worker that ends without counting back (its VM
//! crashed) thus leaves entries that nobody trusts any more once it is no longer among the living: each worker says
//! from time to time that it lives, in a list of their own.

use super::{Key, read};

/// Most entries of a slot: clients with requests under way, times workers. A client that finds no room is refused.
const ENTRIES: usize = 256;

/// Bytes of an entry: key, worker, count.
const ENTRY: usize = 20;

/// Bytes of an entry in the list of workers: its name, and when it last said that it lives.
const WORKER: usize = 16;

/// How long a worker is believed to live, in milliseconds.
pub const LEASE_MS: u64 = 60_000;

/// How often a worker says that it lives, in milliseconds.
pub const BEAT_MS: u64 = 10_000;

struct Entry {
    key: u64,
    worker: u64,
    count: u32,
}

impl Entry {
    fn decode(bytes: &[u8]) -> Self {
        Entry {
            key: u64::from_le_bytes(read(bytes, 0)),
            worker: u64::from_le_bytes(read(bytes, 8)),
            count: u32::from_le_bytes(read(bytes, 16)),
        }
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut slot = Vec::with_capacity(entries.len().saturating_mul(ENTRY));
    for entry in entries.iter().filter(|entry| entry.count > 0) {
        slot.extend_from_slice(&entry.key.to_le_bytes());
        slot.extend_from_slice(&entry.worker.to_le_bytes());
        slot.extend_from_slice(&entry.count.to_le_bytes());
    }
    slot
}

/// Whether the slot has an entry of a worker that is not among these: perhaps it has begun since they were listed.
pub fn names_others(slot: &[u8], living: &[u64]) -> bool {
    slot.chunks_exact(ENTRY).any(|entry| !living.contains(&Entry::decode(entry).worker))
}

/// Counts a request of a client that begins: the slot with it counted in, or none where as many as allowed are
/// under way. Entries of workers that are not among the living are dropped.
pub fn enter(slot: &[u8], Key(key): Key, most: u32, worker: u64, living: &[u64]) -> Option<Vec<u8>> {
    let mut entries: Vec<Entry> = slot.chunks_exact(ENTRY).map(Entry::decode).collect();
    entries.retain(|entry| entry.worker == worker || living.contains(&entry.worker));
    let under_way =
        entries.iter().filter(|entry| entry.key == key).fold(0_u32, |sum, e| sum.saturating_add(e.count));
    if under_way >= most {
        return None;
    }
    let full = entries.len() >= ENTRIES;
    match entries.iter_mut().find(|entry| entry.key == key && entry.worker == worker) {
        Some(entry) => entry.count = entry.count.saturating_add(1),
        None if full => return None,
        None => entries.push(Entry { key, worker, count: 1 }),
    }
    Some(encode(&entries))
}

/// Counts a request of a client back that ends.
pub fn leave(slot: &[u8], Key(key): Key, worker: u64) -> Vec<u8> {
    let mut entries: Vec<Entry> = slot.chunks_exact(ENTRY).map(Entry::decode).collect();
    let own = entries.iter_mut().find(|entry| entry.key == key && entry.worker == worker);
    if let Some(entry) = own {
        entry.count = entry.count.saturating_sub(1);
    }
    encode(&entries)
}

/// The list of workers with one that lives now, and without those of which nothing was heard for
/// [`LEASE_MS`]; and the names in it.
pub fn beat(list: &[u8], worker: u64, now_ms: u64) -> (Vec<u8>, Vec<u64>) {
    let mut names = vec![worker];
    let mut beats = Vec::with_capacity(list.len().saturating_add(WORKER));
    let mut push = |name: u64, beat_ms: u64| {
        beats.extend_from_slice(&name.to_le_bytes());
        beats.extend_from_slice(&beat_ms.to_le_bytes());
    };
    push(worker, now_ms);
    for entry in list.chunks_exact(WORKER) {
        let (name, beat_ms) = (u64::from_le_bytes(read(entry, 0)), u64::from_le_bytes(read(entry, 8)));
        if name != worker && now_ms.abs_diff(beat_ms) <= LEASE_MS {
            push(name, beat_ms);
            names.push(name);
        }
    }
    (beats, names)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn requests_under_way_are_bounded_over_all_workers() {
        let mut slot = Vec::new();
        for (client, worker, admitted) in
            [(1, 1, true), (1, 2, true), (1, 1, true), (1, 2, false), (2, 2, true), (1, 3, false)]
        {
            let entered = enter(&slot, Key(client), 3, worker, &[1, 2, 3]);
            assert_eq!(entered.is_some(), admitted, "client {client} at worker {worker}");
            slot = entered.unwrap_or(slot);
        }
        slot = leave(&slot, Key(1), 2);
        assert!(enter(&slot, Key(1), 3, 3, &[1, 2, 3]).is_some());
        // One too many is not counted below nothing, and one of a client that was never counted is nothing.
        for (client, worker) in [(1, 2), (1, 1), (1, 1), (1, 1), (2, 2), (9, 9)] {
            slot = leave(&slot, Key(client), worker);
        }
        assert!(slot.is_empty(), "{slot:?}");
    }

    #[test]
    fn what_a_dead_worker_leaves_is_dropped() {
        let slot = enter(&[], Key(1), 1, 1, &[1]).expect("admitted");
        assert!(names_others(&slot, &[2]));
        assert!(!names_others(&slot, &[2, 1]));
        assert_eq!(enter(&slot, Key(1), 1, 2, &[1, 2]), None);
        let slot = enter(&slot, Key(1), 1, 2, &[2]).expect("admitted");
        assert_eq!(slot.len(), ENTRY);
    }

    #[test]
    fn a_full_slot_refuses() {
        let mut slot = Vec::new();
        for client in 0..ENTRIES as u64 {
            slot = enter(&slot, Key(client), 1, 1, &[1]).expect("room");
        }
        assert_eq!(enter(&slot, Key(u64::MAX), 1, 1, &[1]), None);
        let slot = leave(&slot, Key(5), 1);
        assert!(enter(&slot, Key(u64::MAX), 1, 1, &[1]).is_some());
    }

    #[test]
    fn workers_live_as_long_as_they_say_so() {
        let (list, names) = beat(&[], 1, 1000);
        assert_eq!(names, [1]);
        let (list, names) = beat(&list, 2, 1000 + LEASE_MS);
        assert_eq!(names, [2, 1]);
        let (list, names) = beat(&list, 2, 1001 + LEASE_MS);
        assert_eq!((list.len(), names), (WORKER, vec![2]));
        // A clock that was set back ends no worker that goes on saying so.
        let (_, names) = beat(&list, 2, 5);
        assert_eq!(names, [2]);
    }
}
