//! What is published: the last report of each device, the last status from the scheduler, discovery.

pub(crate) mod bridge_info;
mod earlier_run;
mod erasures;
mod other_bridge;
mod read_back;
mod recent_events;
mod retained_outlets;
pub(crate) mod state;
pub(crate) mod status_cache;
mod throttle;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ha_discovery::{NodeId, STATE_TEXT_MAX};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    deleted::DeletedEntities,
    faulty::FaultyTopics,
    inventory::ListedDevice,
    link::{Filter, Link, LinkEvent, LinkStats, PublishPriority, ShutdownOutcome},
    unknown::UnknownName,
};
use crate::{
    diagnostics::Diagnostics,
    domain::{
        command::{Action, Target},
        command_error::ErrorCode,
        feed::FeedWriter,
        reply::CommandOutcome,
        report::{Availability, DeviceError, DeviceReport, Event, EventKind, Feature, Kind},
        scheduling::{GroupStatus, OutletStatus},
        sensor_status::SensorStatus,
        topics::{BridgeTopic, InvalidName, ParsedTopic, RequestName, Topics},
        weather_provider::WeatherProvider,
        weather_status::WeatherStatus,
    },
    homeassistant::{Announcement, DiscoveryTracker, EntityOwner, Finding, Shape},
    system::{
        clock::Clock,
        telemetry::{Level, LogLevel},
    },
};
use bridge_info::{BridgeInfo, DeviceEntry, EventBody, InfoPayload, LastError};
use earlier_run::EarlierRun;
use erasures::Erasures;
use other_bridge::{OtherBridge, PublishedHealth};
use planner::{DeviceId, GroupId, OutletKey, OutletPath, Power, plan::Vacation, rules::Rules, shortened};
use read_back::ReadBack;
use recent_events::RecentEvents;
use retained_outlets::{EarlierDevice, OutletEntry, RetainedOutlets};
use state::{WeatherState, availability, child_availability, json, states};
use status_cache::StatusCache;
use throttle::Throttle;

/// How long an event or a response waits for the broker.
const ONE_SHOT_TTL: Duration = Duration::from_mins(1);
/// Between two publications of the lists of all devices: each of a thousand devices that come up at once would otherwise
/// have the list of all thousand written.
const OVERVIEW_PAUSE: Duration = Duration::from_millis(200);

/// Between two publications of the values of sensors.
const SENSORS_PAUSE: Duration = Duration::from_secs(1);

/// Removed devices, groups and outlets that a log line names.
const REMOVED_NAMED: usize = 10;
/// Between two publications of everything because another bridge stopped.
const RESTORE_PAUSE: Duration = Duration::from_secs(30);

/// The owner of the link and of everything that is published on it.
#[derive(Debug)]
pub(super) struct Publisher {
    /// `None` without a broker.
    link: Option<Link>,
    /// For pages; `None` without `[web]`.
    feed: Option<FeedWriter>,
    topics: Topics,
    /// `None` without Home Assistant.
    tracker: Option<DiscoveryTracker>,
    statuses: StatusCache,
    info: BridgeInfo,
    log_level: LogLevel,
    deleted: DeletedEntities,
    clock: Clock,
    configured: BTreeSet<DeviceId>,
    /// Devices that were found and are not used.
    found: Vec<ListedDevice>,
    reports: BTreeMap<DeviceId, Arc<DeviceReport>>,
    retained: RetainedOutlets,
    /// What is connected to hubs.
    retained_children: RetainedOutlets,
    earlier_run: EarlierRun,
    /// Devices of an earlier run that are not configured, until their discovery is removed.
    removed_earlier: Vec<DeviceId>,
    erasures: Erasures,
    /// Discovery of an earlier run that was removed and is not in the log yet.
    removed_discovery: Vec<NodeId>,
    /// Of `bridge/devices` and `bridge/info`.
    overview: Throttle,
    events: RecentEvents,
    sensors: Arc<[SensorStatus]>,
    /// Who makes the forecast; `None` without one.
    weather: Option<WeatherProvider>,
    /// Of `bridge/sensors`.
    sensor_values: Throttle,
    faulty: FaultyTopics,
    read_back: ReadBack,
    other_bridge: OtherBridge,
    /// Of everything, after another bridge with this base topic stopped and may have cleared topics.
    restoring: Throttle,
    /// Distinguishes this bridge from another one with its base topic.
    instance: String,
}

/// What a publisher is made of.
#[derive(Debug)]
pub(super) struct PublisherParts {
    pub(super) link: Option<Link>,
    pub(super) feed: Option<FeedWriter>,
    pub(super) topics: Topics,
    pub(super) tracker: Option<DiscoveryTracker>,
    pub(super) rules: Arc<Rules>,
    pub(super) info: BridgeInfo,
    pub(super) log_level: LogLevel,
    pub(super) deleted: DeletedEntities,
    pub(super) clock: Clock,
    pub(super) configured: BTreeSet<DeviceId>,
    pub(super) weather: Option<WeatherProvider>,
}

/// A group in `bridge/groups`, as an earlier run left it.
#[derive(Deserialize)]
struct EarlierGroup {
    id: GroupId,
}

/// What is due at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The lists of all devices.
    Overview,
    /// The values of sensors.
    Sensors,
    /// Everything, for Home Assistant that started.
    Birth,
    /// Discovery messages of earlier runs have arrived.
    StaleCleanup,
    /// Lists of an earlier run have arrived.
    EarlierRun,
    /// The states of what was removed are cleared.
    Erasures,
    /// What was published has come back.
    ReadBack,
    /// Everything, after another bridge with this base topic stopped.
    Restoring,
}

