//! One look at a group, or at an outlet that is in none: what should be, what is, what to do, what to publish, and when
//! to look again.

use std::sync::Arc;

use jiff::SignedDuration;
use planner::{
    Now, OutletPath, Power, Steady,
    deadline::Deadline,
    energy_limits::EnergyEvent,
    overrides::{Override, OverrideState},
    plan::{self, Rule},
    rules::{Group, OnReconnect, Rules, SyncOffToDevice},
    safety::Trip,
};
use tracing::{info, warn};

use super::{
    Effect,
    commands::WaitingMember,
    completion::Completion,
    deadlines::Subject,
    dirty::LookScope,
    fail_safe::SentEnd,
    outlets::{Mismatch, OutletState, Purpose, Urgency},
    persisted::PersistedChange,
    relays::RelayId,
    retry::Retry,
    state::{FOR_RESULT, State},
    timers::Timer,
};
use crate::domain::{
    device_command::Source, devices::DeviceMsg, report::EventKind, scheduling::SchedulerUpdate,
};

/// How long a switch waits for its device before it is decided again.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);
/// How long a timed OFF is kept that may not end, and a timer whose outlet was never reached.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);

/// What an outlet should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WantedState {
    power: Power,
    urgency: Urgency,
    source: Source,
}

/// One look at one subject.
pub(super) struct Cycle<'a> {
    state: &'a mut State,
    rules: Arc<Rules>,
    now: Now,
    wake: Option<Steady>,
}

impl<'a> Cycle<'a> {
    /// At a moment.
    pub(super) fn new(state: &'a mut State, now: Now) -> Self {
        let rules = state.rules.in_force().clone();
        Self {
            state,
            rules,
            now,
            wake: None,
        }
    }

    /// Looks at a subject.
    pub(super) fn run(mut self, subject: Subject, scope: LookScope) {
        match &subject {
            Subject::Sensors => self.look_at_sensors(),
            Subject::Group(id) => {
                let rules = self.rules.clone();
                // A group that is gone has nothing to look at.
                let position = self.state.rules.position(id);
                let Some(group) = position.and_then(|position| rules.groups.get(position)) else {
                    return;
                };
                self.look_at_group(group, scope);
            }
            Subject::Outlet(relay) => self.look_at_outlet(relay),
        }
        self.state.deadlines.set(subject, self.wake);
    }

    /// After the last look at some members of a group one at all of them finds nothing to do, now or sooner. Tests do that after every other
    /// event: the other half shows what comes of the group when only some are looked at.
    #[cfg(test)]
    fn look_at_the_others(&mut self, group: &Group) {
        let effects = self.state.take_effects();
        let subject = Subject::Group(group.id.clone());
        Cycle::new(self.state, self.now).run(subject.clone(), LookScope::Whole);
        let more = self.state.take_effects();
        assert!(more.is_empty(), "{:?}: {more:?} after {effects:?}", self.now);
        let is_late = |wake| self.wake.is_none_or(|known| known > wake);
        let wake = self.state.deadlines.of(&subject);
        assert!(
            !wake.is_some_and(is_late),
            "{wake:?}, not {:?}, after {effects:?}",
            self.wake
        );
        for effect in effects {
            self.state.push(effect);
        }
    }

    /// All of a group, or the members that something happened to, if they can be looked at by themselves.
    fn scope_in(&self, group: &Group, scope: LookScope) -> LookScope {
        let LookScope::Members(mut paths) = scope else {
            return LookScope::Whole;
        };
        let state = self.state.groups.get(&group.id);
        if !state.is_some_and(|state| state.holds_for_others(group, self.now)) {
            return LookScope::Whole;
        }
        let touched = group.outlets.iter().filter(|path| self.state.is_touched(path));
        paths.extend(touched.cloned());
        if paths.len() < group.outlets.len() {
            LookScope::Members(paths)
        } else {
            LookScope::Whole
        }
    }

