//! The wiring: channels, tasks, and the order in which they stop.

use std::{collections::BTreeSet, future::Future, path::Path, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    account,
    sections::{self, Sections},
};
use crate::{
    calendar::{CalendarParts, CalendarSources, CalendarTask},
    config::{Loader, Settings, Web},
    devices::DeviceOwner,
    domain::{
        device_metrics::MetricsRegistry,
        devices::EventSenders,
        energy_history::EnergyHistory,
        feed,
        notify_metrics::NotifyMetrics,
        page_msg,
        scheduling::{self, SchedulerHandle},
        section_issues::SectionIssues,
        weather_metrics::WeatherMetrics,
    },
    mqtt::{BridgeInfo, Channels, Control, MqttParts, MqttTask, PageChannels, link::LinkError},
    notify::{NotifyParts, NotifyTask},
    scheduler::task::{self, SchedulerTask},
    store::{Loaded, StateFileError, Writer},
    system::{clock::Clock, tasks::Tasks, telemetry::LogLevel},
    weather::{WeatherParts, WeatherTask},
    web::{Served, WebParts, WebServer},
};

/// Messages on their way to the device owner, which only passes them on.
const DEVICE_MESSAGES: usize = 256;
/// Reports on their way to the event loop. A worker waits when they do not fit, the loop never does.
const DEVICE_EVENTS: usize = 256;
/// How long the scheduler, the event loop and the device owner may take to end after the stop.
const STOP_BUDGET: Duration = Duration::from_millis(870);
/// How long the writers may take after that: a memory card or a busy disk can need seconds for one file, and what was
/// not written is forgotten.
const WRITE_BUDGET: Duration = Duration::from_secs(3);
/// How long what these tasks started may take to end after them.
const REST_BUDGET: Duration = Duration::from_millis(60);

/// How a bridge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownReason {
    /// It was asked to stop, and did.
    Stopped,
    /// A request over MQTT: start again.
    Restart,
    /// One of its tasks ended by itself. The process should end with an error, so that its supervisor
    /// starts it again.
    Failed,
}

/// Why a bridge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are valid but the link cannot be set up with them, such as a certificate that cannot
    /// be read.
    #[error("mqtt: {0}")]
    Link(#[from] LinkError),
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateFileError),
}

impl StartError {
    /// Whether other settings are needed. Else it may pass by itself.
    pub fn needs_settings(&self) -> bool {
        match self {
            Self::Link(_) | Self::State(StateFileError::OtherBridge { .. }) => true,
            Self::State(StateFileError::Unreadable { .. } | StateFileError::Thread(_)) => false,
        }
    }
}

/// A running bridge.
#[derive(Debug)]
pub struct Bridge {
    tasks: Tasks,
    stop: CancellationToken,
    stop_writer: CancellationToken,
    controls: mpsc::Receiver<Control>,
    /// To itself.
    control: mpsc::Sender<Control>,
    ended: mpsc::Receiver<&'static str>,
    /// Top-level tasks that did not end yet.
    running: BTreeSet<&'static str>,
    heartbeat: Arc<Notify>,
    reload: Arc<Notify>,
}

const EVENT_LOOP: &str = "mqtt event loop";
const DEVICE_OWNER: &str = "device owner";
const SCHEDULER: &str = "scheduler";
const CALENDAR: &str = "calendar";
const STATE_WRITER: &str = "state writer";
const HISTORY_WRITER: &str = "history writer";
/// They write what the others leave, so they are stopped after them.
const WRITERS: [&str; 2] = [STATE_WRITER, HISTORY_WRITER];
const WEB_SERVER: &str = "web server";
const METRICS_SERVER: &str = "metrics server";
const NOTIFIER: &str = "notifier";
const WEATHER: &str = "weather";

