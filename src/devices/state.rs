//! The last confirmed state of a device and its outlets. Pure.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::children::Children;
use super::client::{
    components::{Component, Components},
    readings::{DeviceReading, OutletReading},
};
use crate::domain::command_error::CommandError;
use crate::domain::device_settings::{LatestFirmware, OutletSettings};
use crate::domain::devices::DeviceConfig;
use crate::domain::reply::{Applied, CommandResult};
use crate::domain::report::{
    Condition, Countdown, DeviceClock, DeviceRule, DeviceRules, Feature, Identity, Kind, Outlet,
};
use planner::{DeviceId, Now, OutletKey, OutletPath, Power, Steady};

/// A relay with what is needed to address it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConfirmedOutlet {
    /// The child's id on the wire; `None` on a plug.
    pub(super) child: Option<Arc<str>>,
    pub(super) outlet: Outlet,
    /// When a report last changed its energy values.
    pub(super) energy_reported_at: Option<Instant>,
    /// How long it was on by the device's count, at the last reading.
    on_time: Option<u64>,
}

impl ConfirmedOutlet {
    /// How it is addressed.
    pub(super) fn address(&self) -> OutletAddress {
        OutletAddress {
            position: self.outlet.position,
            key: self.outlet.key.clone(),
            child: self.child.clone(),
        }
    }

    /// A run of an outlet that was on before: the relay was open in between.
    pub(super) fn start_run(&mut self, start: Steady, now: Now) {
        self.outlet.off_seen_at = Some(start);
        self.outlet.on_at = Some(start);
        self.outlet.on_since = Timestamp::from_second(now.wall_at(start).as_second()).ok();
    }
}

/// How a request addresses an outlet.
#[derive(Debug, Clone)]
pub(super) struct OutletAddress {
    /// As printed on the strip; 1 on a plug.
    pub(super) position: u8,
    /// Its topic level; `None` on a plug.
    pub(super) key: Option<OutletKey>,
    /// The child's id on the wire; `None` on a plug.
    pub(super) child: Option<Arc<str>>,
}

impl OutletAddress {
    /// Makes a list hold one value for each outlet that was read, each with the address that it has now.
    pub(super) fn follow<T>(
        list: &mut Vec<T>,
        state: &DeviceState,
        address_of: fn(&mut T) -> &mut Self,
        mut new: impl FnMut(Self) -> T,
    ) {
        let is_at =
            |one: &mut T, outlet: &ConfirmedOutlet| address_of(one).position == outlet.outlet.position;
        list.reserve_exact(state.outlets.len().saturating_sub(list.len()));
        list.retain_mut(|one| state.outlets.iter().any(|outlet| is_at(one, outlet)));
        for outlet in &state.outlets {
            match list.iter_mut().find_map(|one| is_at(one, outlet).then_some(one)) {
                Some(known) => {
                    let address = address_of(known);
                    if !address.is_of(outlet) {
                        *address = outlet.address();
                    }
                }
                None => list.push(new(outlet.address())),
            }
        }
    }

    fn is_of(&self, outlet: &ConfirmedOutlet) -> bool {
        self.key == outlet.outlet.key && self.child == outlet.child
    }
}

/// Everything that a device reported, kept over reconnects.
#[derive(Debug, Default)]
pub(super) struct DeviceState {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) rssi: Option<i64>,
    /// Whether everything was read once that shows which values the device has.
    pub(super) is_complete: bool,
    pub(super) outlets: Vec<ConfirmedOutlet>,
    /// How often the list of outlets, or of what is connected, was read.
    lists_read: u32,
    /// What is connected to a hub.
    pub(super) children: Children,
    /// What the device and its outlets can do.
    pub(super) components: Components,
    /// Its clock.
    pub(super) clock: DeviceClock,
    /// The IANA name of the zone of the device's clock.
    pub(super) zone: Option<String>,
    /// Whether the LED of the device lights.
    pub(super) led: Option<bool>,
    /// The newest firmware that the device knows.
    pub(super) latest_firmware: Option<Arc<LatestFirmware>>,
}

/// A change of a relay that a reading shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelayChange {
    pub(super) outlet: Option<OutletKey>,
    pub(super) power: Power,
    pub(super) sign: ChangeSign,
}

/// What shows a change of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeSign {
    /// Its state differs from that of the reading before.
    Read,
    /// The same, and a protection of the device has tripped since then.
    Tripped,
    /// The same, and the time of the auto-off setting was over.
    AutoOff,
    /// It is on as before, and its count of the time that it is on started over then. Some devices do that without a
    /// change, so it takes more to conclude an OFF.
    CountRestarted(Steady),
}

