//! What a worker knows of its device, and what it says about it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    DeviceConfig,
    readings::{DeviceReading, OutletReading},
};
use crate::{
    model::{OutletKey, Power},
    report::{Identity, Kind, Outlet, Protections},
};

/// A relay with what is needed to address it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KnownOutlet {
    /// The child's id on the wire; `None` on a plug.
    pub(super) child: Option<Arc<str>>,
    pub(super) outlet: Outlet,
}

/// Everything a device said, kept over reconnects.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) rssi: Option<i64>,
    pub(super) outlets: Vec<KnownOutlet>,
}

/// A change of a relay that a reading showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) outlet: Option<OutletKey>,
    pub(super) power: Power,
}

/// Wi-Fi signals wander by a few dB; only a change of this many is news.
const RSSI_STEP: i64 = 4;
/// `on_time` counts whole seconds and is read some time later.
const ON_SINCE_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

impl Known {
    /// Takes what the device said of itself.
    pub(super) fn identify(
        &mut self,
        config: &DeviceConfig,
        kind: Kind,
        components: &[String],
        device: &DeviceReading,
    ) {
        let identity = Identity {
            device_id: device.device_id.clone().unwrap_or_else(|| config.id.to_string()),
            model: device.model.clone().unwrap_or_else(|| "unknown".to_owned()),
            firmware: device.firmware.clone(),
            hardware: device.hardware.clone(),
            mac: device.mac.clone(),
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

    /// Takes a reading of all outlets; returns the relays that changed.
    pub(super) fn learn(
        &mut self,
        config: &DeviceConfig,
        kind: Kind,
        readings: &[OutletReading],
        now: Timestamp,
    ) -> Vec<Change> {
        let outlets: Vec<KnownOutlet> = readings
            .iter()
            .enumerate()
            .map(|(index, reading)| self.outlet(config, kind, index, reading, now))
            .collect();
        let changes = outlets.iter().filter_map(|new| self.changed(new)).collect();
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
        let before = old.map(|old| old.outlet.protections).unwrap_or_default();
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
            overheated: reading.overheated,
            overloaded: reading.overloaded,
            // A field that is missing for once takes no entity away.
            protections: Protections {
                heat: before.heat || reading.overheated.is_some(),
                load: before.load || reading.overloaded.is_some(),
            },
        };
        KnownOutlet { child, outlet }
    }
}

/// When the relay closed. The earlier answer stands as long as the new one agrees within the
/// tolerance, so that a value that is computed anew on every poll does not look like a change.
fn on_since(reading: &OutletReading, before: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    if reading.power != Some(Power::On) {
        return None;
    }
    let on_time = SignedDuration::from_secs(i64::try_from(reading.on_time?).ok()?);
    let since = now.checked_sub(on_time).ok()?;
    let since = Timestamp::from_second(since.as_second()).ok()?;
    match before {
        Some(before) if since.duration_since(before).abs() <= ON_SINCE_TOLERANCE => Some(before),
        _ => Some(since),
    }
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
    fn a_protection_told_of_once_is_remembered() {
        let mut known = Known::default();
        for overheated in [Some(false), None] {
            let reading = OutletReading {
                overheated,
                ..child("a", 1, Power::On)
            };
            known.learn(&config(), Kind::Strip, &[reading], at(0));
        }
        let outlet = &known.outlets[0].outlet;
        assert_eq!((outlet.overheated, outlet.overloaded), (None, None));
        assert!(outlet.protections.heat && !outlet.protections.load);
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
