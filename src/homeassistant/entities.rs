//! A report as a discovery payload for Home Assistant. Pure.
//!
//! Identities are `<node>[_o<position>]_<key>` and never change. The node is `tapo2mqtt_<device>`, or
//! `tapo2mqtt-device-<base topic and site>-<device>` with a site or a base topic other than `tapo2mqtt`. A device that was added while the
//! bridge ran has its MAC there, because its id can change. Nothing volatile is in here: Home
//! Assistant logs each change. Names are those of its own tplink integration.

mod hub;
mod outlet;
mod settings;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

use ha_discovery::{
    Availability, BinarySensor, BinarySensorClass, Button, ButtonClass, Child, Climate, ClimateKeys, Command,
    CommandTemplate, Component, Device, DevicePayload, EntityName, Event, EventClass, EventTemplate, Key,
    Layout, Light, NodeId, Number, NumberClass, NumberRange, OnOff, Options, Origin, Select, Sensor,
    SensorClass, State, Switch, SwitchClass, TargetRange, Template, Text,
};
use planner::{
    DeviceId, GroupId, OutletKey, OutletPath, ScheduleId, Slug, WeatherValue,
    rules::{Group, Rules, Schedule},
    sensor::{Scale, Temperature},
    thermostat::{Preset, Thermostat, ThermostatMode},
};
use serde_json::json;

pub use shape::Shape;

use crate::{
    config::schedule_definition,
    domain::{
        button_action::ButtonAction,
        hub_child::HubChild,
        report::{DeviceReport, DeviceRole, EventKind, Feature, Identity, Kind, Outlet, Phase},
        topics::{
            BaseTopic, BridgeTopic, COUNTDOWN, PRESET, ParsedTopic, REBOOT, SYSTEM_MODE, TARGET, Topics, Verb,
        },
        weather_provider::WeatherProvider,
    },
    system::telemetry::Level,
};

const MANUFACTURER: &str = "TP-Link";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The `origin.name` of our own payloads.
pub(super) const ORIGIN: &str = "tapo2mqtt";

/// Where the documentation and the issues are.
const PROJECT: &str = env!("CARGO_PKG_REPOSITORY");
/// The longest countdown, in minutes.
const LONGEST_COUNTDOWN: f64 = 1440.0;
/// The longest time of a schedule, such as `sunset-00:30`, with some room.
const LONGEST_TIME: u8 = 32;
/// What is shown instead of an error.
const NO_ERROR: &str = "No error";
/// The values of `safety` in a group's state.
const SAFETY: OnOff = OnOff::Words {
    on: "tripped",
    off: "clear",
};

/// Builds the discovery payloads of one bridge.
#[derive(Debug, Clone)]
pub struct EntityBuilder {
    topics: Topics,
    layout: Layout,
    site: Option<Slug>,
    /// Who forecasts the weather.
    weather: Option<WeatherProvider>,
    /// The MACs that stand for devices.
    known_as: BTreeMap<DeviceId, String>,
}

/// A device that was found and can be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its MAC, lower case with colons.
    pub mac: String,
    /// What people know it by.
    pub name: String,
}

impl EntityBuilder {
    /// Payloads for these topics. `layout` is how strips are shown.
    pub fn new(topics: Topics, layout: Layout) -> Self {
        Self {
            topics,
            layout,
            site: None,
            weather: None,
            known_as: BTreeMap::new(),
        }
    }

    /// For a bridge at a site.
    #[must_use]
    pub fn at_site(self, site: Option<Slug>) -> Self {
        Self { site, ..self }
    }

    /// With the weather that a provider forecasts; `None`: without.
    #[must_use]
    pub fn forecasting(self, weather: Option<WeatherProvider>) -> Self {
        Self { weather, ..self }
    }

    /// With the MACs that stand for devices instead of their ids.
    #[must_use]
    pub fn knowing(self, known_as: BTreeMap<DeviceId, String>) -> Self {
        Self { known_as, ..self }
    }

