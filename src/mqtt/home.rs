//! What Home Assistant was told: who is announced, who must not be, and when to tell it again. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ha_discovery::{DevicePayload, NodeId, Platform, Published};
use rand::RngExt as _;
use tokio::time::Instant;

use super::discovery::{Discovery, ORIGIN};
use crate::{
    model::{DeviceId, GroupId},
    report::Report,
    scheduler::rules::{Group, Rules},
};

/// Home Assistant's birth is answered at most this often: it may flap.
const BIRTH_INTERVAL: Duration = Duration::from_secs(30);
/// Many bridges hear the same birth; they do not answer at the same instant.
const BIRTH_JITTER: Duration = Duration::from_secs(3);

/// Who has a device in Home Assistant, beside the bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Device(DeviceId),
    Group(GroupId),
}

impl Subject {
    fn node(&self) -> Option<NodeId> {
        match self {
            Self::Device(device) => Discovery::node(device),
            Self::Group(group) => Discovery::group_node(group),
        }
    }
}
/// How long what earlier runs announced is waited for, at most.
const SWEEP_TIME: Duration = Duration::from_secs(2);

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
    Outdated(Subject),
    /// Somebody deleted the device in Home Assistant.
    Deleted(Subject),
    /// Everything that earlier runs announced has been seen.
    Swept,
}

/// Looking at what earlier runs announced. No device is announced before that is over: one that has a new
/// id must first go under its old one, or Home Assistant, which knows it again by its MAC, makes one
/// device of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sweep {
    /// There was no connection yet.
    Ahead,
    /// Over with the echo of our own announcement, which comes after what was retained, or at this time.
    Until(Instant),
    Over,
}

/// The memory of what was announced.
#[derive(Debug)]
pub(super) struct Home {
    discovery: Discovery,
    /// The bridge's state topic, by which our own payloads are told from another bridge's.
    bridge_state: String,
    nodes: BTreeMap<NodeId, Subject>,
    /// Entities that were announced on each node, in this run or an earlier one.
    announced: BTreeMap<NodeId, BTreeMap<String, Platform>>,
    deleted: BTreeSet<Subject>,
    /// Nodes whose topics we emptied: the echo of that is no deletion.
    withdrawn: BTreeSet<NodeId>,
    sweep: Sweep,
    last_birth: Option<Instant>,
    due: Option<Instant>,
}

impl Home {
    pub(super) fn new(
        discovery: Discovery,
        bridge_state: String,
        configured: impl IntoIterator<Item = Subject>,
        deleted: BTreeSet<Subject>,
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
            sweep: Sweep::Ahead,
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
        if self.sweep == Sweep::Ahead {
            self.sweep = Sweep::Until(now + SWEEP_TIME);
        }
    }

    /// When the sweep is over at the latest.
    pub(super) fn sweep_ends(&self) -> Option<Instant> {
        match self.sweep {
            Sweep::Until(end) => Some(end),
            Sweep::Ahead | Sweep::Over => None,
        }
    }

    /// The sweep is over: from now on devices are announced.
    pub(super) fn swept(&mut self) {
        self.sweep = Sweep::Over;
    }

    /// A device's announcement; `None` before the sweep is over, and if the device is not known enough, or
    /// deleted.
    pub(super) fn device(&mut self, report: &Report, rules: &Rules) -> Option<Announcement> {
        if self.sweep != Sweep::Over || self.deleted.contains(&Subject::Device(report.id.clone())) {
            return None;
        }
        let payload = self.discovery.device(report, rules)?;
        Some(self.announce(payload))
    }

    /// A group's announcement; `None` if it was deleted.
    pub(super) fn group(&mut self, group: &Group) -> Option<Announcement> {
        let subject = Subject::Group(group.id.clone());
        if self.deleted.contains(&subject) {
            return None;
        }
        let payload = self.discovery.group(group)?;
        self.nodes.insert(payload.node.clone(), subject);
        Some(self.announce(payload))
    }

    /// A device is configured now.
    pub(super) fn expect(&mut self, device: DeviceId) {
        let subject = Subject::Device(device);
        self.nodes.extend(subject.node().map(|node| (node, subject)));
    }

