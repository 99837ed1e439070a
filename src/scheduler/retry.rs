//! When an outlet is asked again after a switch that failed.

use jiff::SignedDuration;
use planner::{Power, Steady};

use super::outlets::Urgency;

/// The failures of one outlet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    /// What it is to become; for another state the count starts over.
    pub to: Option<Power>,
    failures: u32,
    /// Not asked before.
    pub not_before: Option<Steady>,
}

impl Retry {
    const FIRST: SignedDuration = SignedDuration::from_secs(5);
    const FIRST_URGENT: SignedDuration = SignedDuration::from_secs(1);
    const LONGEST: SignedDuration = SignedDuration::from_mins(1);
    /// With the time that the switch itself takes, an outlet over its limit is sent OFF every 5 s.
    const LONGEST_URGENT: SignedDuration = SignedDuration::from_secs(4);
    /// A device that confirms a switch and then reads back the other state is not asked all the time.
    const PAUSE: SignedDuration = SignedDuration::from_secs(1);

    /// Without failures yet.
    pub fn to(power: Power) -> Self {
        Self {
            to: Some(power),
            ..Self::default()
        }
    }

    /// Whether nothing has failed since it was last what it should be.
    pub fn is_first(self) -> bool {
        self.failures == 0
    }

    /// A switch failed.
    pub fn failed(&mut self, urgency: Urgency, now: Steady) {
        let (first, longest) = match urgency {
            Urgency::Limit => (Self::FIRST_URGENT, Self::LONGEST_URGENT),
            Urgency::Schedule => (Self::FIRST, Self::LONGEST),
        };
        let factor = 1_i32 << self.failures.min(6);
        let wait = first.saturating_mul(factor).min(longest);
        self.failures += 1;
        self.not_before = Some(now.after(wait));
    }

    /// A switch was confirmed.
    pub fn succeeded(&mut self, now: Steady) {
        self.failures = 0;
        self.not_before = Some(now.after(Self::PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_limit_the_waits_stay_short() {
        let now = Steady::at(jiff::Timestamp::UNIX_EPOCH);
        let waits = |urgency| {
            let mut retry = Retry::to(Power::Off);
            [(); 8].map(|()| {
                retry.failed(urgency, now);
                retry.not_before.unwrap().since(now).as_secs()
            })
        };
        assert_eq!(waits(Urgency::Limit), [1, 2, 4, 4, 4, 4, 4, 4]);
        assert_eq!(waits(Urgency::Schedule), [5, 10, 20, 40, 60, 60, 60, 60]);
    }
}
