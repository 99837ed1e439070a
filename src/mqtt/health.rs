//! `bridge/health`: figures about the bridge, and the issues that they show.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use super::link::LinkStats;
use crate::{
    domain::{
        device_metrics::{DeviceHealth, MetricsRegistry},
        devices::DeviceMsg,
        notify_metrics::{NotifyHealth, NotifyMetrics},
        report::Phase,
        section_issues::SectionIssues,
        weather_metrics::{WeatherHealth, WeatherMetrics},
    },
    store::StateFileStatus,
    system::{
        clock::Clock,
        tasks::{TaskCounts, Tasks},
    },
};
use planner::DeviceId;

/// A loop that lags more than this makes commands wait noticeably.
const LAG_LIMIT: Duration = Duration::from_millis(100);
/// A queue fuller than this is about to refuse.
const QUEUE_LIMIT: f64 = 0.8;
/// Lost connections within [`STORM_WINDOW`] that make a storm.
const STORM_LOSSES: usize = 5;
/// Lost connections that are remembered.
const LOSSES_KEPT: usize = 100;
const STORM_WINDOW: Duration = Duration::from_mins(5);
/// Notifications that fail for so long need attention.
const NOTIFY_LIMIT: SignedDuration = SignedDuration::from_mins(15);
/// A wall clock that moves this much against the steady one jumped.
const JUMP_LIMIT: f64 = 2.0;

/// Collects what `bridge/health` needs.
#[derive(Debug)]
pub(super) struct HealthCollector {
    metrics: MetricsRegistry,
    notify: NotifyMetrics,
    weather: WeatherMetrics,
    tasks: Tasks,
    clock: Clock,
    state_file: StateFileStatus,
    section_issues: SectionIssues,
    /// Those that were shown last.
    shown: Vec<String>,
    started: Instant,
    /// Whether there is a connection to the broker, and since when.
    broker: (bool, jiff::Timestamp),
    losses: VecDeque<Instant>,
    /// Losses of the broker that were counted.
    counted: u64,
    /// Wall and steady time of the last collection.
    last: Option<(jiff::Timestamp, Instant)>,
    lag: Duration,
}

/// `bridge/health`.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    /// Of each start, another one.
    instance: String,
    uptime_s: u64,
    rss_bytes: Option<u64>,
    loop_lag_ms: u64,
    tasks: BTreeMap<String, TaskHealth>,
    queues: Queues,
    /// `null` without a broker.
    mqtt: Option<BrokerHealth>,
    devices: BTreeMap<DeviceId, DeviceHealth>,
    /// By entry of the settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    notify: BTreeMap<String, NotifyHealth>,
    /// Only with a provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    weather: Option<WeatherHealth>,
    pub(super) issues: Vec<String>,
}

#[derive(Debug, Serialize)]
struct BrokerHealth {
    /// Since when there is a connection, or none.
    since: jiff::Timestamp,
    #[serde(flatten)]
    link: LinkStats,
}

#[derive(Debug, Serialize)]
struct TaskHealth {
    state: TaskState,
    running: u64,
    /// How often one was started after the first.
    restarts: u64,
    #[serde(flatten)]
    counts: TaskCounts,
}

/// The state of the tasks of a name; of those that ended, the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TaskState {
    Running,
    Failed,
    Cancelled,
    Finished,
}

impl TaskHealth {
    fn of(counts: TaskCounts) -> Self {
        let state = match counts {
            counts if counts.running() > 0 => TaskState::Running,
            TaskCounts { failed: 1.., .. } => TaskState::Failed,
            TaskCounts { cancelled: 1.., .. } => TaskState::Cancelled,
            TaskCounts { .. } => TaskState::Finished,
        };
        Self {
            state,
            running: counts.running(),
            restarts: counts.started.saturating_sub(1),
            counts,
        }
    }
}

#[derive(Debug, Serialize)]
struct Queues {
    /// Commands without an outcome yet.
    commands: usize,
    /// Messages on their way to the device owner.
    device_messages: usize,
    /// How many of those fit.
    device_messages_capacity: usize,
}

