//! Forecasts: from a provider over the sensors of conditions to the relays, and providers that are gone, slow or wrong.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use planner::WeatherValue;
use serde_json::{Value, json};
use tapo2mqtt::system::clock::Clock;

use crate::{
    bridge::{Running, Setup, fast_clocks},
    forecasts::{Behavior, Provider, nws, open_meteo},
    groups::Site,
    log::Log,
    mosquitto::Mosquitto,
    probe::PATIENCE,
};

const SIX: &str = "2026-11-30T06:00:00Z";

/// A group that is on while snow is forecast within four hours.
const MATS: &str = r#"
    [location]
    timezone = "UTC"
    latitude = 52.520008
    longitude = 13.404954
    [[sensor]]
    id = "snow"
    weather = "snowfall"
    within = "4h"
    as = "sum"
    [[group]]
    id = "driveway"
    outlets = ["mats/1", "lamp"]
    [[group.schedule]]
    id = "snow"
    all_day = true
    when = [{ sensor = "snow", at_least = 0.5 }]
"#;

fn six() -> (Clock, Timestamp) {
    let at = SIX.parse().unwrap();
    (Clock::steered(at), at)
}

async fn site(clock: &Clock, provider: &Provider) -> Site {
    let rules = format!("{}{MATS}", provider.settings("open-meteo"));
    Site::ruled(clock, Mosquitto::start().await, &rules).await
}

/// Both clocks go on.
async fn pass(site: &Site, clock: &Clock, length: SignedDuration) {
    clock.suspend(length);
    site.bridge.publish("bridge/request/override/list", "").await;
}

/// Whether a forecast is of the first minutes: it is issued when the provider is asked, and a busy machine asks late.
fn at_six(weather: &Value) -> bool {
    let issued = weather["issued"].as_str().unwrap_or_default();
    issued.starts_with("2026-11-30T06:0")
}

async fn forecast(bridge: &Running, predicate: impl Fn(&Value) -> bool) -> Value {
    bridge.expect("bridge/weather", predicate).await
}

#[tokio::test]
async fn snow_in_five_hours_turns_mats_on_four_hours_before() {
    let (clock, now) = six();
    let provider = Provider::steered(&clock, Behavior::Document(open_meteo(now, &[5]))).await;
    let site = site(&clock, &provider).await;
    let weather = forecast(&site.bridge, |weather| weather["issued"].is_string()).await;
    assert_eq!(weather["provider"], "open-meteo");
    assert_eq!(
        weather["attribution"],
        "Weather data by Open-Meteo.com (CC BY 4.0)"
    );
    assert_eq!(
        (&weather["temperature"], &weather["snowfall"]),
        (&json!(-2.5), &json!(0.0))
    );
    let announced = site
        .bridge
        .probe
        .expect("homeassistant/device/tapo2mqtt-bridge/config", |payload| {
            payload.contains("_forecast_snowfall")
        })
        .await;
    for value in WeatherValue::ALL {
        assert!(announced.contains(&format!("value_json.{value} ")), "{value}");
        assert!(weather[value.as_str()].is_number(), "{weather}");
    }
    let hours = weather["hours"].as_array().unwrap();
    assert_eq!(hours.len(), 12);
    assert_eq!(hours[4]["at"], "2026-11-30T11:00:00Z");
    assert_eq!(
        (&hours[4]["snowfall"], &hours[3]["snowfall"]),
        (&json!(1.0), &json!(0.0))
    );
    let group = site
        .group(|group| group["next_change"] == "2026-11-30T07:00:00Z" && group["state"] == "OFF")
        .await;
    assert_eq!(group["next_state"], "ON");
    assert_eq!(group["reason"], "snow: condition not met: snow 0 cm >= 0.5 cm");

    pass(&site, &clock, SignedDuration::from_mins(59)).await;
    site.bridge.barrier().await;
    assert_eq!(site.relays(), (false, false));
    pass(&site, &clock, SignedDuration::from_mins(1)).await;
    site.both(true).await;
    let group = site.group(|group| group["state"] == "ON").await;
    assert_eq!(
        group["reason"],
        "schedule snow until Tue 00:00: snow 1 cm >= 0.5 cm"
    );
    pass(&site, &clock, SignedDuration::from_hours(5)).await;
    site.both(false).await;

    let request = provider.requests().remove(0);
    assert!(request.contains("latitude=52.52&longitude=13.4049&"), "{request}");
    let agent = format!("user-agent: tapo2mqtt/{}", env!("CARGO_PKG_VERSION"));
    assert!(
        request.contains(&agent) && request.contains("github.com"),
        "{request}"
    );
}

/// A bridge without devices, in which only the forecast is of interest.
fn alone(clock: &Clock, provider: &Provider, name: &str) -> Setup {
    let place = "[location]\nlatitude = 40.712776\nlongitude = -74.005974\n";
    let rules = format!("{}{place}", provider.settings(name));
    Setup::new().clock(clock).rules(&rules)
}

#[tokio::test]
async fn hours_without_the_network_cost_nothing_after_a_restart() {
    let (clock, now) = six();
    let provider = Provider::steered(&clock, Behavior::Document(open_meteo(now, &[5]))).await;
    let mut site = site(&clock, &provider).await;
    forecast(&site.bridge, at_six).await;
    site.bridge.stop().await;
    provider.set(Behavior::Status(500, ""));
    clock.suspend(SignedDuration::from_hours(2));
    let rules = format!("{}{MATS}", provider.settings("open-meteo"));
    site.start_again(&clock, &rules).await;
    // It would snow in three hours.
    site.both(true).await;
    let weather = forecast(&site.bridge, at_six).await;
    assert_eq!(weather["hours"][2]["at"], "2026-11-30T11:00:00Z");
    let state = std::fs::read_to_string(site.bridge.state_file()).unwrap();
    assert!(!state.contains("13.404954"), "the place to 11 m at most");
}