    /// The node of a device. The hyphens keep one with a MAC apart from a device called `mac_...`.
    pub(super) fn device_node(&self, device: &DeviceId) -> Option<NodeId> {
        let mac = self.known_as.get(device).map(|mac| digits(mac));
        match (self.base(), mac) {
            (None, None) => format!("tapo2mqtt_{device}"),
            (Some(base), None) => format!("tapo2mqtt-device-{base}-{device}"),
            (None, Some(mac)) => format!("tapo2mqtt-mac-{mac}"),
            (Some(base), Some(mac)) => format!("tapo2mqtt-mac-{base}-{mac}"),
        }
        .parse()
        .ok()
    }

    /// The node of a configured group. The hyphens keep it apart from a device called `group_...`.
    pub(super) fn group_node(&self, group: &GroupId) -> Option<NodeId> {
        match self.base() {
            None => format!("tapo2mqtt-group-{group}"),
            Some(base) => format!("tapo2mqtt-groups-{base}-{group}"),
        }
        .parse()
        .ok()
    }

    /// The node of the bridge. The hyphen keeps it apart from a device called `bridge_...`.
    pub(super) fn bridge_node(&self) -> Option<NodeId> {
        match self.base() {
            None => "tapo2mqtt-bridge".to_owned(),
            Some(base) => format!("tapo2mqtt-bridge-{base}"),
        }
        .parse()
        .ok()
    }

    /// Base topic and site as part of a node, which keeps bridges on one broker apart; `None` for the default one. It has no
    /// hyphen, so that it ends at the next one, whatever is in the id behind it.
    fn base(&self) -> Option<String> {
        let base = self.topics.base().at_site(self.site.as_ref());
        let level = |c: char| !c.is_ascii_alphanumeric();
        (base != BaseTopic::DEFAULT).then(|| base.replace(level, "_"))
    }

    /// The payload of a device that was not read yet: only what the bridge knows of it.
    pub(super) fn unread_device(&self, report: &DeviceReport) -> Option<DevicePayload> {
        let mut device = Device::new(report.name.clone().unwrap_or_else(|| report.id.to_string()));
        device.manufacturer = Some(MANUFACTURER.to_owned());
        device.via_device = self.bridge_node();
        let mut payload = self.payload(self.device_node(&report.id)?, device);
        payload.components = self.diagnosis(&report.id);
        Some(payload)
    }

    /// A device's payload; `None` before it was first reached, because its shape is not known.
    pub(super) fn device(&self, report: &DeviceReport, rules: &Rules) -> Option<DevicePayload> {
        let identity = report.identity.as_deref()?;
        let mut payload = self.unread_device(report)?;
        describe(&mut payload.device, identity);
        payload.availability.push(Availability::json_key(
            self.topics.availability(&report.id),
            "state",
        ));
        payload.layout = self.layout;
        let own = OutletPath::device(report.id.clone());
        payload.components.extend(self.device_components(&own));
        let state = self.topics.state(&own);
        let set = |attribute: &str| self.set_attribute(&own, attribute);
        payload
            .components
            .extend(settings::of_device(report, &state, set));
        match identity.kind {
            Kind::Plug => {
                let outlets = report.outlets.iter();
                let components = outlets.flat_map(|outlet| self.outlet_components(&own, outlet, identity));
                payload.components.extend(components);
                payload.components.extend(self.member_components(&own, rules));
            }
            Kind::Strip => payload.children = self.children(report, identity, rules),
            Kind::Hub => {}
        }
        Some(payload)
    }

    /// The node of what is connected to a hub: its own id, so that a new name changes nothing. Ids have no hyphen, so that the
    /// last one ends the id of the hub.
    pub(super) fn child_node(&self, hub: &DeviceId, child: &str) -> Option<NodeId> {
        let id = child_id(child);
        match self.base() {
            _ if id.is_empty() => return None,
            None => format!("tapo2mqtt-hub-{hub}-{id}"),
            Some(base) => format!("tapo2mqtt-hubs-{base}-{hub}-{id}"),
        }
        .parse()
        .ok()
    }

