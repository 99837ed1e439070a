//! The topic tree: what has been reported, and what therefore stands on the broker.

mod former;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tracing::warn;

use super::{
    discovery::Shape,
    faulty::FaultyTopics,
    home::{Announcement, DiscoveryTracker},
    link::{Link, PublishPriority},
    state::{availability, json, states},
    topics::{Address, BridgeTopic, Topics},
};
use crate::mqtt::{
    bridge_info::{BridgeInfo, DeviceEntry, EventBody, InfoPayload, LastError},
    status_cache::StatusCache,
    throttle::Throttle,
};
use crate::{
    domain::{
        command_error::ErrorCode,
        report::{Availability, DeviceError, DeviceReport, Event},
    },
    system::{clock::Clock, telemetry::Level},
};
use planner::{DeviceId, OutletKey, OutletPath, Power};

/// How long an event or an answer is worth sending while the broker is away.
const ONE_SHOT_TTL: Duration = Duration::from_mins(1);
/// Between two times that all devices are told of together: each of a thousand that come up at once would otherwise
/// have the list of all thousand written.
const OVERVIEW_PAUSE: Duration = Duration::from_millis(200);

/// The sole owner of what is published.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) link: Link,
    pub(super) topics: Topics,
    pub(super) home: Option<DiscoveryTracker>,
    pub(super) statuses: StatusCache,
    pub(super) about: BridgeInfo,
    pub(super) configured: BTreeSet<DeviceId>,
    pub(super) reports: BTreeMap<DeviceId, Arc<DeviceReport>>,
    pub(super) faulty: FaultyTopics,
    /// Why the settings that were read last were not taken.
    pub(super) refused_settings: Option<String>,
    /// Of what is said of all devices together.
    overview: Throttle,
    clock: Clock,
    /// Whether the devices of an earlier run were looked at.
    stale_cleared: bool,
    /// Whether the groups of an earlier run were looked at.
    pub(super) stale_groups_cleared: bool,
    /// The outlets that an earlier run told of, of devices that did not tell theirs yet.
    stale_outlets: BTreeMap<DeviceId, Vec<OutletKey>>,
}

impl Publisher {
    pub(super) fn new(
        link: Link,
        topics: Topics,
        home: Option<DiscoveryTracker>,
        about: BridgeInfo,
        configured: BTreeSet<DeviceId>,
        statuses: StatusCache,
        clock: Clock,
    ) -> Self {
        Self {
            link,
            topics,
            home,
            statuses,
            about,
            configured,
            reports: BTreeMap::new(),
            faulty: FaultyTopics::default(),
            refused_settings: None,
            overview: Throttle::new(OVERVIEW_PAUSE),
            clock,
            stale_cleared: false,
            stale_groups_cleared: false,
            stale_outlets: BTreeMap::new(),
        }
    }

    /// What stands before the first report.
    pub(super) fn publish_initial(&mut self, level: Level) {
        if let Some(bridge) = self.home.as_mut().and_then(DiscoveryTracker::bridge) {
            self.announce(PublishPriority::BridgeDiscovery, bridge);
        }
        self.publish_info(level);
        self.publish_devices();
        self.publish_groups();
        self.publish_last_error(None);
        let online = availability(Availability::Online);
        self.retain(
            PublishPriority::BridgeState,
            self.topics.bridge(BridgeTopic::State),
            online,
        );
    }

    /// A device changed. One that a reload took out may still report while its worker ends.
    pub(super) fn hear(&mut self, report: &Arc<DeviceReport>) {
        if !self.is_configured(&report.id) {
            return;
        }
        let report = &self.with_settings_error(report);
        let before = self.reports.insert(report.id.clone(), report.clone());
        if before.as_deref().map(Shape::from) != Some(Shape::from(report.as_ref())) {
            self.announce_device(&report.id);
        }
        self.publish_states(&report.id);
        self.retain(
            PublishPriority::Availability,
            self.topics.availability(&report.id),
            availability(report.availability),
        );
        self.clear_vanished_outlets(before.as_deref(), report);
        self.clear_stale_outlets(report);
        // What is told of all devices together; what a meter shows is not in it.
        let before = before.as_deref();
        if before.map(DeviceEntry::of) != Some(DeviceEntry::of(report)) {
            self.overview.ask(Instant::now());
        }
        if before.map(|before| &before.trouble) != Some(&report.trouble) {
            self.publish_last_error(Some(report));
        }
    }