impl HealthCollector {
    pub(super) fn new(
        metrics: MetricsRegistry,
        notify: NotifyMetrics,
        weather: WeatherMetrics,
        tasks: Tasks,
        clock: Clock,
        state_file: StateFileStatus,
        section_issues: SectionIssues,
    ) -> Self {
        let started = Instant::now();
        Self {
            broker: (false, clock.now()),
            metrics,
            notify,
            weather,
            tasks,
            clock,
            state_file,
            section_issues,
            shown: Vec::new(),
            started,
            losses: VecDeque::new(),
            counted: 0,
            last: None,
            lag: Duration::ZERO,
        }
    }

    /// The number of lost connections since the start. Failed attempts do not count.
    pub(super) fn on_lost(&mut self, losses: u64) {
        if losses > self.counted {
            self.losses.push_back(Instant::now());
            if self.losses.len() > LOSSES_KEPT {
                self.losses.pop_front();
            }
        }
        self.counted = losses;
    }

    /// There is a connection to the broker, or none. Returns whether that is new.
    pub(super) fn on_broker(&mut self, connected: bool) -> bool {
        let changed = self.broker.0 != connected;
        if changed {
            self.broker = (connected, self.clock.now());
        }
        changed
    }

    /// Whether something of a section does not work any more, or works again.
    pub(super) fn has_new_section_issues(&self) -> bool {
        self.section_issues.list() != self.shown
    }

    /// The event loop was late by this much.
    pub(super) fn on_lag(&mut self, by: Duration) {
        self.lag = self.lag.max(by);
    }

    /// The figures now. The lag starts over.
    pub(super) fn health(
        &mut self,
        instance: &str,
        mqtt: Option<LinkStats>,
        commands: usize,
        device_messages: &mpsc::Sender<DeviceMsg>,
    ) -> Health {
        let devices = self.metrics.devices();
        let queues = Queues {
            commands,
            device_messages: device_messages.max_capacity() - device_messages.capacity(),
            device_messages_capacity: device_messages.max_capacity(),
        };
        let tasks = self.tasks.counts();
        let mut issues = self.issues(&queues);
        issues.extend(broken_devices(&devices));
        issues.extend(failed_tasks(&tasks));
        let notify = self.notify.entries();
        issues.extend(failing_notifications(&notify, self.clock.now()));
        issues.extend(self.state_file.error());
        self.shown = self.section_issues.list();
        issues.extend(self.shown.iter().cloned());
        let refused = mqtt.as_ref().map_or(0, |mqtt| mqtt.refused_subscriptions);
        if refused > 0 {
            issues.push(format!(
                "the broker denies {refused} subscriptions; check its access rules"
            ));
        }
        Health {
            instance: instance.to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            rss_bytes: resident_bytes(),
            loop_lag_ms: u64::try_from(std::mem::take(&mut self.lag).as_millis()).unwrap_or(u64::MAX),
            tasks: tasks
                .into_iter()
                .map(|(name, counts)| (name.to_string(), TaskHealth::of(counts)))
                .collect(),
            queues,
            mqtt: mqtt.map(|link| BrokerHealth {
                since: self.broker.1,
                link,
            }),
            devices,
            notify,
            weather: self.weather.health(),
            issues,
        }
    }

