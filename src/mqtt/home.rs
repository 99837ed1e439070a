//! What Home Assistant was told: who is announced, who must not be, and when to tell it again. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ha_discovery::{DevicePayload, NodeId, Platform, Published};
use rand::RngExt as _;
use tokio::time::Instant;

use super::discovery::{Discovery, ORIGIN};
use crate::{model::DeviceId, report::Report};

/// Home Assistant's birth is answered at most this often: it may flap.
const BIRTH_INTERVAL: Duration = Duration::from_secs(30);
/// Many bridges hear the same birth; they do not answer at the same instant.
const BIRTH_JITTER: Duration = Duration::from_secs(3);

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
    Outdated(DeviceId),
    /// Somebody deleted the device in Home Assistant.
    Deleted(DeviceId),
}

/// The memory of what was announced.
#[derive(Debug)]
pub(super) struct Home {
    discovery: Discovery,
    /// The bridge's state topic, by which our own payloads are told from another bridge's.
    bridge_state: String,
    nodes: BTreeMap<NodeId, DeviceId>,
    /// Entities that were announced on each node, in this run or an earlier one.
    announced: BTreeMap<NodeId, BTreeMap<String, Platform>>,
    deleted: BTreeSet<DeviceId>,
    last_birth: Option<Instant>,
    due: Option<Instant>,
}

impl Home {
    pub(super) fn new(
        discovery: Discovery,
        bridge_state: String,
        configured: impl IntoIterator<Item = DeviceId>,
        deleted: BTreeSet<DeviceId>,
    ) -> Self {
        let nodes = configured
            .into_iter()
            .filter_map(|device| Some((Discovery::node(&device)?, device)))
            .collect();
        Self {
            discovery,
            bridge_state,
            nodes,
            announced: BTreeMap::new(),
            deleted,
            last_birth: None,
            due: None,
        }
    }

    /// The bridge's announcement.
    pub(super) fn bridge(&mut self) -> Option<Announcement> {
        self.discovery.bridge().map(|payload| self.announce(payload))
    }

    /// A device's announcement; `None` if it is not known enough, or deleted.
    pub(super) fn device(&mut self, report: &Report) -> Option<Announcement> {
        if self.deleted.contains(&report.id) {
            return None;
        }
        self.discovery
            .device(report)
            .map(|payload| self.announce(payload))
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
        let device = self.nodes.get(node);
        if payload.is_empty() {
            let announced = self.announced.contains_key(node);
            return match device {
                Some(device) if !retain && announced && self.deleted.insert(device.clone()) => {
                    Finding::Deleted(device.clone())
                }
                _ => Finding::Nothing,
            };
        }
        let ours = |published: &Published| {
            published.origin == ORIGIN && published.availability.contains(&self.bridge_state)
        };
        let Some(published) = Some(payload)
            .filter(|_| retain)
            .and_then(Published::parse)
            .filter(ours)
        else {
            return Finding::Nothing;
        };
        match device {
            None if self.discovery.bridge_node().as_ref() == Some(node) => Finding::Nothing,
            None => Finding::Stale,
            Some(device) => {
                let known = self.announced.entry(node.clone()).or_default();
                let before = known.len();
                known.extend(published.components);
                if known.len() > before {
                    Finding::Outdated(device.clone())
                } else {
                    Finding::Nothing
                }
            }
        }
    }

    /// Devices that must not be announced.
    pub(super) fn deleted(&self) -> &BTreeSet<DeviceId> {
        &self.deleted
    }

    /// Announces deleted devices again: all, or one.
    pub(super) fn forgive(&mut self, device: Option<&DeviceId>) {
        self.deleted
            .retain(|deleted| device.is_some_and(|device| device != deleted));
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
            state::tests::report,
            topics::{BridgeTopic, Topics},
        },
        report::Kind,
    };

    fn home() -> Home {
        let topics = Topics::new(
            "tapo2mqtt".parse().unwrap(),
            "ha".parse().unwrap(),
            "ha/status".parse().unwrap(),
        );
        let bridge_state = topics.bridge(BridgeTopic::State);
        let discovery = Discovery::new(topics, Layout::Flat);
        Home::new(
            discovery,
            bridge_state,
            ["mats".parse().unwrap()],
            BTreeSet::new(),
        )
    }

    fn strip(outlets: &[(Option<&str>, Option<Power>)]) -> Report {
        report(Kind::Strip, outlets)
    }

    const TWO: [(Option<&str>, Option<Power>); 2] = [(Some("1"), None), (Some("2"), None)];

    #[test]
    fn what_an_earlier_run_left_is_recognised_by_origin_and_topic() {
        let (mut earlier, mut home) = (home(), home());
        let announced = earlier.device(&strip(&TWO)).unwrap();
        let other: NodeId = "tapo2mqtt_sold".parse().unwrap();
        assert_eq!(
            home.found(&other, announced.json.as_bytes(), true),
            Finding::Stale
        );
        assert_eq!(
            home.found(&other, announced.json.as_bytes(), false),
            Finding::Nothing,
            "an echo"
        );
        let foreign = announced
            .json
            .replace("tapo2mqtt/bridge/state", "garden/bridge/state");
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
    fn an_outlet_that_is_gone_is_removed_by_its_platform_alone() {
        let (mut earlier, mut home) = (home(), home());
        let before = earlier.device(&strip(&TWO)).unwrap();
        let now = strip(&TWO[..1]);
        home.device(&now).unwrap();
        assert_eq!(
            home.found(&before.node, before.json.as_bytes(), true),
            Finding::Outdated(now.id.clone())
        );
        let payload: Value = serde_json::from_str(&home.device(&now).unwrap().json).unwrap();
        let removed = &payload["components"]["tapo2mqtt_mats_o2_switch"];
        assert_eq!(*removed, serde_json::json!({"platform": "switch"}));
    }

    #[test]
    fn a_device_deleted_in_home_assistant_stays_deleted_until_forgiven() {
        let mut home = home();
        let device = strip(&TWO);
        let node = home.device(&device).unwrap().node;
        assert_eq!(
            home.found(&node, b"", true),
            Finding::Nothing,
            "nothing was retained"
        );
        assert_eq!(home.found(&node, b"", false), Finding::Deleted(device.id.clone()));
        assert_eq!(
            home.found(&node, b"", false),
            Finding::Nothing,
            "our own withdrawal comes back"
        );
        assert_eq!(home.device(&device), None);
        home.forgive(Some(&device.id));
        assert!(home.device(&device).is_some());
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

    proptest! {
        #[test]
        fn any_discovery_is_read_without_a_panic(
            payload in prop_oneof![
                damaged(home().device(&strip(&TWO)).unwrap().json.into_bytes()),
                json(&["origin", "name", "availability", "topic", "components", "platform", "child_devices"])
                    .prop_map(|json| json.to_string().into_bytes()),
                prop::collection::vec(any::<u8>(), 0..200),
            ],
            retain: bool,
        ) {
            let mut home = home();
            let node = home.device(&strip(&TWO)).unwrap().node;
            home.found(&node, &payload, retain);
            // Whatever was found, what is announced next can be read.
            if let Some(again) = home.device(&strip(&TWO[..1])) {
                prop_assert!(Published::parse(again.json.as_bytes()).is_some());
            }
        }
    }
}
