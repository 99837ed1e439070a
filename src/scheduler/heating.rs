//! What a command to the thermostat of a group makes of the override of its outlets.

use planner::{
    Now,
    overrides::{Lifetime, Origin, Override, OverrideState},
    sensor::{Scale, Temperature},
    setpoint::Setpoint,
    thermostat::{Hold, Preset, Thermostat, ThermostatMode},
};

use crate::domain::heating::{HeatingChange, Tenths};

/// What a command leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeatingOutcome {
    /// Back to the schedules.
    Auto,
    /// Nothing changes.
    Unchanged,
    /// This override.
    Held(Override),
}

/// A thermostat as a command finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeatingState<'a> {
    /// The thermostat.
    pub(super) thermostat: &'a Thermostat,
    /// What it holds now.
    pub(super) target: Option<Setpoint>,
    /// The override of its outlets.
    pub(super) overridden: Option<Override>,
    /// The moment.
    pub(super) now: Now,
}

impl HeatingState<'_> {
    /// What a command leads to.
    ///
    /// # Errors
    /// What is wrong with it, as text.
    pub(super) fn change(
        &self,
        change: HeatingChange,
        lifetime: Option<Lifetime>,
    ) -> Result<HeatingOutcome, String> {
        let hold = self.overridden.and_then(|found| found.state().hold());
        let (new, usual) = match change {
            HeatingChange::Mode(ThermostatMode::Auto, _) => return Ok(HeatingOutcome::Auto),
            HeatingChange::Preset(Preset::None) => {
                let is_preset = matches!(hold, Some(Hold::Away | Hold::Boost(_)));
                return Ok(if is_preset {
                    HeatingOutcome::Auto
                } else {
                    HeatingOutcome::Unchanged
                });
            }
            HeatingChange::Mode(ThermostatMode::Off, _) => (Hold::Off, Lifetime::Hold),
            HeatingChange::Mode(ThermostatMode::Heat, target) => {
                let target = target.map(|target| self.setpoint(target)).transpose()?;
                let usual = match hold {
                    Some(Hold::Target(target) | Hold::Heat(target)) => target,
                    _ => self.thermostat.target,
                };
                (Hold::Heat(target.unwrap_or(usual)), Lifetime::Hold)
            }
            HeatingChange::Preset(Preset::Away) => (Hold::Away, Lifetime::Hold),
            HeatingChange::Preset(Preset::Boost) => (
                Hold::Boost(self.boosted(hold)),
                Lifetime::For(Thermostat::BOOST_FOR),
            ),
            HeatingChange::Target(target) => {
                let target = self.setpoint(target)?;
                let new = match hold {
                    Some(Hold::Heat(_)) => Hold::Heat(target),
                    _ => Hold::Target(target),
                };
                // One target in place of another ends when that would.
                if let (Some(Hold::Target(_) | Hold::Heat(_) | Hold::Boost(_)), Some(found), None) =
                    (hold, self.overridden, lifetime)
                {
                    let state = OverrideState::Thermostat(new);
                    return Ok(HeatingOutcome::Held(found.with(state)));
                }
                (new, Lifetime::UntilNextSchedule)
            }
        };
        let state = OverrideState::Thermostat(new);
        Override::new(state, lifetime.unwrap_or(usual), Origin::Command, self.now)
            .map(HeatingOutcome::Held)
            .map_err(|error| error.to_string())
    }

    fn scale(&self) -> Scale {
        self.thermostat.target.scale()
    }

    fn setpoint(&self, target: Tenths) -> Result<Setpoint, String> {
        let scale = self.scale();
        let setpoint = Setpoint::new(target.degrees(), scale);
        if Thermostat::TARGETS.contains(&setpoint.temperature().celsius()) {
            return Ok(setpoint);
        }
        let [from, to] = [Thermostat::TARGETS.start(), Thermostat::TARGETS.end()]
            .map(|celsius| scale.degrees(Temperature::from_celsius(*celsius)));
        Err(format!(
            "expected a target from {from} to {to} {scale}, not {setpoint}"
        ))
    }

    /// A second boost does not add to the first.
    fn boosted(&self, hold: Option<Hold>) -> Setpoint {
        if let Some(Hold::Boost(target)) = hold {
            return target;
        }
        let raised = self
            .target
            .unwrap_or(self.thermostat.target)
            .raised(Thermostat::BOOST);
        let highest = Temperature::from_celsius(*Thermostat::TARGETS.end());
        if raised.temperature() > highest {
            return Setpoint::new(self.scale().degrees(highest), self.scale());
        }
        raised
    }
}