#[tokio::test]
async fn without_a_provider_no_forecast_is_left() {
    let (clock, now) = six();
    let provider = Provider::steered(&clock, Behavior::Document(open_meteo(now, &[]))).await;
    let Site { mut bridge, .. } = site(&clock, &provider).await;
    forecast(&bridge, at_six).await;
    bridge.stop().await;
    let again = Setup::new().after(&bridge).start_on(bridge.broker.clone()).await;
    let probe = again.broker.probe().await;
    let left = probe.retained("tapo2mqtt/bridge/#").await;
    assert!(left.contains_key("tapo2mqtt/bridge/info"));
    assert!(!left.contains_key("tapo2mqtt/bridge/weather"), "{left:?}");
}

#[tokio::test]
async fn a_forecast_that_is_not_newer_is_not_sent_again() {
    let (clock, now) = six();
    let provider = Provider::steered(&clock, Behavior::Document(open_meteo(now, &[]))).await;
    let mut bridge = alone(&clock, &provider, "open-meteo").start().await;
    forecast(&bridge, at_six).await;
    bridge.stop().await;
    // At a restart the forecast is fresh, and nothing is asked; later it is asked whether there is a newer one.
    for (passed, requests) in [(10, 1), (70, 2)] {
        clock.suspend(SignedDuration::from_mins(passed));
        let setup = alone(&clock, &provider, "open-meteo").after(&bridge);
        let mut again = setup.start_on(bridge.broker.clone()).await;
        forecast(&again, at_six).await;
        while provider.closed() < requests {
            again.barrier().await;
        }
        again.barrier().await;
        again.stop().await;
        assert_eq!(provider.requests().len(), requests);
    }
    let last = provider.requests().remove(1);
    assert!(
        last.contains("if-modified-since: Mon, 30 Nov 2026 06:0"),
        "{last}"
    );
}

#[tokio::test]
async fn the_national_weather_service_is_asked_twice() {
    let (clock, now) = six();
    let provider = Provider::steered(&clock, Behavior::Grid(nws(now))).await;
    let bridge = alone(&clock, &provider, "nws").start().await;
    let weather = forecast(&bridge, at_six).await;
    assert_eq!(weather["temperature"], -7.0);
    assert_eq!(
        weather["attribution"],
        "Data from the National Weather Service (weather.gov)"
    );
    let requests = provider.requests();
    let lines: Vec<&str> = requests.iter().filter_map(|head| head.lines().next()).collect();
    let expected = [
        "GET /points/40.7127,-74.0059 HTTP/1.1",
        "GET /gridpoints/OKX/33,35 HTTP/1.1",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_provider_that_is_wrong_changes_and_slows_nothing() {
    let _fast = fast_clocks();
    let (clock, now) = six();
    let log = Log::capture();
    let decades = "2066-11-30T06:00:00Z".parse().unwrap();
    let document = |text: &str| Behavior::Document(text.to_owned());
    let good = open_meteo(now, &[]);
    let nulls = good.replace("-2.5", "null");
    for (behavior, why) in [
        (document("<html>busy</html>"), "is not the JSON"),
        (document("{\"hourly\": [1, 2]}"), "is not the JSON"),
        (document(&good.replace("-2.5", "NaN")), "is not the JSON"),
        (
            document("{\"hourly_units\":{},\"hourly\":{\"time\":[]}}"),
            "no values of the present hour",
        ),
        (
            Behavior::Document(open_meteo(decades, &[])),
            "no values of the present hour",
        ),
        (
            Behavior::Status(429, "Retry-After: 7200\r\n"),
            "it answers 429; it was asked too often",
        ),
        (Behavior::Status(500, ""), "it answers 500"),
        (
            Behavior::Status(304, ""),
            "it has nothing newer, but no forecast of it is known here",
        ),
        (
            Behavior::Status(302, "Location: http://192.0.2.1/\r\n"),
            "it redirects to another server",
        ),
        (Behavior::Endless, "larger than 2 MB"),
        (Behavior::Hangs, ""),
        (document(&nulls), "forecast received"),
    ] {
        let known = log.lines().len();
        let provider = Provider::steered(&clock, behavior.clone()).await;
        let site = site(&clock, &provider).await;
        while provider.requests().is_empty() {
            site.bridge.barrier().await;
        }
        let start = Instant::now();
        let answer = site.bridge.set("lamp", "one", json!({"state": "ON"})).await;
        assert_eq!(answer["status"], "ok", "{behavior:?}: {answer}");
        assert!(start.elapsed() < PATIENCE / 2, "{behavior:?}");
        while !log.lines().iter().skip(known).any(|line| line.contains(why)) {
            site.bridge.barrier().await;
        }
        let sent = provider.sent();
        assert!(sent < 16 * 1024 * 1024, "{sent} bytes were sent");
        let weather = site.bridge.retained("bridge/weather").await;
        assert_eq!(weather["temperature"], Value::Null, "{behavior:?}");
        assert!(!site.mats.relay(1), "{behavior:?}");
        assert_eq!(provider.requests().len(), 1, "{behavior:?}");
    }
    let text = log.lines().join("\n");
    assert!(
        !text.contains("13.4049") && !text.contains("192.0.2.1"),
        "no place in the log"
    );
}
