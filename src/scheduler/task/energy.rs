//! Automation on energy: what meters say goes in, what follows from it is done.

use tracing::info;

use super::{Concern, Look, Scheduler, outlet::Live, timer::Timer};
use crate::domain::{
    report::{Availability, EventKind, Metered},
    scheduling::EnergyStatus,
};
use planner::{
    OutletPath, Power,
    energy_limits::{EnergyEvent, IfFinished, LoadIdle, Member, MeterVisibility, Reading, Relay},
    overrides::{Lifetime, Origin, Override, OverrideState},
    rules::Group,
    safety::Refusal,
};

impl Scheduler {
    /// Takes what a meter said.
    pub(super) fn take_reading(&mut self, metered: &Metered) -> Concern {
        let path = OutletPath {
            device: metered.device.clone(),
            outlet: metered.outlet.clone(),
        };
        let rules = self.book.rules.clone();
        let group = rules.group_of(&path).filter(|group| !group.energy.is_empty());
        let Some(group) = group.filter(|_| !self.removed.contains(&metered.device)) else {
            return Concern::None;
        };
        let look = Look::at(&self.clock);
        // What lasts must not seem to have lasted for as long as the clock jumped.
        self.notice_jump(look);
        self.looked = look;
        let reading = Reading {
            power: metered.power,
            total: metered.total,
        };
        let zone = &rules.location.zone;
        for quiet in self.book.rations.read(group, &path, reading, look.now, zone) {
            self.went_quiet(group, &path, quiet, look);
        }
        Concern::Some
    }

    /// Decides anew who must not be on; says whether the planner has to be asked again.
    pub(super) fn ration(&mut self, look: Look) -> Concern {
        let rules = self.book.rules.clone();
        let mut groups = rules
            .groups
            .iter()
            .filter(|group| !group.energy.is_empty())
            .peekable();
        if groups.peek().is_none() {
            return Concern::None;
        }
        let before = self.book.rations.decided();
        self.book.rations.begin();
        for group in groups {
            let members = self.members_of(group);
            let zone = &rules.location.zone;
            let happened = self.book.rations.look(group, &members, look.now, zone);
            for happening in happened {
                self.tell_happening(group, happening, look);
            }
        }
        if self.book.rations.decided() == before {
            Concern::None
        } else {
            Concern::Some
        }
    }

    /// Whether the energy rules allow an outlet to be switched on.
    pub(super) fn rations_allow(&self, path: &OutletPath, look: Look) -> Result<(), Refusal> {
        let group = self.book.rules.group_of(path);
        let Some(group) = group.filter(|group| !group.energy.is_empty()) else {
            return Ok(());
        };
        let members = self.members_of(group);
        self.book.rations.allow_on(group, &members, path, look.now)
    }

    fn members_of(&self, group: &Group) -> Vec<(OutletPath, Member)> {
        let each = group.outlets.iter();
        each.map(|path| (path.clone(), self.member(group, path)))
            .collect()
    }

    fn member(&self, group: &Group, path: &OutletPath) -> Member {
        let live = self.live.get(path);
        let deferred = self.desk.deferred.iter();
        let comes = deferred
            .filter(|deferred| deferred.path == *path)
            .any(|deferred| deferred.power.is_on())
            || live.is_some_and(|live| live.coming() == Some(Power::On) || live.doubt == Some(Power::On));
        let relay = match live.and_then(|live| live.power) {
            Some(Power::On) => Relay::On,
            _ if comes => Relay::Coming,
            Some(Power::Off) => Relay::Off,
            None => Relay::Unknown,
        };
        let plan = self.book.plan.outlets.get(path).filter(|_| group.is_scheduled());
        Member {
            relay,
            reach: self.reach(path, live),
            wanted: plan.and_then(|plan| plan.wanted),
            timer: self.book.timers.get(path).and_then(Timer::off_at),
        }
    }

    fn reach(&self, path: &OutletPath, live: Option<&Live>) -> MeterVisibility {
        if live.is_none_or(|live| live.availability == Availability::Offline) {
            return MeterVisibility::Away;
        }
        let report = self.reports.get(&path.device);
        let identity = report.and_then(|report| report.identity.as_ref());
        // A strip as a whole has no meter of its own.
        let is_whole_strip = path.outlet.is_none() && report.is_some_and(|report| report.outlets.len() > 1);
        if is_whole_strip || identity.is_some_and(|identity| !identity.meters_energy) {
            MeterVisibility::Unmetered
        } else {
            MeterVisibility::Metered
        }
    }

    fn tell_happening(&mut self, group: &Group, happening: EnergyEvent, look: Look) {
        let id = &group.id;
        let (kind, path, message) = match happening {
            EnergyEvent::BudgetExhausted { budget, until } => {
                let until = self.in_words(Some(until));
                let message = format!("group {id} used its budget of {budget}: it is off until {until}");
                (EventKind::SafetyTrip, None, message)
            }
            EnergyEvent::Shed {
                outlet,
                drew,
                ceiling,
            } => {
                let message = format!(
                    "{outlet} is switched off: group {id} drew {drew}, over its ceiling of {ceiling}"
                );
                (EventKind::SafetyTrip, Some(outlet), message)
            }
            EnergyEvent::Returns(outlet) => {
                info!(%outlet, group = %id, "may be on again below the ceiling");
                return;
            }
            EnergyEvent::Blind(outlet) => {
                let message = format!(
                    "{outlet} does not tell what it draws: the energy rules of group {id} do without it"
                );
                (EventKind::MeterSilent, Some(outlet), message)
            }
            EnergyEvent::Sees(outlet) => {
                let message = format!("{outlet} tells again what it draws");
                (EventKind::MeterBack, Some(outlet), message)
            }
        };
        self.tell_event(kind, path.as_ref(), Some(id.clone()), message, look);
    }

    /// A load has finished, or is on standby.
    fn went_quiet(&mut self, group: &Group, path: &OutletPath, quiet: LoadIdle, look: Look) {
        let (kind, origin, message) = match quiet {
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
        self.tell_event(kind, Some(path), Some(group.id.clone()), message, look);
        // Somebody who commands it now decides.
        let commanded = self.live.get(path).is_none_or(|live| live.errand.is_some());
        if let Some(origin) = origin.filter(|_| !commanded) {
            self.switch_off_for(group, path, origin, look);
        }
    }

    /// Off, and off until the next edge where there are schedules. It is tried until the device confirms it.
    fn switch_off_for(&mut self, group: &Group, path: &OutletPath, origin: Origin, look: Look) {
        if !group.is_scheduled() {
            self.switch_off_once(path, look);
            return;
        }
        let Ok(new) = Override::new(OverrideState::Off, Lifetime::UntilNextSchedule, origin, look.now) else {
            return;
        };
        self.override_by_itself(path, new);
        let end = self.in_words(new.end(group, &self.book.rules.location));
        let message = format!("{path} is overridden to OFF until {end}");
        self.tell_event(
            EventKind::OverrideSet,
            Some(path),
            Some(group.id.clone()),
            message,
            look,
        );
    }

    /// What a group's state says of its energy; `None` where nothing is asked for.
    pub(super) fn energy_standing(&self, group: &Group) -> Option<EnergyStatus> {
        if group.energy.is_empty() {
            return None;
        }
        let usage = self.book.rations.usage(group);
        let shed = self.book.rations.kept_off(group);
        Some(EnergyStatus::new(&group.energy, usage, shed))
    }
}
