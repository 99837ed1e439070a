//! A thermostat: makes ON and OFF of a target and a reading of a thermometer. Never ON without a reading that counts.
//!
//! Nothing is remembered: between the two thresholds the relay stays what it is, and how long it has been so is its own
//! account ([`RunTime`]).

mod duty;
mod hold;
mod lease;
#[cfg(test)]
mod tests;

pub use duty::{Duty, DutyError, WhenSilent};
pub use hold::{Hold, Preset, ThermostatMode};
pub use lease::Lease;

use crate::{
    Power, SensorId, Steady,
    evaluate::Sensors,
    period::Period,
    readings::Known,
    safety::RunTime,
    sensor::{Scale, Temperature},
    setpoint::Setpoint,
};

/// How a group heats a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Thermostat {
    /// The thermometer.
    pub sensor: SensorId,
    /// What it holds where nothing else is set.
    pub target: Setpoint,
    /// The distance of the two thresholds, in kelvin: half of it below the target it heats, half of it above it stops.
    pub hysteresis: f64,
    /// How long it heats at least.
    pub min_on: Period,
    /// How long it stops at least.
    pub min_off: Period,
    /// What it holds outside of the windows of its schedules; `None`: nothing.
    pub setback: Option<Setpoint>,
    /// Below this it heats, whatever it should hold.
    pub frost: Setpoint,
    /// What it does without a reading.
    pub when_unknown: WhenSilent,
}

/// What a thermostat has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Hold this.
    Target(Setpoint),
    /// Nothing but protect against frost.
    Frost,
    /// The same, but by a reading only: it was turned off.
    Off,
}

impl Goal {
    /// What it holds.
    pub fn target(self) -> Option<Setpoint> {
        match self {
            Self::Target(target) => Some(target),
            Self::Frost | Self::Off => None,
        }
    }
}

/// What is known of the room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RoomReading {
    /// A value that counts.
    Fresh {
        /// The temperature.
        room: Temperature,
        /// The scale of the thermometer.
        scale: Scale,
        /// When the value stops counting.
        stale_at: Steady,
        /// How long a value counts.
        stale_after: Period,
    },
    /// The bridge has just started, and waits for the first value until then.
    Awaited(Steady),
    /// No value that counts since then.
    Silent(Steady),
    /// Not asked: taken to be colder than each target.
    Cold,
}

impl RoomReading {
    /// The temperature.
    pub fn room(self) -> Option<(Temperature, Scale)> {
        match self {
            Self::Fresh { room, scale, .. } => Some((room, scale)),
            Self::Awaited(_) | Self::Silent(_) | Self::Cold => None,
        }
    }
}

/// Whether a relay may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// It may, under this lease.
    Leased(Lease),
    /// It may not: there is no reading. Until then, if that is known.
    Refused(Option<Steady>),
}

/// A relay of a thermostat.
#[derive(Debug, Clone, Copy)]
pub struct HeaterRelay<'a> {
    /// What its device confirmed last.
    pub power: Option<Power>,
    /// What it has run.
    pub run_time: &'a RunTime,
}

/// What a thermostat wants of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// The state.
    pub power: Power,
    /// Why.
    pub why: DemandReason,
}

/// Why a thermostat wants what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemandReason {
    /// The room is colder than the target.
    Cold,
    /// The room is warm enough.
    Warm,
    /// There may be frost.
    Frost,
    /// It has just been switched on; until then.
    MinOn(Steady),
    /// It has just been switched off; until then.
    MinOff(Steady),
    /// There is no reading.
    NoReading,
}

impl Demand {
    /// When time alone changes it.
    pub fn wake(self) -> Option<Steady> {
        match self.why {
            DemandReason::MinOn(at) | DemandReason::MinOff(at) => Some(at),
            DemandReason::Cold | DemandReason::Warm | DemandReason::Frost | DemandReason::NoReading => None,
        }
    }
}

impl Thermostat {
    /// [`Thermostat::hysteresis`] unless set otherwise, in kelvin.
    pub const HYSTERESIS: f64 = 0.5;
    /// [`Thermostat::min_on`] and [`Thermostat::min_off`] unless set otherwise: 2 min.
    pub const PAUSE: Period = Period::minutes(2);
    /// [`Thermostat::frost`] unless set otherwise, °C.
    pub const FROST: f64 = 5.0;
    /// How much a boost is above the target, in kelvin.
    pub const BOOST: f64 = 2.0;
    /// How long a boost lasts unless set otherwise: 1 h.
    pub const BOOST_FOR: Period = Period::hours(1);
    /// What a room can be heated to, °C.
    pub const TARGETS: std::ops::RangeInclusive<f64> = 5.0..=35.0;

    /// What it has to do outside of windows, and in vacation.
    pub fn outside(&self) -> Goal {
        self.setback.map_or(Goal::Frost, Goal::Target)
    }

