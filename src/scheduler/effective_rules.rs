//! The rules in force: those of the settings, with the schedules that were changed over MQTT, with whole strips
//! replaced by their outlets, and without outlets that do not exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::civil::Date;
use planner::{
    DeviceId, GroupId, OutletPath, ScheduleId, SensorId,
    holidays::{HolidayDates, WorkdaysHeard, hear},
    rules::{Group, Rules},
};
use serde_json::Value;

use super::{
    name_map::NameMap,
    relays::Relays,
    schedule_edits::{self, ScheduleEdit, ScheduleEdits},
};

/// The rules in force and what they are made of.
#[derive(Debug)]
pub struct EffectiveRules {
    settings: Arc<Rules>,
    edits: ScheduleEdits,
    /// What the sensor of the calendar said on the last days.
    heard: WorkdaysHeard,
    /// The holidays of the calendar, if it was read after the settings.
    dates: Option<Arc<HolidayDates>>,
    rules: Arc<Rules>,
    /// The position of the group of each outlet.
    groups: NameMap<OutletPath, usize>,
    /// The position of each group.
    positions: NameMap<GroupId, usize>,
    /// The positions of the groups that ask a sensor.
    asking: BTreeMap<SensorId, Vec<usize>>,
    /// Members of groups that their devices do not have, by device.
    missing: BTreeMap<DeviceId, String>,
}

/// Schedules changed over MQTT that one group may have.
pub(super) const MOST_EDITS: usize = 100;
/// The longest definition of a schedule, in bytes.
pub(super) const LONGEST_DEFINITION: usize = 4096;

impl EffectiveRules {
    /// The rules of the settings, with changes of an earlier run as far as they still fit.
    pub fn new(settings: Arc<Rules>, edits: ScheduleEdits, heard: WorkdaysHeard, relays: &Relays) -> Self {
        let edits = schedule_edits::fitting(&settings, edits);
        let mut effective = Self {
            rules: settings.clone(),
            settings,
            edits,
            heard,
            dates: None,
            groups: NameMap::default(),
            positions: NameMap::default(),
            asking: BTreeMap::new(),
            missing: BTreeMap::new(),
        };
        effective.apply(relays);
        effective
    }

    /// The rules in force.
    pub fn in_force(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The rules of the settings.
    pub fn settings(&self) -> &Rules {
        &self.settings
    }

    /// What is wrong with the members of groups that their devices do not have. They are in no group of the rules in
    /// force.
    pub fn missing(&self) -> &BTreeMap<DeviceId, String> {
        &self.missing
    }

    /// The changes over MQTT.
    pub fn edits(&self) -> &ScheduleEdits {
        &self.edits
    }

    /// The group of an outlet.
    pub fn group_of(&self, path: &OutletPath) -> Option<&Group> {
        self.group_in(&self.rules, path)
    }

    /// The same, borrowed from a clone of the rules in force, for a caller that changes the state meanwhile.
    pub fn group_in<'r>(&self, rules: &'r Rules, path: &OutletPath) -> Option<&'r Group> {
        rules.groups.get(*self.groups.get(path)?)
    }

    /// Every sensor that a group asks.
    pub fn asked(&self) -> impl Iterator<Item = &SensorId> {
        self.asking.keys()
    }

    /// The positions of the groups that ask one of these sensors: in conditions, as a thermometer, or for the days of schedules.
    pub fn asking(&self, sensors: &[SensorId]) -> BTreeSet<usize> {
        let positions = sensors.iter().filter_map(|sensor| self.asking.get(sensor));
        positions.flatten().copied().collect()
    }

    /// The position of a group in the rules.
    pub fn position(&self, group: &GroupId) -> Option<usize> {
        self.positions.get(group).copied()
    }

    /// The group of an outlet, if it has schedules.
    pub fn scheduled(&self, path: &OutletPath) -> Option<&Group> {
        self.group_of(path).filter(|group| group.is_scheduled())
    }

    /// Takes over reloaded settings; the changes over MQTT stay on top. Returns the rules before, if they differ.
    pub fn reload(&mut self, settings: Arc<Rules>, relays: &Relays) -> Option<Arc<Rules>> {
        self.edits = schedule_edits::fitting(&settings, std::mem::take(&mut self.edits));
        self.settings = settings;
        self.dates = None;
        self.apply(relays)
    }

    /// Changes a schedule, or takes its change back. Returns the rules before, if they differ.
    pub fn edit(
        &mut self,
        group: &GroupId,
        schedule: &ScheduleId,
        edit: Option<ScheduleEdit>,
        relays: &Relays,
    ) -> Option<Arc<Rules>> {
        let of_group = self.edits.entry(group.clone()).or_default();
        match edit {
            Some(edit) => of_group.insert(schedule.clone(), edit),
            None => of_group.remove(schedule),
        };
        if of_group.is_empty() {
            self.edits.remove(group);
        }
        self.apply(relays)
    }

    /// The sensor of the calendar says whether a day is a workday. Returns what it said on the last days, if that is new.
    pub fn hear(&mut self, date: Date, workday: bool, relays: &Relays) -> Option<&WorkdaysHeard> {
        if !hear(&mut self.heard, date, workday) {
            return None;
        }
        self.apply(relays);
        Some(&self.heard)
    }

    /// The calendar was read again. Returns whether it has other holidays.
    pub fn take_holidays(&mut self, dates: Arc<HolidayDates>, relays: &Relays) -> bool {
        // It was sent before a reload that took the calendar out.
        if !self.settings.location.holidays.has_dates() {
            return false;
        }
        self.dates = Some(dates);
        self.apply(relays).is_some()
    }

    /// A group in force as it would be with a change of a schedule, or without its change.
    pub fn drafted(
        &self,
        group: &GroupId,
        schedule: &ScheduleId,
        edit: Option<ScheduleEdit>,
    ) -> Option<Group> {
        let mut edits = self.edits.get(group).cloned().unwrap_or_default();
        match edit {
            Some(edit) => edits.insert(schedule.clone(), edit),
            None => edits.remove(schedule),
        };
        let schedules = schedule_edits::of_group(&self.settings, self.settings.group(group)?, &edits);
        let in_force = self.rules.group(group)?.clone();
        Some(Group {
            schedules,
            ..in_force
        })
    }

    /// Takes all changes back: of one group, or of all. Returns the rules before, if they differ.
    pub fn reset(&mut self, group: Option<&GroupId>, relays: &Relays) -> Option<Arc<Rules>> {
        match group {
            Some(group) => {
                self.edits.remove(group);
            }
            None => self.edits.clear(),
        }
        self.apply(relays)
    }

    /// Makes the rules again: the settings, the changes, or what is known of the devices is another. Returns the rules
    /// before, if they differ.
    pub fn apply(&mut self, relays: &Relays) -> Option<Arc<Rules>> {
        let mut rules = schedule_edits::apply(&self.settings, &self.edits);
        let holidays = &mut rules.location.holidays;
        if let Some(dates) = &self.dates {
            *holidays = holidays.clone().with_dates(dates.clone());
        }
        if let Some(sensor) = holidays.sensor().cloned() {
            *holidays = holidays.clone().with_sensor(sensor, self.heard.clone());
        }
        expand(&mut rules, relays);
        self.missing = leave_out_missing(&mut rules, relays);
        self.groups.clear();
        let groups = rules.groups.iter().enumerate();
        self.positions = groups.map(|(index, group)| (group.id.clone(), index)).collect();
        for (index, group) in rules.groups.iter().enumerate() {
            let members = group.outlets.iter().map(|path| (path.clone(), index));
            self.groups.extend(members);
        }
        self.asking = asking(&rules);
        if rules == *self.rules {
            return None;
        }
        Some(std::mem::replace(&mut self.rules, Arc::new(rules)))
    }

    /// How many schedules of a group are changed, beside this one.
    pub fn other_edits(&self, group: &GroupId, schedule: &ScheduleId) -> usize {
        let edits = self.edits.get(group).into_iter().flatten();
        edits.filter(|(id, _)| *id != schedule).count()
    }
}

