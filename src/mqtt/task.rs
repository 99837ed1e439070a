//! The MQTT event loop: receives commands and requests, publishes reports and responses.
//!
//! It never waits for a device, and never for a queue that only it can drain: commands go out with `try_send`, everything
//! else comes in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::Arc,
    time::Duration,
};

use ha_discovery::{BIRTH_PAYLOAD, Layout};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    commands::Commands,
    decode::{DecodeContext, Decoded, Transaction, decode, decode_switch, transaction_of},
    deleted::DeletedEntities,
    health::HealthCollector,
    inbox::{CommandContext, MqttMsg, RequestContext, ResponseTopic},
    inventory,
    link::{Link, LinkError, LinkEvent, ShutdownOutcome},
    log_limit::LogLimit,
    options::link_options,
    publisher::{Publisher, PublisherParts, bridge_info::BridgeInfo},
    reload::{self, KeepAccount, ReadSettings, ReloadStep, Reloaded, Reloader},
    repeats::Repetition,
    reply_to::ReplyTo,
    requests::{self, BridgeRequest, InventoryRequest, identify},
    response,
    retained::RetainedCommands,
    route::{Route, Router},
    unknown::UnknownName,
};
use crate::{
    calendar::CalendarSources,
    config::{Device, Loader, Settings},
    diagnostics::Diagnostics,
    domain::{
        command::Target,
        command_error::ErrorCode,
        device_metrics::MetricsRegistry,
        devices::{DeviceEvent, DeviceMsg},
        energy_history::EnergyHistory,
        feed::FeedWriter,
        inventory::Inventory,
        network_device::NetworkDevice,
        notify_metrics::NotifyMetrics,
        one_line::one_line,
        page_msg::PageMsg,
        reply::CommandOutcome,
        report::{Availability, DeviceReport},
        request_reply::RequestResult,
        scheduling::{Request, RequestError, SchedulerMsg, SchedulerUpdate},
        section_issues::SectionIssues,
        topics::{BridgeTopic, InvalidName, ParsedTopic, RequestName, TopicError, Topics, Verb},
        weather_metrics::WeatherMetrics,
    },
    homeassistant::{DiscoveryTracker, EntityBuilder, EntityOwner},
    store::{Section, StateFileStatus},
    system::{
        clock::{Clock, sleep_until_some},
        tasks::Tasks,
        telemetry::{self, LogLevel},
    },
};
use planner::{DeviceId, GroupId, OutletPath, Power, ScheduleId, rules::Rules};

/// Between two publications of `bridge/health`.
const HEALTH_INTERVAL: Duration = Duration::from_mins(1);
/// Lines of the log in a file for maintainers.
const LOG_LINES: usize = 1000;
/// How often the loop checks that it is in time.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After the start devices are not held any more, whatever the broker does.
const ONLINE_WITHIN: Duration = Duration::from_secs(5);
/// How long the loop waits after the stop for reports and replies of the other tasks.
const DRAIN_TIME: Duration = Duration::from_millis(550);
/// How long a response waits for the state file.
const WRITTEN_WITHIN: Duration = Duration::from_millis(250);
/// For the last messages to the broker and their acknowledgements.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// What a request wants of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// End in an orderly way and start again.
    Restart,
}

/// The channels of the MQTT task.
#[derive(Debug)]
pub struct Channels {
    /// To the device owner.
    pub devices: mpsc::Sender<DeviceMsg>,
    /// To the scheduler.
    pub scheduler: mpsc::Sender<SchedulerMsg>,
    /// From the scheduler.
    pub updates: mpsc::Receiver<SchedulerUpdate>,
    /// From workers. Closed when the last of them ended.
    pub reports: mpsc::Receiver<DeviceEvent>,
    /// To the process.
    pub controls: mpsc::Sender<Control>,
    /// Notified each second in which the loop is in time.
    pub heartbeat: Arc<Notify>,
    /// To and from pages; `None` without `[web]`.
    pub pages: Option<PageChannels>,
}

/// The channels to pages.
#[derive(Debug)]
pub struct PageChannels {
    /// Everything that is published.
    pub feed: FeedWriter,
    /// Their commands and requests.
    pub messages: mpsc::Receiver<PageMsg>,
}

/// What the MQTT task is made of.
#[derive(Debug)]
pub struct MqttParts {
    /// The channels to the other tasks.
    pub channels: Channels,
    /// For `bridge/info`.
    pub info: BridgeInfo,
    /// The level of the log, which a request can change.
    pub log_level: LogLevel,
    /// What was deleted in Home Assistant.
    pub deleted: DeletedEntities,
    /// The devices that were found, and those of them that are used.
    pub inventory: Section<Inventory>,
    /// The settings without the added devices.
    pub as_read: Settings,
    /// Whether the state file can be written.
    pub state_file: StateFileStatus,
    /// Reads the settings again; without it there is no reload.
    pub loader: Option<Loader>,
    /// Keeps an account that came by a request.
    pub keep_account: KeepAccount,
    /// The metrics of devices, for `bridge/health`.
    pub metrics: MetricsRegistry,
    /// Why the page or the figures cannot be served.
    pub section_issues: SectionIssues,
    /// To the task that reads the calendars: those of the settings in force.
    pub calendar: watch::Sender<CalendarSources>,
    /// How notifications go out, for `bridge/health`.
    pub notify_metrics: NotifyMetrics,
    /// How the provider of forecasts answers.
    pub weather_metrics: WeatherMetrics,
    /// What outlets used when.
    pub history: EnergyHistory,
    /// The wall clock.
    pub clock: Clock,
}

