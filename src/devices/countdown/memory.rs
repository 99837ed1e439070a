//! Which countdown on an outlet the bridge armed, and how it must change. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use planner::{Now, Power, Steady};
use serde_json::Value;

use crate::{devices::wanted_ends::WantedEnd, domain::report::Countdown};

/// The countdown counts whole seconds and is read some time later: two that end within this are the same.
const SAME_END: SignedDuration = SignedDuration::from_secs(3);
/// A countdown that ends this close to the wanted end is right.
const CLOSE: SignedDuration = SignedDuration::from_secs(2);
/// An answer that came this late still shows which end it is about.
const LATE: SignedDuration = SignedDuration::from_secs(15);
/// A run that is longer than the device counts is renewed when this much of the count is used.
const RENEW: SignedDuration = SignedDuration::from_hours(1);
/// What the device counts: tapo refuses anything else.
const SHORTEST: Duration = Duration::from_secs(1);
/// A second less than what tapo accepts: a whole minute is no length of ours.
const LONGEST: Duration = Duration::from_secs(24 * 3600 - 1);

/// What makes the countdown right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CountdownStep {
    /// Arm it for this end.
    Arm(Steady),
    /// Clear ours.
    Clear,
}

/// Which countdown is ours: one that ends with what was armed, or one of a length that only the bridge arms.
#[derive(Debug, Default)]
pub(super) struct CountdownMemory {
    /// The ends of what this run armed, the newest last. There are two while it is not known whether the device took
    /// the newer one.
    armed: Vec<Steady>,
    /// The ends of what the run before armed.
    previous: Vec<Timestamp>,
}

impl CountdownMemory {
    /// With what the run before armed.
    pub(super) fn after_restart(previous: Vec<Timestamp>) -> Self {
        Self {
            previous,
            ..Self::default()
        }
    }

    /// The device is about to be sent this length; it may take it although no answer arrives.
    pub(super) fn on_arming(&mut self, length: Duration, now: Now) {
        self.armed.truncate(1);
        self.armed.push(now.steady.after(signed(length)));
    }

    /// Ours was cleared.
    pub(super) fn on_cleared(&mut self) {
        self.armed.clear();
        self.previous.clear();
    }

    /// Takes a reading. Returns the countdown that runs, and whether it is ours.
    pub(super) fn on_reading(&mut self, timer: Option<DeviceTimer>, now: Now) -> Countdown {
        let Some(DeviceTimer { to, length, left }) = timer else {
            self.on_cleared();
            return Countdown::Idle;
        };
        let (ends, shown) = (now.steady.after(signed(left)), to_second(now.wall, left));
        if to == Power::Off && (is_of_the_bridge(length) || self.is_armed_until(ends, shown)) {
            self.armed = vec![ends];
            self.previous.clear();
            return Countdown::Armed { ends: shown };
        }
        // A device has one countdown, so ours does not run any more. What the run before armed may still be
        // recognized, once a wrong clock is right.
        self.armed.clear();
        Countdown::External { to, ends: shown }
    }

    fn is_armed_until(&self, ends: Steady, shown: Timestamp) -> bool {
        let same = |armed: &Steady| ends.since(*armed).abs() <= SAME_END;
        let same_as_before = |previous: &Timestamp| previous.duration_since(shown).abs() <= SAME_END;
        self.armed.iter().any(same) || self.previous.iter().any(same_as_before)
    }

    /// Whether ours was armed for this end, or for the longest that the device counts towards it.
    pub(super) fn is_armed_for(&self, end: Steady, now: Steady) -> bool {
        let Some(armed) = self.armed.last() else {
            return false;
        };
        let furthest = now.after(signed(LONGEST));
        if end <= furthest {
            armed.since(end).abs() <= CLOSE
        } else {
            furthest.since(*armed) <= RENEW
        }
    }

