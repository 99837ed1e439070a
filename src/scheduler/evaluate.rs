//! Asks a condition: thresholds with hysteresis, the minimum dwell, and what cannot be known.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    condition::{BlackIce, Bound, Condition, Test},
    ids::SensorId,
    period::after,
    readings::{Known, Readings},
    sensor::{SensorSpec, SensorValue, Temperature, Unit},
};

/// What a condition says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// A sensor it needs is stale.
    Stale,
    /// A sensor it needs has said nothing since the bridge started.
    Unheard,
}

/// What a condition remembers between two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionMemory {
    held: bool,
    /// `None`: it has not changed since it was first asked.
    changed: Option<Timestamp>,
}

/// An answer, what to remember for the next question, and when time alone may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluation {
    /// What it says.
    pub answer: Answer,
    /// What to hand in next time.
    pub memory: Option<ConditionMemory>,
    /// A value becomes stale, or the dwell ends.
    pub wake: Option<Timestamp>,
}

/// The sensors at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Sensors<'a> {
    /// Their units and how long a value counts.
    pub specs: &'a [SensorSpec],
    /// What they said.
    pub readings: &'a Readings,
    /// The instant.
    pub now: Timestamp,
}

/// Asks a condition. `running` takes the place of a memory that is not there yet: with the outlets on after a
/// restart, a value between the two thresholds goes on holding.
pub fn evaluate(
    condition: &Condition,
    sensors: Sensors<'_>,
    memory: Option<ConditionMemory>,
    running: bool,
) -> Evaluation {
    let was = memory.map_or(running, |memory| memory.held);
    let stale = sensors.first_stale(&condition.test);
    let holds = match sensors.test(&condition.test, was) {
        Ok(holds) => holds,
        Err(unknown) => {
            return Evaluation {
                answer: unknown,
                memory,
                wake: stale,
            };
        }
    };
    let (memory, dwell) = settle(memory, holds, condition, sensors.now);
    Evaluation {
        answer: if memory.held { Answer::Holds } else { Answer::Fails },
        memory: Some(memory),
        wake: stale.into_iter().chain(dwell).min(),
    }
}

