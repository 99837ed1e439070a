//! Whether a device answers, and when it is tried again. Pure.

use std::time::Duration;

use super::{backoff::Backoff, client::fault::Fault};
use crate::domain::{devices::PollingConfig, report::Phase};

/// The first wait after a device could not be reached.
const PROBE_FIRST: Duration = Duration::from_secs(1);
/// The first wait after a refused login: after a power cut, devices refuse valid credentials for a while.
const REFUSED_FIRST: Duration = Duration::from_secs(15);
/// The wait after a device turned out to be one that the bridge does not support.
const UNSUPPORTED: Duration = Duration::from_hours(1);
/// Failed exchanges before the session is dropped and one reconnect decides.
const FAILURES_TO_RECONNECT: u32 = 2;
/// Failed connects before the device is searched under another address: the active retry.
const CONNECTS_TO_SEARCH: u32 = 1;
/// Failed connects from one search to the next.
const CONNECTS_BETWEEN_SEARCHES: u32 = 3;

/// The phase of a device and its failures in a row.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) phase: Phase,
    /// Failed exchanges in a row.
    failures: u32,
    /// Failed connects in a row.
    failed_connects: u32,
    probes: Backoff,
    refusals: Backoff,
    /// After a device locked itself.
    locked: Duration,
}

impl Lifecycle {
    pub(super) fn new(polling: &PollingConfig) -> Self {
        Self {
            phase: Phase::Connecting,
            failures: 0,
            failed_connects: 0,
            probes: Backoff::new(PROBE_FIRST, polling.probe_longest),
            refusals: Backoff::new(
                REFUSED_FIRST.min(polling.refused_longest),
                polling.refused_longest,
            ),
            locked: polling.locked,
        }
    }

    /// Takes changed waits. They start from the shortest.
    pub(super) fn configure(&mut self, polling: &PollingConfig) {
        let Self {
            probes,
            refusals,
            locked,
            ..
        } = Self::new(polling);
        (self.probes, self.refusals, self.locked) = (probes, refusals, locked);
    }

    /// The settings of the device changed: earlier refusals do not count.
    pub(super) fn forget_refusals(&mut self) {
        self.failed_connects = 0;
        self.refusals.on_success();
    }

    /// The device answered a request.
    pub(super) fn on_success(&mut self) {
        self.failures = 0;
        self.failed_connects = 0;
        self.probes.on_success();
        self.phase = Phase::Ready;
    }

    /// The device accepted a login and was read.
    pub(super) fn on_connected(&mut self) {
        self.refusals.on_success();
        self.on_success();
    }

    /// An exchange failed. Returns whether a reconnect is due.
    pub(super) fn on_failure(&mut self) -> bool {
        self.failures += 1;
        self.failures >= FAILURES_TO_RECONNECT
    }

    /// Whether the last exchange failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// A connect failed. Returns the wait before the next one.
    pub(super) fn on_connect_failed(&mut self, fault: &Fault) -> Duration {
        self.failed_connects += 1;
        self.phase = fault.phase();
        match self.phase {
            _ if fault.is_lasting() => UNSUPPORTED,
            Phase::LockedOut => self.locked,
            Phase::SetupMode | Phase::Forbidden => self.refusals.wait(),
            _ => self.probes.wait(),
        }
    }

    /// Whether the last connect failed.
    pub(super) fn has_failed_connects(&self) -> bool {
        self.failed_connects > 0
    }

    /// Whether the next connect searches for the device first.
    pub(super) fn is_search_due(&self) -> bool {
        self.failed_connects % CONNECTS_BETWEEN_SEARCHES == CONNECTS_TO_SEARCH
    }

    /// Whether the device refuses logins. Time alone does not change that, so commands do not wait.
    pub(super) fn refuses_logins(&self) -> bool {
        matches!(self.phase, Phase::SetupMode | Phase::Forbidden | Phase::LockedOut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::report_thresholds::ReportThresholds;

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(&PollingConfig {
            poll: Duration::from_secs(10),
            slow_poll: Duration::from_secs(30),
            telling: ReportThresholds::default(),
            request: Duration::from_secs(2),
            probe_longest: Duration::from_secs(4),
            refused_longest: Duration::from_mins(5),
            locked: Duration::from_mins(35),
        })
    }

    #[test]
    fn the_second_failure_in_a_row_reconnects() {
        let mut lifecycle = lifecycle();
        assert!(!lifecycle.on_failure() && lifecycle.has_failed());
        lifecycle.on_success();
        assert!(!lifecycle.has_failed() && !lifecycle.on_failure());
        assert!(lifecycle.on_failure());
    }

    #[test]
    fn the_wait_depends_on_the_phase() {
        let mut lifecycle = lifecycle();
        let seconds = |lifecycle: &mut Lifecycle, fault| lifecycle.on_connect_failed(&fault).as_secs_f64();
        assert!((0.75..=1.25).contains(&seconds(&mut lifecycle, Fault::NoAnswer)));
        assert!((1.5..=2.5).contains(&seconds(&mut lifecycle, Fault::NoAnswer)));
        assert!((11.25..=18.75).contains(&seconds(&mut lifecycle, Fault::Forbidden)));
        assert!(lifecycle.refuses_logins());
        assert_eq!(
            lifecycle.on_connect_failed(&Fault::LockedOut),
            Duration::from_mins(35)
        );
        lifecycle.on_connected();
        assert_eq!(lifecycle.phase, Phase::Ready);
        assert!((0.75..=1.25).contains(&seconds(&mut lifecycle, Fault::NoAnswer)));
    }

    #[test]
    fn what_is_not_supported_is_asked_once_an_hour() {
        let mut lifecycle = lifecycle();
        for _ in 0..3 {
            let wait = lifecycle.on_connect_failed(&Fault::NoOutlets("D100C".to_owned()));
            assert_eq!(wait, UNSUPPORTED);
            assert!(lifecycle.refuses_logins(), "commands are answered at once");
        }
    }

    #[test]
    fn every_third_connect_searches() {
        let mut lifecycle = lifecycle();
        let mut searched = Vec::new();
        for _ in 0..6 {
            searched.push(lifecycle.is_search_due());
            lifecycle.on_connect_failed(&Fault::NoAnswer);
        }
        assert_eq!(searched, [false, true, false, false, true, false]);
    }
}
