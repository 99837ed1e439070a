//! OFF edges of schedules as rules on plugs, which switch off at their edges even if the bridge is gone.
//!
//! The scheduler says which rules shall be there; a worker makes them so and says which are. A rule is ours by the id
//! that the plug gave it and by what was written: one that somebody changed is theirs from then on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::report::{DeviceRule, RuleTime, Weekdays};
use planner::Power;

/// An OFF at a minute of some days of the week, by the plug's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WeeklyOff {
    /// Of the day, 0 to 1439.
    pub minute: u16,
    /// On which days.
    pub days: Weekdays,
}

/// The rules that are ours, by the ids that the plug gave them.
pub type OurRules = BTreeMap<String, WeeklyOff>;

/// What shall be on a plug.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Our rules, all of them.
    pub wanted: BTreeSet<WeeklyOff>,
    /// Those that are there already.
    pub ours: OurRules,
}

/// What became of a [`Mirror`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// What was wanted; `None` while the plug is being written to.
    pub wanted: Option<BTreeSet<WeeklyOff>>,
    /// What is there of it.
    pub ours: OurRules,
    /// Why something is missing, in words.
    pub trouble: Option<String>,
}

impl WeeklyOff {
    /// Whether a rule on a plug is what was written for this.
    pub fn is(self, rule: &DeviceRule) -> bool {
        self.does_the_same_as(rule) && rule.days == Some(self.days)
    }

    /// Whether a rule on a plug makes this one needless.
    pub fn is_covered_by(self, rule: &DeviceRule) -> bool {
        let days = rule.days.map_or(0, Weekdays::bits);
        self.does_the_same_as(rule) && self.days.bits() & !days == 0
    }

    fn does_the_same_as(self, rule: &DeviceRule) -> bool {
        rule.enabled && rule.to == Power::Off && rule.time == RuleTime::Clock { minute: self.minute }
    }

    /// As a plug tells it.
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