/// The MQTT event loop task.
#[derive(Debug)]
pub struct MqttTask {
    publisher: Publisher,
    router: Router,
    commands: Commands,
    retained: RetainedCommands,
    log_limit: LogLimit,
    reloader: Reloader,
    /// To the task that reads the calendars.
    calendar: watch::Sender<CalendarSources>,
    inventory: Section<Inventory>,
    /// The added devices are not those in force yet.
    is_inventory_pending: bool,
    tasks: Tasks,
    health: HealthCollector,
    history: EnergyHistory,
    inbox: mpsc::UnboundedReceiver<MqttMsg>,
    devices: mpsc::Sender<DeviceMsg>,
    /// The device owner does not know yet that the bridge is online.
    are_devices_held: bool,
    updates: mpsc::Receiver<SchedulerUpdate>,
    /// `None` once the last worker ended.
    reports: Option<mpsc::Receiver<DeviceEvent>>,
    /// `None` without pages.
    pages: Option<mpsc::Receiver<PageMsg>>,
    controls: mpsc::Sender<Control>,
    heartbeat: Arc<Notify>,
    /// When the process began to stop.
    closing: Option<Instant>,
}

impl MqttTask {
    /// Opens the link, unless there is no broker, and returns at once; the connection is made in the background.
    ///
    /// # Errors
    /// If the settings cannot work with any broker; see [`LinkError`].
    pub fn open(settings: &Settings, parts: MqttParts, tasks: &Tasks) -> Result<Self, LinkError> {
        let topics = settings.topics();
        let has_broker = settings.mqtt.enabled;
        let tracker = (has_broker && settings.homeassistant.enabled)
            .then(|| tracker(settings, &topics, &parts.deleted));
        let link = if has_broker {
            let (link, driver) = Link::open(link_options(settings, &topics)?)?;
            tasks.spawn("mqtt driver", driver.run());
            Some(link)
        } else {
            None
        };
        let channels = parts.channels;
        let (feed, pages) = channels.pages.map(|pages| (pages.feed, pages.messages)).unzip();
        // Bounded by the queues of the scheduler and the devices, which hold the commands.
        let (replies, inbox) = mpsc::unbounded_channel();
        Ok(Self {
            publisher: Publisher::new(PublisherParts {
                link,
                feed,
                topics: topics.clone(),
                tracker,
                rules: Arc::new(settings.rules.clone()),
                info: parts.info,
                log_level: parts.log_level,
                deleted: parts.deleted,
                clock: parts.clock.clone(),
                configured: settings.devices.iter().map(|device| device.id.clone()).collect(),
                weather: settings.weather.as_ref().map(|weather| weather.provider),
            }),
            router: Router::new(topics, sensor_topics(&settings.rules)),
            commands: Commands::new(channels.scheduler.clone(), replies, parts.clock.clone()),
            retained: RetainedCommands::default(),
            log_limit: LogLimit::new(Instant::now()),
            reloader: Reloader::new(
                parts.loader,
                parts.keep_account,
                settings.clone(),
                parts.as_read,
                tasks.clone(),
                channels.devices.clone(),
                channels.scheduler,
            ),
            calendar: parts.calendar,
            inventory: parts.inventory,
            is_inventory_pending: false,
            tasks: tasks.clone(),
            history: parts.history,
            health: HealthCollector::new(
                parts.metrics,
                parts.notify_metrics,
                parts.weather_metrics,
                tasks.clone(),
                parts.clock,
                parts.state_file,
                parts.section_issues,
            ),
            inbox,
            devices: channels.devices,
            are_devices_held: true,
            updates: channels.updates,
            reports: Some(channels.reports),
            pages,
            controls: channels.controls,
            heartbeat: channels.heartbeat,
            closing: None,
        })
    }

    /// To be notified when the settings are to be read again.
    pub fn reload_signal(&self) -> Arc<Notify> {
        self.reloader.signal()
    }