    /// The payloads of what is connected to a hub, each a device of its own.
    pub(super) fn hub_children(&self, report: &DeviceReport) -> Vec<(String, DevicePayload)> {
        let hub = self.device_node(&report.id);
        let child = |child: &HubChild| {
            let name = child.name.clone().unwrap_or_else(|| child.key.to_string());
            let mut device = Device::new(name);
            device.manufacturer = Some(MANUFACTURER.to_owned());
            device.model_id.clone_from(&child.model);
            device.hw_version.clone_from(&child.hardware);
            device.sw_version.clone_from(&child.firmware);
            device.serial_number = Some(child.id.clone());
            device.via_device.clone_from(&hub);
            let path = OutletPath::outlet(report.id.clone(), child.key.clone());
            let mut payload = self.payload(self.child_node(&report.id, &child.id)?, device);
            payload.availability.push(Availability::json_key(
                self.topics.child_availability(&path),
                "state",
            ));
            let set = |attribute: &str| self.set_attribute(&path, attribute);
            payload.components = hub::components(child, &self.topics.state(&path), set);
            if child.is_button {
                let action = entry("action", self.button(&path));
                payload.components.extend([action]);
            }
            Some((child_id(&child.id), payload))
        };
        report.children.iter().filter_map(child).collect()
    }

    /// The bridge's own payload, to be announced before every device that is reached via it.
    pub(super) fn bridge(&self, offers: &[Offer]) -> Option<DevicePayload> {
        let mut device = Device::new(match (&self.site, self.topics.base().as_str()) {
            (Some(site), _) => format!("Tapo bridge {site}"),
            (None, BaseTopic::DEFAULT) => "Tapo bridge".to_owned(),
            (None, base) => format!("Tapo bridge {base}"),
        });
        device.configuration_url = PROJECT.parse().ok();
        device.manufacturer = Some("tapo2mqtt".to_owned());
        device.model = Some("Bridge".to_owned());
        device.sw_version = Some(VERSION.to_owned());
        let mut payload = self.payload(self.bridge_node()?, device);
        payload.components = self.bridge_components();
        payload.components.extend([self.vacation()]);
        if self.weather.is_some() {
            let values = WeatherValue::ALL.into_iter();
            payload
                .components
                .extend(values.filter_map(|value| self.forecast(value)));
        }
        let offers = offers.iter().filter_map(|offer| self.offer(offer));
        payload.components.extend(offers);
        Some(payload)
    }

    fn payload(&self, node: NodeId, device: Device) -> DevicePayload {
        let mut origin = Origin::new(ORIGIN);
        origin.sw_version = Some(VERSION.to_owned());
        origin.support_url = PROJECT.parse().ok();
        let mut payload = DevicePayload::new(node, device, origin);
        payload.availability.push(self.bridge_state());
        payload
    }

    fn bridge_state(&self) -> Availability {
        Availability::json_key(self.topics.bridge(BridgeTopic::State), "state")
    }

    /// How the bridge gets on with a device. Available as long as the bridge is: here stands why the device is not.
    fn diagnosis(&self, device: &DeviceId) -> BTreeMap<Key, Component> {
        let path = OutletPath::device(device.clone());
        let topic = self.topics.state(&path);
        let [first, others @ ..] = Phase::ALL.map(|phase| phase.to_string());
        let status = Sensor::options(
            "Status",
            Options::of(first, others),
            State::json_key(&topic, "status"),
        );
        let error = State::new(topic, Template::text_in("error", "message", NO_ERROR));
        let error = Sensor::plain("Error", error).icon("alert-circle-outline");
        let failed = self.command_failed(("device", device.as_str()));
        let bridge = || [self.bridge_state()];
        BTreeMap::from([
            entry(
                "status",
                status.icon("lan-connect").diagnostic().available_with(bridge()),
            ),
            entry("error", error.diagnostic().available_with(bridge())),
            entry("command_failed", failed.available_with(bridge())),
        ])
    }

    fn device_components(&self, path: &OutletPath) -> BTreeMap<Key, Component> {
        let topic = self.topics.state(path);
        let rssi = Sensor::of_class(SensorClass::SignalStrength, State::json_key(topic, "rssi"))
            .diagnostic()
            .off_by_default();
        let reboot = Button::of_class(ButtonClass::Restart, self.set_attribute(path, REBOOT))
            .setting()
            .off_by_default();
        BTreeMap::from([entry("rssi", rssi), entry("reboot", reboot)])
    }

