//! The wall clock, the only place that asks the system for it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep_until};

/// Tells the time of day. A steered clock follows tokio's (possibly paused) time from a chosen
/// instant, so that a test can live through a year and jump the clock.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Steered {
        start: Timestamp,
        since: Instant,
        shift_ms: Arc<AtomicI64>,
    },
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that reads `start` now and advances with tokio's time.
    pub fn steered(start: Timestamp) -> Self {
        Self(Source::Steered {
            start,
            since: Instant::now(),
            shift_ms: Arc::default(),
        })
    }

    /// The instant on the wall.
    #[allow(clippy::disallowed_methods)] // This is the clock module.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Steered {
                start,
                since,
                shift_ms,
            } => {
                let passed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
                let shift = SignedDuration::from_millis(shift_ms.load(Ordering::Relaxed));
                start
                    .saturating_add(passed.saturating_add(shift))
                    .unwrap_or(*start)
            }
        }
    }

    /// Jumps a steered clock and all its clones, as a time server or a resumed machine would. The
    /// system's clock is left alone.
    pub fn jump(&self, by: SignedDuration) {
        if let Source::Steered { shift_ms, .. } = &self.0 {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            shift_ms.fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// Sleeps until an instant, or for ever where there is none: a branch of a `select!` that may be idle.
pub(crate) async fn sleep_until_some(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_steered_clock_follows_tokio_and_jumps() {
        let start: Timestamp = "2024-03-10T06:59:00Z".parse().unwrap();
        let clock = Clock::steered(start);
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(clock.now(), "2024-03-10T07:00:01Z".parse().unwrap());
        clock.clone().jump(SignedDuration::from_hours(-1));
        assert_eq!(clock.now(), "2024-03-10T06:00:01Z".parse().unwrap());
    }
}
