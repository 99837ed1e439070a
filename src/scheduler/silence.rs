//! When the silence of a thermometer is reported.

use jiff::SignedDuration;
use planner::Steady;

/// How long a thermometer has to have values until its next silence is another one: one that comes and goes is reported
/// once.
const OVER: SignedDuration = SignedDuration::from_hours(1);

/// What was reported of the thermometer of a group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Silence {
    reported: bool,
    /// Since when it has values.
    over_since: Option<Steady>,
}

impl Silence {
    /// Whether to report it now. `is_off`: the group is off because there is no value.
    pub(super) fn begins(&mut self, has_value: bool, is_off: bool, now: Steady) -> bool {
        if has_value {
            self.over_since.get_or_insert(now);
            return false;
        }
        if let Some(since) = self.over_since.take()
            && now.since(since) >= OVER
        {
            self.reported = false;
        }
        is_off && !std::mem::replace(&mut self.reported, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_and_goes_is_reported_once() {
        let mut silence = Silence::default();
        let at = |minute: i64| Steady::at(jiff::Timestamp::from_second(minute * 60).unwrap());
        assert!(!silence.begins(true, false, at(0)));
        assert!(silence.begins(false, true, at(10)));
        assert!(!silence.begins(false, false, at(30)), "a duty heats");
        assert!(!silence.begins(false, true, at(40)));
        assert!(!silence.begins(true, false, at(50)));
        assert!(!silence.begins(false, true, at(109)), "59 minutes");
        assert!(!silence.begins(true, false, at(110)));
        assert!(!silence.begins(false, false, at(170)), "it is off anyway");
        assert!(silence.begins(false, true, at(171)));
    }
}