    fn outlet_components(
        &self,
        path: &OutletPath,
        outlet: &Outlet,
        identity: &Identity,
    ) -> BTreeMap<Key, Component> {
        let state = |key| State::json_key(self.topics.state(path), key);
        let on_since = Sensor::of_class(SensorClass::Timestamp, state("on_since"))
            .named("On since")
            .off_by_default();
        let mut components = BTreeMap::from([
            self.main(path, outlet, identity),
            entry("on_since", on_since.diagnostic()),
            entry("switched", self.external_change(path)),
        ]);
        components.extend(self.timers(path, &outlet.features));
        components.extend(outlet::conditions(&outlet.features, state));
        if outlet::is_protected(&outlet.features) {
            let event = self.event(EventKind::Protection, &of_outlet(path), "Protection changed");
            let event = event.icon("shield-alert-outline");
            components.insert(Key::literal("protection_event"), event.into());
        }
        if identity.meters_energy {
            components.extend(outlet::energy(&outlet.features, state));
        }
        let set = |attribute: &str| self.set_attribute(path, attribute);
        components.extend(settings::of_outlet(outlet, &self.topics.state(path), set));
        components
    }

    /// What switches an outlet, by what it is to people.
    fn main(&self, path: &OutletPath, outlet: &Outlet, identity: &Identity) -> (Key, Component) {
        let topic = self.topics.state(path);
        let dims = outlet.features.contains(&Feature::Brightness);
        if dims || identity.role == DeviceRole::Light {
            let light = Light::new(EntityName::Main, dims, topic, self.command(path, Verb::Set));
            return entry("light", light);
        }
        let state = State::json_key(topic, "state");
        let switch = Switch::new(
            EntityName::Main,
            state,
            OnOff::POWER,
            self.command(path, Verb::Set),
        );
        let switch = match identity.role {
            DeviceRole::WallSwitch => switch.class(SwitchClass::Switch).icon("light-switch"),
            DeviceRole::Outlet | DeviceRole::Light => switch.class(SwitchClass::Outlet),
        };
        entry("switch", switch)
    }

    /// A relay was changed externally. The new state is the type of the event.
    fn external_change(&self, path: &OutletPath) -> Event {
        let types = ("state", Options::of("ON", ["OFF"]));
        self.event_of(
            EventKind::ExternalChange,
            types,
            &of_outlet(path),
            "Changed externally",
        )
        .class(EventClass::Button)
        .diagnostic()
    }

    /// A button of a hub was used. What for is the type of the event.
    fn button(&self, path: &OutletPath) -> Event {
        let [first, rest @ ..] = ButtonAction::ALL.map(ButtonAction::as_str);
        let types = ("action", Options::of(first, rest));
        self.event_of(EventKind::Button, types, &of_outlet(path), "Action")
            .class(EventClass::Button)
    }

    /// An event of `bridge/event`, for messages in which these keys have these values.
    fn event(&self, kind: EventKind, about: &[(&str, &str)], name: &str) -> Event {
        let types = ("type", Options::of(kind.to_string(), []));
        self.event_of(kind, types, about, name).diagnostic()
    }

    fn event_of(
        &self,
        kind: EventKind,
        (type_key, types): (&str, Options),
        about: &[(&str, &str)],
        name: &str,
    ) -> Event {
        let kind = kind.to_string();
        let about = [&[("type", kind.as_str())], about].concat();
        let template = EventTemplate {
            type_key,
            attributes: &["message", "at"],
            only_when: &about,
        };
        Event::new(name, types, self.topics.bridge(BridgeTopic::Event), template)
    }

    fn command_failed(&self, about: (&str, &str)) -> Event {
        self.event(EventKind::CommandFailed, &[about], "Command failed")
            .icon("alert-octagon-outline")
    }

