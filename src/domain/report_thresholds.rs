//! Which changes of energy values are told: meters never stand still.

use std::time::Duration;

use crate::domain::report::Energy;
use planner::units::{MilliWattHours, MilliWatts};

/// When a change of energy values is told.
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
    pub(crate) fn is_news(&self, last_report: &Energy, now: &Energy, since: Option<Duration>) -> bool {
        last_report != now
            && (since.is_none_or(|since| since >= self.max_interval)
                || power_moved(last_report.power, now.power, self.power_change)
                || last_report.voltage.is_some() != now.voltage.is_some()
                || last_report.current.is_some() != now.current.is_some()
                || energy_moved(last_report.today, now.today, self.energy_change)
                || energy_moved(last_report.month, now.month, self.energy_change)
                || energy_moved(last_report.total, now.total, self.energy_change))
    }
}

/// A load that is switched on or off is told however small it is.
fn power_moved(last_report: Option<MilliWatts>, now: Option<MilliWatts>, step: MilliWatts) -> bool {
    match (last_report, now) {
        (Some(last_report), Some(now)) if last_report == now => false,
        (Some(last_report), Some(now)) => {
            let none = MilliWatts::default();
            last_report.difference(now) >= step || last_report == none || now == none
        }
        (last_report, now) => last_report != now,
    }
}

/// Energy that starts over at midnight is told at once.
fn energy_moved(
    last_report: Option<MilliWattHours>,
    now: Option<MilliWattHours>,
    step: MilliWattHours,
) -> bool {
    match (last_report, now) {
        (Some(last_report), Some(now)) => {
            now < last_report || (now > last_report && last_report.difference(now) >= step)
        }
        (last_report, now) => last_report != now,
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
        let telling = ReportThresholds::default();
        let soon = Some(Duration::from_secs(30));
        let with_power = |milliwatts| Energy {
            power: Some(MilliWatts::new(milliwatts)),
            ..full()
        };
        let event_senders =
            |last_report: u64, now: u64| telling.is_news(&with_power(last_report), &with_power(now), soon);
        assert!(!event_senders(60_000, 60_000));
        assert!(!event_senders(60_000, 60_900));
        assert!(event_senders(60_000, 61_000) && event_senders(61_000, 60_000));
        assert!(event_senders(300, 0) && event_senders(0, 300), "on or off");
        assert!(telling.is_news(
            &with_power(60_000),
            &with_power(60_100),
            Some(telling.max_interval)
        ));
        assert!(
            !telling.is_news(&full(), &full(), Some(telling.max_interval)),
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
