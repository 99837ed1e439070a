//! Home Assistant: a report as a discovery payload. Pure.
//!
//! Identities are `tapo2mqtt_<device id>[_o<position>]_<key>` and stay for ever. Nothing volatile is in
//! here: Home Assistant logs each change. Names are those of its own tplink integration, so that people
//! who come from there find the same words.

mod group;
mod outlet;
mod shape;
mod timers;

use std::collections::BTreeMap;

use ha_discovery::{
    Availability, BinarySensor, BinarySensorClass, Button, ButtonClass, Child, Command, CommandTemplate,
    Component, Device, DevicePayload, EntityName, Event, EventClass, EventTemplate, Key, Layout, NodeId,
    OnOff, Options, Origin, Select, Sensor, SensorClass, State, Switch, SwitchClass, Update,
};

pub(super) use shape::Shape;

use super::{
    command::REBOOT,
    topics::{Address, BridgeTopic, Topics, Verb},
};
use crate::{
    domain::report::{DeviceReport, Identity, Kind, Outlet},
    system::telemetry::Level,
};
use planner::{DeviceId, OutletKey, OutletPath, rules::Rules};

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
    pub(super) fn device(&self, report: &DeviceReport, rules: &Rules) -> Option<DevicePayload> {
        let identity = report.identity.as_deref()?;
        let mut payload = self.payload(Self::node(&report.id)?, self.registry_entry(report, identity));
        payload.availability.push(Availability::json_key(
            self.topics.availability(&report.id),
            "state",
        ));
        payload.layout = self.layout;
        let own = OutletPath::device(report.id.clone());
        payload.components = self.device_components(&own, identity);
        match identity.kind {
            Kind::Plug => {
                let outlets = report.outlets.iter();
                let components = outlets.flat_map(|outlet| self.outlet_components(&own, outlet, identity));
                payload.components.extend(components);
                payload.components.extend(self.member_components(&own, rules));
            }
            Kind::Strip => payload.children = self.children(report, identity, rules),
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
        payload.components.extend([self.vacation()]);
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

    fn registry_entry(&self, report: &DeviceReport, identity: &Identity) -> Device {
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

    fn device_components(&self, path: &OutletPath, identity: &Identity) -> BTreeMap<Key, Component> {
        let topic = self.topics.state(path);
        let rssi = Sensor::of_class(SensorClass::SignalStrength, State::json_key(&topic, "rssi"))
            .diagnostic()
            .off_by_default();
        let reboot = self.topics.topic_of(&Address::Outlet {
            path: path.clone(),
            verb: Verb::SetAttribute(REBOOT.to_owned()),
        });
        let reboot = Button::of_class(ButtonClass::Restart, reboot)
            .setting()
            .off_by_default();
        let mut components = BTreeMap::from([
            (Key::literal("rssi"), rssi.into()),
            (Key::literal("reboot"), reboot.into()),
        ]);
        if identity.firmware.is_some() {
            let firmware = Update::firmware(topic, "firmware", "firmware_latest")
                .diagnostic()
                .off_by_default();
            components.insert(Key::literal("firmware"), firmware.into());
        }
        components
    }

    fn outlet_components(
        &self,
        path: &OutletPath,
        outlet: &Outlet,
        identity: &Identity,
    ) -> BTreeMap<Key, Component> {
        let state = |key| State::json_key(self.topics.state(path), key);
        let switch = Switch::new(EntityName::Main, state("state"), OnOff::POWER, self.set(path));
        let on_since = Sensor::of_class(SensorClass::Timestamp, state("on_since"))
            .named("On since")
            .off_by_default();
        let mut components = BTreeMap::from([
            (Key::literal("switch"), switch.class(SwitchClass::Outlet).into()),
            (Key::literal("on_since"), on_since.diagnostic().into()),
            (
                Key::literal("switched"),
                self.event("Changed externally", "external_change", path)
                    .class(EventClass::Button)
                    .into(),
            ),
        ]);
        components.extend(self.timers(path, &outlet.features));
        components.extend(outlet::conditions(&outlet.features, state));
        if outlet::is_protected(&outlet.features) {
            let event = self.event("Protection changed", "protection", path);
            components.insert(Key::literal("protection_event"), event.diagnostic().into());
        }
        if identity.meters_energy {
            components.extend(outlet::energy(&outlet.features, state));
        }
        components
    }

    /// Something that `bridge/event` tells of an outlet.
    fn event(&self, name: &str, kind: &str, path: &OutletPath) -> Event {
        let outlet = path.outlet.as_ref().map(OutletKey::as_str);
        let about = [("type", kind), ("device", path.device.as_str())];
        let about: Vec<_> = about
            .into_iter()
            .chain(outlet.map(|outlet| ("outlet", outlet)))
            .collect();
        let template = EventTemplate {
            type_key: "type",
            attributes: &["message", "at"],
            only_when: &about,
        };
        Event::new(
            name,
            Options::of(kind, []),
            self.topics.bridge(BridgeTopic::Event),
            template,
        )
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

    fn set(&self, path: &OutletPath) -> String {
        self.topics.topic_of(&Address::Outlet {
            path: path.clone(),
            verb: Verb::Set,
        })
    }

    fn bridge_components(&self) -> BTreeMap<Key, Component> {
        let info = |key| State::json_key(self.topics.bridge(BridgeTopic::InfoPayload), key);
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
                Button::new("Reconnect devices", self.topics.request("rescan"))
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
mod tests;
