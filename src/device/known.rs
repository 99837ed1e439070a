//! What a worker knows of its device, and what it says about it.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    DeviceConfig,
    readings::{DeviceReading, OutletReading},
};
use crate::{
    model::{OutletKey, Power},
    report::{Condition, Countdown, DeviceRule, Feature, Identity, Kind, Outlet},
};

/// A relay with what is needed to address it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KnownOutlet {
    /// The child's id on the wire; `None` on a plug.
    pub(super) child: Option<Arc<str>>,
    pub(super) outlet: Outlet,
    /// When its energy was last told.
    pub(super) energy_told: Option<Instant>,
}

/// Everything a device said, kept over reconnects.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) identity: Option<Arc<Identity>>,
    /// What tells the device from others, as far as it said so.
    mac: Option<String>,
    device_id: Option<String>,
    pub(super) rssi: Option<i64>,
    pub(super) outlets: Vec<KnownOutlet>,
    /// A plug's own countdown; a strip has none.
    pub(super) countdown: Countdown,
    /// The schedule rules on a plug.
    rules: Option<Arc<[DeviceRule]>>,
}

/// A change of a relay that a reading showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) outlet: Option<OutletKey>,
    pub(super) power: Power,
}

/// Wi-Fi signals wander by a few dB; only a change of this many is news.
const RSSI_STEP: i64 = 4;
/// Devices count whole seconds and are read some time later.
const COUNT_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// So does what is left of a countdown.
const ENDS_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

impl Known {
    /// The outlet at a position.
    pub(super) fn at(&mut self, position: u8) -> Option<&mut KnownOutlet> {
        let mut outlets = self.outlets.iter_mut();
        outlets.find(|known| known.outlet.position == position)
    }

    /// Who speaks, if it is another device than the one that was known until now.
    pub(super) fn stranger(&self, device: &DeviceReading) -> Option<String> {
        let ids = [(&self.mac, &device.mac), (&self.device_id, &device.device_id)];
        // The MAC decides where both said one.
        let (known, now) = ids
            .into_iter()
            .find_map(|(known, now)| Some((known.as_ref()?, now.as_ref()?)))?;
        (known != now).then(|| {
            let model = device.model.as_deref().unwrap_or("unknown model");
            format!("{model}, {now}")
        })
    }

    /// Takes what the device said of itself.
    pub(super) fn identify(
        &mut self,
        config: &DeviceConfig,
        kind: Kind,
        components: &[String],
        device: &DeviceReading,
    ) {
        self.mac = device.mac.clone().or(self.mac.take());
        self.device_id = device.device_id.clone().or(self.device_id.take());
        let identity = Identity {
            device_id: device.device_id.clone().unwrap_or_else(|| config.id.to_string()),
            model: device.model.clone().unwrap_or_else(|| "unknown".to_owned()),
            firmware: device.firmware.clone(),
            hardware: device.hardware.clone(),
            mac: self.mac.clone(),
            nickname: device.nickname.clone(),
            kind,
            meters_energy: components.iter().any(|id| id == "energy_monitoring"),
        };
        if self.identity.as_deref() != Some(&identity) {
            self.identity = Some(Arc::new(identity));
        }
        self.hear(device);
    }

    /// Takes the values of the device itself.
    pub(super) fn hear(&mut self, device: &DeviceReading) {
        let steady = |old: i64, new: i64| if (old - new).abs() < RSSI_STEP { old } else { new };
        self.rssi = match (self.rssi, device.rssi) {
            (Some(old), Some(new)) => Some(steady(old, new)),
            (_, new) => new,
        };
    }

    /// Takes a reading of all outlets; returns the relays that changed. An outlet that a strip leaves out stays,
    /// and nothing is known of it.
    pub(super) fn learn(
        &mut self,
        config: &DeviceConfig,
        kind: Kind,
        readings: &[OutletReading],
        now: Timestamp,
    ) -> Vec<Change> {
        let mut outlets: Vec<KnownOutlet> = readings
            .iter()
            .enumerate()
            .map(|(index, reading)| self.outlet(config, kind, index, reading, now))
            .collect();
        let changes = outlets.iter().filter_map(|new| self.changed(new)).collect();
        if kind == Kind::Strip {
            let left_out = |old: &&KnownOutlet| outlets.iter().all(|new| new.child != old.child);
            let left_out: Vec<KnownOutlet> = self.outlets.iter().filter(left_out).map(unknown).collect();
            outlets.extend(left_out);
            outlets.sort_by_key(|known| known.outlet.position);
        }
        self.outlets = outlets;
        changes
    }

