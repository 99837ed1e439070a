//! The metrics of the connection to each device, for health.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::devices::QUEUE_CAPACITY;
use crate::domain::report::Phase;
use planner::DeviceId;

/// Round trips that are kept per device.
const WINDOW: usize = 128;

/// The health of one device's link.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DeviceHealth {
    /// The phase of the worker.
    pub phase: Option<Phase>,
    /// Whether requests pass.
    pub circuit: Circuit,
    /// Median round trip of the last 128 requests, in ms.
    pub rtt_p50_ms: Option<f64>,
    /// 95th percentile of them, in ms.
    pub rtt_p95_ms: Option<f64>,
    /// The longest of them, in ms.
    pub rtt_max_ms: Option<f64>,
    /// Requests answered since the start.
    pub exchanges: u64,
    /// Failures by kind since the start.
    pub failures: BTreeMap<&'static str, u64>,
    /// Logins since the start.
    pub logins: u64,
    /// Pending commands.
    pub queued: usize,
    /// How many fit.
    pub queue_capacity: usize,
    /// The last time the device answered.
    pub last_seen: Option<Timestamp>,
    /// What needs attention although the device works.
    #[serde(skip)]
    pub issues: Vec<String>,
}

/// The circuit breaker of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// Requests pass.
    Closed,
    /// One attempt decides.
    #[default]
    HalfOpen,
    /// No request is sent until the next probe.
    Open,
}

impl Circuit {
    fn of(phase: Option<Phase>) -> Self {
        match phase {
            Some(Phase::Ready) => Self::Closed,
            Some(Phase::Connecting | Phase::Degraded) | None => Self::HalfOpen,
            Some(Phase::SetupMode | Phase::Unreachable | Phase::Forbidden | Phase::LockedOut) => Self::Open,
        }
    }
}

#[derive(Debug, Default)]
struct MetricsRecord {
    phase: Option<Phase>,
    round_trips: VecDeque<Duration>,
    exchanges: u64,
    failures: BTreeMap<&'static str, u64>,
    logins: u64,
    queued: usize,
    last_seen: Option<Timestamp>,
    issues: BTreeMap<&'static str, String>,
}

/// The metrics of one device; its worker writes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceMetrics(Arc<Mutex<MetricsRecord>>);

impl DeviceMetrics {
    pub(crate) fn answered(&self, round_trip: Duration, at: Timestamp) {
        let mut record = lock(&self.0);
        record.exchanges += 1;
        record.last_seen = Some(at);
        if record.round_trips.len() == WINDOW {
            record.round_trips.pop_front();
        }
        record.round_trips.push_back(round_trip);
    }

    pub(crate) fn failed(&self, kind: &'static str) {
        *lock(&self.0).failures.entry(kind).or_default() += 1;
    }

    /// Sets or clears what needs attention about one thing.
    pub(crate) fn set_issue(&self, about: &'static str, issue: Option<String>) {
        let issues = &mut lock(&self.0).issues;
        match issue {
            Some(issue) => drop(issues.insert(about, issue)),
            None => drop(issues.remove(about)),
        }
    }

    pub(crate) fn logged_in(&self) {
        lock(&self.0).logins += 1;
    }

    pub(crate) fn now(&self, phase: Phase, queued: usize) {
        let mut record = lock(&self.0);
        record.phase = Some(phase);
        record.queued = queued;
    }

    fn health(&self) -> DeviceHealth {
        let record = lock(&self.0);
        let mut sorted: Vec<f64> = record
            .round_trips
            .iter()
            .map(|rtt| rtt.as_secs_f64() * 1e3)
            .collect();
        sorted.sort_by(f64::total_cmp);
        let percentile = |p: usize| {
            sorted
                .get((sorted.len().saturating_sub(1)) * p / 100)
                .map(|ms| round(*ms))
        };
        DeviceHealth {
            phase: record.phase,
            circuit: Circuit::of(record.phase),
            rtt_p50_ms: percentile(50),
            rtt_p95_ms: percentile(95),
            rtt_max_ms: percentile(100),
            exchanges: record.exchanges,
            failures: record.failures.clone(),
            logins: record.logins,
            queued: record.queued,
            queue_capacity: QUEUE_CAPACITY,
            last_seen: record.last_seen,
            issues: record.issues.values().cloned().collect(),
        }
    }
}

/// To a tenth of a millisecond.
fn round(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

/// Reads the records of all devices. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MetricsRegistry(Arc<Mutex<BTreeMap<DeviceId, DeviceMetrics>>>);

impl MetricsRegistry {
    /// A device was removed from the settings.
    pub(crate) fn forget(&self, device: &DeviceId) {
        lock(&self.0).remove(device);
    }

    pub(crate) fn recorder(&self, device: &DeviceId) -> DeviceMetrics {
        lock(&self.0).entry(device.clone()).or_default().clone()
    }

    /// The health of every device.
    pub fn devices(&self) -> BTreeMap<DeviceId, DeviceHealth> {
        lock(&self.0)
            .iter()
            .map(|(device, metrics)| (device.clone(), metrics.health()))
            .collect()
    }
}

/// Held for a few instructions at a time, never over an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_last_requests() {
        let registry = MetricsRegistry::default();
        let device: DeviceId = "heater".parse().unwrap();
        let metrics = registry.recorder(&device);
        for ms in 1..=1000 {
            metrics.answered(Duration::from_millis(ms), Timestamp::UNIX_EPOCH);
        }
        metrics.failed("no_answer");
        let health = &registry.devices()[&device];
        assert_eq!(
            (health.rtt_p50_ms, health.rtt_max_ms),
            (Some(936.0), Some(1000.0))
        );
        assert_eq!((health.exchanges, health.failures["no_answer"]), (1000, 1));
    }
}
