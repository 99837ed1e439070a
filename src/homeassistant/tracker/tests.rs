use proptest::prelude::*;

use ha_discovery::{Layout, written_out};
use serde_json::Value;
use test_inputs::{damaged, json};

use super::*;
use crate::{
    domain::{
        report::{Kind, Phase},
        topics::{BridgeTopic, Topics},
    },
    mqtt::publisher::state::tests::{no_statuses, report},
};
use planner::Power;

fn tracker() -> DiscoveryTracker {
    let mut tracker = starting();
    tracker.on_stale_cleared();
    tracker
}

/// The payload with its keys written out.
fn read(announcement: &Announcement) -> Value {
    written_out(serde_json::from_str(&announcement.json).unwrap())
}

fn starting() -> DiscoveryTracker {
    let topics = Topics::new(
        "tapo2mqtt".parse().unwrap(),
        "ha".parse().unwrap(),
        "ha/status".parse().unwrap(),
    );
    let bridge_state = topics.bridge(BridgeTopic::State);
    let builder = EntityBuilder::new(topics, Layout::Flat);
    DiscoveryTracker::new(builder, bridge_state, [mats()], BTreeSet::new())
}

fn mats() -> EntityOwner {
    EntityOwner::Device("mats".parse().unwrap())
}

fn announced(tracker: &mut DiscoveryTracker, report: &DeviceReport) -> Option<Announcement> {
    tracker.device(report, no_statuses().rules())
}

fn strip(outlets: &[(Option<&str>, Option<Power>)]) -> DeviceReport {
    report(Kind::Strip, outlets)
}

const TWO: [(Option<&str>, Option<Power>); 2] = [(Some("1"), None), (Some("2"), None)];

#[test]
fn what_an_earlier_run_left_is_recognised_by_origin_and_topic() {
    let (mut earlier, mut tracker) = (tracker(), tracker());
    let sent = announced(&mut earlier, &strip(&TWO)).unwrap();
    let other: NodeId = "tapo2mqtt_sold".parse().unwrap();
    assert_eq!(
        tracker.on_message(&other, sent.json.as_bytes(), true),
        Finding::Stale
    );
    assert_eq!(
        tracker.on_message(&other, sent.json.as_bytes(), false),
        Finding::Nothing,
        "an echo"
    );
    let foreign = sent.json.replace("tapo2mqtt/bridge/state", "garden/bridge/state");
    assert_eq!(
        tracker.on_message(&other, foreign.as_bytes(), true),
        Finding::Nothing,
        "another bridge's"
    );
    assert_eq!(tracker.on_message(&other, b"not json", true), Finding::Nothing);
    let bridge = tracker.bridge(&[]).unwrap();
    assert_eq!(
        tracker.on_message(&bridge.node, bridge.json.as_bytes(), true),
        Finding::Nothing
    );
}

#[test]
fn devices_wait_until_earlier_announcements_were_seen() {
    let (now, mut tracker) = (Instant::now(), starting());
    assert_eq!(tracker.stale_cleanup_ends(), None, "not connected");
    tracker.connected(now);
    assert_eq!(tracker.device(&strip(&TWO), no_statuses().rules()), None);
    let bridge = tracker.bridge(&[]).unwrap();
    assert_eq!(
        tracker.on_message(&bridge.node, bridge.json.as_bytes(), true),
        Finding::Nothing,
        "an earlier run's"
    );
    assert_eq!(
        tracker.on_message(&bridge.node, bridge.json.as_bytes(), false),
        Finding::StaleCleared
    );
    assert_eq!(tracker.stale_cleanup_ends(), Some(now + STALE_CLEANUP_TIME));
    tracker.on_stale_cleared();
    assert!(tracker.device(&strip(&TWO), no_statuses().rules()).is_some());
    tracker.connected(now);
    assert_eq!(tracker.stale_cleanup_ends(), None, "once is enough");
}

#[test]
fn a_device_that_is_not_read_yet_keeps_its_entities() {
    let (mut earlier, mut tracker) = (tracker(), tracker());
    let before = announced(&mut earlier, &strip(&TWO)).unwrap();
    tracker.on_message(&before.node, before.json.as_bytes(), true);
    let mut unread = strip(&TWO);
    unread.is_complete = false;
    assert_eq!(announced(&mut tracker, &unread), None);
    unread.identity = None;
    assert_eq!(announced(&mut tracker, &unread), None);
    assert_eq!(announced(&mut tracker, &strip(&TWO)), Some(before));
}

