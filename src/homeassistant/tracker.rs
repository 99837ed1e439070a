//! What was announced to Home Assistant, what was deleted there, and when to announce again. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use ha_discovery::{DevicePayload, NodeId, Platform, Published};
use rand::RngExt as _;
use tokio::time::Instant;

use super::entities::{EntityBuilder, ORIGIN, Offer};
use crate::domain::report::DeviceReport;
use planner::{
    DeviceId, GroupId,
    rules::{Group, Rules},
};

/// After a birth message everything is published again at most this often: Home Assistant may flap.
const BIRTH_INTERVAL: Duration = Duration::from_secs(30);
/// Several bridges receive the same birth message; they do not publish at the same instant.
const BIRTH_JITTER: Duration = Duration::from_secs(3);
/// How long to wait for discovery messages of earlier runs, at most.
const STALE_CLEANUP_TIME: Duration = Duration::from_secs(2);

/// What is a device in Home Assistant, beside the bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityOwner {
    /// A configured device.
    Device(DeviceId),
    /// A configured group.
    Group(GroupId),
    /// What is connected to a hub, by its own id.
    Child(DeviceId, String),
}

impl fmt::Display for EntityOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(f, "{device}"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Child(hub, id) => write!(f, "{id} of {hub}"),
        }
    }
}

/// A discovery message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Its topic.
    pub node: NodeId,
    /// Its payload.
    pub json: String,
}

/// What a message on a discovery topic means.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing to do.
    Nothing,
    /// Ours, of a device that is not configured any more: clear the topic.
    Stale,
    /// An earlier run announced entities that are gone, or the topic is free now: announce again.
    Outdated(EntityOwner),
    /// The same for the bridge.
    OutdatedBridge,
    /// Another program uses a topic of ours. Nothing is announced there until that program clears it.
    Foreign,
    /// The device was deleted in Home Assistant.
    Deleted(EntityOwner),
    /// Everything that earlier runs announced has arrived.
    StaleCleared,
}

/// Reading what earlier runs announced. No device is announced before that is over: one that is not read yet keeps what
/// an earlier run announced of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StaleCleanup {
    /// There was no connection yet.
    Pending,
    /// Over with the echo of our own announcement, which comes after the retained messages, or at this time.
    Until(Instant),
    Over,
}

/// The entities that were announced on a node, in this run or an earlier one, by unique id. There are twenty of a plug, and
/// a list takes half the memory of a map.
#[derive(Debug, Default)]
struct AnnouncedEntities(Box<[(Box<str>, Platform)]>);

impl AnnouncedEntities {
    fn iter(&self) -> impl Iterator<Item = (String, Platform)> {
        self.0
            .iter()
            .map(|(id, platform)| (String::from(&**id), *platform))
    }

