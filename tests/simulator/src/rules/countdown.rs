//! The countdown: one slot, which a rule that has fired leaves free.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{DesiredStates, Firing, Removal, read};
use crate::{
    clock::{after, between},
    counters::Cause,
    reply::{Answer, Refusal},
};

/// The longest countdown, in seconds.
const MAX_DELAY: u32 = 24 * 60 * 60;

#[derive(Debug, Default)]
pub(super) struct Countdowns {
    slot: Option<Countdown>,
    /// The number of the latest rule, which ids count up.
    made: u32,
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
struct Params {
    #[serde(default)]
    id: Option<String>,
    enable: bool,
    delay: u32,
    desired_states: DesiredStates,
}

impl Countdowns {
    pub(super) fn number_from(&mut self, first: u32) {
        self.made = first;
    }

    pub(super) fn forget(&mut self) {
        self.slot = None;
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.slot.as_ref()?.due
    }

    pub(super) fn to(&self) -> Option<bool> {
        let rule = self.slot.as_ref()?;
        rule.due.map(|_| rule.on)
    }

    pub(super) fn fire(&mut self) -> Option<Firing> {
        let rule = self.slot.as_mut()?;
        Some(Firing {
            at: rule.due.take()?,
            on: rule.on,
            cause: Cause::Countdown,
        })
    }

    pub(super) fn list(&self, now: Timestamp) -> Value {
        let rules: Vec<Value> = self.slot.iter().map(|rule| rule.to_json(now)).collect();
        json!({
            "countdown_rule_max_count": 1,
            "enable": self.due().is_some(),
            "rule_list": rules,
        })
    }

    pub(super) fn add(&mut self, params: &Value, now: Timestamp) -> Answer {
        let params = Params::read(params)?;
        if self.due().is_some() {
            return Err(Refusal::COUNTDOWN_CONFLICT);
        }
        self.made += 1;
        let id = format!("C{}", self.made);
        self.slot = Some(params.into_rule(id.clone(), now));
        Ok(Some(json!({ "id": id })))
    }

    pub(super) fn edit(&mut self, params: &Value, now: Timestamp) -> Answer {
        let params = Params::read(params)?;
        let rule = self.slot.as_mut().ok_or(Refusal::COUNTDOWN)?;
        if params.id.as_ref() != Some(&rule.id) {
            return Err(Refusal::COUNTDOWN);
        }
        *rule = params.into_rule(rule.id.clone(), now);
        Ok(None)
    }

    pub(super) fn remove(&mut self, params: &Value) -> Answer {
        let removal: Removal = read(params)?;
        self.slot.take_if(|rule| removal.covers(&rule.id));
        Ok(None)
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

impl Params {
    fn read(params: &Value) -> Result<Self, Refusal> {
        let params: Self = read(params)?;
        if (1..=MAX_DELAY).contains(&params.delay) {
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