/// Wi-Fi signals vary by a few dB; only a change of this many is reported.
const RSSI_STEP: i64 = 4;
/// Devices count whole seconds and are read some time later.
const COUNT_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// So does what is left of a countdown.
const ENDS_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

impl DeviceState {
    /// The outlet at a position.
    pub(super) fn at(&mut self, position: u8) -> Option<&mut ConfirmedOutlet> {
        let mut outlets = self.outlets.iter_mut();
        outlets.find(|known| known.outlet.position == position)
    }

    /// The outlet of a key; a plug's has none.
    pub(super) fn by_key(&mut self, key: Option<&OutletKey>) -> Option<&mut ConfirmedOutlet> {
        let mut outlets = self.outlets.iter_mut();
        outlets.find(|known| known.outlet.key.as_ref() == key)
    }

    /// The outlets of a path: one, or all of a strip. Empty if there is no such outlet.
    pub(super) fn addresses(&self, path: &OutletPath) -> Vec<OutletAddress> {
        let wanted = |known: &&ConfirmedOutlet| path.outlet.is_none() || known.outlet.key == path.outlet;
        self.outlets
            .iter()
            .filter(wanted)
            .map(ConfirmedOutlet::address)
            .collect()
    }

    /// Whether the relay of an outlet was read in this state.
    pub(super) fn reads(&self, address: &OutletAddress, power: Power) -> bool {
        self.power_at(address) == Some(power)
    }

    /// Whether all these outlets were read in this state.
    pub(super) fn all_read(&self, addresses: &[OutletAddress], power: Power) -> bool {
        addresses.iter().all(|address| self.reads(address, power))
    }

    /// The relay of an outlet; `None` if it is not known.
    pub(super) fn power_at(&self, address: &OutletAddress) -> Option<Power> {
        self.outlet_at(address)?.power
    }

    /// ON if any of these outlets is on; `None` if no state is known.
    pub(super) fn power_of(&self, addresses: &[OutletAddress]) -> Option<Power> {
        let outlets = addresses.iter().filter_map(|address| self.outlet_at(address));
        outlets.filter_map(|outlet| outlet.power).max()
    }

    /// The state of each of these outlets.
    pub(super) fn powers(
        &self,
        device: &DeviceId,
        addresses: &[OutletAddress],
    ) -> Vec<(OutletPath, Option<Power>)> {
        let of = |address: &OutletAddress| {
            let path = OutletPath {
                device: device.clone(),
                outlet: address.key.clone(),
            };
            (path, self.outlet_at(address).and_then(|outlet| outlet.power))
        };
        addresses.iter().map(of).collect()
    }

    /// When the relay of an outlet closed.
    pub(super) fn on_at(&self, address: &OutletAddress) -> Option<Steady> {
        self.outlet_at(address)?.on_at
    }

    fn outlet_at(&self, address: &OutletAddress) -> Option<&Outlet> {
        let mut outlets = self.outlets.iter().map(|known| &known.outlet);
        outlets.find(|outlet| outlet.key == address.key)
    }

    /// The result of a read of what a path names.
    pub(super) fn read_result(&self, path: &OutletPath) -> CommandResult {
        let targets = self.addresses(path);
        let is_child = |key: &OutletKey| self.children.by_key(key).is_some();
        if targets.is_empty() && !(self.is_hub() && path.outlet.as_ref().is_none_or(is_child)) {
            return Err(self.unknown_outlet(path));
        }
        Ok(Applied {
            outlets: self.powers(&path.device, &targets),
            attempts: 1,
        })
    }

    fn is_hub(&self) -> bool {
        self.identity
            .as_ref()
            .is_some_and(|identity| identity.kind == Kind::Hub)
    }

    /// The error for a path that names no outlet of this device.
    pub(super) fn unknown_outlet(&self, path: &OutletPath) -> CommandError {
        if self.is_hub() {
            return CommandError::no_outlets(path);
        }
        let keys: Vec<OutletKey> = self
            .outlets
            .iter()
            .filter_map(|known| known.outlet.key.clone())
            .collect();
        CommandError::unknown_outlet(path, &keys)
    }

    /// All outlets have a feature that one of them reported.
    pub(super) fn add_feature(&mut self, feature: Feature) {
        for known in &mut self.outlets {
            known.outlet.features.insert(feature);
        }
    }