    /// When [`Publisher::publish_overview`] is to be called.
    pub(super) fn overview_due(&self) -> Option<Instant> {
        self.overview.due()
    }

    /// Tells what is said of all devices together.
    pub(super) fn publish_overview(&mut self, level: Level) {
        self.overview.told(Instant::now());
        self.publish_devices();
        self.publish_info(level);
    }

    /// Something happened.
    pub(super) fn publish_event(&mut self, event: &Event) {
        self.send(
            self.topics.bridge(BridgeTopic::Event),
            json(&EventBody::of(event)),
        );
    }

    /// The bridge's own figures, retained.
    pub(super) fn publish_health(&mut self, health: &impl Serialize) {
        self.retain(
            PublishPriority::State,
            self.topics.bridge(BridgeTopic::Health),
            json(health),
        );
    }

    /// Version, start, settings, how many devices are online.
    pub(super) fn publish_info(&mut self, level: Level) {
        let info = json(&InfoPayload::of(
            &self.about,
            &self.reports,
            self.configured.len(),
            self.statuses.vacation,
            level,
        ));
        self.retain(
            PublishPriority::State,
            self.topics.bridge(BridgeTopic::InfoPayload),
            info,
        );
    }

    /// The states of a device, as it and the scheduler told them last.
    pub(super) fn publish_states(&mut self, device: &DeviceId) {
        let Some(report) = self.reports.get(device) else {
            return;
        };
        for (path, state) in states(report, &self.statuses) {
            self.retain(PublishPriority::State, self.topics.state(&path), state);
        }
    }

    /// Publishes what a topic holds again: after a failed command, for whoever showed the wished state
    /// already.
    pub(super) fn repeat(&mut self, topic: String) {
        if let Some(topic) = self.faulty.topic(topic) {
            self.link.republish(&topic);
        }
    }

    /// Announces a device from its last report.
    pub(super) fn announce_device(&mut self, device: &DeviceId) {
        let Some(report) = self.reports.get(device).cloned() else {
            return;
        };
        let announcement = self.announcement(&report);
        if let Some(announcement) = announcement {
            self.announce(PublishPriority::Discovery, announcement);
        }
    }

    /// Announces everything anew.
    pub(super) fn announce_all(&mut self) {
        if let Some(bridge) = self.home.as_mut().and_then(DiscoveryTracker::bridge) {
            self.announce(PublishPriority::BridgeDiscovery, bridge);
        }
        for device in self.reports.keys().cloned().collect::<Vec<_>>() {
            self.announce_device(&device);
        }
        self.announce_groups();
    }

    /// Empties a discovery topic, before any device is announced.
    pub(super) fn remove_discovery(&mut self, topic: &Address) {
        self.retain(
            PublishPriority::BridgeDiscovery,
            self.topics.topic_of(topic),
            Bytes::new(),
        );
    }

    /// Somebody else emptied a discovery topic, and so it shall stay. Home Assistant, if it was that, warns of
    /// each further empty message.
    pub(super) fn keep_empty(&mut self, topic: &Address) {
        if let Some(topic) = self.faulty.topic(self.topics.topic_of(topic)) {
            self.link.mark_cleared(topic);
        }
    }

    /// What an outlet is known to be.
    pub(super) fn confirmed_outlet(&self, path: &OutletPath) -> Option<Power> {
        let report = self.reports.get(&path.device)?;
        let asked = report
            .outlets
            .iter()
            .filter(|outlet| path.outlet.is_none() || outlet.key == path.outlet);
        asked.filter_map(|outlet| outlet.power).max()
    }

