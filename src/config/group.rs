//! `[[group]]`: outlets that are switched and scheduled together.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{
    added::AddedIds,
    automation::energy_rules,
    device::{Device, POSITION_MAX},
    limits::limits,
    parse,
    reader::{Expected, Leaf, Read, Table},
    register::{Found, IdIndex},
    schedule, thermostat,
};
use planner::{
    GroupId, OutletKey, OutletPath, SensorId,
    known_edges::KnownEdges,
    location::Location,
    rules::{Group, InVacation, Interlock, OnExternalChange, OnReconnect, Schedule, SyncOffToDevice},
    sensor::SensorSpec,
};

/// What the groups read so far have taken.
#[derive(Debug, Default)]
struct TakenOutlets {
    /// Each id with the place of its group.
    ids: Vec<(GroupId, String)>,
    /// Each outlet with the place of its group.
    outlets: Vec<(OutletPath, String)>,
}

/// What groups and their schedules refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValidationContext<'a> {
    pub(super) devices: &'a IdIndex<Device>,
    pub(super) added: &'a AddedIds,
    pub(super) sensors: &'a IdIndex<SensorSpec>,
    /// The sensors that say themselves how long a value counts.
    pub(super) timed: &'a BTreeSet<SensorId>,
    /// `None` where it could not be read.
    pub(super) location: Option<&'a Location>,
}

/// Reads all groups.
pub(super) fn read_all(root: &mut Table<'_>, surroundings: ValidationContext<'_>) -> Read<Vec<Group>> {
    let mut taken = TakenOutlets::default();
    root.list("group", |table| read(table, surroundings, &mut taken))
}

/// A group for everybody to see.
pub(super) fn digest(group: &Group) -> Value {
    let schedules: Vec<&str> = group
        .schedules
        .iter()
        .map(|schedule| schedule.id.as_str())
        .collect();
    json!({"id": group.id, "outlets": group.outlets, "schedules": schedules})
}

fn read(table: &mut Table<'_>, surroundings: ValidationContext<'_>, taken: &mut TakenOutlets) -> Read<Group> {
    let id: Read<GroupId> = table.required("id", parse::slug);
    let name = table.optional("name", parse::name);
    let outlets = outlets(table, surroundings, taken);
    let up_to = |longest: Duration| parse::period(Duration::from_secs(1)..=longest);
    let override_default = table.optional("override_default", up_to(Duration::from_hours(24)));
    let stagger = table.optional("stagger", up_to(Duration::from_mins(10)));
    let min_cycle = table.optional("min_cycle", up_to(Duration::from_mins(1)));
    let run_in_vacation = table.optional("run_in_vacation", parse::boolean);
    let reactions = [
        ("override", OnExternalChange::Override),
        ("enforce", OnExternalChange::Enforce),
        ("ignore", OnExternalChange::Ignore),
    ];
    let on_external_change = table.optional("on_external_change", parse::word(&reactions));
    let policies = [
        ("reconcile", OnReconnect::Reconcile),
        ("keep", OnReconnect::Keep),
        ("off", OnReconnect::Off),
    ];
    let on_reconnect = table.optional("on_reconnect", parse::word(&policies));
    let sync_off_to_device = table.optional("sync_off_to_device", parse::boolean);
    let interlock = table.optional("interlock", parse::boolean);
    let limits = table.section("safety", limits);
    let energy = table.section("energy", energy_rules);
    let thermostat = thermostat::read(table, surroundings);
    let of_schedules = match &thermostat {
        Ok(thermostat) => Ok(thermostat.as_ref()),
        Err(reported) => Err(*reported),
    };
    let mut ids = Vec::new();
    let schedules = table.list("schedule", |table| {
        schedule::read(table, surroundings, of_schedules, &mut ids)
    });
    let id = id?;
    if let Some((_, owner)) = taken.ids.iter().find(|(other, _)| *other == id) {
        return Err(table.duplicate("id", owner));
    }
    taken.ids.push((id.clone(), table.place()));
    let runs = run_in_vacation?.unwrap_or(false);
    let (outlets, schedules) = (outlets?, schedules?);
    let interlock = interlock?.unwrap_or(false);
    if interlock && table.has("thermostat") {
        return Err(table.problem("interlock", format!("no interlock {BESIDE} together")));
    }
    let interlock = interlocked(table, interlock, &outlets, &schedules)?;
    let sync_off_to_device = match sync_off_to_device? {
        Some(true) => SyncOffToDevice::Yes,
        Some(false) | None => SyncOffToDevice::No,
    };
    let group = Group {
        name: name?.unwrap_or_else(|| id.to_string()),
        id,
        outlets,
        schedules,
        limits: limits?,
        energy: energy?,
        override_default: override_default?.unwrap_or(Group::OVERRIDE_DEFAULT),
        stagger: stagger?,
        min_cycle: min_cycle?.unwrap_or(Group::MIN_CYCLE),
        in_vacation: if runs { InVacation::Run } else { InVacation::Rest },
        on_external_change: on_external_change?.unwrap_or_default(),
        on_reconnect: on_reconnect?.unwrap_or_default(),
        sync_off_to_device,
        interlock,
        thermostat: thermostat?,
        edges: KnownEdges::default(),
    };
    if group.thermostat.is_some() {
        leaves_all_to_thermostat(table, &group)?;
    }
    Ok(group)
}