    /// A device or group is not configured any more; returns where it was announced. The topic is to be emptied.
    pub(super) fn forget(&mut self, subject: &Subject) -> Option<NodeId> {
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
        if bridge && !retain && self.sweep != Sweep::Over {
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
    pub(super) fn deleted(&self) -> &BTreeSet<Subject> {
        &self.deleted
    }

    /// Announces what was deleted again: all, or one.
    pub(super) fn forgive(&mut self, subject: Option<&Subject>) {
        self.deleted
            .retain(|deleted| subject.is_some_and(|subject| subject != deleted));
    }

    /// Home Assistant started: everything is told again, soon and not too often.
    pub(super) fn born(&mut self, now: Instant) {
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
mod tests {
    use proptest::prelude::*;

    use crate::fuzz::{damaged, json};
    use ha_discovery::Layout;
    use serde_json::Value;

    use super::*;
    use crate::{
        model::Power,
        mqtt::{
            state::tests::{no_standings, report},
            topics::{BridgeTopic, Topics},
        },
        report::Kind,
    };

    fn home() -> Home {
        let mut home = starting();
        home.swept();
        home
    }

    fn starting() -> Home {
        let topics = Topics::new(
            "tapo2mqtt".parse().unwrap(),
            "ha".parse().unwrap(),
            "ha/status".parse().unwrap(),
        );
        let bridge_state = topics.bridge(BridgeTopic::State);
        let discovery = Discovery::new(topics, Layout::Flat);
        Home::new(discovery, bridge_state, [mats()], BTreeSet::new())
    }

    fn mats() -> Subject {
        Subject::Device("mats".parse().unwrap())
    }

    fn announced(home: &mut Home, report: &Report) -> Option<Announcement> {
        home.device(report, no_standings().rules())
    }

    fn strip(outlets: &[(Option<&str>, Option<Power>)]) -> Report {
        report(Kind::Strip, outlets)
    }

    const TWO: [(Option<&str>, Option<Power>); 2] = [(Some("1"), None), (Some("2"), None)];

    #[test]
    fn what_an_earlier_run_left_is_recognised_by_origin_and_topic() {
        let (mut earlier, mut home) = (home(), home());
        let told = announced(&mut earlier, &strip(&TWO)).unwrap();
        let other: NodeId = "tapo2mqtt_sold".parse().unwrap();
        assert_eq!(home.found(&other, told.json.as_bytes(), true), Finding::Stale);
        assert_eq!(
            home.found(&other, told.json.as_bytes(), false),
            Finding::Nothing,
            "an echo"
        );
        let foreign = told.json.replace("tapo2mqtt/bridge/state", "garden/bridge/state");
        assert_eq!(
            home.found(&other, foreign.as_bytes(), true),
            Finding::Nothing,
            "another bridge's"
        );
        assert_eq!(home.found(&other, b"not json", true), Finding::Nothing);
        let bridge = home.bridge().unwrap();
        assert_eq!(
            home.found(&bridge.node, bridge.json.as_bytes(), true),
            Finding::Nothing
        );
    }

    #[test]
    fn devices_wait_until_earlier_announcements_were_seen() {
        let (now, mut home) = (Instant::now(), starting());
        assert_eq!(home.sweep_ends(), None, "not connected");
        home.connected(now);
        assert_eq!(home.device(&strip(&TWO), no_standings().rules()), None);
        let bridge = home.bridge().unwrap();
        assert_eq!(
            home.found(&bridge.node, bridge.json.as_bytes(), true),
            Finding::Nothing,
            "an earlier run's"
        );
        assert_eq!(
            home.found(&bridge.node, bridge.json.as_bytes(), false),
            Finding::Swept
        );
        assert_eq!(home.sweep_ends(), Some(now + SWEEP_TIME));
        home.swept();
        assert!(home.device(&strip(&TWO), no_standings().rules()).is_some());
        home.connected(now);
        assert_eq!(home.sweep_ends(), None, "once is enough");
    }

    #[test]
    fn an_outlet_that_is_gone_is_removed_by_its_platform_alone() {
        let (mut earlier, mut home) = (home(), home());
        let before = announced(&mut earlier, &strip(&TWO)).unwrap();
        let now = strip(&TWO[..1]);
        announced(&mut home, &now).unwrap();
        assert_eq!(
            home.found(&before.node, before.json.as_bytes(), true),
            Finding::Outdated(mats())
        );
        let payload: Value = serde_json::from_str(&announced(&mut home, &now).unwrap().json).unwrap();
        let removed = &payload["components"]["tapo2mqtt_mats_o2_switch"];
        assert_eq!(*removed, serde_json::json!({"platform": "switch"}));
    }

    #[test]
    fn a_device_deleted_in_home_assistant_stays_deleted_until_forgiven() {
        let mut home = home();
        let device = strip(&TWO);
        let node = announced(&mut home, &device).unwrap().node;
        assert_eq!(
            home.found(&node, b"", true),
            Finding::Nothing,
            "nothing was retained"
        );
        assert_eq!(home.found(&node, b"", false), Finding::Deleted(mats()));
        assert_eq!(
            home.found(&node, b"", false),
            Finding::Nothing,
            "our own withdrawal comes back"
        );
        assert_eq!(announced(&mut home, &device), None);
        home.forgive(Some(&mats()));
        assert!(announced(&mut home, &device).is_some());
    }

    #[test]
    fn births_are_answered_once_in_a_while() {
        let mut home = home();
        let now = Instant::now();
        home.born(now);
        home.born(now);
        assert!(home.due().unwrap() <= now + BIRTH_JITTER);
        home.told(now);
        assert_eq!(home.due(), None);
        home.born(now);
        assert!(home.due().unwrap() >= now + BIRTH_INTERVAL);
    }

    fn group(schedules: &[&str]) -> Group {
        let schedule = |id: &&str| crate::scheduler::testing::schedule(id, "06:00", "08:00");
        crate::scheduler::testing::group(schedules.iter().map(schedule).collect())
    }

    #[test]
    fn a_schedule_that_is_gone_is_removed_by_its_platform_alone() {
        let mut home = home();
        home.group(&group(&["morning", "evening"])).unwrap();
        let told = home.group(&group(&["morning"])).unwrap();
        let payload: Value = serde_json::from_str(&told.json).unwrap();
        let component =
            |id: &str| payload["components"][format!("tapo2mqtt-group-driveway_schedule_{id}")].clone();
        assert_eq!(component("evening"), serde_json::json!({"platform": "switch"}));
        assert_eq!(
            component("morning")["command_topic"],
            "tapo2mqtt/group/driveway/set/schedule/morning"
        );
    }

    #[test]
    fn a_group_is_left_alone_once_deleted_and_stale_once_gone() {
        let mut home = home();
        let driveway = Subject::Group("driveway".parse().unwrap());
        let told = home.group(&group(&[])).unwrap();
        assert_eq!(
            home.found(&told.node, told.json.as_bytes(), true),
            Finding::Nothing
        );
        assert_eq!(
            home.found(&told.node, b"", false),
            Finding::Deleted(driveway.clone())
        );
        assert_eq!(home.group(&group(&[])), None);
        home.forgive(None);
        assert!(home.group(&group(&[])).is_some());
        assert_eq!(home.forget(&driveway), Some(told.node.clone()));
        assert_eq!(home.found(&told.node, told.json.as_bytes(), true), Finding::Stale);
    }

    #[test]
    fn the_echo_of_our_own_withdrawal_deletes_nothing() {
        let mut home = home();
        let device = strip(&TWO);
        announced(&mut home, &device).unwrap();
        let node = home.forget(&mats()).unwrap();
        home.expect("mats".parse().unwrap());
        let told = announced(&mut home, &device).unwrap();
        assert_eq!(home.found(&node, b"", false), Finding::Nothing);
        assert_eq!(home.found(&node, b"", false), Finding::Nothing, "sent twice");
        assert_eq!(home.found(&node, told.json.as_bytes(), false), Finding::Nothing);
        assert_eq!(home.found(&node, b"", false), Finding::Deleted(mats()));
    }

    proptest! {
        #[test]
        fn any_discovery_is_read_without_a_panic(
            payload in prop_oneof![
                damaged(home().device(&strip(&TWO), no_standings().rules()).unwrap().json.into_bytes()),
                json(&["origin", "name", "availability", "topic", "components", "platform", "child_devices"])
                    .prop_map(|json| json.to_string().into_bytes()),
                prop::collection::vec(any::<u8>(), 0..200),
            ],
            retain: bool,
        ) {
            let mut home = home();
            let node = home.device(&strip(&TWO), no_standings().rules()).unwrap().node;
            home.found(&node, &payload, retain);
            // Whatever was found, what is announced next can be read.
            if let Some(again) = home.device(&strip(&TWO[..1]), no_standings().rules()) {
                prop_assert!(Published::parse(again.json.as_bytes()).is_some());
            }
        }
    }
}