fn asking(rules: &Rules) -> BTreeMap<SensorId, Vec<usize>> {
    let mut asking: BTreeMap<SensorId, Vec<usize>> = BTreeMap::new();
    for (index, group) in rules.groups.iter().enumerate() {
        let calendar = rules.location.holidays.sensor();
        let calendar = calendar.filter(|_| group.schedules.iter().any(|schedule| schedule.days.has_kind()));
        for sensor in group.sensors().into_iter().chain(calendar) {
            asking.entry(sensor.clone()).or_default().push(index);
        }
    }
    asking
}

/// Whether a definition is short enough to be kept.
pub(super) fn is_short(definition: &Value) -> bool {
    serde_json::to_vec(definition).is_ok_and(|text| text.len() <= LONGEST_DEFINITION)
}

/// An outlet that does not exist is nothing to plan for: it would show a state that nothing can have.
fn leave_out_missing(rules: &mut Rules, relays: &Relays) -> BTreeMap<DeviceId, String> {
    let mut missing: BTreeMap<DeviceId, String> = BTreeMap::new();
    for group in &mut rules.groups {
        let id = &group.id;
        group.outlets.retain(|path| {
            let Some(error) = relays.missing(path) else {
                return true;
            };
            let message = format!("group {id}: {error}");
            missing
                .entry(path.device.clone())
                .and_modify(|all| {
                    all.push_str("; ");
                    all.push_str(&message);
                })
                .or_insert(message);
            false
        });
    }
    missing
}

/// A whole strip stands for its outlets, as soon as they are known: limits and timers are each relay's own.
fn expand(rules: &mut Rules, relays: &Relays) {
    let whole = |path: &OutletPath| path.outlet.is_none() && relays.is_strip(&path.device);
    let named: Vec<OutletPath> = rules
        .groups
        .iter()
        .flat_map(|group| group.outlets.clone())
        .collect();
    for group in &mut rules.groups {
        if !group.outlets.iter().any(whole) {
            continue;
        }
        let outlets = std::mem::take(&mut group.outlets);
        for path in outlets {
            if whole(&path) {
                let own = relays.outlets(&path.device);
                group
                    .outlets
                    .extend(own.into_iter().filter(|outlet| !named.contains(outlet)));
            } else {
                group.outlets.push(path);
            }
        }
    }
}
