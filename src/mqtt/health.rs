//! The bridge's own figures, and what they mean in words.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use super::link::LinkStats;
use crate::{
    clock::Clock,
    device::{DeviceHealth, HealthBoard, Order},
    model::DeviceId,
    report::Phase,
    tasks::{TaskCounts, Tasks},
};

/// A loop that lags more than this makes commands wait noticeably.
const LAG_LIMIT: Duration = Duration::from_millis(100);
/// A queue fuller than this is about to refuse.
const QUEUE_LIMIT: f64 = 0.8;
/// Losses of the broker within [`STORM_WINDOW`] that make a storm.
const STORM_LOSSES: usize = 5;
const STORM_WINDOW: Duration = Duration::from_mins(5);
/// A wall clock that moves this much against the steady one jumped.
const JUMP_LIMIT: f64 = 2.0;

/// Gathers what health needs and nobody else keeps.
#[derive(Debug)]
pub(super) struct Vitals {
    board: HealthBoard,
    tasks: Tasks,
    clock: Clock,
    started: Instant,
    losses: VecDeque<Instant>,
    /// Wall and steady time when health was last told.
    last: Option<(jiff::Timestamp, Instant)>,
    lag: Duration,
}

/// `bridge/health`.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    uptime_s: u64,
    rss_bytes: Option<u64>,
    loop_lag_ms: u64,
    tasks: BTreeMap<String, TaskHealth>,
    queues: Queues,
    mqtt: LinkStats,
    devices: BTreeMap<DeviceId, DeviceHealth>,
    issues: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TaskHealth {
    running: u64,
    #[serde(flatten)]
    counts: TaskCounts,
}

#[derive(Debug, Serialize)]
struct Queues {
    /// Commands that wait for an answer.
    commands: usize,
    /// Orders on their way to the device owner.
    orders: usize,
    /// How many of those fit.
    orders_capacity: usize,
}

impl Vitals {
    pub(super) fn new(board: HealthBoard, tasks: Tasks, clock: Clock) -> Self {
        let started = Instant::now();
        Self {
            board,
            tasks,
            clock,
            started,
            losses: VecDeque::new(),
            last: None,
            lag: Duration::ZERO,
        }
    }

    /// The broker was lost.
    pub(super) fn link_down(&mut self) {
        self.losses.push_back(Instant::now());
        if self.losses.len() > STORM_LOSSES {
            self.losses.pop_front();
        }
    }

    /// The loop came round this much later than it should have.
    pub(super) fn lagged(&mut self, by: Duration) {
        self.lag = self.lag.max(by);
    }

    /// The figures now. The lag starts over.
    pub(super) fn health(
        &mut self,
        mqtt: LinkStats,
        commands: usize,
        orders: &mpsc::Sender<Order>,
    ) -> Health {
        let devices = self.board.devices();
        let queues = Queues {
            commands,
            orders: orders.max_capacity() - orders.capacity(),
            orders_capacity: orders.max_capacity(),
        };
        let issues = self.issues(&devices, &queues);
        let tasks = self.tasks.counts();
        let task = |(name, counts): (Arc<str>, TaskCounts)| {
            (
                name.to_string(),
                TaskHealth {
                    running: counts.running(),
                    counts,
                },
            )
        };
        Health {
            uptime_s: self.started.elapsed().as_secs(),
            rss_bytes: resident_bytes(),
            loop_lag_ms: u64::try_from(std::mem::take(&mut self.lag).as_millis()).unwrap_or(u64::MAX),
            tasks: tasks.into_iter().map(task).collect(),
            queues,
            mqtt,
            devices,
            issues,
        }
    }

    fn issues(&mut self, devices: &BTreeMap<DeviceId, DeviceHealth>, queues: &Queues) -> Vec<String> {
        let mut issues = Vec::new();
        if self.lag > LAG_LIMIT {
            issues.push(format!(
                "the event loop lagged {} ms: the machine is overloaded",
                self.lag.as_millis()
            ));
        }
        #[allow(clippy::cast_precision_loss)] // Queues hold at most thousands.
        if queues.orders as f64 > queues.orders_capacity as f64 * QUEUE_LIMIT {
            issues.push(format!(
                "{} of {} places in the command queue are taken",
                queues.orders, queues.orders_capacity
            ));
        }
        let now = Instant::now();
        let recent = self
            .losses
            .iter()
            .filter(|at| now.duration_since(**at) < STORM_WINDOW)
            .count();
        if recent >= STORM_LOSSES {
            issues.push(format!(
                "the broker was lost {recent} times within {} minutes",
                STORM_WINDOW.as_secs() / 60
            ));
        }
        issues.extend(self.clock_jump(now));
        let broken = |phase| {
            matches!(
                phase,
                Some(Phase::Unreachable | Phase::Forbidden | Phase::LockedOut)
            )
        };
        for (device, health) in devices.iter().filter(|(_, health)| broken(health.phase)) {
            let seen = health
                .last_seen
                .map_or_else(|| "never seen".to_owned(), |at| format!("last seen {at:.0}"));
            issues.push(format!("{device} cannot be reached ({seen})"));
        }
        issues
    }

    fn clock_jump(&mut self, now: Instant) -> Option<String> {
        let wall = self.clock.now();
        let (last_wall, last) = self.last.replace((wall, now))?;
        let jump = wall.duration_since(last_wall).as_secs_f64() - now.duration_since(last).as_secs_f64();
        (jump.abs() > JUMP_LIMIT).then(|| format!("the wall clock jumped by {jump:.0} s"))
    }
}

/// Resident memory, from the second field of `/proc/self/statm` (pages of 4 KiB on the machines we
/// build for); `None` where there is no such file.
fn resident_bytes() -> Option<u64> {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm
        .split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|pages| pages * PAGE)
}