impl Publisher {
    pub(super) fn new(parts: PublisherParts) -> Self {
        let earlier_run = match parts.link {
            Some(_) => EarlierRun::default(),
            None => EarlierRun::none(),
        };
        Self {
            link: parts.link,
            feed: parts.feed,
            topics: parts.topics,
            tracker: parts.tracker,
            statuses: StatusCache::new(parts.rules),
            info: parts.info,
            log_level: parts.log_level,
            deleted: parts.deleted,
            clock: parts.clock,
            configured: parts.configured,
            found: Vec::new(),
            reports: BTreeMap::new(),
            retained: RetainedOutlets::default(),
            retained_children: RetainedOutlets::default(),
            earlier_run,
            removed_earlier: Vec::new(),
            erasures: Erasures::default(),
            removed_discovery: Vec::new(),
            overview: Throttle::new(OVERVIEW_PAUSE),
            events: RecentEvents::default(),
            sensors: Arc::default(),
            weather: parts.weather,
            sensor_values: Throttle::new(SENSORS_PAUSE),
            faulty: FaultyTopics::default(),
            read_back: ReadBack::default(),
            other_bridge: OtherBridge::default(),
            restoring: Throttle::new(RESTORE_PAUSE),
            instance: format!("{:016x}", rand::random::<u64>()),
        }
    }

    /// The next event of the link. May be dropped at any time without losing anything.
    pub(super) async fn link_event(&mut self) -> LinkEvent {
        match &mut self.link {
            Some(link) => link.next_event().await,
            None => std::future::pending().await,
        }
    }

    /// Figures about the link; `None` without a broker.
    pub(super) fn link_stats(&self) -> Option<LinkStats> {
        self.link.as_ref().map(Link::stats)
    }

    /// Subscribes to a topic.
    pub(super) fn subscribe(&mut self, topic: &str) {
        if let (Some(link), Some(filter)) = (&mut self.link, self.faulty.filter(topic.to_owned())) {
            link.subscribe(filter);
        }
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&mut self, topic: &str) {
        if let (Some(link), Some(filter)) = (&mut self.link, self.faulty.filter(topic.to_owned())) {
            link.unsubscribe(&filter);
        }
    }

    /// Publishes what is known before the first report.
    pub(super) fn publish_initial(&mut self) {
        self.announce_bridge();
        self.retain(
            PublishPriority::State,
            self.topics.bridge(BridgeTopic::Found),
            json(&self.found),
        );
        self.publish_info();
        match self.weather {
            Some(_) => self.on_weather(&WeatherStatus::default()),
            // An earlier run may have had a provider.
            None => self.clear(self.topics.bridge(BridgeTopic::Weather)),
        }
        self.publish_last_error(None);
        // Else what an earlier run left makes a device available with the bridge, before it is reached.
        for device in self.configured.clone() {
            self.retain(
                PublishPriority::Availability,
                self.topics.availability(&device),
                availability(Availability::Offline),
            );
        }
        let online = availability(Availability::Online);
        self.retain(
            PublishPriority::BridgeState,
            self.topics.bridge(BridgeTopic::State),
            online,
        );
    }

    /// A connection stands. The link publishes everything that is retained again.
    pub(super) fn on_connected(&mut self) {
        let now = Instant::now();
        self.read_back.connected(now);
        self.earlier_run.connected(now);
        // Not retained, so that it does not replace the list of the earlier run. It comes back after that list, or alone
        // if there is none.
        if !self.earlier_run.devices_read() {
            self.send(self.topics.bridge(BridgeTopic::Devices), self.device_list());
        }
        if !self.earlier_run.groups_read() {
            self.send(self.topics.bridge(BridgeTopic::Groups), self.statuses.list());
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.connected(now);
        }
    }

    /// There is no connection.
    pub(super) fn on_disconnected(&mut self) {
        self.read_back.disconnected();
        self.earlier_run.disconnected();
    }

    /// The next instant at which something is due, and what.
    pub(super) fn next_due(&self) -> Option<(Instant, Due)> {
        let tracker = self.tracker.as_ref();
        [
            (self.overview.due(), Due::Overview),
            (self.sensor_values.due(), Due::Sensors),
            (tracker.and_then(DiscoveryTracker::due), Due::Birth),
            (
                tracker.and_then(DiscoveryTracker::stale_cleanup_ends),
                Due::StaleCleanup,
            ),
            (self.earlier_run.deadline(), Due::EarlierRun),
            (self.erasures.due(), Due::Erasures),
            (self.read_back.deadline(), Due::ReadBack),
            (self.restoring.due(), Due::Restoring),
        ]
        .into_iter()
        .filter_map(|(at, due)| Some((at?, due)))
        .min_by_key(|(at, _)| *at)
    }

    /// Does what is due.
    pub(super) fn on_due(&mut self, due: Due) {
        match due {
            Due::Overview => self.publish_overview(),
            Due::Sensors => self.publish_sensors(),
            Due::Birth => self.republish_all(),
            Due::StaleCleanup => self.on_stale_cleared(),
            Due::Erasures => self.erase_now(),
            Due::EarlierRun => {
                self.on_device_list(None);
                self.on_group_list(None);
            }
            Due::ReadBack => self.on_read_back_due(),
            Due::Restoring => {
                self.restoring.done(Instant::now());
                self.resend_all();
            }
        }
    }

    fn on_read_back_due(&mut self) {
        let stats = self.link_stats();
        let busy = stats.is_some_and(|stats| stats.queued + stats.unacked > 0);
        if let Some(missing) = self.read_back.on_deadline(busy, Instant::now()) {
            warn!("{missing}");
        }
    }

    /// What another client published as the state of this bridge: `offline` is of another bridge with this base topic that
    /// stopped, or the last will of an earlier connection.
    pub(super) fn on_bridge_state(&mut self, payload: &[u8]) {
        if payload == availability(Availability::Online).as_bytes() {
            return;
        }
        self.repeat(self.topics.bridge(BridgeTopic::State));
        if self.other_bridge.is_here(Instant::now()) {
            self.restoring.request(Instant::now());
        }
    }

    /// `bridge/health` arrived: that of this bridge, which comes back, or of another one.
    pub(super) fn on_bridge_health(&mut self, topic: &str, payload: &[u8]) {
        let now = Instant::now();
        let Ok(health) = serde_json::from_slice::<PublishedHealth>(payload) else {
            return;
        };
        if health.instance == self.instance {
            self.read_back.received(topic, payload, now);
        } else if self.other_bridge.received(health, payload, now) {
            warn!("{}", self.other_bridge_issue());
        }
    }

