//! What sensors say, and when they fall silent.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, warn};

use super::{Look, Scheduler, Wake};
use crate::domain::report::EventKind;
use planner::{
    SensorId, activity::BOOT_GRACE, period::after, readings::Known, rules::Rules, sensor::SensorSpec,
};

/// What was said about sensors already.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Why the last payload of a sensor had no value.
    errors: BTreeMap<SensorId, String>,
    silent: BTreeSet<SensorId>,
}

impl Watch {
    /// A sensor is another one now, or none.
    pub(super) fn forget(&mut self, sensor: &SensorId) {
        self.errors.remove(sensor);
        self.silent.remove(sensor);
    }
}

impl Scheduler {
    /// Reads what a topic said with each sensor that is on it.
    pub(super) fn sense(&mut self, topic: &str, payload: &[u8], look: Look) {
        let rules = self.book.rules.clone();
        for spec in rules.sensors.iter().filter(|spec| spec.topic == topic) {
            match spec.decode(payload) {
                Ok(value) => {
                    debug!(sensor = %spec.id, %value, "sensor");
                    self.watch.errors.remove(&spec.id);
                    self.book.readings.record(spec.id.clone(), value, look.now);
                }
                Err(error) => {
                    let why = error.to_string();
                    let before = self.watch.errors.insert(spec.id.clone(), why.clone());
                    if before.as_ref() != Some(&why) {
                        warn!(sensor = %spec.id, %topic, %why, "no value from this sensor; its last one counts until it is stale");
                    }
                }
            }
        }
    }

    /// Says once when a sensor that a schedule asks falls silent, and once when it speaks again.
    pub(super) fn watch_sensors(&mut self, look: Look, wake: &mut Wake) {
        let rules = self.book.rules.clone();
        let grace = after(self.book.listening_since, BOOT_GRACE);
        for spec in rules.sensors.iter().filter(|spec| is_asked(&rules, spec)) {
            let silent = match self.book.readings.of(spec, look.now) {
                Known::Value(_, stale) => {
                    wake.by(look.instant_of(stale));
                    false
                }
                Known::Never if look.now < grace => {
                    wake.by(look.instant_of(grace));
                    continue;
                }
                Known::Stale(_) | Known::Never => true,
            };
            let id = &spec.id;
            if silent && self.watch.silent.insert(id.clone()) {
                let message = format!("sensor {id} is silent: nothing on {} that counts", spec.topic);
                self.tell_event(EventKind::SensorStale, None, None, message, look);
            } else if !silent && self.watch.silent.remove(id) {
                let message = format!("sensor {id} speaks again");
                self.tell_event(EventKind::SensorBack, None, None, message, look);
            }
        }
    }
}

fn is_asked(rules: &Rules, spec: &SensorSpec) -> bool {
    let schedules = rules.groups.iter().flat_map(|group| &group.schedules);
    let mut conditions = schedules.flat_map(|schedule| &schedule.conditions);
    conditions.any(|condition| condition.test.sensors().contains(&&spec.id))
}
