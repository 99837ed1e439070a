//! The rules that an outlet holds and follows by itself: one countdown, and schedules.

use std::time::Duration;

use jiff::{Timestamp, civil::Date};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    clock::{after, between},
    counters::Cause,
    energy::{civil_time, minute_of},
    reply::{Answer, Refusal},
};

/// Rules come in pages of this many.
const PAGE: usize = 5;
const DAY_MINUTES: u64 = 24 * 60;
/// The longest countdown, in seconds.
const MAX_COUNTDOWN: u32 = 24 * 60 * 60;
/// The simulated sun rises at 6:00 and sets at 18:00, every day.
const SUNRISE: u64 = 6 * 60;
const SUNSET: u64 = 18 * 60;

#[derive(Debug)]
pub(crate) struct Rules {
    countdown: Option<Countdown>,
    schedules: Vec<Schedule>,
    max_schedules: usize,
    /// The number of the latest rule of each sort, which ids count up.
    countdowns_made: u32,
    schedules_made: u32,
}

/// A rule that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Firing {
    pub(crate) at: Timestamp,
    pub(crate) on: bool,
    pub(crate) cause: Cause,
}

#[derive(Debug)]
struct Countdown {
    id: String,
    delay: u32,
    on: bool,
    /// None once it fired or while it is disabled: the rule stays and is listed with 0 s.
    due: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct CountdownParams {
    #[serde(default)]
    id: Option<String>,
    enable: bool,
    delay: u32,
    desired_states: DesiredStates,
}

#[derive(Debug, Deserialize)]
struct DesiredStates {
    on: bool,
}

#[derive(Debug, Deserialize)]
struct RemoveParams {
    #[serde(default)]
    remove_all: bool,
    #[serde(default)]
    rule_list: Vec<RuleId>,
}

#[derive(Debug, Deserialize)]
struct RuleId {
    id: String,
}

#[derive(Debug)]
struct Schedule {
    id: String,
    /// As it was written; read back unchanged but for its id and whether it is enabled.
    wire: Map<String, Value>,
    plan: Plan,
    due: Option<Timestamp>,
}

#[derive(Debug, Clone, Deserialize)]
struct Plan {
    enable: bool,
    mode: Mode,
    s_type: Trigger,
    #[serde(default)]
    s_min: u64,
    #[serde(default)]
    time_offset: i64,
    /// Bit 0 is Sunday.
    #[serde(default)]
    week_day: u8,
    desired_states: DesiredState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct DesiredState {
    on: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Once,
    Repeat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trigger {
    Normal,
    Sunrise,
    Sunset,
}

impl Rules {
    pub(crate) fn new(max_schedules: usize) -> Self {
        Self {
            countdown: None,
            schedules: Vec::new(),
            max_schedules,
            countdowns_made: 0,
            schedules_made: 0,
        }
    }

    /// Answers a method about rules; none if it is not one.
    pub(crate) fn answer(&mut self, method: &str, params: &Value, now: Timestamp) -> Option<Answer> {
        Some(match method {
            "get_countdown_rules" => Ok(Some(self.countdowns(now))),
            "add_countdown_rule" => self.add_countdown(params, now),
            "edit_countdown_rule" => self.edit_countdown(params, now),
            "remove_countdown_rules" => self.remove_countdowns(params),
            "get_schedule_rules" => Ok(Some(self.schedule_page(params))),
            "add_schedule_rule" => self.add_schedule(params, now),
            "edit_schedule_rule" => self.edit_schedule(params, now),
            "remove_schedule_rules" => self.remove_schedules(params),
            "get_next_event" => Ok(Some(self.next_event())),
            _ => return None,
        })
    }

    /// When the next rule is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let countdown = self.countdown.iter().filter_map(|rule| rule.due);
        let schedules = self.schedules.iter().filter_map(|rule| rule.due);
        countdown.chain(schedules).min()
    }

    /// Fires the earliest rule that is due by now.
    pub(crate) fn fire(&mut self, now: Timestamp) -> Option<Firing> {
        let at = self.next_due().filter(|due| *due <= now)?;
        if let Some(rule) = self.countdown.as_mut().filter(|rule| rule.due == Some(at)) {
            rule.due = None;
            return Some(Firing {
                at,
                on: rule.on,
                cause: Cause::Countdown,
            });
        }
        let rule = self.schedules.iter_mut().find(|rule| rule.due == Some(at))?;
        if rule.plan.mode == Mode::Once {
            rule.plan.enable = false;
        }
        rule.due = rule.plan.next(at);
        Some(Firing {
            at,
            on: rule.plan.desired_states.on,
            cause: Cause::Schedule,
        })
    }

    /// Passes over schedules that were due while the clock was unset.
    pub(crate) fn skip_schedules(&mut self, now: Timestamp) {
        for rule in &mut self.schedules {
            if rule.due.is_some_and(|due| due <= now) {
                rule.due = rule.plan.next(now);
            }
        }
    }

    /// A countdown does not survive a restart.
    pub(crate) fn forget_countdown(&mut self) {
        self.countdown = None;
    }

    fn countdowns(&self, now: Timestamp) -> Value {
        let rules: Vec<Value> = self.countdown.iter().map(|rule| rule.to_json(now)).collect();
        json!({
            "countdown_rule_max_count": 1,
            "enable": self.countdown.as_ref().is_some_and(|rule| rule.due.is_some()),
            "rule_list": rules,
        })
    }

    fn add_countdown(&mut self, params: &Value, now: Timestamp) -> Answer {
        let params = CountdownParams::read(params)?;
        // A rule that has fired makes room; one that is armed does not.
        if self.countdown.as_ref().is_some_and(|rule| rule.due.is_some()) {
            return Err(Refusal::COUNTDOWN_CONFLICT);
        }
        self.countdowns_made += 1;
        let id = format!("C{}", self.countdowns_made);
        self.countdown = Some(params.into_rule(id.clone(), now));
        Ok(Some(json!({ "id": id })))
    }

    fn edit_countdown(&mut self, params: &Value, now: Timestamp) -> Answer {
        let params = CountdownParams::read(params)?;
        let rule = self.countdown.as_mut().ok_or(Refusal::COUNTDOWN)?;
        if params.id.as_ref() != Some(&rule.id) {
            return Err(Refusal::COUNTDOWN);
        }
        *rule = params.into_rule(rule.id.clone(), now);
        Ok(None)
    }

    fn remove_countdowns(&mut self, params: &Value) -> Answer {
        let params: RemoveParams = read(params)?;
        self.countdown.take_if(|rule| params.removes(&rule.id));
        Ok(None)
    }

    fn schedule_page(&self, params: &Value) -> Value {
        let start = params.get("start_index").and_then(Value::as_u64).unwrap_or(0);
        let skip = usize::try_from(start).unwrap_or(usize::MAX);
        let rules: Vec<Value> = self
            .schedules
            .iter()
            .skip(skip)
            .take(PAGE)
            .map(Schedule::to_json)
            .collect();
        json!({
            "enable": self.schedules.iter().any(|rule| rule.plan.enable),
            "rule_list": rules,
            "schedule_rule_max_count": self.max_schedules,
            "start_index": start,
            "sum": self.schedules.len(),
        })
    }

    fn add_schedule(&mut self, params: &Value, now: Timestamp) -> Answer {
        let plan = Plan::read(params)?;
        if self.schedules.len() >= self.max_schedules {
            return Err(Refusal::SCHEDULE_FULL);
        }
        if self.conflicts(&plan, None) {
            return Err(Refusal::SCHEDULE_CONFLICT);
        }
        self.schedules_made += 1;
        let id = format!("S{}", self.schedules_made);
        self.schedules.push(Schedule::new(id.clone(), params, plan, now));
        Ok(Some(json!({ "id": id })))
    }

    fn edit_schedule(&mut self, params: &Value, now: Timestamp) -> Answer {
        let plan = Plan::read(params)?;
        let RuleId { id } = read(params)?;
        let index = self
            .schedules
            .iter()
            .position(|rule| rule.id == id)
            .ok_or(Refusal::SCHEDULE_INDEX)?;
        if self.conflicts(&plan, Some(&id)) {
            return Err(Refusal::SCHEDULE_CONFLICT);
        }
        if let Some(rule) = self.schedules.get_mut(index) {
            *rule = Schedule::new(id, params, plan, now);
        }
        Ok(None)
    }

    fn remove_schedules(&mut self, params: &Value) -> Answer {
        let params: RemoveParams = read(params)?;
        self.schedules.retain(|rule| !params.removes(&rule.id));
        Ok(None)
    }

    fn next_event(&self) -> Value {
        let next = self.schedules.iter().filter_map(|rule| Some((rule.due?, rule)));
        match next.min_by_key(|(due, _)| *due) {
            Some((due, rule)) => json!({
                "desired_states": { "on": rule.plan.desired_states.on },
                "e_time": 0,
                "id": rule.id,
                "s_time": due.as_second(),
                "type": 1,
            }),
            None => json!({}),
        }
    }

    /// Whether another enabled rule fires at the same minute of one of the same days.
    fn conflicts(&self, plan: &Plan, own_id: Option<&str>) -> bool {
        plan.enable
            && self.schedules.iter().any(|rule| {
                own_id != Some(rule.id.as_str())
                    && rule.plan.enable
                    && rule.plan.minute() == plan.minute()
                    && rule.plan.mode == plan.mode
                    && (plan.mode == Mode::Once || rule.plan.week_day & plan.week_day != 0)
            })
    }
}

impl Countdown {
    fn to_json(&self, now: Timestamp) -> Value {
        let remain = self
            .due
            .map_or(0, |due| between(now, due).as_millis().div_ceil(1000));
        json!({
            "delay": self.delay,
            "desired_states": { "on": self.on },
            "enable": self.due.is_some(),
            "id": self.id,
            "remain": remain,
        })
    }
}

impl CountdownParams {
    fn read(params: &Value) -> Result<Self, Refusal> {
        let params: Self = read(params)?;
        if (1..=MAX_COUNTDOWN).contains(&params.delay) {
            Ok(params)
        } else {
            Err(Refusal::PARAMS)
        }
    }