    fn other_bridge_issue(&self) -> String {
        format!(
            "another bridge uses the base topic {}: both carry out each command; change mqtt.base_topic of one of them",
            self.topics.base()
        )
    }

    /// What needs attention.
    pub(super) fn issues(&self) -> Vec<String> {
        let other = self.other_bridge.is_here(Instant::now());
        let left_out = self.link.iter().flat_map(Link::left_out).map(|(topic, bytes)| {
            format!(
                "{topic} is not published: the broker closed the connection at this message ({bytes} bytes) twice; raise \
                 its size limits, or check its access rules"
            )
        });
        let issues = left_out
            .chain(self.read_back.issue())
            .chain(other.then(|| self.other_bridge_issue()));
        issues.collect()
    }

    /// Distinguishes this bridge from another one with its base topic.
    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// The broker denies a subscription, so nothing comes back on it.
    pub(super) fn on_subscription_refused(&mut self, filter: &Filter) {
        let prefix = filter.as_str().split('+').next().unwrap_or_default();
        self.read_back.deny(prefix);
    }

    /// The retained messages of some topics cannot be read: what is there is replaced.
    pub(super) fn on_subscriptions_given_up(&mut self, filters: &[Filter]) {
        for filter in filters {
            self.on_subscription_refused(filter);
        }
        self.on_device_list(None);
        self.on_group_list(None);
        self.on_stale_cleared();
    }

    /// A device changed. One that a reload removed may still report while its worker ends.
    pub(super) fn on_report(&mut self, report: &Arc<DeviceReport>) {
        if !self.is_configured(&report.id) {
            return;
        }
        let report = &self.with_settings_error(report);
        let before = self.reports.insert(report.id.clone(), report.clone());
        if before.as_deref().map(Shape::from) != Some(Shape::from(report.as_ref())) {
            self.announce_device(&report.id);
        }
        self.clear_missing_outlets(report);
        self.publish_states(&report.id);
        self.publish_child_availability(report);
        self.retain(
            PublishPriority::Availability,
            self.topics.availability(&report.id),
            availability(report.availability),
        );
        let before = before.as_deref();
        let is_same = |before: &DeviceReport| {
            before.is_complete == report.is_complete && listed(before) == listed(report)
        };
        if !before.is_some_and(is_same) {
            self.overview.request(Instant::now());
        }
        if before.map(|before| &before.error) != Some(&report.error) {
            self.publish_last_error(Some(report));
        }
    }

    /// The rules changed.
    pub(super) fn on_rules(&mut self, rules: Arc<Rules>) {
        for group in self.statuses.replace_rules(rules) {
            self.remove_group(&group);
        }
        self.publish_group_list();
        let groups: Vec<GroupId> = self.rules().groups.iter().map(|group| group.id.clone()).collect();
        for group in &groups {
            self.publish_group(group);
        }
        // The entities of a device depend on its groups.
        self.announce_all();
    }

    /// The status of an outlet changed. One of a device that is not configured is a remainder of its removal.
    pub(super) fn on_outlet_status(&mut self, path: OutletPath, status: Arc<OutletStatus>) {
        if self.is_configured(&path.device) {
            let device = path.device.clone();
            self.statuses.set_outlet(path, status);
            self.publish_states(&device);
        }
    }

    /// The status of a group changed.
    pub(super) fn on_group_status(&mut self, group: &GroupId, status: Arc<GroupStatus>) {
        self.statuses.set_group(group.clone(), status);
        self.publish_group(group);
    }

    /// Groups have members that their devices do not have, or not any more. A device without another error shows it.
    pub(super) fn on_missing(&mut self, missing: BTreeMap<DeviceId, String>) {
        let before = std::mem::replace(&mut self.statuses.missing, missing);
        let reports: Vec<Arc<DeviceReport>> = self.reports.values().cloned().collect();
        for report in reports {
            let message = before.get(&report.id);
            if message == self.statuses.missing.get(&report.id) {
                continue;
            }
            let is_shown = report.error.as_ref().map(|error| &error.message) == message;
            let error = report.error.clone().filter(|_| !is_shown);
            self.on_report(&Arc::new(DeviceReport {
                error,
                ..DeviceReport::clone(&report)
            }));
        }
    }

    /// What is wrong with members of groups that their devices do not have.
    pub(super) fn missing(&self) -> impl Iterator<Item = &String> {
        self.statuses.missing.values()
    }

    /// The values of the sensors changed.
    pub(super) fn on_sensors(&mut self, sensors: Arc<[SensorStatus]>) {
        self.sensors = sensors;
        self.sensor_values.request(Instant::now());
    }

    fn publish_sensors(&mut self) {
        self.sensor_values.done(Instant::now());
        let topic = self.topics.bridge(BridgeTopic::Sensors);
        self.retain(PublishPriority::State, topic, json(&self.sensors));
    }

    /// The forecast changed, or another hour is the one that now is.
    pub(super) fn on_weather(&mut self, weather: &WeatherStatus) {
        if let Some(provider) = self.weather {
            let topic = self.topics.bridge(BridgeTopic::Weather);
            self.retain(
                PublishPriority::State,
                topic,
                json(&WeatherState::of(provider, weather)),
            );
        }
    }

    /// Vacation began or ended.
    pub(super) fn on_vacation(&mut self, vacation: Vacation) {
        self.statuses.vacation = Some(vacation);
        self.publish_info();
    }

    /// Publishes the devices that were found and are not used.
    pub(super) fn publish_found(&mut self, found: Vec<ListedDevice>) {
        if found != self.found {
            self.found = found;
            let topic = self.topics.bridge(BridgeTopic::Found);
            self.retain(PublishPriority::State, topic, json(&self.found));
            self.announce_bridge();
        }
    }