impl Bridge {
    /// Starts all tasks and returns at once: nothing waits for the broker or a device. With a `loader` the settings
    /// can be read again.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        settings: &Settings,
        loader: Option<Loader>,
        log_level: LogLevel,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let tasks = Tasks::default();
        // Before the state file, by which the clock goes on.
        let location = settings.state_location();
        let history_file = sections::open_history(location.as_ref(), &clock)?;
        let history = EnergyHistory::new(history_file.kept, settings.rules.location.zone.clone());
        let opened = open_state(settings, &clock, history.clone(), history_file.finding)?;
        let (sections, writer, start_checks) = opened;
        let as_read = settings;
        let settings = &settings.with_inventory(&sections.inventory.get());
        let (devices, devices_inbox) = mpsc::channel(DEVICE_MESSAGES);
        let (events, events_in) = mpsc::channel(DEVICE_EVENTS);
        let (scheduler_events, scheduler_events_in) = mpsc::channel(DEVICE_EVENTS);
        let (scheduler_handle, scheduler_inbox) = scheduling::channels();
        let (controls, controls_in) = mpsc::channel(1);
        let heartbeat = Arc::new(Notify::new());
        let metrics = MetricsRegistry::default();
        let section_issues = SectionIssues::default();

        let mut readers = readers(settings, &sections, &section_issues, &clock, &tasks);
        let info = bridge_info(settings, &clock, start_checks);
        let (weather, weather_metrics) =
            weather_task(settings, &sections, &scheduler_handle.messages, &clock);
        let (calendar, calendar_task) = calendar(settings, &scheduler_handle, &section_issues, &clock);
        let scheduler = SchedulerTask::new(task::Parts {
            rules: Arc::new(settings.rules.clone()),
            devices: settings.scheduler_devices(),
            persisted: sections.scheduler,
            inbox: scheduler_inbox,
            events: scheduler_events_in,
            device_owner: devices.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        });
        let parts = MqttParts {
            channels: Channels {
                devices,
                scheduler: scheduler_handle.messages,
                updates: scheduler_handle.updates,
                reports: events_in,
                controls: controls.clone(),
                heartbeat: heartbeat.clone(),
                pages: readers.pages.take(),
            },
            info,
            log_level,
            deleted: sections.deleted,
            inventory: sections.inventory,
            as_read: as_read.clone(),
            state_file: sections.status,
            loader,
            keep_account: |settings, account| Box::pin(account::keep(settings, account)),
            metrics: metrics.clone(),
            section_issues: section_issues.clone(),
            calendar,
            notify_metrics: readers.notify_metrics.clone(),
            weather_metrics,
            history: history.clone(),
            clock: clock.clone(),
        };
        let event_loop = MqttTask::open(settings, parts, &tasks)?;
        let reload = event_loop.reload_signal();
        let owner = DeviceOwner::start(
            settings.device_set(),
            devices_inbox,
            EventSenders {
                mqtt: events,
                scheduler: scheduler_events,
            },
            metrics,
            clock,
            tasks.clone(),
            sections.devices,
        );

