//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt as _;

/// Doubling, jittered waits. They start over only after a complete exchange: a connection that opens
/// and fails at once must not reset them.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            first,
            longest,
        }
    }

    /// The next wait, 75 to 125 % of its nominal length so that attempts of many devices are spread.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = jittered(self.next);
        self.next = (self.next * 2).min(self.longest);
        wait
    }

    /// The device answered: the next wait is the shortest.
    pub(super) fn on_success(&mut self) {
        self.next = self.first;
    }
}

/// 75 to 125 % of a duration.
pub(super) fn jittered(nominal: Duration) -> Duration {
    nominal.mul_f64(rand::rng().random_range(0.75..=1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for nominal in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let wait = backoff.wait().as_secs_f64();
            assert!(
                (nominal * 0.75..=nominal * 1.25).contains(&wait),
                "{nominal}: {wait}"
            );
        }
        backoff.on_success();
        assert!(backoff.wait() <= Duration::from_millis(1250));
    }
}