    /// An outlet has what its component list names, also if a reading of it fails: its entities must not disappear then.
    pub(super) fn add_listed_features(&mut self) {
        let listed = [
            (Component::Countdown, Feature::Countdown),
            (Component::Schedule, Feature::Rules),
            (Component::Brightness, Feature::Brightness),
        ];
        for known in &mut self.outlets {
            let child = known.child.as_deref();
            let has = |component| self.components.lists(child, component);
            let features = listed.into_iter().filter(|(component, _)| has(*component));
            known.outlet.features.extend(features.map(|(_, feature)| feature));
        }
    }

    /// The list of outlets, or of what is connected, was read.
    pub(super) fn on_list_read(&mut self) {
        self.lists_read = self.lists_read.saturating_add(1);
    }

    /// Whether it is known which outlets there are: the first list of a strip that just started may leave some out.
    pub(super) fn is_listed(&self) -> bool {
        let identity = self.identity.as_ref();
        self.lists_read > 1 || identity.is_some_and(|identity| identity.kind == Kind::Plug)
    }

    /// Whether the device has meters.
    pub(super) fn meters_energy(&self) -> bool {
        let identity = self.identity.as_ref();
        identity.is_some_and(|identity| identity.meters_energy)
    }

    /// Takes the identity of a device that was opened. `mac` is the known one, also if this reading lacks it.
    pub(super) fn identify(
        &mut self,
        config: &DeviceConfig,
        kind: Kind,
        device: &DeviceReading,
        mac: Option<&str>,
    ) {
        let identity = Identity {
            device_id: device.device_id.clone().unwrap_or_else(|| config.id.to_string()),
            model: device.model.clone().unwrap_or_else(|| "unknown".to_owned()),
            firmware: device.firmware.clone(),
            hardware: device.hardware.clone(),
            mac: mac.map(str::to_owned),
            nickname: device.nickname.clone(),
            kind,
            role: device.role,
            meters_energy: self.components.has(Component::EnergyMonitoring),
        };
        if self.identity.as_deref() != Some(&identity) {
            self.identity = Some(Arc::new(identity));
        }
        self.apply(device);
    }

    /// Takes the values of the device itself.
    pub(super) fn apply(&mut self, device: &DeviceReading) {
        if device.zone.is_some() {
            self.zone.clone_from(&device.zone);
        }
        let steady = |old: i64, new: i64| if (old - new).abs() < RSSI_STEP { old } else { new };
        self.rssi = match (self.rssi, device.rssi) {
            (Some(old), Some(new)) => Some(steady(old, new)),
            (_, new) => new,
        };
    }

    /// Takes a reading of all outlets; returns the relays that changed. An outlet that a strip leaves out stays, with
    /// unknown values, until another one has its position.
    pub(super) fn apply_reading(
        &mut self,
        config: &DeviceConfig,
        kind: Kind,
        readings: &[OutletReading],
        now: Now,
    ) -> Vec<RelayChange> {
        self.on_list_read();
        let mut outlets: Vec<ConfirmedOutlet> = readings
            .iter()
            .enumerate()
            .map(|(index, reading)| self.outlet(config, kind, index, reading, now))
            .collect();
        let changes = outlets.iter().filter_map(|new| self.changed(new, now)).collect();
        if kind == Kind::Strip {
            let left_out = |old: &&ConfirmedOutlet| {
                let replaces = |new: &ConfirmedOutlet| {
                    new.child == old.child || new.outlet.position == old.outlet.position
                };
                !outlets.iter().any(replaces)
            };
            let left_out: Vec<ConfirmedOutlet> = self.outlets.iter().filter(left_out).map(unknown).collect();
            outlets.extend(left_out);
            outlets.sort_by_key(|known| known.outlet.position);
        }
        self.outlets = outlets;
        changes
    }

    /// Takes a reading of one outlet of a strip.
    pub(super) fn apply_child_reading(
        &mut self,
        config: &DeviceConfig,
        child: &str,
        reading: &OutletReading,
        now: Now,
    ) -> Option<RelayChange> {
        let index = self
            .outlets
            .iter()
            .position(|known| known.child.as_deref() == Some(child))?;
        let position = self.outlets.get(index).map(|known| known.outlet.position);
        let reading = OutletReading {
            child_id: Some(child.to_owned()),
            position,
            ..reading.clone()
        };
        let new = self.outlet(config, Kind::Strip, index, &reading, now);
        let change = self.changed(&new, now);
        if let Some(known) = self.outlets.get_mut(index) {
            *known = new;
        }
        change
    }

    /// The countdown of the outlet at a position.
    pub(super) fn countdown_of(&self, position: u8) -> Countdown {
        let mut outlets = self.outlets.iter().map(|known| &known.outlet);
        let found = outlets.find(|outlet| outlet.position == position);
        found.map(|outlet| outlet.countdown).unwrap_or_default()
    }

