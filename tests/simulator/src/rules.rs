//! The rules that an outlet holds and follows by itself: one countdown, and schedules.

mod countdown;
mod schedule;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use self::{countdown::Countdowns, schedule::Schedules};
use crate::{
    counters::Cause,
    reply::{Answer, Refusal},
};

#[derive(Debug)]
pub(crate) struct Rules {
    countdowns: Countdowns,
    schedules: Schedules,
}

/// A rule that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Firing {
    pub(crate) at: Timestamp,
    pub(crate) on: bool,
    pub(crate) cause: Cause,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, Deserialize)]
struct DesiredStates {
    on: bool,
}

#[derive(Debug, Deserialize)]
struct RuleId {
    id: String,
}

/// Which rules to remove.
#[derive(Debug, Deserialize)]
struct Removal {
    #[serde(default)]
    remove_all: bool,
    #[serde(default)]
    rule_list: Vec<RuleId>,
}

impl Removal {
    fn covers(&self, id: &str) -> bool {
        self.remove_all || self.rule_list.iter().any(|rule| rule.id == id)
    }
}

impl Rules {
    pub(crate) fn new(max_schedules: usize) -> Self {
        Self {
            countdowns: Countdowns::default(),
            schedules: Schedules::new(max_schedules),
        }
    }

    /// Ids of countdowns count up from here: those of old Kasa devices are unique.
    pub(crate) fn number_countdowns_from(&mut self, first: u32) {
        self.countdowns.number_from(first);
    }

    /// Answers a method about rules; none if it is not one.
    pub(crate) fn answer(&mut self, method: &str, params: &Value, now: Timestamp) -> Option<Answer> {
        Some(match method {
            "get_countdown_rules" => Ok(Some(self.countdowns.list(now))),
            "add_countdown_rule" => self.countdowns.add(params, now),
            "edit_countdown_rule" => self.countdowns.edit(params, now),
            "remove_countdown_rules" => self.countdowns.remove(params),
            "get_schedule_rules" => Ok(Some(self.schedules.page(params))),
            "add_schedule_rule" => self.schedules.add(params, now),
            "edit_schedule_rule" => self.schedules.edit(params, now),
            "remove_schedule_rules" => self.schedules.remove(params),
            "get_next_event" => Ok(Some(self.schedules.next_event())),
            _ => return None,
        })
    }

    /// What the countdown that runs switches to.
    pub(crate) fn countdown_to(&self) -> Option<bool> {
        self.countdowns.to()
    }

    /// When the next rule is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let dues = [self.countdowns.due(), self.schedules.next_due()];
        dues.into_iter().flatten().min()
    }

    /// Fires the earliest rule that is due by now.
    pub(crate) fn fire(&mut self, now: Timestamp) -> Option<Firing> {
        let at = self.next_due().filter(|due| *due <= now)?;
        if self.countdowns.due() == Some(at) {
            return self.countdowns.fire();
        }
        self.schedules.fire()
    }

    /// Passes over schedules that were due while the clock was unset.
    pub(crate) fn skip_schedules(&mut self, now: Timestamp) {
        self.schedules.skip(now);
    }

    /// A countdown does not survive a restart.
    pub(crate) fn forget_countdown(&mut self) {
        self.countdowns.forget();
    }
}

