//! What is connected to a hub, as it was last read. Pure.

use std::collections::{BTreeMap, BTreeSet};

use planner::{
    DeviceValue, OutletKey, SLUG_MAX,
    sensor::{Scale, SensorValue},
};

use super::client::child_reading::ChildReading;
use crate::domain::{
    devices::{ChildConfig, DeviceConfig},
    hub_child::{HubChild, Thermostat},
    id_from_name::id_from_name,
    report::Availability,
};

/// Signals vary by a few dB; only a change of this many is reported.
const RSSI_STEP: f64 = 4.0;
/// How much of an id tells children of one name apart.
const ID_END: usize = 4;

/// What is connected to a hub, in the order of their keys. What the hub does not list any more stays, as offline, until the
/// bridge starts again: a list may be short for a while.
#[derive(Debug, Default)]
pub(super) struct Children {
    known: Vec<HubChild>,
    /// Those that work in °F, by their ids.
    fahrenheit: BTreeSet<String>,
}

impl Children {
    pub(super) fn as_slice(&self) -> &[HubChild] {
        &self.known
    }

    /// The child of a key.
    pub(super) fn by_key(&self, key: &OutletKey) -> Option<&HubChild> {
        self.known.iter().find(|child| child.key == *key)
    }

    /// Each value that is known.
    pub(super) fn values(&self) -> BTreeMap<(OutletKey, DeviceValue), SensorValue> {
        let values = self.known.iter().flat_map(|child| {
            let values = child.values.iter();
            values.filter_map(|(value, read)| Some(((child.key.clone(), *value), (*read)?)))
        });
        values.collect()
    }

    /// The scale on which a child takes temperatures.
    pub(super) fn scale_of(&self, id: &str) -> Scale {
        if self.fahrenheit.contains(id) {
            Scale::Fahrenheit
        } else {
            Scale::Celsius
        }
    }

    /// Takes a reading of one child, which has a key already.
    pub(super) fn apply_one(&mut self, config: &DeviceConfig, reading: &ChildReading) {
        if let Some(known) = self.known.iter_mut().find(|child| child.id == reading.id) {
            *known = child(config, known.key.clone(), reading, Some(known));
        }
    }

    /// Takes a reading of all children.
    pub(super) fn apply(&mut self, config: &DeviceConfig, readings: &[ChildReading]) {
        let fahrenheit = readings
            .iter()
            .filter(|reading| reading.scale == Scale::Fahrenheit);
        self.fahrenheit = fahrenheit.map(|reading| reading.id.clone()).collect();
        let before = std::mem::take(&mut self.known);
        let old = |id: &str| before.iter().find(|child| child.id == id);
        let keys = keys(config, readings);
        let read = readings.iter().zip(keys);
        self.known = read
            .filter_map(|(reading, key)| Some(child(config, key?, reading, old(&reading.id))))
            .collect();
        for gone in &before {
            let is_replaced = |child: &HubChild| child.id == gone.id || child.key == gone.key;
            if !self.known.iter().any(is_replaced) {
                self.known.push(offline(gone));
            }
        }
        self.known.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

fn child(config: &DeviceConfig, key: OutletKey, reading: &ChildReading, old: Option<&HubChild>) -> HubChild {
    let named = configured(config, reading).and_then(|child| child.name.clone());
    let mut values = reading.values.clone();
    for (value, before) in old.into_iter().flat_map(|old| &old.values) {
        match values.get_mut(value) {
            // No value that was there is left out.
            None => drop(values.insert(*value, None)),
            Some(now) if *value == DeviceValue::Rssi => *now = steady(*before, *now),
            Some(_) => {}
        }
    }
    HubChild {
        id: reading.id.clone(),
        key,
        name: named.or_else(|| reading.nickname.clone()),
        model: reading.model.clone(),
        firmware: reading.firmware.clone(),
        hardware: reading.hardware.clone(),
        availability: if reading.is_online {
            Availability::Online
        } else {
            Availability::Offline
        },
        values,
        thermostat: reading.thermostat,
        is_button: reading.is_button,
    }
}

fn steady(before: Option<SensorValue>, now: Option<SensorValue>) -> Option<SensorValue> {
    match (before, now) {
        (Some(SensorValue::Number(old)), Some(SensorValue::Number(new))) if (old - new).abs() < RSSI_STEP => {
            before
        }
        _ => now,
    }
}

/// A child without its values.
fn offline(child: &HubChild) -> HubChild {
    HubChild {
        availability: Availability::Offline,
        values: child.values.keys().map(|value| (*value, None)).collect(),
        thermostat: child.thermostat.map(|known| Thermostat {
            is_on: None,
            is_heating: None,
            ..known
        }),
        ..child.clone()
    }
}

/// A child is meant by its id, or else by its name in the app.
fn configured<'a>(config: &'a DeviceConfig, reading: &ChildReading) -> Option<&'a ChildConfig> {
    let mut children = config.children.iter();
    let by_id = children.find(|child| child.device_id.as_ref() == Some(&reading.id));
    let slug = reading.nickname.as_deref().and_then(slug);
    by_id.or_else(|| {
        let mut named = config.children.iter().filter(|child| child.device_id.is_none());
        named.find(|child| Some(&child.key) == slug.as_ref())
    })
}