    fn wake_at(&mut self, at: Steady) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn look_at_sensors(&mut self) {
        let listening_since = self.state.listening_since;
        let asked = self.state.rules.asked().cloned().collect();
        let (changes, wake) = self
            .state
            .sensors
            .watch(&self.rules, &asked, listening_since, self.now);
        self.wake = wake;
        if let Some(again) = self.state.hear_workday(self.now) {
            self.wake_at(again);
        }
        for change in changes {
            self.state.report_sensor(&change, self.now);
            // What its groups will do, also outside of their windows.
            self.state.mark_asking(change.sensor());
        }
        if let Some(sensors) = self.state.sensors.take_changed(&self.rules, self.now) {
            self.state.update(SchedulerUpdate::Sensors(sensors));
        }
        if let Some(weather) = self.state.sensors.take_changed_weather(self.now) {
            self.state.update(SchedulerUpdate::Weather(weather));
        }
    }

    fn look_at_group(&mut self, group: &Group, scope: LookScope) {
        let scope = &self.scope_in(group, scope);
        let members: Vec<&OutletPath> = group.outlets.iter().filter(|path| scope.has(path)).collect();
        if let Some(state) = self.state.groups.get_mut(&group.id) {
            state.renews_at = None;
            if *scope == LookScope::Whole {
                state.wakes.clear();
            }
        }
        let ended = self.end_overrides(group, &members);
        for path in &members {
            self.hold_timed(path, group);
            self.hold_lease(path, Some(group));
            self.end_timer(path);
        }
        self.decide(group, scope, &members);
        self.switch_off_after(ended);
        let mut wakes = Vec::with_capacity(members.len());
        for path in &members {
            self.send_waiting(path);
            wakes.push(self.wake.take());
        }
        self.look_ahead(group, scope);
        for (path, wake) in members.iter().copied().zip(&mut wakes) {
            self.wake = *wake;
            if self
                .state
                .outlet(path)
                .and_then(OutletState::commanded_to)
                .is_some()
            {
                self.wake_at(self.now.steady.after(FOR_RESULT));
            }
            self.reconcile(path, Some(group));
            self.answer_auto(path);
            self.keep_fail_safe(path);
            self.keep_off_rules(path, Some(group));
            self.watch_timer(path);
            self.watch_mismatch(path);
            self.state.publish_outlet(path, self.now);
            self.persist_outlet(path);
            *wake = self.wake.take();
        }
        self.state.publish_group(group, self.now);
        self.persist_group(group);
        for path in &members {
            self.state.settle(path);
        }
        if let Some(state) = self.state.groups.get_mut(&group.id) {
            for (path, wake) in members.into_iter().zip(wakes) {
                state.set_wake(path, wake);
            }
            let plan = state.plan().and_then(|plan| plan.wake);
            let plan = plan
                .filter(|at| *at > self.now.wall)
                .map(|at| self.now.steady_at(at));
            let energy = state.energy.wake().filter(|at| *at > self.now.steady);
            let members = state.wakes.values().copied();
            self.wake = members.chain(plan).chain(energy).min();
        }
        #[cfg(test)]
        if *scope != LookScope::Whole && self.state.batch.is_multiple_of(2) && !self.state.is_dirty() {
            self.look_at_the_others(group);
        }
    }

    fn look_at_outlet(&mut self, relay: &RelayId) {
        let Some(path) = self.state.outlets.get(relay).map(|outlet| outlet.path.clone()) else {
            return;
        };
        if self.state.relay(&path) != Some(relay) {
            return self.look_at_nameless(relay);
        }
        // It joined a group since its deadline was set.
        if self.state.rules.group_of(&path).is_some() {
            return self.state.mark(&path);
        }
        self.end_override_outside(&path);
        self.hold_lease(&path, None);
        self.end_timer(&path);
        self.send_waiting(&path);
        self.reconcile(&path, None);
        self.answer_auto(&path);
        self.keep_fail_safe(&path);
        self.keep_off_rules(&path, None);
        self.watch_timer(&path);
        self.watch_mismatch(&path);
        self.state.publish_outlet(&path, self.now);
        self.persist_outlet(&path);
    }

