//! Everything the scheduler knows, and what its handlers share.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Deref as _, DerefMut as _},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use planner::{
    DeviceId, GroupId, Now, OutletPath, Power, SensorId, Steady,
    energy_limits::{Member, MeterVisibility, Relay},
    evaluate::Sensors as SensorsNow,
    holidays::HolidayDates,
    interlock::InterlockClaim,
    overrides::{Lifetime, Origin, Override, OverrideState},
    plan::{self, OutletPlan, Rule, ScheduleStatus, Vacation, schedule_statuses},
    readings::{Arrival, Known},
    rules::{Group, Interlock, Limits, Rules},
    safety::{Cause, Refusal, Trip},
    weather::Weather,
};
use tracing::{info, warn};

use super::{
    Effect,
    commands::{Before, CommandId, DiskWait, PendingCommands},
    completion::Completion,
    deadlines::{Deadlines, Subject},
    dirty::{Dirty, LookScope},
    effective_rules::EffectiveRules,
    fail_safe::{Bounds, SentEnd},
    groups::{GroupState, Members, Site},
    last_change::ChangeCause,
    name_map::NameMap,
    outlets::{InFlight, OutletState, Purpose},
    persisted::{PersistedChange, PersistedScheduler},
    relays::{RelayId, Relays},
    sensors::{Received, SensorChange, Sensors, of_hub, of_weather, on_topic, source_of},
    status::{self, Coming, StatusPublisher},
    timers::{Timer, TimerKind},
    tracked::Tracked,
};
use crate::domain::{
    device_command::{DeviceAction, RunLimit, Source, Switch},
    devices::DeviceMsg,
    hub_child::HubReading,
    report::{DeviceReport, Event, EventKind},
    scheduling::{ConfiguredDevice, EnergyStatus, OutletStatus, SchedulerUpdate},
};

/// So long a group waits for the result of a command before it is looked at.
pub(super) const FOR_RESULT: SignedDuration = SignedDuration::from_millis(500);
/// Between two looks for values of sensors that change no decision.
const BETWEEN_WORDS: SignedDuration = SignedDuration::from_secs(5);

/// So long after midnight the calendar's sensor may still say what the day before was.
const AFTER_MIDNIGHT: SignedDuration = SignedDuration::from_mins(5);

/// How long a timer waits for the disk.
const DISK_PATIENCE: SignedDuration = SignedDuration::from_millis(250);
/// Outlets that one log line names.
const MISMATCHES_SHOWN: usize = 3;

/// The state of the scheduler.
#[derive(Debug)]
pub struct State {
    /// The rules in force.
    pub rules: EffectiveRules,
    /// Which relay a name stands for.
    pub relays: Relays,
    /// The last reports of devices whose hardware has another id.
    pub refused: BTreeMap<DeviceId, Arc<DeviceReport>>,
    /// The relay of each name in use.
    pub names: NameMap<OutletPath, RelayId>,
    /// Every relay that has a name, or something to remember.
    pub(super) outlets: NameMap<RelayId, Tracked<OutletState>>,
    /// Every group. Boxed, because each look takes one out for a while.
    pub groups: NameMap<GroupId, Box<GroupState>>,
    /// Commands that wait for their members.
    pub commands: PendingCommands,
    /// What sensors publish.
    pub sensors: Sensors,
    /// What was published last.
    pub status: StatusPublisher,
    /// What was reported last of members that do not exist.
    missing: BTreeMap<DeviceId, String>,
    /// Whether schedules are suspended.
    pub vacation: Vacation,
    /// What happens later.
    pub deadlines: Deadlines,
    /// When the bridge started.
    pub started: Steady,
    /// Since when all sensors are subscribed to.
    pub listening_since: Steady,
    /// Counts events: all changes of one are written together.
    pub batch: u64,
    /// The last event whose changes are in the state file.
    pub written: u64,
    dirty: Dirty,
    effects: Vec<Effect>,
    /// Outlets that became not as expected, until they are logged.
    mismatches: Vec<String>,
}

impl State {
    /// With what an earlier run left.
    pub fn new(
        settings: Arc<Rules>,
        configured: BTreeMap<DeviceId, ConfiguredDevice>,
        persisted: PersistedScheduler,
        now: Now,
    ) -> Self {
        let relays = Relays::new(configured, persisted.devices.clone());
        let persisted = persisted.upgraded(&settings, &relays);
        let effective =
            EffectiveRules::new(settings, persisted.schedule_changes, persisted.workdays, &relays);
        let rules = effective.in_force().clone();
        let mut groups_persisted = persisted.groups;
        let groups = rules.groups.iter().map(|group| {
            let persisted = groups_persisted.remove(&group.id).unwrap_or_default();
            let state = GroupState::restored(group, &rules, persisted, now);
            (group.id.clone(), Box::new(state))
        });
        let outlets = persisted.relays.into_iter().filter_map(|(relay, persisted)| {
            let path = persisted.name.clone()?;
            Some((
                relay,
                Tracked::new(OutletState::restored(path, (*persisted).clone())),
            ))
        });
        let mut state = Self {
            groups: groups.collect(),
            outlets: outlets.collect(),
            names: NameMap::default(),
            commands: PendingCommands::default(),
            sensors: Sensors::default(),
            status: StatusPublisher::default(),
            missing: BTreeMap::new(),
            vacation: persisted.vacation,
            deadlines: Deadlines::default(),
            started: now.steady,
            listening_since: now.steady,
            batch: 0,
            written: 0,
            dirty: Dirty::default(),
            effects: Vec::new(),
            mismatches: Vec::new(),
            refused: BTreeMap::new(),
            relays,
            rules: effective,
        };
        let devices: Vec<DeviceId> = state.relays.configured().cloned().collect();
        for device in devices {
            state.name_outlets(&device);
        }
        state
    }

