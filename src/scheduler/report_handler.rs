//! Takes what devices report.

use std::sync::Arc;

use planner::{
    Now, OutletPath, Power,
    energy_limits::{IfFinished, LoadIdle, Reading},
    overrides::{Lifetime, Origin, Override, OverrideState},
    rules::{Group, OnExternalChange, OnReconnect},
};
use tracing::{info, warn};

use super::{
    Effect,
    completion::Completion,
    fail_safe::SentEnd,
    outlets::{Change, OutletState, Purpose},
    persisted::PersistedChange,
    relays::RelayId,
    state::State,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, Switch},
    report::{Availability, ChangedBy, DeviceReport, EventKind, Metered, Outlet as OutletReport, Phase},
    scheduling::SchedulerUpdate,
};

/// A plug counts whole seconds, and a report takes some time.
const SAME_MOMENT: jiff::SignedDuration = jiff::SignedDuration::from_secs(3);

/// Takes reports, at a moment.
pub(super) struct ReportHandler<'a> {
    state: &'a mut State,
    now: Now,
}

impl<'a> ReportHandler<'a> {
    /// At a moment.
    pub(super) fn new(state: &'a mut State, now: Now) -> Self {
        Self { state, now }
    }

    /// Takes a report of a device.
    pub(super) fn on_report(&mut self, report: &Arc<DeviceReport>) {
        // The worker of a device that a reload removed or changed may still report.
        if !self.state.relays.is_meant(report) {
            return;
        }
        self.state.refused.remove(&report.id);
        if report.availability == Availability::Offline {
            return self.went_offline(report);
        }
        if self.state.relays.is_taken(report) {
            self.state.refused.insert(report.id.clone(), report.clone());
        }
        let known = self.state.relays.known();
        let before = known.get(&report.id).map(|known| known.hardware.clone());
        let identified = self.state.relays.identify(report, self.now.steady);
        if identified {
            self.identified(report);
            if let Some(before) = before {
                self.state.hand_over_overrides(&report.id, &before);
            }
        }
        let metered = report.identity.as_ref().map(|identity| identity.meters_energy);
        for outlet in &report.outlets {
            let Some((path, relay)) = self.resolve(report, outlet) else {
                continue;
            };
            self.on_outlet(&path, &relay, outlet, report.phase, metered);
        }
        if identified {
            self.report_again();
        }
    }

    /// Two devices that exchange their addresses report one after the other: the first has hardware that the other
    /// still seems to have, and reports no second time.
    fn report_again(&mut self) {
        let relays = &self.state.relays;
        let free = self
            .state
            .refused
            .extract_if(.., |_, report| !relays.is_taken(report));
        for (_, report) in free.collect::<Vec<_>>() {
            self.on_report(&report);
        }
    }

    /// The relay of a reading and its name. A report from before a reload still has the names of then.
    fn resolve(&self, report: &DeviceReport, outlet: &OutletReport) -> Option<(OutletPath, RelayId)> {
        let relay = self.state.relays.relay_at(&report.id, outlet.position)?;
        let path = self.state.outlets.get(&relay)?.path.clone();
        (self.state.relay(&path) == Some(&relay)).then_some((path, relay))
    }

    fn went_offline(&mut self, report: &DeviceReport) {
        for path in self.state.relays.outlets(&report.id) {
            let Some(outlet) = self.state.outlet_mut(&path).filter(|outlet| outlet.online) else {
                continue;
            };
            outlet.online = false;
            if outlet.concerns_us() || self.state.rules.group_of(&path).is_some() {
                self.state.mark(&path);
            }
        }
    }

    /// A device was identified, or other hardware has its name.
    fn identified(&mut self, report: &DeviceReport) {
        let before = self.state.rules.apply(&self.state.relays);
        self.state.report_missing();
        self.state.name_outlets(&report.id);
        self.state
            .persist(PersistedChange::Devices(self.state.relays.known().clone()));
        if before.is_some() {
            let rules = self.state.rules.in_force().clone();
            self.state.update(SchedulerUpdate::Rules(rules));
            self.state.mark_all();
        }
    }

