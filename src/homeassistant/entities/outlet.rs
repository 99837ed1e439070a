//! The entities that some outlets have and others do not: values that were never reported are not announced.

use std::collections::{BTreeMap, BTreeSet};

use ha_discovery::{BinarySensor, BinarySensorClass, Component, Key, OnOff, Sensor, SensorClass, State};

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
    let problem = |name: &str, key| -> Component {
        BinarySensor::of_class(BinarySensorClass::Problem, state(key), OnOff::Booleans)
            .named(name)
            .diagnostic()
            .into()
    };
    let text = |name: &str, key, icon| -> Component {
        Sensor::plain(name, state(key))
            .icon(icon)
            .diagnostic()
            .off_by_default()
            .into()
    };
    let mut components = BTreeMap::new();
    for feature in features {
        match feature {
            Feature::Overheat => {
                components.insert(Key::literal("overheated"), problem("Overheated", "overheated"));
            }
            Feature::Overload => {
                components.insert(Key::literal("overloaded"), problem("Overloaded", "overloaded"));
            }
            Feature::Overcurrent => {
                components.insert(Key::literal("overcurrent"), problem("Overcurrent", "overcurrent"));
            }
            Feature::Charging => {
                components.insert(
                    Key::literal("charging"),
                    text("Charging state", "charging", "battery-charging"),
                );
            }
            Feature::AutoOff => {
                let at = Sensor::of_class(SensorClass::Timestamp, state("auto_off_at")).named("Auto off at");
                components.insert(Key::literal("auto_off_at"), at.diagnostic().into());
                components.insert(
                    Key::literal("auto_off"),
                    text("Auto off", "auto_off", "timer-off-outline"),
                );
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
        components.insert(
            Key::literal("protection"),
            text("Protection", "protection", "shield-outline"),
        );
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
        (
            Key::literal("power"),
            sensor(SensorClass::Power, "power", 1)
                .named("Current consumption")
                .into(),
        ),
        (
            Key::literal("energy_today"),
            energy("Today's consumption", "energy_today").into(),
        ),
        (
            Key::literal("energy_month"),
            energy("This month's consumption", "energy_month")
                .diagnostic()
                .into(),
        ),
        (
            Key::literal("energy_total"),
            energy("Total consumption", "energy_total").into(),
        ),
    ]);
    if features.contains(&Feature::Voltage) {
        components.extend([
            (
                Key::literal("voltage"),
                sensor(SensorClass::Voltage, "voltage", 1).off_by_default().into(),
            ),
            (
                Key::literal("current"),
                sensor(SensorClass::Current, "current", 2).off_by_default().into(),
            ),
        ]);
    }
    components
}