    fn children(&self, report: &DeviceReport, identity: &Identity, rules: &Rules) -> BTreeMap<u8, Child> {
        let child = |outlet: &Outlet| {
            let path = OutletPath::outlet(report.id.clone(), outlet.key.clone()?);
            let name = outlet
                .name
                .clone()
                .unwrap_or_else(|| format!("Outlet {}", outlet.position));
            let mut components = self.outlet_components(&path, outlet, identity);
            components.extend(self.member_components(&path, rules));
            Some((outlet.position, Child { name, components }))
        };
        report.outlets.iter().filter_map(child).collect()
    }

    fn command(&self, path: &OutletPath, verb: Verb) -> String {
        let path = path.clone();
        self.topics.topic_of(&ParsedTopic::Outlet { path, verb })
    }

    fn set_attribute(&self, path: &OutletPath, attribute: &str) -> String {
        self.command(path, Verb::SetAttribute(attribute.to_owned()))
    }

    fn command_group(&self, group: &GroupId, verb: Verb) -> String {
        let group = group.clone();
        self.topics.topic_of(&ParsedTopic::Group { group, verb })
    }

    fn set_group_attribute(&self, group: &GroupId, attribute: &str) -> String {
        self.command_group(group, Verb::SetAttribute(attribute.to_owned()))
    }

    /// A group's payload.
    pub(super) fn group(&self, group: &Group) -> Option<DevicePayload> {
        let mut device = Device::new(group.name.clone());
        device.manufacturer = Some("tapo2mqtt".to_owned());
        device.model = Some("Group".to_owned());
        device.via_device = self.bridge_node();
        let mut payload = self.payload(self.group_node(&group.id)?, device);
        payload.components = self.group_components(&group.id);
        payload.components.extend(self.group_energy(group));
        let climate = group
            .thermostat
            .as_ref()
            .and_then(|thermostat| self.climate(&group.id, thermostat));
        payload
            .components
            .extend(climate.map(|climate| entry("climate", climate)));
        for schedule in &group.schedules {
            let key = format!("schedule_{}", schedule.id).parse();
            payload
                .components
                .extend(key.ok().map(|key| (key, self.schedule(&group.id, &schedule.id))));
            payload
                .components
                .extend(self.schedule_times(&group.id, schedule));
        }
        Some(payload)
    }

    fn group_components(&self, group: &GroupId) -> BTreeMap<Key, Component> {
        let state = |key| State::json_key(self.topics.group(group), key);
        let time = |name: &str, key| Sensor::of_class(SensorClass::Timestamp, state(key)).named(name);
        let switch = Switch::new(
            EntityName::Main,
            state("state"),
            OnOff::POWER,
            self.command_group(group, Verb::Set),
        );
        let mode = Select::new(
            "Mode",
            Options::of("auto", ["on", "off"]),
            state("mode"),
            self.set_group_attribute(group, "mode"),
        );
        let tripped = BinarySensor::of_class(BinarySensorClass::Problem, state("safety"), SAFETY);
        BTreeMap::from([
            entry("switch", switch),
            entry("command_failed", self.command_failed(("group", group.as_str()))),
            entry("mode", mode.icon("calendar-clock")),
            entry(
                "reason",
                Sensor::plain("Reason", state("reason"))
                    .icon("comment-question-outline")
                    .diagnostic(),
            ),
            entry("next_change", time("Next change", "next_change").diagnostic()),
            entry(
                "override_until",
                time("Override until", "override_until").diagnostic(),
            ),
            entry("safety", tripped.named("Safety limit active").diagnostic()),
        ])
    }

    /// What a group draws and used, where it has energy rules.
    fn group_energy(&self, group: &Group) -> BTreeMap<Key, Component> {
        if group.energy.is_empty() {
            return BTreeMap::new();
        }
        let state = |key| {
            let template = Template::json_path(&["energy", key]);
            State::new(self.topics.group(&group.id), template)
        };
        let power = Sensor::of_class(SensorClass::Power, state("power")).named("Current consumption");
        let today = Sensor::of_class(SensorClass::Energy, state("today")).named("Today's consumption");
        let mut components = BTreeMap::from([
            entry("power", power.decimals(0)),
            entry("energy_today", today.decimals(2)),
        ]);
        if group.energy.daily_budget.is_some() {
            let remaining = Sensor::amount("Remaining energy today", "kWh", state("daily_budget_remaining"));
            let remaining = remaining.decimals(2).icon("gauge").diagnostic();
            components.insert(Key::literal("energy_remaining"), remaining.into());
        }
        components
    }