    fn on_outlet(
        &mut self,
        path: &OutletPath,
        relay: &RelayId,
        reading: &OutletReport,
        phase: Phase,
        metered: Option<bool>,
    ) {
        let zone = self.state.zone();
        let number = self.state.commands.next_number();
        let grouped = self.state.rules.group_of(path).is_some();
        let Some(outlet) = self.state.outlets.get_mut(relay) else {
            return;
        };
        let concerned = grouped || outlet.concerns_us();
        outlet.metered = metered.or(outlet.metered);
        let change = outlet.apply(reading, phase, number, self.now, &zone);
        if let Some(change) = change {
            self.on_change(path, change);
        }
        let concerned = concerned
            || change.is_some_and(Change::is_change)
            || self
                .state
                .outlets
                .get(relay)
                .is_some_and(|outlet| outlet.concerns_us());
        if concerned {
            self.state.mark_for_result(path, reading.power, self.now);
        }
    }

    fn on_change(&mut self, path: &OutletPath, change: Change) {
        let commanded = self
            .state
            .outlet(path)
            .is_some_and(|outlet| outlet.pending.is_some());
        if change.is_trip() {
            // Also one that is seen only after a start or an outage.
            self.changed_externally(path, change);
        } else if change.returned {
            // A command for it decides.
            if !commanded {
                self.returned(path, change.power);
            }
        } else if change.is_change() && change.before.is_some() && !change.is_ours() {
            self.changed_externally(path, change);
        }
        if !change.is_change() {
            return;
        }
        if change.is_counted() {
            self.report_lease(path);
            self.trip_early(path);
        }
        self.drop_timer(path, change);
    }

    /// An outlet can be reached again, and its state was read.
    fn returned(&mut self, path: &OutletPath, power: Power) {
        let rules = self.state.rules.in_force().clone();
        let Some(outlet) = self.state.outlet(path) else {
            return;
        };
        // What a timer has to end is ended first.
        if outlet.timer.is_some_and(|timer| timer.is_over(self.now)) {
            return;
        }
        let Some(group) = self.state.rules.group_in(&rules, path) else {
            return;
        };
        let Some(policy) = self.policy(group, path, power) else {
            return;
        };
        let (state, what) = match policy {
            Policy::Keep => (OverrideState::Leave, format!("its state {power} is kept")),
            Policy::StayOff => (OverrideState::Off, "it is OFF".to_owned()),
            Policy::SwitchOff => {
                info!(outlet = %path, "reachable again and ON: it is switched off");
                return self.state.switch_off_once(path, self.now);
            }
        };
        let Ok(new) = Override::new(state, Lifetime::UntilNextSchedule, Origin::OnReconnect, self.now) else {
            return;
        };
        let end = self.state.show(new.end(group, &rules.location, self.now));
        self.state.set_override(path, new);
        let message = format!("{path} is reachable again, and {power}: {what} until {end}");
        self.state
            .event(EventKind::OverrideSet, Some(path), message, self.now);
    }

    /// What the settings want of an outlet that can be reached again; `None` if it is as planned.
    fn policy(&self, group: &Group, path: &OutletPath, power: Power) -> Option<Policy> {
        let plan = self.state.plan_of(path)?;
        // A limit may end long before the next edge, so what it wants now does not settle it.
        let planned = plan
            .desired
            .filter(|_| plan.source != planner::plan::Source::Safety);
        match (group.on_reconnect, group.is_scheduled()) {
            (OnReconnect::Keep, true) if planned != Some(power) => Some(Policy::Keep),
            (OnReconnect::Off, true) if planned != Some(Power::Off) => Some(Policy::StayOff),
            (OnReconnect::Off, false) if power == Power::On => Some(Policy::SwitchOff),
            (OnReconnect::Reconcile | OnReconnect::Keep | OnReconnect::Off, _) => None,
        }
    }

