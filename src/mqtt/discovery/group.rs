//! Groups, and what the scheduler adds to outlets and to the bridge.

use std::collections::BTreeMap;

use ha_discovery::{
    BinarySensor, BinarySensorClass, Command, CommandTemplate, Component, Device, DevicePayload, EntityName,
    Key, NodeId, OnOff, Options, Select, Sensor, SensorClass, State, Switch, Template,
};

use super::{Discovery, VERSION};
use crate::mqtt::topics::{Address, BridgeTopic, Verb};
use planner::{
    GroupId, OutletPath, ScheduleId,
    rules::{Group, Rules},
};

/// How `safety` is spelled in a group's state.
const SAFETY: OnOff = OnOff::Words {
    on: "tripped",
    off: "clear",
};

impl Discovery {
    /// The node of a configured group. The hyphens keep it apart from a device called `group_...`.
    pub(in crate::mqtt) fn group_node(group: &GroupId) -> Option<NodeId> {
        format!("tapo2mqtt-group-{group}").parse().ok()
    }

    /// A group's payload.
    pub(in crate::mqtt) fn group(&self, group: &Group) -> Option<DevicePayload> {
        let mut device = Device::new(group.name.clone());
        device.manufacturer = Some("tapo2mqtt".to_owned());
        device.model = Some("Group".to_owned());
        device.sw_version = Some(VERSION.to_owned());
        device.via_device = self.bridge_node();
        let mut payload = self.payload(Self::group_node(&group.id)?, device);
        payload.components = self.group_components(&group.id);
        payload.components.extend(self.group_energy(group));
        for schedule in &group.schedules {
            let key = format!("schedule_{}", schedule.id).parse();
            payload
                .components
                .extend(key.ok().map(|key| (key, self.schedule(&group.id, &schedule.id))));
        }
        Some(payload)
    }

    fn group_components(&self, group: &GroupId) -> BTreeMap<Key, Component> {
        let state = |key| State::json_key(self.topics.group(group), key);
        let time = |name: &str, key| Sensor::of_class(SensorClass::Timestamp, state(key)).named(name);
        let command = |verb| {
            let group = group.clone();
            self.topics.topic_of(&Address::Group { group, verb })
        };
        let switch = Switch::new(EntityName::Main, state("state"), OnOff::POWER, command(Verb::Set));
        let mode = Select::new(
            "Mode",
            Options::of("auto", ["on", "off"]),
            state("mode"),
            command(Verb::SetAttribute("mode".to_owned())),
        );
        let tripped = BinarySensor::of_class(BinarySensorClass::Problem, state("safety"), SAFETY);
        BTreeMap::from([
            (Key::literal("switch"), switch.into()),
            (Key::literal("mode"), mode.icon("calendar-clock").into()),
            (
                Key::literal("reason"),
                Sensor::text("Reason", state("reason")).into(),
            ),
            (
                Key::literal("next_change"),
                time("Next change", "next_change").into(),
            ),
            (
                Key::literal("override_until"),
                time("Override until", "override_until").into(),
            ),
            (
                Key::literal("safety"),
                tripped.named("Safety limit active").into(),
            ),
        ])
    }

    /// What a group draws and used, where its settings ask for that.
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
            (Key::literal("power"), power.decimals(0).into()),
            (Key::literal("energy_today"), today.decimals(2).into()),
        ]);
        if group.energy.daily_budget.is_some() {
            let remaining = Sensor::amount("Remaining energy today", "kWh", state("daily_budget_remaining"));
            components.insert(Key::literal("energy_remaining"), remaining.decimals(2).into());
        }
        components
    }

    fn schedule(&self, group: &GroupId, schedule: &ScheduleId) -> Component {
        let state = Template::json_path(&["schedules", schedule.as_str()]);
        let command = self.topics.topic_of(&Address::Schedule {
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

    /// What an outlet has only as a member of a group.
    pub(super) fn member_components(&self, path: &OutletPath, rules: &Rules) -> BTreeMap<Key, Component> {
        let Some(group) = rules.group_of(path) else {
            return BTreeMap::new();
        };
        let state = |key| State::json_key(self.topics.state(path), key);
        let mismatch = BinarySensor::of_class(BinarySensorClass::Problem, state("mismatch"), OnOff::Booleans);
        let next_change = Sensor::of_class(SensorClass::Timestamp, state("next_change"));
        let states = Options::of("idle", ["armed", "unsupported", "external", "failed"]);
        let failsafe = Sensor::options("Fail-safe", states, state("failsafe"));
        let mut components = BTreeMap::from([
            (
                Key::literal("mismatch"),
                mismatch.named("State mismatch").diagnostic().into(),
            ),
            (
                Key::literal("next_change"),
                next_change.named("Next change").off_by_default().into(),
            ),
            (
                Key::literal("failsafe"),
                failsafe.diagnostic().off_by_default().into(),
            ),
        ]);
        if group.energy.finished.is_some() {
            let finished = self.event("Load finished", "load_finished", path);
            components.insert(Key::literal("load_finished"), finished.into());
        }
        components
    }

    /// What the bridge has for the scheduler.
    pub(super) fn vacation(&self) -> (Key, Component) {
        let state = State::json_key(self.topics.bridge(BridgeTopic::InfoPayload), "vacation");
        let command = Command::wrapped(
            self.topics.request("vacation"),
            CommandTemplate::json_is_on("enabled"),
        );
        let vacation = Switch::new("Vacation", state, OnOff::Booleans, command);
        (
            Key::literal("vacation"),
            vacation.icon("palm-tree").setting().into(),
        )
    }
}
