//! Which changes of energy values are reported: meters change with every reading.

use std::time::Duration;

use crate::domain::report::Energy;
use planner::units::{MilliWattHours, MilliWatts, NetMilliWatts};

/// When a change of energy values is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportThresholds {
    /// Power that changed by so much.
    pub power_change: MilliWatts,
    /// Energy that changed by so much.
    pub energy_change: MilliWattHours,
    /// Anything that changed, after so long.
    pub max_interval: Duration,
}

impl Default for ReportThresholds {
    fn default() -> Self {
        Self {
            power_change: MilliWatts::from_watts(1),
            energy_change: MilliWattHours::new(10_000),
            max_interval: Duration::from_mins(5),
        }
    }
}

impl ReportThresholds {
    /// Whether a change is large enough for a report. `since` is the time since the last report; `None` without one.
    pub(crate) fn is_reportable(&self, reported: &Energy, now: &Energy, since: Option<Duration>) -> bool {
        reported != now
            && (since.is_none_or(|since| since >= self.max_interval)
                || power_moved(reported.power, now.power, self.power_change)
                || reported.voltage.is_some() != now.voltage.is_some()
                || reported.current.is_some() != now.current.is_some()
                || energy_moved(reported.today, now.today, self.energy_change)
                || energy_moved(reported.month, now.month, self.energy_change)
                || energy_moved(reported.total, now.total, self.energy_change))
    }
}

/// A load that is switched on or off is reported however small it is.
fn power_moved(reported: Option<NetMilliWatts>, now: Option<NetMilliWatts>, step: MilliWatts) -> bool {
    match (reported, now) {
        (Some(reported), Some(now)) if reported == now => false,
        (Some(reported), Some(now)) => {
            let none = NetMilliWatts::default();
            reported.difference(now) >= step || reported == none || now == none
        }
        (reported, now) => reported != now,
    }
}

/// Energy that starts over at midnight is reported at once.
fn energy_moved(reported: Option<MilliWattHours>, now: Option<MilliWattHours>, step: MilliWattHours) -> bool {
    match (reported, now) {
        (Some(reported), Some(now)) => now < reported || (now > reported && reported.difference(now) >= step),
        (reported, now) => reported != now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::units::WattHours;

    fn full() -> Energy {
        Energy {
            power: Some(NetMilliWatts::from_watts(60)),
            voltage: None,
            current: None,
            today: Some(WattHours::new(46).into()),
            month: Some(WattHours::new(430).into()),
            total: None,
        }
    }

    #[test]
    fn small_changes_wait_and_large_ones_do_not() {
        let thresholds = ReportThresholds::default();
        let soon = Some(Duration::from_secs(30));
        let with_power = |milliwatts| Energy {
            power: Some(NetMilliWatts::new(milliwatts)),
            ..full()
        };
        let is_reported =
            |reported: i64, now: i64| thresholds.is_reportable(&with_power(reported), &with_power(now), soon);
        assert!(!is_reported(60_000, 60_000));
        assert!(!is_reported(60_000, 60_900));
        assert!(is_reported(60_000, 61_000) && is_reported(61_000, 60_000));
        assert!(is_reported(300, 0) && is_reported(0, 300), "on or off");
        assert!(thresholds.is_reportable(
            &with_power(60_000),
            &with_power(60_100),
            Some(thresholds.max_interval)
        ));
        assert!(
            !thresholds.is_reportable(&full(), &full(), Some(thresholds.max_interval)),
            "nothing changed"
        );
        let unknown = Energy {
            power: None,
            ..full()
        };
        assert!(
            thresholds.is_reportable(&full(), &unknown, soon)
                && thresholds.is_reportable(&unknown, &full(), soon)
        );
        let midnight = Energy {
            today: Some(MilliWattHours::ZERO),
            ..full()
        };
        assert!(thresholds.is_reportable(&full(), &midnight, soon));
        let used = |watt_hours| Energy {
            month: Some(WattHours::new(watt_hours).into()),
            ..full()
        };
        assert!(!thresholds.is_reportable(&full(), &used(439), soon));
        assert!(thresholds.is_reportable(&full(), &used(440), soon));
    }
}