    /// A relay that no configured name stands for: nothing can be done, and little has to be remembered.
    fn look_at_nameless(&mut self, relay: &RelayId) {
        let Some(outlet) = self.state.outlets.get(relay) else {
            return;
        };
        // Without a name and a hardware id it is found again only when its device is identified, as an outlet of a strip
        // in the state file of 0.1.0.
        let device = &outlet.path.device;
        let is_awaited =
            self.state.relays.is_configured(device) && !self.state.relays.known().contains_key(device);
        if (relay.is_identified() || is_awaited) && outlet.is_worth_keeping(self.now) {
            self.wake_at(self.now.steady.after(FORGOTTEN));
        } else {
            self.state.outlets.remove(relay);
            self.state.persist(PersistedChange::Relay(relay.clone(), None));
        }
    }

    // ---- overrides and timers

    /// Takes out the overrides of members of a group that are over. Returns those whose end a person named.
    fn end_overrides(&mut self, group: &Group, members: &[&OutletPath]) -> Vec<(OutletPath, Override)> {
        let mut ended = Vec::new();
        for path in members.iter().copied() {
            let Some(found) = self.state.outlet(path).and_then(|outlet| outlet.overridden) else {
                continue;
            };
            if !group.is_scheduled() {
                self.end_override_outside(path);
                continue;
            }
            let end = found.end(group, &self.rules.location, self.now);
            let is_over = end.is_some_and(|end| end <= self.now.wall) || !found.applies_to(group);
            if is_over && let Some(outlet) = self.state.outlet_mut(path) {
                outlet.overridden = None;
                ended.push((path.clone(), found));
            }
        }
        let paths: Vec<OutletPath> = ended.iter().map(|(path, _)| path.clone()).collect();
        self.state.report_overrides_ended(&paths, "", self.now);
        ended
    }

    /// An outlet that no schedule switches keeps its override as a timer if a person named its end.
    fn end_override_outside(&mut self, path: &OutletPath) {
        let now = self.now;
        let Some(outlet) = self.state.outlet_mut(path) else {
            return;
        };
        let Some(found) = outlet.overridden.take() else {
            return;
        };
        let timer = found.named_end().zip(found.state().power());
        if let Some((ends, power)) = timer
            && outlet.timer.is_none()
        {
            outlet.timer = Some(Timer::timed(now, ends, power));
            let message = format!("{path} has no schedules any more; its timed {power} goes on");
            self.state
                .event(EventKind::OverrideEnded, Some(path), message, now);
            return;
        }
        self.state
            .report_overrides_ended(std::slice::from_ref(path), "with its schedules", now);
    }

    /// A timed ON or OFF of an outlet that has schedules now goes on as an override.
    fn hold_timed(&mut self, path: &OutletPath, group: &Group) {
        let now = self.now;
        let Some(outlet) = self.state.outlet_mut(path).filter(|_| group.is_scheduled()) else {
            return;
        };
        let Some((timer, found)) = outlet.timer.zip(outlet.timed(now)) else {
            return;
        };
        let power = timer.until_then();
        outlet.timer = None;
        outlet.overridden = Some(found);
        let end = self.state.show(Some(timer.ends.wall(now)));
        let message = format!("{path} has schedules now; its timed {power} goes on until {end}");
        self.state.event(EventKind::OverrideSet, Some(path), message, now);
    }