    /// Gives the outlets of a device their names: its own, and those that groups have for it before it was reached.
    /// A relay that had another name before keeps everything; only its name changes.
    pub fn name_outlets(&mut self, device: &DeviceId) {
        let rules = self.rules.in_force().clone();
        let members = rules.groups.iter().flat_map(|group| &group.outlets);
        let members = members.filter(|path| path.device == *device);
        let mut paths: BTreeSet<OutletPath> = self.relays.outlets(device).into_iter().collect();
        paths.extend(members.cloned());
        let before: Vec<(OutletPath, RelayId)> =
            self.names.extract_if(|path, _| path.device == *device).collect();
        for path in paths {
            let Some(relay) = self.relays.resolve(&path) else {
                continue;
            };
            self.adopt(&path, &relay);
            self.names.insert(path, relay);
        }
        for (path, relay) in before {
            match self.names.get(&path) {
                Some(now) if *now != relay => self.mark_outlet(&path, &relay),
                Some(_) => {}
                None => {
                    self.status.forget(&path, &mut self.effects);
                    self.mark_outlet(&path, &relay);
                }
            }
        }
    }

    /// Finds or makes the record of a relay, under this name.
    fn adopt(&mut self, path: &OutletPath, relay: &RelayId) {
        let provisional = relay.unidentified(&path.device);
        if *relay != provisional
            && let Some(earlier) = self.outlets.remove(&provisional)
        {
            self.commands.rename(&provisional, relay);
            match self.outlets.get_mut(relay) {
                Some(known) => known.merge(earlier.into_inner()),
                None => {
                    self.outlets.insert(relay.clone(), earlier);
                }
            }
            self.persist(PersistedChange::Relay(provisional, None));
        }
        let outlet = self
            .outlets
            .entry(relay.clone())
            .or_insert_with(|| Tracked::new(OutletState::new(path.clone())));
        if outlet.path != *path {
            let before = std::mem::replace(&mut outlet.path, path.clone());
            if self.names.get(&before) == Some(relay) || !self.names.contains_key(&before) {
                self.status.forget(&before, &mut self.effects);
            }
            if let Some(group) = self.rules.group_of(path).map(|group| group.id.clone())
                && let Some(state) = self.groups.get_mut(&group)
            {
                state.rename(&before, path);
            }
            // Before a strip is reached, the first of its outlets goes by the name of the strip.
            if before != OutletPath::device(path.device.clone()) {
                info!(outlet = %path, before = %before, relay = %relay, "outlet renamed; its timer and limits go on");
            }
        }
        self.mark_outlet(path, relay);
    }

    /// Other hardware has the names of a device. If it replaced a device: what should not be ON without a named end
    /// stays so on the new one. Everything else belongs to the relay that it was given to.
    pub fn hand_over_overrides(&mut self, device: &DeviceId, before: &Arc<str>) {
        let paths: Vec<OutletPath> = self
            .names
            .keys()
            .filter(|path| path.device == *device && self.rules.scheduled(path).is_some())
            .cloned()
            .collect();
        for path in paths {
            if let Some(before) = self.relay(&path).map(|relay| relay.on(before)) {
                self.hand_over_override(&path, &before);
            }
        }
    }

    fn hand_over_override(&mut self, path: &OutletPath, before: &RelayId) {
        if self.relays.is_known(before) {
            return;
        }
        let stays = |found: &Override| found.state().keeps_off() && found.named_end().is_none();
        let found = self
            .outlets
            .get_mut(before)
            .and_then(|outlet| outlet.overridden.take_if(|found| stays(found)));
        if let (Some(found), Some(outlet)) = (found, self.outlet_mut(path)) {
            outlet.overridden.get_or_insert(found);
        }
    }

    /// Reports members of groups that do not exist: once each.
    pub fn report_missing(&mut self) {
        let missing = self.rules.missing();
        if *missing == self.missing {
            return;
        }
        for (device, message) in missing {
            if self.missing.get(device) != Some(message) {
                warn!(%device, "{message}");
            }
        }
        self.missing.clone_from(missing);
        self.update(SchedulerUpdate::Missing(self.missing.clone()));
    }

    /// The relay of a name.
    pub fn relay(&self, path: &OutletPath) -> Option<&RelayId> {
        self.names.get(path)
    }

    /// The outlet of a name.
    pub fn outlet(&self, path: &OutletPath) -> Option<&OutletState> {
        self.outlets.get(self.names.get(path)?).map(Tracked::deref)
    }

    /// The outlet of a name.
    pub fn outlet_mut(&mut self, path: &OutletPath) -> Option<&mut OutletState> {
        self.outlets
            .get_mut(self.names.get(path)?)
            .map(Tracked::deref_mut)
    }

    /// Whether an outlet may have changed since it was looked at.
    pub fn is_touched(&self, path: &OutletPath) -> bool {
        let outlet = self.names.get(path).and_then(|relay| self.outlets.get(relay));
        outlet.is_none_or(Tracked::is_touched)
    }

    /// What follows from an outlet is done.
    pub fn settle(&mut self, path: &OutletPath) {
        let relay = self.names.get(path);
        if let Some(outlet) = relay.and_then(|relay| self.outlets.get_mut(relay)) {
            outlet.settle();
        }
    }

    /// The time zone of the schedules.
    pub fn zone(&self) -> TimeZone {
        self.rules.in_force().location.zone.clone()
    }

    /// The plan of a member of a group.
    pub fn plan_of(&self, path: &OutletPath) -> Option<&OutletPlan> {
        let group = self.rules.group_of(path)?;
        self.groups.get(&group.id)?.member(path)
    }

