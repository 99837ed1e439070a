//! The clocks of the machine. Nothing else reads the time of the system.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use planner::{Now, Steady};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The wall clock and the steady clock. Steered clocks follow tokio's (possibly paused) time from a chosen moment, so
/// that a test can live through a year, set the wall clock and suspend the machine.
#[derive(Debug, Clone)]
pub struct Clock(ClockSource);

#[derive(Debug, Clone)]
enum ClockSource {
    System {
        /// What the steady clock read when the machine started, in ns since 1970.
        origin: Arc<AtomicI64>,
        /// Identifies this start of the machine; `None` where the system does not report it.
        boot: Option<Arc<str>>,
    },
    Steered {
        start: Timestamp,
        since: Instant,
        shift: watch::Sender<ClockShift>,
    },
}

/// How a steered clock was moved against tokio's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClockShift {
    /// How far the wall clock was set.
    set: SignedDuration,
    /// How long the machine was suspended.
    suspended: SignedDuration,
}

/// The clocks when something was written down, so that lengths go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// The steady clock.
    steady: Steady,
    /// The wall clock.
    wall: Timestamp,
    /// Which start of the machine it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<Arc<str>>,
    /// The time since then, in ms.
    #[serde(default)]
    since_boot_ms: i64,
}

/// systemd-timesyncd makes it when it has set the clock.
const TIME_SERVER_REACHED: &str = "/run/systemd/timesync/synchronized";
/// A wall clock that shows an earlier time was never set: a machine without a battery for its clock starts in 1970.
const FIRST_PLAUSIBLE: Timestamp = Timestamp::constant(1_704_067_200, 0);

