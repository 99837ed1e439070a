//! Typical devices, announced as a bridge would.

#![allow(clippy::unwrap_used)] // Fixtures: a bad literal fails the test.

use std::collections::BTreeMap;

use ha_discovery::{
    Availability, BinarySensor, BinarySensorClass, Button, ButtonClass, Child, Command, CommandTemplate,
    Component, Device, DevicePayload, EntityName, Event, EventTemplate, Key, Layout, NodeId, Number,
    NumberClass, NumberRange, OnOff, Options, Origin, Select, Sensor, SensorClass, State, Switch,
    SwitchClass, Template,
};

pub(crate) fn all() -> Vec<DevicePayload> {
    vec![
        plug(),
        plug_with_energy(),
        strip(Layout::Flat),
        strip(Layout::ChildDevices),
        bridge(),
        group(),
    ]
}

pub(crate) fn plug() -> DevicePayload {
    let mut payload = device("heater", "Heater", "P100");
    payload.components = outlet("tapo2mqtt/heater");
    payload.components.extend(physical("tapo2mqtt/heater"));
    payload
}

pub(crate) fn plug_with_energy() -> DevicePayload {
    let topic = "tapo2mqtt/heater";
    let mut payload = device("heater", "Heater", "P110");
    payload.components = outlet(topic);
    payload.components.extend(physical(topic));
    payload.components.extend(energy(topic));
    let range = NumberRange::new(0.0, 1440.0, 1.0).unwrap();
    let countdown = Number::new(
        "Turn off in",
        range,
        State::new(topic, Template::minutes("countdown")),
        Command::wrapped(
            format!("{topic}/set/countdown"),
            CommandTemplate::seconds_of_minutes(),
        ),
    );
    let pressed = Event::new(
        "Power button",
        Options::of("ON", ["OFF"]),
        "tapo2mqtt/bridge/event",
        EventTemplate {
            type_key: "state",
            attributes: &["message"],
            only_when: &[("device", "heater"), ("outlet", "left")],
        },
    );
    let overloaded = BinarySensor::of_class(
        BinarySensorClass::Problem,
        state(topic, "overloaded"),
        OnOff::Booleans,
    );
    payload.components.extend([
        entry("countdown", countdown.class(NumberClass::Minutes).setting()),
        entry("button", pressed),
        entry("overloaded", overloaded.named("Overloaded").diagnostic()),
    ]);
    payload
}

pub(crate) fn strip(layout: Layout) -> DevicePayload {
    let mut payload = device("strip", "Strip", "P304M");
    payload.layout = layout;
    payload.components = physical("tapo2mqtt/strip");
    for (position, name) in [(1, "Outlet 1"), (2, "Fish tank")] {
        let topic = format!("tapo2mqtt/strip/{position}");
        let mut components = outlet(&topic);
        components.extend(energy(&topic));
        let name = name.to_owned();
        payload.children.insert(position, Child { name, components });
    }
    payload
}

pub(crate) fn bridge() -> DevicePayload {
    let topic = |tail: &str| format!("tapo2mqtt/bridge/{tail}");
    let mut payload = announced("bridge", Device::new("tapo2mqtt"));
    payload.device.model = Some("Bridge".to_owned());
    payload.device.sw_version = Some("0.1.0".to_owned());
    payload.availability = vec![Availability::json_key(topic("state"), "state")];
    let connection = BinarySensor::of_class(
        BinarySensorClass::Connectivity,
        state(topic("state"), "state"),
        OnOff::ONLINE,
    );
    let level = Command::wrapped(topic("request/log_level"), CommandTemplate::json_value("level"));
    let levels = Options::of("error", ["warn", "info", "debug", "trace"]);
    let log_level = Select::new("Log level", levels, state(topic("info"), "log_level"), level);
    let vacation = Command::wrapped(topic("request/vacation"), CommandTemplate::json_is_on("enabled"));
    let vacation = Switch::new(
        "Vacation",
        state(topic("info"), "vacation"),
        OnOff::Booleans,
        vacation,
    );
    payload.components = BTreeMap::from([
        entry("connection", connection.diagnostic().available_with([])),
        entry(
            "version",
            Sensor::plain("Version", state(topic("info"), "version")).diagnostic(),
        ),
        entry(
            "last_error",
            Sensor::plain("Last error", state(topic("last_error"), "message")).diagnostic(),
        ),
        entry(
            "devices_online",
            Sensor::plain("Devices online", state(topic("health"), "devices_online")).diagnostic(),
        ),
        entry(
            "restart",
            Button::of_class(ButtonClass::Restart, topic("request/restart")).diagnostic(),
        ),
        entry(
            "rescan",
            Button::new("Reconnect devices", topic("request/rescan"))
                .icon("magnify-scan")
                .setting(),
        ),
        entry("log_level", log_level.setting()),
        entry("vacation", vacation.icon("palm-tree").setting()),
    ]);
    payload
}