    /// What all groups have in common.
    pub fn site<'a>(&'a self, rules: &'a Rules, now: Now) -> Site<'a> {
        Site {
            rules,
            vacation: self.vacation,
            readings: self.sensors.readings(),
            started: self.started,
            listening_since: self.listening_since,
            now,
        }
    }

    /// The members of a group, for the planner.
    pub fn members(&self, group: &Group) -> Members {
        let outlets = group
            .outlets
            .iter()
            .filter_map(|path| Some((path, self.outlet(path)?)));
        Members::collect(group, outlets, |path| self.claim(path))
    }

    /// What each schedule of a group does now.
    pub fn schedule_statuses(&self, group: &Group, now: Now) -> Vec<ScheduleStatus> {
        let Some(known) = self.groups.get(&group.id) else {
            return vec![ScheduleStatus::default(); group.schedules.len()];
        };
        let (rules, members) = (self.rules.in_force(), self.members(group));
        schedule_statuses(&members.inputs(self.site(rules, now), known), group)
    }

    /// What its limits and its timer say about the run of an outlet.
    pub fn bounds<'a>(&'a self, rules: &'a Rules, outlet: &'a OutletState, now: Now) -> Bounds<'a> {
        let group = self.rules.group_of(&outlet.path);
        let plan = self.plan_of(&outlet.path);
        Bounds {
            outlet,
            group,
            limits: plan.map_or(group.map_or(Limits::NONE, |group| group.limits), |plan| {
                plan.limits
            }),
            lease: plan.and_then(|plan| plan.thermostat?.lease),
            location: &rules.location,
            now,
        }
    }

    /// Whether the limits in force allow an outlet to be switched to a state. OFF is always allowed.
    ///
    /// # Errors
    /// The limit that refuses it.
    pub fn allow(&self, path: &OutletPath, power: Power, now: Now) -> Result<(), Refusal> {
        let (Power::On, Some(group), Some(outlet)) = (power, self.rules.group_of(path), self.outlet(path))
        else {
            return Ok(());
        };
        let plan = self.plan_of(path);
        let limits = plan.map_or(group.limits, |plan| plan.limits);
        let zone = &self.rules.in_force().location.zone;
        outlet.run_time.allow_on(&limits, now, zone)?;
        let thermostat = plan.and_then(|plan| plan.thermostat);
        if thermostat.is_some_and(|thermostat| thermostat.lease.is_none()) {
            return Err(Refusal {
                cause: Cause::Thermometer,
                possible_at: None,
            });
        }
        if group.energy.is_empty() {
            return Ok(());
        }
        let Some(state) = self.groups.get(&group.id) else {
            return Ok(());
        };
        let members = self.energy_members(group, now);
        state.energy.allow_on(group, &members, path, now)
    }

    /// The members of a group, for its energy rules.
    pub fn energy_members(&self, group: &Group, now: Now) -> Vec<(OutletPath, Member)> {
        let member = |path: &OutletPath| (path.clone(), self.energy_member(group, path, now));
        group.outlets.iter().map(member).collect()
    }

    fn energy_member(&self, group: &Group, path: &OutletPath, now: Now) -> Member {
        let outlet = self.outlet(path);
        let waiting = self.relay(path).and_then(|relay| self.commands.waiting(relay));
        let comes = waiting.is_some_and(|waiting| waiting.power.is_on())
            || outlet
                .is_some_and(|outlet| outlet.coming() == Some(Power::On) || outlet.doubt == Some(Power::On));
        let relay = match outlet.and_then(|outlet| outlet.power) {
            Some(Power::On) => Relay::On,
            _ if comes => Relay::Coming,
            Some(Power::Off) => Relay::Off,
            None => Relay::Unknown,
        };
        let plan = self.plan_of(path).filter(|_| group.is_scheduled());
        Member {
            relay,
            reach: match outlet {
                Some(outlet) if outlet.online && outlet.metered == Some(false) => MeterVisibility::Unmetered,
                Some(outlet) if outlet.online => MeterVisibility::Metered,
                _ => MeterVisibility::Away,
            },
            wanted: plan.and_then(|plan| plan.wanted),
            timer: outlet.and_then(|outlet| outlet.timer?.off_at(now)),
        }
    }

    /// Why an outlet claims the interlock of its group: what was decided last has the greater number, whether a command
    /// decided it or a button.
    pub fn claim(&self, path: &OutletPath) -> Option<InterlockClaim> {
        let relay = self.relay(path)?;
        let outlet = self.outlets.get(relay)?;
        let waiting = self.commands.waiting(relay);
        let waiting = waiting.map(|waiting| (waiting.member.command.number(), waiting.power));
        let in_flight = outlet
            .in_flight
            .and_then(|flight| Some((flight.number, flight.power?)));
        if let Some((number, power)) = waiting
            .into_iter()
            .chain(in_flight)
            .max_by_key(|(number, _)| *number)
        {
            return (power == Power::On).then_some(InterlockClaim::Came(number));
        }
        let on = outlet.power == Some(Power::On);
        on.then(|| {
            let found = InterlockClaim::Found(outlet.on_at.map(Steady::reading));
            outlet.went_on.map_or(found, InterlockClaim::Came)
        })
    }

    /// The other members of an interlocked group; none of a group that is not.
    pub fn rivals<'a>(&'a self, path: &'a OutletPath) -> impl Iterator<Item = &'a OutletPath> {
        let group = self.rules.group_of(path);
        let interlocked = group.filter(|group| group.interlock == Interlock::OneOn);
        let members = interlocked.into_iter().flat_map(|group| &group.outlets);
        members.filter(move |other| *other != path)
    }

    /// A rival that is not known to be off.
    pub fn rival_in_the_way<'a>(&'a self, path: &'a OutletPath) -> Option<&'a OutletPath> {
        self.rivals(path)
            .find(|rival| self.outlet(rival).is_none_or(OutletState::may_be_on))
    }

    /// Whether a rival was switched on later than the decision with this number.
    pub fn newer_rival(&self, path: &OutletPath, number: u64) -> Option<OutletPath> {
        let newer = |rival: &&OutletPath| {
            self.claim(rival)
                .is_some_and(|claim| claim > InterlockClaim::Came(number))
        };
        self.rivals(path).find(newer).cloned()
    }

    /// Something about an outlet changed: it is looked at, with its group.
    pub fn mark(&mut self, path: &OutletPath) {
        if let Some(group) = self.rules.group_of(path) {
            self.dirty.insert_member(Subject::Group(group.id.clone()), path);
        } else if let Some(relay) = self.names.get(path) {
            self.dirty.insert(Subject::Outlet(relay.clone()));
        }
    }

    /// The same, of a relay.
    pub(super) fn mark_relay(&mut self, relay: &RelayId) {
        if let Some(path) = self.outlets.get(relay).map(|outlet| outlet.path.clone()) {
            self.mark(&path);
        }
    }

    /// An outlet is, or becomes, what a command wants. While the result of the command is on its way and nothing else in
    /// its group depends on it, the look at the result is enough, if that comes soon.
    pub fn mark_for_result(&mut self, path: &OutletPath, power: Option<Power>, now: Now) {
        let is_alone = |group: &&Group| group.interlock != Interlock::OneOn && group.energy.is_empty();
        let to = self.outlet(path).and_then(OutletState::commanded_to);
        match self.rules.group_of(path).filter(is_alone) {
            Some(group) if to.is_some() && to == power => {
                let subject = Subject::Group(group.id.clone());
                self.deadlines.set_latest(subject, now.steady.after(FOR_RESULT));
            }
            _ => self.mark(path),
        }
    }

    /// A relay has a name, or has it no more: its group, or it alone, is looked at.
    fn mark_outlet(&mut self, path: &OutletPath, relay: &RelayId) {
        let subject = match self.rules.group_of(path) {
            Some(group) => Subject::Group(group.id.clone()),
            None => Subject::Outlet(relay.clone()),
        };
        self.dirty.insert(subject);
    }

    /// A subject is looked at.
    pub fn mark_subject(&mut self, subject: Subject) {
        self.dirty.insert(subject);
    }

    /// Takes what was published on a topic. What values decide, they decide at once; the words that show them wait, so
    /// that a sensor which publishes without a pause does not have everything published again.
    pub fn on_sensor(&mut self, topic: &str, payload: &[u8], arrival: Arrival, now: Now) {
        let rules = self.rules.in_force().clone();
        let sensors: Vec<SensorId> = on_topic(&rules, topic).map(|(spec, _)| spec.id.clone()).collect();
        self.on_new_values(&rules, &sensors, now, |known| {
            known.read(&rules, topic, payload, arrival, now)
        });
    }

    /// Takes the values of what is connected to a hub.
    pub fn on_hub_reading(&mut self, reading: &HubReading, now: Now) {
        if !self.relays.means(&reading.device, &reading.target) {
            return;
        }
        let rules = self.rules.in_force().clone();
        let read = of_hub(&rules, reading);
        let sensors: Vec<SensorId> = read.iter().map(|(spec, _)| spec.id.clone()).collect();
        self.on_new_values(&rules, &sensors, now, |known| {
            let mut received = Received::default();
            for (spec, value) in &read {
                known.take(
                    &rules,
                    spec,
                    *value,
                    (reading.at, Arrival::Live),
                    now,
                    &mut received,
                );
            }
            received
        });
    }

    /// Takes a forecast.
    pub fn on_weather(&mut self, weather: Arc<Weather>, now: Now) {
        let rules = self.rules.in_force().clone();
        let sensors: Vec<SensorId> = of_weather(&rules).map(|spec| spec.id.clone()).collect();
        self.on_new_values(&rules, &sensors, now, |known| {
            known.set_weather(weather);
            Received {
                // Also where the values are the same: they are those of later hours too.
                changed: sensors.clone(),
                any: true,
            }
        });
    }

    fn on_new_values(
        &mut self,
        rules: &Rules,
        sensors: &[SensorId],
        now: Now,
        take: impl FnOnce(&mut Sensors) -> Received,
    ) {
        let asking = self.rules.asking(sensors);
        let groups = asking
            .iter()
            .filter_map(|position| Some((*position, rules.groups.get(*position)?)));
        let settled: Vec<_> = groups
            .map(|(position, group)| (position, group, self.is_settled(rules, group, sensors, now)))
            .collect();
        let received = take(&mut self.sensors);
        let changed = self.rules.asking(&received.changed);
        for (position, group, before) in settled {
            if changed.contains(&position) {
                let settled = before && self.is_settled(rules, group, sensors, now);
                self.on_values(group, settled, now);
            }
            let state = self.groups.get(&group.id).filter(|_| received.any);
            // Also the same value renews a lease.
            if state.is_some_and(|state| state.renews_at.is_some_and(|at| at <= now.steady)) {
                self.mark_subject(Subject::Group(group.id.clone()));
            }
        }
        if received.any {
            self.mark_subject(Subject::Sensors);
        }
    }

    /// Takes what the sensor of the calendar says of today, and returns when to look again. Another program says after midnight
    /// what the new day is: what it said before counts for that day only if it does not.
    pub fn hear_workday(&mut self, now: Now) -> Option<Steady> {
        let rules = self.rules.in_force().clone();
        let sensor = rules.location.holidays.sensor()?;
        let spec = rules.sensors.iter().find(|spec| spec.id == *sensor)?;
        let zone = &rules.location.zone;
        let today = zone.to_datetime(now.wall).date();
        let counts_from = |date: Date| {
            let midnight = date.to_zoned_datetime(zone.clone()).ok()?;
            midnight.timestamp().saturating_add(AFTER_MIDNIGHT).ok()
        };
        let is_settled = counts_from(today).is_none_or(|from| now.wall >= from);
        if let Known::Value(value, stale) = self.sensors.readings().of(spec, now)
            && let Some(workday) = value.boolean()
        {
            let arrived = now.wall_at(stale.before(spec.stale_after.length()));
            if is_settled || zone.to_datetime(arrived).date() == today {
                self.take_workday(today, workday);
            }
        }
        let next = if is_settled { today.tomorrow().ok()? } else { today };
        Some(now.steady_at(counts_from(next)?))
    }

    fn take_workday(&mut self, today: Date, workday: bool) {
        let Some(heard) = self.rules.hear(today, workday, &self.relays).cloned() else {
            return;
        };
        info!(date = %today, workday, "the calendar's sensor says what today is");
        self.persist(PersistedChange::Workdays(heard));
        self.days_changed();
    }

    /// The calendar was read again.
    pub fn on_holidays(&mut self, dates: Arc<HolidayDates>) {
        if self.rules.take_holidays(dates, &self.relays) {
            info!("the calendar has other holidays");
            self.days_changed();
        }
    }

    /// Other days are holidays.
    fn days_changed(&mut self) {
        let rules = self.rules.in_force().clone();
        for group in &rules.groups {
            if let Some(state) = self.groups.get_mut(&group.id) {
                state.reload(group, group, false);
            }
        }
        self.mark_all();
    }

    fn is_settled(&self, rules: &Rules, group: &Group, of: &[SensorId], now: Now) -> bool {
        let sensors = SensorsNow {
            specs: &rules.sensors,
            readings: self.sensors.readings(),
            now,
        };
        let state = self.groups.get(&group.id);
        state.is_some_and(|state| state.is_settled(group, of, sensors))
    }

    /// Sensors that a group asks have other values than before; `settled` if they decide the same.
    fn on_values(&mut self, group: &Group, settled: bool, now: Now) {
        let subject = Subject::Group(group.id.clone());
        if let Some(state) = self.groups.get_mut(&group.id).filter(|_| settled) {
            let due = state.values_shown.map(|shown| shown.after(BETWEEN_WORDS));
            if let Some(due) = due.filter(|due| *due > now.steady) {
                return self.deadlines.set_latest(subject, due);
            }
            state.values_shown = Some(now.steady);
        }
        self.dirty.insert(subject);
    }

    /// Everything is looked at: the wall clock was set, or the rules are others.
    pub fn mark_all(&mut self) {
        let groups = self.rules.in_force().groups.iter();
        self.dirty
            .extend(groups.map(|group| Subject::Group(group.id.clone())));
        self.dirty.insert(Subject::Sensors);
        let grouped = |outlet: &OutletState| self.rules.group_of(&outlet.path).is_some();
        let alone = self
            .outlets
            .iter()
            .filter(|(_, outlet)| !grouped(outlet) && outlet.concerns_us());
        self.dirty
            .extend(alone.map(|(relay, _)| Subject::Outlet(relay.clone())));
    }

    /// The groups that ask a sensor are looked at.
    pub fn mark_asking(&mut self, sensor: &SensorId) {
        let rules = self.rules.in_force();
        let positions = self.rules.asking(std::slice::from_ref(sensor));
        let groups = positions
            .into_iter()
            .filter_map(|position| rules.groups.get(position));
        self.dirty
            .extend(groups.map(|group| Subject::Group(group.id.clone())));
    }

    /// Relays of an earlier run without a name are looked at: most need not be remembered.
    pub(super) fn mark_nameless(&mut self) {
        let named: BTreeSet<&RelayId> = self.names.values().collect();
        let nameless = self.outlets.keys().filter(|relay| !named.contains(relay));
        let nameless: Vec<Subject> = nameless.cloned().map(Subject::Outlet).collect();
        self.dirty.extend(nameless);
    }

    /// Takes a subject to look at.
    pub fn take_dirty(&mut self) -> Option<(Subject, LookScope)> {
        self.dirty.pop()
    }

    /// Whether there is another subject to look at.
    #[cfg(test)]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What is to be done.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Publishes an update.
    pub fn update(&mut self, update: SchedulerUpdate) {
        self.effects.push(Effect::Update(update));
    }

    /// Writes a change to the state file.
    pub fn persist(&mut self, change: PersistedChange) {
        self.effects.push(Effect::Persist(change));
    }

    /// The status publisher and where its updates go.
    pub fn publishing(&mut self) -> (&mut StatusPublisher, &mut Vec<Effect>) {
        (&mut self.status, &mut self.effects)
    }

    /// Takes all effects.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// One log line and one event.
    pub fn event(&mut self, kind: EventKind, outlet: Option<&OutletPath>, message: String, now: Now) {
        let group = outlet
            .and_then(|path| self.rules.group_of(path))
            .map(|group| group.id.clone());
        self.event_of(kind, outlet, group, message, now);
    }

    /// One log line and one event, about a group.
    pub fn event_of(
        &mut self,
        kind: EventKind,
        outlet: Option<&OutletPath>,
        group: Option<GroupId>,
        message: String,
        now: Now,
    ) {
        info!(event = %kind, "{message}");
        self.publish_event(kind, outlet, group, message, now);
    }

    /// One event without a log line: that is [`State::log_mismatches`].
    pub fn report_mismatch(&mut self, path: &OutletPath, message: String, now: Now) {
        let group = self.rules.group_of(path).map(|group| group.id.clone());
        self.mismatches.push(message.clone());
        self.publish_event(EventKind::StateMismatch, Some(path), group, message, now);
    }

    /// One line for all outlets that are not as expected since now: of a thousand that went away together.
    pub fn log_mismatches(&mut self) {
        let messages = std::mem::take(&mut self.mismatches);
        let (shown, rest) = messages.split_at(messages.len().min(MISMATCHES_SHOWN));
        if shown.is_empty() {
            return;
        }
        let (kind, shown) = (EventKind::StateMismatch, shown.join("; "));
        match rest.len() {
            0 => info!(event = %kind, "{shown}"),
            more => info!(event = %kind, count = messages.len(), "{shown}; and {more} more"),
        }
    }

    fn publish_event(
        &mut self,
        kind: EventKind,
        outlet: Option<&OutletPath>,
        group: Option<GroupId>,
        message: String,
        now: Now,
    ) {
        self.update(SchedulerUpdate::Event(Event {
            kind,
            device: outlet.map(|path| path.device.clone()),
            outlet: outlet.and_then(|path| path.outlet.clone()),
            group,
            state: None,
            action: None,
            message,
            at: now.wall,
        }));
    }

    /// An instant for people: RFC 3339 with the offset of the place, to the second; `AUTO` is no instant.
    pub fn show(&self, at: Option<Timestamp>) -> String {
        at.map_or_else(
            || "AUTO".to_owned(),
            |at| rfc3339(at, &self.rules.in_force().location.zone),
        )
    }
}

