//! The clock inside a device. It starts at the time of day and can be moved ahead of it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct DeviceClock {
    start: Timestamp,
    since: Instant,
    ahead_ms: AtomicU64,
}

impl DeviceClock {
    #[allow(clippy::disallowed_methods)] // The one place where a device learns the time of day.
    pub(crate) fn new() -> Self {
        Self {
            start: Timestamp::now(),
            since: Instant::now(),
            ahead_ms: AtomicU64::new(0),
        }
    }

    /// The time of day on the device.
    pub(crate) fn now(&self) -> Timestamp {
        let ahead = Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed));
        after(self.start, self.since.elapsed() + ahead)
    }

    /// Milliseconds of real time since the device started.
    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.fetch_add(by, Ordering::Relaxed);
    }

    /// How long until the clock shows `moment`; zero if it is past.
    pub(crate) fn until(&self, moment: Timestamp) -> Duration {
        between(self.now(), moment)
    }
}

/// `time` after `moment`, at most the end of time.
pub(crate) fn after(moment: Timestamp, time: Duration) -> Timestamp {
    SignedDuration::try_from(time)
        .ok()
        .and_then(|time| moment.checked_add(time).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The time from `start` to `end`; zero if `end` is earlier.
pub(crate) fn between(start: Timestamp, end: Timestamp) -> Duration {
    end.duration_since(start).try_into().unwrap_or(Duration::ZERO)
}
