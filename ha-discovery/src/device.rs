//! The device, who announces it, and when it is available.

use serde::Serialize;

use crate::{
    identity::{Link, NodeId},
    template::Template,
};

/// What Home Assistant's device registry shows. Its identifier is the payload's node, and nothing else: of two payloads
/// with the same `connections`, such as a MAC address that moved from one to the other, it would make one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The name, which precedes the names of its entities.
    pub name: String,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// The name of the model, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model as the manufacturer's software has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// The version of the hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hw_version: Option<String>,
    /// The version of the firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sw_version: Option<String>,
    /// The serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// The node of the device through which it is reached. Announce that one first: an unknown node
    /// leaves a nameless device in Home Assistant for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via_device: Option<NodeId>,
    /// Where it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration_url: Option<Link>,
    /// The room that is proposed when the device first appears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_area: Option<String>,
}

impl Device {
    /// A device of which only the name is known.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            manufacturer: None,
            model: None,
            model_id: None,
            hw_version: None,
            sw_version: None,
            serial_number: None,
            via_device: None,
            configuration_url: None,
            suggested_area: None,
        }
    }
}

/// The program that announces the device. Home Assistant names it in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sw_version: Option<String>,
    /// Where to get help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support_url: Option<Link>,
}

impl Origin {
    /// A program of which only the name is given.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            sw_version: None,
            support_url: None,
        }
    }
}

/// A topic that shows whether the device is available.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Availability {
    pub(crate) topic: String,
    #[serde(rename = "value_template")]
    pub(crate) template: Template,
}

impl Availability {
    /// One key of the JSON object on a topic, which is `online` or `offline`.
    pub fn json_key(topic: impl Into<String>, key: &str) -> Self {
        Self {
            topic: topic.into(),
            template: Template::json_key(key),
        }
    }
}