    /// An outlet whose thermostat is gone, by whatever settings and whether the bridge ran then, goes off when its lease ends,
    /// unless other schedules decide about it now.
    fn hold_lease(&mut self, path: &OutletPath, group: Option<&Group>) {
        if group.is_some_and(|group| group.thermostat.is_some()) {
            return;
        }
        let now = self.now;
        let is_scheduled = group.is_some_and(Group::is_scheduled);
        let is_on = |outlet: &&mut OutletState| outlet.power == Some(Power::On);
        let Some(outlet) = self.state.outlet_mut(path).filter(is_on) else {
            return;
        };
        let Some(end) = outlet.run_time.take_lease().filter(|_| !is_scheduled) else {
            return;
        };
        let ends_before = |timer: Timer| timer.off_at(now).is_some_and(|off| off <= end);
        if !outlet.timer.is_some_and(ends_before) {
            outlet.timer = Some(Timer::countdown(now, Deadline::Steady(end)));
            warn!(outlet = %path, "its thermostat is gone while it is ON: it goes OFF at the end of its lease");
        }
    }

    /// A timed ON ends OFF, also where no rule decides what follows, and also while the device is away.
    fn switch_off_after(&mut self, ended: Vec<(OutletPath, Override)>) {
        for (path, found) in ended {
            if found.state() != OverrideState::On || found.named_end().is_none() {
                continue;
            }
            self.state.switch_off_unless_wanted(&path, self.now);
        }
    }

    /// Ends a timer whose outlet is in the state it switches to, and one that is not wanted any more.
    fn end_timer(&mut self, path: &OutletPath) {
        let Some(outlet) = self.state.outlet(path) else {
            return;
        };
        let Some(timer) = outlet.timer.filter(|timer| timer.is_over(self.now)) else {
            return;
        };
        if outlet.power == Some(timer.to) && outlet.pending.is_none() {
            info!(outlet = %path, "timed {} ended", timer.until_then());
            self.state.finish_timer(path, timer, self.now);
            return;
        }
        let is_known = outlet.power.is_some();
        let scheduled = self.state.rules.scheduled(path).is_some();
        // Schedules decide where there are any now; of interlocked outlets the one that is on stays on.
        let decided = timer.to == Power::On && (scheduled || self.rival_is_on(path));
        // An outlet that was never reached may be on. But it may also not exist any more, and a timed OFF of yesterday
        // switches nothing on today.
        let waits = is_known && timer.to == Power::Off;
        let forgotten = self.now.steady.since(timer.ends.steady(self.now)) >= FORGOTTEN;
        if decided || (!waits && forgotten) {
            if !decided {
                info!(outlet = %path, "its timed {} ended a day ago; dropped", timer.until_then());
            }
            if let Some(outlet) = self.state.outlet_mut(path) {
                outlet.timer = None;
            }
        }
    }

    fn rival_is_on(&self, path: &OutletPath) -> bool {
        let is_on =
            |rival: &OutletPath| self.state.outlet(rival).and_then(|outlet| outlet.power) == Some(Power::On);
        self.state.rivals(path).any(is_on)
    }

    /// Looks again when a limit allows an outlet that its timer switches on; reports once why it waits.
    fn watch_timer(&mut self, path: &OutletPath) {
        let now = self.now;
        let Some(outlet) = self.state.outlet_mut(path) else {
            return;
        };
        let Some(timer) = outlet.timer else {
            outlet.held_back = false;
            return;
        };
        if !timer.is_over(now) {
            self.wake_at(timer.ends.steady(now));
            return;
        }
        if timer.to == Power::Off {
            return;
        }
        let Err(refusal) = self.state.allow(path, Power::On, now) else {
            return;
        };
        if let Some(at) = refusal.possible_at.filter(|at| *at > now.wall) {
            self.wake_at(now.steady_at(at));
        }
        let first = self
            .state
            .outlet_mut(path)
            .is_some_and(|outlet| !std::mem::replace(&mut outlet.held_back, true));
        if first {
            let message = format!("{path} is not on again after its timed OFF: {refusal}; it waits");
            self.state
                .event(EventKind::RefusedBySafety, Some(path), message, now);
        }
    }

    // ---- what should be

