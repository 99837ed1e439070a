//! The decision for one outlet of a group with a thermostat: each layer wants a target, and the thermostat makes ON or OFF
//! of it.

use std::iter;

use super::{
    DesiredPower, Inputs, Reason, Reasons, Rule, Source, ThermostatPlan, Vacation,
    decide::{InForce, overridden, rule},
    group::ScheduleWinner,
    reason,
};
use crate::{
    OutletPath, Power,
    activity::{Activity, BOOT_GRACE, Conditions},
    overrides::Override,
    rules::Group,
    safety::{Cause, RunTime},
    thermostat::{DemandReason, Goal, HeaterRelay, Permit, RoomReading, Thermostat},
};
use jiff::Timestamp;

/// A thermostat and one of its relays.
pub(super) struct Heating<'a> {
    thermostat: &'a Thermostat,
    reading: RoomReading,
    permit: Permit,
    observed: Option<Power>,
    run_time: RunTime,
}

/// What a thermostat has to do, and who says so.
struct WantedGoal {
    goal: Goal,
    source: Source,
    rule: Option<Rule>,
    /// For people, without what is known of the room.
    why: String,
    since: Option<Timestamp>,
}

impl<'a> Heating<'a> {
    /// `None` for a group without a thermostat.
    pub(super) fn of(
        inputs: &Inputs<'_>,
        group: &'a Group,
        outlet: &OutletPath,
        run_time: RunTime,
    ) -> Option<Self> {
        let thermostat = group.thermostat.as_ref()?;
        let reading = match inputs.conditions {
            Conditions::TakenToHold => RoomReading::Cold,
            Conditions::Asked => {
                thermostat.reading(inputs.sensors(), inputs.listening_since.after(BOOT_GRACE))
            }
        };
        Some(Self {
            thermostat,
            reading,
            permit: thermostat.permit(reading, &run_time, inputs.now.steady),
            observed: inputs.observed.get(outlet).copied(),
            run_time,
        })
    }

    /// What decides without the limits, and what would decide without that, where reasons are asked for.
    pub(super) fn layers(
        &self,
        inputs: &Inputs<'_>,
        group: &Group,
        level: &ScheduleWinner<'_>,
        in_force: InForce,
    ) -> (DesiredPower, Vec<DesiredPower>) {
        let by_override = |(found, end): (Override, Option<Timestamp>)| match found.state().hold() {
            None => overridden(inputs, found, end),
            Some(hold) => {
                let wanted = WantedGoal {
                    goal: self.thermostat.goal(hold),
                    source: Source::Override,
                    rule: None,
                    why: reason::held_by_hand(inputs, found, hold, end),
                    since: Some(found.set_at()),
                };
                self.desired(inputs, wanted)
            }
        };
        let by_schedules = || self.by_schedules(inputs, group, level);
        let mut stronger = in_force
            .map(by_override)
            .into_iter()
            .chain(iter::once_with(|| self.on_vacation(inputs, group, level)).flatten());
        match (stronger.next(), inputs.reasons) {
            (None, _) => (by_schedules(), Vec::new()),
            (Some(strongest), Reasons::Omitted) => (strongest, Vec::new()),
            (Some(strongest), Reasons::Included) => {
                (strongest, stronger.chain(iter::once_with(by_schedules)).collect())
            }
        }
    }

    fn on_vacation(
        &self,
        inputs: &Inputs<'_>,
        group: &Group,
        level: &ScheduleWinner<'_>,
    ) -> Option<DesiredPower> {
        let Vacation::Since(since) = inputs.vacation else {
            return None;
        };
        let goal = self.thermostat.outside();
        let rests = inputs.vacation.suspends(group) && goal != self.scheduled_goal(group, level);
        rests.then(|| {
            let wanted = WantedGoal {
                goal,
                source: Source::Vacation,
                rule: rule(level),
                why: format!("{}; {}", reason::vacation(level), self.named(goal)),
                since: Some(since),
            };
            self.desired(inputs, wanted)
        })
    }

