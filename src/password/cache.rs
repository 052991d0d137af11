//! A memory of verified passwords, so that a slow hash runs once a minute for a user and not on each request.

use std::collections::VecDeque;
use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Remembers which user and password were verified against which credentials.
///
/// It holds HMAC-SHA-256 tags under a key that the caller draws at random, and neither users nor passwords. A
/// cryptographic tag and not SipHash: a collision here would let a wrong password in, and the module has SHA-256
/// already.
///
/// Clear it, or make a new one, when credentials change.
pub struct VerifiedCache {
    key: [u8; 32],
    capacity: usize,
    lifetime_ms: u64,
    /// Oldest first.
    entries: VecDeque<Entry>,
}

struct Entry {
    tag: [u8; 32],
    /// Milliseconds, by the caller's clock.
    since_ms: u64,
}

impl VerifiedCache {
    /// Entries that are kept at most, 40 kB of memory.
    pub const CAPACITY: usize = 1024;
    /// How long an entry counts, in milliseconds.
    pub const LIFETIME_MS: u64 = 60_000;

    /// An empty cache of [`VerifiedCache::CAPACITY`] and [`VerifiedCache::LIFETIME_MS`]. The key must be random
    /// and secret.
    pub fn new(key: [u8; 32]) -> Self {
        VerifiedCache::with_limits(key, VerifiedCache::CAPACITY, VerifiedCache::LIFETIME_MS)
    }

    /// An empty cache with limits of its own: the most entries, of which the oldest goes first, and how long an
    /// entry counts, in milliseconds.
    pub fn with_limits(key: [u8; 32], capacity: usize, lifetime_ms: u64) -> Self {
        VerifiedCache { key, capacity, lifetime_ms, entries: VecDeque::new() }
    }

    /// Whether this was remembered and has not expired. `credentials` tells sets of users apart, `now_ms` is the
    /// time in milliseconds by any clock. An entry from the future does not count: the clock was set back.
    pub fn contains(&self, credentials: u64, user: &[u8], password: &[u8], now_ms: u64) -> bool {
        let Some(tag) = self.tag(credentials, user, password) else { return false };
        self.holds(&tag, now_ms)
    }

    /// Remembers what was verified just now. What is remembered already does not live longer for it.
    pub fn remember(&mut self, credentials: u64, user: &[u8], password: &[u8], now_ms: u64) {
        let Some(tag) = self.tag(credentials, user, password) else { return };
        let lifetime_ms = self.lifetime_ms;
        self.entries.retain(|entry| entry.is_alive(now_ms, lifetime_ms));
        if self.capacity == 0 || self.holds(&tag, now_ms) {
            return;
        }
        while self.entries.len() >= self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { tag, since_ms: now_ms });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    fn holds(&self, tag: &[u8; 32], now_ms: u64) -> bool {
        // Not in constant time: who does not have the key cannot choose a tag, so a near one teaches nothing.
        self.entries.iter().any(|entry| entry.tag == *tag && entry.is_alive(now_ms, self.lifetime_ms))
    }

    /// None where the key is refused, which HMAC does with no key.
    fn tag(&self, credentials: u64, user: &[u8], password: &[u8]) -> Option<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(&credentials.to_le_bytes());
        // With its length, so that user and password cannot be divided differently.
        mac.update(&u64::try_from(user.len()).ok()?.to_le_bytes());
        mac.update(user);
        mac.update(password);
        Some(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for VerifiedCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifiedCache({} of {})", self.entries.len(), self.capacity)
    }
}

impl Entry {
    fn is_alive(&self, now_ms: u64, lifetime_ms: u64) -> bool {
        now_ms.checked_sub(self.since_ms).is_some_and(|age| age < lifetime_ms)
    }
}
