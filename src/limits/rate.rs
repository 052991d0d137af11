//! How fast requests come: nginx's leaky bucket (`limit_req` with `nodelay`), to the thousandth of a request.

use super::{Key, read};

/// Most entries of a slot; the one that was not used for longest makes room.
pub const ENTRIES: usize = 16;

/// Bytes of an entry: key, time of the last request, and what is in the two buckets.
const ENTRY: usize = 24;

/// Longest step back of the clock that is taken for one worker's lagging behind another's, in milliseconds.
const LAG_MS: u64 = 60_000;

/// A limit on how fast requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What drains from the bucket, in thousandths of a request per second.
    pub per_second: u32,
    /// What the bucket holds besides the request that comes, in thousandths of a request.
    pub burst: u32,
}

struct Entry {
    key: u64,
    last_ms: u64,
    excess: [u32; 2],
}

impl Entry {
    fn decode(bytes: &[u8]) -> Self {
        Entry {
            key: u64::from_le_bytes(read(bytes, 0)),
            last_ms: u64::from_le_bytes(read(bytes, 8)),
            excess: [16, 20].map(|at| u32::from_le_bytes(read(bytes, at))),
        }
    }

    fn encode(&self, slot: &mut Vec<u8>) {
        slot.extend_from_slice(&self.key.to_le_bytes());
        slot.extend_from_slice(&self.last_ms.to_le_bytes());
        self.excess.iter().for_each(|excess| slot.extend_from_slice(&excess.to_le_bytes()));
    }
}

/// Counts a request against up to two rates: the slot with it counted in, or none where one of the rates is
/// exceeded. Then nothing is counted, as in nginx: a client that is refused does not have to wait longer.
pub fn admit(slot: &[u8], Key(key): Key, rates: [Option<Rate>; 2], now_ms: u64) -> Option<Vec<u8>> {
    let mut others: Vec<Entry> = Vec::with_capacity(ENTRIES);
    let mut known = None;
    for entry in slot.chunks_exact(ENTRY).map(Entry::decode) {
        if entry.key == key {
            known = Some(entry);
        } else {
            others.push(entry);
        }
    }
    // One from far in the future is of a clock that was set back since.
    let known = known.filter(|entry| entry.last_ms.saturating_sub(now_ms) <= LAG_MS);
    let entry = match known {
        None => Entry { key, last_ms: now_ms, excess: [0; 2] },
        Some(Entry { last_ms, excess, .. }) => {
            let passed_ms = now_ms.saturating_sub(last_ms);
            let mut counted = [0; 2];
            for ((counted, excess), rate) in counted.iter_mut().zip(excess).zip(rates) {
                let Some(rate) = rate else { continue };
                let drained = u64::from(rate.per_second).saturating_mul(passed_ms).checked_div(1000);
                let left = u64::from(excess).saturating_add(1000).saturating_sub(drained.unwrap_or(0));
                if left > u64::from(rate.burst) {
                    return None;
                }
                *counted = u32::try_from(left).unwrap_or(u32::MAX);
            }
            Entry { key, last_ms: if passed_ms == 0 { last_ms } else { now_ms }, excess: counted }
        }
    };
    if others.len() >= ENTRIES {
        let oldest = others.iter().enumerate().min_by_key(|(_, entry)| entry.last_ms).map(|(place, _)| place);
        oldest.map(|place| others.swap_remove(place));
    }
    let mut slot = Vec::with_capacity(others.len().saturating_add(1).saturating_mul(ENTRY));
    others.iter().chain([&entry]).for_each(|entry| entry.encode(&mut slot));
    Some(slot)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const ONE: Option<Rate> = Some(Rate { per_second: 1000, burst: 5000 });

    /// Which of requests at these times are admitted.
    fn admitted(rates: [Option<Rate>; 2], times: &[u64]) -> String {
        let mut slot = Vec::new();
        let mut outcome = |now_ms: &u64| match admit(&slot, Key(7), rates, *now_ms) {
            Some(counted) => {
                slot = counted;
                '+'
            }
            None => '-',
        };
        times.iter().map(&mut outcome).collect()
    }

    #[test]
    fn requests_are_admitted_as_nginx_does() {
        let per_minute = Some(Rate { per_second: 16, burst: 1000 });
        let none = Some(Rate { per_second: 1000, burst: 0 });
        type Case<'a> = ([Option<Rate>; 2], &'a [u64], &'a str);
        let cases: [Case<'_>; 8] = [
            ([ONE, None], &[0; 9], "++++++---"),
            ([ONE, None], &[0, 0, 0, 0, 0, 0, 999, 999, 1000, 1001], "++++++--+-"),
            ([none, None], &[0, 0, 999, 1000, 1999, 2000], "+--+-+"),
            ([per_minute, None], &[0, 0, 0, 60_000, 62_500, 62_500, 125_100], "++--+-+"),
            // The stricter of two counts, and what it refuses is not charged to the other.
            ([ONE, per_minute], &[0, 0, 0, 1000, 2000], "++---"),
            ([None, None], &[0, 0, 0], "+++"),
            // A clock that lags behind neither charges nor frees; one that was set back starts anew.
            ([none, None], &[5000, 4000, 5999, 6000], "+--+"),
            ([none, None], &[100_000_000, 1000, 1000, 2000], "++-+"),
        ];
        for (rates, times, expected) in cases {
            assert_eq!(admitted(rates, times), expected, "{rates:?} {times:?}");
        }
    }

    #[test]
    fn a_slot_is_bounded_and_the_oldest_makes_room() {
        let mut slot = Vec::new();
        for client in 0..1000_u64 {
            slot = admit(&slot, Key(client), [ONE, None], client).expect("the first request of a client");
            assert!(slot.len() <= ENTRIES * ENTRY, "{client}");
        }
        let kept: Vec<u64> = slot.chunks_exact(ENTRY).map(|entry| Entry::decode(entry).key).collect();
        assert_eq!(kept.len(), ENTRIES);
        assert!(kept.iter().all(|key| *key >= 1000 - ENTRIES as u64), "{kept:?}");
    }

    #[test]
    fn any_bytes_are_a_slot() {
        for length in 0..200 {
            let slot = vec![0xff; length];
            let _ = admit(&slot, Key(u64::MAX), [ONE, ONE], 0);
            assert!(admit(&slot, Key(1), [ONE, ONE], u64::MAX).is_some(), "{length}");
        }
    }
}