pub(crate) fn group() -> DevicePayload {
    let topic = "tapo2mqtt/group/mats";
    let mut payload = announced("group_mats", Device::new("Mats"));
    payload.device.via_device = Some(node("bridge"));
    payload.availability = vec![Availability::json_key("tapo2mqtt/bridge/state", "state")];
    let switch = Switch::new(
        EntityName::Main,
        state(topic, "state"),
        OnOff::POWER,
        format!("{topic}/set"),
    );
    let mode = Select::new(
        "Mode",
        Options::of("auto", ["on", "off"]),
        state(topic, "mode"),
        format!("{topic}/set/mode"),
    );
    let sources = Options::of("safety", ["override", "vacation", "schedule", "manual", "device"]);
    let tripped = BinarySensor::of_class(
        BinarySensorClass::Problem,
        state(topic, "tripped"),
        OnOff::Booleans,
    );
    let schedule = Switch::new(
        "Schedule morning",
        State::new(topic, Template::json_path(&["schedules", "morning"])),
        OnOff::Booleans,
        format!("{topic}/set/schedule/morning"),
    );
    payload.components = BTreeMap::from([
        entry("switch", switch),
        entry("mode", mode),
        entry(
            "source",
            Sensor::options("Source", sources, state(topic, "source")).diagnostic(),
        ),
        entry(
            "reason",
            Sensor::plain("Reason", state(topic, "reason")).diagnostic(),
        ),
        entry("next_change", timestamp("Next change", topic, "next_change")),
        entry(
            "override_until",
            timestamp("Override until", topic, "override_until"),
        ),
        entry("tripped", tripped.named("Safety limit active")),
        entry("schedule_morning", schedule.setting()),
    ]);
    payload
}

/// What every outlet has.
fn outlet(topic: &str) -> BTreeMap<Key, Component> {
    let switch = Switch::new(
        EntityName::Main,
        state(topic, "state"),
        OnOff::POWER,
        format!("{topic}/set"),
    );
    BTreeMap::from([
        entry("switch", switch.class(SwitchClass::Outlet)),
        entry(
            "on_since",
            timestamp("On since", topic, "on_since")
                .diagnostic()
                .off_by_default(),
        ),
    ])
}

/// What every physical device has.
fn physical(topic: &str) -> BTreeMap<Key, Component> {
    let overheated = BinarySensor::of_class(
        BinarySensorClass::Problem,
        state(topic, "overheated"),
        OnOff::Booleans,
    );
    let rssi = Sensor::of_class(SensorClass::SignalStrength, state(topic, "rssi"));
    let phases = Options::of("connecting", ["ready", "unreachable"]);
    let status = Sensor::options("Status", phases, state(topic, "status"));
    let message = Template::text_in("error", "message", "No error");
    let error = Sensor::plain("Error", State::new(topic, message));
    let bridge = || Availability::json_key("tapo2mqtt/bridge/state", "state");
    let bridge_only = |sensor: Sensor| sensor.available_with([bridge()]);
    BTreeMap::from([
        entry("overheated", overheated.named("Overheated").diagnostic()),
        entry("rssi", rssi.diagnostic().off_by_default()),
        entry("status", bridge_only(status.diagnostic())),
        entry("error", bridge_only(error.diagnostic())),
    ])
}

fn energy(topic: &str) -> BTreeMap<Key, Component> {
    let sensor = |class, key| Sensor::of_class(class, state(topic, key));
    let consumption = |key, name| entry(key, sensor(SensorClass::Energy, key).named(name).decimals(3));
    let power = sensor(SensorClass::Power, "power").named("Current consumption");
    let voltage = sensor(SensorClass::Voltage, "voltage").decimals(1);
    let current = sensor(SensorClass::Current, "current").decimals(2);
    BTreeMap::from([
        entry("power", power.decimals(1)),
        consumption("energy_today", "Today's consumption"),
        consumption("energy_month", "This month's consumption"),
        consumption("energy_total", "Total consumption"),
        entry("voltage", voltage.off_by_default()),
        entry("current", current.off_by_default()),
    ])
}

fn device(id: &str, name: &str, model: &str) -> DevicePayload {
    let mut payload = announced(id, Device::new(name));
    payload.device.manufacturer = Some("TP-Link".to_owned());
    payload.device.model = Some(format!("Tapo {model}"));
    payload.device.model_id = Some(model.to_owned());
    payload.device.hw_version = Some("1.0".to_owned());
    payload.device.sw_version = Some("1.3.0 Build 230905 Rel.152200".to_owned());
    payload.device.serial_number = Some("8022D7E6".to_owned());
    payload.device.via_device = Some(node("bridge"));
    payload.availability = vec![
        Availability::json_key("tapo2mqtt/bridge/state", "state"),
        Availability::json_key(format!("tapo2mqtt/{id}/availability"), "state"),
    ];
    payload
}

fn announced(id: &str, device: Device) -> DevicePayload {
    let mut origin = Origin::new("tapo2mqtt");
    origin.sw_version = Some("0.1.0".to_owned());
    origin.support_url = Some("https://github.com/tapo2mqtt/tapo2mqtt".parse().unwrap());
    DevicePayload::new(node(id), device, origin)
}

fn node(id: &str) -> NodeId {
    format!("tapo2mqtt_{id}").parse().unwrap()
}

fn state(topic: impl Into<String>, key: &str) -> State {
    State::json_key(topic, key)
}

fn timestamp(name: &str, topic: &str, key: &str) -> Sensor {
    Sensor::of_class(SensorClass::Timestamp, state(topic, key)).named(name)
}

fn entry(key: &str, component: impl Into<Component>) -> (Key, Component) {
    (key.parse().unwrap(), component.into())
}
