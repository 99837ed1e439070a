//! Home Assistant: a report as a discovery payload. Pure.
//!
//! Identities are `tapo2mqtt_<device id>[_o<position>]_<key>` and stay for ever. Nothing volatile is in
//! here: Home Assistant logs each change. Names are those of its own tplink integration, so that people
//! who come from there find the same words.

use std::collections::BTreeMap;

use ha_discovery::{
    Availability, BinarySensor, BinarySensorClass, Button, ButtonClass, Child, Command, CommandTemplate,
    Component, Device, DevicePayload, EntityName, Key, Layout, NodeId, OnOff, Options, Origin, Select,
    Sensor, SensorClass, State, Switch, SwitchClass,
};

use super::topics::{Address, BridgeTopic, Topics, Verb};
use crate::{
    model::{DeviceId, OutletPath},
    report::{Identity, Kind, Outlet, Protections, Report},
    telemetry::Level,
};

const MANUFACTURER: &str = "TP-Link";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The `origin.name` by which we know our own payloads again.
pub(super) const ORIGIN: &str = "tapo2mqtt";

/// What devices are called and how strips are shown.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    topics: Topics,
    layout: Layout,
}

impl Discovery {
    pub(super) fn new(topics: Topics, layout: Layout) -> Self {
        Self { topics, layout }
    }

    /// The node of a configured device.
    pub(super) fn node(device: &DeviceId) -> Option<NodeId> {
        format!("tapo2mqtt_{device}").parse().ok()
    }

    /// The node of the bridge. The hyphen keeps it apart from a device called `bridge_...`; the base topic
    /// from another bridge on the same broker.
    pub(super) fn bridge_node(&self) -> Option<NodeId> {
        let base = self
            .topics
            .base()
            .as_str()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        if base == ORIGIN {
            "tapo2mqtt-bridge".parse().ok()
        } else {
            format!("tapo2mqtt-bridge-{base}").parse().ok()
        }
    }

    /// A device's payload; `None` before it was first reached, because its shape is not known.
    pub(super) fn device(&self, report: &Report) -> Option<DevicePayload> {
        let identity = report.identity.as_deref()?;
        let mut payload = self.payload(Self::node(&report.id)?, self.registry_entry(report, identity));
        payload.availability.push(Availability::json_key(
            self.topics.availability(&report.id),
            "state",
        ));
        payload.layout = self.layout;
        let own = OutletPath::device(report.id.clone());
        payload.components = self.device_components(&own);
        match identity.kind {
            Kind::Plug => {
                let outlets = report.outlets.iter();
                payload
                    .components
                    .extend(outlets.flat_map(|outlet| self.outlet_components(&own, outlet.protections)));
            }
            Kind::Strip => payload.children = self.children(report),
        }
        Some(payload)
    }

    /// The bridge's own payload, to be announced before every device that is reached via it.
    pub(super) fn bridge(&self) -> Option<DevicePayload> {
        let mut device = Device::new("Tapo bridge");
        device.manufacturer = Some("tapo2mqtt".to_owned());
        device.model = Some("Bridge".to_owned());
        device.sw_version = Some(VERSION.to_owned());
        let mut payload = self.payload(self.bridge_node()?, device);
        payload.components = self.bridge_components();
        Some(payload)
    }

    fn payload(&self, node: NodeId, device: Device) -> DevicePayload {
        let mut origin = Origin::new(ORIGIN);
        origin.sw_version = Some(VERSION.to_owned());
        let mut payload = DevicePayload::new(node, device, origin);
        payload.availability.push(Availability::json_key(
            self.topics.bridge(BridgeTopic::State),
            "state",
        ));
        payload
    }

    fn registry_entry(&self, report: &Report, identity: &Identity) -> Device {
        let mut device = Device::new(report.name.clone().unwrap_or_else(|| report.id.to_string()));
        device.mac = identity.mac.as_deref().and_then(|mac| mac.parse().ok());
        device.manufacturer = Some(MANUFACTURER.to_owned());
        device.model = Some(identity.model.clone());
        device.model_id = Some(identity.model.clone());
        device.hw_version.clone_from(&identity.hardware);
        device.sw_version.clone_from(&identity.firmware);
        device.serial_number = Some(identity.device_id.clone());
        device.via_device = self.bridge_node();
        device
    }