    /// Issues of the process itself.
    fn issues(&mut self, queues: &Queues) -> Vec<String> {
        let mut issues = Vec::new();
        if self.lag > LAG_LIMIT {
            issues.push(format!(
                "the event loop lagged {} ms: the machine is overloaded",
                self.lag.as_millis()
            ));
        }
        if is_filling(queues.device_messages, queues.device_messages_capacity) {
            issues.push(format!(
                "command queue: {} of {} entries used",
                queues.device_messages, queues.device_messages_capacity
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
        issues
    }

    fn clock_jump(&mut self, now: Instant) -> Option<String> {
        let wall = self.clock.now();
        let (last_wall, last) = self.last.replace((wall, now))?;
        let jump = wall.duration_since(last_wall).as_secs_f64() - now.duration_since(last).as_secs_f64();
        (jump.abs() > JUMP_LIMIT).then(|| format!("system clock changed by {jump:.0} s"))
    }
}

fn is_filling(used: usize, capacity: usize) -> bool {
    #[allow(clippy::cast_precision_loss)] // Queues hold at most thousands.
    let (used, capacity) = (used as f64, capacity as f64);
    used > capacity * QUEUE_LIMIT
}

/// Devices that are not asked for a while after failures, those with a full queue, and what they report of themselves.
fn broken_devices(devices: &BTreeMap<DeviceId, DeviceHealth>) -> Vec<String> {
    let mut issues = Vec::new();
    for (device, health) in devices {
        let seen = health
            .last_seen
            .map_or_else(|| "never seen".to_owned(), |at| format!("last seen {at:.0}"));
        let what = match health.phase {
            Some(Phase::Unreachable) => "cannot be reached",
            Some(Phase::Forbidden) => "refuses the login",
            Some(Phase::LockedOut) => "locked itself after wrong passwords",
            Some(Phase::SetupMode | Phase::Connecting | Phase::Ready | Phase::Degraded) | None => "",
        };
        if !what.is_empty() {
            issues.push(format!("{device} {what} ({seen})"));
        }
        issues.extend(health.issues.iter().map(|issue| format!("{device}: {issue}")));
        if is_filling(health.queued, health.queue_capacity) {
            issues.push(format!(
                "queue of {device}: {} of {} entries used",
                health.queued, health.queue_capacity
            ));
        }
    }
    issues
}

/// Tasks that panicked. A top-level one ends the process, so this is a device's.
fn failed_tasks(tasks: &BTreeMap<Arc<str>, TaskCounts>) -> Vec<String> {
    let failed = tasks.iter().filter(|(_, counts)| counts.failed > 0);
    failed
        .map(|(name, _)| {
            format!("the task \"{name}\" failed; please report this, and restart the bridge to get it back")
        })
        .collect()
}

/// Entries of the settings to which notifications were not sent for long, or not to each recipient.
fn failing_notifications(entries: &BTreeMap<String, NotifyHealth>, now: jiff::Timestamp) -> Vec<String> {
    let failing = entries.iter().filter_map(|(id, health)| {
        let since = health.failing_since?;
        let is_long = now.duration_since(since) >= NOTIFY_LIMIT;
        let why = health.error.as_deref().unwrap_or("unknown");
        is_long.then(|| format!("notifications to {id} fail since {since:.0} ({why})"))
    });
    failing.collect()
}

/// Resident memory; `None` where the system does not show it.
fn resident_bytes() -> Option<u64> {
    resident_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS` of proc(5), which counts in KiB on every machine; pages have different sizes.
fn resident_of(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = value.trim().strip_suffix("kB")?.trim_end();
    kib.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collector() -> (HealthCollector, Clock) {
        let clock = Clock::steered(jiff::Timestamp::UNIX_EPOCH);
        let state_file = StateFileStatus::default();
        let (metrics, tasks) = (MetricsRegistry::default(), Tasks::default());
        let health = HealthCollector::new(
            metrics,
            NotifyMetrics::default(),
            WeatherMetrics::default(),
            tasks,
            clock.clone(),
            state_file,
            SectionIssues::default(),
        );
        (health, clock)
    }

    fn queues(device_messages: usize) -> Queues {
        Queues {
            commands: 0,
            device_messages,
            device_messages_capacity: 100,
        }
    }

    fn device(phase: Phase, waiting: usize) -> BTreeMap<DeviceId, DeviceHealth> {
        let health = DeviceHealth {
            phase: Some(phase),
            queued: waiting,
            queue_capacity: 10,
            last_seen: Some(jiff::Timestamp::UNIX_EPOCH),
            ..DeviceHealth::default()
        };
        [("heater".parse().unwrap(), health)].into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lag_is_an_issue() {
        let (mut health, _) = collector();
        health.on_lag(LAG_LIMIT);
        assert_eq!(health.issues(&queues(0)), [""; 0]);
        health.on_lag(Duration::from_millis(250));
        assert_eq!(
            health.issues(&queues(0)),
            ["the event loop lagged 250 ms: the machine is overloaded"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_an_issue_before_it_is_full() {
        let (mut health, _) = collector();
        assert_eq!(health.issues(&queues(80)), [""; 0]);
        assert_eq!(
            health.issues(&queues(81)),
            ["command queue: 81 of 100 entries used"]
        );
        assert_eq!(broken_devices(&device(Phase::Ready, 8)), [""; 0]);
        assert_eq!(
            broken_devices(&device(Phase::Ready, 9)),
            ["queue of heater: 9 of 10 entries used"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn losses_make_a_storm_and_failed_attempts_do_not() {
        let (mut health, _) = collector();
        for losses in [1, 2, 3, 4, 4, 4] {
            health.on_lost(losses);
        }
        assert_eq!(health.issues(&queues(0)), [""; 0]);
        health.on_lost(5);
        assert_eq!(
            health.issues(&queues(0)),
            ["the broker was lost 5 times within 5 minutes"]
        );
        tokio::time::advance(STORM_WINDOW).await;
        assert_eq!(health.issues(&queues(0)), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_change_is_an_issue_once() {
        let (mut health, clock) = collector();
        assert_eq!(health.issues(&queues(0)), [""; 0]);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(health.issues(&queues(0)), [""; 0], "time passes");
        clock.jump(SignedDuration::from_hours(-1));
        assert_eq!(health.issues(&queues(0)), ["system clock changed by -3600 s"]);
        assert_eq!(health.issues(&queues(0)), [""; 0]);
    }

    #[test]
    fn a_device_that_is_not_asked_is_an_issue_with_its_reason() {
        let cases = [
            (Phase::Unreachable, "cannot be reached"),
            (Phase::Forbidden, "refuses the login"),
            (Phase::LockedOut, "locked itself after wrong passwords"),
        ];
        for (phase, what) in cases {
            let expected = format!("heater {what} (last seen 1970-01-01T00:00:00Z)");
            assert_eq!(broken_devices(&device(phase, 0)), [expected]);
        }
        assert_eq!(broken_devices(&device(Phase::Degraded, 0)), [""; 0]);
    }

    #[test]
    fn notifications_that_fail_for_long_are_an_issue() {
        let since = jiff::Timestamp::UNIX_EPOCH;
        let health = NotifyHealth {
            failing_since: Some(since),
            error: Some("it answers 500".to_owned()),
            ..NotifyHealth::default()
        };
        let entries = BTreeMap::from([("phone".to_owned(), health)]);
        assert_eq!(
            failing_notifications(&entries, since + SignedDuration::from_mins(14)),
            [""; 0]
        );
        assert_eq!(
            failing_notifications(&entries, since + NOTIFY_LIMIT),
            ["notifications to phone fail since 1970-01-01T00:00:00Z (it answers 500)"]
        );
    }

    #[tokio::test]
    async fn tasks_have_their_names_and_states() {
        let tasks = Tasks::default();
        let running = tasks.spawn("device heater", std::future::pending::<()>());
        tasks
            .spawn("bad", async { panic!("on purpose") })
            .await
            .unwrap_err();
        tasks.spawn("good", async {}).await.unwrap();
        tasks.spawn("good", async {}).await.unwrap();
        let counts = tasks.counts();
        let health = |name: &str| {
            let health = TaskHealth::of(counts[name]);
            (health.state, health.running, health.restarts)
        };
        assert_eq!(health("device heater"), (TaskState::Running, 1, 0));
        assert_eq!(health("bad"), (TaskState::Failed, 0, 0));
        assert_eq!(health("good"), (TaskState::Finished, 0, 1));
        let failed = failed_tasks(&counts);
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].contains("\"bad\""), "{failed:?}");
        running.abort();
    }

    #[test]
    fn resident_memory_is_read_in_kib_not_in_pages() {
        let status = "Name:\ttapo2mqtt\nVmHWM:\t   51234 kB\nVmRSS:\t   40580 kB\nRssAnon:\t   20000 kB\n";
        assert_eq!(resident_of(status), Some(41_553_920));
        for none in [
            "",
            "Name:\tVmRSS\n",
            "VmRSS:\t\n",
            "VmRSS:\t-1 kB\n",
            "VmRSS:\t18446744073709551615 kB\n",
        ] {
            assert_eq!(resident_of(none), None, "{none:?}");
        }
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
