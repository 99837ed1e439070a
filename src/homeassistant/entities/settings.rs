//! The settings that a device keeps itself, and its firmware.

use std::collections::BTreeMap;

use ha_discovery::{
    Component, Key, Number, NumberClass, NumberRange, OnOff, Options, Select, State, Switch, Template, Update,
};

use super::entry;
use crate::domain::{
    device_settings::PowerOnBehavior,
    report::{DeviceReport, Feature, Outlet},
};

/// The largest threshold of a device that does not report its own, in W.
const LARGEST_THRESHOLD: f64 = 5000.0;

/// Of the whole device. `set` is the topic of a command for an attribute.
pub(super) fn of_device(
    report: &DeviceReport,
    topic: &str,
    set: impl Fn(&str) -> String,
) -> BTreeMap<Key, Component> {
    let mut components = BTreeMap::new();
    if report.led.is_some() {
        let led = Switch::new("LED", setting(topic, "led"), OnOff::Booleans, set("led"));
        components.insert(Key::literal("led"), led.icon("led-on").setting().into());
    }
    if report.latest_firmware.is_some() {
        let state = State::new(topic, Template::json_object("update"));
        components.insert(
            Key::literal("update"),
            Update::firmware(state).diagnostic().into(),
        );
    }
    components
}

/// Of one outlet. They are off by default: each can keep an outlet off, or switch it on.
pub(super) fn of_outlet(
    outlet: &Outlet,
    topic: &str,
    set: impl Fn(&str) -> String,
) -> BTreeMap<Key, Component> {
    let state = |key| setting(topic, key);
    let switch = |name: &str, key, icon| -> Component {
        let switch = Switch::new(name, state(key), OnOff::Booleans, set(key));
        switch.icon(icon).setting().off_by_default().into()
    };
    let number = |name: &str, key, range: (f64, f64), class| -> Option<Component> {
        let range = NumberRange::new(range.0, range.1, 1.0)?;
        let number = Number::new(name, range, state(key), set(key)).class(class);
        Some(number.setting().off_by_default().into())
    };
    let mut components = BTreeMap::new();
    if outlet.features.contains(&Feature::AutoOffSetting) {
        let enabled = switch("Auto off enabled", "auto_off", "timer-off-outline");
        components.insert(Key::literal("auto_off_enabled"), enabled);
        let minutes = NumberClass::Minutes;
        let delay = number("Auto off delay", "auto_off_delay", (1.0, 1440.0), minutes);
        components.extend(delay.map(|delay| entry("auto_off_delay", delay)));
    }
    if outlet.features.contains(&Feature::PowerProtection) {
        let enabled = switch("Power protection", "power_protection", "shield-home-outline");
        components.insert(Key::literal("power_protection"), enabled);
        let largest = outlet.settings.max_power.map_or(LARGEST_THRESHOLD, f64::from);
        let key = "power_protection_threshold";
        // One that was never set is 0.
        let threshold = number(
            "Power protection threshold",
            key,
            (0.0, largest),
            NumberClass::Power,
        );
        components.extend(threshold.map(|threshold| entry(key, threshold)));
    }
    if outlet.features.contains(&Feature::PowerOnBehavior) {
        let [first, others @ ..] = PowerOnBehavior::ALL.map(|(word, _)| word);
        let key = "power_on_behavior";
        let select = Select::new(
            "Power-on behavior",
            Options::of(first, others),
            state(key),
            set(key),
        );
        let select = select.icon("power-settings").setting().off_by_default();
        components.insert(Key::literal(key), select.into());
    }
    components
}

fn setting(topic: &str, key: &'static str) -> State {
    State::new(topic, Template::json_path(&["settings", key]))
}
