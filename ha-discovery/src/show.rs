//! The platforms that only show. Each type has only the keys that its platform accepts.

use serde::Serialize;
use serde_json::Value;

use crate::{
    class::{BinarySensorClass, EventClass, SensorClass, StateClass},
    component::entity_options,
    entity::{Entity, EntityName, Name, OnOff, Options, ReadOnlyCategory, State},
    template::Template,
};

entity_options!(BinarySensor, ReadOnlyCategory);
entity_options!(Event, ReadOnlyCategory);
entity_options!(Sensor, ReadOnlyCategory);
entity_options!(Update, ReadOnlyCategory);

/// Shows on or off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BinarySensor {
    #[serde(flatten)]
    pub(crate) entity: Entity<ReadOnlyCategory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_class: Option<BinarySensorClass>,
    #[serde(flatten)]
    pub(crate) state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_on: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_off: Option<Value>,
}

impl BinarySensor {
    /// Named after its class.
    pub fn of_class(class: BinarySensorClass, state: State, states: OnOff) -> Self {
        Self {
            device_class: Some(class),
            ..Self::bare(Name::OfClass { label: class.label() }, state, states)
        }
    }

    /// Without a class.
    pub fn new(name: impl Into<EntityName>, state: State, states: OnOff) -> Self {
        Self::bare(Name::from(name.into()), state, states)
    }

    fn bare(name: Name, state: State, states: OnOff) -> Self {
        let [payload_on, payload_off] = states.unusual();
        Self {
            entity: Entity::new(name),
            device_class: None,
            state,
            payload_on,
            payload_off,
        }
    }
}

/// Shows a value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sensor {
    #[serde(flatten)]
    pub(crate) entity: Entity<ReadOnlyCategory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_class: Option<StateClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_of_measurement: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggested_display_precision: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
    #[serde(flatten)]
    pub(crate) state: State,
    #[serde(flatten)]
    attributes: Option<Attributes>,
}

/// What a state has beside its value.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Attributes {
    #[serde(rename = "json_attributes_topic")]
    topic: String,
    #[serde(rename = "json_attributes_template")]
    template: Template,
}

impl Sensor {
    /// A measured value, named after its class.
    pub fn of_class(class: SensorClass, state: State) -> Self {
        Self {
            device_class: Some(class.name()),
            state_class: class.state_class(),
            unit_of_measurement: class.unit(),
            ..Self::bare(Name::OfClass { label: class.label() }, state)
        }
    }

    /// A text of at most [`STATE_TEXT_MAX`](crate::STATE_TEXT_MAX) characters, or a count, of which Home Assistant keeps no
    /// statistics.
    pub fn plain(name: impl Into<EntityName>, state: State) -> Self {
        Self::bare(Name::from(name.into()), state)
    }

    /// How much there is of something that no class describes, such as what is left of a budget.
    pub fn amount(name: impl Into<EntityName>, unit: &'static str, state: State) -> Self {
        Self {
            state_class: Some(StateClass::Measurement),
            unit_of_measurement: Some(unit),
            ..Self::bare(Name::from(name.into()), state)
        }
    }

    /// One of several texts.
    pub fn options(name: impl Into<EntityName>, options: Options, state: State) -> Self {
        Self {
            device_class: Some("enum"),
            options: Some(options),
            ..Self::bare(Name::from(name.into()), state)
        }
    }

    /// How many decimal places are shown.
    #[must_use]
    pub fn decimals(mut self, places: u8) -> Self {
        self.suggested_display_precision = Some(places);
        self
    }

    /// Keys of the JSON message on a topic that its state has as attributes.
    #[must_use]
    pub fn attributes(mut self, topic: impl Into<String>, keys: &[&str]) -> Self {
        self.attributes = Some(Attributes {
            topic: topic.into(),
            template: Template::object(keys.iter().map(|key| (*key, *key))).or_no_keys(),
        });
        self
    }

    fn bare(name: Name, state: State) -> Self {
        Self {
            entity: Entity::new(name),
            device_class: None,
            state_class: None,
            unit_of_measurement: None,
            suggested_display_precision: None,
            options: None,
            state,
            attributes: None,
        }
    }
}

/// The installed and the newest version of something. It does not install.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Update {
    #[serde(flatten)]
    pub(crate) entity: Entity<ReadOnlyCategory>,
    device_class: &'static str,
    #[serde(flatten)]
    pub(crate) state: State,
}

impl Update {
    /// The firmware of a device. Its state is a JSON object with `installed_version`, `latest_version` and, where there is
    /// one, `release_summary`.
    pub fn firmware(state: State) -> Self {
        Self {
            entity: Entity::new(Name::OfClass { label: "Firmware" }),
            device_class: "firmware",
            state,
        }
    }
}

/// Something that happened. Messages on its topic are not retained: Home Assistant ignores those.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    #[serde(flatten)]
    pub(crate) entity: Entity<ReadOnlyCategory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_class: Option<EventClass>,
    #[serde(rename = "event_types")]
    types: Options,
    #[serde(flatten)]
    pub(crate) state: State,
}

impl Event {
    /// An event of one of `types`, taken from the key `type_key` of the JSON message; the other keys
    /// become its attributes. `only_when` keeps it to messages in which keys have certain texts.
    pub fn new(
        name: impl Into<EntityName>,
        types: Options,
        topic: impl Into<String>,
        template: EventTemplate<'_>,
    ) -> Self {
        Self {
            entity: Entity::new(name.into()),
            device_class: None,
            types,
            state: State::new(topic, template.build()),
        }
    }

    /// What it is about.
    #[must_use]
    pub fn class(mut self, class: EventClass) -> Self {
        self.device_class = Some(class);
        self
    }
}

/// Which parts of a JSON message make an event.
#[derive(Debug, Clone, Copy)]
pub struct EventTemplate<'a> {
    /// The key that holds the type of the event.
    pub type_key: &'a str,
    /// The keys that become its attributes.
    pub attributes: &'a [&'a str],
    /// Keys and the texts that they must have; other messages are ignored.
    pub only_when: &'a [(&'a str, &'a str)],
}

impl EventTemplate<'_> {
    fn build(self) -> Template {
        let kind = ("event_type", self.type_key);
        let attributes = self.attributes.iter().map(|key| (*key, *key));
        let event = Template::object(std::iter::once(kind).chain(attributes));
        let conditions = self.only_when.iter();
        conditions.fold(event, |event, (key, value)| event.only_when(key, value))
    }
}