    fn device_components(&self, path: &OutletPath) -> BTreeMap<Key, Component> {
        let state = |key| State::json_key(self.topics.state(path), key);
        let rssi = Sensor::of_class(SensorClass::SignalStrength, state("rssi"))
            .diagnostic()
            .off_by_default();
        BTreeMap::from([(Key::literal("rssi"), rssi.into())])
    }

    /// The protections that the outlet never told of are left out: they would stay unknown for ever.
    fn outlet_components(&self, path: &OutletPath, protections: Protections) -> BTreeMap<Key, Component> {
        let state = |key| State::json_key(self.topics.state(path), key);
        let problem = |name: &str, key| {
            BinarySensor::of_class(BinarySensorClass::Problem, state(key), OnOff::Booleans)
                .named(name)
                .diagnostic()
        };
        let switch = Switch::new(EntityName::Main, state("state"), OnOff::POWER, self.set(path));
        let on_since = Sensor::of_class(SensorClass::Timestamp, state("on_since"))
            .named("On since")
            .off_by_default();
        let mut components = BTreeMap::from([
            (Key::literal("switch"), switch.class(SwitchClass::Outlet).into()),
            (Key::literal("on_since"), on_since.diagnostic().into()),
        ]);
        if protections.heat {
            let overheated = problem("Overheated", "overheated").into();
            components.insert(Key::literal("overheated"), overheated);
        }
        if protections.load {
            let overloaded = problem("Overloaded", "overloaded").into();
            components.insert(Key::literal("overloaded"), overloaded);
        }
        components
    }

    fn children(&self, report: &Report) -> BTreeMap<u8, Child> {
        let child = |outlet: &Outlet| {
            let path = OutletPath::outlet(report.id.clone(), outlet.key.clone()?);
            let name = outlet
                .name
                .clone()
                .unwrap_or_else(|| format!("Outlet {}", outlet.position));
            Some((
                outlet.position,
                Child {
                    name,
                    components: self.outlet_components(&path, outlet.protections),
                },
            ))
        };
        report.outlets.iter().filter_map(child).collect()
    }

    fn set(&self, path: &OutletPath) -> String {
        self.topics.topic_of(&Address::Outlet {
            path: path.clone(),
            verb: Verb::Set,
        })
    }