    /// Asks the planner, and again when a limit was reached.
    fn decide(&mut self, group: &Group, scope: &LookScope, members: &[&OutletPath]) {
        self.replan(group, scope);
        if self.trip(members) {
            self.replan(group, scope);
        }
        if !group.energy.is_empty() && self.enforce_energy(group) {
            self.replan(group, scope);
        }
    }

    fn replan(&mut self, group: &Group, scope: &LookScope) {
        let members = self.state.members(group);
        // Taken out for the call: it reads the sensors, which are in the same state.
        let mut state = self.state.groups.remove(&group.id).unwrap_or_default();
        state.replan(group, scope, &members, self.state.site(&self.rules, self.now));
        self.state.groups.insert(group.id.clone(), state);
    }

    fn look_ahead(&mut self, group: &Group, scope: &LookScope) {
        let members = self.state.members(group);
        let mut state = self.state.groups.remove(&group.id).unwrap_or_default();
        state.look_ahead(group, scope, &members, self.state.site(&self.rules, self.now));
        self.state.groups.insert(group.id.clone(), state);
    }

    /// Lets time pass for the limits; says whether one was reached.
    fn trip(&mut self, members: &[&OutletPath]) -> bool {
        let zone = self.rules.location.zone.clone();
        let mut trips: Vec<(OutletPath, Trip)> = Vec::new();
        for path in members.iter().copied() {
            let Some(limits) = self.state.plan_of(path).map(|plan| plan.limits) else {
                continue;
            };
            let now = self.now;
            let Some(outlet) = self.state.outlet_mut(path) else {
                continue;
            };
            outlet.limited = true;
            if let Some(trip) = outlet.run_time.advance(&limits, now, &zone) {
                trips.push((path.clone(), trip));
            }
        }
        for (path, trip) in &trips {
            self.state.report_trip(path, *trip, self.now);
        }
        !trips.is_empty()
    }

    /// Decides who must not be on because of the energy of the group; says whether that changed.
    fn enforce_energy(&mut self, group: &Group) -> bool {
        let members = self.state.energy_members(group, self.now);
        let zone = &self.rules.location.zone;
        let Some(state) = self.state.groups.get_mut(&group.id) else {
            return false;
        };
        let before = state.energy.decided();
        state.energy.begin();
        let happened = state.energy.look(group, &members, self.now, zone);
        let changed = state.energy.decided() != before;
        for event in happened {
            self.report_energy(group, event);
        }
        changed
    }

    fn report_energy(&mut self, group: &Group, event: EnergyEvent) {
        let id = &group.id;
        let (kind, path, message) = match event {
            EnergyEvent::BudgetExhausted { budget, until } => {
                let until = self.state.show(Some(until));
                let message = format!("group {id} used its daily budget of {budget}: off until {until}");
                (EventKind::SafetyTrip, None, message)
            }
            EnergyEvent::Shed {
                outlet,
                drew,
                ceiling,
            } => {
                let message = format!(
                    "{outlet} is switched off: group {id} drew {drew}, over its power limit of {ceiling}"
                );
                (EventKind::SafetyTrip, Some(outlet), message)
            }
            EnergyEvent::Returns(outlet) => {
                info!(%outlet, group = %id, "may be on again below the power limit");
                return;
            }
            EnergyEvent::Blind(outlet) => {
                let message =
                    format!("{outlet} reports no power: the energy rules of group {id} do without it");
                (EventKind::MeterSilent, Some(outlet), message)
            }
            EnergyEvent::Sees(outlet) => {
                let message = format!("{outlet} reports its power again");
                (EventKind::MeterBack, Some(outlet), message)
            }
        };
        self.state
            .event_of(kind, path.as_ref(), Some(id.clone()), message, self.now);
    }

    /// What an outlet should be; `None` leaves it as it is.
    fn target(&self, path: &OutletPath) -> Option<WantedState> {
        if let Some(target) = self.timer_target(path) {
            return Some(target);
        }
        let plan = self.state.plan_of(path)?;
        let (urgency, source) = match plan.source {
            plan::Source::Safety => (Urgency::Limit, Source::Safety),
            _ => (Urgency::Schedule, Source::Schedule),
        };
        Some(WantedState {
            power: plan.desired?,
            urgency,
            source,
        })
    }