    /// A connection stands. The link publishes everything by itself; what an earlier run left is asked for.
    pub(super) fn connected(&mut self) {
        let former = [
            (BridgeTopic::Devices, self.stale_cleared),
            (BridgeTopic::Groups, self.stale_groups_cleared),
        ];
        for (topic, stale_cleared) in former {
            if !stale_cleared && let Some(filter) = self.faulty.filter(self.topics.bridge(topic)) {
                self.link.subscribe(filter);
            }
        }
        if let Some(home) = &mut self.home {
            home.connected(Instant::now());
        }
    }

    /// What earlier runs announced has been looked at: the devices' turn.
    pub(super) fn stale_cleared(&mut self) {
        if let Some(home) = &mut self.home {
            home.stale_cleared();
        }
        self.announce_all();
    }

    /// The wall clock, for what is told with its time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether a device is configured.
    pub(super) fn is_configured(&self, device: &DeviceId) -> bool {
        self.configured.contains(device)
    }

    /// Sends a message once.
    pub(super) fn send(&mut self, topic: String, payload: String) {
        if let Some(topic) = self.faulty.topic(topic) {
            self.link.publish(topic, payload, ONE_SHOT_TTL);
        }
    }

    /// Outlets that a strip had before and has no more.
    fn clear_vanished_outlets(&mut self, before: Option<&DeviceReport>, now: &DeviceReport) {
        let keys = |report: &DeviceReport| {
            report
                .outlets
                .iter()
                .filter_map(|outlet| outlet.key.clone())
                .collect::<BTreeSet<_>>()
        };
        let Some(before) = before else { return };
        for key in keys(before).difference(&keys(now)) {
            let path = OutletPath::outlet(now.id.clone(), key.clone());
            self.erase(self.topics.state(&path));
        }
    }

    pub(super) fn publish_devices(&mut self) {
        let entries: Vec<_> = self
            .reports
            .values()
            .map(|report| DeviceEntry::of(report))
            .collect();
        let devices = json(&entries);
        self.retain(
            PublishPriority::State,
            self.topics.bridge(BridgeTopic::Devices),
            devices,
        );
    }

    /// A device that works as it should, but not as the settings have it.
    fn with_settings_error(&self, report: &Arc<DeviceReport>) -> Arc<DeviceReport> {
        let finding = self.rules().strip_as_outlet(&report.id, report.outlets.len());
        let (None, Some(message)) = (&report.trouble, finding) else {
            return report.clone();
        };
        let known = self
            .reports
            .get(&report.id)
            .and_then(|known| known.trouble.as_ref());
        if known.is_none_or(|known| known.message != message) {
            warn!(device = %report.id, "{message}");
        }
        Arc::new(DeviceReport {
            trouble: Some(DeviceError {
                code: ErrorCode::UnknownOutlet,
                message,
            }),
            ..DeviceReport::clone(report)
        })
    }

    /// The trouble that came last; gone when nothing has any.
    pub(super) fn publish_last_error(&mut self, changed: Option<&DeviceReport>) {
        let troubled = |report: &&DeviceReport| report.trouble.is_some();
        let others = self.reports.values().map(Arc::as_ref);
        let report = changed
            .filter(troubled)
            .or_else(|| others.into_iter().find(troubled));
        let now = self.clock.now();
        let error = match (report, &self.refused_settings) {
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

    fn announcement(&mut self, report: &DeviceReport) -> Option<Announcement> {
        let rules = self.statuses.rules();
        self.home.as_mut()?.device(report, rules)
    }

    pub(super) fn announce(&mut self, priority: PublishPriority, announcement: Announcement) {
        let topic = self.topics.topic_of(&Address::DiscoveryConfig(announcement.node));
        self.retain(priority, topic, announcement.json);
    }

    pub(super) fn retain(&mut self, rank: PublishPriority, topic: String, payload: impl Into<Bytes>) {
        if let Some(topic) = self.faulty.topic(topic) {
            self.link.publish_retained(rank, topic, payload);
        }
    }

    pub(super) fn erase(&mut self, topic: String) {
        if let Some(topic) = self.faulty.topic(topic) {
            self.link.clear_retained(topic);
        }
    }
}