    fn extend(&mut self, more: BTreeMap<String, Platform>) {
        let mut all: BTreeMap<String, Platform> = self.iter().collect();
        all.extend(more);
        self.0 = all
            .into_iter()
            .map(|(id, platform)| (id.into(), platform))
            .collect();
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The memory of what was announced.
#[derive(Debug)]
pub struct DiscoveryTracker {
    builder: EntityBuilder,
    /// The bridge's state topic, which distinguishes our payloads from another bridge's.
    bridge_state: String,
    nodes: BTreeMap<NodeId, EntityOwner>,
    announced: BTreeMap<NodeId, AnnouncedEntities>,
    deleted: BTreeSet<EntityOwner>,
    /// Nodes whose topics another program uses.
    foreign: BTreeSet<NodeId>,
    /// Nodes whose topics we cleared: the echo of that is no deletion.
    cleared: BTreeSet<NodeId>,
    stale_cleanup: StaleCleanup,
    last_birth: Option<Instant>,
    due: Option<Instant>,
}

impl DiscoveryTracker {
    /// Expects the entities of what is configured. `deleted` are those that were deleted in Home Assistant.
    pub fn new(
        builder: EntityBuilder,
        bridge_state: String,
        configured: impl IntoIterator<Item = EntityOwner>,
        deleted: BTreeSet<EntityOwner>,
    ) -> Self {
        let mut tracker = Self {
            builder,
            bridge_state,
            nodes: BTreeMap::new(),
            announced: BTreeMap::new(),
            deleted,
            foreign: BTreeSet::new(),
            cleared: BTreeSet::new(),
            stale_cleanup: StaleCleanup::Pending,
            last_birth: None,
            due: None,
        };
        for owner in configured {
            let node = tracker.node(&owner);
            tracker.nodes.extend(node.map(|node| (node, owner)));
        }
        tracker
    }

    /// The bridge's announcement, with the devices that it offers to add; `None` if another program uses its topic.
    pub fn bridge(&mut self, offers: &[Offer]) -> Option<Announcement> {
        let payload = self.builder.bridge(offers)?;
        self.announce(payload)
    }

    /// A connection stands.
    pub fn connected(&mut self, now: Instant) {
        if self.stale_cleanup == StaleCleanup::Pending {
            self.stale_cleanup = StaleCleanup::Until(now + STALE_CLEANUP_TIME);
        }
    }

    /// When reading what earlier runs announced is over at the latest; `None` if it is over or there was no connection.
    pub fn stale_cleanup_ends(&self) -> Option<Instant> {
        match self.stale_cleanup {
            StaleCleanup::Until(end) => Some(end),
            StaleCleanup::Pending | StaleCleanup::Over => None,
        }
    }

    /// Whether everything that earlier runs announced was read.
    pub fn is_stale_cleared(&self) -> bool {
        self.stale_cleanup == StaleCleanup::Over
    }

    /// Everything that earlier runs announced was read: from now on devices are announced.
    pub fn on_stale_cleared(&mut self) {
        self.stale_cleanup = StaleCleanup::Over;
    }

    /// A device's announcement; `None` before what earlier runs announced was read, if it was deleted, and while it is being
    /// read. Before it is known which entities the device has, those that an earlier run announced stay, and a new device
    /// that cannot be reached has only those that need no device.
    pub fn device(&mut self, report: &DeviceReport, rules: &Rules) -> Option<Announcement> {
        if self.stale_cleanup != StaleCleanup::Over
            || self.deleted.contains(&EntityOwner::Device(report.id.clone()))
        {
            return None;
        }
        if report.is_complete {
            let payload = self.builder.device(report, rules)?;
            return self.announce(payload);
        }
        // It is announced once, when it was read.
        if report.is_being_read() {
            return None;
        }
        let payload = self.builder.unread_device(report)?;
        let known = self.announced.get(&payload.node);
        let is_all = known.is_none_or(|known| known.len() <= payload.components.len());
        is_all.then(|| self.announce(payload)).flatten()
    }

    /// The announcements of what is connected to a hub; none before the hub was read.
    pub fn hub_children(&mut self, report: &DeviceReport) -> Vec<Announcement> {
        if !self.knows_children(report) {
            return Vec::new();
        }
        let children = self.builder.hub_children(report);
        let announce = |(id, payload): (String, DevicePayload)| {
            let owner = EntityOwner::Child(report.id.clone(), id);
            self.nodes.insert(payload.node.clone(), owner.clone());
            (!self.deleted.contains(&owner))
                .then(|| self.announce(payload))
                .flatten()
        };
        children.into_iter().filter_map(announce).collect()
    }

    /// The nodes of what was connected to a device and is not any more: their topics are to be cleared.
    pub fn forget_gone_children(&mut self, report: &DeviceReport) -> Vec<NodeId> {
        if !self.knows_children(report) {
            return Vec::new();
        }
        let children = self.builder.hub_children(report);
        let connected: BTreeSet<NodeId> = children.into_iter().map(|(_, payload)| payload.node).collect();
        self.forget_children(&report.id, |node| !connected.contains(node))
    }

    /// The nodes of what is connected to a device that is not configured any more: their topics are to be cleared.
    pub fn forget_all_children(&mut self, hub: &DeviceId) -> Vec<NodeId> {
        self.forget_children(hub, |_| true)
    }

    fn knows_children(&self, report: &DeviceReport) -> bool {
        self.stale_cleanup == StaleCleanup::Over && report.is_complete
    }

    fn forget_children(&mut self, hub: &DeviceId, is_gone: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        let of_hub = |owner: &EntityOwner| matches!(owner, EntityOwner::Child(of, _) if of == hub);
        let nodes = self.nodes.iter();
        let gone = nodes.filter(|(node, owner)| of_hub(owner) && is_gone(node));
        let gone: Vec<NodeId> = gone.map(|(node, _)| node.clone()).collect();
        gone.into_iter()
            .filter_map(|node| self.forget_node(node))
            .collect()
    }

    /// A group's announcement; `None` if it was deleted.
    pub fn group(&mut self, group: &Group) -> Option<Announcement> {
        let owner = EntityOwner::Group(group.id.clone());
        if self.deleted.contains(&owner) {
            return None;
        }
        let payload = self.builder.group(group)?;
        self.nodes.insert(payload.node.clone(), owner);
        self.announce(payload)
    }

    /// Other devices are used, or Home Assistant knows them by something else. Returns the nodes that are to be cleared. The
    /// node of a device that has another id stays.
    pub fn configure(
        &mut self,
        devices: &BTreeSet<DeviceId>,
        known_as: BTreeMap<DeviceId, String>,
    ) -> Vec<NodeId> {
        self.builder = self.builder.clone().knowing(known_as);
        let is_device = |owner: &EntityOwner| matches!(owner, EntityOwner::Device(_));
        let before: Vec<(NodeId, EntityOwner)> =
            self.nodes.extract_if(.., |_, owner| is_device(owner)).collect();
        for device in devices {
            let owner = EntityOwner::Device(device.clone());
            self.nodes.extend(self.node(&owner).map(|node| (node, owner)));
        }
        let mut gone = Vec::new();
        for (node, owner) in before {
            match self.nodes.get(&node) {
                Some(now) if *now != owner && self.deleted.remove(&owner) => {
                    self.deleted.insert(now.clone());
                }
                Some(_) => {}
                None if self.foreign.contains(&node) => {}
                None => gone.push(self.clear(node)),
            }
        }
        gone
    }

    /// A device or group is not configured any more. Returns its node if the topic is to be cleared.
    pub fn forget(&mut self, owner: &EntityOwner) -> Option<NodeId> {
        let node = self.node(owner)?;
        self.forget_node(node)
    }

    fn forget_node(&mut self, node: NodeId) -> Option<NodeId> {
        self.nodes.remove(&node);
        if self.foreign.contains(&node) {
            return None;
        }
        Some(self.clear(node))
    }

    fn clear(&mut self, node: NodeId) -> NodeId {
        self.announced.remove(&node);
        self.cleared.insert(node.clone());
        node
    }

    /// Entities that are gone are named with their platform alone, which makes Home Assistant remove them. They stay
    /// named for the rest of this run, because of two payloads in a row a link that is down delivers only the last.
    /// `None` if another program uses the topic.
    fn announce(&mut self, mut payload: DevicePayload) -> Option<Announcement> {
        if self.foreign.contains(&payload.node) {
            return None;
        }
        let announced = self.announced.entry(payload.node.clone()).or_default();
        payload.remove_vanished(announced.iter());
        announced.extend(payload.announces());
        Some(Announcement {
            json: payload.to_json(),
            node: payload.node,
        })
    }

    /// Reads a message on a discovery topic. `retain` distinguishes what an earlier run left from what is published now.
    pub fn on_message(&mut self, node: &NodeId, payload: &[u8], retain: bool) -> Finding {
        if payload.is_empty() {
            return self.on_cleared(node, retain);
        }
        let bridge = self.builder.bridge_node().as_ref() == Some(node);
        let published = Published::parse(payload);
        let ours = published
            .as_ref()
            .is_some_and(|published| self.is_ours(published));
        if published.is_some() && !ours && (bridge || self.nodes.contains_key(node)) {
            self.announced.remove(node);
            let new = self.foreign.insert(node.clone());
            return if new { Finding::Foreign } else { Finding::Nothing };
        }
        if !retain {
            self.cleared.remove(node);
        }
        if bridge && !retain && self.stale_cleanup != StaleCleanup::Over {
            return Finding::StaleCleared;
        }
        let Some(published) = published.filter(|_| retain && ours) else {
            return Finding::Nothing;
        };
        // What is connected to a hub is known when the hub was read. Until then it stays.
        let owner = self.nodes.get(node).cloned().or_else(|| self.child_of(node));
        match &owner {
            Some(owner) => drop(self.nodes.insert(node.clone(), owner.clone())),
            None if bridge => {}
            None => return Finding::Stale,
        }
        let known = self.announced.entry(node.clone()).or_default();
        let before = known.len();
        known.extend(published.components);
        if known.len() == before {
            return Finding::Nothing;
        }
        owner.map_or(Finding::OutdatedBridge, Finding::Outdated)
    }

    /// What an earlier run announced as connected to a configured device.
    fn child_of(&self, node: &NodeId) -> Option<EntityOwner> {
        let (_, id) = node.as_str().rsplit_once('-')?;
        let hubs = self.nodes.values().filter_map(|owner| match owner {
            EntityOwner::Device(device) => Some(device),
            EntityOwner::Group(_) | EntityOwner::Child(..) => None,
        });
        let mut hubs = hubs.filter(|hub| self.builder.child_node(hub, id).as_ref() == Some(node));
        let hub = hubs.next()?;
        Some(EntityOwner::Child(hub.clone(), id.to_owned()))
    }

    /// A topic was cleared: by us, by the program that used it, or by Home Assistant, where a device was deleted.
    fn on_cleared(&mut self, node: &NodeId, retain: bool) -> Finding {
        let owner = self.nodes.get(node);
        if self.foreign.remove(node) {
            return owner.cloned().map_or(Finding::Nothing, Finding::Outdated);
        }
        let announced = !self.cleared.contains(node) && self.announced.contains_key(node);
        match owner {
            Some(owner) if !retain && announced && self.deleted.insert(owner.clone()) => {
                Finding::Deleted(owner.clone())
            }
            _ => Finding::Nothing,
        }
    }

    fn is_ours(&self, published: &Published) -> bool {
        published.origin == ORIGIN && published.availability.contains(&self.bridge_state)
    }

    fn node(&self, owner: &EntityOwner) -> Option<NodeId> {
        match owner {
            EntityOwner::Device(device) => self.builder.device_node(device),
            EntityOwner::Group(group) => self.builder.group_node(group),
            EntityOwner::Child(hub, id) => self.builder.child_node(hub, id),
        }
    }

    /// Devices and groups that must not be announced.
    pub fn deleted(&self) -> &BTreeSet<EntityOwner> {
        &self.deleted
    }

    /// Announces what was deleted again: all, or one; with a hub, what is connected to it.
    pub fn unmark_deleted(&mut self, owner: Option<&EntityOwner>) {
        let is_meant = |deleted: &EntityOwner| match (owner, deleted) {
            (None, _) => true,
            (Some(EntityOwner::Device(device)), EntityOwner::Child(hub, _)) => hub == device,
            (Some(owner), deleted) => owner == deleted,
        };
        self.deleted.retain(|deleted| !is_meant(deleted));
    }

    /// Home Assistant started: everything is published again, soon and not too often.
    pub fn on_birth(&mut self, now: Instant) {
        let earliest = self.last_birth.map_or(now, |last| last + BIRTH_INTERVAL).max(now);
        let jitter = BIRTH_JITTER.mul_f64(rand::rng().random());
        self.due.get_or_insert(earliest + jitter);
    }

    /// When everything is to be published again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Everything was published again.
    pub fn on_republished(&mut self, now: Instant) {
        self.due = None;
        self.last_birth = Some(now);
    }
}

#[cfg(test)]
mod tests;
