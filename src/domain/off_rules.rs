//! The OFF times of schedules as rules on outlets, which switch off even if the bridge fails.
//!
//! The scheduler sends the wanted rules; the worker writes them and reports the result. A rule of the bridge has both the
//! id that the outlet returned and the content that was written. A rule that was changed externally is external.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::domain::report::{DeviceRule, RuleTime, Weekdays};
use planner::{Power, period::after};

/// The clock of the outlet may differ by half a minute, and the next poll shows the change.
const AROUND: SignedDuration = SignedDuration::from_secs(90);

/// An OFF at a minute of some days of the week, by the device's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WeeklyOff {
    /// Of the day, 0 to 1439.
    pub minute: u16,
    /// On which days.
    pub days: Weekdays,
}

/// The rules of the bridge on an outlet, by the ids that the outlet returned.
pub type OurRules = BTreeMap<String, WeeklyOff>;

/// The wanted rules of the bridge on an outlet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedOffRules {
    /// All of them.
    pub wanted: BTreeSet<WeeklyOff>,
    /// Those that an earlier run wrote.
    pub ours: OurRules,
}

/// The result of a [`WantedOffRules`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffRulesStatus {
    /// The wanted rules; `None` while they are being written.
    pub wanted: Option<BTreeSet<WeeklyOff>>,
    /// The rules of the bridge on the outlet.
    pub ours: OurRules,
    /// Why a rule is missing, as text.
    pub error: Option<String>,
}

impl WeeklyOff {
    /// Whether a rule on an outlet has exactly this content.
    pub fn is(self, rule: &DeviceRule) -> bool {
        self.switches_off_with(rule) && rule.days == Some(self.days)
    }

    /// Whether a rule on an outlet has the effect of this one.
    pub fn is_covered_by(self, rule: &DeviceRule) -> bool {
        let days = rule.days.map_or(0, Weekdays::bits);
        self.switches_off_with(rule) && self.days.bits() & !days == 0
    }

    fn switches_off_with(self, rule: &DeviceRule) -> bool {
        rule.enabled && rule.to == Power::Off && rule.time == RuleTime::Clock { minute: self.minute }
    }

    /// As an outlet returns it.
    pub fn as_rule(self, id: String) -> DeviceRule {
        DeviceRule {
            id,
            enabled: true,
            time: RuleTime::Clock { minute: self.minute },
            days: Some(self.days),
            to: Power::Off,
        }
    }
}

/// The minute of the day and the bit of the weekday, as a clock in that zone shows them.
pub fn minute_and_day(at: Timestamp, zone: &TimeZone) -> (u16, u8) {
    let wall = zone.to_datetime(at);
    let minute = i32::from(wall.hour()) * 60 + i32::from(wall.minute());
    let day = wall.date().weekday().to_sunday_zero_offset();
    (u16::try_from(minute).unwrap_or(0), 1_u8 << day)
}

/// Whether one of these rules fired a moment ago, or fires now.
pub fn has_fired(ours: &OurRules, zone: &TimeZone, now: Timestamp) -> bool {
    let mut moment = after(now, -AROUND);
    let mut minutes = BTreeSet::new();
    while moment <= after(now, SignedDuration::from_secs(30)) {
        minutes.insert(minute_and_day(moment, zone));
        moment = after(moment, SignedDuration::from_secs(15));
    }
    ours.values().any(|rule| {
        let days = rule.days.bits();
        minutes
            .iter()
            .any(|(minute, day)| rule.minute == *minute && days & day != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_rule_that_fired_is_recognized_for_a_moment() {
        let rule = WeeklyOff {
            minute: 481,
            days: Weekdays::from_bits(0b100_0000),
        };
        let ours: OurRules = [("S1".to_owned(), rule)].into();
        let fired = |now: &str| has_fired(&ours, &TimeZone::UTC, at(now));
        assert!(fired("2026-11-21T08:01:00Z") && fired("2026-11-21T08:02:10Z"));
        assert!(fired("2026-11-21T08:00:40Z"), "its clock is fast");
        assert!(!fired("2026-11-21T08:00:20Z") && !fired("2026-11-21T08:04:00Z"));
        assert!(!fired("2026-11-22T08:01:00Z"), "another day");
        assert!(!has_fired(
            &OurRules::new(),
            &TimeZone::UTC,
            at("2026-11-21T08:01:00Z")
        ));
    }
}
