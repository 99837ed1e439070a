//! What happened on a device, for tests to assert on.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tokio::time::Instant;

/// A snapshot of what happened since the start or the last reset.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counters {
    /// Requests by method, at any depth of a `multipleRequest` or `control_child`. The steps of a
    /// log-in are methods too: `discover`, `handshake1`, `handshake2`, `pake_register`, `pake_share`.
    pub requests: BTreeMap<String, u64>,
    /// HTTP requests, whatever became of them.
    pub http_requests: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open_connections: u64,
    /// HTTP requests in work now.
    pub in_flight: u64,
    /// Most HTTP requests that were in work at once, over all connections.
    pub max_in_flight: u64,
    /// Requests of a live session whose sequence number was not the next one.
    pub sequence_violations: u64,
    /// Log-ins that succeeded.
    pub logins: u64,
    /// Log-ins that proved a wrong password.
    pub failed_logins: u64,
    /// Discovery queries.
    pub probes: u64,
    /// Each change of a relay, in order.
    pub relay_changes: Vec<RelayChange>,
}

impl Counters {
    /// How often a method was called.
    pub fn requests_of(&self, method: &str) -> u64 {
        self.requests.get(method).copied().unwrap_or_default()
    }
}

/// A relay that changed.
#[derive(Debug, Clone, Serialize)]
pub struct RelayChange {
    /// The outlet, counted from 1.
    pub position: u8,
    /// The child of a strip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_id: Option<String>,
    /// The new state.
    pub on: bool,
    /// What changed it.
    pub cause: Cause,
    /// Milliseconds since the device started.
    pub at_ms: u64,
    /// The same on tokio's clock.
    #[serde(skip)]
    pub at: Instant,
}

/// What changed a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A request.
    Request,
    /// The button on the device.
    Button,
    /// A countdown rule.
    Countdown,
    /// A schedule rule.
    Schedule,
    /// The auto-off setting.
    AutoOff,
    /// More load than the outlet takes.
    Overload,
    /// The power came back.
    PowerLoss,
}

/// Counts that are not part of the device's own state.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<Counts>,
    open_connections: AtomicU64,
    in_flight: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<String, u64>,
    http_requests: u64,
    connections: u64,
    max_in_flight: u64,
    sequence_violations: u64,
    logins: u64,
    failed_logins: u64,
    probes: u64,
}

/// Something that is going on; it ends when this is dropped.
pub(crate) struct Ongoing<'a>(&'a AtomicU64);

impl Drop for Ongoing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    pub(crate) fn connection(&self) -> Ongoing<'_> {
        self.counts().connections += 1;
        self.open_connections.fetch_add(1, Ordering::Relaxed);
        Ongoing(&self.open_connections)
    }

    pub(crate) fn http_request(&self) -> Ongoing<'_> {
        let mut counts = self.counts();
        counts.http_requests += 1;
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        counts.max_in_flight = counts.max_in_flight.max(now);
        Ongoing(&self.in_flight)
    }

    pub(crate) fn methods(&self, methods: &[String]) {
        let mut counts = self.counts();
        for method in methods {
            *counts.requests.entry(method.clone()).or_default() += 1;
        }
    }

    pub(crate) fn sequence_violation(&self) {
        self.counts().sequence_violations += 1;
    }

    pub(crate) fn login(&self, succeeded: bool) {
        let mut counts = self.counts();
        if succeeded {
            counts.logins += 1;
        } else {
            counts.failed_logins += 1;
        }
    }

    pub(crate) fn probe(&self) {
        self.counts().probes += 1;
    }

    pub(crate) fn requests_of(&self, method: &str) -> u64 {
        self.counts().requests.get(method).copied().unwrap_or_default()
    }

    pub(crate) fn snapshot(&self, relay_changes: Vec<RelayChange>) -> Counters {
        let counts = self.counts();
        Counters {
            requests: counts.requests.clone(),
            http_requests: counts.http_requests,
            connections: counts.connections,
            open_connections: self.open_connections.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            max_in_flight: counts.max_in_flight,
            sequence_violations: counts.sequence_violations,
            logins: counts.logins,
            failed_logins: counts.failed_logins,
            probes: counts.probes,
            relay_changes,
        }
    }

    pub(crate) fn reset(&self) {
        *self.counts() = Counts::default();
    }

    /// No panic is possible while the lock is held, so poisoned counts are still whole.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