impl Clock {
    /// The clocks of the system. The steady clock begins with the time that the wall clock shows.
    pub fn system() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let clock = Self(ClockSource::System {
            origin: Arc::default(),
            boot: boot.map(|id| id.trim().into()),
        });
        clock.set_steady(clock.now());
        clock
    }

    /// Clocks of which the wall clock shows `start` now.
    pub fn steered(start: Timestamp) -> Self {
        Self(ClockSource::Steered {
            start,
            since: Instant::now(),
            shift: watch::Sender::default(),
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
            ClockSource::System { .. } => Timestamp::now(),
            ClockSource::Steered { start, shift, .. } => {
                let set = shift.borrow().set;
                let passed = self.since_boot();
                start.saturating_add(passed.saturating_add(set)).unwrap_or(*start)
            }
        }
    }

    /// The steady clock. tokio's and std's `Instant` stand still while the machine is suspended; this one does not.
    pub fn steady(&self) -> Steady {
        let reading = match &self.0 {
            ClockSource::System { origin, .. } => {
                let origin = SignedDuration::from_nanos(origin.load(Ordering::Relaxed));
                Timestamp::UNIX_EPOCH.saturating_add(origin.saturating_add(self.since_boot()))
            }
            ClockSource::Steered { start, .. } => start.saturating_add(self.since_boot()),
        };
        Steady::at(reading.unwrap_or(Timestamp::MAX))
    }

    /// The time since the machine started, suspended time included.
    fn since_boot(&self) -> SignedDuration {
        match &self.0 {
            ClockSource::System { .. } => {
                let since_boot = clock_gettime(ClockId::Boottime);
                let nanos = i32::try_from(since_boot.tv_nsec).unwrap_or_default();
                SignedDuration::new(since_boot.tv_sec, nanos)
            }
            ClockSource::Steered { since, shift, .. } => {
                let passed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
                passed.saturating_add(shift.borrow().suspended)
            }
        }
    }

    /// Lets the steady clock of the system read this now.
    fn set_steady(&self, reading: Timestamp) {
        if let ClockSource::System { origin, .. } = &self.0 {
            let since_boot = self.since_boot();
            let nanos = reading.as_duration().saturating_sub(since_boot).as_nanos();
            origin.store(i64::try_from(nanos).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Both clocks, to be written down.
    pub fn as_of(&self) -> AsOf {
        let boot = match &self.0 {
            ClockSource::System { boot, .. } => boot.clone(),
            ClockSource::Steered { .. } => None,
        };
        AsOf {
            steady: self.steady(),
            wall: self.now(),
            boot,
            since_boot_ms: millis(self.since_boot()),
        }
    }

    /// Goes on from what was written down, with the real time that passed since: exactly if the machine was not
    /// restarted, else as far as the wall clock can be believed. No wall clock makes a length shorter than that.
    pub fn continue_from(&self, as_of: &AsOf) {
        let ClockSource::System { boot, .. } = &self.0 else {
            return;
        };
        let same_boot = boot.is_some() && *boot == as_of.boot;
        let passed = if same_boot {
            self.since_boot()
                .saturating_sub(SignedDuration::from_millis(as_of.since_boot_ms))
        } else if as_of.wall >= FIRST_PLAUSIBLE && self.now() >= FIRST_PLAUSIBLE {
            self.now().duration_since(as_of.wall)
        } else {
            SignedDuration::ZERO
        };
        self.set_steady(as_of.steady.after(passed.max(SignedDuration::ZERO)).reading());
    }

    /// Whether it is known how much time passed since then: the machine was not restarted, or its wall clock is right.
    /// One without a battery for its clock shows a time from before it was switched off until it reaches a time server.
    pub fn knows_time_since(&self, as_of: &AsOf) -> bool {
        let ClockSource::System { boot, .. } = &self.0 else {
            return true;
        };
        let same_boot = boot.is_some() && *boot == as_of.boot;
        same_boot || has_clock_chip() || std::path::Path::new(TIME_SERVER_REACHED).exists()
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
        if let ClockSource::Steered { shift, .. } = &self.0 {
            shift.send_modify(|shift| shift.set = shift.set.saturating_add(by));
        }
    }

    /// Suspends a steered machine: both clocks go on, tokio's timers stand still.
    pub fn suspend(&self, length: SignedDuration) {
        if let ClockSource::Steered { shift, .. } = &self.0 {
            shift.send_modify(|shift| shift.suspended = shift.suspended.saturating_add(length));
        }
    }

    /// The shifts of a steered clock to come.
    pub(super) fn shifts(&self) -> Option<watch::Receiver<ClockShift>> {
        match &self.0 {
            ClockSource::System { .. } => None,
            ClockSource::Steered { shift, .. } => Some(shift.subscribe()),
        }
    }
}

/// Whether the kernel set its clock by one with a battery when it started.
fn has_clock_chip() -> bool {
    let chips = std::fs::read_dir("/sys/class/rtc")
        .into_iter()
        .flatten()
        .flatten();
    let mut sets = chips.map(|chip| std::fs::read_to_string(chip.path().join("hctosys")));
    sets.any(|set| set.is_ok_and(|set| set.trim() == "1"))
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
    fn a_steady_clock_goes_on_from_what_was_written_down() {
        let clock = Clock::system();
        let written = AsOf {
            steady: clock.steady().before(SignedDuration::from_hours(5)),
            ..clock.as_of()
        };
        let left = |as_of: &AsOf| {
            clock.continue_from(as_of);
            clock.steady().since(as_of.steady)
        };
        let second = SignedDuration::from_secs(1);
        // The same start of the machine: its own count decides, whatever the wall clock shows.
        for wall in ["1970-01-01T00:00:00Z", "2040-01-01T00:00:00Z"] {
            let as_of = AsOf {
                wall: wall.parse().unwrap(),
                ..written.clone()
            };
            assert!(left(&as_of) < second, "{wall}");
        }
        // Another one: the wall clock, if it was set both times and did not go back.
        let hour = SignedDuration::from_hours(1);
        for (wall, expected) in [
            (clock.now() - hour, hour),
            (clock.now() + hour, SignedDuration::ZERO),
            (Timestamp::UNIX_EPOCH, SignedDuration::ZERO),
        ] {
            let as_of = AsOf {
                wall,
                boot: Some("another".into()),
                ..written.clone()
            };
            assert!((left(&as_of) - expected).abs() < second, "{wall}");
        }
    }

    #[test]
    fn the_steady_clock_of_the_system_goes_on() {
        let clock = Clock::system();
        let (first, second) = (clock.steady(), clock.steady());
        assert!(second >= first);
        let off = first.reading().duration_since(clock.now()).abs();
        assert!(
            off < SignedDuration::from_secs(1),
            "it begins with the wall clock"
        );
    }
}
