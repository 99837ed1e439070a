//! The energy counters of all outlets, shared by the workers that read the meters and the device owner that saves them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::counter::{Counters, EnergyCounter};
use crate::domain::energy_history::EnergyHistory;
use planner::DeviceId;
use planner::units::MilliWattHours;

/// Accounts by outlet, as they are saved: the key is `device/position`, which stays when an outlet is renamed.
pub type EnergyCounters = BTreeMap<String, EnergyCounter>;

/// The counters. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct EnergyTotals {
    counters: Arc<Mutex<EnergyCounters>>,
    history: EnergyHistory,
}

impl EnergyTotals {
    /// With the counters of an earlier run.
    pub fn new(kept: EnergyCounters, history: EnergyHistory) -> Self {
        let counters = Arc::new(Mutex::new(kept));
        Self { counters, history }
    }

    /// Takes the total of an outlet for its history.
    pub fn record(&self, hardware: &str, position: u8, total: MilliWattHours, at: Timestamp) {
        self.history.read(hardware, position, total, at);
    }

    /// Takes a reading of an outlet and returns its total. `meter` is the device's own id of it.
    pub fn read(
        &self,
        device: &DeviceId,
        position: u8,
        meter: &str,
        shown: Counters,
        now: Timestamp,
    ) -> MilliWattHours {
        let mut counters = self.lock();
        let counter = counters
            .entry(key(device, position))
            .or_insert_with(|| EnergyCounter::new(meter, now));
        counter.read(meter, shown, now)
    }

    /// The total of an outlet, if it is that of this meter; `None` if it was never read.
    pub fn of(&self, device: &DeviceId, position: u8, meter: &str) -> Option<MilliWattHours> {
        self.lock().get(&key(device, position))?.total_of(meter)
    }

    /// Whether a device was ever seen to measure voltage and current.
    pub fn measures_voltage(&self, device: &DeviceId) -> bool {
        let prefix = prefix(device);
        let counters = self.lock();
        let mut own = counters.iter().filter(|(key, _)| key.starts_with(&prefix));
        own.any(|(_, counter)| counter.counts_since_restart())
    }

    /// A device has another id: its totals go on.
    pub fn rename(&self, before: &DeviceId, now: &DeviceId) {
        let (before, now) = (prefix(before), prefix(now));
        let mut counters = self.lock();
        let renamed = counters
            .extract_if(.., |key, _| key.starts_with(&before))
            .collect::<Vec<_>>();
        for (key, counter) in renamed {
            let position = key.get(before.len()..).unwrap_or_default();
            counters.insert(format!("{now}{position}"), counter);
        }
    }

    /// A device turned out not to measure voltage and current.
    pub fn forget_voltage(&self, device: &DeviceId) {
        let prefix = prefix(device);
        for (_, counter) in self.lock().iter_mut().filter(|(key, _)| key.starts_with(&prefix)) {
            counter.forget_since_restart();
        }
    }

    /// All counters, for the state file.
    pub fn counters(&self) -> EnergyCounters {
        self.lock().clone()
    }

    /// Held for a few instructions at a time, never over an await.
    fn lock(&self) -> MutexGuard<'_, EnergyCounters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(device: &DeviceId, position: u8) -> String {
    format!("{}{position}", prefix(device))
}

/// What the keys of a device's outlets begin with.
fn prefix(device: &DeviceId) -> String {
    format!("{device}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_measured_voltage_is_known_after_a_restart() {
        let (strip, other): (DeviceId, DeviceId) = ("mats".parse().unwrap(), "mats-2".parse().unwrap());
        let totals = EnergyTotals::default();
        let live = Counters {
            month: None,
            since_restart: Some(MilliWattHours::new(5)),
        };
        for (device, position) in [(&strip, 1), (&strip, 2), (&other, 1)] {
            totals.read(device, position, "meter", live, Timestamp::UNIX_EPOCH);
        }
        let totals = EnergyTotals::new(totals.counters(), EnergyHistory::default());
        assert!(totals.measures_voltage(&strip));
        assert!(!totals.measures_voltage(&"mat".parse().unwrap()));
        totals.forget_voltage(&strip);
        assert!(!totals.measures_voltage(&strip));
        assert!(totals.measures_voltage(&other));
        assert_eq!(totals.counters().len(), 3, "the totals stay");
    }

    #[test]
    fn the_total_goes_on_under_a_new_id() {
        let [old, new, other] = ["mats", "heater", "mats-2"].map(|id| id.parse::<DeviceId>().unwrap());
        let totals = EnergyTotals::default();
        let shown = Counters {
            month: None,
            since_restart: None,
        };
        for device in [&old, &other] {
            totals.read(device, 2, "meter", shown, Timestamp::UNIX_EPOCH);
        }
        totals.rename(&old, &new);
        assert!(totals.of(&old, 2, "meter").is_none() && totals.of(&new, 2, "meter").is_some());
        assert!(totals.of(&other, 2, "meter").is_some());
    }
}
