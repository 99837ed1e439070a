//! `[report]`: which changes of energy values are published.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    parse,
    reader::{Read, Table},
};
use planner::units::{MilliWattHours, MilliWatts};

/// When power and energy are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reporting {
    /// Power that changed by so much, 0 to 1000 W.
    pub power_change: MilliWatts,
    /// Energy that changed by so much, 0 to 10 kWh.
    pub energy_change: MilliWattHours,
    /// Smaller changes after so long, 10 s to 24 h.
    pub max_interval: Duration,
}

impl Reporting {
    pub(super) fn digest(&self) -> Value {
        json!({
            "power_change_w": self.power_change.watts(),
            "energy_change_kwh": self.energy_change.kilowatt_hours(),
            "max_interval_s": self.max_interval.as_secs_f64(),
        })
    }
}

pub(super) fn report(table: &mut Table<'_>) -> Read<Reporting> {
    let power_change = table.required("power_change", parse::number(0.0..=1000.0));
    let energy_change = table.required("energy_change", parse::number(0.0..=10.0));
    let max_interval = Duration::from_secs(10)..=Duration::from_hours(24);
    let max_interval = table.required("max_interval", parse::duration(max_interval));
    Ok(Reporting {
        power_change: MilliWatts::from_decimal(power_change?),
        energy_change: MilliWattHours::from_kilowatt_hours(energy_change?),
        max_interval: max_interval?,
    })
}