fn read<'de, T: Deserialize<'de>>(params: &'de Value) -> Result<T, Refusal> {
    T::deserialize(params).map_err(|_| Refusal::PARAMS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rules() -> Rules {
        Rules::new(32)
    }

    fn repeat(minute: u64, week_day: u8, on: bool) -> Value {
        json!({"enable": true, "mode": "repeat", "s_type": "normal", "s_min": minute, "time_offset": 0,
               "week_day": week_day, "desired_states": {"on": on}, "e_type": "normal"})
    }

    #[test]
    fn a_countdown_fires_once_and_leaves_a_disabled_rule() {
        let mut rules = rules();
        let now = at("2026-11-21T10:00:00Z");
        let params = json!({"enable": true, "delay": 90, "desired_states": {"on": false}});
        let id = rules
            .answer("add_countdown_rule", &params, now)
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(id, json!({"id": "C1"}));
        assert_eq!(
            rules.answer("add_countdown_rule", &params, now),
            Some(Err(Refusal::COUNTDOWN_CONFLICT))
        );

        let later = at("2026-11-21T10:00:30.5Z");
        assert_eq!(rules.countdowns.list(later)["rule_list"][0]["remain"], 60);
        assert_eq!(rules.fire(later), None);
        let due = at("2026-11-21T10:01:30Z");
        let firing = Firing {
            at: due,
            on: false,
            cause: Cause::Countdown,
        };
        assert_eq!(rules.fire(at("2026-11-21T11:00:00Z")), Some(firing));
        assert_eq!(rules.fire(at("2026-11-21T11:00:00Z")), None);
        let left = rules.countdowns.list(later);
        assert_eq!(
            (&left["rule_list"][0]["enable"], &left["rule_list"][0]["remain"]),
            (&json!(false), &json!(0))
        );
        rules
            .answer("add_countdown_rule", &params, later)
            .unwrap()
            .unwrap();
    }

    #[test]
    fn a_schedule_fires_on_its_days() {
        let mut rules = rules();
        // 2026-11-21 is a Saturday (bit 6); Monday is bit 1.
        let now = at("2026-11-21T10:00:00Z");
        let params = repeat(9 * 60, 0b100_0010, true);
        rules.answer("add_schedule_rule", &params, now).unwrap().unwrap();
        assert_eq!(rules.next_due(), Some(at("2026-11-23T09:00:00Z")));
        rules.fire(at("2026-11-23T09:00:00Z")).unwrap();
        assert_eq!(rules.next_due(), Some(at("2026-11-28T09:00:00Z")));
        let page = rules.schedules.page(&json!({}));
        assert_eq!(page["rule_list"][0]["e_type"], "normal");
        assert_eq!(page["rule_list"][0]["id"], "S1");
    }

    #[test]
    fn a_schedule_for_once_is_disabled_after_it_fired() {
        let mut rules = rules();
        let now = at("2026-11-21T10:00:00Z");
        let params = json!({"enable": true, "mode": "once", "s_type": "sunset", "time_offset": -30,
                            "desired_states": {"on": true}});
        rules.answer("add_schedule_rule", &params, now).unwrap().unwrap();
        assert_eq!(rules.next_due(), Some(at("2026-11-21T17:30:00Z")));
        rules.fire(at("2026-11-21T18:00:00Z")).unwrap();
        assert_eq!(rules.next_due(), None);
        assert_eq!(rules.schedules.page(&json!({}))["rule_list"][0]["enable"], false);
    }

    #[test]
    fn schedules_come_in_pages_up_to_the_limit_and_do_not_clash() {
        let mut rules = rules();
        let now = at("2026-11-21T10:00:00Z");
        for minute in 0..32 {
            rules
                .answer("add_schedule_rule", &repeat(minute, 0x7f, true), now)
                .unwrap()
                .unwrap();
        }
        let more = rules.answer("add_schedule_rule", &repeat(40, 0x7f, true), now);
        assert_eq!(more, Some(Err(Refusal::SCHEDULE_FULL)));
        let page = rules.schedules.page(&json!({"start_index": 30}));
        assert_eq!(
            (&page["sum"], page["rule_list"].as_array().unwrap().len()),
            (&json!(32), 2)
        );

        let remove = json!({"remove_all": false, "rule_list": [{"id": "S32"}]});
        rules
            .answer("remove_schedule_rules", &remove, now)
            .unwrap()
            .unwrap();
        let same_minute = rules.answer("add_schedule_rule", &repeat(3, 0b1, false), now);
        assert_eq!(same_minute, Some(Err(Refusal::SCHEDULE_CONFLICT)));
        let mut edited = repeat(3, 0b1, false);
        edited["id"] = json!("S4");
        rules.answer("edit_schedule_rule", &edited, now).unwrap().unwrap();
        edited["id"] = json!("S99");
        assert_eq!(
            rules.answer("edit_schedule_rule", &edited, now),
            Some(Err(Refusal::SCHEDULE_INDEX))
        );
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let mut rules = rules();
        let now = at("2026-11-21T10:00:00Z");
        for params in [
            json!(null),
            json!({"enable": true, "delay": 0, "desired_states": {"on": true}}),
            json!({"enable": true, "delay": 86_401, "desired_states": {"on": true}}),
            json!({"enable": true, "delay": "60", "desired_states": {"on": true}}),
        ] {
            assert_eq!(
                rules.answer("add_countdown_rule", &params, now),
                Some(Err(Refusal::PARAMS))
            );
        }
        for params in [json!([]), repeat(1440, 0x7f, true), repeat(0, 0, true)] {
            assert_eq!(
                rules.answer("add_schedule_rule", &params, now),
                Some(Err(Refusal::PARAMS))
            );
        }
    }
}
