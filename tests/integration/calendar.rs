//! Holidays: from a web server over the days of a schedule to the relays, also after a start without the network.

use jiff::SignedDuration;
use tapo2mqtt::system::clock::Clock;

use crate::{
    bridge::fast_clocks,
    forecasts::{Behavior, Provider},
    groups::Site,
    health::issues,
    mosquitto::Mosquitto,
    probe::PATIENCE,
};

/// A Monday.
const SIX: &str = "2026-11-30T06:00:00Z";
const CALENDAR: &str = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:St. Andrew's Day\nDTSTART;VALUE=DATE:20261130\nRRULE:FREQ=YEARLY\n\
                        END:VEVENT\nEND:VCALENDAR\n";

fn rules(server: &Provider) -> String {
    format!(
        r#"
    [location]
    timezone = "UTC"
    [calendar]
    url = "http://{}/private-key/holidays.ics"
    [[group]]
    id = "driveway"
    outlets = ["mats/1", "lamp"]
    [[group.schedule]]
    id = "late"
    days = ["holiday"]
    start = "05:00"
    end = "23:00"
    "#,
        server.address
    )
}

#[tokio::test]
async fn holidays_of_a_server_count_also_without_the_network() {
    let _fast = fast_clocks();
    let clock = Clock::steered(SIX.parse().unwrap());
    let server = Provider::steered(&clock, Behavior::Document(CALENDAR.to_owned())).await;
    let mut site = Site::ruled(&clock, Mosquitto::start().await, &rules(&server)).await;
    let expected = "schedule late until 23:00 (holiday: St. Andrew's Day)";
    site.group(|group| group["state"] == "ON" && group["reason"] == expected)
        .await;
    site.both(true).await;
    site.bridge.stop().await;

    server.set(Behavior::Status(500, ""));
    clock.suspend(SignedDuration::from_hours(2));
    site.start_again(&clock, &rules(&server)).await;
    site.group(|group| group["state"] == "ON" && group["reason"] == expected)
        .await;
    assert_eq!(server.requests().len(), 1, "it was asked two hours ago");
    site.bridge.stop().await;

    // A day later it is asked again. What it answers is no calendar, and an issue; its address is shown nowhere.
    clock.suspend(SignedDuration::from_hours(24));
    site.start_again(&clock, &rules(&server)).await;
    let issue = "calendar of 127.0.0.1: it answers 500; its holidays of before count";
    let is_named = |health: &serde_json::Value| issues(health, "calendar") == [issue];
    let health = site.bridge.expect("bridge/health", is_named).await;
    assert!(!health.to_string().contains("private-key"));
    site.group(|group| group["state"] == "OFF").await;
    site.mats.wait_relay(1, false, PATIENCE).await.unwrap();
}