/// RFC 3339 with the offset of the place, to the second.
pub(super) fn rfc3339(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone())
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string()
}

// What several handlers do.
impl State {
    /// Sends a switch of ours to its device.
    pub fn send_switch(
        &mut self,
        path: &OutletPath,
        power: Power,
        purpose: Purpose,
        source: Source,
        deadline: Steady,
        now: Now,
    ) {
        let Some(relay) = self.relay(path).cloned() else {
            return;
        };
        let rules = self.rules.in_force().clone();
        let run = match (power, self.outlets.get(&relay)) {
            (Power::On, Some(outlet)) => self.bounds(&rules, outlet, now).run_limit(),
            _ => RunLimit::default(),
        };
        let member = match purpose {
            Purpose::Command(_) => self.outlets.get(&relay).and_then(|outlet| outlet.pending),
            Purpose::Reconcile(_) => None,
        };
        let id = self.commands.next_switch(relay.clone(), member);
        let number = match purpose {
            Purpose::Command(command) => command.number(),
            Purpose::Reconcile(_) => id.number(),
        };
        let scheduled = self.rules.scheduled(path).is_some();
        let plan = self.plan_of(path);
        let interlocked = plan.is_some_and(|plan| plan.rule == Some(Rule::Interlock));
        if let Some(outlet) = self.outlets.get_mut(&relay) {
            let timer = outlet
                .timer
                .filter(|timer| timer.to == power && timer.is_over(now));
            let cause = match (source, timer) {
                (Source::Mqtt, _) => ChangeCause::Command,
                (Source::Safety, _) if interlocked => ChangeCause::Interlock,
                (Source::Safety, _) => ChangeCause::Limit,
                (Source::Schedule, Some(timer)) if timer.seconds > 0 => ChangeCause::Timer,
                (Source::Schedule, _) if scheduled => ChangeCause::Schedule,
                (Source::Schedule, _) => ChangeCause::Group,
            };
            outlet.in_flight = Some(InFlight {
                id,
                power: Some(power),
                number,
                purpose,
                cause,
            });
            outlet.off_by = SentEnd::WithSwitch(run);
        }
        self.push(Effect::Switch {
            id,
            path: path.clone(),
            action: DeviceAction::Switch(Switch::To(power)),
            run,
            source,
            deadline,
        });
    }

