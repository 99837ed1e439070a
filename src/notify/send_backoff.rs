//! When a message that was not sent is tried again.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait after a failure. Each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_mins(10);

/// When a message that was not sent is tried again.
#[derive(Debug, Default)]
pub(super) struct SendBackoff {
    failures: u32,
    retry_at: Option<Instant>,
}

impl SendBackoff {
    /// Not before then.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// It failed again. Returns whether that is the first time.
    pub(super) fn fail(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + self.wait());
        self.failures == 1
    }

    fn wait(&self) -> Duration {
        let doubled = FIRST_RETRY.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        doubled.min(LONGEST_RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_waits_double_up_to_ten_minutes() {
        let mut backoff = SendBackoff::default();
        let mut wait = || {
            backoff.fail();
            (backoff.retry_at().unwrap() - Instant::now()).as_secs()
        };
        let waits: Vec<u64> = (1..=10).map(|_| wait()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        backoff.failures = u32::MAX;
        assert!(!backoff.fail());
        assert_eq!(backoff.wait(), LONGEST_RETRY);
    }
}
