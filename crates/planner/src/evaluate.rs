//! Evaluates a condition: thresholds with hysteresis, the minimum dwell, and what cannot be known.

use serde::{Deserialize, Serialize};

use super::{
    Now, SensorId, Steady,
    condition::{BlackIce, Bound, Condition, Test},
    readings::{Known, Readings},
    sensor::{SensorSpec, SensorValue, Temperature, Unit},
};

/// The result of a condition now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionResult {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// A sensor it needs is stale.
    Stale,
    /// A sensor it needs has published nothing since the bridge started.
    NoValue,
}

/// What a condition remembers between two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionMemory {
    held: bool,
    /// `None`: it has not changed since it was first asked.
    changed: Option<Steady>,
}

/// An answer, what to remember for the next question, and when time alone may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluation {
    /// The result.
    pub answer: ConditionResult,
    /// What to hand in next time.
    pub memory: Option<ConditionMemory>,
    /// A value becomes stale, or the dwell ends.
    pub wake: Option<Steady>,
}

/// The sensors at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Sensors<'a> {
    /// Their units and how long a value counts.
    pub specs: &'a [SensorSpec],
    /// Their values.
    pub readings: &'a Readings,
    /// The moment.
    pub now: Now,
}

/// Evaluates a condition. `running` takes the place of a memory that is not there yet: with the outlets on after a
/// restart, a value between the two thresholds goes on holding.
pub fn evaluate(
    condition: &Condition,
    sensors: Sensors<'_>,
    memory: Option<ConditionMemory>,
    running: bool,
) -> Evaluation {
    let was = memory.map_or(running, |memory| memory.held);
    let change = sensors.next_change(&condition.test);
    let holds = match sensors.test(&condition.test, was) {
        Ok(holds) => holds,
        Err(unknown) => {
            return Evaluation {
                answer: unknown,
                memory,
                wake: change,
            };
        }
    };
    let (memory, dwell) = settle(memory, holds, condition, sensors.now.steady);
    Evaluation {
        answer: if memory.held {
            ConditionResult::Holds
        } else {
            ConditionResult::Fails
        },
        memory: Some(memory),
        wake: change.into_iter().chain(dwell).min(),
    }
}

/// Whether a condition has surely the same result as before: its sensors have values, and no change waits for the dwell.
pub fn is_settled(condition: &Condition, sensors: Sensors<'_>, memory: Option<ConditionMemory>) -> bool {
    memory.is_some_and(|memory| sensors.test(&condition.test, memory.held) == Ok(memory.held))
}

/// Lets an answer change only after the dwell; also returns when a pending change is due.
fn settle(
    memory: Option<ConditionMemory>,
    holds: bool,
    condition: &Condition,
    now: Steady,
) -> (ConditionMemory, Option<Steady>) {
    let Some(before) = memory else {
        let first = ConditionMemory {
            held: holds,
            changed: None,
        };
        return (first, None);
    };
    if before.held == holds {
        return (before, None);
    }
    if let (Some(dwell), Some(changed)) = (condition.dwell, before.changed) {
        let due = changed.after(dwell.length());
        if now < due {
            return (before, Some(due));
        }
    }
    let changed = ConditionMemory {
        held: holds,
        changed: Some(now),
    };
    (changed, None)
}

impl Sensors<'_> {
    fn test(&self, test: &Test, was: bool) -> Result<bool, ConditionResult> {
        match test {
            Test::Number {
                sensor,
                bound,
                limit,
                hysteresis,
            } => {
                let (value, _) = self.number(sensor)?;
                Ok(within(value, *bound, *limit, *hysteresis, was))
            }
            Test::Is { sensor, value } => Ok(self.boolean(sensor)? == *value),
            Test::BlackIce(ice) => self.black_ice(ice, was),
        }
    }

    /// All three must hold; one that fails decides, whatever is unknown about the others.
    fn black_ice(&self, ice: &BlackIce, was: bool) -> Result<bool, ConditionResult> {
        let limits = &ice.thresholds;
        let air = self.temperature(&ice.temperature);
        let dew_point = self.temperature(&ice.dew_point);
        let at_most = |value: f64, limit: f64| within(value, Bound::AtMost, limit, limits.hysteresis, was);
        let cold = air.map(|air| at_most(air.celsius(), limits.temperature_at_most));
        let close = air.and_then(|air| Ok(at_most(air.kelvin_above(dew_point?), limits.spread_at_most)));
        let humid = self.number(&ice.humidity).map(|(humidity, _)| {
            let (limit, hysteresis) = (limits.humidity_at_least, limits.humidity_hysteresis);
            within(humidity, Bound::AtLeast, limit, hysteresis, was)
        });
        all([cold, close, humid])
    }

    fn value(&self, sensor: &SensorId) -> Result<(SensorValue, &Unit), ConditionResult> {
        let spec = self.spec(sensor).ok_or(ConditionResult::NoValue)?;
        match self.readings.of(spec, self.now) {
            Known::Value(value, _) => Ok((value, &spec.unit)),
            Known::Stale(_) => Err(ConditionResult::Stale),
            Known::Never => Err(ConditionResult::NoValue),
        }
    }

    /// A boolean where a number is needed is as good as no fresh value.
    fn number(&self, sensor: &SensorId) -> Result<(f64, &Unit), ConditionResult> {
        match self.value(sensor)? {
            (SensorValue::Number(number), unit) => Ok((number, unit)),
            (SensorValue::Boolean(_), _) => Err(ConditionResult::Stale),
        }
    }

    fn boolean(&self, sensor: &SensorId) -> Result<bool, ConditionResult> {
        self.value(sensor)?.0.boolean().ok_or(ConditionResult::Stale)
    }

    fn temperature(&self, sensor: &SensorId) -> Result<Temperature, ConditionResult> {
        match self.number(sensor)? {
            (reading, Unit::Temperature(scale)) => Ok(scale.temperature(reading)),
            _ => Err(ConditionResult::Stale),
        }
    }

    fn spec(&self, sensor: &SensorId) -> Option<&SensorSpec> {
        self.specs.iter().find(|spec| spec.id == *sensor)
    }

    fn next_change(&self, test: &Test) -> Option<Steady> {
        let specs = test.sensors().into_iter().filter_map(|id| self.spec(id));
        specs
            .filter_map(|spec| self.readings.next_change(spec, self.now))
            .min()
    }
}

/// A condition that holds goes on holding until the value is more than the hysteresis past the limit.
fn within(value: f64, bound: Bound, limit: f64, hysteresis: f64, was: bool) -> bool {
    let slack = if was { hysteresis } else { 0.0 };
    match bound {
        Bound::AtMost => value <= limit + slack,
        Bound::AtLeast => value >= limit - slack,
    }
}

fn all<const N: usize>(parts: [Result<bool, ConditionResult>; N]) -> Result<bool, ConditionResult> {
    if parts.contains(&Ok(false)) {
        return Ok(false);
    }
    parts.into_iter().try_fold(true, |_, part| part)
}

#[cfg(test)]
mod tests;