    /// Other devices are used, or the settings were reloaded. The topics of devices that are gone are cleared. `known_as`
    /// is by what Home Assistant knows devices, where that is not their id.
    pub(super) fn on_reload(
        &mut self,
        devices: BTreeSet<DeviceId>,
        known_as: BTreeMap<DeviceId, String>,
        settings: Value,
        setup_mode: bool,
    ) {
        self.info.settings = settings;
        self.info.setup_mode = setup_mode;
        let before = std::mem::replace(&mut self.configured, devices);
        let removed: Vec<DeviceId> = before.difference(&self.configured).cloned().collect();
        log_removed("devices", &removed);
        let tracker = self.tracker.as_mut();
        let gone = tracker.map(|tracker| tracker.configure(&self.configured, known_as));
        for node in gone.unwrap_or_default() {
            self.remove_discovery(node);
        }
        self.store_deleted();
        for device in removed {
            self.remove_device(&device);
        }
        self.publish_device_list();
        self.publish_info();
    }

    /// Whether the settings that were read last are in force, and why not. Shown in `bridge/last_error`.
    pub(super) fn set_settings_error(&mut self, error: Option<String>) {
        self.info.settings_error = error.map(|why| shortened(why, STATE_TEXT_MAX));
        self.publish_info();
        self.publish_last_error(None);
    }

    /// `bridge/devices` arrived. Topics of devices and outlets that an earlier run published and that are gone are
    /// cleared. `None`: an earlier run left no list.
    pub(super) fn on_device_list(&mut self, earlier: Option<&[u8]>) {
        if !self.earlier_run.read_devices() {
            return;
        }
        let earlier = earlier.and_then(|list| serde_json::from_slice::<Vec<EarlierDevice>>(list).ok());
        for device in earlier.unwrap_or_default() {
            let id = device.id;
            self.retained.add_earlier(id.clone(), device.outlets);
            self.retained_children.add_earlier(id.clone(), device.children);
            if !self.is_configured(&id) {
                self.removed_earlier.push(id);
            } else if let Some(report) = self.reports.get(&id).cloned() {
                self.clear_missing_outlets(&report);
                // The states of those that are not known yet.
                self.publish_states(&id);
                self.publish_child_availability(&report);
            }
        }
        self.remove_earlier();
        self.unsubscribe(&self.topics.bridge(BridgeTopic::Devices));
        self.publish_device_list();
    }

    /// Whether discovery messages of earlier runs are removed, or there are none.
    fn is_stale_cleared(&self) -> bool {
        self.tracker
            .as_ref()
            .is_none_or(DiscoveryTracker::is_stale_cleared)
    }

    fn log_removed_discovery(&mut self) {
        log_removed(
            "Home Assistant devices",
            &std::mem::take(&mut self.removed_discovery),
        );
    }

    /// Removes devices of an earlier run, once the discovery that it left was read and is removed.
    fn remove_earlier(&mut self) {
        if !self.is_stale_cleared() {
            return;
        }
        let mut removed = std::mem::take(&mut self.removed_earlier);
        // A reload may have brought it back.
        removed.retain(|device| !self.is_configured(device));
        log_removed("devices", &removed);
        for device in removed {
            self.forget(&EntityOwner::Device(device.clone()));
            self.remove_device(&device);
        }
    }

    /// `bridge/groups` arrived. Topics of groups that an earlier run published and that are gone are cleared. `None`: an
    /// earlier run left no list.
    pub(super) fn on_group_list(&mut self, earlier: Option<&[u8]>) {
        if !self.earlier_run.read_groups() {
            return;
        }
        let earlier = earlier.and_then(|list| serde_json::from_slice::<Vec<EarlierGroup>>(list).ok());
        let earlier = earlier.unwrap_or_default().into_iter().map(|group| group.id);
        let removed: Vec<_> = earlier.filter(|id| self.rules().group(id).is_none()).collect();
        log_removed("groups", &removed);
        for group in removed {
            self.remove_group(&group);
        }
        self.unsubscribe(&self.topics.bridge(BridgeTopic::Groups));
        self.publish_group_list();
    }

    /// A message on a discovery topic.
    pub(super) fn on_discovery(&mut self, topic: &str, node: NodeId, payload: &[u8], retain: bool) {
        if !retain && !payload.is_empty() {
            self.read_back.received(topic, payload, Instant::now());
        }
        let Some(tracker) = &mut self.tracker else { return };
        match tracker.on_message(&node, payload, retain) {
            Finding::Nothing => {}
            Finding::Stale => {
                self.removed_discovery.push(node.clone());
                self.remove_discovery(node);
                if self.is_stale_cleared() {
                    self.log_removed_discovery();
                }
            }
            Finding::Outdated(EntityOwner::Device(device) | EntityOwner::Child(device, _)) => {
                self.announce_device(&device);
            }
            Finding::Outdated(EntityOwner::Group(_)) => self.announce_groups(),
            Finding::OutdatedBridge => self.announce_bridge(),
            Finding::Foreign => {
                warn!(
                    %node,
                    "another program uses this Home Assistant discovery topic; the entities are not announced. \
                     Change mqtt.base_topic or the id"
                );
                self.mark_discovery_cleared(node);
            }
            Finding::StaleCleared => self.on_stale_cleared(),
            Finding::Deleted(owner) => self.on_deleted(node, owner),
        }
    }

