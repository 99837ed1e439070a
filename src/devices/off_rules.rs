//! The schedule rules that a plug executes by itself: read slowly and reported. The OFF rules of the bridge are kept as
//! the scheduler wants them.

mod plan;

use std::{sync::Arc, time::Duration};

use planner::Power;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use plan::{OffRulePlan, Step};

use super::{
    backoff::jittered,
    client::{connection::ExchangeError, fault::Fault, login_budget::LoginPurpose, session::DeviceRequest},
    context::Context,
};
use crate::domain::{
    off_rules::{WantedOffRules, WeeklyOff},
    report::{DeviceRule, Kind, RuleTime, Weekdays},
};

/// Between two readings. Users change rules seldom, and a reading needs one request for each five rules.
const EVERY: Duration = Duration::from_mins(10);

/// The schedule rules on a device.
#[derive(Debug)]
pub(super) struct OffRules {
    /// Whether the component list names the store of rules.
    supported: bool,
    /// When they are read next.
    due: Instant,
    /// The rules of the bridge.
    plan: OffRulePlan,
}

impl OffRules {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            supported: false,
            due: now,
            plan: OffRulePlan::default(),
        }
    }

    /// A login: the rules may have changed meanwhile. Other requests go first.
    pub(super) fn on_connected(&mut self, kind: Kind, components: &[String], due: Instant) {
        // No request of the `tapo` crate (0.12.2) reaches the store of a strip's outlet.
        self.supported = kind == Kind::Plug && components.iter().any(|id| id == "schedule");
        self.due = due;
        self.plan.mark_stale();
    }

    /// The scheduler wants these rules on the device.
    pub(super) fn set_wanted(&mut self, context: &mut Context, wanted: Arc<WantedOffRules>) {
        self.plan.set_wanted(wanted);
        context.attribution.set_off_rules(self.plan.ours());
    }

    /// Whether the rules should be read now.
    pub(super) fn are_due(&self) -> bool {
        self.supported && Instant::now() >= self.due
    }

    /// Whether rules are to be written.
    pub(super) fn are_pending(&self) -> bool {
        self.supported && self.plan.is_pending()
    }

    /// Reads the rules. A device that cannot answer keeps all its other functions.
    pub(super) async fn poll(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        self.due = Instant::now() + jittered(EVERY);
        let read = context
            .exchange(DeviceRequest::GetRules, LoginPurpose::Poll)
            .await;
        let rules = match read {
            Ok(list) => Some(rules(&list)),
            Err(error) => {
                let fault = error.own_answer()?;
                if let Fault::UnknownRequest(_) = fault {
                    self.supported = false;
                } else {
                    debug!(device = %context.config.id, %fault, "cannot read the schedule rules");
                }
                None
            }
        };
        if let Some(rules) = &rules {
            self.plan.compare(rules);
            self.plan.repair(rules);
        }
        context.state.rules.list = rules;
        self.report(context).await;
        Ok(())
    }

    /// Sends one request towards the wanted rules, so that commands go between.
    pub(super) async fn write_next(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let rules = context.state.rules.list.clone().unwrap_or_default();
        match self.plan.step(&rules) {
            Step::Read => {
                self.poll(context).await?;
                if context.state.rules.list.is_none() {
                    // Without a reading it is not known which rules exist, so nothing is written.
                    self.plan.stop();
                }
                return Ok(());
            }
            Step::ReadCapacity => {
                let answer = write(context, DeviceRequest::GetRoom).await?;
                let capacity = answer.ok().and_then(|capacity| capacity.as_u64());
                // Most hold 32. A device that does not report it has room for one more.
                let capacity = capacity.and_then(|capacity| usize::try_from(capacity).ok());
                self.plan.set_capacity(capacity.unwrap_or(rules.len() + 1));
            }
            Step::Remove(id, ours) => match write(context, DeviceRequest::RemoveRule(&id)).await? {
                Ok(_) => {
                    self.plan.on_removed(&id);
                    replace_rule(context, &id, None);
                }
                Err(reason) => self.on_refused(context, ours, reason),
            },
            Step::Change(id, wanted) => match write(context, DeviceRequest::EditRule(&id, wanted)).await? {
                Ok(_) => {
                    self.plan.on_written(&id, wanted);
                    replace_rule(context, &id, Some(wanted));
                }
                Err(reason) => self.on_refused(context, wanted, reason),
            },
            Step::Add(wanted) => self.add(context, wanted, &rules).await?,
            Step::Done => self.plan.stop(),
        }
        self.report(context).await;
        Ok(())
    }

    async fn add(
        &mut self,
        context: &mut Context,
        wanted: WeeklyOff,
        rules: &[DeviceRule],
    ) -> Result<(), ExchangeError> {
        self.plan.on_adding(wanted, rules);
        let answer = write(context, DeviceRequest::AddRule(wanted)).await?;
        let id = |added: &Value| added.get("id")?.as_str().map(str::to_owned);
        match answer.map(|added| id(&added)) {
            Ok(Some(id)) => {
                self.plan.on_written(&id, wanted);
                replace_rule(context, &id, Some(wanted));
                info!(device = %context.config.id, rule = %id, "OFF rule written to the device");
            }
            // It may exist all the same; the next reading shows it.
            Ok(None) => self.on_refused(context, wanted, "its answer has no id".to_owned()),
            Err(reason) => self.on_refused(context, wanted, reason),
        }
        Ok(())
    }

    /// A rule that the device refused is not sent again. The rules are read again.
    fn on_refused(&mut self, context: &Context, rule: WeeklyOff, reason: String) {
        warn!(device = %context.config.id, %reason, "the device refused a schedule rule");
        self.plan.on_refused(rule, reason);
    }

    async fn report(&self, context: &mut Context) {
        context.attribution.set_off_rules(self.plan.ours());
        let rules = context.state.rules.list.clone().unwrap_or_default();
        if let Some(outcome) = self.plan.outcome(&rules) {
            context.state.rules.off_rules = Some(Arc::new(outcome));
        }
        context.state.apply_rules();
        context.send_report().await;
    }

    /// Removes the rules of the bridge from a device that left the settings. A rule that was changed externally is not
    /// the bridge's any more, so the rules are read first. The caller bounds the time.
    ///
    /// # Errors
    /// The fault that ended it. The rules that remain stay known, for [`Self::warn_of_remaining`].
    pub(super) async fn remove_all(&mut self, context: &mut Context) -> Result<(), Fault> {
        if self.plan.ours().is_empty() {
            return Ok(());
        }
        let connection = &mut context.connection;
        let list = connection.exchange_after_stop(DeviceRequest::GetRules).await?;
        self.plan.compare(&rules(&list));
        while let Some(id) = self.plan.ours().keys().next().cloned() {
            let request = DeviceRequest::RemoveRule(&id);
            connection.exchange_after_stop(request).await?;
            self.plan.on_removed(&id);
        }
        Ok(())
    }

    /// Logs how many rules of the bridge a removed device keeps.
    pub(super) fn warn_of_remaining(&self, context: &Context) {
        let rules = self.plan.ours().len();
        if rules > 0 {
            warn!(
                device = %context.config.id,
                rules,
                "the device was removed from the settings, but its OFF rules of this bridge could not be removed from \
                 it; delete them in the Tapo app"
            );
        }
    }
}

/// Sends a request about rules. The inner error is the refusal of the device.
async fn write(
    context: &mut Context,
    request: DeviceRequest<'_>,
) -> Result<Result<Value, String>, ExchangeError> {
    match context.exchange(request, LoginPurpose::Poll).await {
        Ok(value) => Ok(Ok(value)),
        Err(error) => {
            let fault = error.own_answer()?;
            Ok(Err(format!("the plug did not accept a rule: {fault}")))
        }
    }
}

/// The rules on the plug after a write.
fn replace_rule(context: &mut Context, id: &str, new: Option<WeeklyOff>) {
    let rules = context.state.rules.list.iter().flat_map(|rules| rules.iter());
    let others = rules.filter(|rule| rule.id != id).cloned();
    let new = new.map(|new| new.as_rule(id.to_owned()));
    context.state.rules.list = Some(others.chain(new).collect());
}

/// The rules of a list, in its order. One of an unknown shape is left out.
fn rules(list: &Value) -> Arc<[DeviceRule]> {
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
