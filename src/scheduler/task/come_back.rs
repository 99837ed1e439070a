//! Outlets that are reachable again: after a power cut, or a link that was lost.

use tracing::info;

use super::{
    Look, Scheduler,
    act::Aim,
    outlet::{Live, Urgency},
};
use crate::domain::report::{Availability, EventKind};
use planner::{
    OutletPath, Power,
    overrides::{Lifetime, Origin, Override, OverrideState},
    plan::{OutletPlan, Source},
    rules::{Group, OnReconnect},
};

/// What a policy makes of an outlet that is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Welcome {
    AsPlanned,
    Leave,
    StayOff,
    /// Off, once: a group without schedules has no overrides.
    SwitchOff,
}

fn welcome(group: &Group, plan: &OutletPlan, power: Power) -> Welcome {
    // A limit may end long before the next edge, so what it wants now does not settle it.
    let planned = plan.desired.filter(|_| plan.source != Source::Safety);
    match (group.on_reconnect, group.is_scheduled()) {
        (OnReconnect::Keep, true) if planned != Some(power) => Welcome::Leave,
        (OnReconnect::Off, true) if planned != Some(Power::Off) => Welcome::StayOff,
        (OnReconnect::Off, false) if power == Power::On => Welcome::SwitchOff,
        (OnReconnect::Reconcile | OnReconnect::Keep | OnReconnect::Off, _) => Welcome::AsPlanned,
    }
}

impl Scheduler {
    /// An outlet is reachable again, and says what it is.
    pub(super) fn came_back(&mut self, path: &OutletPath, power: Power, look: Look) {
        let rules = self.book.rules.clone();
        let (Some(group), Some(plan)) = (rules.group_of(path), self.book.plan.outlets.get(path)) else {
            return;
        };
        let (stance, what) = match welcome(group, plan, power) {
            Welcome::AsPlanned => return,
            Welcome::Leave => (OverrideState::Leave, format!("it is left {power}")),
            Welcome::StayOff => (OverrideState::Off, "it is OFF".to_owned()),
            Welcome::SwitchOff => return self.switch_off_at_return(path, look),
        };
        let Ok(new) = Override::new(stance, Lifetime::UntilNextSchedule, Origin::OnReconnect, look.now)
        else {
            return;
        };
        self.override_by_itself(path, new);
        let end = self.in_words(new.end(group, &rules.location));
        let message = format!("{path} is back, and {power}: {what} until {end}");
        self.tell_event(
            EventKind::OverrideSet,
            Some(path),
            Some(group.id.clone()),
            message,
            look,
        );
    }

    fn switch_off_at_return(&mut self, path: &OutletPath, look: Look) {
        info!(outlet = %path, "back, and on: it is switched off");
        self.switch_off_once(path, look);
    }

    /// Whether an outlet is left alone while it is out of reach. An order that waits at its device is carried out the
    /// moment the device returns: before its policy is asked, and whoever else goes on then.
    pub(super) fn waits_for_return(&self, path: &OutletPath, aim: Aim) -> bool {
        let away = |live: &Live| live.availability == Availability::Offline;
        if aim.urgency == Urgency::Limit || !self.live.get(path).is_some_and(away) {
            return false;
        }
        let group = self.book.rules.group_of(path);
        group.is_some_and(|group| match group.on_reconnect {
            OnReconnect::Reconcile => aim.power == Power::On && group.stagger.is_some(),
            OnReconnect::Keep | OnReconnect::Off => true,
        })
    }
}
