//! What a thermostat has to do with one outlet.

use jiff::Timestamp;

use crate::{
    Power,
    overrides::OverrideState,
    sensor::{Scale, Temperature},
    setpoint::Setpoint,
    thermostat::{Goal, Lease, Thermostat},
};

/// What a thermostat has to do with one outlet, and what it goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThermostatPlan {
    /// What it has to do; `None` while an override switches the outlet itself.
    pub goal: Option<Goal>,
    /// The override in force.
    pub overridden: Option<OverrideState>,
    /// The temperature, if it is known, and the scale of the thermometer.
    pub room: Option<(Temperature, Scale)>,
    /// How long the outlet may be on without another reading; `None`: not at all.
    pub lease: Option<Lease>,
    /// When time alone changes any of this.
    pub(super) wake: Option<Timestamp>,
}

impl ThermostatPlan {
    /// What it holds.
    pub fn target(&self) -> Option<Setpoint> {
        self.goal?.target()
    }

    /// The same for people, who see no lease: it is another one with each reading.
    #[must_use]
    pub(super) fn shown(self) -> Self {
        Self {
            lease: None,
            wake: None,
            ..self
        }
    }

    /// Whether an outlet that should be in this state surely stays so at another temperature.
    pub fn is_settled(&self, thermostat: &Thermostat, room: Temperature, power: Power) -> bool {
        self.goal
            .is_none_or(|goal| thermostat.is_settled(goal, room, power))
    }
}