#[test]
fn a_new_device_that_is_not_reached_has_a_page() {
    let mut tracker = tracker();
    let mut unread = strip(&TWO);
    unread.is_complete = false;
    for phase in [Phase::Connecting, Phase::Ready, Phase::Degraded] {
        unread.phase = phase;
        assert_eq!(announced(&mut tracker, &unread), None, "it is being read");
    }
    unread.phase = Phase::Unreachable;
    for name in ["Mats", "Heated mats"] {
        unread.name = Some(name.to_owned());
        let sent = announced(&mut tracker, &unread).unwrap();
        let payload = read(&sent);
        assert_eq!(payload["device"]["name"], name);
        assert!(payload["components"].get("tapo2mqtt_mats_o1_switch").is_none());
        assert!(payload["components"]["tapo2mqtt_mats_status"].is_object());
    }
    let sent = announced(&mut tracker, &strip(&TWO)).unwrap();
    assert!(sent.json.contains("tapo2mqtt_mats_o1_switch"));
    unread.name = None;
    assert_eq!(announced(&mut tracker, &unread), None, "nothing is taken away");
}

#[test]
fn an_outlet_that_is_gone_is_removed_by_its_platform_alone() {
    let (mut earlier, mut tracker) = (tracker(), tracker());
    let before = announced(&mut earlier, &strip(&TWO)).unwrap();
    let now = strip(&TWO[..1]);
    announced(&mut tracker, &now).unwrap();
    assert_eq!(
        tracker.on_message(&before.node, before.json.as_bytes(), true),
        Finding::Outdated(mats())
    );
    let payload = read(&announced(&mut tracker, &now).unwrap());
    let removed = &payload["components"]["tapo2mqtt_mats_o2_switch"];
    assert_eq!(*removed, serde_json::json!({"platform": "switch"}));
}

#[test]
fn a_device_deleted_in_home_assistant_stays_deleted() {
    let mut tracker = tracker();
    let device = strip(&TWO);
    let node = announced(&mut tracker, &device).unwrap().node;
    assert_eq!(
        tracker.on_message(&node, b"", true),
        Finding::Nothing,
        "nothing was retained"
    );
    assert_eq!(tracker.on_message(&node, b"", false), Finding::Deleted(mats()));
    assert_eq!(
        tracker.on_message(&node, b"", false),
        Finding::Nothing,
        "our own withdrawal comes back"
    );
    assert_eq!(announced(&mut tracker, &device), None);
    tracker.unmark_deleted(Some(&mats()));
    assert!(announced(&mut tracker, &device).is_some());
}

#[test]
fn births_are_answered_once_in_a_while() {
    let mut tracker = tracker();
    let now = Instant::now();
    tracker.on_birth(now);
    tracker.on_birth(now);
    assert!(tracker.due().unwrap() <= now + BIRTH_JITTER);
    tracker.on_republished(now);
    assert_eq!(tracker.due(), None);
    tracker.on_birth(now);
    assert!(tracker.due().unwrap() >= now + BIRTH_INTERVAL);
}

fn group(schedules: &[&str]) -> Group {
    let schedule = |id: &&str| planner::testing::schedule(id, "06:00", "08:00");
    planner::testing::group(schedules.iter().map(schedule).collect())
}

#[test]
fn a_schedule_that_is_gone_is_removed_by_its_platform_alone() {
    let mut tracker = tracker();
    tracker.group(&group(&["morning", "evening"])).unwrap();
    let sent = tracker.group(&group(&["morning"])).unwrap();
    let payload = read(&sent);
    let component =
        |id: &str| payload["components"][format!("tapo2mqtt-group-driveway_schedule_{id}")].clone();
    assert_eq!(component("evening"), serde_json::json!({"platform": "switch"}));
    assert_eq!(
        component("morning")["command_topic"],
        "tapo2mqtt/group/driveway/set/schedule/morning"
    );
}

#[test]
fn a_group_is_unchanged_once_deleted_and_stale_once_gone() {
    let mut tracker = tracker();
    let driveway = EntityOwner::Group("driveway".parse().unwrap());
    let sent = tracker.group(&group(&[])).unwrap();
    assert_eq!(
        tracker.on_message(&sent.node, sent.json.as_bytes(), true),
        Finding::Nothing
    );
    assert_eq!(
        tracker.on_message(&sent.node, b"", false),
        Finding::Deleted(driveway.clone())
    );
    assert_eq!(tracker.group(&group(&[])), None);
    tracker.unmark_deleted(None);
    assert!(tracker.group(&group(&[])).is_some());
    assert_eq!(tracker.forget(&driveway), Some(sent.node.clone()));
    assert_eq!(
        tracker.on_message(&sent.node, sent.json.as_bytes(), true),
        Finding::Stale
    );
}

#[test]
fn the_echo_of_our_own_withdrawal_deletes_nothing() {
    let mut tracker = tracker();
    let device = strip(&TWO);
    announced(&mut tracker, &device).unwrap();
    let node = tracker.configure(&BTreeSet::new(), BTreeMap::new()).remove(0);
    configure(&mut tracker, "mats", None);
    let sent = announced(&mut tracker, &device).unwrap();
    assert_eq!(tracker.on_message(&node, b"", false), Finding::Nothing);
    assert_eq!(
        tracker.on_message(&node, b"", false),
        Finding::Nothing,
        "sent twice"
    );
    assert_eq!(
        tracker.on_message(&node, sent.json.as_bytes(), false),
        Finding::Nothing
    );
    assert_eq!(tracker.on_message(&node, b"", false), Finding::Deleted(mats()));
}

