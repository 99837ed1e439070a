//! The entities that some outlets have and others do not: values that were never reported are not announced.

use std::collections::{BTreeMap, BTreeSet};

use ha_discovery::{BinarySensor, BinarySensorClass, Component, Key, OnOff, Sensor, SensorClass, State};

use super::entry;
use crate::domain::report::Feature;

/// Whether any of its protections was seen.
pub(super) fn is_protected(features: &BTreeSet<Feature>) -> bool {
    [
        Feature::Overheat,
        Feature::Overload,
        Feature::Overcurrent,
        Feature::Charging,
    ]
    .iter()
    .any(|feature| features.contains(feature))
}

/// Protections and auto-off.
pub(super) fn conditions(
    features: &BTreeSet<Feature>,
    state: impl Fn(&'static str) -> State,
) -> BTreeMap<Key, Component> {
    let problem = |key, name: &str| {
        let problem = BinarySensor::of_class(BinarySensorClass::Problem, state(key), OnOff::Booleans);
        entry(key, problem.named(name).diagnostic())
    };
    let text = |key, name: &str, icon| {
        let text = Sensor::plain(name, state(key)).icon(icon);
        entry(key, text.diagnostic().off_by_default())
    };
    let mut components = BTreeMap::new();
    for feature in features {
        match feature {
            Feature::Overheat => components.extend([problem("overheated", "Overheated")]),
            Feature::Overload => components.extend([problem("overloaded", "Overloaded")]),
            Feature::Overcurrent => components.extend([problem("overcurrent", "Overcurrent")]),
            Feature::Charging => components.extend([text("charging", "Charging state", "battery-charging")]),
            Feature::AutoOff => {
                let at = Sensor::of_class(SensorClass::Timestamp, state("auto_off_at")).named("Auto off at");
                components.extend([
                    entry("auto_off_at", at.diagnostic()),
                    text("auto_off", "Auto off", "timer-off-outline"),
                ]);
            }
            Feature::Voltage
            | Feature::Countdown
            | Feature::Rules
            | Feature::AutoOffSetting
            | Feature::PowerProtection
            | Feature::PowerOnBehavior
            | Feature::Brightness => {}
        }
    }
    if is_protected(features) {
        components.extend([text("protection", "Protection", "shield-outline")]);
    }
    components
}

/// The readings of a meter.
pub(super) fn energy(
    features: &BTreeSet<Feature>,
    state: impl Fn(&'static str) -> State,
) -> BTreeMap<Key, Component> {
    let sensor = |class, key, places| Sensor::of_class(class, state(key)).decimals(places);
    let energy = |name: &str, key| sensor(SensorClass::Energy, key, 3).named(name);
    let mut components = BTreeMap::from([
        entry(
            "power",
            sensor(SensorClass::Power, "power", 1).named("Current consumption"),
        ),
        entry("energy_today", energy("Today's consumption", "energy_today")),
        entry(
            "energy_month",
            energy("This month's consumption", "energy_month").diagnostic(),
        ),
        entry("energy_total", energy("Total consumption", "energy_total")),
    ]);
    if features.contains(&Feature::Voltage) {
        components.extend([
            entry(
                "voltage",
                sensor(SensorClass::Voltage, "voltage", 1).off_by_default(),
            ),
            entry(
                "current",
                sensor(SensorClass::Current, "current", 2).off_by_default(),
            ),
        ]);
    }
    components
}