    /// What a timer that is over makes of its outlet. One that switches on asks the limits first.
    fn timer_target(&self, path: &OutletPath) -> Option<WantedState> {
        let timer = self
            .state
            .outlet(path)?
            .timer
            .filter(|timer| timer.is_over(self.now))?;
        let urgency = match timer.to {
            Power::Off => Urgency::Limit,
            Power::On => {
                self.state.allow(path, Power::On, self.now).ok()?;
                if self.state.rival_in_the_way(path).is_some() {
                    return None;
                }
                Urgency::Schedule
            }
        };
        Some(WantedState {
            power: timer.to,
            urgency,
            source: Source::Schedule,
        })
    }

    // ---- what to do

    /// Sends the member whose turn has come, if it may still be switched.
    fn send_waiting(&mut self, path: &OutletPath) {
        let Some(relay) = self.state.relay(path).cloned() else {
            return;
        };
        let Some(waiting) = self.state.commands.waiting(&relay).cloned() else {
            return;
        };
        if waiting.at > self.now.steady {
            return self.wake_at(waiting.at);
        }
        if let Some(disk) = waiting.disk.filter(|disk| disk.batch > self.state.written) {
            if disk.until > self.now.steady {
                return self.wake_at(disk.until);
            }
            let note = format!("{path}: its end is not in the state file yet; a crash now would lose it");
            self.state.commands.note(waiting.member.command, note);
            self.state.commands.wait(WaitingMember {
                disk: None,
                ..waiting.clone()
            });
        }
        let in_the_way = self.state.rival_in_the_way(path).cloned();
        if in_the_way.is_some() && waiting.deadline > self.now.steady {
            return self.wake_at(waiting.deadline);
        }
        self.state.commands.take_waiting(&relay);
        if let Some(rival) = in_the_way {
            let message = format!(
                "{path} was not switched on: at most one outlet of its group may be on, and {rival} is not confirmed off"
            );
            return Completion::new(self.state, self.now).refuse(waiting.member, &relay, message);
        }
        // A limit may have been reached while it waited.
        match self.state.allow(path, waiting.power, self.now) {
            Ok(()) => {
                let purpose = Purpose::Command(waiting.member.command);
                self.state.send_switch(
                    path,
                    waiting.power,
                    purpose,
                    Source::Mqtt,
                    waiting.deadline,
                    self.now,
                );
            }
            Err(refusal) => {
                Completion::new(self.state, self.now).refuse_for_limit(waiting.member, &relay, refusal);
            }
        }
    }

    /// Commands an outlet that is not what it should be, unless that is under way.
    fn reconcile(&mut self, path: &OutletPath, group: Option<&Group>) {
        let target = self.target(path);
        let now = self.now;
        let Some(outlet) = self.state.outlet_mut(path) else {
            return;
        };
        let Some(target) = target.filter(|target| outlet.power != Some(target.power)) else {
            outlet.retry = Retry::default();
            return;
        };
        let (known, online, closed_at) = (outlet.power.is_some(), outlet.online, outlet.closed_at);
        let waits_for_command = outlet.pending.is_some() && target.urgency == Urgency::Schedule;
        let under_way = outlet.in_flight.and_then(|flight| flight.power) == Some(target.power);
        if outlet.retry.to != Some(target.power) {
            outlet.retry = Retry::to(target.power);
        }
        let not_before = outlet.retry.not_before.filter(|at| *at > now.steady);
        // An outlet that was never read is not switched blindly.
        if !known || waits_for_command || under_way || (!online && waits_for_return(target, group)) {
            return;
        }
        if let Some(at) = not_before {
            return self.wake_at(at);
        }
        if let (Power::On, Urgency::Schedule, Some(group)) = (target.power, target.urgency, group) {
            let again = closed_at.map(|closed| closed.after(group.min_cycle.length()));
            if let Some(at) = again.filter(|at| *at > now.steady) {
                return self.wake_at(at);
            }
            if let Some(state) = self.state.groups.get_mut(&group.id)
                && let Err(at) = state.turns.claim(group, now.steady)
            {
                return self.wake_at(at);
            }
            if let Some(outlet) = self.state.outlet_mut(path) {
                outlet.closed_at = Some(now.steady);
            }
        }
        self.switch(path, target);
    }

