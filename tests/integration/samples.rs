//! `docs/topics.md` shows the topics as they are: each sample there is compared, key by key, with what a running bridge
//! publishes.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Map, Value, json};
use tapo_simulator::{ChildModel, Profile, Simulator};

use crate::{
    bridge::{Running, Setup, fast_clocks, parsed},
    process::own_address,
};

const OTHERS: &str = "...";

const GROUP: &str = r#"
[[sensor]]
id = "outdoor"
topic = "weather/outdoor"
unit = "°C"
[[group]]
id = "driveway"
name = "Driveway"
outlets = ["demo-strip/3", "demo-strip/4"]
safety = { max_on = "6h" }
[[group.schedule]]
id = "evening"
start = "22:00"
end = "22:30"
"#;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What is `topic  JSON` in the blocks of a page, on one line or several.
fn samples(page: &str) -> Vec<(String, Value)> {
    let blocks = page.split("```").skip(1).step_by(2);
    let found = blocks.flat_map(|block| {
        let block = format!("\n{block}");
        let samples: Vec<String> = block.split("\ntapo2mqtt/").skip(1).map(str::to_owned).collect();
        samples
    });
    let sample = |text: String| {
        let (topic, payload) = text.split_once(' ')?;
        let payload = serde_json::from_str(payload).unwrap_or_else(|why| panic!("{text}: {why}"));
        Some((topic.to_owned(), payload))
    };
    found.filter_map(sample).collect()
}

/// What distinguishes two payloads, whatever their values are; `None` if they have the same keys and types. Null is
/// anything, the key `...` of a sample stands for any others, and each item of a sample needs one that is like it.
fn difference(sample: &Value, seen: &Value) -> Option<String> {
    match (sample, seen) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Object(sample), Value::Object(seen)) => {
            let keys = |of: &Map<String, Value>| of.keys().cloned().collect::<BTreeSet<_>>();
            let (shown, there) = (keys(sample), keys(seen));
            let absent = shown.difference(&there).filter(|key| *key != OTHERS);
            let missing_topics = there.difference(&shown).filter(|_| !shown.contains(OTHERS));
            let other: Vec<_> = absent.chain(missing_topics).cloned().collect();
            if !other.is_empty() {
                return Some(other.join(", "));
            }
            let both = sample
                .iter()
                .filter_map(|(key, value)| Some((value, seen.get(key)?)));
            both.into_iter().find_map(|(one, other)| difference(one, other))
        }
        (Value::Array(sample), Value::Array(seen)) => sample.iter().find_map(|one| {
            let mut differences = seen.iter().map(|other| difference(one, other));
            let first = differences
                .next()
                .unwrap_or_else(|| Some(format!("nothing like {one}")))?;
            differences.all(|other| other.is_some()).then_some(first)
        }),
        _ => {
            let same_type = std::mem::discriminant(sample) == std::mem::discriminant(seen);
            (!same_type).then(|| format!("{sample} and {seen}"))
        }
    }
}

