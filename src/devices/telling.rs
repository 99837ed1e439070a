//! Which changes of energy values are told: meters never stand still.

use std::time::Duration;

use crate::domain::report::Energy;
use planner::units::{MilliWattHours, MilliWatts};

/// When a change of energy values is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telling {
    /// Power that changed by so much.
    pub power_step: MilliWatts,
    /// Energy that changed by so much.
    pub energy_step: MilliWattHours,
    /// Anything that changed, after so long.
    pub slowest: Duration,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            power_step: MilliWatts::from_watts(1),
            energy_step: MilliWattHours::new(10_000),
            slowest: Duration::from_mins(5),
        }
    }
}

impl Telling {
    pub(super) fn is_news(&self, told: &Energy, now: &Energy, since: Option<Duration>) -> bool {
        told != now
            && (since.is_none_or(|since| since >= self.slowest)
                || power_moved(told.power, now.power, self.power_step)
                || told.voltage.is_some() != now.voltage.is_some()
                || told.current.is_some() != now.current.is_some()
                || energy_moved(told.today, now.today, self.energy_step)
                || energy_moved(told.month, now.month, self.energy_step)
                || energy_moved(told.total, now.total, self.energy_step))
    }
}

/// A load that is switched on or off is told however small it is.
fn power_moved(told: Option<MilliWatts>, now: Option<MilliWatts>, step: MilliWatts) -> bool {
    match (told, now) {
        (Some(told), Some(now)) if told == now => false,
        (Some(told), Some(now)) => {
            let none = MilliWatts::default();
            told.difference(now) >= step || told == none || now == none
        }
        (told, now) => told != now,
    }
}

/// Energy that starts over at midnight is told at once.
fn energy_moved(told: Option<MilliWattHours>, now: Option<MilliWattHours>, step: MilliWattHours) -> bool {
    match (told, now) {
        (Some(told), Some(now)) => now < told || (now > told && told.difference(now) >= step),
        (told, now) => told != now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::units::WattHours;

    fn full() -> Energy {
        Energy {
            power: Some(MilliWatts::from_watts(60)),
            voltage: None,
            current: None,
            today: Some(WattHours::new(46).into()),
            month: Some(WattHours::new(430).into()),
            total: None,
        }
    }

    #[test]
    fn small_changes_wait_and_large_ones_do_not() {
        let telling = Telling::default();
        let soon = Some(Duration::from_secs(30));
        let with_power = |milliwatts| Energy {
            power: Some(MilliWatts::new(milliwatts)),
            ..full()
        };
        let news = |told: u64, now: u64| telling.is_news(&with_power(told), &with_power(now), soon);
        assert!(!news(60_000, 60_000));
        assert!(!news(60_000, 60_900));
        assert!(news(60_000, 61_000) && news(61_000, 60_000));
        assert!(news(300, 0) && news(0, 300), "on or off");
        assert!(telling.is_news(&with_power(60_000), &with_power(60_100), Some(telling.slowest)));
        assert!(
            !telling.is_news(&full(), &full(), Some(telling.slowest)),
            "nothing changed"
        );
        let unknown = Energy {
            power: None,
            ..full()
        };
        assert!(telling.is_news(&full(), &unknown, soon) && telling.is_news(&unknown, &full(), soon));
        let midnight = Energy {
            today: Some(MilliWattHours::ZERO),
            ..full()
        };
        assert!(telling.is_news(&full(), &midnight, soon));
        let used = |watt_hours| Energy {
            month: Some(WattHours::new(watt_hours).into()),
            ..full()
        };
        assert!(!telling.is_news(&full(), &used(439), soon));
        assert!(telling.is_news(&full(), &used(440), soon));
    }
}