    /// Starts or cancels a countdown on a device, for a command. One that a limit still asks for goes on.
    pub fn send_countdown(
        &mut self,
        path: &OutletPath,
        action: DeviceAction,
        command: CommandId,
        deadline: Steady,
        now: Now,
    ) {
        let Some(relay) = self.relay(path).cloned() else {
            return;
        };
        let rules = self.rules.in_force().clone();
        let run = self
            .outlets
            .get(&relay)
            .map(|outlet| self.bounds(&rules, outlet, now).run_limit())
            .unwrap_or_default();
        let member = self.outlets.get(&relay).and_then(|outlet| outlet.pending);
        let id = self.commands.next_switch(relay.clone(), member);
        if let Some(outlet) = self.outlets.get_mut(&relay) {
            outlet.in_flight = Some(InFlight {
                id,
                power: None,
                number: id.number(),
                purpose: Purpose::Command(command),
                cause: ChangeCause::Command,
            });
        }
        self.push(Effect::Switch {
            id,
            path: path.clone(),
            action,
            run,
            source: Source::Mqtt,
            deadline,
        });
    }

    /// Whether something has to wait until a timer is in the state file: a crash would lose it, and nothing but the
    /// bridge ends the run.
    pub fn disk_wait(&self, timer: Option<Timer>, relay: &RelayId, now: Now) -> Option<DiskWait> {
        let ends = timer.is_some_and(|timer| timer.to == Power::Off);
        let outlet = self.outlets.get(relay)?;
        (ends && !outlet.counts_down()).then(|| DiskWait {
            batch: self.batch,
            until: now.steady.after(DISK_PATIENCE),
        })
    }