    /// Whether ours runs to this end and not to the one before, however late the device answered.
    pub(super) fn runs_towards(&self, end: Steady, now: Steady) -> bool {
        let wanted = end.min(now.after(signed(LONGEST)));
        let newest = self.armed.last();
        newest.is_some_and(|armed| armed.since(wanted).abs() <= LATE)
    }

    /// When ours ends; `None` if none was armed.
    pub(super) fn armed_until(&self) -> Option<Steady> {
        self.armed.last().copied()
    }

    /// When one of ours ends that may still run on a device whose client does not reach it.
    pub(super) fn may_run_until(&self, now: Now) -> Option<Steady> {
        let previous = self.previous.iter().map(|ends| now.steady_at(*ends));
        let ends = self.armed.iter().copied().chain(previous).max();
        ends.filter(|ends| *ends > now.steady)
    }

    /// How the countdown of an outlet must change that no command switches now.
    pub(super) fn step(
        &self,
        wanted: WantedEnd,
        countdown: Countdown,
        power: Option<Power>,
        now: Steady,
    ) -> Option<CountdownStep> {
        match (power?, wanted, countdown) {
            // After the end the bridge switches off: the device counts at least a second.
            (Power::On, WantedEnd::By(end), Countdown::Idle | Countdown::Failed) if end > now => {
                Some(CountdownStep::Arm(end))
            }
            (Power::On, WantedEnd::By(end), Countdown::Armed { .. })
                if end > now && !self.is_armed_for(end, now) =>
            {
                Some(CountdownStep::Arm(end))
            }
            (Power::On, WantedEnd::Never, Countdown::Armed { .. })
            | (Power::Off, _, Countdown::Armed { .. }) => Some(CountdownStep::Clear),
            _ => None,
        }
    }

    /// What a later run needs to recognize ours.
    pub(super) fn to_persist(&self, now: Now) -> Vec<Timestamp> {
        let armed = self.armed.iter().map(|ends| now.wall_at(*ends));
        armed.chain(self.previous.iter().copied()).collect()
    }
}

/// The countdown that a device reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceTimer {
    to: Power,
    /// From its start to its end.
    length: Duration,
    left: Duration,
}

impl DeviceTimer {
    /// A rule with nothing left has fired and is disabled: it only waits to be removed.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let seconds = |name| value.get(name).and_then(Value::as_u64).map(Duration::from_secs);
        let left = seconds("remaining_s").unwrap_or_default();
        let to = value.get("on").and_then(Value::as_bool).map(Power::from)?;
        (!left.is_zero()).then(|| Self {
            to,
            length: seconds("length_s").unwrap_or_default(),
            left,
        })
    }
}

/// The length to arm for an end: rounded up, so that the bridge itself is first, and within what the device counts. It is
/// no whole minute, by which a later run recognizes it, even without the state file.
pub(super) fn length_until(end: Steady, now: Steady) -> Duration {
    let left = now.until(end);
    let up = u64::from(left.subsec_nanos() > 0);
    let seconds = left.as_secs().saturating_add(up).max(SHORTEST.as_secs());
    let mark = u64::from(seconds.is_multiple_of(60));
    Duration::from_secs(seconds.saturating_add(mark)).min(LONGEST)
}

/// Whether only the bridge arms a countdown of this length: the app takes hours and minutes.
fn is_of_the_bridge(length: Duration) -> bool {
    !length.as_secs().is_multiple_of(60)
}

/// To the second, as the device counts.
pub(super) fn to_second(now: Timestamp, left: Duration) -> Timestamp {
    let ends = now.saturating_add(signed(left)).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(ends.as_second()).unwrap_or(ends)
}