    /// The thermostat of a group. It is not available while no outlet of it can be reached.
    fn climate(&self, group: &GroupId, thermostat: &Thermostat) -> Option<Component> {
        let command = |attribute: &str| self.set_group_attribute(group, attribute);
        let keys = ClimateKeys {
            current: "temperature",
            target: TARGET,
            mode: SYSTEM_MODE,
            action: "action",
        };
        let scale = thermostat.target.scale();
        let [min, max] = [Thermostat::TARGETS.start(), Thermostat::TARGETS.end()]
            .map(|celsius| scale.degrees(Temperature::from_celsius(*celsius)));
        let step = match scale {
            Scale::Celsius => 0.5,
            Scale::Fahrenheit => 1.0,
        };
        let [auto, heat, off] = ThermostatMode::ALL.map(ThermostatMode::as_str);
        let [_, away, boost] = Preset::ALL.map(Preset::as_str);
        let topic = self.topics.group(group);
        let climate = Climate::new(
            EntityName::Main,
            &topic,
            keys,
            (command(TARGET), command(SYSTEM_MODE)),
            Options::of(auto, [heat, off]),
            TargetRange::new(min, max, step)?,
        );
        let climate = match scale {
            Scale::Celsius => climate,
            Scale::Fahrenheit => climate.fahrenheit(),
        };
        let reachable = [self.bridge_state(), Availability::json_key(topic, "reachable")];
        let climate = climate
            .presets(Options::of(away, [boost]), PRESET, command(PRESET))
            .available_with(reachable);
        Some(climate.into())
    }

    fn schedule(&self, group: &GroupId, schedule: &ScheduleId) -> Component {
        let state = Template::json_path(&["schedules", schedule.as_str()]);
        let command = self.topics.topic_of(&ParsedTopic::Schedule {
            group: group.clone(),
            schedule: schedule.clone(),
        });
        Switch::new(
            format!("Schedule {schedule}"),
            State::new(self.topics.group(group), state),
            OnOff::Booleans,
            command,
        )
        .icon("calendar-check")
        .setting()
        .into()
    }

    /// The times of a schedule that can be edited. One of them takes the place of its value in the whole definition.
    fn schedule_times(&self, group: &GroupId, schedule: &Schedule) -> BTreeMap<Key, Component> {
        if !schedule.editable {
            return BTreeMap::new();
        }
        let definition = schedule_definition(schedule);
        let request = json!({ "group": group, "schedule": definition });
        let time = |time: &str| {
            definition.get(time)?;
            let state = Template::json_path(&["schedule_times", schedule.id.as_str(), time]);
            let command = Command::wrapped(
                self.topics.request("schedule/set"),
                CommandTemplate::json_with(&request, "schedule", time),
            );
            let text = Text::new(
                format!("Schedule {} {time}", schedule.id),
                LONGEST_TIME,
                State::new(self.topics.group(group), state),
                command,
            );
            let key = format!("{time}_of_{}", schedule.id).parse().ok()?;
            Some((key, text.icon("clock-edit-outline").setting().into()))
        };
        ["start", "end"].into_iter().filter_map(time).collect()
    }

    /// What an outlet has only as a member of a group.
    fn member_components(&self, path: &OutletPath, rules: &Rules) -> BTreeMap<Key, Component> {
        let Some(group) = rules.group_of(path) else {
            return BTreeMap::new();
        };
        let state = |key| State::json_key(self.topics.state(path), key);
        let mismatch = BinarySensor::of_class(BinarySensorClass::Problem, state("mismatch"), OnOff::Booleans);
        let next_change = Sensor::of_class(SensorClass::Timestamp, state("next_change"));
        let states = Options::of("idle", ["armed", "unsupported", "external", "failed"]);
        let failsafe = Sensor::options("Fail-safe", states, state("failsafe")).icon("timer-lock-outline");
        let mut components = BTreeMap::from([
            entry("mismatch", mismatch.named("State mismatch").diagnostic()),
            entry(
                "next_change",
                next_change.named("Next change").diagnostic().off_by_default(),
            ),
            entry("failsafe", failsafe.diagnostic().off_by_default()),
        ]);
        if group.energy.finished.is_some() {
            let finished = self.event(EventKind::LoadFinished, &of_outlet(path), "Load finished");
            let finished = finished.icon("check-circle-outline");
            components.insert(Key::literal("load_finished"), finished.into());
        }
        components
    }

