//! Pauses before what failed is tried again: each twice as long as the one before, up to a bound.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(250);

/// The longest: an API server that comes back is seen soon, and one in distress is not pressed.
const LONGEST: Duration = Duration::from_secs(10);

/// A series of pauses.
#[derive(Debug)]
pub struct Pause {
    next: Duration,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause { next: FIRST }
    }
}

impl Pause {
    /// Waits.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.take()).await;
    }

    /// It went well: the next series begins anew.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next pause, for those who wait by themselves.
    pub fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_bounded() {
        let mut pause = Pause::default();
        let taken: Vec<u128> = (0..8).map(|_| pause.take().as_millis()).collect();
        assert_eq!(taken, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        pause.reset();
        assert_eq!(pause.take(), FIRST);
    }
}