/// Lets an answer change only after the dwell; also says when a change that waits is due.
fn settle(
    memory: Option<ConditionMemory>,
    holds: bool,
    condition: &Condition,
    now: Timestamp,
) -> (ConditionMemory, Option<Timestamp>) {
    let Some(mut before) = memory else {
        let first = ConditionMemory {
            held: holds,
            changed: None,
        };
        return (first, None);
    };
    // An instant in the future is left from before the clock was set back; it must not hold for longer.
    before.changed = before.changed.map(|changed| changed.min(now));
    if before.held == holds {
        return (before, None);
    }
    if let (Some(dwell), Some(changed)) = (condition.dwell, before.changed) {
        let due = after(changed, dwell.length());
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
    fn test(&self, test: &Test, was: bool) -> Result<bool, Answer> {
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
    fn black_ice(&self, ice: &BlackIce, was: bool) -> Result<bool, Answer> {
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

    fn value(&self, sensor: &SensorId) -> Result<(SensorValue, &Unit), Answer> {
        let spec = self.spec(sensor).ok_or(Answer::Unheard)?;
        match self.readings.of(spec, self.now) {
            Known::Value(value, _) => Ok((value, &spec.unit)),
            Known::Stale(_) => Err(Answer::Stale),
            Known::Never => Err(Answer::Unheard),
        }
    }

    /// A boolean where a number is needed is as good as no fresh value.
    fn number(&self, sensor: &SensorId) -> Result<(f64, &Unit), Answer> {
        match self.value(sensor)? {
            (SensorValue::Number(number), unit) => Ok((number, unit)),
            (SensorValue::Boolean(_), _) => Err(Answer::Stale),
        }
    }

    /// 1 and 0 are booleans too; any other number is not.
    fn boolean(&self, sensor: &SensorId) -> Result<bool, Answer> {
        match self.value(sensor)?.0 {
            SensorValue::Boolean(boolean) => Ok(boolean),
            SensorValue::Number(1.0) => Ok(true),
            SensorValue::Number(0.0) => Ok(false),
            SensorValue::Number(_) => Err(Answer::Stale),
        }
    }

    fn temperature(&self, sensor: &SensorId) -> Result<Temperature, Answer> {
        match self.number(sensor)? {
            (reading, Unit::Temperature(scale)) => Ok(scale.temperature(reading)),
            _ => Err(Answer::Stale),
        }
    }

    fn spec(&self, sensor: &SensorId) -> Option<&SensorSpec> {
        self.specs.iter().find(|spec| spec.id == *sensor)
    }

    fn first_stale(&self, test: &Test) -> Option<Timestamp> {
        let specs = test.sensors().into_iter().filter_map(|id| self.spec(id));
        specs
            .filter_map(|spec| match self.readings.of(spec, self.now) {
                Known::Value(_, stale) => Some(stale),
                Known::Stale(_) | Known::Never => None,
            })
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

fn all<const N: usize>(parts: [Result<bool, Answer>; N]) -> Result<bool, Answer> {
    if parts.contains(&Ok(false)) {
        return Ok(false);
    }
    parts.into_iter().try_fold(true, |_, part| part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::condition::{IceThresholds, WhenUnknown};

    struct Fixture {
        specs: Vec<SensorSpec>,
        readings: Readings,
        memory: Option<ConditionMemory>,
        now: Timestamp,
    }

    impl Fixture {
        fn new(sensors: &[(&str, &str)]) -> Self {
            let spec = |(id, unit): &(&str, &str)| SensorSpec {
                id: id.parse().unwrap(),
                topic: format!("sensor/{id}"),
                pointer: None,
                unit: (*unit).into(),
                stale_after: SensorSpec::DEFAULT_STALE_AFTER,
            };
            Self {
                specs: sensors.iter().map(spec).collect(),
                readings: Readings::default(),
                memory: None,
                now: "2024-01-01T06:00:00Z".parse().unwrap(),
            }
        }

        fn say(&mut self, sensor: &str, value: f64) {
            let value = SensorValue::Number(value);
            self.readings.record(sensor.parse().unwrap(), value, self.now);
        }

        fn pass(&mut self, time: &str) {
            let period: crate::scheduler::period::Period = time.parse().unwrap();
            self.now = after(self.now, period.length());
        }

        fn ask(&mut self, condition: &Condition) -> Evaluation {
            let sensors = Sensors {
                specs: &self.specs,
                readings: &self.readings,
                now: self.now,
            };
            let evaluation = evaluate(condition, sensors, self.memory, false);
            self.memory = evaluation.memory;
            evaluation
        }
    }

    fn at_most(limit: f64, hysteresis: f64, dwell: Option<&str>) -> Condition {
        Condition {
            test: Test::Number {
                sensor: "outdoor".parse().unwrap(),
                bound: Bound::AtMost,
                limit,
                hysteresis,
            },
            dwell: dwell.map(|text| text.parse().unwrap()),
            when_unknown: WhenUnknown::Off,
        }
    }

    #[test]
    fn a_limit_is_inclusive_in_the_unit_of_its_sensor() {
        let mut fixture = Fixture::new(&[("outdoor", "°F")]);
        let freezing = at_most(32.0, 0.0, None);
        fixture.say("outdoor", 32.0);
        assert_eq!(fixture.ask(&freezing).answer, Answer::Holds);
        fixture.say("outdoor", 32.1);
        assert_eq!(fixture.ask(&freezing).answer, Answer::Fails);
    }

    #[test]
    fn hysteresis_lets_a_condition_hold_on() {
        let mut fixture = Fixture::new(&[("outdoor", "°C")]);
        let cold = at_most(0.0, 0.5, None);
        let steps = [
            (0.4, Answer::Fails),
            (0.0, Answer::Holds),
            (0.5, Answer::Holds),
            (0.6, Answer::Fails),
            (0.4, Answer::Fails),
        ];
        for (value, answer) in steps {
            fixture.say("outdoor", value);
            assert_eq!(fixture.ask(&cold).answer, answer, "{value}");
        }
    }

    #[test]
    fn hysteresis_after_a_restart_goes_by_what_runs() {
        let mut fixture = Fixture::new(&[("outdoor", "°C")]);
        let cold = at_most(0.0, 0.5, None);
        fixture.say("outdoor", 0.4);
        for (running, answer) in [(true, Answer::Holds), (false, Answer::Fails)] {
            let sensors = Sensors {
                specs: &fixture.specs,
                readings: &fixture.readings,
                now: fixture.now,
            };
            assert_eq!(evaluate(&cold, sensors, None, running).answer, answer);
        }
    }

    #[test]
    fn a_dwell_keeps_an_answer() {
        let mut fixture = Fixture::new(&[("outdoor", "°C")]);
        let cold = at_most(0.0, 0.0, Some("10m"));
        fixture.say("outdoor", 1.0);
        assert_eq!(fixture.ask(&cold).answer, Answer::Fails);
        // The first answer was no change: nothing dwells.
        fixture.say("outdoor", -1.0);
        assert_eq!(fixture.ask(&cold).answer, Answer::Holds);
        let due = after(fixture.now, jiff::SignedDuration::from_mins(10));
        fixture.pass("9m 59s");
        fixture.say("outdoor", 1.0);
        let waiting = fixture.ask(&cold);
        assert_eq!((waiting.answer, waiting.wake), (Answer::Holds, Some(due)));
        fixture.pass("1s");
        assert_eq!(fixture.ask(&cold).answer, Answer::Fails);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_lengthen_a_dwell() {
        let mut fixture = Fixture::new(&[("outdoor", "°C")]);
        let cold = at_most(0.0, 0.0, Some("10m"));
        fixture.say("outdoor", 1.0);
        fixture.ask(&cold);
        fixture.say("outdoor", -1.0);
        assert_eq!(fixture.ask(&cold).answer, Answer::Holds);
        fixture.now = "2023-01-01T00:00:00Z".parse().unwrap();
        fixture.say("outdoor", 1.0);
        assert_eq!(fixture.ask(&cold).answer, Answer::Holds);
        fixture.pass("10m");
        assert_eq!(fixture.ask(&cold).answer, Answer::Fails);
    }

    #[test]
    fn rule_10_stale_is_neither_true_nor_false() {
        let mut fixture = Fixture::new(&[("outdoor", "°C")]);
        let cold = at_most(0.0, 0.0, None);
        assert_eq!(fixture.ask(&cold).answer, Answer::Unheard);
        fixture.say("outdoor", -1.0);
        let stale = after(fixture.now, jiff::SignedDuration::from_mins(30));
        assert_eq!(fixture.ask(&cold).wake, Some(stale));
        fixture.pass("30m");
        assert_eq!(fixture.ask(&cold).answer, Answer::Stale);
        let other = Condition {
            test: Test::Is {
                sensor: "nobody".parse().unwrap(),
                value: true,
            },
            ..cold
        };
        assert_eq!(fixture.ask(&other).answer, Answer::Unheard);
    }

    #[test]
    fn booleans_are_booleans_or_one_and_zero() {
        let mut fixture = Fixture::new(&[("door", "")]);
        let open = Condition {
            test: Test::Is {
                sensor: "door".parse().unwrap(),
                value: true,
            },
            dwell: None,
            when_unknown: WhenUnknown::Off,
        };
        for (value, answer) in [(1.0, Answer::Holds), (0.0, Answer::Fails), (0.5, Answer::Stale)] {
            fixture.say("door", value);
            assert_eq!(fixture.ask(&open).answer, answer, "{value}");
        }
    }

    fn ice() -> Condition {
        Condition {
            test: Test::BlackIce(BlackIce {
                temperature: "air".parse().unwrap(),
                dew_point: "dew".parse().unwrap(),
                humidity: "humidity".parse().unwrap(),
                thresholds: IceThresholds::default(),
            }),
            dwell: None,
            when_unknown: WhenUnknown::Off,
        }
    }

    #[test]
    fn black_ice_is_cold_and_close_to_the_dew_point_and_humid() {
        let cases = [
            (2.2, 0.0, 80.0, Answer::Holds),
            (2.3, 0.1, 80.0, Answer::Fails),
            (2.0, -0.3, 80.0, Answer::Fails),
            (2.0, 0.0, 79.9, Answer::Fails),
            (-5.0, -6.0, 95.0, Answer::Holds),
        ];
        for (air, dew, humidity, answer) in cases {
            let mut fixture = Fixture::new(&[("air", "°C"), ("dew", "°C"), ("humidity", "%")]);
            fixture.say("air", air);
            fixture.say("dew", dew);
            fixture.say("humidity", humidity);
            assert_eq!(fixture.ask(&ice()).answer, answer, "{air} {dew} {humidity}");
        }
    }

    #[test]
    fn black_ice_reads_both_scales() {
        let mut fixture = Fixture::new(&[("air", "°F"), ("dew", "°C"), ("humidity", "%")]);
        fixture.say("air", 33.0);
        fixture.say("dew", -1.0);
        fixture.say("humidity", 90.0);
        assert_eq!(fixture.ask(&ice()).answer, Answer::Holds);
        fixture.say("air", 36.5);
        assert_eq!(fixture.ask(&ice()).answer, Answer::Fails);
    }

    #[test]
    fn rule_10_one_failing_part_decides_black_ice() {
        let mut fixture = Fixture::new(&[("air", "°C"), ("dew", "°C"), ("humidity", "%")]);
        fixture.say("air", 10.0);
        assert_eq!(fixture.ask(&ice()).answer, Answer::Fails);
        fixture.say("air", 0.0);
        assert_eq!(fixture.ask(&ice()).answer, Answer::Unheard);
    }
}
