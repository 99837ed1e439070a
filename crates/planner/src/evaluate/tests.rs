use jiff::Timestamp;

use super::*;
use crate::condition::{IceThresholds, WhenUnknown};
use crate::readings::Arrival;
use crate::sensor::{SensorSource, SensorTopic};
use crate::{Steady, period::after, testing::moment};

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
            source: SensorSource::Topic(SensorTopic {
                topic: format!("sensor/{id}"),
                pointer: None,
            }),
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

    fn publish(&mut self, sensor: &str, value: f64) {
        let value = SensorValue::Number(value);
        let spec = self.specs.iter().find(|spec| spec.id.as_str() == sensor).unwrap();
        self.readings
            .record(spec, value, Steady::at(self.now), Arrival::Live);
    }

    fn pass(&mut self, time: &str) {
        let period: crate::period::Period = time.parse().unwrap();
        self.now = after(self.now, period.length());
    }

    fn evaluate(&mut self, condition: &Condition) -> Evaluation {
        let sensors = Sensors {
            specs: &self.specs,
            readings: &self.readings,
            now: moment(self.now),
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
    fixture.publish("outdoor", 32.0);
    assert_eq!(fixture.evaluate(&freezing).answer, ConditionResult::Holds);
    fixture.publish("outdoor", 32.1);
    assert_eq!(fixture.evaluate(&freezing).answer, ConditionResult::Fails);
}

#[test]
fn hysteresis_lets_a_condition_hold_on() {
    let mut fixture = Fixture::new(&[("outdoor", "°C")]);
    let cold = at_most(0.0, 0.5, None);
    let steps = [
        (0.4, ConditionResult::Fails),
        (0.0, ConditionResult::Holds),
        (0.5, ConditionResult::Holds),
        (0.6, ConditionResult::Fails),
        (0.4, ConditionResult::Fails),
    ];
    for (value, answer) in steps {
        fixture.publish("outdoor", value);
        assert_eq!(fixture.evaluate(&cold).answer, answer, "{value}");
    }
}

#[test]
fn hysteresis_after_a_restart_goes_by_what_runs() {
    let mut fixture = Fixture::new(&[("outdoor", "°C")]);
    let cold = at_most(0.0, 0.5, None);
    fixture.publish("outdoor", 0.4);
    for (running, answer) in [(true, ConditionResult::Holds), (false, ConditionResult::Fails)] {
        let sensors = Sensors {
            specs: &fixture.specs,
            readings: &fixture.readings,
            now: moment(fixture.now),
        };
        assert_eq!(evaluate(&cold, sensors, None, running).answer, answer);
    }
}

#[test]
fn a_dwell_keeps_an_answer() {
    let mut fixture = Fixture::new(&[("outdoor", "°C")]);
    let cold = at_most(0.0, 0.0, Some("10m"));
    fixture.publish("outdoor", 1.0);
    assert_eq!(fixture.evaluate(&cold).answer, ConditionResult::Fails);
    // The first answer was no change: nothing dwells.
    fixture.publish("outdoor", -1.0);
    assert_eq!(fixture.evaluate(&cold).answer, ConditionResult::Holds);
    let due = after(fixture.now, jiff::SignedDuration::from_mins(10));
    fixture.pass("9m 59s");
    fixture.publish("outdoor", 1.0);
    let waiting = fixture.evaluate(&cold);
    assert_eq!(
        (waiting.answer, waiting.wake),
        (ConditionResult::Holds, Some(Steady::at(due)))
    );
    fixture.pass("1s");
    assert_eq!(fixture.evaluate(&cold).answer, ConditionResult::Fails);
}

#[test]
fn rule_10_stale_is_neither_true_nor_false() {
    let mut fixture = Fixture::new(&[("outdoor", "°C")]);
    let cold = at_most(0.0, 0.0, None);
    assert_eq!(fixture.evaluate(&cold).answer, ConditionResult::NoValue);
    fixture.publish("outdoor", -1.0);
    let stale = after(fixture.now, jiff::SignedDuration::from_mins(30));
    assert_eq!(fixture.evaluate(&cold).wake, Some(Steady::at(stale)));
    fixture.pass("30m");
    assert_eq!(fixture.evaluate(&cold).answer, ConditionResult::Stale);
    let other = Condition {
        test: Test::Is {
            sensor: "nobody".parse().unwrap(),
            value: true,
        },
        ..cold
    };
    assert_eq!(fixture.evaluate(&other).answer, ConditionResult::NoValue);
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
    for (value, answer) in [
        (1.0, ConditionResult::Holds),
        (0.0, ConditionResult::Fails),
        (0.5, ConditionResult::Stale),
    ] {
        fixture.publish("door", value);
        assert_eq!(fixture.evaluate(&open).answer, answer, "{value}");
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
        (2.2, 0.0, 80.0, ConditionResult::Holds),
        (2.3, 0.1, 80.0, ConditionResult::Fails),
        (2.0, -0.3, 80.0, ConditionResult::Fails),
        (2.0, 0.0, 79.9, ConditionResult::Fails),
        (-5.0, -6.0, 95.0, ConditionResult::Holds),
    ];
    for (air, dew, humidity, answer) in cases {
        let mut fixture = Fixture::new(&[("air", "°C"), ("dew", "°C"), ("humidity", "%")]);
        fixture.publish("air", air);
        fixture.publish("dew", dew);
        fixture.publish("humidity", humidity);
        assert_eq!(fixture.evaluate(&ice()).answer, answer, "{air} {dew} {humidity}");
    }
}

#[test]
fn black_ice_reads_both_scales() {
    let mut fixture = Fixture::new(&[("air", "°F"), ("dew", "°C"), ("humidity", "%")]);
    fixture.publish("air", 33.0);
    fixture.publish("dew", -1.0);
    fixture.publish("humidity", 90.0);
    assert_eq!(fixture.evaluate(&ice()).answer, ConditionResult::Holds);
    fixture.publish("air", 36.5);
    assert_eq!(fixture.evaluate(&ice()).answer, ConditionResult::Fails);
}

#[test]
fn rule_10_one_failing_part_decides_black_ice() {
    let mut fixture = Fixture::new(&[("air", "°C"), ("dew", "°C"), ("humidity", "%")]);
    fixture.publish("air", 10.0);
    assert_eq!(fixture.evaluate(&ice()).answer, ConditionResult::Fails);
    fixture.publish("air", 0.0);
    assert_eq!(fixture.evaluate(&ice()).answer, ConditionResult::NoValue);
}