    fn into_rule(self, id: String, now: Timestamp) -> Countdown {
        let due = after(now, Duration::from_secs(u64::from(self.delay)));
        Countdown {
            id,
            delay: self.delay,
            on: self.desired_states.on,
            due: self.enable.then_some(due),
        }
    }
}

impl RemoveParams {
    fn removes(&self, id: &str) -> bool {
        self.remove_all || self.rule_list.iter().any(|rule| rule.id == id)
    }
}

impl Schedule {
    fn new(id: String, wire: &Value, plan: Plan, now: Timestamp) -> Self {
        Self {
            id,
            wire: wire.as_object().cloned().unwrap_or_default(),
            due: plan.next(now),
            plan,
        }
    }

    fn to_json(&self) -> Value {
        let mut wire = self.wire.clone();
        wire.insert("id".to_owned(), json!(self.id));
        wire.insert("enable".to_owned(), json!(self.plan.enable));
        Value::Object(wire)
    }
}

impl Plan {
    fn read(params: &Value) -> Result<Self, Refusal> {
        let plan: Self = read(params)?;
        let days_named = plan.mode == Mode::Once || plan.week_day & 0x7f != 0;
        let in_range = plan.s_min < DAY_MINUTES && plan.time_offset.abs() <= 360;
        if days_named && in_range {
            Ok(plan)
        } else {
            Err(Refusal::PARAMS)
        }
    }