    /// Runs until the stop, then until all workers ended and all commands have an outcome, and disconnects.
    pub async fn run(mut self, stop: CancellationToken) {
        self.publish_found();
        self.publisher.publish_initial();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_health = Instant::now();
        let online_by = Instant::now() + ONLINE_WITHIN;
        while !self.is_drained() {
            let due = self.publisher.next_due();
            let drain_until = self.closing.map(|since| since + DRAIN_TIME);
            tokio::select! {
                () = stop.cancelled(), if self.closing.is_none() => self.begin_closing(),
                event = self.publisher.link_event() => self.on_link(event),
                event = next(&mut self.reports) => self.on_device_event(event),
                message = next(&mut self.pages) => self.on_page(message),
                Some(update) = self.updates.recv() => self.on_scheduler_update(update),
                reload = self.reloader.step(), if self.closing.is_none() => self.on_reload_step(reload),
                Some(message) = self.inbox.recv() => self.on_reply(message),
                () = sleep_until_some(due.map(|(at, _)| at)) => {
                    if let Some((_, due)) = due {
                        self.publisher.on_due(due);
                    }
                }
                () = sleep_until_some(drain_until) => break,
                expected = heartbeat.tick() => {
                    self.heartbeat.notify_one();
                    self.commands.send_sensors();
                    if self.is_inventory_pending {
                        self.follow_inventory();
                    }
                    let now = Instant::now();
                    if self.log_limit.is_over(now) {
                        log_suppressed(self.log_limit.take_suppressed());
                    }
                    if now >= online_by {
                        self.release_devices();
                    }
                    self.health.on_lag(now.duration_since(expected));
                    if now >= next_health || self.health.has_new_section_issues() {
                        next_health = now + HEALTH_INTERVAL;
                        self.publish_health();
                        // Some may be gone by now.
                        self.publish_found();
                    }
                }
            }
        }
        Box::pin(self.close()).await;
    }

    fn begin_closing(&mut self) {
        self.closing = Some(Instant::now());
        self.publisher.on_closing();
        self.commands.close();
        self.reloader.close();
    }

