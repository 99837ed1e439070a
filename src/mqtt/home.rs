//! What Home Assistant was told: who is announced, who must not be, and when to tell it again. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ha_discovery::{DevicePayload, NodeId, Platform, Published};
use rand::RngExt as _;
use tokio::time::Instant;

use super::discovery::{Discovery, ORIGIN};
use crate::domain::report::DeviceReport;
use planner::{
    DeviceId, GroupId,
    rules::{Group, Rules},
};

/// Home Assistant's birth is answered at most this often: it may flap.
const BIRTH_INTERVAL: Duration = Duration::from_secs(30);
/// Many bridges hear the same birth; they do not answer at the same instant.
const BIRTH_JITTER: Duration = Duration::from_secs(3);
/// How long what earlier runs announced is waited for, at most.
const SWEEP_TIME: Duration = Duration::from_secs(2);

/// Who has a device in Home Assistant, beside the bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntityOwner {
    Device(DeviceId),
    Group(GroupId),
}

impl EntityOwner {
    fn node(&self) -> Option<NodeId> {
        match self {
            Self::Device(device) => Discovery::node(device),
            Self::Group(group) => Discovery::group_node(group),
        }
    }
}

/// A discovery message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) node: NodeId,
    pub(super) json: String,
}

/// What a message on a discovery topic means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing to do.
    Nothing,
    /// Ours, of a device that is not configured any more: empty the topic.
    Stale,
    /// An earlier run announced entities that are gone: announce anew.
    Outdated(EntityOwner),
    /// Somebody deleted the device in Home Assistant.
    Deleted(EntityOwner),
    /// Everything that earlier runs announced has been seen.
    Swept,
}

/// Looking at what earlier runs announced. No device is announced before that is over: one that has a new
/// id must first go under its old one, or Home Assistant, which knows it again by its MAC, makes one
/// device of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StaleCleanup {
    /// There was no connection yet.
    Ahead,
    /// Over with the echo of our own announcement, which comes after what was retained, or at this time.
    Until(Instant),
    Over,
}

/// The memory of what was announced.
#[derive(Debug)]
pub(super) struct DiscoveryTracker {
    discovery: Discovery,
    /// The bridge's state topic, by which our own payloads are told from another bridge's.
    bridge_state: String,
    nodes: BTreeMap<NodeId, EntityOwner>,
    /// Entities that were announced on each node, in this run or an earlier one.
    announced: BTreeMap<NodeId, BTreeMap<String, Platform>>,
    deleted: BTreeSet<EntityOwner>,
    /// Nodes whose topics we emptied: the echo of that is no deletion.
    withdrawn: BTreeSet<NodeId>,
    sweep: StaleCleanup,
    last_birth: Option<Instant>,
    due: Option<Instant>,
}

impl DiscoveryTracker {
    pub(super) fn new(
        discovery: Discovery,
        bridge_state: String,
        configured: impl IntoIterator<Item = EntityOwner>,
        deleted: BTreeSet<EntityOwner>,
    ) -> Self {
        let nodes = configured
            .into_iter()
            .filter_map(|subject| Some((subject.node()?, subject)))
            .collect();
        Self {
            discovery,
            bridge_state,
            nodes,
            announced: BTreeMap::new(),
            deleted,
            withdrawn: BTreeSet::new(),
            sweep: StaleCleanup::Ahead,
            last_birth: None,
            due: None,
        }
    }

    /// The bridge's announcement.
    pub(super) fn bridge(&mut self) -> Option<Announcement> {
        self.discovery.bridge().map(|payload| self.announce(payload))
    }

    /// A connection stands.
    pub(super) fn connected(&mut self, now: Instant) {
        if self.sweep == StaleCleanup::Ahead {
            self.sweep = StaleCleanup::Until(now + SWEEP_TIME);
        }
    }

    /// When the sweep is over at the latest.
    pub(super) fn stale_cleanup_ends(&self) -> Option<Instant> {
        match self.sweep {
            StaleCleanup::Until(end) => Some(end),
            StaleCleanup::Ahead | StaleCleanup::Over => None,
        }
    }

    /// The sweep is over: from now on devices are announced.
    pub(super) fn stale_cleared(&mut self) {
        self.sweep = StaleCleanup::Over;
    }

