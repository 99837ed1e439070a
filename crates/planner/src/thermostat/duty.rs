//! What a thermostat does without a reading.

use std::{fmt, str::FromStr};

use jiff::SignedDuration;

use super::{Lease, Permit};
use crate::Steady;

/// What a thermostat does while its thermometer has no value that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenSilent {
    /// It is off.
    #[default]
    Off,
    /// It is on for a share of the time, against frost.
    Duty(Duty),
}

/// A share of the time, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duty(u8);

/// A text that is no [`WhenSilent`]: what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("\"off\", or \"duty 20%\" with 1 to 50 %")]
pub struct DutyError;

impl Duty {
    /// One part on and one part off together: no more than four switchings an hour.
    const CYCLE: SignedDuration = SignedDuration::from_mins(30);
    /// So its part on is never longer than a lease.
    const MOST: u8 = 50;

    /// Whether a relay may be on, of a thermometer that has been silent since then. It is off first.
    pub(super) fn permit(self, since: Steady, now: Steady) -> Permit {
        let cycle = Self::CYCLE.as_secs();
        let on = cycle * i64::from(self.0) / 100;
        let elapsed = now.elapsed_since(since).as_secs();
        let end = since.after(SignedDuration::from_secs((elapsed / cycle + 1) * cycle));
        let start = end.before(SignedDuration::from_secs(on));
        if now < start {
            Permit::Refused(Some(start))
        } else {
            Permit::Leased(Lease::until(end))
        }
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl FromStr for WhenSilent {
    type Err = DutyError;

    fn from_str(text: &str) -> Result<Self, DutyError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let percent = text.strip_prefix("duty ").and_then(|rest| rest.strip_suffix('%'));
        let percent = percent.and_then(|percent| percent.trim().parse().ok());
        percent
            .filter(|percent| (1..=Duty::MOST).contains(percent))
            .map(|percent| Self::Duty(Duty(percent)))
            .ok_or(DutyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_is_off_first_and_on_for_its_share() {
        let at = |minute: i64| Steady::at(jiff::Timestamp::from_second(minute * 60).unwrap());
        let Ok(WhenSilent::Duty(duty)) = "duty 20%".parse() else {
            panic!("duty 20%");
        };
        assert_eq!(duty.permit(at(0), at(0)), Permit::Refused(Some(at(24))));
        assert_eq!(duty.permit(at(0), at(24)), Permit::Leased(Lease::until(at(30))));
        assert_eq!(duty.permit(at(0), at(29)), Permit::Leased(Lease::until(at(30))));
        assert_eq!(duty.permit(at(0), at(30)), Permit::Refused(Some(at(54))));
        assert_eq!("off".parse(), Ok(WhenSilent::Off));
        for bad in ["", "on", "duty", "duty 0%", "duty 51%", "duty 20", "duty -1%"] {
            assert_eq!(bad.parse::<WhenSilent>(), Err(DutyError), "{bad}");
        }
    }
}
