//! An entity of any platform.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    climate::Climate,
    control::{Button, Light, Number, Select, Switch, Text},
    entity::{Name, State},
    show::{BinarySensor, Event, Sensor, Update},
};

/// The platforms of Home Assistant that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Shows on or off.
    BinarySensor,
    /// Something to press.
    Button,
    /// A thermostat.
    Climate,
    /// Something that happened.
    Event,
    /// A lamp.
    Light,
    /// A number that can be set.
    Number,
    /// One of several texts that can be set.
    Select,
    /// Shows a value.
    Sensor,
    /// Something to turn on and off.
    Switch,
    /// A text that can be set.
    Text,
    /// The versions of something.
    Update,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BinarySensor => "binary_sensor",
            Self::Button => "button",
            Self::Climate => "climate",
            Self::Event => "event",
            Self::Light => "light",
            Self::Number => "number",
            Self::Select => "select",
            Self::Sensor => "sensor",
            Self::Switch => "switch",
            Self::Text => "text",
            Self::Update => "update",
        })
    }
}

/// One entity.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)] // Each variant is its type.
pub enum Component {
    BinarySensor(BinarySensor),
    Button(Button),
    Climate(Climate),
    Event(Event),
    Light(Light),
    Number(Number),
    Select(Select),
    Sensor(Sensor),
    Switch(Switch),
    Text(Text),
    Update(Update),
}

impl Component {
    /// Its platform.
    pub fn platform(&self) -> Platform {
        match self {
            Self::BinarySensor(_) => Platform::BinarySensor,
            Self::Button(_) => Platform::Button,
            Self::Climate(_) => Platform::Climate,
            Self::Event(_) => Platform::Event,
            Self::Light(_) => Platform::Light,
            Self::Number(_) => Platform::Number,
            Self::Select(_) => Platform::Select,
            Self::Sensor(_) => Platform::Sensor,
            Self::Switch(_) => Platform::Switch,
            Self::Text(_) => Platform::Text,
            Self::Update(_) => Platform::Update,
        }
    }

    /// Where its values come from: a button has none, a thermostat several.
    pub fn states(&self) -> Vec<State> {
        match self {
            Self::BinarySensor(it) => vec![it.state.clone()],
            Self::Button(_) => Vec::new(),
            Self::Climate(it) => it.states(),
            Self::Event(it) => vec![it.state.clone()],
            Self::Light(it) => vec![it.state.clone()],
            Self::Number(it) => vec![it.state.clone()],
            Self::Select(it) => vec![it.state.clone()],
            Self::Sensor(it) => vec![it.state.clone()],
            Self::Switch(it) => vec![it.state.clone()],
            Self::Text(it) => vec![it.state.clone()],
            Self::Update(it) => vec![it.state.clone()],
        }
    }

    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::BinarySensor(it) => &it.entity.name,
            Self::Button(it) => &it.entity.name,
            Self::Climate(it) => &it.entity.name,
            Self::Event(it) => &it.entity.name,
            Self::Light(it) => &it.entity.name,
            Self::Number(it) => &it.entity.name,
            Self::Select(it) => &it.entity.name,
            Self::Sensor(it) => &it.entity.name,
            Self::Switch(it) => &it.entity.name,
            Self::Text(it) => &it.entity.name,
            Self::Update(it) => &it.entity.name,
        }
    }
}

/// The optional settings that every platform accepts.
macro_rules! entity_options {
    ($name:ident, $category:ident) => {
        impl $name {
            /// Gives it a name instead of the one of its device class.
            #[must_use]
            pub fn named(mut self, name: impl Into<$crate::entity::EntityName>) -> Self {
                self.entity.name = $crate::entity::Name::from(name.into());
                self
            }

            /// An icon of the Material Design set, without its `mdi:`.
            #[must_use]
            pub fn icon(mut self, icon: &str) -> Self {
                self.entity.icon = Some(format!("mdi:{icon}"));
                self
            }

            /// Shown among the diagnostics.
            #[must_use]
            pub fn diagnostic(mut self) -> Self {
                self.entity.category = Some($crate::entity::$category::Diagnostic);
                self
            }

            /// Off until the user enables it.
            #[must_use]
            pub fn off_by_default(mut self) -> Self {
                self.entity.enabled_by_default = Some($crate::entity::Disabled);
                self
            }

            /// Available while these topics say so, whether its device is or not; always, if there are none.
            #[must_use]
            pub fn available_with(
                mut self,
                topics: impl IntoIterator<Item = $crate::device::Availability>,
            ) -> Self {
                self.entity.availability = Some(topics.into_iter().collect());
                self
            }
        }

        impl From<$name> for $crate::component::Component {
            fn from(it: $name) -> Self {
                Self::$name(it)
            }
        }
    };
}

/// For the platforms whose entities can be settings.
macro_rules! setting {
    ($name:ident) => {
        impl $name {
            /// Shown among the settings.
            #[must_use]
            pub fn setting(mut self) -> Self {
                self.entity.category = Some($crate::entity::Category::Config);
                self
            }
        }
    };
}

pub(crate) use {entity_options, setting};