    fn switch(&mut self, path: &OutletPath, target: WantedState) {
        let first = self
            .state
            .outlet(path)
            .is_some_and(|outlet| outlet.retry.is_first());
        if first {
            // One line per change, not one per attempt.
            let plan = self.state.plan_of(path);
            let timer = self.state.outlet(path).and_then(|outlet| outlet.timer);
            let ended = timer.filter(|timer| timer.is_over(self.now));
            let reason = ended.map_or_else(
                || plan.map(|plan| plan.reason.to_string()),
                |timer| Some(format!("timed {} ended", timer.until_then())),
            );
            let interlocked = plan.is_some_and(|plan| plan.rule == Some(Rule::Interlock));
            info!(outlet = %path, state = %target.power, reason, "switching");
            if interlocked {
                let message = format!("{path} is switched off: {}", reason.unwrap_or_default());
                self.state
                    .event(EventKind::Interlock, Some(path), message, self.now);
            }
        }
        let purpose = Purpose::Reconcile(target.urgency);
        let deadline = self.now.steady.after(PATIENCE);
        self.state
            .send_switch(path, target.power, purpose, target.source, deadline, self.now);
    }

    /// Answers an `AUTO` with what it led to: the switch that it brought about, or what follows later.
    fn answer_auto(&mut self, path: &OutletPath) {
        let Some(member) = self
            .state
            .outlet_mut(path)
            .and_then(|outlet| outlet.returning.take())
        else {
            return;
        };
        let (target, outlet) = (self.target(path), self.state.outlet(path));
        if let (Some(target), Some(outlet)) = (target, outlet)
            && outlet.power != Some(target.power)
        {
            let under_way = outlet
                .in_flight
                .filter(|flight| flight.power == Some(target.power));
            let online = outlet.online;
            if let Some(flight) = under_way.filter(|_| online)
                && self.state.commands.join(flight.id, member)
            {
                return;
            }
            let when = if online {
                "follows"
            } else {
                "follows when it can be reached"
            };
            let note = format!("{path}: {} {when}", target.power);
            self.state.commands.note(member.command, note);
        }
        Completion::new(self.state, self.now).complete_unasked(member, path);
    }

    /// Sends the worker when the outlet must be off at the latest.
    fn keep_fail_safe(&mut self, path: &OutletPath) {
        let Some(outlet) = self.state.outlet(path) else {
            return;
        };
        let goes_off = || self.target(path).is_some_and(|target| target.power == Power::Off);
        // A switch brings its own end.
        if !outlet.online || !outlet.is_idle() || (outlet.power == Some(Power::On) && goes_off()) {
            return;
        }
        let is_on = outlet.power == Some(Power::On);
        let bounds = self.state.bounds(&self.rules, outlet, self.now);
        let (lease, end) = (bounds.lease.filter(|_| is_on), bounds.end().filter(|_| is_on));
        let held = bounds.holds_lease(end).filter(|_| is_on);
        if held.is_none() && !outlet.off_by.covers(end, outlet.closed_at()) {
            if let Some(outlet) = self.state.outlet_mut(path) {
                outlet.off_by = SentEnd::Sent(end);
            }
            self.state
                .push(Effect::Device(DeviceMsg::OffBy(path.clone(), end)));
        }
        let Some(outlet) = self.state.outlet_mut(path) else {
            return;
        };
        if let Some((lease, until)) = lease.zip(outlet.off_by.end(outlet.closed_at())) {
            outlet.run_time.lend(until);
            self.renew_at(path, lease.renewal(until));
        }
    }

