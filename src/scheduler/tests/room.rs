//! A room of first order with a dumb heater, and its thermometer.

use std::time::Duration;

use planner::Steady;
use tokio::time::Instant;

/// A room. It cools to the outside, and each outlet of the simulation that is on heats it.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) celsius: f64,
    /// °C.
    outside: f64,
    /// W.
    heater: f64,
    /// W/K.
    loss: f64,
    /// J/K.
    capacity: f64,
    counted: Instant,
    /// When the thermometer reports next.
    pub(super) due: Instant,
    /// Whether the thermometer reports at all.
    pub(super) silent: bool,
    /// Whether the broker passes its values on.
    pub(super) broker: bool,
    /// When a value last reached the bridge.
    valued: Option<Steady>,
    /// The same, of those after which the bridge reached the heaters.
    pub(super) heard: Option<Steady>,
    pub(super) coldest: f64,
    pub(super) hottest: f64,
}

impl Room {
    /// Between two reports of the thermometer.
    pub(super) const REPORT: Duration = Duration::from_mins(1);

    /// 2 kW, -5 °C outside: enough for 35 °C.
    pub(super) fn at(celsius: f64) -> Self {
        Self {
            celsius,
            outside: -5.0,
            heater: 2000.0,
            loss: 50.0,
            capacity: 1_500_000.0,
            counted: Instant::now(),
            due: Instant::now(),
            silent: false,
            broker: true,
            valued: None,
            heard: None,
            coldest: f64::MAX,
            hottest: f64::MIN,
        }
    }

    /// How much warmer it gets at most in this time.
    pub(super) fn heated_in(&self, time: Duration) -> f64 {
        self.heater * time.as_secs_f64() / self.capacity
    }

    /// Lets time pass, with this many heaters on since the last time.
    pub(super) fn count(&mut self, heaters: u8, now: Instant) {
        let time = now.saturating_duration_since(self.counted).as_secs_f64();
        let end = self.outside + self.heater * f64::from(heaters) / self.loss;
        self.celsius = end + (self.celsius - end) * (-self.loss * time / self.capacity).exp();
        self.counted = now;
        self.coldest = self.coldest.min(self.celsius);
        self.hottest = self.hottest.max(self.celsius);
    }

    /// What the thermometer shows now, if it is time and it reaches the bridge.
    pub(super) fn report(
        &mut self,
        now: Instant,
        steady: Steady,
        listening: bool,
        reached: bool,
    ) -> Option<String> {
        if now < self.due {
            self.heard = self.valued.filter(|_| reached).or(self.heard);
            return None;
        }
        self.due = now + Self::REPORT;
        if self.silent || !self.broker || !listening {
            return None;
        }
        self.valued = Some(steady);
        self.heard = self.valued.filter(|_| reached).or(self.heard);
        Some(format!("{:.1}", self.celsius))
    }
}