    /// What was decided with an event, and before, is in the state file.
    pub fn on_written(&mut self, batch: u64) {
        self.written = self.written.max(batch);
        let written = self.written;
        let ready = self.commands.waiting_for_disk();
        let ready = ready.filter(|(_, disk)| disk.batch <= written);
        let relays: Vec<RelayId> = ready.map(|(relay, _)| relay.clone()).collect();
        for relay in relays {
            self.mark_relay(&relay);
        }
    }

    /// A switch to ON that waits for its device is not wanted any more.
    pub fn withdraw_from_device(&mut self, path: &OutletPath) {
        self.push(Effect::Device(DeviceMsg::Withdraw(path.clone())));
    }

    /// OFF, tried until the device confirms it. What follows is decided then.
    pub fn switch_off_once(&mut self, path: &OutletPath, now: Now) {
        if let Some(outlet) = self.outlet_mut(path) {
            outlet.timer = Some(Timer::off_now(now));
        }
        self.mark(path);
    }

    /// The end of a timed ON: OFF, unless the schedules want it on. It is tried until it is confirmed where no rule
    /// decides what follows, and where the device is away and its return would be decided by a policy.
    pub fn switch_off_unless_wanted(&mut self, path: &OutletPath, now: Now) {
        let (decided, wanted) = match self.plan_of(path) {
            Some(plan) => (
                !plan.keeps_state,
                plan.desired == Some(Power::On) && !plan.keeps_state,
            ),
            None => (false, false),
        };
        let Some(outlet) = self.outlet(path) else { return };
        let is_off = outlet.online && !outlet.may_be_on();
        if wanted || is_off || (decided && outlet.online) {
            return;
        }
        self.switch_off_once(path, now);
    }