    /// Whether nothing comes in any more: the workers ended, and every command has its outcome.
    fn is_drained(&self) -> bool {
        self.reports.is_none() && (self.closing.is_none() || self.commands.is_idle())
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up => {
                self.publisher.on_connected();
                self.show_broker(true);
            }
            // The link logs the reason, once.
            LinkEvent::Down { .. } => {
                if let Some(stats) = self.publisher.link_stats() {
                    self.health.on_lost(stats.losses);
                }
                self.publisher.on_disconnected();
                self.show_broker(false);
                self.release_devices();
            }
            LinkEvent::Message {
                topic,
                payload,
                retain,
            } => self.on_message(&topic, &payload, retain),
            // The link logs it, and health counts it.
            LinkEvent::SubscriptionRefused { filter } => self.publisher.on_subscription_refused(&filter),
            LinkEvent::SubscriptionsGivenUp { filters } => self.publisher.on_subscriptions_given_up(&filters),
        }
    }

    /// Devices are connected slowly until the bridge is online: its own state came back from the broker, or it will not.
    fn release_devices(&mut self) {
        if self.are_devices_held {
            self.are_devices_held = self.devices.try_send(DeviceMsg::BridgeOnline).is_err();
        }
    }

    /// Pages and notifications have at once whether the broker can be reached.
    fn show_broker(&mut self, connected: bool) {
        if self.health.on_broker(connected) {
            self.publish_health();
        }
    }

    /// A page sends a command or a request; `None` once there are no pages any more.
    fn on_page(&mut self, message: Option<PageMsg>) {
        let Some(PageMsg {
            topic,
            payload,
            reply,
        }) = message
        else {
            self.pages = None;
            return;
        };
        let topic = format!("{}/{topic}", self.publisher.topics().base());
        let page = ReplyTo::Page(reply);
        match self.router.route(&topic, false) {
            Route::Command { target, verb } => self.on_command(&target, &verb, &payload, page),
            Route::Schedule { group, schedule } => self.on_schedule(group, schedule, &payload, page),
            Route::Request(name) => self.on_request(name, &payload, page),
            Route::Invalid { name, response } => self.on_invalid(&topic, &name, response, &payload, page),
            Route::Ignored(error) => refuse_page(page, "not_a_command", &error.to_string()),
            _ => refuse_page(page, "not_a_command", &TopicError::NotACommand.to_string()),
        }
    }

    fn on_message(&mut self, topic: &str, payload: &[u8], retain: bool) {
        match self.router.route(topic, retain) {
            Route::Sensor => self.commands.sensor(topic, payload, retain),
            Route::Devices => self.publisher.on_device_list(retain.then_some(payload)),
            Route::Groups => self.publisher.on_group_list(retain.then_some(payload)),
            // What was retained before is of an earlier run, and replaced.
            Route::BridgeState | Route::BridgeHealth if retain => {}
            Route::BridgeState => {
                self.publisher.on_bridge_state(payload);
                self.release_devices();
            }
            Route::BridgeHealth => self.publisher.on_bridge_health(topic, payload),
            Route::Command { target, verb } => self.on_command(&target, &verb, payload, ReplyTo::Broker),
            Route::Schedule { group, schedule } => {
                self.on_schedule(group, schedule, payload, ReplyTo::Broker);
            }
            Route::Request(name) => self.on_request(name, payload, ReplyTo::Broker),
            Route::RetainedCommand(command) => self.on_retained_command(topic, &command, payload),
            Route::HomeAssistantStatus => {
                // A retained birth message is an old one, and everything was published since.
                if !retain && payload == BIRTH_PAYLOAD.as_bytes() {
                    self.publisher.on_birth();
                }
            }
            Route::Discovery(node) => self.publisher.on_discovery(topic, node, payload, retain),
            Route::Invalid { name, response } => {
                // Requests and reads need no payload. A retained message comes again after each reconnect.
                let is_cleared = payload.is_empty()
                    && !(matches!(name, InvalidName::Request(_)) || topic.ends_with("/get"));
                if !is_cleared && (!retain || self.retained.is_new(topic)) {
                    self.on_invalid(topic, &name, response, payload, ReplyTo::Broker);
                }
            }
            Route::Ignored(error) => debug!(topic = %topic.escape_debug(), %error, "ignored a message"),
        }
    }

    fn on_command(&mut self, target: &Target, verb: &Verb, payload: &[u8], reply_to: ReplyTo) {
        let context = DecodeContext {
            zone: &self.publisher.rules().location.zone,
            now: self.publisher.now(),
        };
        match (
            decode(target, verb, payload, context),
            self.publisher.unknown(target),
        ) {
            (Decoded::Ignored, _) => on_ignored(reply_to),
            (Decoded::Accepted { transaction, .. } | Decoded::Refused { transaction, .. }, Some(unknown)) => {
                self.refuse(
                    target,
                    transaction.as_ref(),
                    unknown.code,
                    &unknown.message,
                    reply_to,
                );
            }
            (Decoded::Accepted { command, transaction }, None)
                if command.brightness.is_some() && self.publisher.cannot_dim(target) =>
            {
                let message = format!("{target} cannot be dimmed, so it was not switched on");
                let code = ErrorCode::Unsupported.as_str();
                self.refuse(target, transaction.as_ref(), code, &message, reply_to);
            }
            (Decoded::Accepted { command, transaction }, None) => {
                debug!(path = %target, action = %command.action, "command received");
                let (outlets, state) = (self.publisher.outlets(target), self.publisher.confirmed(target));
                let repetition =
                    self.commands
                        .send(target.clone(), command, transaction, reply_to, outlets, state);
                match repetition {
                    Repetition::New | Repetition::InProgress => {}
                    Repetition::Done(response) => self.publisher.respond(target, response),
                }
            }
            (Decoded::Refused { error, transaction }, None) => {
                let (code, message) = (error.code(), error.to_string());
                self.refuse(target, transaction.as_ref(), code, &message, reply_to);
            }
        }
    }

    /// A command or request whose topic names what cannot exist.
    fn on_invalid(
        &mut self,
        topic: &str,
        name: &InvalidName<'_>,
        responds_on: String,
        payload: &[u8],
        reply_to: ReplyTo,
    ) {
        let transaction = transaction_of(payload);
        let transaction = transaction.as_ref();
        let (code, message, response) =
            if let Some(UnknownName { code, message }) = self.publisher.invalid(name) {
                let response = response::of_refused_command(transaction, code, &message);
                (code, message, response)
            } else {
                let error = requests::unknown();
                let (code, message) = (error.code(), error.to_string());
                let response = response::of_refused_request(transaction, code, &message);
                (code, message, response)
            };
        if self.may_log() {
            warn!(
                topic,
                code,
                source = reply_to.source(),
                "command failed: {message}"
            );
        }
        self.publisher.publish_invalid(name, code, &message);
        if let Some(response) = reply_to.page(response) {
            self.publisher.send(responds_on, response);
        }
    }

    /// Enables or disables a schedule: a request to the scheduler whose response is that of a command.
    fn on_schedule(&mut self, group: GroupId, schedule: ScheduleId, payload: &[u8], reply_to: ReplyTo) {
        match decode_switch(payload) {
            Decoded::Ignored => on_ignored(reply_to),
            Decoded::Accepted {
                command: enabled,
                transaction,
            } => {
                let responds_on = ResponseTopic::Group(group.clone());
                let context = self.commands.request_context(responds_on, transaction, reply_to);
                let reply = self.commands.reply_to(context);
                let request = Request::EnableSchedule {
                    group,
                    schedule,
                    enabled,
                };
                self.commands.request(request, reply);
            }
            Decoded::Refused { error, transaction } => {
                let (target, message) = (Target::Group(group), error.to_string());
                self.refuse(&target, transaction.as_ref(), error.code(), &message, reply_to);
            }
        }
    }

    fn on_request(&mut self, name: RequestName, payload: &[u8], reply_to: ReplyTo) {
        match requests::decode(name.as_str(), payload) {
            Decoded::Ignored => on_ignored(reply_to),
            Decoded::Accepted {
                command: request,
                transaction,
            } => {
                let responds_on = ResponseTopic::Request(name);
                let context = self.commands.request_context(responds_on, transaction, reply_to);
                self.carry_out(request, context);
            }
            Decoded::Refused { error, transaction } => {
                self.log_failed_request(&name, error.code(), &error);
                let response =
                    response::of_refused_request(transaction.as_ref(), error.code(), &error.to_string());
                if let Some(response) = reply_to.page(response) {
                    self.publisher.respond_to_request(&name, response);
                }
            }
        }
    }

    fn carry_out(&mut self, request: BridgeRequest, context: RequestContext) {
        let result = match request {
            BridgeRequest::Scheduler(request) => {
                let reply = self.commands.reply_to(context);
                return self.commands.request(request, reply);
            }
            BridgeRequest::Inventory(request) => return self.on_inventory_request(request, context),
            BridgeRequest::Reload => {
                let reply = self.commands.reply_to(context);
                if self.closing.is_none() {
                    self.reloader.on_request(reply);
                }
                return;
            }
            BridgeRequest::Restart => {
                let reply = self.commands.reply_to(context);
                return self.reloader.on_restart_request(reply);
            }
            BridgeRequest::Account(account) => {
                let reply = self.commands.reply_to(context);
                return self.reloader.on_account_request(account, reply);
            }
            BridgeRequest::Backup => {
                let reply = self.commands.reply_to(context);
                return self.reloader.on_backup_request(reply);
            }
            BridgeRequest::Diagnostics => {
                let reply = self.commands.reply_to(context);
                let (settings, now) = (self.reloader.running(), self.publisher.now());
                let diagnostics = Diagnostics::new(settings, "the bridge that runs", now);
                let diagnostics = self.publisher.diagnosed(diagnostics);
                let diagnostics = diagnostics
                    .with("health.json", self.publish_health())
                    .with_log(telemetry::last_lines(LOG_LINES));
                return self.reloader.on_diagnostics_request(diagnostics, reply);
            }
            BridgeRequest::Rescan => {
                let sent = self.devices.try_send(DeviceMsg::Rescan);
                sent.map(|()| Value::Null).map_err(|_| RequestError::Busy)
            }
            BridgeRequest::Health => Ok(self.publish_health()),
            BridgeRequest::History(request) => {
                let now = self.publisher.now();
                request.answer(&self.history, self.publisher.reports(), now)
            }
            BridgeRequest::Identify(name) => {
                identify(self.publisher.reports(), name.as_deref()).map(|found| json!(found))
            }
            BridgeRequest::Events(page) => Ok(self.publisher.events(page)),
            BridgeRequest::Log(lines) => Ok(json!({ "lines": telemetry::last_lines(lines.into()) })),
            BridgeRequest::LogLevel(level) => {
                self.publisher.set_log_level(level);
                Ok(json!({ "level": level }))
            }
            BridgeRequest::Rediscover(owner) => self.rediscover(owner.as_ref()),
        };
        self.on_request_done(context, &result);
    }

    fn rediscover(&mut self, owner: Option<&EntityOwner>) -> RequestResult {
        match owner {
            Some(EntityOwner::Device(device)) if !self.publisher.is_configured(device) => {
                Err(RequestError::UnknownDevice(device.clone()))
            }
            Some(EntityOwner::Group(group)) if self.publisher.rules().group(group).is_none() => {
                Err(RequestError::UnknownGroup(group.clone()))
            }
            owner if self.publisher.rediscover(owner) => Ok(Value::Null),
            _ if self.publisher.link_stats().is_none() => {
                Err(RequestError::Disabled("mqtt.enabled is false"))
            }
            _ => Err(RequestError::Disabled("homeassistant.enabled is false")),
        }
    }

    /// A retained command would be carried out again at every start, long after it was sent.
    fn on_retained_command(&mut self, topic: &str, command: &ParsedTopic, payload: &[u8]) {
        if !payload.is_empty() && self.retained.is_new(topic) {
            warn!(topic = %topic.escape_debug(), "refused a retained command; clear it with an empty retained message");
            let response = |message: &str| response::of_refused_command(None, "retained_command", message);
            self.publisher.refuse_retained(topic, command, response);
        }
    }

    fn on_device_event(&mut self, event: Option<DeviceEvent>) {
        match event {
            Some(DeviceEvent::Report(report)) => {
                self.publisher.on_report(&report);
                self.on_identity(&report);
            }
            Some(DeviceEvent::Found(found)) => self.on_found(&found),
            Some(DeviceEvent::Event(event)) => self.publisher.publish_event(&event),
            // For the scheduler; what changed enough is in the next report.
            Some(DeviceEvent::Metered(_) | DeviceEvent::HubRead(_) | DeviceEvent::Recheck(_)) => {}
            None => self.reports = None,
        }
    }

    fn on_scheduler_update(&mut self, update: SchedulerUpdate) {
        match update {
            SchedulerUpdate::Rules(rules) => self.publisher.on_rules(rules),
            SchedulerUpdate::Outlet(path, status) => self.publisher.on_outlet_status(path, status),
            SchedulerUpdate::Group(group, status) => self.publisher.on_group_status(&group, status),
            SchedulerUpdate::Missing(missing) => self.publisher.on_missing(missing),
            SchedulerUpdate::Sensors(sensors) => self.publisher.on_sensors(sensors),
            SchedulerUpdate::Weather(weather) => self.publisher.on_weather(&weather),
            SchedulerUpdate::Vacation(vacation) => self.publisher.on_vacation(vacation),
            SchedulerUpdate::Event(event) => self.publisher.publish_event(&event),
        }
    }

    fn on_reply(&mut self, message: MqttMsg) {
        match message {
            MqttMsg::CommandDone(context, outcome) => self.on_command_done(context, &outcome),
            MqttMsg::RequestDone(context, result) => self.on_request_done(context, &result),
        }
    }

    /// Responds to a command: on the broker always after a failure, on success if it has a transaction.
    fn on_command_done(&mut self, context: CommandContext, outcome: &CommandOutcome) {
        let now = Instant::now();
        let confirmed = |target: &_| self.publisher.confirmed(target);
        let response = response::of_command(&context, outcome, confirmed, now);
        let error = outcome.result.as_ref().err();
        let response = self.commands.done(&context, response, error.is_none());
        if self.may_log() {
            log_done(&context, outcome, now);
        }
        let is_read = context.is_read();
        let (target, action) = (&context.target, context.payload.action);
        // After a failure, a client that showed the new state already gets the old one again. After a read, the state is
        // published even if it did not change.
        if error.is_some() || is_read {
            self.publisher.republish(target);
        }
        if let Some(response) = context.reply_to.page(response)
            && (error.is_some() || context.transaction.is_some())
        {
            self.publisher.respond(target, response);
        }
        if error.is_some_and(|error| error.code.is_failure()) {
            self.publisher.publish_failure(target, action, outcome);
        }
    }

    fn on_request_done(&mut self, context: RequestContext, result: &RequestResult) {
        let source = context.reply_to.source();
        let response = context.reply_to.page(response::of_request(
            &context.responds_on,
            context.transaction.as_ref(),
            result,
        ));
        match &context.responds_on {
            ResponseTopic::Request(name) => {
                match result {
                    Ok(_) if self.may_log() => info!(request = name.as_str(), "request done"),
                    Ok(_) => {}
                    Err(error) => self.log_failed_request(name, error.code(), error),
                }
                if let Some(response) = response {
                    self.publisher.respond_to_request(name, response);
                }
            }
            ResponseTopic::Group(group) => {
                let target = Target::Group(group.clone());
                if let Err(error) = result {
                    self.on_refused(&target, error.code(), error, source);
                }
                if let Some(response) = response
                    && (result.is_err() || context.transaction.is_some())
                {
                    self.publisher.respond(&target, response);
                }
            }
        }
    }

    /// Responds to a command that could not be decoded.
    fn refuse(
        &mut self,
        target: &Target,
        transaction: Option<&Transaction>,
        code: &'static str,
        message: &str,
        reply_to: ReplyTo,
    ) {
        let source = reply_to.source();
        let response = response::of_refused_command(transaction, code, message);
        if let Some(response) = reply_to.page(response) {
            self.publisher.respond(target, response);
        }
        self.on_refused(target, code, &message, source);
    }

    /// A command that never was one: the state is published again, and the failure reported.
    fn on_refused(&mut self, target: &Target, code: &str, error: &dyn Display, source: &str) {
        if self.may_log() {
            warn!(path = %target, code, source, "command failed: {error}");
        }
        self.publisher.republish(target);
        self.publisher.publish_refused(target, code, error);
    }

    fn log_failed_request(&mut self, name: &RequestName, code: &str, error: &dyn Display) {
        if self.may_log() {
            warn!(request = name.as_str(), code, "request failed: {error}");
        }
    }

    /// Whether one more line about a command may be written.
    fn may_log(&mut self) -> bool {
        let suppressed = self.log_limit.line(Instant::now());
        log_suppressed(suppressed.unwrap_or(0));
        suppressed.is_some()
    }

    fn on_reload_step(&mut self, step: ReloadStep) {
        match step {
            ReloadStep::Signal => self.reloader.on_signal(),
            ReloadStep::Read(read) => self.on_settings_read(read),
            ReloadStep::AccountTried(trial) => self.reloader.on_account_tried(trial),
            ReloadStep::Tried(trial) => self.reloader.on_restart_tried(trial, || {
                let sent = self.controls.try_send(Control::Restart);
                sent.map_err(|_| RequestError::ShuttingDown)
            }),
        }
    }

    fn on_settings_read(&mut self, read: ReadSettings) {
        let inventory = self.inventory.get();
        let outcome = self.reloader.apply(read, &inventory, self.publisher.topics());
        reload::log(&outcome);
        match &outcome {
            Ok(reloaded) => {
                self.on_reloaded(reloaded);
                self.publisher.set_settings_error(None);
            }
            Err(reasons) => self.publisher.set_settings_error(Some(one_line(reasons))),
        }
        self.reloader.reply(&outcome);
    }

    /// Other settings are in force.
    fn on_reloaded(&mut self, reloaded: &Reloaded) {
        let settings = self.reloader.running();
        let sensors = sensor_topics(&settings.rules);
        for topic in reloaded.changed_sensor_topics(&settings.rules) {
            self.publisher.unsubscribe(topic);
            if sensors.contains(topic) {
                self.publisher.subscribe(topic);
            }
        }
        self.router.set_sensors(sensors);
        self.history.set_zone(settings.rules.location.zone.clone());
        self.calendar.send_replace(settings.calendar.clone());
        if reloaded.before.log.level != settings.log.level {
            self.publisher.set_log_level(settings.log.level);
        }
        let devices = settings.devices.iter().map(|device| device.id.clone());
        self.publisher.on_reload(
            devices.collect(),
            known_as(&settings.devices),
            settings.digest(),
            settings.needs_setup(),
        );
        self.publish_found();
    }

    /// Devices answered a search.
    fn on_found(&mut self, found: &[NetworkDevice]) {
        let (add, now) = (self.reloader.running().discovery.add, self.publisher.now());
        let configured = self.reloader.configured();
        let mut changed = false;
        self.inventory.update(|inventory| {
            changed = inventory::take_found(inventory, found, add, configured, now);
            changed
        });
        if changed {
            self.follow_inventory();
        }
    }

    /// A device reported which one it is.
    fn on_identity(&mut self, report: &DeviceReport) {
        let Some(identity) = &report.identity else { return };
        let mut configured = self.reloader.configured().iter();
        let configured = configured
            .any(|device| device.id == report.id)
            .then_some(&report.id);
        let now = self.publisher.now();
        let mut changed = false;
        if report.availability == Availability::Online && self.publisher.is_configured(&report.id) {
            self.inventory.update(|inventory| {
                changed = inventory.on_report(identity, &report.address, configured, now);
                changed
            });
        }
        if changed {
            self.follow_inventory();
        }
    }

    /// Uses the devices that the inventory says, now or as soon as there is room in the inboxes.
    fn follow_inventory(&mut self) {
        let applied = self.reloader.apply_inventory(&self.inventory.get());
        self.is_inventory_pending = applied.is_err();
        match applied {
            Ok(Some(reloaded)) => {
                reload::log_devices(&reloaded);
                self.on_reloaded(&reloaded);
            }
            Ok(None) | Err(_) => self.publish_found(),
        }
    }

    fn on_inventory_request(&mut self, request: InventoryRequest, context: RequestContext) {
        let settings = self.reloader.as_read();
        if request == InventoryRequest::List {
            let list = inventory::list(&self.inventory.get(), &settings.devices);
            return self.on_request_done(context, &Ok(json!(list)));
        }
        let mut inventory = self.inventory.get();
        let replaced = match &request {
            InventoryRequest::Replace { device, .. } => self.refuse_while_on(&inventory, device),
            _ => None,
        };
        let mac = match inventory::carry_out(&mut inventory, request, settings) {
            Ok(mac) => mac,
            Err(error) => return self.on_request_done(context, &Err(error)),
        };
        if let Some(error) = replaced {
            return self.on_request_done(context, &Err(error));
        }
        match self.reloader.apply_inventory(&inventory) {
            Ok(reloaded) => {
                self.inventory.set(inventory);
                match reloaded {
                    Some(reloaded) => {
                        reload::log_devices(&reloaded);
                        self.on_reloaded(&reloaded);
                    }
                    None => self.publish_found(),
                }
            }
            Err(error) => return self.on_request_done(context, &Err(error)),
        }
        let list = inventory::list(&self.inventory.get(), self.reloader.configured());
        let device = list.into_iter().find(|device| device.mac.as_ref() == Some(&mac));
        self.reply_when_written(json!(device), context);
    }

    /// A device that is on would stay on, and nothing would switch it off any more.
    fn refuse_while_on(&self, inventory: &Inventory, device: &str) -> Option<RequestError> {
        let mac = inventory.find(device).ok()?;
        let id = inventory.get(&mac)?.id.clone()?;
        let mut reports = self.publisher.reports();
        let report = reports.find(|report| report.id == id && report.availability == Availability::Online)?;
        let mut outlets = report.outlets.iter();
        let on = outlets.find(|outlet| outlet.power == Some(Power::On))?;
        let path = OutletPath {
            device: id,
            outlet: on.key.clone(),
        };
        Some(RequestError::Invalid(format!(
            "{path} is ON, and once {device} is replaced the bridge does not switch it any more; switch it off first"
        )))
    }

    /// Replies to a request once the state file has what it changed, if the disk is fast enough.
    fn reply_when_written(&self, result: Value, context: RequestContext) {
        let reply = self.commands.reply_to(context);
        let (section, changes) = (self.inventory.clone(), self.inventory.change_count());
        self.tasks.spawn("reply", async move {
            let _late = timeout(WRITTEN_WITHIN, section.written(changes)).await;
            reply.send(Ok(result));
        });
    }

    /// Publishes the devices that were found and are not used.
    fn publish_found(&mut self) {
        let (configured, now) = (self.reloader.configured(), self.publisher.now());
        let found = inventory::found(&self.inventory.get(), configured, now);
        self.publisher.publish_found(found);
    }

    /// Publishes the figures of the bridge, and returns them.
    fn publish_health(&mut self) -> Value {
        let mut health = self.health.health(
            self.publisher.instance(),
            self.publisher.link_stats(),
            self.commands.open(),
            &self.devices,
        );
        health.issues.extend(self.publisher.missing().cloned());
        health
            .issues
            .extend(inventory::absent_members(self.reloader.running()));
        health.issues.extend(self.publisher.issues());
        let health = json!(health);
        self.publisher.publish_health(&health);
        health
    }

    /// Publishes what is still in the channels, and disconnects.
    async fn close(mut self) {
        self.begin_closing();
        while let Ok(update) = self.updates.try_recv() {
            self.on_scheduler_update(update);
        }
        while let Ok(message) = self.inbox.try_recv() {
            self.on_reply(message);
        }
        log_suppressed(self.log_limit.take_suppressed());
        if self.commands.open() > 0 {
            warn!(
                commands = self.commands.open(),
                "some commands got no response before the stop"
            );
        }
        match self.publisher.close(CLOSE_TIMEOUT).await {
            Some(ShutdownOutcome::Acknowledged) => info!("disconnected from the broker"),
            Some(ShutdownOutcome::NotConnected) => {
                info!(
                    "no connection to the broker; if there was one, the broker has published the last will"
                );
            }
            Some(ShutdownOutcome::TimedOut) => {
                warn!("the broker did not acknowledge in time and publishes the last will");
            }
            None => {}
        }
    }
}