        let (ending, ended) = mpsc::channel(10);
        let mut bridge = Self {
            tasks,
            stop: CancellationToken::new(),
            stop_writer: CancellationToken::new(),
            controls: controls_in,
            control: controls,
            ended,
            running: BTreeSet::new(),
            heartbeat,
            reload,
        };
        bridge.spawn(EVENT_LOOP, event_loop.run(bridge.stop.clone()), &ending);
        bridge.spawn(SCHEDULER, scheduler.run(bridge.stop.clone()), &ending);
        bridge.spawn(CALENDAR, calendar_task.run(bridge.stop.clone()), &ending);
        bridge.spawn(DEVICE_OWNER, owner.run(bridge.stop.clone()), &ending);
        bridge.spawn_readers(readers, &ending);
        if let Some(weather) = weather {
            bridge.spawn(WEATHER, weather.run(bridge.stop.clone()), &ending);
        }
        bridge.spawn(STATE_WRITER, writer.run(bridge.stop_writer.clone()), &ending);
        let history_writer = write_history(history_file.writer, history, bridge.stop_writer.clone());
        bridge.spawn(HISTORY_WRITER, history_writer, &ending);
        Ok(bridge)
    }

    /// Notified once a second as long as the event loop runs, for a watchdog.
    pub fn heartbeat(&self) -> Arc<Notify> {
        self.heartbeat.clone()
    }

    /// Notify it to read the settings again. Of several notifications during a reload, one is kept.
    pub fn reload(&self) -> Arc<Notify> {
        self.reload.clone()
    }

    /// Starts again when `change` resolves.
    pub fn restart_after(&self, change: impl Future<Output = ()> + Send + 'static) {
        let (control, stop) = (self.control.clone(), self.stop.clone());
        self.tasks.spawn("restart", async move {
            tokio::select! {
                () = change => {
                    // One that is under way already is as good.
                    let _full = control.try_send(Control::Restart);
                }
                () = stop.cancelled() => {}
            }
        });
    }

    fn spawn_readers(&mut self, readers: Readers, ending: &mpsc::Sender<&'static str>) {
        for (name, server) in readers.web_servers {
            self.spawn(name, server.run(self.stop.clone()), ending);
        }
        if let Some(notifier) = readers.notifier {
            self.spawn(NOTIFIER, notifier.run(self.stop.clone()), ending);
        }
    }

    /// Spawns a top-level task whose end is noticed.
    fn spawn<F>(&mut self, name: &'static str, task: F, ending: &mpsc::Sender<&'static str>)
    where
        F: Future<Output: Send> + Send + 'static,
    {
        // Sent by a guard, so that a task that panics is noticed too.
        let notice = TaskEndNotice {
            name,
            ending: ending.clone(),
        };
        self.running.insert(name);
        self.tasks.spawn(name, async move {
            task.await;
            drop(notice);
        });
    }

    /// Runs until `stop` resolves, a restart is requested or a task fails; then stops in order: no more
    /// commands, the scheduler, workers, event loop with its last messages, state file.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> ShutdownReason {
        let how = tokio::select! {
            () = stop => ShutdownReason::Stopped,
            Some(Control::Restart) = self.controls.recv() => ShutdownReason::Restart,
            Some(task) = self.ended.recv() => {
                error!(task, "a task ended by itself; the bridge stops");
                self.running.remove(task);
                ShutdownReason::Failed
            }
        };
        info!("stopping");
        self.stop.cancel();
        let _late = timeout(
            STOP_BUDGET,
            self.until(|running| running.iter().all(|task| WRITERS.contains(task))),
        )
        .await;
        self.stop_writer.cancel();
        let _late = timeout(
            WRITE_BUDGET,
            self.until(|running| !running.iter().any(|task| WRITERS.contains(task))),
        )
        .await;
        let late = self.tasks.wait(REST_BUDGET).await;
        if !late.is_empty() {
            warn!(tasks = %late.join(", "), "these tasks did not end in time");
        }
        info!("stopped");
        how
    }

    /// Waits until the top-level tasks that run are as wanted.
    async fn until(&mut self, is_wanted: impl Fn(&BTreeSet<&'static str>) -> bool) {
        while !is_wanted(&self.running) {
            let Some(task) = self.ended.recv().await else {
                return;
            };
            self.running.remove(task);
        }
    }
}

/// Reports the end of its task, whether it returned or panicked.
struct TaskEndNotice {
    name: &'static str,
    ending: mpsc::Sender<&'static str>,
}

impl Drop for TaskEndNotice {
    fn drop(&mut self) {
        // There is room for each top-level task.
        let _ = self.ending.try_send(self.name);
    }
}

/// The task that reads the calendars, and what tells it which.
fn calendar(
    settings: &Settings,
    scheduler: &SchedulerHandle,
    issues: &SectionIssues,
    clock: &Clock,
) -> (watch::Sender<CalendarSources>, CalendarTask) {
    let (in_force, sources) = watch::channel(settings.calendar.clone());
    let task = CalendarTask::new(CalendarParts {
        sources,
        scheduler: scheduler.messages.clone(),
        issues: issues.clone(),
        clock: clock.clone(),
    });
    (in_force, task)
}

fn bridge_info(settings: &Settings, clock: &Clock, start_checks: Vec<String>) -> BridgeInfo {
    let info = BridgeInfo {
        started_at: clock.now(),
        setup_mode: settings.needs_setup(),
        start_checks,
        settings_error: None,
        settings: settings.digest(),
    };
    if info.setup_mode {
        warn!(
            "setup mode: no Tapo account, so devices cannot be reached; set tapo.username and tapo.password, or send \
             bridge/request/account"
        );
    }
    info
}