    /// A timer did what it was for. Where there are schedules, a countdown means OFF until they turn the outlet on the
    /// next time.
    pub fn finish_timer(&mut self, path: &OutletPath, timer: Timer, now: Now) {
        if let Some(outlet) = self.outlet_mut(path) {
            outlet.timer = None;
        }
        let rules = self.rules.in_force().clone();
        let Some(group) = self.rules.scheduled(path) else {
            return;
        };
        if timer.kind == TimerKind::Timed || timer.seconds == 0 {
            return;
        }
        let ended = now.moved_to(timer.ends.wall(now).min(now.wall));
        let Ok(new) = Override::new(
            Power::Off.into(),
            Lifetime::UntilNextSchedule,
            Origin::Command,
            ended,
        ) else {
            return;
        };
        let end = new.end(group, &rules.location, now);
        if end.is_some_and(|end| end <= now.wall) {
            return;
        }
        let message = format!(
            "{path} is overridden to OFF until {}: its countdown ended",
            self.show(end)
        );
        self.set_override(path, new);
        self.event(EventKind::OverrideSet, Some(path), message, now);
    }

    /// An override that no command made. A command that fails later does not take it back.
    pub fn set_override(&mut self, path: &OutletPath, new: Override) {
        if let Some(outlet) = self.outlet_mut(path) {
            if let Some(undo) = &mut outlet.undo {
                undo.overridden = Before::Untouched;
            }
            outlet.overridden = Some(new);
        }
        self.mark(path);
    }

    /// Ends overrides, also those that no device confirmed yet, with what waits to be carried out for them.
    pub fn clear_overrides(&mut self, paths: &[OutletPath], how: &str, now: Now) -> usize {
        let mut ended = Vec::new();
        for path in paths {
            Completion::new(self, now).withdraw(path);
            let Some(outlet) = self.outlet_mut(path) else {
                continue;
            };
            if let Some(undo) = &mut outlet.undo {
                undo.overridden = Before::Was(None);
            }
            if let Some(found) = outlet.overridden.take() {
                ended.push(path.clone());
                if found.state() == OverrideState::On && self.plan_keeps(path, now) {
                    self.switch_off_once(path, now);
                }
            }
            self.mark(path);
        }
        self.report_overrides_ended(&ended, how, now);
        ended.len()
    }

    /// Whether the schedules leave an outlet as it is, whatever overrides them now.
    fn plan_keeps(&self, path: &OutletPath, now: Now) -> bool {
        let rules = self.rules.in_force().clone();
        let Some(group) = self.rules.group_of(path) else {
            return true;
        };
        let Some(state) = self.groups.get(&group.id) else {
            return true;
        };
        let plan = state.without_override(group, path, &self.members(group), self.site(&rules, now));
        plan.is_none_or(|plan| plan.keeps_state)
    }

    /// One event per group, however many members it has.
    pub fn report_overrides_ended(&mut self, ended: &[OutletPath], how: &str, now: Now) {
        let mut by_group: BTreeMap<Option<GroupId>, Vec<&OutletPath>> = BTreeMap::new();
        for path in ended {
            let group = self.rules.group_of(path).map(|group| group.id.clone());
            by_group.entry(group).or_default().push(path);
        }
        for (group, paths) in by_group {
            let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
            let message = format!("the override of {} ended {how}", names.join(", "));
            let single = match paths.as_slice() {
                [path] => Some(*path),
                _ => None,
            };
            self.event_of(
                EventKind::OverrideEnded,
                single,
                group,
                message.trim_end().to_owned(),
                now,
            );
        }
    }

    /// An outlet reached a limit.
    pub fn report_trip(&mut self, path: &OutletPath, trip: Trip, now: Now) {
        let cooldown = trip
            .cooldown
            .map_or_else(String::new, |cooldown| format!(", then stays off for {cooldown}"));
        let message = format!("{path} reached {}: it is switched off{cooldown}", trip.cause);
        self.event(EventKind::SafetyTrip, Some(path), message, now);
    }

