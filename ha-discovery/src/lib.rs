//! Typed payloads for Home Assistant's MQTT *device discovery*: one retained payload per device on
//! `<prefix>/device/<node>/config`, which announces all its entities at once.
//!
//! The crate is pure: values in, JSON out. It follows the schemas of Home Assistant's MQTT integration
//! (`homeassistant/components/mqtt/schemas.py` and the platform files beside it, read in 2026.11.0;
//! everything but [`Layout::ChildDevices`] is accepted since 2024.11) and makes what they reject hard to
//! write: a sensor with the category `config`, an unknown unit for a device class, a name left out
//! where nothing could stand in for it, an entity without a unique id.
//!
//! ```
//! use ha_discovery::{Device, DevicePayload, EntityName, Key, NodeId, OnOff, Origin, State, Switch};
//!
//! let node: NodeId = "tapo2mqtt_heater".parse()?;
//! let mut payload = DevicePayload::new(node, Device::new("Heater"), Origin::new("tapo2mqtt"));
//! let state = State::json_key("tapo2mqtt/heater", "state");
//! let switch = Switch::new(EntityName::Main, state, OnOff::POWER, "tapo2mqtt/heater/set");
//! payload.components.insert(Key::literal("switch"), switch.into());
//! assert!(payload.to_json().contains(r#""uniq_id":"tapo2mqtt_heater_switch""#));
//! # Ok::<(), ha_discovery::IdentityError>(())
//! ```

mod abbreviation;
mod class;
mod climate;
mod component;
mod control;
mod device;
mod entity;
mod identity;
mod payload;
mod published;
mod show;
mod template;

pub use abbreviation::written_out;
pub use class::{BinarySensorClass, ButtonClass, EventClass, NumberClass, SensorClass, SwitchClass};
pub use climate::{Climate, ClimateKeys, TargetRange};
pub use component::{Component, Platform};
pub use control::{Button, Light, Number, NumberRange, Select, Switch, Text};
pub use device::{Availability, Device, Origin};
pub use entity::{Command, EntityName, OnOff, Options, State};
pub use identity::{IdentityError, Key, Link, NodeId};
pub use payload::{Child, DevicePayload, Layout, StateKey};
pub use published::Published;
pub use show::{BinarySensor, Event, EventTemplate, Sensor, Update};
pub use template::{CommandTemplate, Template};

/// The level below the prefix of the birth and last will messages of Home Assistant: `homeassistant/status`.
pub const STATUS_LEVEL: &str = "status";

/// The birth payload on the status topic: Home Assistant has started and listens. Not retained.
pub const BIRTH_PAYLOAD: &str = "online";

/// Longest state text that Home Assistant stores is 255 characters; texts are cut before that.
pub const STATE_TEXT_MAX: usize = 250;
