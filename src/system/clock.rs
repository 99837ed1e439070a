//! The clocks of the machine. Nothing else asks the system for the time.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use planner::{Now, Steady};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep_until};

/// The wall clock and the steady clock. Steered clocks follow tokio's (possibly paused) time from a chosen moment, so
/// that a test can live through a year, set the wall clock and suspend the machine.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Steered {
        start: Timestamp,
        since: Instant,
        /// How far the wall clock was set, in ms.
        set_ms: Arc<AtomicI64>,
        /// How long the machine was suspended, in ms.
        suspended_ms: Arc<AtomicI64>,
    },
}

impl Clock {
    /// The clocks of the system.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Clocks of which the wall clock shows `start` now.
    pub fn steered(start: Timestamp) -> Self {
        Self(Source::Steered {
            start,
            since: Instant::now(),
            set_ms: Arc::default(),
            suspended_ms: Arc::default(),
        })
    }

    /// Both clocks at this moment.
    pub fn read(&self) -> Now {
        Now {
            wall: self.now(),
            steady: self.steady(),
        }
    }

    /// The wall clock.
    #[allow(clippy::disallowed_methods)] // This is the clock module.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Steered { start, set_ms, .. } => {
                let set = SignedDuration::from_millis(set_ms.load(Ordering::Relaxed));
                let passed = self.steady().as_duration();
                start.saturating_add(passed.saturating_add(set)).unwrap_or(*start)
            }
        }
    }

    /// The steady clock. tokio's and std's `Instant` stand still while the machine is suspended; this one does not.
    pub fn steady(&self) -> Steady {
        match &self.0 {
            Source::System => {
                let since_boot = clock_gettime(ClockId::Boottime);
                let nanos = i32::try_from(since_boot.tv_nsec).unwrap_or_default();
                Steady::since_boot(SignedDuration::new(since_boot.tv_sec, nanos))
            }
            Source::Steered {
                since, suspended_ms, ..
            } => {
                let passed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
                let suspended = SignedDuration::from_millis(suspended_ms.load(Ordering::Relaxed));
                Steady::since_boot(passed.saturating_add(suspended))
            }
        }
    }

    /// When tokio's timers reach a steady point, if the machine is not suspended before.
    pub fn instant_of(&self, at: Steady) -> Instant {
        let ahead = self.steady().until(at);
        // A century is as good as never.
        Instant::now() + ahead.min(std::time::Duration::from_hours(876_000))
    }

    /// The steady point of a deadline on tokio's clock.
    pub fn steady_of(&self, at: Instant) -> Steady {
        let ahead = SignedDuration::try_from(at.saturating_duration_since(Instant::now()));
        self.steady().after(ahead.unwrap_or(SignedDuration::MAX))
    }

    /// Sets a steered wall clock and all its clones, as a time server would. The system's clock is left as it is.
    pub fn jump(&self, by: SignedDuration) {
        if let Source::Steered { set_ms, .. } = &self.0 {
            set_ms.fetch_add(millis(by), Ordering::Relaxed);
        }
    }

    /// Suspends a steered machine: both clocks go on, tokio's timers stand still.
    pub fn suspend(&self, length: SignedDuration) {
        if let Source::Steered { suspended_ms, .. } = &self.0 {
            suspended_ms.fetch_add(millis(length), Ordering::Relaxed);
        }
    }
}

fn millis(length: SignedDuration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
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
    async fn a_steered_clock_follows_tokio_and_is_set() {
        let start: Timestamp = "2024-03-10T06:59:00Z".parse().unwrap();
        let clock = Clock::steered(start);
        let begin = clock.steady();
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(clock.now(), "2024-03-10T07:00:01Z".parse().unwrap());
        clock.clone().jump(SignedDuration::from_hours(-1));
        assert_eq!(clock.now(), "2024-03-10T06:00:01Z".parse().unwrap());
        assert_eq!(clock.steady().since(begin), SignedDuration::from_secs(61));
        clock.suspend(SignedDuration::from_hours(2));
        assert_eq!(clock.now(), "2024-03-10T08:00:01Z".parse().unwrap());
        assert_eq!(
            clock.steady().since(begin),
            SignedDuration::from_secs(2 * 3600 + 61)
        );
    }

    #[test]
    fn the_steady_clock_of_the_system_goes_on() {
        let clock = Clock::system();
        let (first, second) = (clock.steady(), clock.steady());
        assert!(second >= first && first > Steady::default());
    }
}