    /// What it has to do by an override.
    pub fn goal(&self, hold: Hold) -> Goal {
        match hold {
            Hold::Target(target) | Hold::Heat(target) | Hold::Boost(target) => Goal::Target(target),
            Hold::Away => self.outside(),
            Hold::Off => Goal::Off,
        }
    }

    /// What is known of the room. A first value is awaited until then.
    pub fn reading(&self, sensors: Sensors<'_>, awaited_until: Steady) -> RoomReading {
        match self.known(sensors) {
            Some(reading) => reading,
            None if sensors.now.steady < awaited_until => RoomReading::Awaited(awaited_until),
            None => RoomReading::Silent(awaited_until),
        }
    }

    /// The temperature of the room, if a value counts.
    pub fn temperature(&self, sensors: Sensors<'_>) -> Option<Temperature> {
        let (room, _) = self.known(sensors)?.room()?;
        Some(room)
    }

    /// `None`: none was published since the bridge started. What the broker kept does not count: a heater would run on it
    /// after each start.
    fn known(&self, sensors: Sensors<'_>) -> Option<RoomReading> {
        let spec = sensors.specs.iter().find(|spec| spec.id == self.sensor)?;
        match sensors.readings.of_room(spec, sensors.now) {
            Known::Value(value, stale_at) => spec.room(value).map(|(room, scale)| RoomReading::Fresh {
                room,
                scale,
                stale_at,
                stale_after: spec.stale_after,
            }),
            Known::Stale(since) => Some(RoomReading::Silent(since)),
            Known::Never => None,
        }
    }

    /// Whether a relay may be on, and for how long without another reading. While the first value after a start is
    /// awaited, one that runs goes on under its lease of before.
    pub fn permit(&self, reading: RoomReading, run_time: &RunTime, now: Steady) -> Permit {
        match reading {
            RoomReading::Fresh {
                stale_at,
                stale_after,
                ..
            } => Permit::Leased(Lease::of_reading(stale_at, stale_after)),
            RoomReading::Cold => Permit::Leased(Lease::until(Steady::MAX)),
            RoomReading::Awaited(until) => {
                let lease = run_time.lease().filter(|_| run_time.on_since().is_some());
                match lease.filter(|lease| *lease > now) {
                    Some(lease) => Permit::Leased(Lease::until(lease.min(until))),
                    None => Permit::Refused(None),
                }
            }
            RoomReading::Silent(since) => match self.when_unknown {
                WhenSilent::Off => Permit::Refused(None),
                WhenSilent::Duty(duty) => duty.permit(since, now),
            },
        }
    }

    /// What it wants of a relay. Without a reading it wants what the permit decides about.
    pub fn demand(&self, goal: Goal, reading: RoomReading, relay: HeaterRelay<'_>, now: Steady) -> Demand {
        let Some((room, _)) = reading.room() else {
            let heats = match goal {
                Goal::Target(_) => true,
                Goal::Frost => matches!(reading, RoomReading::Silent(_)),
                Goal::Off => false,
            };
            return Demand {
                power: Power::from(heats),
                why: DemandReason::NoReading,
            };
        };
        let is_on = relay.power == Some(Power::On);
        let why = self.wants(goal, room, is_on);
        let wants = why != DemandReason::Warm;
        let lasts = |since: Option<Steady>, length: Period| {
            let end = since?.after(length.length());
            (end > now).then_some(end)
        };
        let run_time = relay.run_time;
        if wants
            && !is_on
            && let Some(end) = lasts(run_time.off_since(), self.min_off)
        {
            return Demand {
                power: Power::Off,
                why: DemandReason::MinOff(end),
            };
        }
        if !wants
            && is_on
            && goal.target().is_some()
            && let Some(end) = lasts(run_time.on_since(), self.min_on)
        {
            return Demand {
                power: Power::On,
                why: DemandReason::MinOn(end),
            };
        }
        Demand {
            power: Power::from(wants),
            why,
        }
    }

    /// Whether a relay that should be in this state should stay so at this temperature.
    pub fn is_settled(&self, goal: Goal, room: Temperature, power: Power) -> bool {
        (self.wants(goal, room, power.is_on()) != DemandReason::Warm) == power.is_on()
    }

    fn wants(&self, goal: Goal, room: Temperature, is_on: bool) -> DemandReason {
        let half = self.hysteresis / 2.0;
        let is_cold = goal.target().is_some_and(|target| {
            let above = room.kelvin_above(target.temperature());
            if is_on { above < half } else { above <= -half }
        });
        if is_cold {
            return DemandReason::Cold;
        }
        let above = room.kelvin_above(self.frost.temperature());
        if above < if is_on { self.hysteresis } else { 0.0 } {
            return DemandReason::Frost;
        }
        DemandReason::Warm
    }
}
