//! A thermostat.

use serde::Serialize;

use crate::{
    component::entity_options,
    entity::{Category, Entity, EntityName, Options, State},
    template::Template,
};

entity_options!(Climate, Category);

/// A thermostat with a target temperature, which heats or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Climate {
    #[serde(flatten)]
    pub(crate) entity: Entity<Category>,
    #[serde(flatten)]
    pub(crate) parts: Box<ClimateStates>,
    temperature_command_topic: String,
    mode_command_topic: String,
    modes: Options,
    #[serde(flatten)]
    range: TargetRange,
    precision: f64,
    temperature_unit: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    presets: Option<Presets>,
}

/// What else a thermostat can be told. Home Assistant has `none` by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Presets {
    preset_modes: Options,
    preset_mode_command_topic: String,
    preset_mode_state_topic: String,
    #[serde(rename = "preset_mode_value_template")]
    template: Template,
}

/// Where its values come from: keys of the JSON object on one topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ClimateStates {
    #[serde(rename = "current_temperature_topic")]
    current_topic: String,
    #[serde(rename = "current_temperature_template")]
    current: Template,
    #[serde(rename = "temperature_state_topic")]
    target_topic: String,
    #[serde(rename = "temperature_state_template")]
    target: Template,
    mode_state_topic: String,
    #[serde(rename = "mode_state_template")]
    mode: Template,
    action_topic: String,
    #[serde(rename = "action_template")]
    action: Template,
}

impl ClimateStates {
    /// All of them.
    fn states(&self) -> [State; 4] {
        [&self.current, &self.target, &self.mode, &self.action]
            .map(|template| State::new(self.current_topic.clone(), template.clone()))
    }
}

/// The keys of the JSON object from which a thermostat is shown.
#[derive(Debug, Clone, Copy)]
pub struct ClimateKeys<'a> {
    /// What it measures.
    pub current: &'a str,
    /// What it is set to.
    pub target: &'a str,
    /// One of the modes.
    pub mode: &'a str,
    /// `heating`, `idle` or `off`.
    pub action: &'a str,
}

/// What a thermostat can be set to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TargetRange {
    #[serde(rename = "min_temp")]
    min: f64,
    #[serde(rename = "max_temp")]
    max: f64,
    #[serde(rename = "temp_step")]
    step: f64,
}

impl TargetRange {
    /// From `min` to `max`, both included. `None` when that is no range.
    pub fn new(min: f64, max: f64, step: f64) -> Option<Self> {
        let sound = min.is_finite() && max.is_finite() && min < max && step >= 0.1;
        sound.then_some(Self { min, max, step })
    }
}

impl Climate {
    /// A thermostat that is read from one topic. Its commands are bare values.
    pub fn new(
        name: impl Into<EntityName>,
        topic: &str,
        keys: ClimateKeys<'_>,
        (target, mode): (String, String),
        modes: Options,
        range: TargetRange,
    ) -> Self {
        let topic = || topic.to_owned();
        Self {
            entity: Entity::new(name.into()),
            parts: Box::new(ClimateStates {
                current_topic: topic(),
                current: Template::json_key(keys.current),
                target_topic: topic(),
                target: Template::json_key(keys.target),
                mode_state_topic: topic(),
                mode: Template::json_key(keys.mode),
                action_topic: topic(),
                action: Template::json_key(keys.action),
            }),
            temperature_command_topic: target,
            mode_command_topic: mode,
            modes,
            range,
            precision: 0.1,
            temperature_unit: "C",
            presets: None,
        }
    }

    /// Its temperatures are in degrees Fahrenheit.
    #[must_use]
    pub fn fahrenheit(mut self) -> Self {
        self.temperature_unit = "F";
        self
    }

    /// With presets beside `none`, a key of the same JSON object.
    #[must_use]
    pub fn presets(mut self, modes: Options, key: &str, command: String) -> Self {
        self.presets = Some(Presets {
            preset_modes: modes,
            preset_mode_command_topic: command,
            preset_mode_state_topic: self.parts.mode_state_topic.clone(),
            template: Template::json_key(key),
        });
        self
    }

    /// The states that it reads.
    pub(crate) fn states(&self) -> Vec<State> {
        let topic = &self.parts.current_topic;
        let presets = self.presets.iter();
        let presets = presets.map(|presets| State::new(topic.clone(), presets.template.clone()));
        self.parts.states().into_iter().chain(presets).collect()
    }
}