/// Those that read what is published, and the other ends of their channels.
#[derive(Debug, Default)]
struct Readers {
    pages: Option<PageChannels>,
    web_servers: Vec<(&'static str, WebServer)>,
    notifier: Option<NotifyTask>,
    notify_metrics: NotifyMetrics,
}

/// Those that the settings ask for; none without `[web]`, `[metrics]` and `[[notify]]`.
fn readers(
    settings: &Settings,
    sections: &Sections,
    issues: &SectionIssues,
    clock: &Clock,
    tasks: &Tasks,
) -> Readers {
    if !settings.web.enabled && !settings.metrics.enabled && settings.notify.is_empty() {
        return Readers::default();
    }
    let (writer, feed) = feed::feed();
    let (messages, inbox) = page_msg::page_messages();
    let parts = |settings: &Web| WebParts {
        settings: settings.clone(),
        feed: feed.clone(),
        messages: messages.clone(),
        issues: issues.clone(),
        sessions: sections.sessions.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
    };
    let mut servers = Vec::new();
    if settings.web.enabled {
        servers.push((WEB_SERVER, WebServer::new(Served::Page, parts(&settings.web))));
    }
    if settings.metrics.enabled {
        servers.push((
            METRICS_SERVER,
            WebServer::new(Served::Metrics, parts(&settings.metrics)),
        ));
    }
    let notify_metrics = NotifyMetrics::default();
    let notify_parts = || NotifyParts {
        targets: settings.notify.clone(),
        bridge: settings.mqtt.base_topic.at_site(settings.mqtt.site.as_ref()),
        zone: settings.rules.location.zone.clone(),
        feed: feed.clone(),
        state_file: sections.status.clone(),
        kept: sections.notifications.clone(),
        metrics: notify_metrics.clone(),
        clock: clock.clone(),
    };
    Readers {
        notifier: (!settings.notify.is_empty()).then(|| NotifyTask::new(notify_parts())),
        pages: Some(PageChannels {
            feed: writer,
            messages: inbox,
        }),
        web_servers: servers,
        notify_metrics,
    }
}

/// Asks for the forecast, where the settings name a provider.
fn weather_task(
    settings: &Settings,
    sections: &Sections,
    scheduler: &mpsc::Sender<scheduling::SchedulerMsg>,
    clock: &Clock,
) -> (Option<WeatherTask>, WeatherMetrics) {
    let provider = settings.weather.as_ref().map(|weather| weather.provider);
    let metrics = provider.map_or_else(WeatherMetrics::default, WeatherMetrics::of);
    let parts = |settings| WeatherParts {
        settings,
        scheduler: scheduler.clone(),
        kept: sections.weather.clone(),
        metrics: metrics.clone(),
        clock: clock.clone(),
    };
    (settings.weather.clone().map(parts).map(WeatherTask::new), metrics)
}

/// Writes the history until the stop. Without a meter no file is made.
async fn write_history(writer: Writer, history: EnergyHistory, stop: CancellationToken) {
    let stop_writer = CancellationToken::new();
    let mut writing = pin!(writer.run(stop_writer.clone()));
    tokio::select! {
        () = &mut writing => return,
        () = stop.cancelled() => {}
    }
    if history.is_used() {
        stop_writer.cancel();
        writing.await;
    }
}

fn open_state(
    settings: &Settings,
    clock: &Clock,
    history: EnergyHistory,
    finding: Option<String>,
) -> Result<(Sections, Writer, Vec<String>), StartError> {
    let (sections, writer, loaded) = sections::open(settings.state_location(), clock, history)?;
    let mut findings: Vec<String> = finding.into_iter().collect();
    match loaded {
        Loaded::Fresh | Loaded::Read => {}
        Loaded::ReadEarlier(file) => info!(file = %file.display(), "state read from an earlier state file"),
        Loaded::Damaged { why, kept } => {
            let file = settings.state_file.as_deref().unwrap_or(Path::new("")).display();
            let kept = match kept {
                Ok(to) => format!("; it is kept as {}", to.display()),
                Err(error) => format!(", and it cannot be renamed ({error}), so nothing is written yet"),
            };
            findings.push(format!(
                "the state file {file} could not be read ({why}): what is damaged of overrides, vacation, timed ONs, \
                 changed schedules, cooldowns and what was deleted in Home Assistant is lost{kept}"
            ));
        }
    }
    findings.extend(sections.status.error());
    for finding in &findings {
        error!("{finding}");
    }
    Ok((sections, writer, findings))
}