/// Lines about commands that were not written, if there are some.
fn log_suppressed(suppressed: u64) {
    if suppressed > 0 {
        warn!(
            suppressed,
            "too many commands at once; lines about some of them were not written"
        );
    }
}

/// An empty payload clears a retained message on the broker. A page gets a response to everything.
fn on_ignored(reply_to: ReplyTo) {
    refuse_page(reply_to, "invalid_payload", "an empty payload is no command");
}

/// Responds to a page whose message is no command. On the broker no client waits for that.
fn refuse_page(reply_to: ReplyTo, code: &'static str, message: &str) {
    reply_to.page(response::of_refused_command(None, code, message));
}

/// One line for each command: done, or failed with code and reason.
fn log_done(context: &CommandContext, outcome: &CommandOutcome, now: Instant) {
    let (path, action, source) = (&context.target, context.payload.action, context.reply_to.source());
    let transaction = context.transaction.as_ref().map(ToString::to_string);
    let latency_ms = context.latency_ms(now);
    match &outcome.result {
        Ok(_) if context.is_read() => debug!(%path, %action, latency_ms, transaction, "command done"),
        Ok(applied) => {
            let state = applied.power().map(|power| power.to_string());
            info!(%path, %action, state, source, latency_ms, transaction, "command done");
        }
        Err(error) => {
            let code = error.code.as_str();
            if error.code.is_failure() {
                warn!(%path, %action, code, source, latency_ms, transaction, "command failed: {error}");
            } else {
                info!(%path, %action, code, source, latency_ms, transaction, "command not carried out: {error}");
            }
        }
    }
}

