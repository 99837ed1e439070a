use proptest::prelude::*;

use ha_discovery::Layout;
use serde_json::Value;
use test_inputs::{damaged, json};

use super::*;
use crate::{
    domain::report::Kind,
    mqtt::{
        state::tests::{no_standings, report},
        topics::{BridgeTopic, Topics},
    },
};
use planner::Power;

fn home() -> DiscoveryTracker {
    let mut home = starting();
    home.stale_cleared();
    home
}

fn starting() -> DiscoveryTracker {
    let topics = Topics::new(
        "tapo2mqtt".parse().unwrap(),
        "ha".parse().unwrap(),
        "ha/status".parse().unwrap(),
    );
    let bridge_state = topics.bridge(BridgeTopic::State);
    let discovery = Discovery::new(topics, Layout::Flat);
    DiscoveryTracker::new(discovery, bridge_state, [mats()], BTreeSet::new())
}

fn mats() -> EntityOwner {
    EntityOwner::Device("mats".parse().unwrap())
}

fn announced(home: &mut DiscoveryTracker, report: &DeviceReport) -> Option<Announcement> {
    home.device(report, no_standings().rules())
}

fn strip(outlets: &[(Option<&str>, Option<Power>)]) -> DeviceReport {
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
    assert_eq!(home.stale_cleanup_ends(), None, "not connected");
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
    assert_eq!(home.stale_cleanup_ends(), Some(now + SWEEP_TIME));
    home.stale_cleared();
    assert!(home.device(&strip(&TWO), no_standings().rules()).is_some());
    home.connected(now);
    assert_eq!(home.stale_cleanup_ends(), None, "once is enough");
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
    home.unmark_deleted(Some(&mats()));
    assert!(announced(&mut home, &device).is_some());
}

#[test]
fn births_are_answered_once_in_a_while() {
    let mut home = home();
    let now = Instant::now();
    home.on_birth(now);
    home.on_birth(now);
    assert!(home.due().unwrap() <= now + BIRTH_JITTER);
    home.told(now);
    assert_eq!(home.due(), None);
    home.on_birth(now);
    assert!(home.due().unwrap() >= now + BIRTH_INTERVAL);
}

fn group(schedules: &[&str]) -> Group {
    let schedule = |id: &&str| planner::testing::schedule(id, "06:00", "08:00");
    planner::testing::group(schedules.iter().map(schedule).collect())
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
    let driveway = EntityOwner::Group("driveway".parse().unwrap());
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
    home.unmark_deleted(None);
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
