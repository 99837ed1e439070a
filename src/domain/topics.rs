//! Builds every topic that the bridge publishes, and parses every topic that it subscribes to.

mod base;

use std::str::FromStr;

use ha_discovery::NodeId;

pub use base::{BASE_MAX, BaseTopic, BaseTopicError};

use planner::{DeviceId, GroupId, OutletKey, OutletPath, ScheduleId, SlugError};

/// Longest name of a request, in bytes.
pub const REQUEST_MAX: usize = 64;

/// Longest topic with an invalid id that is answered, in bytes.
const INVALID_MAX: usize = 512;

/// Knows every topic of one bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    base: BaseTopic,
    discovery_prefix: BaseTopic,
    status: BaseTopic,
}

/// The topics of the bridge itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BridgeTopic {
    /// `online` or `offline`; retained; the last will.
    State,
    /// Version, start and settings; retained.
    Info,
    /// All devices; retained.
    Devices,
    /// Devices that were found and are not used; retained.
    Found,
    /// All groups; retained.
    Groups,
    /// The sensors of conditions; retained.
    Sensors,
    /// The forecast; retained.
    Weather,
    /// How the bridge is doing; retained.
    Health,
    /// Something that happened.
    Event,
    /// The last error; retained.
    LastError,
}

impl BridgeTopic {
    fn level(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Info => "info",
            Self::Devices => "devices",
            Self::Found => "found",
            Self::Groups => "groups",
            Self::Sensors => "sensors",
            Self::Weather => "weather",
            Self::Health => "health",
            Self::Event => "event",
            Self::LastError => "last_error",
        }
    }
}

/// The name of a request to the bridge: `restart`, `homeassistant/rediscover`. 1 to [`REQUEST_MAX`] bytes of
/// `[a-z0-9_-]` in levels; whether there is such a request is not known here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestName(String);

impl RequestName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestName {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-' | '/');
        let sound = text.len() <= REQUEST_MAX && text.chars().all(allowed);
        if sound && text.split('/').all(|level| !level.is_empty()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TopicError::Request)
        }
    }
}

/// The attribute of `set/<attribute>` that counts down, and its key in a `set`.
pub const COUNTDOWN: &str = "countdown";

/// The attribute of `set/<attribute>` that restarts a device.
pub const REBOOT: &str = "reboot";

/// The attribute of `set/<attribute>` that sets a thermostat, in °C, and its key in a `set` and in the state.
pub const TARGET_TEMPERATURE: &str = "target_temperature";

/// The attribute of `set/<attribute>` that turns a thermostat on or off, and its key in a `set` and in the state.
pub const SYSTEM_MODE: &str = "system_mode";

/// The attribute of a group that sets what its thermostat holds.
pub const TARGET: &str = "target";

/// The attribute of a group that sets the preset of its thermostat.
pub const PRESET: &str = "preset";

/// What is asked of a device, an outlet or a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `set`
    Set,
    /// `set/<attribute>`; whether there is such an attribute is not known here.
    SetAttribute(String),
    /// `get`
    Get,
}

/// What an inbound topic is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ParsedTopic {
    /// A command to a device or to one outlet of a strip.
    Outlet {
        /// Which one. It need not be configured.
        path: OutletPath,
        /// What to do.
        verb: Verb,
    },
    /// A command to a group.
    Group {
        /// Which one. It need not be configured.
        group: GroupId,
        /// What to do.
        verb: Verb,
    },
    /// A command that enables or disables a schedule of a group: `group/<group>/set/schedule/<schedule>`.
    Schedule {
        /// The group. It need not be configured.
        group: GroupId,
        /// The schedule. The group need not have it.
        schedule: ScheduleId,
    },
    /// A request to the bridge.
    Request(RequestName),
    /// The birth message or last will of Home Assistant.
    HomeAssistantStatus,
    /// A discovery message, of this bridge or another program.
    DiscoveryConfig(NodeId),
}