    /// Takes a reading of one outlet of a strip.
    pub(super) fn learn_child(
        &mut self,
        config: &DeviceConfig,
        child: &str,
        reading: &OutletReading,
        now: Timestamp,
    ) -> Option<Change> {
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
        let change = self.changed(&new);
        if let Some(known) = self.outlets.get_mut(index) {
            *known = new;
        }
        change
    }

    /// Takes what is known of a plug's countdown. The end that was told stands as long as the new one agrees
    /// within the tolerance.
    pub(super) fn count_down(&mut self, new: Countdown) {
        self.countdown = match (self.countdown, new) {
            (
                old @ Countdown::Running {
                    to: was,
                    ends: before,
                },
                Countdown::Running { to, ends },
            ) if was == to && ends.duration_since(before).abs() <= ENDS_TOLERANCE => old,
            _ => new,
        };
        for known in self.outlets.iter_mut().filter(|known| known.child.is_none()) {
            known.outlet.countdown = self.countdown;
            if matches!(new, Countdown::Idle | Countdown::Running { .. }) {
                known.outlet.features.insert(Feature::Countdown);
            }
        }
    }

    /// Takes what is known of a plug's schedule rules.
    pub(super) fn hold_rules(&mut self, rules: Option<Arc<[DeviceRule]>>) {
        self.rules = rules;
        for known in self.outlets.iter_mut().filter(|known| known.child.is_none()) {
            known.outlet.rules.clone_from(&self.rules);
            if self.rules.is_some() {
                known.outlet.features.insert(Feature::Rules);
            }
        }
    }

    fn changed(&self, new: &KnownOutlet) -> Option<Change> {
        let old = self.outlets.iter().find(|old| old.child == new.child)?;
        let power = new.outlet.power?;
        let differs = old.outlet.power.is_some_and(|old| old != power);
        differs.then(|| Change {
            outlet: new.outlet.key.clone(),
            power,
        })
    }

