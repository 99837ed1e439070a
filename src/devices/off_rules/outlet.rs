//! The schedule rules of one outlet, with those of the bridge among them.

use std::sync::Arc;

use planner::Power;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::plan::{OffRulePlan, Step};
use crate::{
    devices::{
        client::{
            components::Component, connection::ExchangeError, fault::Fault, login_budget::LoginPurpose,
            session::DeviceRequest,
        },
        context::Context,
        state::OutletAddress,
    },
    domain::{
        off_rules::{OffRulesStatus, WantedOffRules, WeeklyOff},
        report::{DeviceRule, RuleTime, Weekdays},
    },
};

/// The rules of one outlet.
#[derive(Debug)]
pub(super) struct OutletOffRules {
    pub(super) address: OutletAddress,
    /// Whether its components name the store of rules, and the client reaches it.
    pub(super) supported: bool,
    /// When they are read next.
    pub(super) due: Instant,
    /// The rules of the bridge.
    plan: OffRulePlan,
}

impl OutletOffRules {
    pub(super) fn new(address: OutletAddress, due: Instant) -> Self {
        Self {
            address,
            supported: false,
            due,
            plan: OffRulePlan::default(),
        }
    }

    /// A login: the rules may have changed meanwhile. Other requests go first.
    pub(super) fn on_connected(&mut self, context: &Context, due: Instant) {
        let child = self.address.child.as_deref();
        let is_reached = child.is_none() || context.connection.is_own();
        self.supported = is_reached && context.state.components.may_have(child, Component::Schedule);
        self.due = due;
        self.plan.mark_stale();
    }

    /// The scheduler wants these rules on the outlet.
    pub(super) fn set_wanted(&mut self, context: &mut Context, wanted: Arc<WantedOffRules>) {
        self.plan.set_wanted(wanted);
        self.attribute(context);
    }

    /// Whether rules are to be written.
    pub(super) fn are_pending(&self) -> bool {
        self.supported && self.plan.is_pending()
    }