    /// The button that adds a device.
    fn offer(&self, offer: &Offer) -> Option<(Key, Component)> {
        let key = format!("add_{}", digits(&offer.mac)).parse().ok()?;
        let add = Button::new(format!("Add {}", offer.name), self.topics.request("device/add"));
        let add = add.pressing(&json!({ "device": offer.mac }));
        Some((key, add.icon("plus-circle-outline").setting().into()))
    }

    /// A value of the hour that now is.
    fn forecast(&self, value: WeatherValue) -> Option<(Key, Component)> {
        let topic = self.topics.bridge(BridgeTopic::Weather);
        let state = State::json_key(&topic, value.as_str());
        let amount = |name: &str, state| Sensor::amount(name, value.unit(), state);
        let sensor = match value {
            WeatherValue::Temperature => {
                Sensor::of_class(SensorClass::Temperature, state).named("Forecast temperature")
            }
            WeatherValue::DewPoint => {
                Sensor::of_class(SensorClass::Temperature, state).named("Forecast dew point")
            }
            WeatherValue::Humidity => {
                Sensor::of_class(SensorClass::Humidity, state).named("Forecast humidity")
            }
            WeatherValue::Precipitation => amount("Forecast precipitation", state).icon("weather-rainy"),
            WeatherValue::Snowfall => amount("Forecast snowfall", state).icon("weather-snowy"),
            WeatherValue::WindSpeed => amount("Forecast wind speed", state).icon("weather-windy"),
        };
        let key = format!("forecast_{value}").parse().ok()?;
        // As the terms of use of the providers ask for.
        let sensor = sensor.attributes(topic, &["attribution"]);
        Some((key, sensor.decimals(1).into()))
    }

    /// What the bridge has for the scheduler.
    fn vacation(&self) -> (Key, Component) {
        let state = State::json_key(self.topics.bridge(BridgeTopic::Info), "vacation");
        let command = Command::wrapped(
            self.topics.request("vacation"),
            CommandTemplate::json_is_on("enabled"),
        );
        let vacation = Switch::new("Vacation", state, OnOff::Booleans, command);
        entry("vacation", vacation.icon("palm-tree").setting())
    }

    /// The countdown that can be set, when it ends, and one that was started on the device.
    fn timers(&self, path: &OutletPath, features: &BTreeSet<Feature>) -> BTreeMap<Key, Component> {
        let state = |key| State::json_key(self.topics.state(path), key);
        let time = |name: &str, key| Sensor::of_class(SensorClass::Timestamp, state(key)).named(name);
        let mut components = BTreeMap::from([entry(
            "timer_until",
            time("Timer ends", "timer_until").icon("timer-sand").diagnostic(),
        )]);
        if let Some(range) = NumberRange::new(0.0, LONGEST_COUNTDOWN, 1.0) {
            let shown = State::new(self.topics.state(path), Template::minutes("countdown"));
            let set = self.set_attribute(path, COUNTDOWN);
            let set = Command::wrapped(set, CommandTemplate::seconds_of_minutes());
            let countdown = Number::new("Countdown", range, shown, set)
                .class(NumberClass::Minutes)
                .icon("timer-outline")
                .setting();
            components.insert(Key::literal("countdown"), countdown.into());
        }
        if features.contains(&Feature::Countdown) {
            let to = Sensor::options(
                "Device timer action",
                Options::of("ON", ["OFF"]),
                state("device_timer_to"),
            )
            .icon("timer-cog-outline");
            components.extend([
                entry(
                    "device_timer_until",
                    time("Device timer end", "device_timer_until")
                        .diagnostic()
                        .off_by_default(),
                ),
                entry("device_timer_to", to.diagnostic().off_by_default()),
            ]);
        }
        if features.contains(&Feature::Rules) {
            let rules = Sensor::plain("Device schedules", state("device_schedules_enabled"))
                .icon("calendar-clock")
                .diagnostic();
            components.insert(Key::literal("device_schedules"), rules.into());
        }
        components
    }