fn signed(length: Duration) -> SignedDuration {
    SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOUR: u64 = 3600;

    /// So many seconds after 10:00.
    fn at(seconds: i64) -> Now {
        let start = Now {
            wall: "2026-11-21T10:00:00Z".parse().unwrap(),
            steady: Steady::at(jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000)),
        };
        start.moved_to(start.wall + SignedDuration::from_secs(seconds))
    }

    /// Of a length that the app takes too.
    fn to_off(left: u64) -> Option<DeviceTimer> {
        DeviceTimer::of(&json!({"on": false, "length_s": 2 * HOUR, "remaining_s": left}))
    }

    fn armed(length: u64) -> CountdownMemory {
        let mut memory = CountdownMemory::default();
        memory.on_arming(Duration::from_secs(length), at(0));
        memory
    }

    #[test]
    fn the_device_counts_whole_seconds_and_the_bridge_is_first() {
        let seconds = |ms| {
            let end = Steady::at(jiff::Timestamp::UNIX_EPOCH).after(SignedDuration::from_millis(ms));
            length_until(end, Steady::at(jiff::Timestamp::UNIX_EPOCH)).as_secs()
        };
        assert_eq!(
            [0, 1, 1000, 1001, 59_999].map(seconds),
            [1, 1, 1, 2, 61],
            "at most 2 s later than wanted, and no whole minute"
        );
        assert_eq!(seconds(90_000_000), 86_399);
        assert_eq!(
            length_until(Steady::MAX, Steady::at(jiff::Timestamp::UNIX_EPOCH)).as_secs(),
            86_399
        );
    }

    #[test]
    fn a_rule_that_fired_is_none() {
        for value in [
            json!(null),
            json!({"on": false, "remaining_s": 0}),
            json!({"on": 1, "remaining_s": "9"}),
        ] {
            assert_eq!(DeviceTimer::of(&value), None);
            assert_eq!(armed(60).on_reading(None, at(1)), Countdown::Idle);
        }
        let longest = to_second(at(0).wall, Duration::MAX);
        assert_eq!(longest.as_second(), Timestamp::MAX.as_second());
    }

    #[test]
    fn a_countdown_to_off_that_ends_with_what_was_armed_is_ours() {
        let mut memory = armed(HOUR);
        let ends = at(3600).wall;
        assert_eq!(
            memory.on_reading(to_off(HOUR - 10), at(12)),
            Countdown::Armed { ends: at(3602).wall }
        );
        let external = memory.on_reading(to_off(HOUR), at(12));
        assert_eq!(
            external,
            Countdown::External {
                to: Power::Off,
                ends: at(3612).wall
            }
        );
        let to_on = DeviceTimer::of(&json!({"on": true, "remaining_s": HOUR}));
        assert_eq!(
            armed(HOUR).on_reading(to_on, at(0)),
            Countdown::External { to: Power::On, ends }
        );
    }

    #[test]
    fn either_of_two_is_ours_while_the_newer_is_not_confirmed() {
        for (left, ends) in [(HOUR - 10, 3600), (2 * HOUR, 7210)] {
            let mut memory = armed(HOUR);
            memory.on_arming(Duration::from_secs(2 * HOUR), at(10));
            assert_eq!(
                memory.on_reading(to_off(left), at(10)),
                Countdown::Armed { ends: at(ends).wall }
            );
        }
    }

    #[test]
    fn after_a_restart_ours_is_known_by_its_end() {
        let previous = vec![at(3600).wall];
        let is_ours = |memory: &mut CountdownMemory, left| {
            let read = memory.on_reading(to_off(left), at(0));
            matches!(read, Countdown::Armed { .. })
        };
        let mut memory = CountdownMemory::after_restart(previous.clone());
        assert!(!is_ours(&mut memory, HOUR + 5) && is_ours(&mut memory, HOUR + 3));
        let mut cleared = CountdownMemory::after_restart(previous);
        cleared.on_reading(None, at(0));
        assert!(!is_ours(&mut cleared, HOUR) && cleared.to_persist(at(0)).is_empty());
    }

    #[test]
    fn without_a_memory_ours_is_known_by_its_length() {
        let mut memory = CountdownMemory::default();
        for (length, is_ours) in [
            (HOUR, false),
            (60, false),
            (HOUR + 1, true),
            (86_399, true),
            (7, true),
        ] {
            let to_off = DeviceTimer::of(&json!({"on": false, "length_s": length, "remaining_s": 5}));
            let read = memory.on_reading(to_off, at(0));
            assert_eq!(matches!(read, Countdown::Armed { .. }), is_ours, "{length}");
            let to_on = DeviceTimer::of(&json!({"on": true, "length_s": length, "remaining_s": 5}));
            let read = memory.on_reading(to_on, at(0));
            assert!(matches!(read, Countdown::External { .. }), "{length}");
        }
    }

    #[test]
    fn an_end_that_was_read_late_is_not_the_one_before() {
        let towards = |seconds| armed(HOUR).runs_towards(at(seconds).steady, at(0).steady);
        assert_eq!([3590, 3610, 3660, 600].map(towards), [true, true, false, false]);
        assert!(armed(24 * HOUR - 1).runs_towards(at(90_000).steady, at(0).steady));
    }

    #[test]
    fn one_that_is_not_read_may_run_until_its_end() {
        let until = |memory: &CountdownMemory, seconds| memory.may_run_until(at(seconds)).is_some();
        for memory in [armed(HOUR), CountdownMemory::after_restart(vec![at(3600).wall])] {
            assert!(until(&memory, 3599) && !until(&memory, 3600));
        }
        assert!(!until(&CountdownMemory::default(), 0));
    }

    #[test]
    fn the_countdown_follows_the_wanted_end() {
        let step = |wanted, countdown, power| armed(HOUR).step(wanted, countdown, Some(power), at(0).steady);
        let ours = Countdown::Armed { ends: at(3600).wall };
        let external = Countdown::External {
            to: Power::Off,
            ends: at(60).wall,
        };
        let by = |seconds| WantedEnd::By(at(seconds).steady);
        let arm = |seconds| Some(CountdownStep::Arm(at(seconds).steady));
        for (wanted, countdown, power, expected) in [
            (by(3602), ours, Power::On, None),
            (by(3603), ours, Power::On, arm(3603)),
            (by(1800), ours, Power::On, arm(1800)),
            (by(0), ours, Power::On, None),
            (by(3600), Countdown::Idle, Power::On, arm(3600)),
            (by(0), Countdown::Idle, Power::On, None),
            (by(3600), Countdown::Failed, Power::On, arm(3600)),
            (by(3600), Countdown::Idle, Power::Off, None),
            (by(3600), ours, Power::Off, Some(CountdownStep::Clear)),
            (WantedEnd::Never, ours, Power::On, Some(CountdownStep::Clear)),
            (WantedEnd::Unknown, ours, Power::On, None),
            (WantedEnd::Unknown, ours, Power::Off, Some(CountdownStep::Clear)),
            (by(1800), external, Power::On, None),
            (WantedEnd::Never, external, Power::Off, None),
            (by(1800), Countdown::Unknown, Power::On, None),
            (by(1800), Countdown::Unsupported, Power::On, None),
        ] {
            let found = step(wanted, countdown, power);
            assert_eq!(found, expected, "{wanted:?} {countdown:?} {power}");
        }
        assert_eq!(armed(HOUR).step(by(60), ours, None, at(0).steady), None);
    }

    #[test]
    fn a_run_longer_than_a_day_is_renewed_after_an_hour() {
        let memory = armed(24 * HOUR - 1);
        let wanted = WantedEnd::By(at(40 * 3600).steady);
        let ours = Countdown::Armed {
            ends: at(24 * 3600).wall,
        };
        let step = |now: Now| memory.step(wanted, ours, Some(Power::On), now.steady);
        assert_eq!(step(at(3600)), None);
        assert_eq!(step(at(3601)), Some(CountdownStep::Arm(at(40 * 3600).steady)));
    }
}
