//! Keeps the OFF edges of a group on the devices of its members, where the settings require it.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use planner::{
    Now, Steady,
    location::Location,
    overrides::{Override, OverrideState},
    rules::Group,
};

use super::off_edges::{Held, Week, week};
use crate::domain::{
    off_rules::{OurRules, WantedOffRules, WeeklyOff},
    report::{DeviceClock, DeviceRules},
};

/// Between two requests for the same rules: a worker writes them between its polls.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// What is wanted on one device, and what is there of ours.
#[derive(Debug, Default)]
pub struct OffRuleSync {
    ours: OurRules,
    /// In a box: most outlets have none.
    plan: Option<Box<Plan>>,
    requested: Option<(BTreeSet<WeeklyOff>, Steady)>,
    /// The error that was reported.
    reported: Option<String>,
}

/// The rules that are wanted, and what they follow from.
#[derive(Debug)]
struct Plan {
    group: Option<Group>,
    overridden: Option<Override>,
    clock: DeviceClock,
    /// When they change by themselves.
    until: Option<Timestamp>,
    wanted: BTreeSet<WeeklyOff>,
}

/// What to do about the rules on a device.
#[derive(Debug, Default)]
pub struct OffRuleStep {
    /// To the worker.
    pub request: Option<Arc<WantedOffRules>>,
    /// A new error, to be reported once.
    pub error: Option<String>,
    /// When to look again.
    pub wake: Option<Steady>,
}

impl OffRuleSync {
    /// With the rules of an earlier run.
    pub fn new(ours: OurRules) -> Self {
        Self {
            ours,
            ..Self::default()
        }
    }

    /// Our rules on the device.
    pub fn ours(&self) -> &OurRules {
        &self.ours
    }

    /// Takes what the device reports.
    pub fn on_reading(&mut self, rules: &DeviceRules) {
        if let Some(status) = &rules.off_rules {
            self.ours.clone_from(&status.ours);
        }
    }

    /// Decides what to write, for an outlet that can be reached. `group` is the group whose OFF edges the device
    /// should hold.
    pub fn step(
        &mut self,
        group: Option<&Group>,
        overridden: Option<Override>,
        rules: &DeviceRules,
        location: &Location,
        now: Now,
    ) -> OffRuleStep {
        if rules.list.is_none() || (group.is_some() && rules.clock == DeviceClock::Unread) {
            return OffRuleStep::default();
        }
        if group.is_none() && self.ours.is_empty() && self.plan.is_none() {
            return OffRuleStep::default();
        }
        self.plan_rules(group, overridden, &rules.clock, location, now);
        let mut step = self.request(rules, now);
        step.error = self.new_error(group.is_some(), rules);
        step
    }

    fn plan_rules(
        &mut self,
        group: Option<&Group>,
        overridden: Option<Override>,
        clock: &DeviceClock,
        location: &Location,
        now: Now,
    ) {
        let same = self.plan.as_ref().is_some_and(|plan| {
            plan.group.as_ref() == group
                && plan.overridden == overridden
                && plan.clock == *clock
                && plan.until.is_none_or(|until| now.wall < until)
        });
        if same {
            return;
        }
        let coming = match (group, zone_of(clock)) {
            (Some(group), Some(zone)) => {
                let held = held(overridden, group, location, now);
                week(group, location, &zone, held, now.wall)
            }
            // By a clock that is wrong a rule would fire at any time.
            _ => Week::default(),
        };
        self.plan = Some(Box::new(Plan {
            group: group.cloned(),
            overridden,
            clock: clock.clone(),
            until: coming.until,
            wanted: coming.rules,
        }));
    }

    fn request(&mut self, rules: &DeviceRules, now: Now) -> OffRuleStep {
        let mut step = OffRuleStep::default();
        let Some(plan) = &self.plan else { return step };
        let until = plan.until.filter(|until| *until > now.wall);
        step.wake = until.map(|until| now.steady_at(until));
        let written = rules
            .off_rules
            .as_deref()
            .and_then(|status| status.wanted.as_ref());
        let nothing_to_do = written.is_none() && plan.wanted.is_empty() && self.ours.is_empty();
        if written == Some(&plan.wanted) || nothing_to_do {
            return step;
        }
        let again = match &self.requested {
            Some((requested, at)) if *requested == plan.wanted && now.steady < at.after(AGAIN) => {
                at.after(AGAIN)
            }
            _ => {
                step.request = Some(Arc::new(WantedOffRules {
                    wanted: plan.wanted.clone(),
                    ours: self.ours.clone(),
                }));
                self.requested = Some((plan.wanted.clone(), now.steady));
                now.steady.after(AGAIN)
            }
        };
        step.wake = Some(step.wake.map_or(again, |wake| wake.min(again)));
        step
    }

    fn new_error(&mut self, wanted: bool, rules: &DeviceRules) -> Option<String> {
        let error = if wanted { error(rules) } else { None };
        if self.reported == error {
            return None;
        }
        self.reported.clone_from(&error);
        error
    }
}

/// A rule must not switch off what an override wants on, or what nothing may switch.
fn held(overridden: Option<Override>, group: &Group, location: &Location, now: Now) -> Held {
    match overridden.filter(|found| found.state() != OverrideState::Off) {
        None => Held::Not,
        Some(found) => match found.end(group, location, now) {
            Some(end) => Held::Until(end),
            None => Held::Always,
        },
    }
}

fn zone_of(clock: &DeviceClock) -> Option<TimeZone> {
    match clock {
        DeviceClock::InStep { zone } => TimeZone::get(zone).ok(),
        DeviceClock::Unread | DeviceClock::Unreported | DeviceClock::Wrong => None,
    }
}

fn error(rules: &DeviceRules) -> Option<String> {
    match &rules.clock {
        DeviceClock::Unreported => Some("its clock cannot be read".to_owned()),
        DeviceClock::Wrong => Some("its clock is not in step with the bridge's".to_owned()),
        DeviceClock::Unread | DeviceClock::InStep { .. } => rules.off_rules.as_ref()?.error.clone(),
    }
}