    fn by_schedules(&self, inputs: &Inputs<'_>, group: &Group, level: &ScheduleWinner<'_>) -> DesiredPower {
        let goal = self.scheduled_goal(group, level);
        let goal_text = self.named(goal);
        let opened = level.winner().and_then(|state| state.occurrence);
        let wanted = WantedGoal {
            goal,
            source: Source::Schedule,
            rule: rule(level),
            why: match (group.schedules.is_empty(), inputs.reasons) {
                (true, _) => goal_text,
                (false, Reasons::Included) => format!("{}; {goal_text}", level.reason(inputs)),
                (false, Reasons::Omitted) => String::new(),
            },
            since: opened.map(|window| window.start),
        };
        self.desired(inputs, wanted)
    }

    /// Without schedules it always holds its target. A schedule that waits for a sensor does not heat.
    fn scheduled_goal(&self, group: &Group, level: &ScheduleWinner<'_>) -> Goal {
        if group.schedules.is_empty() {
            return Goal::Target(self.thermostat.target);
        }
        match level.winner().filter(|_| level.activity == Activity::Active) {
            Some(state) => Goal::Target(state.schedule.target.unwrap_or(self.thermostat.target)),
            None => self.thermostat.outside(),
        }
    }

    fn named(&self, goal: Goal) -> String {
        match goal {
            Goal::Target(target) if self.thermostat.setback == Some(target) => format!("setback {target}"),
            Goal::Target(target) => format!("target {target}"),
            Goal::Frost | Goal::Off => "frost protection only".to_owned(),
        }
    }

    fn desired(&self, inputs: &Inputs<'_>, wanted: WantedGoal) -> DesiredPower {
        let relay = HeaterRelay {
            power: self.observed,
            run_time: &self.run_time,
        };
        let demand = self
            .thermostat
            .demand(wanted.goal, self.reading, relay, inputs.now.steady);
        let reason = match inputs.reasons {
            Reasons::Included => reason::heating(inputs, self.thermostat, &wanted.why, self.reading, demand),
            Reasons::Omitted => Reason::new(String::new()),
        };
        DesiredPower {
            desired: Some(demand.power),
            source: wanted.source,
            rule: match demand.why {
                DemandReason::Frost => Some(Rule::Frost),
                _ => wanted.rule,
            },
            reason,
            since: wanted.since,
            keeps_state: false,
            goal: Some(wanted.goal),
            changes_at: demand.wake(),
        }
    }

    /// Without a reading that counts it may not be on.
    pub(super) fn refused(&self, inputs: &Inputs<'_>) -> Option<DesiredPower> {
        let Permit::Refused(until) = self.permit else {
            return None;
        };
        let since = match self.reading {
            RoomReading::Silent(since) => Some(inputs.now.wall_at(since)),
            RoomReading::Fresh { .. } | RoomReading::Awaited(_) | RoomReading::Cold => None,
        };
        Some(DesiredPower {
            desired: Some(Power::Off),
            source: Source::Safety,
            rule: Some(Rule::Limit(Cause::Thermometer)),
            reason: reason::no_reading(inputs, self.thermostat, self.reading, until),
            since,
            keeps_state: false,
            goal: None,
            changes_at: until,
        })
    }

    /// What is published and what the device needs.
    pub(super) fn plan(
        &self,
        inputs: &Inputs<'_>,
        in_force: InForce,
        without_limits: &DesiredPower,
    ) -> ThermostatPlan {
        ThermostatPlan {
            goal: without_limits.goal,
            overridden: in_force.map(|(found, _)| found.state()),
            room: self.reading.room(),
            lease: match self.permit {
                Permit::Leased(lease) => Some(lease),
                Permit::Refused(_) => None,
            },
            wake: self.wake(inputs, without_limits),
        }
    }

    /// When time alone changes what it wants, or whether it may.
    fn wake(&self, inputs: &Inputs<'_>, without_limits: &DesiredPower) -> Option<Timestamp> {
        let reading = match self.reading {
            RoomReading::Fresh { stale_at, .. } => Some(stale_at),
            RoomReading::Awaited(until) => Some(until),
            RoomReading::Silent(_) | RoomReading::Cold => None,
        };
        let permit = match self.permit {
            Permit::Leased(lease) => Some(lease.ends()),
            Permit::Refused(until) => until,
        };
        let times = [reading, permit, without_limits.changes_at];
        let coming = times.into_iter().flatten().filter(|at| *at > inputs.now.steady);
        coming.min().map(|at| inputs.now.wall_at(at))
    }
}