/// The topic level of each child. Those that would have the same one get the end of their ids, so that none is taken for
/// another. `None` for an entry that repeats another one.
fn keys(config: &DeviceConfig, readings: &[ChildReading]) -> Vec<Option<OutletKey>> {
    let wanted = |reading: &ChildReading| {
        let set = configured(config, reading).map(|child| child.key.clone());
        set.or_else(|| {
            let slug = reading.nickname.as_deref().and_then(slug);
            // That name belongs to another child by its id.
            slug.filter(|slug| config.children.iter().all(|child| child.key != *slug))
        })
    };
    let wanted: Vec<Option<OutletKey>> = readings.iter().map(wanted).collect();
    let mut counts: BTreeMap<&OutletKey, usize> = BTreeMap::new();
    for key in wanted.iter().flatten() {
        *counts.entry(key).or_default() += 1;
    }
    let (mut taken, mut keys) = (BTreeSet::new(), Vec::new());
    for (reading, wanted) in readings.iter().zip(&wanted) {
        let alone = wanted.clone().filter(|key| counts.get(key) == Some(&1));
        let name = wanted.as_ref().map_or("child", OutletKey::as_str);
        let candidates = [
            alone,
            with_id(name, &reading.id, ID_END),
            with_id("child", &reading.id, SLUG_MAX),
        ];
        let key = candidates.into_iter().flatten().find(|key| !taken.contains(key));
        taken.extend(key.clone());
        keys.push(key);
    }
    keys
}

fn with_id(name: &str, id: &str, digits: usize) -> Option<OutletKey> {
    let id: Vec<char> = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let end: String = id.iter().skip(id.len().saturating_sub(digits)).collect();
    let name: String = name.chars().take(SLUG_MAX - ID_END - 1).collect();
    let key: String = format!("{name}-{}", end.to_ascii_lowercase());
    key.chars().take(SLUG_MAX).collect::<String>().parse().ok()
}

/// A name in the app as a topic level: `Living Room` is `living-room`. `None` if nothing is left of it, or it is reserved.
fn slug(name: &str) -> Option<OutletKey> {
    id_from_name(name).parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(children: &[(&str, Option<&str>)]) -> DeviceConfig {
        let child = |(key, id): &(&str, Option<&str>)| ChildConfig {
            key: key.parse().unwrap(),
            device_id: id.map(str::to_owned),
            name: None,
        };
        DeviceConfig {
            children: children.iter().map(child).collect(),
            ..DeviceConfig::new("hub".parse().unwrap(), "127.0.0.1".to_owned())
        }
    }

    fn read(children: &[(&str, &str)]) -> Vec<ChildReading> {
        let entry = |(id, name): &(&str, &str)| json!({"device_id": id, "nickname": name, "status": "online", "rssi": -50});
        let list: Vec<Value> = children.iter().map(entry).collect();
        ChildReading::list(&json!({ "child_device_list": list }))
    }

    fn keys_of(known: &Children) -> Vec<(&str, &str)> {
        let children = known.as_slice().iter();
        children
            .map(|child| (child.key.as_str(), child.id.as_str()))
            .collect()
    }

    #[test]
    fn children_go_by_their_names_in_the_app() {
        let mut known = Children::default();
        let names = [
            ("80A1", "Living Room"),
            ("80B2", "Küche 2"),
            ("80C3", "!!"),
            ("80D4", "Set"),
            ("80E5", "Bad"),
            ("80F6", "bad"),
        ];
        known.apply(&config(&[]), &read(&names));
        let expected = [
            ("bad-80e5", "80E5"),
            ("bad-80f6", "80F6"),
            ("child-80c3", "80C3"),
            ("child-80d4", "80D4"),
            ("kueche-2", "80B2"),
            ("living-room", "80A1"),
        ];
        assert_eq!(keys_of(&known), expected);
    }

    #[test]
    fn a_configured_id_goes_before_a_name() {
        let config = config(&[("hall", Some("80B2")), ("bath", None)]);
        let mut known = Children::default();
        known.apply(
            &config,
            &read(&[("80A1", "Hall"), ("80B2", "Old"), ("80C3", "Bath")]),
        );
        assert_eq!(
            keys_of(&known),
            [("bath", "80C3"), ("child-80a1", "80A1"), ("hall", "80B2")]
        );
    }

    #[test]
    fn what_is_not_listed_any_more_is_offline() {
        let mut known = Children::default();
        known.apply(&config(&[]), &read(&[("80A1", "Hall"), ("80B2", "Bath")]));
        known.apply(&config(&[]), &read(&[("80B2", "Bath")]));
        let hall = known.by_key(&"hall".parse().unwrap()).unwrap();
        assert_eq!(hall.availability, Availability::Offline);
        assert!(hall.values.values().all(Option::is_none));
        // Another one has its name: it is replaced.
        known.apply(&config(&[]), &read(&[("80C3", "Hall"), ("80B2", "Bath")]));
        assert_eq!(keys_of(&known), [("bath", "80B2"), ("hall", "80C3")]);
    }

    #[test]
    fn a_varying_signal_is_not_reported() {
        let mut known = Children::default();
        let mut rssi = |rssi: i64| {
            let list = json!({"child_device_list": [{"device_id": "80A1", "nickname": "Hall", "status": "online", "rssi": rssi}]});
            known.apply(&config(&[]), &ChildReading::list(&list));
            known.as_slice()[0].values[&DeviceValue::Rssi].map(|value| value.to_string())
        };
        assert_eq!(
            [rssi(-50), rssi(-53), rssi(-54)].map(Option::unwrap),
            ["-50", "-50", "-54"]
        );
    }
}
