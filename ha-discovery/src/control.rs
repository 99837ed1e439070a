//! The platforms that take commands. Each type has only the keys that its platform accepts.

use serde::Serialize;
use serde_json::Value;

use crate::{
    class::{ButtonClass, NumberClass, SwitchClass},
    component::{entity_options, setting},
    entity::{Category, Command, Entity, EntityName, Name, OnOff, Options, State},
    template::Template,
};

entity_options!(Button, Category);
entity_options!(Light, Category);
entity_options!(Number, Category);
entity_options!(Select, Category);
entity_options!(Switch, Category);
entity_options!(Text, Category);
setting!(Button);
setting!(Number);
setting!(Select);
setting!(Switch);
setting!(Text);

/// Something to turn on and off, with `ON` and `OFF`. Its state has its own spelling where it differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Switch {
    #[serde(flatten)]
    pub(crate) entity: Entity<Category>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_class: Option<SwitchClass>,
    #[serde(flatten)]
    pub(crate) state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_on: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_off: Option<Value>,
    #[serde(flatten)]
    command: Command,
}

impl Switch {
    /// A switch whose state spells on and off like `states`.
    pub fn new(
        name: impl Into<EntityName>,
        state: State,
        states: OnOff,
        command: impl Into<Command>,
    ) -> Self {
        let [state_on, state_off] = states.unusual();
        Self {
            entity: Entity::new(name.into()),
            device_class: None,
            state,
            state_on,
            state_off,
            command: command.into(),
        }
    }

    /// What it switches.
    #[must_use]
    pub fn class(mut self, class: SwitchClass) -> Self {
        self.device_class = Some(class);
        self
    }
}

/// A lamp, whose state and commands are JSON objects with `state` and, where it can be dimmed, `brightness` in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Light {
    #[serde(flatten)]
    pub(crate) entity: Entity<Category>,
    schema: &'static str,
    supported_color_modes: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    brightness_scale: Option<u8>,
    state_topic: String,
    command_topic: String,
    #[serde(skip)]
    pub(crate) state: State,
}

impl Light {
    /// A light that can be dimmed, or only be switched.
    pub fn new(
        name: impl Into<EntityName>,
        dims: bool,
        state_topic: impl Into<String>,
        command_topic: impl Into<String>,
    ) -> Self {
        let state_topic = state_topic.into();
        let keys: &[(&str, &str)] = if dims {
            &[("state", "state"), ("brightness", "brightness")]
        } else {
            &[("state", "state")]
        };
        Self {
            entity: Entity::new(name.into()),
            schema: "json",
            supported_color_modes: [if dims { "brightness" } else { "onoff" }],
            brightness_scale: dims.then_some(100),
            state: State::new(&state_topic, Template::object(keys.iter().copied())),
            state_topic,
            command_topic: command_topic.into(),
        }
    }
}

/// Something to press.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Button {
    #[serde(flatten)]
    pub(crate) entity: Entity<Category>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_class: Option<ButtonClass>,
    command_topic: String,
    payload_press: String,
}

impl Button {
    /// Without a class. Pressing sends an empty JSON object; an empty payload would read like a retained
    /// topic that is cleared.
    pub fn new(name: impl Into<EntityName>, command_topic: impl Into<String>) -> Self {
        Self::bare(Name::from(name.into()), None, command_topic.into())
    }

    /// Named after its class.
    pub fn of_class(class: ButtonClass, command_topic: impl Into<String>) -> Self {
        Self::bare(
            Name::OfClass { label: class.label() },
            Some(class),
            command_topic.into(),
        )
    }

    /// Pressing sends this.
    #[must_use]
    pub fn pressing(mut self, payload: &Value) -> Self {
        self.payload_press = payload.to_string();
        self
    }

    fn bare(name: Name, device_class: Option<ButtonClass>, command_topic: String) -> Self {
        Self {
            entity: Entity::new(name),
            device_class,
            command_topic,
            payload_press: "{}".to_owned(),
        }
    }
}

/// One of several texts that can be set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Select {
    #[serde(flatten)]
    pub(crate) entity: Entity<Category>,
    options: Options,
    #[serde(flatten)]
    pub(crate) state: State,
    #[serde(flatten)]
    command: Command,
}

impl Select {
    /// A choice among `options`.
    pub fn new(
        name: impl Into<EntityName>,
        options: Options,
        state: State,
        command: impl Into<Command>,
    ) -> Self {
        Self {
            entity: Entity::new(name.into()),
            options,
            state,
            command: command.into(),
        }
    }
}

/// A text that can be set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Text {
    #[serde(flatten)]
    pub(crate) entity: Entity<Category>,
    min: u8,
    max: u8,
    #[serde(flatten)]
    pub(crate) state: State,
    #[serde(flatten)]
    command: Command,
}

impl Text {
    /// Of 1 to `max` characters.
    pub fn new(name: impl Into<EntityName>, max: u8, state: State, command: impl Into<Command>) -> Self {
        Self {
            entity: Entity::new(name.into()),
            min: 1,
            max,
            state,
            command: command.into(),
        }
    }
}

/// A number that can be set. A null state is unknown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Number {
    #[serde(flatten)]
    pub(crate) entity: Entity<Category>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_of_measurement: Option<&'static str>,
    #[serde(flatten)]
    range: NumberRange,
    mode: &'static str,
    #[serde(flatten)]
    pub(crate) state: State,
    #[serde(flatten)]
    command: Command,
}

impl Number {
    /// A number without a unit, typed into a box.
    pub fn new(
        name: impl Into<EntityName>,
        range: NumberRange,
        state: State,
        command: impl Into<Command>,
    ) -> Self {
        Self {
            entity: Entity::new(name.into()),
            device_class: None,
            unit_of_measurement: None,
            range,
            mode: "box",
            state,
            command: command.into(),
        }
    }

    /// What it sets, with its unit.
    #[must_use]
    pub fn class(mut self, class: NumberClass) -> Self {
        self.device_class = Some(class.name());
        self.unit_of_measurement = Some(class.unit());
        self
    }
}

/// The numbers that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NumberRange {
    min: f64,
    max: f64,
    step: f64,
}

impl NumberRange {
    /// From `min` to `max`, both included, in steps of at least 0.001. `None` when that is no range.
    pub fn new(min: f64, max: f64, step: f64) -> Option<Self> {
        let sound = min.is_finite() && max.is_finite() && step.is_finite() && min <= max && step >= 0.001;
        sound.then_some(Self { min, max, step })
    }
}