    /// Takes the countdown of an outlet. The reported end stays while the new one agrees within the tolerance.
    pub(super) fn set_countdown(&mut self, position: u8, new: Countdown) {
        let Some(known) = self.at(position) else {
            return;
        };
        known.outlet.countdown = match (known.outlet.countdown, new) {
            (old @ Countdown::Armed { ends: before }, Countdown::Armed { ends })
                if is_near(before, ends, ENDS_TOLERANCE) =>
            {
                old
            }
            (
                old @ Countdown::External {
                    to: was,
                    ends: before,
                },
                Countdown::External { to, ends },
            ) if was == to && is_near(before, ends, ENDS_TOLERANCE) => old,
            _ => new,
        };
        if new.runs() || new == Countdown::Idle {
            known.outlet.features.insert(Feature::Countdown);
        }
    }

    /// The schedule rules of an outlet.
    pub(super) fn rules_at(&mut self, position: u8) -> Option<&mut DeviceRules> {
        self.at(position).map(|known| &mut known.outlet.rules)
    }

    /// Takes the schedule rules of an outlet; `None` if they cannot be read.
    pub(super) fn set_rules(&mut self, position: u8, rules: Option<Arc<[DeviceRule]>>) {
        if let Some(known) = self.at(position) {
            if rules.is_some() {
                known.outlet.features.insert(Feature::Rules);
            }
            known.outlet.rules.list = rules;
        }
    }

    /// Takes the clock of the device.
    pub(super) fn set_clock(&mut self, clock: DeviceClock) {
        if self.clock == clock {
            return;
        }
        for known in &mut self.outlets {
            known.outlet.rules.clock.clone_from(&clock);
        }
        self.clock = clock;
    }

    fn changed(&self, new: &ConfirmedOutlet, now: Now) -> Option<RelayChange> {
        let old = self.outlets.iter().find(|old| old.child == new.child);
        let power = new.outlet.power?;
        let before = old.and_then(|old| old.outlet.power);
        let had_tripped = before.is_some() && old.is_some_and(|old| old.outlet.condition.has_tripped());
        let trips = new.outlet.condition.has_tripped() && !had_tripped;
        let sign = match before {
            // It may have tripped while it was not read.
            None if trips && power == Power::Off => ChangeSign::Tripped,
            Some(before) if before != power && trips => ChangeSign::Tripped,
            Some(Power::On) if power == Power::Off && old.is_some_and(|old| is_auto_off_due(old, now)) => {
                ChangeSign::AutoOff
            }
            Some(before) if before != power => ChangeSign::Read,
            Some(_) | None => ChangeSign::CountRestarted(count_restarted(old?, new, now.steady)?),
        };
        Some(RelayChange {
            outlet: new.outlet.key.clone(),
            power,
            sign,
        })
    }

    fn outlet(
        &self,
        config: &DeviceConfig,
        kind: Kind,
        index: usize,
        reading: &OutletReading,
        now: Now,
    ) -> ConfirmedOutlet {
        let child = match kind {
            Kind::Plug => None,
            Kind::Strip | Kind::Hub => reading.child_id.as_deref().map(Arc::from),
        };
        let nth = u8::try_from(index + 1).unwrap_or(u8::MAX);
        let position = match kind {
            Kind::Plug => 1,
            Kind::Strip | Kind::Hub => reading.position.unwrap_or(nth),
        };
        let naming = config.outlets.iter().find(|naming| naming.position == position);
        let key = match kind {
            Kind::Plug => None,
            Kind::Strip | Kind::Hub => naming
                .map(|naming| naming.key.clone())
                .or_else(|| position.to_string().parse().ok()),
        };
        let old = self.outlets.iter().find(|old| old.child == child);
        let name = naming
            .and_then(|naming| naming.name.clone())
            .or_else(|| reading.nickname.clone());
        let before = old.map_or_else(
            || Outlet {
                rules: DeviceRules {
                    clock: self.clock.clone(),
                    ..DeviceRules::default()
                },
                ..Outlet::default()
            },
            |old| old.outlet.clone(),
        );
        let outlet = Outlet {
            key,
            position,
            name: if kind == Kind::Plug {
                config.name.clone().or(name)
            } else {
                name
            },
            power: reading.power,
            on_since: on_since(reading, before.on_since, now.wall),
            on_at: on_at(reading, before.on_at, now.steady),
            off_seen_at: off_seen_at(reading, &before, now.steady),
            condition: condition(reading, before.condition.auto_off_at, now.wall),
            features: features(reading, &before.features),
            settings: OutletSettings {
                power_on_behavior: reading.power_on,
                brightness: reading.brightness,
                ..before.settings
            },
            ..before
        };
        ConfirmedOutlet {
            energy_reported_at: old.and_then(|old| old.energy_reported_at),
            on_time: reading.on_time,
            child,
            outlet,
        }
    }
}