/// The next message; never resolves where no more can come.
async fn next<T>(messages: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match messages {
        Some(messages) => messages.recv().await,
        None => std::future::pending().await,
    }
}

fn sensor_topics(rules: &Rules) -> BTreeSet<String> {
    let topics = rules.sensors.iter().filter_map(|sensor| sensor.topic());
    topics.map(|source| source.topic.clone()).collect()
}

/// By what Home Assistant knows devices, where that is not their id.
fn known_as(devices: &[Device]) -> BTreeMap<DeviceId, String> {
    let known_as = |device: &Device| Some((device.id.clone(), device.known_as.clone()?));
    devices.iter().filter_map(known_as).collect()
}

fn tracker(settings: &Settings, topics: &Topics, deleted: &DeletedEntities) -> DiscoveryTracker {
    let layout = if settings.homeassistant.child_devices {
        Layout::ChildDevices
    } else {
        Layout::Flat
    };
    let devices = settings
        .devices
        .iter()
        .map(|device| EntityOwner::Device(device.id.clone()));
    let groups = settings.rules.groups.iter();
    let configured = devices.chain(groups.map(|group| EntityOwner::Group(group.id.clone())));
    let builder = EntityBuilder::new(topics.clone(), layout)
        .at_site(settings.mqtt.site.clone())
        .forecasting(settings.weather.as_ref().map(|weather| weather.provider))
        .knowing(known_as(&settings.devices));
    let devices = deleted.devices.get().into_iter().map(EntityOwner::Device);
    let groups = deleted.groups.get().into_iter().map(EntityOwner::Group);
    let children = deleted.children.get().into_iter();
    let children = children.map(|(hub, id)| EntityOwner::Child(hub, id));
    DiscoveryTracker::new(
        builder,
        topics.bridge(BridgeTopic::State),
        configured,
        devices.chain(groups).chain(children).collect(),
    )
}