    /// A lease is renewed then, or with the first reading after that.
    fn renew_at(&mut self, path: &OutletPath, at: Option<Steady>) {
        let Some(at) = at else { return };
        if at > self.now.steady {
            self.wake_at(at);
        }
        let group = self.state.rules.group_of(path).map(|group| group.id.clone());
        if let Some(state) = group.and_then(|group| self.state.groups.get_mut(&group)) {
            state.renews_at = Some(state.renews_at.map_or(at, |known| known.min(at)));
        }
    }

    fn keep_off_rules(&mut self, path: &OutletPath, group: Option<&Group>) {
        let holds = |group: &&Group| group.sync_off_to_device == SyncOffToDevice::Yes && group.is_scheduled();
        let group = group.filter(holds);
        let (location, now) = (&self.rules.location, self.now);
        let Some(outlet) = self.state.outlet_mut(path).filter(|outlet| outlet.online) else {
            return;
        };
        let step = outlet
            .off_rules
            .step(group, outlet.overridden, &outlet.rules, location, now);
        if let Some(request) = step.request {
            self.state
                .push(Effect::Device(DeviceMsg::OffRules(path.clone(), request)));
        }
        if let Some(at) = step.wake {
            self.wake_at(at);
        }
        if let Some(error) = step.error {
            let message = format!("{path} does not hold its OFF edges: {error}");
            self.state
                .event(EventKind::DeviceScheduleFailed, Some(path), message, now);
        }
    }

    // ---- what to publish and to remember

    /// Compares an outlet with what is published as expected; reports once that they differ.
    fn watch_mismatch(&mut self, path: &OutletPath) {
        let now = self.now;
        let expected = self.state.expected(path, now);
        let Some(outlet) = self.state.outlet_mut(path) else {
            return;
        };
        let power = outlet.power;
        outlet.mismatch = Mismatch::follow(outlet.mismatch, expected, power, now.steady);
        let (Some(mismatch), Some(expected)) = (&mut outlet.mismatch, expected) else {
            return;
        };
        let Some(counts_at) = mismatch.counts_at() else {
            return;
        };
        if counts_at > now.steady {
            return self.wake_at(counts_at);
        }
        if std::mem::replace(&mut mismatch.reported, true) {
            return;
        }
        let message = match power {
            Some(power) => format!("{path} is {power} and should be {expected}"),
            None => format!("{path} should be {expected}, and its state is not known"),
        };
        self.state.report_mismatch(path, message, now);
    }

    fn persist_outlet(&mut self, path: &OutletPath) {
        let Some(relay) = self.state.relay(path).cloned() else {
            return;
        };
        let Some(outlet) = self.state.outlets.get_mut(&relay) else {
            return;
        };
        let confirmed = outlet
            .undo
            .is_none_or(|undo| self.state.commands.is_confirmed(undo.command));
        let new = outlet.to_persist(confirmed);
        if outlet.persisted != new {
            outlet.persisted.clone_from(&new);
            self.state.persist(PersistedChange::Relay(relay, new));
        }
    }

    fn persist_group(&mut self, group: &Group) {
        let Some(state) = self.state.groups.get_mut(&group.id) else {
            return;
        };
        let new = state.to_persist();
        if state.persisted != new {
            state.persisted = new.clone();
            self.state.persist(PersistedChange::Group(group.id.clone(), new));
        }
    }
}

/// Whether an outlet that cannot be reached is decided when it returns, and not before: its policy is asked then.
fn waits_for_return(target: WantedState, group: Option<&Group>) -> bool {
    if target.urgency == Urgency::Limit {
        return false;
    }
    group.is_some_and(|group| match group.on_reconnect {
        OnReconnect::Reconcile => target.power == Power::On && group.stagger.is_some(),
        OnReconnect::Keep | OnReconnect::Off => true,
    })
}
