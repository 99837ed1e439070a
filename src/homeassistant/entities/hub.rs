//! The entities of what is connected to a hub.

use std::collections::BTreeMap;

use ha_discovery::{
    BinarySensor, BinarySensorClass, Climate, ClimateKeys, Component, EntityName, Key, OnOff, Options,
    Sensor, SensorClass, State, TargetRange,
};
use planner::DeviceValue;

use super::entry;
use crate::domain::{
    hub_child::{HubChild, SystemMode, Thermostat},
    topics::{SYSTEM_MODE, TARGET_TEMPERATURE},
};

/// A KE100 takes half degrees.
const TARGET_STEP: f64 = 0.5;

/// What a sensor or thermostat shows. Its keys are those of its state.
pub(super) fn components(
    child: &HubChild,
    topic: &str,
    set: impl Fn(&str) -> String,
) -> BTreeMap<Key, Component> {
    let values = child.values.keys();
    let mut components: BTreeMap<Key, Component> = values
        .filter_map(|value| {
            let key = value.as_str().parse().ok()?;
            Some((key, shown(*value, State::json_key(topic, value.as_str()))?))
        })
        .collect();
    let climate = child
        .thermostat
        .and_then(|thermostat| climate(thermostat, topic, set));
    components.extend(climate.map(|climate| entry("climate", climate)));
    components
}

fn shown(value: DeviceValue, state: State) -> Option<Component> {
    let measured = |class, state| Sensor::of_class(class, state);
    let binary = |class, state| BinarySensor::of_class(class, state, OnOff::Booleans);
    Some(match value {
        DeviceValue::Temperature => measured(SensorClass::Temperature, state).decimals(1).into(),
        DeviceValue::Humidity => measured(SensorClass::Humidity, state).decimals(0).into(),
        DeviceValue::Battery => measured(SensorClass::Battery, state)
            .decimals(0)
            .diagnostic()
            .into(),
        DeviceValue::Rssi => measured(SensorClass::SignalStrength, state)
            .decimals(0)
            .diagnostic()
            .off_by_default()
            .into(),
        DeviceValue::BatteryLow => binary(BinarySensorClass::Battery, state)
            .named("Battery low")
            .diagnostic()
            .into(),
        DeviceValue::Motion => binary(BinarySensorClass::Motion, state).into(),
        DeviceValue::Open => binary(BinarySensorClass::Door, state).into(),
        DeviceValue::WaterLeak => binary(BinarySensorClass::Moisture, state).into(),
        // Part of the thermostat.
        DeviceValue::TargetTemperature => return None,
    })
}

fn climate(thermostat: Thermostat, topic: &str, set: impl Fn(&str) -> String) -> Option<Component> {
    let keys = ClimateKeys {
        current: DeviceValue::Temperature.as_str(),
        target: DeviceValue::TargetTemperature.as_str(),
        mode: SYSTEM_MODE,
        action: "action",
    };
    let range = TargetRange::new(thermostat.min, thermostat.max, TARGET_STEP)?;
    let [first, second] = SystemMode::ALL.map(SystemMode::as_str);
    let commands = (set(TARGET_TEMPERATURE), set(SYSTEM_MODE));
    let modes = Options::of(first, [second]);
    Some(Climate::new(EntityName::Main, topic, keys, commands, modes, range).into())
}