    /// Its button, the app, a schedule on the device or a protection of it switched an outlet.
    fn changed_externally(&mut self, path: &OutletPath, change: Change) {
        let power = change.power;
        // Whoever presses the button decides over what waits.
        Completion::new(self.state, self.now).withdraw_waiting(path);
        let expected = self.state.plan_of(path).and_then(|plan| plan.desired);
        let stays_off = |outlet: &OutletState| {
            let overridden = outlet.overridden.as_ref();
            overridden.is_some_and(|overridden| overridden.state() == OverrideState::Off)
        };
        // Before the first plan, an override of an earlier run says it.
        if expected == Some(power) || (change.is_trip() && self.state.outlet(path).is_some_and(stays_off)) {
            return;
        }
        let rules = self.state.rules.in_force().clone();
        let Some(group) = self.state.rules.group_in(&rules, path) else {
            return;
        };
        if power == Power::On
            && let Err(refusal) = self.allow_running(path)
        {
            let message = format!("{path} was switched on externally: {refusal}");
            return self
                .state
                .event(EventKind::RefusedBySafety, Some(path), message, self.now);
        }
        if !group.is_scheduled() {
            return;
        }
        let (origin, cause) = match change.by {
            ChangedBy::Protection if change.is_trip() => {
                (Origin::Protection, "switched off by a protection of the device")
            }
            ChangedBy::AutoOff => (Origin::AutoOff, "switched off by the auto-off of the device"),
            _ => (Origin::Device, "changed externally"),
        };
        let state = match group.on_external_change {
            // Switched on again, it would trip again.
            _ if change.is_trip() => OverrideState::Off,
            OnExternalChange::Enforce => return,
            OnExternalChange::Ignore => OverrideState::Leave,
            OnExternalChange::Override => power.into(),
        };
        let Ok(new) = Override::new(state, Lifetime::UntilNextSchedule, origin, self.now) else {
            return;
        };
        let end = self.state.show(new.end(group, &rules.location, self.now));
        self.state.set_override(path, new);
        let message = match state {
            OverrideState::Leave => format!("{path} stays {power} until {end}: {cause}"),
            OverrideState::On | OverrideState::Off | OverrideState::Thermostat(_) => {
                format!("{path} is overridden to {power} until {end}: {cause}")
            }
        };
        self.state
            .event(EventKind::OverrideSet, Some(path), message, self.now);
    }

    /// Whether the limits let an outlet run that is on now.
    fn allow_running(&self, path: &OutletPath) -> Result<(), planner::safety::Refusal> {
        self.state.allow(path, Power::On, self.now)
    }

    /// The countdown of the device switched a heater off that its thermostat did not.
    fn report_lease(&self, path: &OutletPath) {
        let group = self.state.rules.group_of(path);
        let has_lease = group.is_some_and(|group| group.thermostat.is_some());
        let is_timer = self
            .state
            .outlet(path)
            .is_some_and(|outlet| outlet.timer.is_some());
        if has_lease && !is_timer {
            warn!(outlet = %path, "its countdown switched it off: the thermostat could not renew it in time");
        }
    }

    /// The countdown of the device switched it off. Where that was a limit, it was reached: a device that counts a
    /// little too fast does not save the cooldown.
    fn trip_early(&mut self, path: &OutletPath) {
        let zone = self.state.zone();
        let now = self.now;
        let Some(limits) = self.state.plan_of(path).map(|plan| plan.limits) else {
            return;
        };
        let Some(outlet) = self.state.outlet_mut(path) else {
            return;
        };
        if let Some(trip) = outlet.run_time.trip_just_before(&limits, SAME_MOMENT, now, &zone) {
            self.state.report_trip(path, trip, now);
        }
    }

    /// An outlet is in the state that its timer switches to: by the timer, by its own countdown, or by a person. It
    /// needs none any more, unless a command for it is under way.
    fn drop_timer(&mut self, path: &OutletPath, change: Change) {
        let Some(outlet) = self.state.outlet(path) else {
            return;
        };
        let Some(timer) = outlet.timer.filter(|timer| timer.to == change.power) else {
            return;
        };
        let commanded = outlet.pending.is_some();
        // One that a power limit switched off goes on again.
        let group = self
            .state
            .rules
            .group_of(path)
            .and_then(|group| self.state.groups.get(&group.id));
        let resumes = change.power == Power::Off && group.is_some_and(|group| group.energy.resumes(path));
        if commanded || resumes {
            return;
        }
        if !timer.is_over(self.now) {
            info!(outlet = %path, state = %change.power, "switched before its timer, which ends");
        }
        let in_time = timer.ends.steady(self.now).since(self.now.steady) <= SAME_MOMENT;
        if in_time && (change.is_counted() || timer.is_over(self.now)) {
            self.state.finish_timer(path, timer, self.now);
        } else if let Some(outlet) = self.state.outlet_mut(path) {
            outlet.timer = None;
        }
    }

    // ---- meters

    /// Takes a reading of a meter.
    pub(super) fn on_meter(&mut self, metered: &Metered) {
        let path = OutletPath {
            device: metered.device.clone(),
            outlet: metered.outlet.clone(),
        };
        let rules = self.state.rules.in_force().clone();
        let group = self.state.rules.group_in(&rules, &path);
        let group = group.filter(|group| !group.energy.is_empty());
        let Some(group) = group.filter(|_| self.state.relays.is_identified(&metered.device)) else {
            return;
        };
        let Some(state) = self.state.groups.get_mut(&group.id) else {
            return;
        };
        let reading = Reading {
            power: metered.power,
            total: metered.total,
        };
        let idle = state
            .energy
            .read(group, &path, reading, self.now, &rules.location.zone);
        for idle in idle {
            self.load_idle(group, &path, idle);
        }
        self.state.mark(&path);
    }

