//! What entities of all platforms share.

use serde::Serialize;
use serde_json::Value;

use crate::{
    device::Availability,
    template::{CommandTemplate, Template},
};

/// How the caller names an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityName {
    /// The main feature of its device: it takes the device's name (`"name": null`).
    Main,
    /// A name of its own, which does not repeat the device's.
    Given(String),
}

impl From<&str> for EntityName {
    fn from(name: &str) -> Self {
        Self::Given(name.to_owned())
    }
}

impl From<String> for EntityName {
    fn from(name: String) -> Self {
        Self::Given(name)
    }
}

/// The name as the payload has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Main,
    Given(String),
    /// Left out: Home Assistant names the entity after its device class, in its user's language.
    OfClass {
        /// The English name, for where no other may stand alone.
        label: &'static str,
    },
}

impl From<EntityName> for Name {
    fn from(name: EntityName) -> Self {
        match name {
            EntityName::Main => Self::Main,
            EntityName::Given(name) => Self::Given(name),
        }
    }
}

impl Name {
    /// The `name` key: `None` is left out, `Some(None)` is null.
    #[allow(clippy::option_option)] // The three states that JSON has.
    pub(crate) fn shown(&self) -> Option<Option<String>> {
        match self {
            Self::Main => Some(None),
            Self::Given(name) => Some(Some(name.clone())),
            Self::OfClass { .. } => None,
        }
    }

    /// The name on a strip that is one device: `Outlet 1`, `Outlet 1 Power`.
    pub(crate) fn shown_below(&self, outlet: &str) -> String {
        match self {
            Self::Main => outlet.to_owned(),
            Self::Given(name) => format!("{outlet} {name}"),
            Self::OfClass { label } => format!("{outlet} {label}"),
        }
    }
}

/// The category of an entity that can also be a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Category {
    Config,
    Diagnostic,
}

/// The category of an entity that only shows: Home Assistant refuses `config` for a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReadOnlyCategory {
    Diagnostic,
}

/// The optional part that every platform accepts. `C` is the category that the platform accepts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Entity<C> {
    #[serde(skip)]
    pub(crate) name: Name,
    #[serde(rename = "entity_category", skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) icon: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled_by_default: Option<Disabled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) availability: Option<Vec<Availability>>,
}

impl<C> Entity<C> {
    pub(crate) fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            category: None,
            icon: None,
            enabled_by_default: None,
            availability: None,
        }
    }
}

/// `"enabled_by_default": false`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disabled;

impl Serialize for Disabled {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(false)
    }
}

/// Where an entity's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    #[serde(rename = "state_topic")]
    pub(crate) topic: String,
    #[serde(rename = "value_template")]
    pub(crate) template: Template,
}

impl State {
    /// One key of the JSON object on a topic.
    pub fn json_key(topic: impl Into<String>, key: &str) -> Self {
        Self::new(topic, Template::json_key(key))
    }

    /// What a template makes of the messages on a topic.
    pub fn new(topic: impl Into<String>, template: Template) -> Self {
        Self {
            topic: topic.into(),
            template,
        }
    }
}

/// Where an entity's commands go. Never retained: a retained command would switch again at each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Command {
    #[serde(rename = "command_topic")]
    topic: String,
    #[serde(rename = "command_template", skip_serializing_if = "Option::is_none")]
    template: Option<CommandTemplate>,
}

impl Command {
    /// Sends the bare value.
    pub fn bare(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            template: None,
        }
    }

    /// Sends what a template makes of the value.
    pub fn wrapped(topic: impl Into<String>, template: CommandTemplate) -> Self {
        Self {
            topic: topic.into(),
            template: Some(template),
        }
    }
}

impl From<&str> for Command {
    fn from(topic: &str) -> Self {
        Self::bare(topic)
    }
}

impl From<String> for Command {
    fn from(topic: String) -> Self {
        Self::bare(topic)
    }
}

/// How on and off are spelled in a state. Null is unknown in either spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOff {
    /// JSON `true` and `false`. Home Assistant compares their Python spelling, which it makes of a JSON
    /// boolean in the payload too.
    Booleans,
    /// Two words.
    Words {
        /// For on.
        on: &'static str,
        /// For off.
        off: &'static str,
    },
}

impl OnOff {
    /// `ON` and `OFF`.
    pub const POWER: Self = Self::Words { on: "ON", off: "OFF" };

    /// `online` and `offline`.
    pub const ONLINE: Self = Self::Words {
        on: "online",
        off: "offline",
    };

    /// Both spellings, on and off; none of those that Home Assistant expects, `ON` and `OFF`.
    pub(crate) fn unusual(self) -> [Option<Value>; 2] {
        match self {
            Self::POWER => [None, None],
            Self::Booleans => [true, false].map(|is| Some(is.into())),
            Self::Words { on, off } => [on, off].map(|word| Some(word.into())),
        }
    }
}

/// The texts that a select, an enum sensor or an event can have: at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Options(Vec<String>);

impl Options {
    /// The first one and the others, in the order in which they are shown.
    pub fn of<T: Into<String>>(first: T, others: impl IntoIterator<Item = T>) -> Self {
        let others = others.into_iter().map(Into::into);
        Self(std::iter::once(first.into()).chain(others).collect())
    }
}