const BESIDE: &str = "beside [group.thermostat], which switches its outlets";

/// A thermostat has the last word about its outlets: none of them runs without its lease.
fn leaves_all_to_thermostat(table: &mut Table<'_>, group: &Group) -> Read<()> {
    if group.sync_off_to_device == SyncOffToDevice::Yes {
        let expected = format!("false {BESIDE} off without the bridge by itself");
        return Err(table.problem("sync_off_to_device", expected));
    }
    if group.on_external_change == OnExternalChange::Ignore {
        let expected = format!("\"override\" or \"enforce\" {BESIDE}");
        return Err(table.problem("on_external_change", expected));
    }
    if group.on_reconnect == OnReconnect::Keep {
        let expected = format!("\"reconcile\" or \"off\" {BESIDE}");
        return Err(table.problem("on_reconnect", expected));
    }
    Ok(())
}

fn interlocked(
    table: &mut Table<'_>,
    wanted: bool,
    outlets: &[OutletPath],
    schedules: &[Schedule],
) -> Read<Interlock> {
    if !wanted {
        return Ok(Interlock::Free);
    }
    if outlets.len() < 2 {
        return Err(table.problem("interlock", "two outlets or more, of which one at most is on"));
    }
    if !schedules.is_empty() {
        return Err(table.problem(
            "interlock",
            "no schedules in the group: one would turn on all of it",
        ));
    }
    Ok(Interlock::OneOn)
}

fn outlets(
    table: &mut Table<'_>,
    surroundings: ValidationContext<'_>,
    taken: &mut TakenOutlets,
) -> Read<Vec<OutletPath>> {
    let group = table.place();
    let outlets = table.values("outlets", |leaf| {
        let outlet = existing_outlet(leaf, surroundings)?;
        if let Some((_, owner)) = taken.outlets.iter().find(|(other, _)| overlap(other, &outlet)) {
            return Err(format!("an outlet in one group only; it is in {owner} already"));
        }
        taken.outlets.push((outlet.clone(), group.clone()));
        Ok(outlet)
    });
    match outlets? {
        Some(outlets) if !outlets.is_empty() => Ok(outlets),
        _ => Err(table.problem(
            "outlets",
            "at least one outlet, such as [\"heater\", \"strip/1\"]",
        )),
    }
}

/// A whole device overlaps with each of its outlets.
fn overlap(a: &OutletPath, b: &OutletPath) -> bool {
    a.device == b.device && (a.outlet.is_none() || b.outlet.is_none() || a.outlet == b.outlet)
}

/// The path of an outlet in the form that topics have: the slug, not the position, where there is one.
fn existing_outlet(leaf: &Leaf<'_>, surroundings: ValidationContext<'_>) -> Result<OutletPath, Expected> {
    let ValidationContext { devices, added, .. } = surroundings;
    let rule = || "a device for a plug, or device/outlet for a strip, such as \"strip/1\"".to_owned();
    let path: OutletPath = leaf.text().and_then(|text| text.parse().ok()).ok_or_else(rule)?;
    let device = match devices.find(path.device.as_str()) {
        Found::Sound(device) => device,
        Found::Broken => return Ok(path),
        // Which outlets it has is known when it answers.
        Found::Nothing if added.may_have(&path.device) => return Ok(path),
        Found::Nothing => {
            let known = devices.one_of(path.device.as_str());
            return Err(format!(
                "the id of a device added by bridge/request/device/add, or of a [[device]], {known}"
            ));
        }
    };
    match path.outlet {
        // A whole strip, whether outlets of it have names or not.
        None => Ok(path),
        Some(key) => {
            let key = existing_key(device, &key)
                .ok_or_else(|| format!("an outlet of the strip: {}", outlets_of(device)))?;
            Ok(OutletPath::outlet(path.device, key))
        }
    }
}

fn outlets_of(device: &Device) -> String {
    let named = device
        .outlets
        .iter()
        .map(|outlet| format!("{}/{}, ", device.id, outlet.key));
    format!(
        "{}or {} with another position",
        named.collect::<String>(),
        device.id
    )
}

/// A configured slug, or a position; a position that has a slug is known by it.
fn existing_key(device: &Device, key: &OutletKey) -> Option<OutletKey> {
    if device.outlets.iter().any(|outlet| outlet.key == *key) {
        return Some(key.clone());
    }
    let position: u8 = key.as_str().parse().ok()?;
    let plain = position.to_string() == key.as_str();
    if !plain || !(1..=POSITION_MAX).contains(&position) {
        return None;
    }
    let named = device.outlet_at(position).map(|outlet| outlet.key.clone());
    named.or_else(|| Some(key.clone()))
}