    /// Home Assistant started.
    pub(super) fn on_birth(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            tracker.on_birth(Instant::now());
        }
    }

    /// Announces again what was deleted in Home Assistant: one, or all. Returns `false` without Home Assistant.
    pub(super) fn rediscover(&mut self, owner: Option<&EntityOwner>) -> bool {
        let Some(tracker) = &mut self.tracker else {
            return false;
        };
        tracker.unmark_deleted(owner);
        self.store_deleted();
        self.announce_all();
        self.resend_all();
        true
    }

    /// Publishes the state of a target again, and that of a group's members.
    pub(super) fn republish(&mut self, target: &Target) {
        match target {
            Target::Outlet(path) => self.repeat(self.topics.state(path)),
            Target::Group(group) => {
                for path in self.members(group) {
                    self.repeat(self.topics.state(&path));
                }
                self.repeat(self.topics.group(group));
            }
        }
    }

    /// Publishes the response to a command.
    pub(super) fn respond(&mut self, target: &Target, response: String) {
        let topic = match target {
            Target::Outlet(path) => self.topics.response(path),
            Target::Group(group) => self.topics.group_response(group),
        };
        self.send(topic, response);
    }

    /// Publishes the response to a request.
    pub(super) fn respond_to_request(&mut self, name: &RequestName, response: String) {
        self.send(self.topics.request_response(name), response);
    }

    /// Publishes the response to a retained command, and an event.
    pub(super) fn refuse_retained(
        &mut self,
        topic: &str,
        command: &ParsedTopic,
        response: impl Fn(&str) -> String,
    ) {
        let message = format!(
            "{topic} holds a retained command, which is refused; publish commands without retain, and an empty \
             retained message to clear it"
        );
        if let Some(topic) = self.topics.response_to(command) {
            self.send(topic, response(&message));
        }
        let (device, outlet) = match command {
            ParsedTopic::Outlet { path, .. } => (Some(path.device.clone()), path.outlet.clone()),
            _ => (None, None),
        };
        let group = match command {
            ParsedTopic::Group { group, .. } | ParsedTopic::Schedule { group, .. } => Some(group.clone()),
            _ => None,
        };
        self.publish_event(&Event {
            kind: EventKind::RetainedCommand,
            device,
            outlet,
            group,
            state: None,
            action: None,
            message,
            at: self.now(),
        });
    }

    /// Publishes the event that a command failed: one for each outlet that failed.
    pub(super) fn publish_failure(&mut self, target: &Target, action: Action, outcome: &CommandOutcome) {
        let members = outcome.members.iter();
        let failed = members.filter_map(|(path, result)| Some((path, result.as_ref().err()?)));
        let mut events: Vec<_> = failed
            .map(|(path, error)| (Target::Outlet(path.clone()), error))
            .collect();
        if let (true, Err(error)) = (events.is_empty(), &outcome.result) {
            events.push((target.clone(), error));
        }
        for (failed, error) in events {
            let message = format!("{failed}: {action} failed: {error} ({})", error.code);
            self.publish_failed(&failed, target.group(), message);
        }
    }

    /// Publishes the event that a command was for something that cannot exist.
    pub(super) fn publish_invalid(&mut self, name: &InvalidName<'_>, code: &str, message: &str) {
        let (device, group) = match name {
            InvalidName::Outlet(device, _) => (Some(device.clone()), None),
            InvalidName::Schedule(group, _) => (None, Some(group.clone())),
            InvalidName::Device(_) | InvalidName::Group(_) | InvalidName::Request(_) => (None, None),
        };
        self.publish_event(&Event {
            kind: EventKind::CommandFailed,
            device,
            outlet: None,
            group,
            state: None,
            action: None,
            message: format!("{message} ({code})"),
            at: self.now(),
        });
    }

    /// Publishes the event that a command was refused before it was one.
    pub(super) fn publish_refused(&mut self, target: &Target, code: &str, error: &dyn Display) {
        self.publish_failed(target, target.group(), format!("{target}: {error} ({code})"));
    }

    fn publish_failed(&mut self, failed: &Target, group: Option<&GroupId>, message: String) {
        let path = failed.outlet();
        self.publish_event(&Event {
            kind: EventKind::CommandFailed,
            device: path.map(|path| path.device.clone()),
            outlet: path.and_then(|path| path.outlet.clone()),
            group: group.cloned(),
            state: None,
            action: None,
            message,
            at: self.now(),
        });
    }

    /// Publishes an event.
    pub(super) fn publish_event(&mut self, event: &Event) {
        let body = json(&EventBody::of(event));
        let kept = Bytes::from(body.clone());
        if let Some(feed) = &self.feed {
            feed.event(kept.clone());
        }
        self.events.push(kept);
        self.send(self.topics.bridge(BridgeTopic::Event), body);
    }

    /// The last events: a page of them, the newest first.
    pub(super) fn events(&self, page: u16) -> Value {
        self.events.page(page)
    }

    /// Adds what was published: the last events, the devices, and the state of each outlet.
    pub(super) fn diagnosed(&self, diagnostics: Diagnostics) -> Diagnostics {
        let parsed = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        let of_device = |report: &DeviceReport| {
            let unknown = self.retained.of(&report.id).map(|outlet| outlet.key.clone());
            states(report, &self.statuses, &unknown.collect())
        };
        let states = self.reports().flat_map(of_device);
        let states: Map<String, Value> = states
            .map(|(path, state)| (path.to_string(), parsed(&state)))
            .collect();
        diagnostics
            .with("events.json", self.events.all().collect())
            .with("devices.json", parsed(&self.device_list()))
            .with("groups.json", parsed(&self.statuses.list()))
            .with("states.json", Value::Object(states))
    }

    /// Publishes `bridge/health`.
    pub(super) fn publish_health(&mut self, health: &impl Serialize) {
        let topic = self.topics.bridge(BridgeTopic::Health);
        self.retain_and_read_back(PublishPriority::State, topic, json(health));
    }

    /// Changes the level of the log.
    pub(super) fn set_log_level(&mut self, level: Level) {
        self.log_level.set(level);
        self.publish_info();
    }

    /// The state that a target is known to have; ON for a group when a member is.
    pub(super) fn confirmed(&self, target: &Target) -> Option<Power> {
        match target {
            Target::Outlet(path) => self.confirmed_outlet(path),
            Target::Group(group) => {
                let members = self.members(group);
                members
                    .iter()
                    .filter_map(|path| self.confirmed_outlet(path))
                    .max()
            }
        }
    }

    /// What a target names that is not configured. Which outlets a device has is known by the device.
    pub(super) fn unknown(&self, target: &Target) -> Option<UnknownName> {
        match target {
            Target::Outlet(path) if self.is_configured(&path.device) => None,
            Target::Outlet(path) => Some(self.unknown_device(path.device.as_str())),
            Target::Group(group) if self.rules().group(group).is_some() => None,
            Target::Group(group) => Some(self.unknown_group(group.as_str())),
        }
    }

    /// What a topic names that cannot exist; `None` for a request.
    pub(super) fn invalid(&self, name: &InvalidName<'_>) -> Option<UnknownName> {
        Some(match name {
            InvalidName::Device(name) => self.unknown_device(name),
            InvalidName::Outlet(device, _) if !self.is_configured(device) => {
                self.unknown_device(device.as_str())
            }
            InvalidName::Outlet(device, name) => {
                let outlets = self.reports.get(device).map(|report| report.outlets.as_slice());
                let keys = outlets
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|outlet| outlet.key.as_ref());
                let known: Vec<_> = keys.map(OutletKey::as_str).collect();
                UnknownName::outlet(device, name, &known)
            }
            InvalidName::Group(name) => self.unknown_group(name),
            InvalidName::Schedule(id, name) => match self.rules().group(id) {
                None => self.unknown_group(id.as_str()),
                Some(group) => {
                    let known: Vec<_> = group
                        .schedules
                        .iter()
                        .map(|schedule| schedule.id.as_str())
                        .collect();
                    UnknownName::schedule(id, name, &known)
                }
            },
            InvalidName::Request(_) => return None,
        })
    }

    fn unknown_device(&self, name: &str) -> UnknownName {
        let known: Vec<_> = self.configured.iter().map(DeviceId::as_str).collect();
        UnknownName::device(name, &known)
    }

    fn unknown_group(&self, name: &str) -> UnknownName {
        let known: Vec<_> = self
            .rules()
            .groups
            .iter()
            .map(|group| group.id.as_str())
            .collect();
        UnknownName::group(name, &known)
    }

    /// The outlet or device of a target, or the members of a group.
    pub(super) fn outlets(&self, target: &Target) -> BTreeSet<OutletPath> {
        match target {
            Target::Outlet(path) => [path.clone()].into(),
            Target::Group(group) => self.members(group).into_iter().collect(),
        }
    }

    /// The last report of each device.
    pub(super) fn reports(&self) -> impl Iterator<Item = &DeviceReport> {
        self.reports.values().map(Arc::as_ref)
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> &Rules {
        self.statuses.rules()
    }

    /// The topics of the bridge.
    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The wall clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether a device is configured.
    pub(super) fn is_configured(&self, device: &DeviceId) -> bool {
        self.configured.contains(device)
    }

    /// The bridge stops. Pages show it at once, the broker last.
    pub(super) fn on_closing(&mut self) {
        let offline = Bytes::from(availability(Availability::Offline));
        self.show(&self.topics.bridge(BridgeTopic::State), &offline);
    }

    /// Publishes what waits, then `offline`, and disconnects within `budget`. `None` without a broker.
    pub(super) async fn close(mut self, budget: Duration) -> Option<ShutdownOutcome> {
        if self.erasures.due().is_some() {
            self.erase_now();
        }
        if self.overview.due().is_some() {
            self.publish_overview();
        }
        let offline = Bytes::from(availability(Availability::Offline));
        Some(self.link?.close(offline, budget).await)
    }

    fn publish_overview(&mut self) {
        self.overview.done(Instant::now());
        self.publish_device_list();
        self.publish_info();
    }

    fn publish_info(&mut self) {
        let info = json(&InfoPayload::of(
            &self.info,
            &self.reports,
            self.configured.len(),
            self.statuses.vacation,
            self.log_level.get(),
        ));
        self.retain(
            PublishPriority::State,
            self.topics.bridge(BridgeTopic::Info),
            info,
        );
    }

    /// After everything it lists, so that what it does not list any more is cleared before.
    fn publish_device_list(&mut self) {
        self.publish_list(
            BridgeTopic::Devices,
            self.earlier_run.devices_read(),
            Self::device_list,
        );
    }

    fn publish_group_list(&mut self) {
        self.publish_list(BridgeTopic::Groups, self.earlier_run.groups_read(), |publisher| {
            publisher.statuses.list()
        });
    }

    /// On the broker once the list of an earlier run `is_read`. Pages wait for nothing.
    fn publish_list(&mut self, topic: BridgeTopic, is_read: bool, list: impl FnOnce(&Self) -> String) {
        let publishes = is_read && self.erasures.due().is_none();
        if !publishes && self.feed.is_none() {
            return;
        }
        let (topic, list) = (self.topics.bridge(topic), Bytes::from(list(self)));
        if publishes {
            self.retain(PublishPriority::BridgeState, topic, list);
        } else {
            self.show(&topic, &list);
        }
    }

    /// Every configured device that has reported, or that has topics of an earlier run.
    fn device_list(&self) -> String {
        let (outlets, children) = (&self.retained, &self.retained_children);
        let entry = |device| match self.reports.get(device) {
            Some(report) => Some(DeviceEntry::of(report, outlets, children)),
            None => Some(DeviceEntry::unknown(device, outlets, children))
                .filter(|_| outlets.of(device).chain(children.of(device)).next().is_some()),
        };
        json(&self.configured.iter().filter_map(entry).collect::<Vec<_>>())
    }

    /// The states of a device, from its last report and the scheduler's status.
    fn publish_states(&mut self, device: &DeviceId) {
        let Some(report) = self.reports.get(device) else {
            return;
        };
        let unknown = self.retained.of(device).map(|outlet| outlet.key.clone());
        let unknown: BTreeSet<_> = unknown.collect();
        let identity = report.identity.as_ref();
        let is_hub = identity.is_some_and(|identity| identity.kind == Kind::Hub);
        for (path, state) in states(report, &self.statuses, &unknown) {
            if !is_hub {
                self.retained.add(&path);
            }
            self.retain(PublishPriority::State, self.topics.state(&path), state);
        }
    }

    /// Whether what is connected to a hub can be used. Of a hub that was not reached yet, it is what an earlier run left.
    fn publish_child_availability(&mut self, report: &DeviceReport) {
        let children: Vec<(OutletKey, Availability)> = if report.identity.is_some() {
            let children = report.children.iter();
            children
                .map(|child| (child.key.clone(), child_availability(report, child)))
                .collect()
        } else {
            let children = self.retained_children.of(&report.id);
            children
                .map(|child| (child.key.clone(), Availability::Offline))
                .collect()
        };
        for (key, child) in children {
            let path = OutletPath::outlet(report.id.clone(), key);
            let topic = self.topics.child_availability(&path);
            self.retain(PublishPriority::Availability, topic, availability(child));
        }
    }

    fn publish_group(&mut self, group: &GroupId) {
        if let Some(state) = self.statuses.group_state(group) {
            self.retain(PublishPriority::State, self.topics.group(group), state);
        }
    }

    /// The newest error of a device or of the settings; `null` if there is none.
    fn publish_last_error(&mut self, changed: Option<&DeviceReport>) {
        let has_error = |report: &&DeviceReport| report.error.is_some();
        let report = changed
            .filter(has_error)
            .or_else(|| self.reports().find(has_error));
        let now = self.clock.now();
        let error = match (report, &self.info.settings_error) {
            (None, Some(why)) => LastError::of_settings(why, now),
            _ => LastError::of(report, now),
        };
        let error = json(&error);
        self.retain(
            PublishPriority::State,
            self.topics.bridge(BridgeTopic::LastError),
            error,
        );
    }

    /// A device that works, but not as the settings have it.
    fn with_settings_error(&self, report: &Arc<DeviceReport>) -> Arc<DeviceReport> {
        let (None, Some(message)) = (&report.error, self.statuses.missing.get(&report.id)) else {
            return report.clone();
        };
        Arc::new(DeviceReport {
            error: Some(DeviceError {
                code: ErrorCode::UnknownOutlet,
                message: message.clone(),
            }),
            ..DeviceReport::clone(report)
        })
    }

    /// Clears the topics of outlets that a device does not have. Which it has is known after the first login.
    fn clear_missing_outlets(&mut self, report: &DeviceReport) {
        if report.identity.is_some() {
            let outlets = report.outlets.iter().filter_map(OutletEntry::of);
            let mut removed = self.retained.replace(&report.id, outlets, report.is_complete);
            log_removed("outlets", &removed);
            let children = report.children.iter().map(OutletEntry::of_child);
            let children = self
                .retained_children
                .replace(&report.id, children, report.is_complete);
            log_removed("sensors", &children);
            for path in &children {
                self.erase(self.topics.child_availability(path));
            }
            removed.extend(children);
            for path in removed {
                self.erase(self.topics.state(&path));
            }
        }
    }

    fn remove_device(&mut self, device: &DeviceId) {
        let tracker = self.tracker.as_mut();
        let children = tracker.map(|tracker| tracker.forget_all_children(device));
        for node in children.unwrap_or_default() {
            self.remove_discovery(node);
        }
        self.reports.remove(device);
        self.statuses.remove_device(device);
        for path in self.retained.remove(device) {
            self.erase(self.topics.state(&path));
        }
        for path in self.retained_children.remove(device) {
            self.erase(self.topics.state(&path));
            self.erase(self.topics.child_availability(&path));
        }
        self.erase(self.topics.state(&OutletPath::device(device.clone())));
        self.erase(self.topics.availability(device));
    }

    fn remove_group(&mut self, group: &GroupId) {
        self.forget(&EntityOwner::Group(group.clone()));
        self.erase(self.topics.group(group));
    }

    /// Removes the discovery message of a device or group.
    fn forget(&mut self, owner: &EntityOwner) {
        let tracker = self.tracker.as_mut();
        if let Some(node) = tracker.and_then(|tracker| tracker.forget(owner)) {
            self.remove_discovery(node);
        }
    }

    /// Publishes everything again for Home Assistant, which has just started.
    fn republish_all(&mut self) {
        info!("Home Assistant started; publishing everything again");
        if let Some(tracker) = &mut self.tracker {
            tracker.on_republished(Instant::now());
        }
        self.resend_all();
    }

    /// Sends everything that is retained to the broker again.
    fn resend_all(&mut self) {
        if let Some(link) = &mut self.link {
            link.republish_all();
        }
    }

    /// Discovery messages of earlier runs have arrived: now devices are announced.
    fn on_stale_cleared(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            tracker.on_stale_cleared();
        }
        self.log_removed_discovery();
        self.remove_earlier();
        self.announce_all();
    }

    fn on_deleted(&mut self, node: NodeId, owner: EntityOwner) {
        info!(%node, "deleted in Home Assistant; not announced until bridge/request/homeassistant/rediscover");
        self.mark_discovery_cleared(node);
        self.store_deleted();
        let message = format!("{owner} was deleted in Home Assistant");
        let (device, group) = match owner {
            EntityOwner::Device(device) | EntityOwner::Child(device, _) => (Some(device), None),
            EntityOwner::Group(group) => (None, Some(group)),
        };
        self.publish_event(&Event {
            kind: EventKind::DiscoveryRemoved,
            device,
            outlet: None,
            group,
            state: None,
            action: None,
            message,
            at: self.now(),
        });
    }

    fn store_deleted(&self) {
        let Some(tracker) = &self.tracker else { return };
        let (mut devices, mut groups, mut children) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for owner in tracker.deleted() {
            match owner {
                EntityOwner::Device(device) => devices.insert(device.clone()),
                EntityOwner::Group(group) => groups.insert(group.clone()),
                EntityOwner::Child(hub, id) => children.insert((hub.clone(), id.clone())),
            };
        }
        self.deleted.devices.set(devices);
        self.deleted.groups.set(groups);
        self.deleted.children.set(children);
    }

    fn announce_all(&mut self) {
        self.announce_bridge();
        for device in self.reports.keys().cloned().collect::<Vec<_>>() {
            self.announce_device(&device);
        }
        self.announce_groups();
    }

    fn announce_bridge(&mut self) {
        let offers: Vec<_> = self.found.iter().filter_map(ListedDevice::offer).collect();
        let tracker = self.tracker.as_mut();
        if let Some(bridge) = tracker.and_then(|tracker| tracker.bridge(&offers)) {
            self.announce(PublishPriority::BridgeDiscovery, bridge);
        }
    }

    fn announce_device(&mut self, device: &DeviceId) {
        let (Some(tracker), Some(report)) = (&mut self.tracker, self.reports.get(device)) else {
            return;
        };
        // The hub before what is connected to it, which refers to it.
        let hub = tracker.device(report, self.statuses.rules());
        let gone = tracker.forget_gone_children(report);
        let children = tracker.hub_children(report);
        for node in gone {
            self.remove_discovery(node);
        }
        for announcement in hub.into_iter().chain(children) {
            self.announce(PublishPriority::Discovery, announcement);
        }
    }

    fn announce_groups(&mut self) {
        for group in self.statuses.announceable() {
            let tracker = self.tracker.as_mut();
            if let Some(announcement) = tracker.and_then(|tracker| tracker.group(&group)) {
                self.announce(PublishPriority::Discovery, announcement);
            }
        }
    }

    fn announce(&mut self, priority: PublishPriority, announcement: Announcement) {
        let topic = self.discovery_topic(announcement.node);
        self.retain_and_read_back(priority, topic, announcement.json);
    }

    /// Clears a discovery topic, before any device is announced.
    fn remove_discovery(&mut self, node: NodeId) {
        let topic = self.discovery_topic(node);
        self.read_back.forget(&topic);
        self.retain(PublishPriority::BridgeDiscovery, topic, Bytes::new());
    }

    /// The topic belongs to another program, or was cleared by one. Home Assistant warns of each further empty message.
    fn mark_discovery_cleared(&mut self, node: NodeId) {
        let topic = self.discovery_topic(node);
        self.read_back.forget(&topic);
        if let (Some(link), Some(topic)) = (&mut self.link, self.faulty.topic(topic)) {
            link.mark_cleared(topic);
        }
    }

    fn discovery_topic(&self, node: NodeId) -> String {
        self.topics.topic_of(&ParsedTopic::DiscoveryConfig(node))
    }

    fn confirmed_outlet(&self, path: &OutletPath) -> Option<Power> {
        let report = self.reports.get(&path.device)?;
        let asked = report
            .outlets
            .iter()
            .filter(|outlet| path.outlet.is_none() || outlet.key == path.outlet);
        asked.filter_map(|outlet| outlet.power).max()
    }

    /// Whether an outlet was read, and has no brightness.
    pub(super) fn cannot_dim(&self, target: &Target) -> bool {
        let Some((path, report)) = target
            .outlet()
            .and_then(|path| Some((path, self.reports.get(&path.device)?)))
        else {
            return false;
        };
        let outlets = report.outlets.iter();
        let mut asked = outlets.filter(|outlet| path.outlet.is_none() || outlet.key == path.outlet);
        let is_read = report.identity.is_some();
        is_read && !asked.any(|outlet| outlet.features.contains(&Feature::Brightness))
    }

    /// The outlets of a group; none if it is not configured.
    fn members(&self, group: &GroupId) -> Vec<OutletPath> {
        let group = self.rules().group(group);
        group.map(|group| group.outlets.clone()).unwrap_or_default()
    }

    /// Publishes a topic again.
    fn repeat(&mut self, topic: String) {
        if let (Some(link), Some(topic)) = (&mut self.link, self.faulty.topic(topic)) {
            link.republish(&topic);
        }
    }

    /// Sends a message once.
    pub(super) fn send(&mut self, topic: String, payload: String) {
        if let (Some(link), Some(topic)) = (&mut self.link, self.faulty.topic(topic)) {
            link.publish(topic, payload, ONE_SHOT_TTL);
        }
    }

    /// Shows what a topic below the base has to pages.
    fn show(&self, topic: &str, payload: &Bytes) {
        if let Some(feed) = &self.feed
            && let Some(topic) = self.topics.base().strip(topic)
        {
            feed.publish(topic, payload);
        }
    }

    fn retain(&mut self, priority: PublishPriority, topic: String, payload: impl Into<Bytes>) {
        let payload = payload.into();
        self.erasures.withdraw(&topic);
        self.show(&topic, &payload);
        if let (Some(link), Some(topic)) = (&mut self.link, self.faulty.topic(topic)) {
            link.publish_retained(priority, topic, payload);
        }
    }

    /// Publishes a topic that the bridge reads too.
    fn retain_and_read_back(&mut self, priority: PublishPriority, topic: String, payload: String) {
        let payload = Bytes::from(payload);
        self.show(&topic, &payload);
        let (Some(link), Some(parsed)) = (&mut self.link, self.faulty.topic(topic.clone())) else {
            return;
        };
        if link.publish_retained(priority, parsed, payload.clone()) {
            self.read_back.published(topic, &payload, Instant::now());
        }
    }

    /// Clears a topic once Home Assistant does not read it any more.
    fn erase(&mut self, topic: String) {
        self.erasures.add(topic, Instant::now());
    }

    fn erase_now(&mut self) {
        for topic in self.erasures.take() {
            self.clear(topic);
        }
        self.publish_device_list();
        self.publish_group_list();
    }

    fn clear(&mut self, topic: String) {
        if let Some(feed) = &self.feed
            && let Some(topic) = self.topics.base().strip(&topic)
        {
            feed.clear(topic);
        }
        if let (Some(link), Some(topic)) = (&mut self.link, self.faulty.topic(topic)) {
            link.clear_retained(topic);
        }
    }
}

/// One line for all that is removed: a list on the broker may have any length.
fn log_removed(what: &str, removed: &[impl ToString]) {
    if removed.is_empty() {
        return;
    }
    let count = removed.len();
    let first = removed.iter().take(REMOVED_NAMED).map(ToString::to_string);
    let mut names = first.collect::<Vec<_>>().join(", ");
    if count > REMOVED_NAMED {
        names.push_str(", ...");
    }
    info!(count, names, "cleared retained topics of removed {what}");
}

/// What of a report is in `bridge/devices`: no readings of a meter.
fn listed(report: &DeviceReport) -> (DeviceEntry<'_>, Vec<OutletEntry>) {
    let outlets = report.outlets.iter().filter_map(OutletEntry::of);
    let entries = outlets.chain(report.children.iter().map(OutletEntry::of_child));
    let none = RetainedOutlets::default();
    (DeviceEntry::of(report, &none, &none), entries.collect())
}