    /// The minute of the day at which it fires.
    fn minute(&self) -> u64 {
        let sun = |minute: u64| minute.saturating_add_signed(self.time_offset) % DAY_MINUTES;
        match self.s_type {
            Trigger::Normal => self.s_min,
            Trigger::Sunrise => sun(SUNRISE),
            Trigger::Sunset => sun(SUNSET),
        }
    }

    /// When it fires next after `moment`; never if it is disabled.
    fn next(&self, moment: Timestamp) -> Option<Timestamp> {
        if !self.enable {
            return None;
        }
        let today = civil_time(moment).date();
        let days = std::iter::successors(Some(today), |date| date.tomorrow().ok());
        days.take(8)
            .filter(|date| self.mode == Mode::Once || self.runs_on(*date))
            .map(|date| minute_of(date, self.minute()))
            .find(|at| *at > moment)
    }

    fn runs_on(&self, date: Date) -> bool {
        let day = date.weekday().to_sunday_zero_offset();
        u8::try_from(day).is_ok_and(|day| self.week_day & (1 << day) != 0)
    }
}

fn read<'de, T: Deserialize<'de>>(params: &'de Value) -> Result<T, Refusal> {
    T::deserialize(params).map_err(|_| Refusal::PARAMS)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(rules.countdowns(later)["rule_list"][0]["remain"], 60);
        assert_eq!(rules.fire(later), None);
        let due = at("2026-11-21T10:01:30Z");
        let firing = Firing {
            at: due,
            on: false,
            cause: Cause::Countdown,
        };
        assert_eq!(rules.fire(at("2026-11-21T11:00:00Z")), Some(firing));
        assert_eq!(rules.fire(at("2026-11-21T11:00:00Z")), None);
        let left = rules.countdowns(later);
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
        let page = rules.schedule_page(&json!({}));
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
        assert_eq!(rules.schedule_page(&json!({}))["rule_list"][0]["enable"], false);
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
        let page = rules.schedule_page(&json!({"start_index": 30}));
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