    /// A device's announcement; `None` before the sweep is over, and if the device is not known enough, or
    /// deleted.
    pub(super) fn device(&mut self, report: &DeviceReport, rules: &Rules) -> Option<Announcement> {
        if self.sweep != StaleCleanup::Over || self.deleted.contains(&EntityOwner::Device(report.id.clone()))
        {
            return None;
        }
        let payload = self.discovery.device(report, rules)?;
        Some(self.announce(payload))
    }

    /// A group's announcement; `None` if it was deleted.
    pub(super) fn group(&mut self, group: &Group) -> Option<Announcement> {
        let subject = EntityOwner::Group(group.id.clone());
        if self.deleted.contains(&subject) {
            return None;
        }
        let payload = self.discovery.group(group)?;
        self.nodes.insert(payload.node.clone(), subject);
        Some(self.announce(payload))
    }

    /// A device is configured now.
    pub(super) fn expect(&mut self, device: DeviceId) {
        let subject = EntityOwner::Device(device);
        self.nodes.extend(subject.node().map(|node| (node, subject)));
    }

    /// A device or group is not configured any more; returns where it was announced. The topic is to be emptied.
    pub(super) fn forget(&mut self, subject: &EntityOwner) -> Option<NodeId> {
        let node = subject.node()?;
        self.nodes.remove(&node);
        self.announced.remove(&node);
        self.withdrawn.insert(node.clone());
        Some(node)
    }

    /// Entities that vanish are named once more, with nothing but their platform: Home Assistant removes
    /// them only so. They stay named for the rest of this run, because of two payloads in a row a link
    /// that is down delivers only the last.
    fn announce(&mut self, mut payload: DevicePayload) -> Announcement {
        let announced = self.announced.entry(payload.node.clone()).or_default();
        payload.remove_vanished(announced.clone());
        announced.extend(payload.announces());
        Announcement {
            json: payload.to_json(),
            node: payload.node,
        }
    }

    /// Looks at a message on a discovery topic. `retain` tells what an earlier run left from what
    /// somebody publishes now.
    pub(super) fn found(&mut self, node: &NodeId, payload: &[u8], retain: bool) -> Finding {
        let subject = self.nodes.get(node);
        if !retain && !payload.is_empty() {
            self.withdrawn.remove(node);
        }
        if payload.is_empty() {
            let announced = !self.withdrawn.contains(node) && self.announced.contains_key(node);
            return match subject {
                Some(subject) if !retain && announced && self.deleted.insert(subject.clone()) => {
                    Finding::Deleted(subject.clone())
                }
                _ => Finding::Nothing,
            };
        }
        let ours = |published: &Published| {
            published.origin == ORIGIN && published.availability.contains(&self.bridge_state)
        };
        let bridge = self.discovery.bridge_node().as_ref() == Some(node);
        if bridge && !retain && self.sweep != StaleCleanup::Over {
            return Finding::Swept;
        }
        let Some(published) = Some(payload)
            .filter(|_| retain)
            .and_then(Published::parse)
            .filter(ours)
        else {
            return Finding::Nothing;
        };
        match subject {
            None if bridge => Finding::Nothing,
            None => Finding::Stale,
            Some(subject) => {
                let known = self.announced.entry(node.clone()).or_default();
                let before = known.len();
                known.extend(published.components);
                if known.len() > before {
                    Finding::Outdated(subject.clone())
                } else {
                    Finding::Nothing
                }
            }
        }
    }

    /// Devices and groups that must not be announced.
    pub(super) fn deleted(&self) -> &BTreeSet<EntityOwner> {
        &self.deleted
    }

    /// Announces what was deleted again: all, or one.
    pub(super) fn unmark_deleted(&mut self, subject: Option<&EntityOwner>) {
        self.deleted
            .retain(|deleted| subject.is_some_and(|subject| subject != deleted));
    }

    /// Home Assistant started: everything is told again, soon and not too often.
    pub(super) fn on_birth(&mut self, now: Instant) {
        let earliest = self.last_birth.map_or(now, |last| last + BIRTH_INTERVAL).max(now);
        let jitter = BIRTH_JITTER.mul_f64(rand::rng().random());
        self.due.get_or_insert(earliest + jitter);
    }

    /// When everything is to be told again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It was.
    pub(super) fn told(&mut self, now: Instant) {
        self.due = None;
        self.last_birth = Some(now);
    }
}

#[cfg(test)]
mod tests;