fn configure(tracker: &mut DiscoveryTracker, id: &str, mac: Option<&str>) -> Vec<NodeId> {
    let id: DeviceId = id.parse().unwrap();
    let known_as = mac.map(|mac| (id.clone(), mac.to_owned()));
    tracker.configure(&[id].into(), known_as.into_iter().collect())
}

#[test]
fn a_device_with_a_new_id_is_the_same_in_home_assistant() {
    let mut tracker = tracker();
    let mac = Some("aa:bb:cc:00:00:01");
    let left: Vec<String> = configure(&mut tracker, "mats", mac)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(left, ["tapo2mqtt_mats"], "it was known by its id before");
    let sent = announced(&mut tracker, &strip(&TWO)).unwrap();
    assert_eq!(sent.node.as_str(), "tapo2mqtt-mac-aabbcc000001");
    assert_eq!(
        tracker.on_message(&sent.node, b"", false),
        Finding::Deleted(mats())
    );
    assert_eq!(configure(&mut tracker, "heater", mac), []);
    let heater = EntityOwner::Device("heater".parse().unwrap());
    assert_eq!(tracker.deleted(), &[heater].into(), "it stays deleted");
    let mut renamed = strip(&TWO);
    renamed.id = "heater".parse().unwrap();
    assert_eq!(announced(&mut tracker, &renamed), None);
    tracker.unmark_deleted(None);
    let again = announced(&mut tracker, &renamed).unwrap();
    assert_eq!(again.node, sent.node);
    assert!(again.json.contains("tapo2mqtt/heater") && !again.json.contains("tapo2mqtt/mats"));
}

#[test]
fn a_button_that_an_earlier_run_had_is_removed() {
    let offer = Offer {
        mac: "aa:bb:cc:00:00:01".to_owned(),
        name: "Lamp".to_owned(),
    };
    let sent = tracker().bridge(&[offer]).unwrap();
    let mut tracker = starting();
    assert!(!tracker.bridge(&[]).unwrap().json.contains("add_"));
    let finding = tracker.on_message(&sent.node, sent.json.as_bytes(), true);
    assert_eq!(finding, Finding::OutdatedBridge);
    let again = tracker.bridge(&[]).unwrap();
    assert!(
        again
            .json
            .contains(r#""tapo2mqtt-bridge_add_aabbcc000001":{"p":"button"}"#)
    );
}

#[test]
fn a_topic_of_another_program_is_not_overwritten() {
    let mut tracker = starting();
    let device = strip(&TWO);
    let ours = announced(&mut self::tracker(), &device).unwrap();
    let foreign = ours.json.replace("tapo2mqtt/bridge/state", "garden/bridge/state");
    let found = tracker.on_message(&ours.node, foreign.as_bytes(), true);
    assert_eq!(found, Finding::Foreign);
    tracker.on_stale_cleared();
    assert_eq!(announced(&mut tracker, &device), None);
    let again = tracker.on_message(&ours.node, foreign.as_bytes(), false);
    assert_eq!(again, Finding::Nothing, "reported once");
    // Removed there: not a deletion of ours, and the topic is free.
    assert_eq!(
        tracker.on_message(&ours.node, b"", false),
        Finding::Outdated(mats())
    );
    assert_eq!(announced(&mut tracker, &device), Some(ours.clone()));
    assert_eq!(
        tracker.on_message(&ours.node, b"", false),
        Finding::Deleted(mats())
    );
}

#[test]
fn discovery_of_another_program_is_not_cleared_with_our_device() {
    let mut tracker = tracker();
    let ours = announced(&mut tracker, &strip(&TWO)).unwrap();
    let foreign = ours.json.replace("\"tapo2mqtt\"", "\"other\"");
    let found = tracker.on_message(&ours.node, foreign.as_bytes(), false);
    assert_eq!(found, Finding::Foreign);
    assert_eq!(tracker.forget(&mats()), None);
}

proptest! {
    #[test]
    fn any_discovery_is_read_without_a_panic(
        payload in prop_oneof![
            damaged(tracker().device(&strip(&TWO), no_statuses().rules()).unwrap().json.into_bytes()),
            json(&["o", "origin", "name", "availability", "topic", "cmps", "components", "platform", "child_devices"])
                .prop_map(|json| json.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..200),
        ],
        retain: bool,
    ) {
        let mut tracker = tracker();
        let node = tracker.device(&strip(&TWO), no_statuses().rules()).unwrap().node;
        tracker.on_message(&node, &payload, retain);
        // Whatever was found, what is announced next can be read.
        if let Some(again) = tracker.device(&strip(&TWO[..1]), no_statuses().rules()) {
            prop_assert!(Published::parse(again.json.as_bytes()).is_some());
        }
    }
}