    /// A sensor became stale, or has a value again.
    pub fn report_sensor(&mut self, change: &SensorChange, now: Now) {
        let (kind, message) = match change {
            SensorChange::Stale(id) => {
                let source = source_of(self.rules.in_force(), id);
                (
                    EventKind::SensorStale,
                    format!("sensor {id} is stale: no value of {source} that counts"),
                )
            }
            SensorChange::Back(id) => (EventKind::SensorBack, format!("sensor {id} has a value again")),
        };
        self.event_of(kind, None, None, message, now);
    }

    /// Publishes the status of an outlet, if it changed.
    pub fn publish_outlet(&mut self, path: &OutletPath, now: Now) {
        let status = self.outlet_status(path, now);
        let (publisher, effects) = self.publishing();
        publisher.outlet(path, status, effects);
    }

    /// What is published of an outlet; `None` for one that is switched by hand.
    fn outlet_status(&self, path: &OutletPath, now: Now) -> Option<OutletStatus> {
        let outlet = self.outlet(path)?;
        let plan = self.plan_of(path);
        if plan.is_none() && !outlet.concerns_us() && outlet.changed.is_none() {
            return None;
        }
        let next = self.rules.group_of(path).and_then(|group| {
            let outlook = self.groups.get(&group.id)?.outlook()?;
            outlook.members.get(path).copied()
        });
        let bounds = self.bounds(self.rules.in_force(), outlet, now);
        let coming = Coming {
            next,
            limit_at: bounds.limit_at(),
            is_bounded: outlet.is_left_armed() && bounds.end().is_some(),
        };
        let mut status = status::of_outlet(outlet, plan, coming, now, self.status.last_of(path));
        if let Some(timer) = &outlet.timer {
            let allowed = self.allow(path, timer.to, now);
            let scheduled = self.rules.scheduled(path).is_some();
            status::add_timer(&mut status, timer, scheduled, allowed, &self.zone(), now);
        }
        status.expected = self.expected(path, now);
        Some(status)
    }

    /// What an outlet should be, as it is published: by its timer, or by the plan.
    pub fn expected(&self, path: &OutletPath, now: Now) -> Option<Power> {
        let outlet = self.outlet(path)?;
        let plan = self.plan_of(path);
        let planned = plan.and_then(|plan| plan.desired);
        let by_plan = plan.is_some_and(|plan| plan.source == plan::Source::Safety);
        let Some(timer) = outlet.timer.filter(|_| !by_plan) else {
            return planned;
        };
        if timer.is_over(now) {
            let allowed = self.allow(path, timer.to, now).is_ok();
            return Some(if allowed { timer.to } else { timer.until_then() });
        }
        // A countdown ends what is on, and wants nothing of what is off.
        let ends_nothing = timer.kind == TimerKind::Countdown && outlet.power == Some(timer.to);
        if ends_nothing || self.rules.scheduled(path).is_some() {
            return planned;
        }
        Some(timer.until_then())
    }

    /// Publishes the status of a group, if it changed, and whether its schedules turned it on or off.
    pub fn publish_group(&mut self, group: &Group, now: Now) {
        let Some(state) = self.groups.get(&group.id) else {
            return;
        };
        let Some(plan) = state.plan() else { return };
        let timer = self.first_timer(group, now);
        let energy = (!group.energy.is_empty()).then(|| {
            EnergyStatus::new(
                &group.energy,
                state.energy.usage(group),
                state.energy.kept_off(group),
            )
        });
        let next = state.outlook().and_then(|outlook| outlook.first);
        let reachable = |path: &OutletPath| self.outlet(path).is_some_and(|outlet| outlet.online);
        let reachable = group.outlets.iter().any(reachable);
        let new = status::of_group(group, plan, next, timer, energy, reachable);
        let running = plan.winner.is_some() && plan.source != plan::Source::Vacation;
        let turned = state.running.is_some_and(|before| before != running);
        let turned = turned.then(|| status::schedule_message(plan, running));
        let reason = plan.reason.clone();
        let (publisher, effects) = self.publishing();
        publisher.group(&group.id, new, effects);
        let falls_silent = self.groups.get_mut(&group.id).is_some_and(|state| {
            state.running = Some(running);
            state.falls_silent(now.steady)
        });
        if falls_silent {
            let message = format!("group {} is off: {reason}", group.id);
            self.event_of(EventKind::SafetyTrip, None, Some(group.id.clone()), message, now);
        }
        if let Some(message) = turned {
            let kind = if running {
                EventKind::ScheduleOn
            } else {
                EventKind::ScheduleOff
            };
            self.event_of(kind, None, Some(group.id.clone()), message, now);
        }
    }

    /// When the first timer of a member ends, and what the group is then, unless it goes off and others stay on.
    fn first_timer(&self, group: &Group, now: Now) -> Option<(Timestamp, Option<Power>)> {
        let timers = group
            .outlets
            .iter()
            .filter_map(|path| Some((path, self.outlet(path)?.timer?)));
        let (first, timer) = timers.min_by_key(|(_, timer)| timer.ends.steady(now))?;
        let is_off =
            |path: &OutletPath| self.outlet(path).and_then(|outlet| outlet.power) == Some(Power::Off);
        let others_off = || group.outlets.iter().filter(|path| *path != first).all(is_off);
        let then = (timer.to == Power::On || others_off()).then_some(timer.to);
        Some((timer.ends.wall(now), then))
    }

    /// Vacation begins or ends.
    pub fn set_vacation(&mut self, vacation: Vacation, now: Now) {
        self.vacation = vacation;
        self.persist(PersistedChange::Vacation(vacation));
        self.update(SchedulerUpdate::Vacation(vacation));
        let message = match vacation {
            Vacation::Off => "vacation ended: schedules run",
            Vacation::Since(_) => "vacation began: schedules are suspended",
        };
        self.event_of(EventKind::Vacation, None, None, message.to_owned(), now);
        self.mark_all();
    }
}