fn condition(reading: &OutletReading, auto_off_before: Option<Timestamp>, now: Timestamp) -> Condition {
    let runs = reading.auto_off.as_deref() == Some("on");
    let auto_off_in = reading.auto_off_in.filter(|left| runs && *left > 0);
    let auto_off_at = auto_off_in.and_then(|left| {
        let left = SignedDuration::from_secs(i64::try_from(left).ok()?);
        now.checked_add(left).ok()
    });
    Condition {
        overheat: reading.overheat.clone(),
        overload: reading.overload.clone(),
        overcurrent: reading.overcurrent.clone(),
        charging: reading.charging.clone(),
        auto_off: reading.auto_off.clone(),
        auto_off_at: auto_off_at.and_then(|at| steady(at, auto_off_before)),
    }
}

/// What the outlet reports, and reported earlier.
fn features(reading: &OutletReading, before: &BTreeSet<Feature>) -> BTreeSet<Feature> {
    let reported = [
        (Feature::Overheat, reading.overheat.is_some()),
        (Feature::Overload, reading.overload.is_some()),
        (Feature::Overcurrent, reading.overcurrent.is_some()),
        (Feature::Charging, reading.charging.is_some()),
        (Feature::AutoOff, reading.auto_off.is_some()),
    ];
    let reported = reported.into_iter().filter(|(_, is_reported)| *is_reported);
    reported
        .map(|(feature, _)| feature)
        .chain(before.iter().copied())
        .collect()
}

/// An instant that was computed from a count of seconds, to the second. The earlier one stands as long as the new
/// one agrees within the tolerance, so that a value that each poll computes does not look like a change.
fn steady(instant: Timestamp, before: Option<Timestamp>) -> Option<Timestamp> {
    let instant = Timestamp::from_second(instant.as_second()).ok()?;
    match before {
        Some(before) if instant.duration_since(before).abs() <= COUNT_TOLERANCE => Some(before),
        _ => Some(instant),
    }
}

/// The outlet without its values.
fn unknown(known: &ConfirmedOutlet) -> ConfirmedOutlet {
    ConfirmedOutlet {
        energy_reported_at: known.energy_reported_at,
        on_time: None,
        child: known.child.clone(),
        outlet: Outlet {
            power: None,
            on_since: None,
            on_at: None,
            condition: Condition::default(),
            ..known.outlet.clone()
        },
    }
}

/// When the relay closed.
fn on_since(reading: &OutletReading, before: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    if reading.power != Some(Power::On) {
        return None;
    }
    let on_time = reading.on_time?;
    if before.is_some() && !counts(on_time) {
        return before;
    }
    let on_time = SignedDuration::from_secs(i64::try_from(on_time).ok()?);
    steady(now.checked_sub(on_time).ok()?, before)
}

/// When the relay closed, on the steady clock.
fn on_at(reading: &OutletReading, before: Option<Steady>, now: Steady) -> Option<Steady> {
    if reading.power != Some(Power::On) {
        return None;
    }
    let on_time = reading.on_time?;
    let start = start_of_run(on_time, now)?;
    before
        .filter(|before| !counts(on_time) || start.since(*before).abs() <= COUNT_TOLERANCE)
        .or(Some(start))
}

fn start_of_run(on_time: u64, now: Steady) -> Option<Steady> {
    Some(now.before(SignedDuration::from_secs(i64::try_from(on_time).ok()?)))
}

/// Whether a count of the time that a relay is on runs. Some devices leave it at 0.
fn counts(on_time: u64) -> bool {
    on_time > 0
}

/// Whether the time of the auto-off setting is over that the last reading showed.
fn is_auto_off_due(old: &ConfirmedOutlet, now: Now) -> bool {
    let due = old.outlet.condition.auto_off_at;
    due.is_some_and(|due| due.duration_since(now.wall) <= COUNT_TOLERANCE)
}

/// When a reading shows that the count of the time that a relay is on started over. A count that did not run before is
/// no sign.
fn count_restarted(old: &ConfirmedOutlet, new: &ConfirmedOutlet, now: Steady) -> Option<Steady> {
    let before = old.outlet.on_at.filter(|_| old.on_time.is_some_and(counts))?;
    let start = start_of_run(new.on_time?, now)?;
    (start.since(before) > COUNT_TOLERANCE).then_some(start)
}

