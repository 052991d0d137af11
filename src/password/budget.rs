//! How much of a worker's time goes into slow hashes. Each of them holds up every request of the worker, and
//! whoever sends wrong passwords decides how many are computed; so there is a budget for the worker as a whole,
//! and a smaller one for the wrong passwords of each client.

use std::collections::VecDeque;

/// Why a hash is not computed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Postponed {
    /// The client has sent wrong passwords for as long as it may.
    Client,
    /// The worker has computed hashes for as long as it may.
    Worker,
}

/// Time that may go into slow hashes, in microseconds as [`super::PasswordHash::work_us`] estimates it. What a
/// hash takes beyond what is left is taken from the time to come.
#[derive(Debug, Default)]
pub struct HashBudget {
    /// When the worker's budget was looked at last, in milliseconds by the caller's clock; none: never.
    since_ms: Option<u64>,
    spent_us: u64,
    /// Wrong passwords: whose, when and how much they took; oldest first.
    failures: VecDeque<Failure>,
}

#[derive(Debug)]
struct Failure {
    client: Box<[u8]>,
    at_ms: u64,
    work_us: u64,
}

impl HashBudget {
    /// How much of each second the worker may spend, in microseconds: three tenths.
    pub const WORKER_US_PER_SECOND: u64 = 300_000;
    /// How much one client's wrong passwords may take within [`HashBudget::CLIENT_MS`], in microseconds.
    pub const CLIENT_US: u64 = 250_000;
    /// The time for which wrong passwords count, in milliseconds.
    pub const CLIENT_MS: u64 = 10_000;
    /// Most wrong passwords that are remembered; the oldest go first.
    const MOST_FAILURES: usize = 256;

    /// Asks whether a hash may be computed for a client now.
    ///
    /// # Errors
    ///
    /// [`Postponed`]
    pub fn ask(&mut self, client: &[u8], now_ms: u64) -> Result<(), Postponed> {
        // One from the future does not count: the clock was set back.
        self.failures.retain(|f| now_ms.checked_sub(f.at_ms).is_some_and(|age| age < Self::CLIENT_MS));
        let own = self.failures.iter().filter(|failure| *failure.client == *client);
        if own.fold(0_u64, |sum, failure| sum.saturating_add(failure.work_us)) >= Self::CLIENT_US {
            return Err(Postponed::Client);
        }
        let passed_ms = self.since_ms.map_or(u64::MAX, |since| now_ms.saturating_sub(since));
        let regained = passed_ms.saturating_mul(Self::WORKER_US_PER_SECOND) / 1000;
        self.spent_us = self.spent_us.saturating_sub(regained);
        self.since_ms = Some(now_ms);
        if self.spent_us >= Self::WORKER_US_PER_SECOND { Err(Postponed::Worker) } else { Ok(()) }
    }

    /// Takes down that a hash was computed, and whether the password was the right one.
    pub fn spend(&mut self, client: &[u8], work_us: u64, right: bool, now_ms: u64) {
        self.spent_us = self.spent_us.saturating_add(work_us);
        if right {
            return;
        }
        while self.failures.len() >= Self::MOST_FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(Failure { client: client.into(), at_ms: now_ms, work_us });
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_client_with_wrong_passwords_waits_and_others_do_not() {
        let mut budget = HashBudget::default();
        for (now, expected) in [(0, Ok(())), (1, Ok(())), (2, Ok(())), (3, Err(Postponed::Client))] {
            assert_eq!(budget.ask(b"a", now), expected, "{now}");
            if expected.is_ok() {
                budget.spend(b"a", 90_000, false, now);
            }
        }
        assert_eq!(budget.ask(b"b", 4), Ok(()));
        assert_eq!(budget.ask(b"a", 9_999), Err(Postponed::Client));
        assert_eq!(budget.ask(b"a", 10_000), Ok(()), "the first is forgotten");
    }

    #[test]
    fn right_passwords_count_for_the_worker_only() {
        let mut budget = HashBudget::default();
        for client in 0_u8..3 {
            assert_eq!(budget.ask(&[client], 5), Ok(()), "{client}");
            budget.spend(&[client], 100_000, true, 5);
        }
        assert_eq!(budget.ask(b"x", 5), Err(Postponed::Worker));
        assert_eq!(budget.ask(b"x", 6), Ok(()), "a millisecond gives some back");
        budget.spend(b"x", 600_000, true, 6);
        assert_eq!(budget.ask(b"x", 1_000), Err(Postponed::Worker), "the debt is paid first");
        assert_eq!(budget.ask(b"x", 3_000), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut budget = HashBudget::default();
        for number in 0_u32..1000 {
            budget.spend(&number.to_le_bytes(), 1, false, 0);
        }
        assert_eq!(budget.failures.len(), HashBudget::MOST_FAILURES);
    }
}