    fn bridge_components(&self) -> BTreeMap<Key, Component> {
        let info = |key| State::json_key(self.topics.bridge(BridgeTopic::Info), key);
        let connection = State::json_key(self.topics.bridge(BridgeTopic::State), "state");
        let last_error = State::json_key(self.topics.bridge(BridgeTopic::LastError), "message");
        let [quietest, others @ ..] = Level::ALL.map(Level::as_str);
        let levels = Options::of(quietest, others);
        let log_level = Command::wrapped(
            self.topics.request("log_level"),
            CommandTemplate::json_value("level"),
        );
        BTreeMap::from([
            (
                Key::literal("connection"),
                BinarySensor::of_class(BinarySensorClass::Connectivity, connection, OnOff::ONLINE)
                    .named("Connection state")
                    .diagnostic()
                    .always_available()
                    .into(),
            ),
            (
                Key::literal("version"),
                Sensor::text("Version", info("version")).diagnostic().into(),
            ),
            (
                Key::literal("devices_online"),
                Sensor::count("Devices online", info("devices_online"))
                    .diagnostic()
                    .into(),
            ),
            (
                Key::literal("last_error"),
                Sensor::text("Last error", last_error).diagnostic().into(),
            ),
            (
                Key::literal("restart"),
                Button::of_class(ButtonClass::Restart, self.topics.request("restart"))
                    .setting()
                    .into(),
            ),
            (
                Key::literal("rescan"),
                Button::new("Rescan", self.topics.request("rescan"))
                    .icon("magnify-scan")
                    .setting()
                    .into(),
            ),
            (
                Key::literal("log_level"),
                Select::new("Log level", levels, info("log_level"), log_level)
                    .icon("text-box-search-outline")
                    .setting()
                    .into(),
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ha_discovery::StateKey;
    use serde_json::Value;

    use super::*;
    use crate::{
        model::Power,
        mqtt::{
            bridge::{About, Info, LastError},
            state::{availability, json, states, tests::report},
        },
        report::Availability as Reachable,
    };

    fn topics(base: &str) -> Topics {
        Topics::new(
            base.parse().unwrap(),
            "homeassistant".parse().unwrap(),
            "homeassistant/status".parse().unwrap(),
        )
    }

    fn discovery(base: &str) -> Discovery {
        Discovery::new(topics(base), Layout::Flat)
    }

    /// What the bridge publishes for a report, by topic.
    fn published(report: &Report) -> BTreeMap<String, Value> {
        let topics = topics("tapo2mqtt");
        let about = About {
            started_at: jiff::Timestamp::UNIX_EPOCH,
            setup_mode: false,
            start_checks: Vec::new(),
            settings: Value::Null,
        };
        let online = availability(Reachable::Online);
        let mut published: Vec<(String, String)> = vec![
            (topics.bridge(BridgeTopic::State), online.clone()),
            (
                topics.bridge(BridgeTopic::Info),
                json(&Info::of(&about, &BTreeMap::new(), 1, Level::Info)),
            ),
            (
                topics.bridge(BridgeTopic::LastError),
                json(&LastError::of(None, jiff::Timestamp::UNIX_EPOCH)),
            ),
            (topics.availability(&report.id), online),
        ];
        published.extend(
            states(report)
                .into_iter()
                .map(|(path, state)| (topics.state(&path), state)),
        );
        published
            .into_iter()
            .map(|(topic, text)| (topic, serde_json::from_str(&text).unwrap()))
            .collect()
    }

    fn assert_every_key_is_there(payload: &DevicePayload, report: &Report) {
        let published = published(report);
        let reads = payload.reads();
        assert!(!reads.is_empty());
        for StateKey { topic, key } in reads {
            let state = published
                .get(&topic)
                .unwrap_or_else(|| panic!("nothing is published on {topic}"));
            assert!(state.get(&key).is_some(), "{topic} lacks {key}");
        }
    }

    #[test]
    fn every_key_that_home_assistant_reads_is_always_there() {
        let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
        let strip = report(
            Kind::Strip,
            &[(Some("left"), Some(Power::Off)), (Some("2"), None)],
        );
        for report in [&plug, &strip] {
            assert_every_key_is_there(&discovery("tapo2mqtt").device(report).unwrap(), report);
        }
        assert_every_key_is_there(&discovery("tapo2mqtt").bridge().unwrap(), &plug);

        // Home Assistant remembers a plug from an earlier run; in this one it was not reached yet.
        let mut unknown = plug.clone();
        unknown.identity = None;
        unknown.outlets.clear();
        assert_every_key_is_there(&discovery("tapo2mqtt").device(&plug).unwrap(), &unknown);
    }

    #[test]
    fn a_device_that_was_never_reached_is_not_announced() {
        let mut report = report(Kind::Plug, &[(None, None)]);
        report.identity = None;
        assert_eq!(discovery("tapo2mqtt").device(&report), None);
    }

    #[test]
    fn a_protection_that_the_device_never_told_of_is_no_entity() {
        let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
        let ids = discovery("tapo2mqtt").device(&plug).unwrap().announces();
        assert!(ids.contains_key("tapo2mqtt_mats_overheated"), "{ids:?}");
        assert!(!ids.contains_key("tapo2mqtt_mats_overloaded"), "{ids:?}");
    }

    #[test]
    fn identities_follow_the_configured_id_and_the_position() {
        let strip = report(Kind::Strip, &[(Some("left"), None), (Some("2"), None)]);
        let ids: Vec<String> = discovery("tapo2mqtt")
            .device(&strip)
            .unwrap()
            .announces()
            .into_keys()
            .collect();
        assert!(
            ids.contains(&"tapo2mqtt_mats_o1_switch".to_owned()),
            "a renamed outlet keeps its identity: {ids:?}"
        );
        assert!(ids.contains(&"tapo2mqtt_mats_rssi".to_owned()), "{ids:?}");
    }

    #[test]
    fn bridges_on_one_broker_are_told_apart_by_their_base_topics() {
        let node = |base| discovery(base).bridge_node().unwrap().to_string();
        assert_eq!(node("tapo2mqtt"), "tapo2mqtt-bridge");
        assert_eq!(node("garden/tapo2mqtt"), "tapo2mqtt-bridge-garden_tapo2mqtt");
    }
}
