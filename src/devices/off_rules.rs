//! The schedule rules that a plug holds and follows by itself: read slowly, shown, and a few of them ours.

mod plan;

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use plan::OffRulePlan;

use super::{
    backoff::{LoginPurpose, jittered},
    client::fault::{Fault, Remedy},
    client::session::{DeviceRequest, Session},
    exchange::ExchangeError,
    worker::Worker,
};
use crate::domain::{
    off_rules::{Mirror, has_fired},
    report::{DeviceClock, DeviceRule, Kind, RuleTime, Weekdays},
};
use planner::Power;

/// Between two readings. People change rules seldom, and a reading is one request for each five rules.
const EVERY: Duration = Duration::from_mins(10);

/// How long the removal of our rules may take once the device was taken out of the settings.
const REMOVAL_BUDGET: Duration = Duration::from_secs(3);

/// What a worker knows of its device's store of rules.
#[derive(Debug)]
pub(super) struct RuleStore {
    /// Whether the component list names the store.
    there: bool,
    /// When it is read next.
    due: Instant,
    /// What shall be in it.
    task: OffRulePlan,
}

impl RuleStore {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            there: false,
            due: now,
            task: OffRulePlan::default(),
        }
    }

    /// A login: what the device is, and that it may have changed meanwhile. Others go first.
    pub(super) fn renew(&mut self, kind: Kind, components: &[String], due: Instant) {
        // No request of the `tapo` crate (0.12.2) reaches the store of a strip's outlet.
        self.there = kind == Kind::Plug && components.iter().any(|id| id == "schedule");
        self.due = due;
        self.task.doubt();
    }

    /// What shall be in it from now on.
    pub(super) fn wish(&mut self, mirror: Arc<Mirror>) {
        self.task.wish(mirror);
    }
}

impl Worker {
    /// Whether the rules should be read now.
    pub(super) fn rules_are_due(&self) -> bool {
        self.rules.there && Instant::now() >= self.rules.due
    }

    /// Whether a rule of ours fired a moment ago, by the device's clock.
    pub(super) fn rule_has_fired(&self, now: Timestamp) -> bool {
        let DeviceClock::InStep { zone } = &self.known.rules.clock else {
            return false;
        };
        TimeZone::get(zone).is_ok_and(|zone| has_fired(self.rules.task.ours(), &zone, now))
    }

    /// Whether rules are to be written.
    pub(super) fn has_rules_to_write(&self) -> bool {
        self.rules.there && self.rules.task.is_pending()
    }

    /// The device was taken out of the settings: takes our rules off it, in a bounded time.
    pub(super) async fn remove_our_rules(&mut self, session: &mut Session) {
        if self.rules.task.ours().is_empty() {
            return;
        }
        // The stop has come, so requests are not exchanged as usual. What is not done in time is left.
        let removal = self.rules.task.remove_ours(session);
        if let Ok(Err(fault)) = timeout(REMOVAL_BUDGET, removal).await {
            debug!(device = %self.config.id, %fault, "OFF rules not removed");
        }
    }

    /// Says which rules a device keeps that was taken out of the settings.
    pub(super) fn warn_of_rules_left(&self) {
        let left = self.rules.task.ours().len();
        if left > 0 {
            warn!(
                device = %self.config.id,
                rules = left,
                "the device was removed from the settings, but its OFF rules of this bridge could not be removed from \
                 it; delete them in the Tapo app"
            );
        }
    }

    /// Reads the rules. A device that cannot say loses nothing else.
    pub(super) async fn poll_rules(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        self.rules.due = Instant::now() + jittered(EVERY);
        let read = self
            .exchange(session, DeviceRequest::GetRules, LoginPurpose::Poll)
            .await;
        let rules = match read {
            Ok(list) => Some(rules(&list)),
            Err(ExchangeError::Fault(Fault::UnknownRequest(_))) => {
                self.rules.there = false;
                None
            }
            Err(ExchangeError::Fault(fault)) if is_own_answer(&fault) => {
                debug!(device = %self.config.id, %fault, "its schedule rules cannot be read");
                None
            }
            Err(on_exchange_error) => return Err(on_exchange_error),
        };
        if let Some(rules) = &rules {
            self.rules.task.compare(rules);
            self.rules.task.repair(rules);
        }
        self.known.rules.list = rules;
        self.report_rules().await;
        Ok(())
    }
}

/// What the device says or refuses is not worth a reconnect.
fn is_own_answer(fault: &Fault) -> bool {
    fault.remedy() == Remedy::DoWithout || matches!(fault, Fault::Unreadable(_))
}

/// The rules of a list, in its order. One of an unknown shape is left out.
pub(super) fn rules(list: &Value) -> Arc<[DeviceRule]> {
    list.as_array().into_iter().flatten().filter_map(rule).collect()
}

fn rule(value: &Value) -> Option<DeviceRule> {
    Some(DeviceRule {
        id: value.get("id")?.as_str()?.to_owned(),
        enabled: value.get("enabled")?.as_bool()?,
        time: time(value.get("time")?)?,
        days: match value.get("days")? {
            Value::Null => None,
            bits => Some(Weekdays::from_bits(u8::try_from(bits.as_u64()?).ok()?)),
        },
        to: match value.get("desired_state")?.as_str()? {
            "on" => Power::On,
            "off" => Power::Off,
            _ => return None,
        },
    })
}

fn time(value: &Value) -> Option<RuleTime> {
    let offset = |name: &str| {
        let offset = value.get(name)?.get("offset_minutes")?.as_i64()?;
        i16::try_from(offset).ok()
    };
    if let Some(clock) = value.get("clock") {
        let part = |name: &str, limit: u64| {
            let part = clock.get(name)?.as_u64().filter(|part| *part < limit)?;
            u16::try_from(part).ok()
        };
        return Some(RuleTime::Clock {
            minute: part("hour", 24)? * 60 + part("minute", 60)?,
        });
    }
    offset("sunrise")
        .map(|minutes| RuleTime::Sunrise { minutes })
        .or_else(|| offset("sunset").map(|minutes| RuleTime::Sunset { minutes }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_read_and_unknown_shapes_are_left_out() {
        let list = json!([
            {"id": "S1", "enabled": true, "time": {"clock": {"hour": 22, "minute": 5}}, "days": 0b100_0001, "desired_state": "off"},
            {"id": "S2", "enabled": true, "time": {"moonrise": {}}, "days": null, "desired_state": "on"},
            {"id": "S3", "enabled": false, "time": {"sunset": {"offset_minutes": -30}}, "days": null, "desired_state": "on"},
            {"id": "S4", "enabled": true, "time": {"clock": {"hour": 24, "minute": 0}}, "days": 1, "desired_state": "on"},
            {"id": "S5", "enabled": true, "time": {"sunrise": {"offset_minutes": 0}}, "days": 300, "desired_state": "on"},
            {"id": 6}, null, "S7",
        ]);
        let read = rules(&list);
        let ids: Vec<&str> = read.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["S1", "S3"]);
        assert_eq!(read[0].time, RuleTime::Clock { minute: 22 * 60 + 5 });
        assert_eq!(read[0].days.unwrap().names(), ["sun", "sat"]);
        assert_eq!(read[1].time.to_string(), "sunset-00:30");
        assert_eq!(
            (read[1].days, read[1].to, read[1].enabled),
            (None, Power::On, false)
        );
        assert!(rules(&json!({"rule_list": []})).is_empty());
    }
}
