//! What devices report.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Concern, Look, Scheduler,
    book::Keeping,
    outlet::{Live, Presence, Retry},
    timer::Counted,
};
use crate::domain::report::{Availability, Countdown, DeviceReport, EventKind, Outlet, Phase};
use planner::{
    OutletPath, Power,
    overrides::{Lifetime, Origin, Override, OverrideState},
    period::elapsed,
    rules::OnExternalChange,
    safety,
};

/// What a device says of one outlet.
#[derive(Debug, Clone, Copy)]
struct Seen {
    power: Option<Power>,
    on_since: Option<Timestamp>,
    countdown: Countdown,
    phase: Phase,
}

impl Seen {
    fn of(outlet: &Outlet, phase: Phase) -> Self {
        Self {
            power: outlet.power,
            on_since: outlet.on_since,
            countdown: outlet.countdown,
            phase,
        }
    }

    /// A strip that a group has as a whole is on while one of its outlets is, since the first went on.
    fn whole(outlets: &[Outlet], phase: Phase) -> Self {
        let powers = || outlets.iter().map(|outlet| outlet.power);
        let on = powers().any(|power| power == Some(Power::On));
        let known = powers().all(|power| power.is_some());
        Self {
            power: (on || known).then_some(Power::from(on)),
            on_since: outlets.iter().filter_map(|outlet| outlet.on_since).min(),
            countdown: Countdown::Unsupported,
            phase,
        }
    }
}

impl Scheduler {
    pub(super) fn hear(&mut self, report: &Arc<DeviceReport>) -> Concern {
        if self.removed.contains(&report.id) {
            return Concern::None;
        }
        if report.availability == Availability::Offline {
            let of_device = |path: &&OutletPath| path.device == report.id;
            let paths: Vec<OutletPath> = self.live.keys().filter(of_device).cloned().collect();
            for path in paths {
                if let Some(live) = self.live.get_mut(&path) {
                    live.availability = Availability::Offline;
                }
            }
            self.reports.remove(&report.id);
            return Concern::Some;
        }
        let path = |outlet: &Outlet| OutletPath {
            device: report.id.clone(),
            outlet: outlet.key.clone(),
        };
        let outlets: Vec<OutletPath> = report.outlets.iter().map(path).collect();
        let look = Look::at(&self.clock);
        let mut concern = Concern::None;
        for (path, outlet) in outlets.iter().zip(&report.outlets) {
            concern = concern.or(self.concern(path));
            self.hear_outlet(path, Seen::of(outlet, report.phase), look);
            self.hear_rules(path, &outlet.rules);
            concern = concern.or(self.concern(path));
        }
        let whole = OutletPath::device(report.id.clone());
        if outlets.len() > 1 && self.book.rules.group_of(&whole).is_some() {
            self.hear_outlet(&whole, Seen::whole(&report.outlets, report.phase), look);
        }
        self.devices.insert(report.id.clone(), outlets);
        self.reports.insert(report.id.clone(), report.clone());
        concern
    }

    /// Whether anything looks after an outlet: a group, a command of ours that is not answered, a timer, its plug by a
    /// countdown or by rules.
    fn concern(&self, path: &OutletPath) -> Concern {
        let live = self.live.get(path);
        let free = matches!(self.book.keeping(path), Keeping::Free)
            && !self.book.timers.contains_key(path)
            && !self.book.mirrored.contains_key(path)
            && live.is_some_and(Live::is_left_alone);
        if free { Concern::None } else { Concern::Some }
    }

    fn hear_outlet(&mut self, path: &OutletPath, seen: Seen, look: Look) {
        let live = self.live.entry(path.clone()).or_default();
        if live.availability == Availability::Offline {
            live.availability = Availability::Online;
            // What it was before the start is not known, so the first report of all is no return.
            if live.power.is_some() {
                live.presence = Presence::Back;
            }
            live.retry = Retry::default();
            live.guard_after = None;
        }
        let ran_out = live.armed.ran_out(live.countdown, seen.countdown, look.now);
        live.on_since = seen.on_since;
        live.countdown = seen.countdown;
        live.armed.heard(seen.countdown);
        live.forget_armed();
        let Some(power) = seen.power else { return };
        let back = std::mem::take(&mut live.presence) == Presence::Back;
        // Somebody who commands it now decides.
        let unasked = live.errand.is_none();
        let before = live.power.replace(power);
        // A countdown that we armed is not somebody's wish.
        let counted = ran_out && power == Power::Off;
        let mut ours = live.errand.is_some() || live.awaits(power) || counted;
        if seen.phase == Phase::Ready {
            live.doubt = None;
        }
        // The first report after a start is no change: what happened while nobody looked is not known.
        let changed = before != Some(power);
        if changed {
            live.went_on = before.map(|_| self.desk.number());
        }
        ours |= changed && power == Power::Off && self.went_off_by_rule(path, look);
        if back {
            if unasked {
                self.came_back(path, power, look);
            }
        } else if changed && before.is_some() && !ours {
            self.changed_by_itself(path, power, look);
        }
        if counted && changed {
            self.trip_early(path, look);
        }
        if changed {
            let counted = if counted { Counted::Yes } else { Counted::No };
            self.drop_timer(path, power, counted, look);
        }
        self.book_run(path, look);
    }

    /// Counts what an outlet has run, by the device's own clock.
    pub(super) fn book_run(&mut self, path: &OutletPath, look: Look) {
        let Some(live) = self.live.get(path) else { return };
        let (Some(power), Some(_)) = (live.power, self.book.rules.group_of(path)) else {
            return;
        };
        let report = safety::Report {
            power,
            on_time: live.on_since.map(|since| elapsed(since, look.now)),
            at: look.now,
        };
        let zone = self.book.rules.location.zone.clone();
        self.book.safety.observe(path, report, &zone);
    }

    /// Somebody else switched an outlet: its button, the app, a rule on the device.
    fn changed_by_itself(&mut self, path: &OutletPath, power: Power, look: Look) {
        if self.aim(path, look).is_some_and(|aim| aim.power == power) {
            return;
        }
        let rules = self.book.rules.clone();
        let Some(group) = rules.group_of(path) else { return };
        if let Err(refusal) = self.allow(path, power, look) {
            let message = format!("{path} was switched on by something else: {refusal}");
            self.tell_event(
                EventKind::RefusedBySafety,
                Some(path),
                Some(group.id.clone()),
                message,
                look,
            );
            return;
        }
        if !group.is_scheduled() {
            return;
        }
        let stance = match group.on_external_change {
            OnExternalChange::Enforce => return,
            OnExternalChange::Ignore => OverrideState::Leave,
            OnExternalChange::Override => power.into(),
        };
        let Ok(new) = Override::new(stance, Lifetime::UntilNextSchedule, Origin::Device, look.now) else {
            return;
        };
        self.override_by_itself(path, new);
        let end = self.in_words(new.end(group, &rules.location));
        let message = match stance {
            OverrideState::Leave => format!("{path} is left {power} until {end}: something else switched it"),
            OverrideState::On | OverrideState::Off => {
                format!("{path} is overridden to {power} until {end}: something else switched it")
            }
        };
        self.tell_event(
            EventKind::OverrideSet,
            Some(path),
            Some(group.id.clone()),
            message,
            look,
        );
    }
}