    fn outlet(
        &self,
        config: &DeviceConfig,
        kind: Kind,
        index: usize,
        reading: &OutletReading,
        now: Timestamp,
    ) -> KnownOutlet {
        let child = match kind {
            Kind::Plug => None,
            Kind::Strip => reading.child_id.as_deref().map(Arc::from),
        };
        let nth = u8::try_from(index + 1).unwrap_or(u8::MAX);
        let position = match kind {
            Kind::Plug => 1,
            Kind::Strip => reading.position.unwrap_or(nth),
        };
        let naming = config.outlets.iter().find(|naming| naming.position == position);
        let key = match kind {
            Kind::Plug => None,
            Kind::Strip => naming
                .map(|naming| naming.key.clone())
                .or_else(|| position.to_string().parse().ok()),
        };
        let old = self.outlets.iter().find(|old| old.child == child);
        let name = naming
            .and_then(|naming| naming.name.clone())
            .or_else(|| reading.nickname.clone());
        let outlet = Outlet {
            key,
            position,
            name: if kind == Kind::Plug {
                config.name.clone().or(name)
            } else {
                name
            },
            power: reading.power,
            on_since: on_since(reading, old.and_then(|old| old.outlet.on_since), now),
            condition: condition(reading, old.and_then(|old| old.outlet.condition.auto_off_at), now),
            energy: old.map(|old| old.outlet.energy).unwrap_or_default(),
            features: features(reading, old.map(|old| &old.outlet.features)),
            countdown: match kind {
                Kind::Plug => self.countdown,
                Kind::Strip => Countdown::Unsupported,
            },
            rules: self.rules.clone().filter(|_| kind == Kind::Plug),
        };
        KnownOutlet {
            energy_told: old.and_then(|old| old.energy_told),
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

/// What the outlet tells, and told earlier.
fn features(reading: &OutletReading, before: Option<&BTreeSet<Feature>>) -> BTreeSet<Feature> {
    let told = [
        (Feature::Overheat, reading.overheat.is_some()),
        (Feature::Overload, reading.overload.is_some()),
        (Feature::Overcurrent, reading.overcurrent.is_some()),
        (Feature::Charging, reading.charging.is_some()),
        (Feature::AutoOff, reading.auto_off.is_some()),
    ];
    let told = told.into_iter().filter(|(_, told)| *told);
    told.map(|(feature, _)| feature)
        .chain(before.into_iter().flatten().copied())
        .collect()
}

/// An instant that was computed from a count of seconds, to the second. The earlier one stands as long as the new
/// one agrees within the tolerance, so that a value that is computed anew on every poll does not look like a change.
fn steady(instant: Timestamp, before: Option<Timestamp>) -> Option<Timestamp> {
    let instant = Timestamp::from_second(instant.as_second()).ok()?;
    match before {
        Some(before) if instant.duration_since(before).abs() <= COUNT_TOLERANCE => Some(before),
        _ => Some(instant),
    }
}

/// The outlet without its values.
fn unknown(known: &KnownOutlet) -> KnownOutlet {
    KnownOutlet {
        energy_told: known.energy_told,
        child: known.child.clone(),
        outlet: Outlet {
            power: None,
            on_since: None,
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
    let on_time = SignedDuration::from_secs(i64::try_from(reading.on_time?).ok()?);
    steady(now.checked_sub(on_time).ok()?, before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::OutletConfig;

    fn config() -> DeviceConfig {
        DeviceConfig {
            id: "strip".parse().unwrap(),
            address: "127.0.0.1".to_owned(),
            name: None,
            credentials: None,
            outlets: vec![OutletConfig {
                position: 2,
                key: "left".parse().unwrap(),
                name: Some("Left mat".to_owned()),
            }],
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

    #[test]
    fn outlets_go_by_configured_name_or_position() {
        let mut known = Known::default();
        let changes = known.learn(
            &config(),
            Kind::Strip,
            &[child("a", 1, Power::On), child("b", 2, Power::Off)],
            at(0),
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
        let mut known = Known::default();
        known.learn(
            &config(),
            Kind::Strip,
            &[child("a", 1, Power::On), child("b", 2, Power::Off)],
            at(0),
        );
        let changes = known.learn(
            &config(),
            Kind::Strip,
            &[child("b", 2, Power::On), child("a", 1, Power::On)],
            at(1),
        );
        assert_eq!(
            changes,
            [Change {
                outlet: Some("left".parse().unwrap()),
                power: Power::On
            }]
        );
        let change = known.learn_child(
            &config(),
            "a",
            &OutletReading {
                power: Some(Power::Off),
                ..Default::default()
            },
            at(2),
        );
        assert_eq!(
            change,
            Some(Change {
                outlet: Some("1".parse().unwrap()),
                power: Power::Off
            })
        );
    }

    #[test]
    fn an_outlet_that_is_left_out_is_unknown_and_stays() {
        let mut known = Known::default();
        let both = [child("a", 1, Power::On), child("b", 2, Power::Off)];
        known.learn(&config(), Kind::Strip, &both, at(0));
        let changes = known.learn(&config(), Kind::Strip, &both[1..], at(1));
        assert_eq!(changes, []);
        let powers: Vec<_> = known.outlets.iter().map(|known| known.outlet.power).collect();
        assert_eq!(powers, [None, Some(Power::Off)]);
        let changes = known.learn(&config(), Kind::Strip, &both, at(2));
        assert_eq!(changes, [], "from unknown to known is no change");
    }

    #[test]
    fn another_device_is_told_by_its_mac_or_else_by_its_id() {
        let device = |mac: Option<&str>, id: Option<&str>| DeviceReading {
            mac: mac.map(str::to_owned),
            device_id: id.map(str::to_owned),
            ..Default::default()
        };
        let mut known = Known::default();
        assert_eq!(known.stranger(&device(Some("m1"), Some("i1"))), None);
        known.identify(&config(), Kind::Plug, &[], &device(None, Some("i1")));
        assert!(known.stranger(&device(Some("m1"), Some("i2"))).is_some());
        known.identify(&config(), Kind::Plug, &[], &device(Some("m1"), None));
        assert_eq!(known.stranger(&device(Some("m1"), Some("i2"))), None);
        assert_eq!(known.stranger(&device(None, Some("i1"))), None);
        assert_eq!(known.stranger(&device(None, None)), None);
        assert!(known.stranger(&device(Some("m2"), Some("i1"))).is_some());
    }

    #[test]
    fn a_steady_outlet_keeps_the_instant_it_went_on() {
        let mut known = Known::default();
        let on = |on_time| OutletReading {
            on_time: Some(on_time),
            ..child("a", 1, Power::On)
        };
        let mut since = |reading: OutletReading, now| {
            known.learn(&config(), Kind::Strip, &[reading], at(now));
            known.outlets[0].outlet.on_since
        };
        assert_eq!(since(on(100), 1000), Some(at(900)));
        assert_eq!(since(on(103), 1005), Some(at(900)), "two seconds of jitter");
        assert_eq!(since(child("a", 1, Power::Off), 1010), None);
        assert_eq!(since(on(1), 1020), Some(at(1019)));
        assert_eq!(since(on(u64::MAX), 1021), None);
    }

    #[test]
    fn what_an_outlet_told_once_stays_its_feature_and_auto_off_is_an_instant() {
        let mut known = Known::default();
        let told = OutletReading {
            charging: Some("finished".to_owned()),
            auto_off: Some("on".to_owned()),
            auto_off_in: Some(60),
            ..child("a", 1, Power::On)
        };
        let mut learn = |reading: &OutletReading, now| {
            known.learn(&config(), Kind::Strip, std::slice::from_ref(reading), at(now));
            known.outlets[0].outlet.clone()
        };
        let outlet = learn(&told, 1000);
        assert_eq!(outlet.condition.auto_off_at, Some(at(1060)));
        let later = OutletReading {
            auto_off_in: Some(52),
            ..told.clone()
        };
        assert_eq!(learn(&later, 1006).condition.auto_off_at, Some(at(1060)));

        let silent = learn(&child("a", 1, Power::On), 1010);
        assert_eq!(
            (&silent.condition.charging, silent.condition.auto_off_at),
            (&None, None)
        );
        assert_eq!(silent.features, [Feature::Charging, Feature::AutoOff].into());
        let idle = OutletReading {
            auto_off: Some("off".to_owned()),
            ..told
        };
        assert_eq!(learn(&idle, 1020).condition.auto_off_at, None);
    }

    #[test]
    fn a_countdown_keeps_its_end_while_the_device_counts_on() {
        let mut known = Known::default();
        let plug = [OutletReading {
            power: Some(Power::On),
            ..Default::default()
        }];
        known.learn(&config(), Kind::Plug, &plug, at(0));
        let mut told = |to, ends| {
            known.count_down(Countdown::Running { to, ends: at(ends) });
            known.learn(&config(), Kind::Plug, &plug, at(0));
            match known.outlets[0].outlet.countdown {
                Countdown::Running { to, ends } => (to, ends.as_second()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(Power::Off, 100), (Power::Off, 100));
        assert_eq!(told(Power::Off, 102), (Power::Off, 100));
        assert_eq!(told(Power::Off, 98), (Power::Off, 100));
        assert_eq!(told(Power::On, 99), (Power::On, 99));
        assert_eq!(told(Power::On, 102), (Power::On, 102));
    }

    #[test]
    fn a_strip_has_no_countdown() {
        let mut known = Known::default();
        known.learn(&config(), Kind::Strip, &[child("a", 1, Power::On)], at(0));
        assert_eq!(known.outlets[0].outlet.countdown, Countdown::Unsupported);
    }

    #[test]
    fn a_wandering_signal_is_no_news() {
        let mut known = Known::default();
        let mut rssi = |value| {
            known.hear(&DeviceReading {
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