    /// A load has finished, or is on standby.
    fn load_idle(&mut self, group: &Group, path: &OutletPath, idle: LoadIdle) {
        let (kind, origin, message) = match idle {
            LoadIdle::Finished(then) => {
                let message = format!("the load of {path} has finished");
                let origin = (then == IfFinished::Off).then_some(Origin::Finished);
                (EventKind::LoadFinished, origin, message)
            }
            LoadIdle::Standby => {
                let message = format!("the load of {path} is on standby: it is switched off");
                (EventKind::StandbyOff, Some(Origin::Standby), message)
            }
        };
        self.state.event(kind, Some(path), message, self.now);
        // A command that is under way decides.
        let commanded = self
            .state
            .outlet(path)
            .is_none_or(|outlet| outlet.pending.is_some());
        if let Some(origin) = origin.filter(|_| !commanded) {
            self.switch_off_for(group, path, origin);
        }
    }

    /// OFF, and OFF until the next schedule change where there are schedules.
    fn switch_off_for(&mut self, group: &Group, path: &OutletPath, origin: Origin) {
        if !group.is_scheduled() {
            return self.state.switch_off_once(path, self.now);
        }
        let Ok(new) = Override::new(OverrideState::Off, Lifetime::UntilNextSchedule, origin, self.now) else {
            return;
        };
        let end = new.end(group, &self.state.rules.in_force().location, self.now);
        let message = format!("{path} is overridden to OFF until {}", self.state.show(end));
        self.state.set_override(path, new);
        self.state
            .event(EventKind::OverrideSet, Some(path), message, self.now);
    }

    // ---- commands that waited for their device

    /// A command to switch on waited until its device could be reached. The first reading was taken: it is decided
    /// again, by what is known now.
    pub(super) fn recheck(&mut self, mut command: DeviceCommand) {
        let path = command.path.clone();
        let Some(relay) = self.state.relay(&path).cloned() else {
            return self.state.push(Effect::Forward(command));
        };
        let grouped = self.state.rules.group_of(&path).is_some();
        let Some(outlet) = self.state.outlets.get(&relay) else {
            return;
        };
        let flight = outlet.in_flight.filter(|flight| flight.power == Some(Power::On));
        if flight.is_none() && (grouped || command.action != DeviceAction::Switch(Switch::To(Power::On))) {
            if grouped {
                return command.reply.send(Err(CommandError::superseded()));
            }
            return self.state.push(Effect::Forward(command));
        }
        if let Some(flight) = flight {
            if let Some(rival) = self.state.newer_rival(&path, flight.number) {
                let message = format!(
                    "{path} is not switched on: at most one outlet of its group may be on, and {rival} was switched on later"
                );
                return refuse(command, message);
            }
            let reconciles = matches!(flight.purpose, Purpose::Reconcile(_));
            let wanted = self.state.plan_of(&path).and_then(|plan| plan.desired);
            if reconciles && grouped && wanted != Some(Power::On) {
                return command.reply.send(Err(CommandError::superseded()));
            }
        }
        if let Err(refusal) = self.state.allow(&path, Power::On, self.now) {
            let when = refusal.possible_at.map_or_else(String::new, |at| {
                format!("; possible again at {}", self.state.show(Some(at)))
            });
            return refuse(command, format!("{path} may not be on now: {refusal}{when}"));
        }
        if let Some(rival) = self.state.rival_in_the_way(&path) {
            let message = format!(
                "{path} is not switched on: at most one outlet of its group may be on, and {rival} is not confirmed off"
            );
            return refuse(command, message);
        }
        let rules = self.state.rules.in_force().clone();
        if let Some(outlet) = self.state.outlets.get(&relay) {
            command.run = self.state.bounds(&rules, outlet, self.now).run_limit();
        }
        if let Some(outlet) = self.state.outlets.get_mut(&relay) {
            outlet.off_by = SentEnd::WithSwitch(command.run);
        }
        self.state.push(Effect::Forward(command));
    }
}

/// What the settings want of an outlet that can be reached again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Keep,
    StayOff,
    /// Once: a group without schedules has no overrides.
    SwitchOff,
}

fn refuse(command: DeviceCommand, message: String) {
    let error = CommandError::bridge(ErrorCode::RefusedBySafety, message);
    command.reply.send(Err(error));
}