fn off_seen_at(reading: &OutletReading, before: &Outlet, now: Steady) -> Option<Steady> {
    match reading.power {
        Some(Power::Off) if before.power != Some(Power::Off) => Some(now),
        _ => before.off_seen_at,
    }
}

fn is_near(a: Timestamp, b: Timestamp, tolerance: SignedDuration) -> bool {
    a.duration_since(b).abs() <= tolerance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{devices::OutletConfig, report::Protection};

    fn config() -> DeviceConfig {
        DeviceConfig {
            outlets: vec![OutletConfig {
                position: 2,
                key: "left".parse().unwrap(),
                name: Some("Left mat".to_owned()),
            }],
            ..DeviceConfig::new("strip".parse().unwrap(), "127.0.0.1".to_owned())
        }
    }

    fn child(id: &str, position: u8, power: Power) -> OutletReading {
        OutletReading {
            child_id: Some(id.to_owned()),
            position: Some(position),
            power: Some(power),
            ..Default::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn steady(second: i64) -> Steady {
        Steady::at(jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second))
    }

    fn now(second: i64) -> Now {
        Now {
            wall: at(second),
            steady: steady(second),
        }
    }

    #[test]
    fn outlets_go_by_configured_name_or_position() {
        let mut known = DeviceState::default();
        let changes = known.apply_reading(
            &config(),
            Kind::Strip,
            &[child("a", 1, Power::On), child("b", 2, Power::Off)],
            now(0),
        );
        assert!(changes.is_empty(), "the first reading is no change");
        let keys: Vec<_> = known
            .outlets
            .iter()
            .map(|o| o.outlet.key.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(keys, ["1", "left"]);
        assert_eq!(known.outlets[1].outlet.name.as_deref(), Some("Left mat"));
    }

    #[test]
    fn only_relays_that_changed_are_changes() {
        let mut known = DeviceState::default();
        known.apply_reading(
            &config(),
            Kind::Strip,
            &[child("a", 1, Power::On), child("b", 2, Power::Off)],
            now(0),
        );
        let changes = known.apply_reading(
            &config(),
            Kind::Strip,
            &[child("b", 2, Power::On), child("a", 1, Power::On)],
            now(1),
        );
        assert_eq!(
            changes,
            [RelayChange {
                outlet: Some("left".parse().unwrap()),
                power: Power::On,
                sign: ChangeSign::Read,
            }]
        );
        let change = known.apply_child_reading(
            &config(),
            "a",
            &OutletReading {
                power: Some(Power::Off),
                ..Default::default()
            },
            now(2),
        );
        assert_eq!(
            change,
            Some(RelayChange {
                outlet: Some("1".parse().unwrap()),
                power: Power::Off,
                sign: ChangeSign::Read,
            })
        );
    }

    #[test]
    fn an_off_with_a_new_trip_is_by_a_protection() {
        let mut known = DeviceState::default();
        let mut sign = |power, word: &str| {
            let overload = Protection {
                word: word.to_owned(),
                tripped: Some(word != "normal"),
            };
            let reading = OutletReading {
                overload: Some(overload),
                ..child("a", 1, power)
            };
            let changes = known.apply_reading(&config(), Kind::Strip, &[reading], now(0));
            changes.first().map(|change| change.sign)
        };
        assert_eq!(
            sign(Power::Off, "overloaded"),
            Some(ChangeSign::Tripped),
            "before the first reading"
        );
        assert_eq!(sign(Power::On, "normal"), Some(ChangeSign::Read));
        assert_eq!(sign(Power::Off, "overloaded"), Some(ChangeSign::Tripped));
        assert_eq!(sign(Power::On, "overloaded"), Some(ChangeSign::Read));
        assert_eq!(
            sign(Power::Off, "overloaded"),
            Some(ChangeSign::Read),
            "by its button"
        );
    }

    #[test]
    fn an_outlet_that_is_left_out_is_unknown_and_stays() {
        let mut known = DeviceState::default();
        let both = [child("a", 1, Power::On), child("b", 2, Power::Off)];
        known.apply_reading(&config(), Kind::Strip, &both, now(0));
        let changes = known.apply_reading(&config(), Kind::Strip, &both[1..], now(1));
        assert_eq!(changes, []);
        let powers: Vec<_> = known.outlets.iter().map(|known| known.outlet.power).collect();
        assert_eq!(powers, [None, Some(Power::Off)]);
        let changes = known.apply_reading(&config(), Kind::Strip, &both, now(2));
        assert_eq!(changes, [], "from unknown to known is no change");
    }

    #[test]
    fn children_with_ever_new_ids_replace_each_other() {
        let mut known = DeviceState::default();
        for number in 0..100 {
            let ids = [format!("a{number}"), format!("b{number}")];
            let children = [child(&ids[0], 1, Power::On), child(&ids[1], 2, Power::Off)];
            known.apply_reading(&config(), Kind::Strip, &children, now(number));
        }
        let ids: Vec<_> = known.outlets.iter().map(|known| known.child.as_deref()).collect();
        assert_eq!(ids, [Some("a99"), Some("b99")]);
    }

    #[test]
    fn a_steady_outlet_keeps_the_instant_it_went_on() {
        let mut known = DeviceState::default();
        let on = |on_time| OutletReading {
            on_time: Some(on_time),
            ..child("a", 1, Power::On)
        };
        let mut since = |reading: OutletReading, second| {
            known.apply_reading(&config(), Kind::Strip, &[reading], now(second));
            known.outlets[0].outlet.on_since
        };
        assert_eq!(since(on(100), 1000), Some(at(900)));
        assert_eq!(since(on(103), 1005), Some(at(900)), "two seconds of jitter");
        assert_eq!(since(child("a", 1, Power::Off), 1010), None);
        assert_eq!(since(on(1), 1020), Some(at(1019)));
        assert_eq!(since(on(u64::MAX), 1021), None);
    }

    fn read(known: &mut DeviceState, power: Power, on_time: Option<u64>, second: i64) -> Vec<RelayChange> {
        let reading = OutletReading {
            on_time,
            ..child("a", 1, power)
        };
        known.apply_reading(&config(), Kind::Strip, &[reading], now(second))
    }

    #[test]
    fn a_set_wall_clock_does_not_move_a_run() {
        let mut known = DeviceState::default();
        read(&mut known, Power::On, Some(100), 1000);
        let mut later = now(1010);
        later.wall = at(90_000);
        let reading = OutletReading {
            on_time: Some(110),
            ..child("a", 1, Power::On)
        };
        known.apply_reading(&config(), Kind::Strip, &[reading], later);
        let outlet = &known.outlets[0].outlet;
        assert_eq!(outlet.on_at, Some(steady(900)));
        assert_eq!(outlet.on_since, Some(at(90_000 - 110)));
    }

    #[test]
    fn an_off_is_seen_when_it_is_first_read() {
        let mut known = DeviceState::default();
        let mut seen = |power, second| {
            read(&mut known, power, None, second);
            known.outlets[0].outlet.off_seen_at
        };
        assert_eq!(seen(Power::On, 0), None);
        assert_eq!(seen(Power::Off, 10), Some(steady(10)));
        assert_eq!(
            seen(Power::Off, 20),
            Some(steady(10)),
            "each poll would be a report"
        );
        assert_eq!(seen(Power::On, 30), Some(steady(10)));
        assert_eq!(seen(Power::Off, 40), Some(steady(40)));
    }

    #[test]
    fn a_count_that_starts_over_differs_from_one_that_stands() {
        let mut known = DeviceState::default();
        let restart = |changes: Vec<RelayChange>| changes.first().map(|change| change.sign);
        read(&mut known, Power::On, Some(100), 1000);
        assert_eq!(
            restart(read(&mut known, Power::On, Some(1), 1010)),
            Some(ChangeSign::CountRestarted(steady(1009)))
        );
        assert_eq!(
            restart(read(&mut known, Power::On, Some(0), 1020)),
            Some(ChangeSign::CountRestarted(steady(1020)))
        );
        // It stays at 0: the run is as long as it was.
        assert_eq!(restart(read(&mut known, Power::On, Some(0), 1030)), None);
        assert_eq!(known.outlets[0].outlet.on_at, Some(steady(1009)));
        assert_eq!(restart(read(&mut known, Power::On, None, 1040)), None);
    }

    #[test]
    fn an_outlet_has_the_features_that_its_components_name() {
        let components = ["schedule", "countdown", "energy_monitoring"].map(str::to_owned);
        let listed = |kind| {
            let mut known = DeviceState {
                components: Components::new(&components),
                ..DeviceState::default()
            };
            known.apply_reading(&config(), kind, &[child("a", 1, Power::On)], now(0));
            known.add_listed_features();
            known.outlets[0].outlet.features.clone()
        };
        assert_eq!(listed(Kind::Plug), [Feature::Countdown, Feature::Rules].into());
        assert_eq!(listed(Kind::Strip), BTreeSet::new(), "it has a list of its own");
    }

    #[test]
    fn a_reported_feature_stays_and_auto_off_is_an_instant() {
        let mut known = DeviceState::default();
        let reported = OutletReading {
            charging: Some("finished".to_owned()),
            auto_off: Some("on".to_owned()),
            auto_off_in: Some(60),
            ..child("a", 1, Power::On)
        };
        let mut apply_reading = |reading: &OutletReading, second| {
            known.apply_reading(&config(), Kind::Strip, std::slice::from_ref(reading), now(second));
            known.outlets[0].outlet.clone()
        };
        let outlet = apply_reading(&reported, 1000);
        assert_eq!(outlet.condition.auto_off_at, Some(at(1060)));
        let later = OutletReading {
            auto_off_in: Some(52),
            ..reported.clone()
        };
        assert_eq!(apply_reading(&later, 1006).condition.auto_off_at, Some(at(1060)));

        let silent = apply_reading(&child("a", 1, Power::On), 1010);
        assert_eq!(
            (&silent.condition.charging, silent.condition.auto_off_at),
            (&None, None)
        );
        assert_eq!(silent.features, [Feature::Charging, Feature::AutoOff].into());
        let idle = OutletReading {
            auto_off: Some("off".to_owned()),
            ..reported
        };
        assert_eq!(apply_reading(&idle, 1020).condition.auto_off_at, None);
    }

    #[test]
    fn an_off_at_the_end_of_the_auto_off_is_by_it() {
        let mut known = DeviceState::default();
        let on = OutletReading {
            auto_off: Some("on".to_owned()),
            auto_off_in: Some(60),
            ..child("a", 1, Power::On)
        };
        let off = child("a", 1, Power::Off);
        let mut sign = |reading: &OutletReading, second| {
            let readings = std::slice::from_ref(reading);
            let changes = known.apply_reading(&config(), Kind::Strip, readings, now(second));
            changes.first().map(|change| change.sign)
        };
        assert_eq!(sign(&on, 1000), None);
        assert_eq!(sign(&off, 1062), Some(ChangeSign::AutoOff));
        assert_eq!(sign(&on, 2000), Some(ChangeSign::Read));
        assert_eq!(sign(&off, 2050), Some(ChangeSign::Read), "by its button before");
    }

    #[test]
    fn a_countdown_keeps_its_end_while_the_device_counts_on() {
        let mut known = DeviceState::default();
        let plug = [OutletReading {
            power: Some(Power::On),
            ..Default::default()
        }];
        known.apply_reading(&config(), Kind::Plug, &plug, now(0));
        let mut reported = |countdown| {
            known.set_countdown(1, countdown);
            known.apply_reading(&config(), Kind::Plug, &plug, now(0));
            known.outlets[0].outlet.countdown
        };
        let ours = |ends| Countdown::Armed { ends: at(ends) };
        let external = |to, ends| Countdown::External { to, ends: at(ends) };
        assert_eq!(reported(ours(100)), ours(100));
        assert_eq!(reported(ours(102)), ours(100));
        assert_eq!(reported(ours(98)), ours(100));
        assert_eq!(reported(external(Power::Off, 99)), external(Power::Off, 99));
        assert_eq!(reported(external(Power::Off, 101)), external(Power::Off, 99));
        assert_eq!(reported(external(Power::On, 99)), external(Power::On, 99));
    }

    #[test]
    fn each_outlet_of_a_strip_has_its_own_countdown() {
        let mut known = DeviceState::default();
        let both = [child("a", 1, Power::On), child("b", 2, Power::On)];
        known.apply_reading(&config(), Kind::Strip, &both, now(0));
        known.set_countdown(2, Countdown::Idle);
        known.apply_reading(&config(), Kind::Strip, &both, now(1));
        let countdowns = [1, 2, 3].map(|position| known.countdown_of(position));
        assert_eq!(
            countdowns,
            [Countdown::Unknown, Countdown::Idle, Countdown::Unknown]
        );
        assert!(known.outlets[1].outlet.features.contains(&Feature::Countdown));
        assert!(known.outlets[0].outlet.features.is_empty());
    }

    #[test]
    fn a_varying_signal_is_not_reported() {
        let mut known = DeviceState::default();
        let mut rssi = |value| {
            known.apply(&DeviceReading {
                rssi: value,
                ..Default::default()
            });
            known.rssi
        };
        assert_eq!(
            [rssi(Some(-50)), rssi(Some(-53)), rssi(Some(-54)), rssi(None)],
            [Some(-50), Some(-50), Some(-54), None]
        );
    }
}