/// What a topic names that cannot exist, because it is no id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidName<'a> {
    /// A device.
    Device(&'a str),
    /// An outlet of a device, which need not be configured.
    Outlet(DeviceId, &'a str),
    /// A group.
    Group(&'a str),
    /// A schedule of a group, which need not be configured.
    Schedule(GroupId, &'a str),
    /// A request.
    Request(&'a str),
}

/// Why a topic is nothing to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Not below the base topic, and nothing of Home Assistant's.
    #[error("the topic does not belong to this bridge")]
    Foreign,
    /// Below the base topic, but nothing that takes messages.
    #[error(
        "no command; expected <device>[/<outlet>] or group/<group> with /set, /set/<attribute> or /get, \
         group/<group>/set/schedule/<schedule>, or bridge/request/<name>"
    )]
    NotACommand,
    /// The level of the device is not a device id.
    #[error("the device id {0}")]
    Device(SlugError),
    /// The level of the outlet is not an outlet.
    #[error("the outlet {0}")]
    Outlet(SlugError),
    /// The level of the group is not a group id.
    #[error("the group id {0}")]
    Group(SlugError),
    /// The level of the schedule is not a schedule's id.
    #[error("the schedule id {0}")]
    Schedule(SlugError),
    /// The levels after `bridge/request` are no name.
    #[error("a request has a name of 1 to {REQUEST_MAX} of a-z, 0-9, _ and -")]
    Request,
}

impl Topics {
    /// The topics below a base topic, and those of Home Assistant: below its discovery prefix, and the one
    /// of its birth message and last will.
    pub fn new(base: BaseTopic, discovery_prefix: BaseTopic, status: BaseTopic) -> Self {
        Self {
            base,
            discovery_prefix,
            status,
        }
    }

    /// The base topic.
    pub fn base(&self) -> &BaseTopic {
        &self.base
    }

    /// A topic of the bridge itself.
    pub fn bridge(&self, topic: BridgeTopic) -> String {
        format!("{}/bridge/{}", self.base, topic.level())
    }

    /// The topic of a request to the bridge.
    pub fn request(&self, name: &str) -> String {
        format!("{}/bridge/request/{name}", self.base)
    }

    /// The answer to a request.
    pub fn request_response(&self, name: &RequestName) -> String {
        format!("{}/bridge/response/{}", self.base, name.as_str())
    }

    /// The state of a device, or of one outlet of a strip.
    pub fn state(&self, path: &OutletPath) -> String {
        format!("{}/{path}", self.base)
    }

    /// Whether a device is reachable.
    pub fn availability(&self, device: &DeviceId) -> String {
        format!("{}/{device}/availability", self.base)
    }

    /// Whether what is connected to a hub is reachable.
    pub fn child_availability(&self, child: &OutletPath) -> String {
        format!("{}/{child}/availability", self.base)
    }

    /// The answers to commands to a device or outlet.
    pub fn response(&self, path: &OutletPath) -> String {
        format!("{}/{path}/response", self.base)
    }

    /// The state of a group.
    pub fn group(&self, group: &GroupId) -> String {
        format!("{}/group/{group}", self.base)
    }

    /// The answers to commands to a group.
    pub fn group_response(&self, group: &GroupId) -> String {
        format!("{}/group/{group}/response", self.base)
    }

    /// The topic on which to answer what came in at an address; `None` for what is not answered.
    pub fn response_to(&self, address: &ParsedTopic) -> Option<String> {
        match address {
            ParsedTopic::Outlet { path, .. } => Some(self.response(path)),
            ParsedTopic::Group { group, .. } | ParsedTopic::Schedule { group, .. } => {
                Some(self.group_response(group))
            }
            ParsedTopic::Request(name) => Some(self.request_response(name)),
            ParsedTopic::HomeAssistantStatus | ParsedTopic::DiscoveryConfig(_) => None,
        }
    }

    /// What a command or request is for that no id can name, and the topic on which to answer it; `None` for what is no
    /// command or too long to answer.
    pub fn invalid<'a>(&self, topic: &'a str) -> Option<(InvalidName<'a>, String)> {
        if topic.len() > INVALID_MAX {
            return None;
        }
        let rest = self.base.strip(topic)?;
        if let Some(name) = rest.strip_prefix("bridge/request/") {
            return Some((
                InvalidName::Request(name),
                format!("{}/bridge/response/{name}", self.base),
            ));
        }
        let levels: Vec<&str> = rest.splitn(5, '/').collect();
        let (name, path) = match levels.as_slice() {
            ["group", group, verb @ ..] => {
                let name = match (group.parse(), verb) {
                    (Ok(group), ["set", "schedule", name]) => InvalidName::Schedule(group, name),
                    _ => InvalidName::Group(group),
                };
                (name, format!("group/{group}"))
            }
            [device, "set" | "get", ..] => (InvalidName::Device(device), (*device).to_owned()),
            [device, outlet, ..] => {
                let parsed = device.parse();
                let name = parsed.map_or(InvalidName::Device(device), |device| {
                    InvalidName::Outlet(device, outlet)
                });
                (name, format!("{device}/{outlet}"))
            }
            _ => return None,
        };
        Some((name, format!("{}/{path}/response", self.base)))
    }

    /// The topic of an address: what clients publish to, and where discovery is announced.
    pub fn topic_of(&self, address: &ParsedTopic) -> String {
        match address {
            ParsedTopic::Outlet { path, verb } => with_verb(self.state(path), verb),
            ParsedTopic::Group { group, verb } => with_verb(self.group(group), verb),
            ParsedTopic::Schedule { group, schedule } => {
                format!("{}/set/schedule/{schedule}", self.group(group))
            }
            ParsedTopic::Request(name) => self.request(name.as_str()),
            ParsedTopic::HomeAssistantStatus => self.status.to_string(),
            ParsedTopic::DiscoveryConfig(node) => node.config_topic(self.discovery_prefix.as_str()),
        }
    }

    /// The patterns that carry commands, requests and Home Assistant's status: nothing that the bridge
    /// publishes itself.
    pub fn subscriptions(&self) -> Vec<String> {
        const COMMANDS: [&str; 8] = [
            "+/set",
            "+/set/+",
            "+/get",
            "+/+/set",
            "+/+/set/+",
            "+/+/get",
            "group/+/set/schedule/+",
            "bridge/request/#",
        ];
        let below = |pattern| format!("{}/{pattern}", self.base);
        let status = self.topic_of(&ParsedTopic::HomeAssistantStatus);
        COMMANDS.into_iter().map(below).chain([status]).collect()
    }

    /// The pattern of all discovery messages, on which the bridge's own come back. It shows what an
    /// earlier run left behind, and devices that a user deleted.
    pub fn discovery_subscription(&self) -> String {
        format!("{}/device/+/config", self.discovery_prefix)
    }

    /// Whether a topic is ours, or one that we read: no sensor can be there.
    pub fn claims(&self, topic: &BaseTopic) -> bool {
        self.base == *topic || self.base.strip(topic.as_str()).is_some() || self.parse(topic.as_str()).is_ok()
    }

    /// Reads an inbound topic.
    ///
    /// # Errors
    /// When it is nothing to act on.
    pub fn parse(&self, topic: &str) -> Result<ParsedTopic, TopicError> {
        if topic == self.status.as_str() {
            return Ok(ParsedTopic::HomeAssistantStatus);
        }
        if let Some(rest) = self.discovery_prefix.strip(topic) {
            return parse_discovery(rest);
        }
        let rest = self.base.strip(topic).ok_or(TopicError::Foreign)?;
        if let Some(name) = rest.strip_prefix("bridge/request/") {
            return name.parse().map(ParsedTopic::Request);
        }
        let levels: Vec<&str> = rest.splitn(5, '/').collect();
        match levels.as_slice() {
            ["bridge", ..] => Err(TopicError::NotACommand),
            ["group", group, "set", "schedule", schedule] => Ok(ParsedTopic::Schedule {
                group: group.parse().map_err(TopicError::Group)?,
                schedule: schedule.parse().map_err(TopicError::Schedule)?,
            }),
            ["group", group, verb @ ..] => Ok(ParsedTopic::Group {
                verb: parse_verb(verb)?,
                group: group.parse().map_err(TopicError::Group)?,
            }),
            [device, verb @ ..] if matches!(verb, ["set" | "get", ..]) => Ok(ParsedTopic::Outlet {
                verb: parse_verb(verb)?,
                path: OutletPath::device(device.parse().map_err(TopicError::Device)?),
            }),
            [device, outlet, verb @ ..] => Ok(ParsedTopic::Outlet {
                verb: parse_verb(verb)?,
                path: OutletPath::outlet(
                    device.parse().map_err(TopicError::Device)?,
                    outlet.parse::<OutletKey>().map_err(TopicError::Outlet)?,
                ),
            }),
            _ => Err(TopicError::NotACommand),
        }
    }
}

fn with_verb(mut topic: String, verb: &Verb) -> String {
    match verb {
        Verb::Set => topic.push_str("/set"),
        Verb::SetAttribute(attribute) => {
            topic.push_str("/set/");
            topic.push_str(attribute);
        }
        Verb::Get => topic.push_str("/get"),
    }
    topic
}

fn parse_verb(levels: &[&str]) -> Result<Verb, TopicError> {
    match levels {
        ["set"] => Ok(Verb::Set),
        ["set", attribute] => Ok(Verb::SetAttribute((*attribute).to_owned())),
        ["get"] => Ok(Verb::Get),
        _ => Err(TopicError::NotACommand),
    }
}

fn parse_discovery(rest: &str) -> Result<ParsedTopic, TopicError> {
    let node = rest
        .strip_prefix("device/")
        .and_then(|rest| rest.strip_suffix("/config"));
    let node = node.ok_or(TopicError::Foreign)?;
    node.parse()
        .map(ParsedTopic::DiscoveryConfig)
        .map_err(|_| TopicError::Foreign)
}

#[cfg(test)]
mod tests;
