//! Schedules: rules that fire at a minute of the day, once or on days of the week.

use jiff::{Timestamp, civil::Date};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{DesiredStates, Firing, Removal, RuleId, read};
use crate::{
    counters::Cause,
    energy::{civil_time, minute_of},
    reply::{Answer, Refusal},
};

/// Rules come in pages of this many.
const PAGE: usize = 5;
const DAY_MINUTES: u64 = 24 * 60;
/// The largest distance to sunrise or sunset, in minutes.
const MAX_OFFSET: u64 = 6 * 60;
/// The simulated sun rises at 6:00 and sets at 18:00, every day.
const SUNRISE: u64 = 6 * 60;
const SUNSET: u64 = 18 * 60;

#[derive(Debug)]
pub(super) struct Schedules {
    rules: Vec<Schedule>,
    max: usize,
    /// The number of the latest rule, which ids count up.
    made: u32,
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
    desired_states: DesiredStates,
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

impl Schedules {
    pub(super) fn new(max: usize) -> Self {
        Self {
            rules: Vec::new(),
            max,
            made: 0,
        }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.rules.iter().filter_map(|rule| rule.due).min()
    }

    pub(super) fn fire(&mut self) -> Option<Firing> {
        let at = self.next_due()?;
        let rule = self.rules.iter_mut().find(|rule| rule.due == Some(at))?;
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

    pub(super) fn skip(&mut self, now: Timestamp) {
        for rule in &mut self.rules {
            if rule.due.is_some_and(|due| due <= now) {
                rule.due = rule.plan.next(now);
            }
        }
    }

    pub(super) fn page(&self, params: &Value) -> Value {
        let start = params.get("start_index").and_then(Value::as_u64).unwrap_or(0);
        let skip = usize::try_from(start).unwrap_or(usize::MAX);
        let rules: Vec<Value> = self
            .rules
            .iter()
            .skip(skip)
            .take(PAGE)
            .map(Schedule::to_json)
            .collect();
        json!({
            "enable": self.rules.iter().any(|rule| rule.plan.enable),
            "rule_list": rules,
            "schedule_rule_max_count": self.max,
            "start_index": start,
            "sum": self.rules.len(),
        })
    }

    pub(super) fn add(&mut self, params: &Value, now: Timestamp) -> Answer {
        let plan = Plan::read(params)?;
        if self.rules.len() >= self.max {
            return Err(Refusal::SCHEDULE_FULL);
        }
        if self.conflicts(&plan, None) {
            return Err(Refusal::SCHEDULE_CONFLICT);
        }
        self.made += 1;
        let id = format!("S{}", self.made);
        self.rules.push(Schedule::new(id.clone(), params, plan, now));
        Ok(Some(json!({ "id": id })))
    }

    pub(super) fn edit(&mut self, params: &Value, now: Timestamp) -> Answer {
        let plan = Plan::read(params)?;
        let RuleId { id } = read(params)?;
        let conflicts = self.conflicts(&plan, Some(&id));
        let rule = self.rules.iter_mut().find(|rule| rule.id == id);
        let rule = rule.ok_or(Refusal::SCHEDULE_INDEX)?;
        if conflicts {
            return Err(Refusal::SCHEDULE_CONFLICT);
        }
        *rule = Schedule::new(id, params, plan, now);
        Ok(None)
    }

    pub(super) fn remove(&mut self, params: &Value) -> Answer {
        let removal: Removal = read(params)?;
        self.rules.retain(|rule| !removal.covers(&rule.id));
        Ok(None)
    }

    pub(super) fn next_event(&self) -> Value {
        let next = self.rules.iter().filter_map(|rule| Some((rule.due?, rule)));
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
            && self.rules.iter().any(|rule| {
                own_id != Some(rule.id.as_str())
                    && rule.plan.enable
                    && rule.plan.minute() == plan.minute()
                    && rule.plan.mode == plan.mode
                    && (plan.mode == Mode::Once || rule.plan.week_day & plan.week_day != 0)
            })
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
        let in_range = plan.s_min < DAY_MINUTES && plan.time_offset.unsigned_abs() <= MAX_OFFSET;
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
