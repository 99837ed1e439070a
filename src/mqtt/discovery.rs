//! Home Assistant: a report as a discovery payload. Pure.
//!
//! Identities are `tapo2mqtt_<device id>[_o<position>]_<key>` and stay for ever. Nothing volatile is in
//! here: Home Assistant logs each change. Names are those of its own tplink integration, so that people
//! who come from there find the same words.

mod group;

use std::collections::BTreeMap;

use ha_discovery::{
    Availability, BinarySensor, BinarySensorClass, Button, ButtonClass, Child, Command, CommandTemplate,
    Component, Device, DevicePayload, EntityName, Event, EventClass, EventTemplate, Key, Layout, NodeId,
    OnOff, Options, Origin, Select, Sensor, SensorClass, State, Switch, SwitchClass, Update,
};

use super::{
    command::REBOOT,
    topics::{Address, BridgeTopic, Topics, Verb},
};
use crate::{
    model::{DeviceId, OutletKey, OutletPath},
    report::{Identity, Kind, Outlet, Report},
    scheduler::rules::Rules,
    telemetry::Level,
};

mod outlet;

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
    pub(super) fn device(&self, report: &Report, rules: &Rules) -> Option<DevicePayload> {
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
                self.event("Switched elsewhere", "external_change", path)
                    .class(EventClass::Button)
                    .into(),
            ),
        ]);
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

    fn children(&self, report: &Report, identity: &Identity, rules: &Rules) -> BTreeMap<u8, Child> {
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
            bridge::{About, EventBody, Info, LastError},
            standings::Standings,
            state::{
                availability, json, states,
                tests::{no_standings, report},
            },
        },
        report::{self, Availability as Reachable, EventKind, Feature},
        scheduler::{
            planner::{Mode, Reason, SafetyState, Source},
            testing,
            wire::GroupStanding,
        },
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

    fn announced(report: &Report, standings: &Standings) -> DevicePayload {
        discovery("tapo2mqtt").device(report, standings.rules()).unwrap()
    }

    /// A group of `mats/1` and `mats/2` with a schedule that its standing does not know yet.
    fn driveway() -> Standings {
        let schedules = ["morning", "week-end"].map(|id| testing::schedule(id, "06:00", "08:00"));
        let mut rules = testing::Site::new(testing::group(schedules.into()), "UTC").rules;
        rules.groups[0].outlets.push("mats".parse().unwrap());
        let mut standings = Standings::new(rules.clone().into());
        standings.replace_rules(rules.into());
        let standing = GroupStanding {
            state: None,
            mode: Mode::Auto,
            expected: None,
            source: Source::Schedule,
            rule: None,
            reason: Reason::new("nothing is due"),
            next_change: None,
            next_state: None,
            override_until: None,
            cooldown_until: None,
            safety: SafetyState::Clear,
            energy: None,
            schedules: BTreeMap::from([("morning".parse().unwrap(), true)]),
        };
        standings.set_group("driveway".parse().unwrap(), standing.into());
        standings
    }

    /// What the bridge publishes for a report, by topic.
    fn published(report: &Report, standings: &Standings) -> BTreeMap<String, Value> {
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
                json(&Info::of(&about, &BTreeMap::new(), 1, None, Level::Info)),
            ),
            (
                topics.bridge(BridgeTopic::LastError),
                json(&LastError::of(None, jiff::Timestamp::UNIX_EPOCH)),
            ),
            (topics.availability(&report.id), online),
            (
                topics.bridge(BridgeTopic::Event),
                json(&EventBody::of(&pressed(report))),
            ),
        ];
        published.extend(
            states(report, standings)
                .into_iter()
                .map(|(path, state)| (topics.state(&path), state)),
        );
        let groups = standings.rules().groups.iter();
        published.extend(groups.filter_map(|group| {
            let state = standings.group_state(&group.id)?;
            Some((topics.group(&group.id), state))
        }));
        published
            .into_iter()
            .map(|(topic, text)| (topic, serde_json::from_str(&text).unwrap()))
            .collect()
    }

    fn pressed(report: &Report) -> report::Event {
        report::Event {
            kind: EventKind::ExternalChange,
            device: Some(report.id.clone()),
            outlet: None,
            group: None,
            message: "the button".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn assert_every_key_is_there(payload: &DevicePayload, report: &Report, standings: &Standings) {
        let published = published(report, standings);
        let reads = payload.reads();
        assert!(!reads.is_empty());
        for StateKey { topic, pointer } in reads {
            let state = published
                .get(&topic)
                .unwrap_or_else(|| panic!("nothing is published on {topic}"));
            assert!(state.pointer(&pointer).is_some(), "{topic} lacks {pointer}");
        }
    }

    #[test]
    fn every_key_that_home_assistant_reads_is_always_there() {
        let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
        let strip = report(Kind::Strip, &[(Some("1"), Some(Power::Off)), (Some("2"), None)]);
        for standings in [no_standings(), driveway()] {
            for report in [&plug, &strip] {
                assert_every_key_is_there(&announced(report, &standings), report, &standings);
            }
            let bridge = discovery("tapo2mqtt").bridge().unwrap();
            assert_every_key_is_there(&bridge, &plug, &standings);
            for group in standings.announceable() {
                let group = discovery("tapo2mqtt").group(&group).unwrap();
                assert_every_key_is_there(&group, &plug, &standings);
            }

            // Home Assistant remembers a plug from an earlier run; in this one it was not reached yet.
            let mut unknown = plug.clone();
            unknown.identity = None;
            unknown.outlets.clear();
            assert_every_key_is_there(&announced(&plug, &standings), &unknown, &standings);
        }
    }

    #[test]
    fn a_group_is_a_device_with_a_switch_for_each_schedule() {
        let standings = driveway();
        let [group] = standings.announceable().try_into().unwrap();
        let payload = discovery("tapo2mqtt").group(&group).unwrap();
        let ids: Vec<String> = payload.announces().into_keys().collect();
        let expected = [
            "mode",
            "next_change",
            "override_until",
            "reason",
            "safety",
            "schedule_morning",
            "schedule_week-end",
            "switch",
        ];
        assert_eq!(ids, expected.map(|key| format!("tapo2mqtt-group-driveway_{key}")));
        let json: Value = serde_json::from_str(&payload.to_json()).unwrap();
        assert_eq!(json["device"]["via_device"], "tapo2mqtt-bridge");
    }

    #[test]
    fn a_group_with_energy_rules_shows_its_energy_also_before_it_is_known() {
        let mut rules = driveway().rules().as_ref().clone();
        let energy = |standings: &Standings| {
            let [group] = standings.announceable().try_into().unwrap();
            let payload = discovery("tapo2mqtt").group(&group).unwrap();
            let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
            assert_every_key_is_there(&payload, &plug, standings);
            let ids = payload.announces().into_keys();
            ids.filter(|id| id.contains("energy") || id.ends_with("power"))
                .count()
        };
        let mut standings = driveway();
        assert_eq!(energy(&standings), 0);
        rules.groups[0].energy.budget = Some(crate::energy::MilliWattHours::new(4_000_000));
        standings.replace_rules(rules.clone().into());
        assert_eq!(energy(&standings), 3);
        rules.groups[0].energy = crate::scheduler::energy::EnergyRules {
            budget: None,
            finished: Some(crate::scheduler::energy::Finished {
                below: crate::energy::MilliWatts::from_watts(5),
                length: "3m".parse().unwrap(),
                then: crate::scheduler::energy::IfFinished::Tell,
            }),
            ..rules.groups[0].energy
        };
        let ids = |standings: &Standings| {
            let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
            announced(&plug, standings).announces()
        };
        let finished = "tapo2mqtt_mats_load_finished";
        assert!(!ids(&standings).contains_key(finished));
        standings.replace_rules(rules.into());
        assert_eq!(energy(&standings), 2);
        assert!(ids(&standings).contains_key(finished));
    }

    #[test]
    fn only_members_of_a_group_say_whether_they_are_as_expected() {
        let plug = report(Kind::Plug, &[(None, Some(Power::On))]);
        let has_problem = |standings| {
            let ids = announced(&plug, &standings).announces();
            ids.contains_key("tapo2mqtt_mats_problem")
        };
        assert!(has_problem(driveway()));
        assert!(!has_problem(no_standings()));
    }

    #[test]
    fn a_device_that_was_never_reached_is_not_announced() {
        let mut report = report(Kind::Plug, &[(None, None)]);
        report.identity = None;
        assert_eq!(
            discovery("tapo2mqtt").device(&report, no_standings().rules()),
            None
        );
    }

    #[test]
    fn identities_follow_the_configured_id_and_the_position() {
        let strip = report(Kind::Strip, &[(Some("left"), None), (Some("2"), None)]);
        let ids: Vec<String> = announced(&strip, &no_standings())
            .announces()
            .into_keys()
            .collect();
        assert!(
            ids.contains(&"tapo2mqtt_mats_o1_switch".to_owned()),
            "a renamed outlet keeps its identity: {ids:?}"
        );
        assert!(ids.contains(&"tapo2mqtt_mats_rssi".to_owned()), "{ids:?}");
    }

    fn keys(report: &Report) -> Vec<String> {
        let payload = discovery("tapo2mqtt")
            .device(report, no_standings().rules())
            .unwrap();
        let ids = payload.announces().into_keys();
        ids.map(|id| id.replace("tapo2mqtt_mats_", "")).collect()
    }

    #[test]
    fn only_what_an_outlet_tells_is_announced() {
        let mut plug = report(Kind::Plug, &[(None, Some(Power::On))]);
        let has = |plug: &Report, key: &str| keys(plug).contains(&key.to_owned());
        for key in [
            "power",
            "energy_total",
            "voltage",
            "overheated",
            "auto_off_at",
            "reboot",
            "firmware",
        ] {
            assert!(has(&plug, key), "{key}");
        }
        assert!(!has(&plug, "overcurrent") && !has(&plug, "charging"));

        plug.outlets[0].features = [Feature::Charging].into();
        for key in ["voltage", "current", "overheated", "overloaded", "auto_off_at"] {
            assert!(!has(&plug, key), "{key}");
        }
        assert!(has(&plug, "charging") && has(&plug, "protection_event"));

        plug.outlets[0].features.clear();
        let mut identity = plug.identity.as_deref().cloned().unwrap();
        identity.meters_energy = false;
        identity.firmware = None;
        plug.identity = Some(std::sync::Arc::new(identity));
        assert_eq!(keys(&plug), ["on_since", "reboot", "rssi", "switch", "switched"]);
    }

    #[test]
    fn events_are_those_of_one_outlet() {
        let strip = report(Kind::Strip, &[(Some("left"), None), (Some("2"), None)]);
        let payload: Value = serde_json::from_str(
            &discovery("tapo2mqtt")
                .device(&strip, no_standings().rules())
                .unwrap()
                .to_json(),
        )
        .unwrap();
        let event = &payload["components"]["tapo2mqtt_mats_o1_switched"];
        assert_eq!(event["event_types"], serde_json::json!(["external_change"]));
        let template = event["value_template"].as_str().unwrap();
        for condition in [
            r#"value_json.type == "external_change""#,
            r#"value_json.device == "mats""#,
            r#"value_json.outlet == "left""#,
        ] {
            assert!(template.contains(condition), "{template}");
        }
    }

    #[test]
    fn bridges_on_one_broker_are_told_apart_by_their_base_topics() {
        let node = |base| discovery(base).bridge_node().unwrap().to_string();
        assert_eq!(node("tapo2mqtt"), "tapo2mqtt-bridge");
        assert_eq!(node("garden/tapo2mqtt"), "tapo2mqtt-bridge-garden_tapo2mqtt");
    }
}
