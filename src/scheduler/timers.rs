//! Timed ON, timed OFF and countdowns. A relay has one timer, and whatever is newer ends it.

use jiff::Timestamp;
use planner::{Now, OutletPath, Power, Steady, deadline::Deadline, overrides::Lifetime};
use serde::{Deserialize, Serialize};

/// A relay is switched at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When it was set, for people.
    pub set_at: Timestamp,
    /// When the relay is switched.
    pub ends: Deadline,
    /// How long it was set to, in whole seconds.
    pub seconds: u32,
    /// To what: a timed ON and a countdown end OFF, a timed OFF ends ON.
    pub to: Power,
    /// What it wants until then.
    #[serde(default)]
    pub kind: TimerKind,
}

/// What a timer wants until it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// That the relay stays as it is: a timed ON or OFF. Under schedules it is an override.
    Timed,
    /// Nothing: a countdown ends what is ON, and schedules may end it earlier. What an older state file does not contain
    /// is that: a heater is rather off too early.
    #[default]
    Countdown,
}

impl Timer {
    /// A timer that ends OFF, now.
    pub fn off_now(now: Now) -> Self {
        Self::countdown(now, Deadline::Steady(now.steady))
    }

    /// OFF at the latest then.
    pub fn countdown(now: Now, ends: Deadline) -> Self {
        Self::new(now, ends, Power::Off, TimerKind::Countdown)
    }

    /// In this state until then.
    pub fn timed(now: Now, ends: Deadline, power: Power) -> Self {
        Self::new(now, ends, power.toggled(), TimerKind::Timed)
    }

    fn new(now: Now, ends: Deadline, to: Power, kind: TimerKind) -> Self {
        let millis = ends.steady(now).since(now.steady).as_millis();
        Self {
            set_at: now.wall,
            ends,
            seconds: u32::try_from(millis.max(0).unsigned_abs().div_ceil(1000)).unwrap_or(u32::MAX),
            to,
            kind,
        }
    }

    /// A timer for a lifetime of an outlet without schedules: in this state for so long, then the other.
    ///
    /// # Errors
    /// What is wrong with the lifetime, as text.
    pub fn for_lifetime(
        path: &OutletPath,
        power: Power,
        lifetime: Lifetime,
        now: Now,
    ) -> Result<Self, String> {
        let ends = match lifetime {
            Lifetime::For(length) => Deadline::Steady(now.steady.after(length.length())),
            Lifetime::Until(instant) => Deadline::Wall(instant),
            Lifetime::UntilNextSchedule | Lifetime::Hold => {
                return Err(format!("{path} has no schedules to override"));
            }
        };
        if ends.is_over(now) {
            return Err(format!("{} is not in the future", ends.wall(now)));
        }
        if ends.steady(now).since(now.steady) > Lifetime::LONGEST {
            return Err(format!("a timed {power} lasts at most 24h"));
        }
        Ok(Self::timed(now, ends, power))
    }

    /// Whether it is time to switch.
    pub fn is_over(&self, now: Now) -> bool {
        self.ends.is_over(now)
    }

    /// When it switches off, if that is what it does.
    pub fn off_at(&self, now: Now) -> Option<Steady> {
        (self.to == Power::Off).then(|| self.ends.steady(now))
    }

    /// The state until then.
    pub fn until_then(&self) -> Power {
        self.to.toggled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::testing::moment;

    #[test]
    fn a_length_is_real_time_and_a_time_of_day_is_not() {
        let now = moment("2024-06-21T08:00:00Z".parse().unwrap());
        let path: OutletPath = "heater".parse().unwrap();
        let timed = |lifetime| Timer::for_lifetime(&path, Power::On, lifetime, now);
        let length = timed(Lifetime::For("30s".parse().unwrap())).unwrap();
        assert_eq!((length.seconds, length.to), (30, Power::Off));
        let until = timed(Lifetime::Until("2024-06-21T08:00:30Z".parse().unwrap())).unwrap();
        // The wall clock is set back by a minute after 29 s.
        let later = Now {
            wall: "2024-06-21T07:59:29Z".parse().unwrap(),
            steady: now.steady.after(jiff::SignedDuration::from_secs(29)),
        };
        assert_eq!(
            length.off_at(later),
            Some(now.steady.after(jiff::SignedDuration::from_secs(30)))
        );
        assert_eq!(
            until.off_at(later),
            Some(later.steady.after(jiff::SignedDuration::from_secs(61)))
        );
        assert!(timed(Lifetime::Hold).is_err());
        assert!(timed(Lifetime::Until(now.wall)).is_err());
        assert!(timed(Lifetime::Until("2024-06-22T08:00:01Z".parse().unwrap())).is_err());
    }
}