/// Does what the samples are about.
async fn act(bridge: &Running) {
    bridge.set("demo-strip", "t1", json!({ "state": "ON" })).await;
    bridge.probe.publish("weather/outdoor", "-1.4").await;
    let timed = json!({ "state": "ON", "on_time": 300 });
    bridge.set("demo-plug", "t9", timed).await;
    bridge.set("demo-plug", "t2", json!({ "state": "OFF" })).await;
    bridge.set("demo-plug", "t3", json!({ "stat": "ON" })).await;
    bridge.publish("nobody/set", "ON").await;
    bridge.expect("nobody/response", Value::is_object).await;
    bridge.set("group/driveway", "t4", json!({ "state": "ON" })).await;
    let requests = [
        ("log_level", json!({ "level": "debug", "transaction": "t5" })),
        ("identify", json!({ "transaction": "t8" })),
        ("dance", json!({})),
        ("reload", json!({ "transaction": "t7" })),
        ("health", json!({})),
        (
            "history",
            json!({ "outlet": "demo-strip/1", "transaction": "t9" }),
        ),
    ];
    for (name, payload) in requests {
        let topic = format!("bridge/request/{name}");
        bridge.publish(&topic, payload.to_string()).await;
        bridge
            .expect(&format!("bridge/response/{name}"), Value::is_object)
            .await;
    }
    bridge
        .publish("demo-plug/set/reboot", r#"{"transaction":"t6"}"#)
        .await;
    bridge.answer("demo-plug", "t6").await;
    let config = "homeassistant/device/tapo2mqtt_demo-plug/config";
    bridge.probe.publish_retained(config, "").await;
    let deleted = |event: &Value| event["type"] == "discovery_removed";
    bridge.expect("bridge/event", deleted).await;
    let has_name = |device: &Value| device["nickname"].is_string();
    let all = |devices: &Value| {
        devices
            .as_array()
            .is_some_and(|all| all.len() == 3 && all.iter().all(has_name))
    };
    bridge.expect("bridge/devices", all).await;
    let is_there = |found: &Value| found[0]["mac"].is_string();
    bridge.expect("bridge/found", is_there).await;
    let has_value = |sensors: &Value| sensors[0]["value"].is_number();
    bridge.expect("bridge/sensors", has_value).await;
}

#[tokio::test]
async fn the_samples_have_the_keys_of_what_is_published() {
    let _fast = fast_clocks();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let strip = Simulator::strip(Profile::P304M).start().await.unwrap();
    let hub = Simulator::hub(Profile::H100).children([(ChildModel::T315, "Hall")]);
    let hub = hub.start().await.unwrap();
    let found = Simulator::plug(Profile::P110)
        .seed(2)
        .address((own_address(), 0).into())
        .discovery(true);
    let found = found.start().await.unwrap();
    let setup = Setup::new()
        .device("demo-plug", plug.address())
        .device("demo-strip", strip.address())
        .device("demo-hub", hub.address())
        .search(&[found.address().ip()]);
    let bridge = setup.rules(GROUP).start().await;
    bridge.available("demo-plug").await;
    bridge.available("demo-strip").await;
    bridge.available("demo-hub/hall").await;
    let config = "homeassistant/device/tapo2mqtt_demo-plug/config";
    bridge.probe.expect(config, |payload| !payload.is_empty()).await;
    act(&bridge).await;

    let samples = samples(&read("docs/topics.md"));
    let mut faults = Vec::new();
    for (topic, sample) in &samples {
        let seen = bridge.probe.payloads(&format!("tapo2mqtt/{topic}"));
        let differences = seen.iter().map(|payload| difference(sample, &parsed(payload)));
        let differences: BTreeSet<_> = differences.collect();
        if !differences.contains(&None) {
            faults.push(format!("{topic} {sample}: {differences:?}"));
        }
    }
    for topic in published_topics(&bridge) {
        if samples.iter().all(|(sample, _)| *sample != topic) {
            faults.push(format!("{topic} has no sample"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What the bridge published about itself and its groups: topics of which there are not two.
fn published_topics(bridge: &Running) -> BTreeSet<String> {
    let topics = bridge.probe.history().into_iter().map(|seen| seen.topic);
    let ours = topics.filter_map(|topic| Some(topic.strip_prefix("tapo2mqtt/")?.to_owned()));
    let is_published = |topic: &String| {
        let about = topic.starts_with("bridge/") || topic.starts_with("group/");
        about && !topic.ends_with("/set") && !topic.contains("/request/")
    };
    ours.filter(is_published).collect()
}

/// The names of the variants of an enum as they are published.
fn variants(file: &str, name: &str) -> Vec<String> {
    let source = read(file);
    let (_, rest) = source.split_once(&format!("pub enum {name} {{")).unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let names = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['/', '#']));
    let snake = |name: &str| {
        let humps = name.trim_end_matches(',').chars().enumerate();
        humps.fold(String::new(), |mut snake, (at, letter)| {
            if at > 0 && letter.is_uppercase() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
            snake
        })
    };
    names.map(snake).collect()
}

/// The codes of responses: two variants may have the same.
fn codes() -> Vec<String> {
    let source = read("src/domain/command_error.rs");
    let (_, rest) = source.split_once("pub fn as_str(self)").unwrap();
    let (body, _) = rest.split_once("\n    }\n").unwrap();
    let code = |line: &str| line.split('"').nth(1).map(str::to_owned);
    body.lines().filter_map(code).collect()
}

#[test]
fn every_event_and_every_code_is_named() {
    let page = "docs/topics.md";
    let text = read(page);
    for names in [variants("src/domain/report.rs", "EventKind"), codes()] {
        assert!(names.len() > 10, "{names:?}");
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !text.contains(&format!("`{name}`")))
            .collect();
        assert!(missing.is_empty(), "{page} has no {missing:?}");
    }
}

#[test]
fn differences_are_found() {
    let sample = json!({ "a": 1, "b": [{ "c": "x" }], "d": null, "e": { "f": 7, "...": "..." } });
    let same = json!({ "a": 2, "b": [{ "c": "y" }, { "c": "z" }], "d": 3, "e": { "f": 1, "g": 2 } });
    assert_eq!(difference(&sample, &same), None);
    for (other, expected) in [
        (json!({ "a": 1, "b": [], "d": 1 }), "e"),
        (
            json!({ "a": 1, "b": [{ "c": "y" }], "d": 1, "e": { "g": 1 } }),
            "f",
        ),
        (
            json!({ "a": 1, "b": [], "d": 1, "e": 1 }),
            "nothing like {\"c\":\"x\"}",
        ),
        (json!({ "a": "1", "b": [], "d": 1, "e": 1 }), "1 and \"1\""),
        (
            json!({ "a": 1, "b": [{ "c": "y", "g": 1 }], "d": 1, "e": 1 }),
            "g",
        ),
    ] {
        assert_eq!(difference(&sample, &other).as_deref(), Some(expected));
    }
}