    /// Reads the rules. A device that cannot answer keeps all its other functions.
    pub(super) async fn poll(&mut self, context: &mut Context, next: Instant) -> Result<(), ExchangeError> {
        self.due = next;
        let request = DeviceRequest::GetRules(self.address.child.as_deref());
        let rules = match context.exchange(request, LoginPurpose::Poll).await {
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
        context.state.set_rules(self.address.position, rules);
        self.report(context).await;
        Ok(())
    }

    /// Sends one request towards the wanted rules, so that commands go between.
    pub(super) async fn write_next(
        &mut self,
        context: &mut Context,
        next: Instant,
    ) -> Result<(), ExchangeError> {
        let rules = self.rules(context);
        match self.plan.step(&rules) {
            Step::Read => {
                self.poll(context, next).await?;
                let read = context.state.rules_at(self.address.position);
                if read.is_none_or(|rules| rules.list.is_none()) {
                    // Without a reading it is not known which rules exist, so nothing is written.
                    self.plan.stop();
                }
                return Ok(());
            }
            Step::ReadCapacity => {
                let request = DeviceRequest::GetRoom(self.address.child.as_deref());
                let capacity = write(context, request).await?.ok();
                // Most hold 32. A device that does not report it has room for one more.
                let capacity = capacity.and_then(|capacity| usize::try_from(capacity.as_u64()?).ok());
                self.plan.set_capacity(capacity.unwrap_or(rules.len() + 1));
            }
            Step::Remove(id, ours) => {
                let request = DeviceRequest::RemoveRule(self.address.child.as_deref(), &id);
                match write(context, request).await? {
                    Ok(_) => {
                        self.plan.on_removed(&id);
                        self.replace_rule(context, &id, None);
                    }
                    Err(reason) => self.on_refused(context, ours, reason),
                }
            }
            Step::Change(id, wanted) => {
                let request = DeviceRequest::EditRule(self.address.child.as_deref(), &id, wanted);
                match write(context, request).await? {
                    Ok(_) => {
                        self.plan.on_written(&id, wanted);
                        self.replace_rule(context, &id, Some(wanted));
                    }
                    Err(reason) => self.on_refused(context, wanted, reason),
                }
            }
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
        let request = DeviceRequest::AddRule(self.address.child.as_deref(), wanted);
        let answer = write(context, request).await?;
        let id = |added: &Value| added.get("id")?.as_str().map(str::to_owned);
        match answer.map(|added| id(&added)) {
            Ok(Some(id)) => {
                self.plan.on_written(&id, wanted);
                self.replace_rule(context, &id, Some(wanted));
                let path = context.path_of(&self.address);
                info!(outlet = %path, rule = %id, "OFF rule written to the device");
            }
            // It may exist all the same; the next reading shows it.
            Ok(None) => self.on_refused(context, wanted, "its answer has no id".to_owned()),
            Err(reason) => self.on_refused(context, wanted, reason),
        }
        Ok(())
    }

    /// A rule that the device refused is not sent again. The rules are read again.
    fn on_refused(&mut self, context: &Context, rule: WeeklyOff, reason: String) {
        let path = context.path_of(&self.address);
        warn!(outlet = %path, %reason, "the device refused a schedule rule");
        self.plan.on_refused(rule, reason);
    }

    fn rules(&self, context: &mut Context) -> Arc<[DeviceRule]> {
        let rules = context.state.rules_at(self.address.position);
        rules.and_then(|rules| rules.list.clone()).unwrap_or_default()
    }

    /// The rules on the outlet after a write.
    fn replace_rule(&self, context: &mut Context, id: &str, new: Option<WeeklyOff>) {
        let rules = self.rules(context);
        let others = rules.iter().filter(|rule| rule.id != id).cloned();
        let new = new.map(|new| new.as_rule(id.to_owned()));
        let rules = others.chain(new).collect();
        context.state.set_rules(self.address.position, Some(rules));
    }

    fn attribute(&self, context: &mut Context) {
        let key = self.address.key.clone();
        context.attribution.set_off_rules(key, self.plan.ours());
    }

    async fn report(&self, context: &mut Context) {
        self.attribute(context);
        let rules = self.rules(context);
        if let Some(outcome) = self.plan.outcome(&rules)
            && let Some(known) = context.state.rules_at(self.address.position)
        {
            known.off_rules = Some(Arc::new(outcome));
        }
        context.send_report().await;
    }

    /// Removes the rules of the bridge from a device that left the settings. A rule that was changed externally is not
    /// the bridge's any more, so the rules are read first. The caller bounds the time.
    ///
    /// # Errors
    /// The fault that ended it. The rules that remain stay known, for [`Self::remaining`].
    pub(super) async fn remove_all(&mut self, context: &mut Context) -> Result<(), Fault> {
        if self.plan.ours().is_empty() {
            return Ok(());
        }
        let (connection, child) = (&mut context.connection, self.address.child.as_deref());
        let list = connection
            .exchange_after_stop(DeviceRequest::GetRules(child))
            .await?;
        self.plan.compare(&rules(&list));
        while let Some(id) = self.plan.ours().keys().next().cloned() {
            let request = DeviceRequest::RemoveRule(child, &id);
            connection.exchange_after_stop(request).await?;
            self.plan.on_removed(&id);
        }
        Ok(())
    }

    /// The next client reaches no rules of the outlet.
    pub(super) fn on_out_of_reach(&self, context: &mut Context) {
        self.attribute(context);
        if let Some(known) = context.state.rules_at(self.address.position) {
            known.list = None;
            known.off_rules = Some(Arc::new(OffRulesStatus {
                ours: self.plan.ours().clone(),
                ..OffRulesStatus::default()
            }));
        }
    }

    /// How many rules of the bridge are on the outlet.
    pub(super) fn remaining(&self) -> usize {
        self.plan.ours().len()
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
            Ok(Err(format!("the outlet did not accept a rule: {fault}")))
        }
    }
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
