//! The schedule rules that a plug holds, as JSON.

use serde::Serialize;

use crate::domain::{
    report::{DeviceRule, Outlet, Weekdays},
    scheduling::OutletStatus,
};
use planner::Power;

#[derive(Serialize, Default)]
pub(super) struct DeviceRulesState {
    device_schedules: Option<Vec<RuleEntry>>,
    device_schedules_enabled: Option<usize>,
}

#[derive(Serialize)]
struct RuleEntry {
    id: String,
    enabled: bool,
    /// As schedules of ours spell it.
    time: String,
    /// None is once.
    days: Option<Vec<&'static str>>,
    state: Power,
    /// Whether the bridge put it there.
    ours: bool,
}

impl DeviceRulesState {
    pub(super) fn of(outlet: &Outlet, status: &OutletStatus) -> Self {
        let Some(rules) = outlet.rules.list.as_deref() else {
            return Self::default();
        };
        let entry = |rule: &DeviceRule| RuleEntry {
            id: rule.id.clone(),
            enabled: rule.enabled,
            time: rule.time.to_string(),
            days: rule.days.map(Weekdays::names),
            state: rule.to,
            ours: status.off_rules.contains(&rule.id),
        };
        Self {
            device_schedules: Some(rules.iter().map(entry).collect()),
            device_schedules_enabled: Some(rules.iter().filter(|rule| rule.enabled).count()),
        }
    }
}
