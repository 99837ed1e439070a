//! Topic to target: what an incoming message is about. Pure.

use std::collections::BTreeSet;

use ha_discovery::NodeId;
use planner::{GroupId, ScheduleId};

use crate::domain::{
    command::Target,
    topics::{BridgeTopic, InvalidName, ParsedTopic, RequestName, TopicError, Topics, Verb},
};

/// What an incoming message is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// A value for sensors.
    Sensor,
    /// `bridge/devices`: of an earlier run if it is retained.
    Devices,
    /// `bridge/groups`: of an earlier run if it is retained.
    Groups,
    /// The state of a bridge with this base topic.
    BridgeState,
    /// The health of a bridge with this base topic.
    BridgeHealth,
    /// A command.
    Command { target: Target, verb: Verb },
    /// Enables or disables a schedule.
    Schedule { group: GroupId, schedule: ScheduleId },
    /// A request to the bridge.
    Request(RequestName),
    /// A command or request that the broker kept. It would be carried out again at each start.
    RetainedCommand(ParsedTopic),
    /// The birth or last will of Home Assistant.
    HomeAssistantStatus,
    /// A discovery message.
    Discovery(NodeId),
    /// A command or request to something that cannot exist, because a level of its topic is no id, and the topic of its
    /// response.
    Invalid { name: InvalidName<'a>, response: String },
    /// Nothing to act on, and nothing that a response could be addressed to.
    Ignored(TopicError),
}

/// Knows the topics that the bridge reads.
#[derive(Debug)]
pub(super) struct Router {
    topics: Topics,
    devices: String,
    groups: String,
    state: String,
    health: String,
    sensors: BTreeSet<String>,
}

impl Router {
    pub(super) fn new(topics: Topics, sensors: BTreeSet<String>) -> Self {
        Self {
            devices: topics.bridge(BridgeTopic::Devices),
            groups: topics.bridge(BridgeTopic::Groups),
            state: topics.bridge(BridgeTopic::State),
            health: topics.bridge(BridgeTopic::Health),
            topics,
            sensors,
        }
    }

    /// Replaces the topics of sensors.
    pub(super) fn set_sensors(&mut self, sensors: BTreeSet<String>) {
        self.sensors = sensors;
    }

    /// What a message on a topic is about. `retain` is the flag of the message.
    pub(super) fn route<'a>(&self, topic: &'a str, retain: bool) -> Route<'a> {
        if self.sensors.contains(topic) {
            return Route::Sensor;
        }
        if topic == self.devices {
            return Route::Devices;
        }
        if topic == self.groups {
            return Route::Groups;
        }
        if topic == self.state {
            return Route::BridgeState;
        }
        if topic == self.health {
            return Route::BridgeHealth;
        }
        match self.topics.parse(topic) {
            Ok(ParsedTopic::DiscoveryConfig(node)) => Route::Discovery(node),
            Ok(ParsedTopic::HomeAssistantStatus) => Route::HomeAssistantStatus,
            Ok(command) if retain => Route::RetainedCommand(command),
            Ok(ParsedTopic::Outlet { path, verb }) => Route::Command {
                target: Target::Outlet(path),
                verb,
            },
            Ok(ParsedTopic::Group { group, verb }) => Route::Command {
                target: Target::Group(group),
                verb,
            },
            Ok(ParsedTopic::Schedule { group, schedule }) => Route::Schedule { group, schedule },
            Ok(ParsedTopic::Request(name)) => Route::Request(name),
            Err(error) => self.invalid(topic, error),
        }
    }

    fn invalid<'a>(&self, topic: &'a str, error: TopicError) -> Route<'a> {
        let is_id = !matches!(error, TopicError::Foreign | TopicError::NotACommand);
        match self.topics.invalid(topic).filter(|_| is_id) {
            Some((name, response)) => Route::Invalid { name, response },
            None => Route::Ignored(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let topics = Topics::new(
            "tapo2mqtt".parse().unwrap(),
            "homeassistant".parse().unwrap(),
            "homeassistant/status".parse().unwrap(),
        );
        Router::new(topics, ["weather/outdoor".to_owned()].into())
    }

    #[test]
    fn each_topic_has_one_meaning() {
        let target = |path: &str| Target::Outlet(path.parse().unwrap());
        let router = router();
        let group = || "driveway".parse().unwrap();
        for (topic, route) in [
            ("weather/outdoor", Route::Sensor),
            ("tapo2mqtt/bridge/devices", Route::Devices),
            ("tapo2mqtt/bridge/groups", Route::Groups),
            ("tapo2mqtt/bridge/state", Route::BridgeState),
            ("tapo2mqtt/bridge/health", Route::BridgeHealth),
            (
                "tapo2mqtt/mats/1/set",
                Route::Command {
                    target: target("mats/1"),
                    verb: Verb::Set,
                },
            ),
            (
                "tapo2mqtt/group/driveway/get",
                Route::Command {
                    target: Target::Group(group()),
                    verb: Verb::Get,
                },
            ),
            (
                "tapo2mqtt/group/driveway/set/schedule/morning",
                Route::Schedule {
                    group: group(),
                    schedule: "morning".parse().unwrap(),
                },
            ),
            (
                "tapo2mqtt/bridge/request/plan",
                Route::Request("plan".parse().unwrap()),
            ),
            ("homeassistant/status", Route::HomeAssistantStatus),
            (
                "homeassistant/device/tapo2mqtt_mats/config",
                Route::Discovery("tapo2mqtt_mats".parse().unwrap()),
            ),
            ("garden/heater/set", Route::Ignored(TopicError::Foreign)),
            ("tapo2mqtt/mats/1/2/set", Route::Ignored(TopicError::NotACommand)),
        ] {
            assert_eq!(router.route(topic, false), route, "{topic}");
        }
    }

    #[test]
    fn a_command_to_what_cannot_exist_has_a_response_topic() {
        let router = router();
        for (topic, expected) in [
            ("Living Room/set", "Living Room/response"),
            ("Living Room/set/state", "Living Room/response"),
            ("ü/get", "ü/response"),
            ("/set", "/response"),
            ("Mats/1/set", "Mats/1/response"),
            ("mats/One/set/mode", "mats/One/response"),
            ("group/Driveway/set", "group/Driveway/response"),
            ("group/driveway/set/schedule/Morning", "group/driveway/response"),
            ("bridge/request/Plan", "bridge/response/Plan"),
        ] {
            match router.route(&format!("tapo2mqtt/{topic}"), false) {
                Route::Invalid { response, .. } => {
                    assert_eq!(response, format!("tapo2mqtt/{expected}"), "{topic}");
                }
                other => panic!("{topic}: {other:?}"),
            }
        }
        let long = format!("tapo2mqtt/{}/set", "x".repeat(1000));
        assert!(matches!(router.route(&long, false), Route::Ignored(_)));
    }

    #[test]
    fn only_commands_and_requests_must_not_be_retained() {
        let router = router();
        for topic in ["tapo2mqtt/mats/set", "tapo2mqtt/bridge/request/restart"] {
            assert!(
                matches!(router.route(topic, true), Route::RetainedCommand(_)),
                "{topic}"
            );
        }
        for topic in [
            "weather/outdoor",
            "tapo2mqtt/bridge/devices",
            "homeassistant/status",
        ] {
            assert_eq!(router.route(topic, true), router.route(topic, false), "{topic}");
        }
    }
}