    fn bridge_components(&self) -> BTreeMap<Key, Component> {
        let info = |key| State::json_key(self.topics.bridge(BridgeTopic::Info), key);
        let connection = State::json_key(self.topics.bridge(BridgeTopic::State), "state");
        let last_error = Template::short_text("message", NO_ERROR);
        let last_error = State::new(self.topics.bridge(BridgeTopic::LastError), last_error);
        let count = |name: &str, key| {
            Sensor::plain(name, info(key))
                .icon("power-socket-de")
                .diagnostic()
        };
        let [quietest, others @ ..] = Level::ALL.map(Level::as_str);
        let levels = Options::of(quietest, others);
        let log_level = Command::wrapped(
            self.topics.request("log_level"),
            CommandTemplate::json_value("level"),
        );
        BTreeMap::from([
            entry(
                "connection",
                BinarySensor::of_class(BinarySensorClass::Connectivity, connection, OnOff::ONLINE)
                    .named("Connection state")
                    .diagnostic()
                    .available_with([]),
            ),
            entry(
                "version",
                Sensor::plain("Version", info("version"))
                    .icon("tag-outline")
                    .diagnostic(),
            ),
            entry("devices_online", count("Devices online", "devices_online")),
            entry("devices", count("Devices configured", "devices")),
            entry(
                "last_error",
                Sensor::plain("Last error", last_error)
                    .icon("alert-circle-outline")
                    .diagnostic(),
            ),
            entry(
                "restart",
                Button::of_class(ButtonClass::Restart, self.topics.request("restart")).setting(),
            ),
            entry(
                "rescan",
                Button::new("Reconnect devices", self.topics.request("rescan"))
                    .icon("magnify-scan")
                    .setting(),
            ),
            entry(
                "rediscover",
                Button::new("Rediscover", self.topics.request("homeassistant/rediscover"))
                    .icon("home-search-outline")
                    .setting(),
            ),
            entry(
                "log_level",
                Select::new("Log level", levels, info("log_level"), log_level)
                    .icon("text-box-search-outline")
                    .setting(),
            ),
        ])
    }
}

/// An entity of a payload.
fn entry(key: &'static str, component: impl Into<Component>) -> (Key, Component) {
    (Key::literal(key), component.into())
}

/// A MAC without its colons.
fn digits(mac: &str) -> String {
    mac.replace(':', "")
}

/// The id of what is connected to a hub, as a part of a node.
fn child_id(id: &str) -> String {
    let id = id.chars().filter(char::is_ascii_alphanumeric);
    id.map(|c| c.to_ascii_lowercase()).collect()
}

/// The keys of an event about an outlet.
fn of_outlet(path: &OutletPath) -> Vec<(&str, &str)> {
    let outlet = path.outlet.as_ref().map(OutletKey::as_str);
    let device = ("device", path.device.as_str());
    std::iter::once(device)
        .chain(outlet.map(|outlet| ("outlet", outlet)))
        .collect()
}

/// What a device says of itself, for the device registry.
fn describe(device: &mut Device, identity: &Identity) {
    let kind = match (identity.kind, identity.role) {
        (Kind::Plug, DeviceRole::Outlet) => "Smart plug",
        (Kind::Strip, DeviceRole::Outlet) => "Smart power strip",
        (_, DeviceRole::WallSwitch) => "Smart switch",
        (_, DeviceRole::Light) => "Smart light",
        (Kind::Hub, DeviceRole::Outlet) => "Hub",
    };
    device.model = Some(kind.to_owned());
    device.model_id = Some(identity.model.clone());
    device.hw_version.clone_from(&identity.hardware);
    device.sw_version.clone_from(&identity.firmware);
    device.serial_number = Some(identity.device_id.clone());
}

#[cfg(test)]
mod tests;
