//! `[energy]`: which changes of energy values are told.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    parse,
    reader::{Read, Table},
};
use planner::units::{MilliWattHours, MilliWatts};

/// When power and energy are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Energy {
    /// Power that changed by so much, 0 to 1000 W.
    pub power_step: MilliWatts,
    /// Energy that changed by so much, 0 to 10 kWh.
    pub energy_step: MilliWattHours,
    /// Smaller changes after so long, 10 s to 24 h.
    pub slowest: Duration,
}

impl Energy {
    pub(super) fn digest(&self) -> Value {
        json!({
            "power_step_w": self.power_step.watts(),
            "energy_step_kwh": self.energy_step.kilowatt_hours(),
            "slowest_s": self.slowest.as_secs_f64(),
        })
    }
}

pub(super) fn energy(table: &mut Table<'_>) -> Read<Energy> {
    let power_step = table.required("power_step", parse::number(0.0..=1000.0));
    let energy_step = table.required("energy_step", parse::number(0.0..=10.0));
    let slowest = Duration::from_secs(10)..=Duration::from_hours(24);
    let slowest = table.required("slowest", parse::duration(slowest));
    Ok(Energy {
        power_step: MilliWatts::from_decimal(power_step?),
        energy_step: MilliWattHours::from_kilowatt_hours(energy_step?),
        slowest: slowest?,
    })
}
