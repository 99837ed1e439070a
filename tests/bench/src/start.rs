//! Start and stop.

use std::time::Duration;

use tapo_simulator::Profile;
use tokio::time::Instant;

use crate::{
    Lab,
    bridge::{Bridge, settings},
    client::Client,
    figures::{Book, Goal, millis},
    fleet,
};

const SECTION: &str = "3 Start and stop";

pub async fn measure(lab: &Lab, book: &mut Book) {
    for count in [1, 100, 1000] {
        let devices = fleet::devices(Profile::P110, count).await;
        once(lab, book, count, "live", &fleet::addresses(&devices)).await;
        once(lab, book, count, "dead", &fleet::dead(count)).await;
    }
}

async fn once(lab: &Lab, book: &mut Book, count: usize, kind: &str, addresses: &[std::net::SocketAddr]) {
    let mut client = Client::connect(lab.broker);
    client.subscribe("tapo2mqtt/bridge/state").await;
    client.subscribe("tapo2mqtt/+/availability").await;
    client.until_quiet(Duration::from_millis(50)).await;
    let bridge = Bridge::start(&lab.binary, &settings(lab.broker, addresses, ""));
    let live = if kind == "live" { count } else { 0 };
    let (online, devices) = come_up(&mut client, live).await;
    let goal = (count == 1000 && kind == "dead").then_some(Goal::AtMost(230.0));
    let name = format!("{count} {kind}: process start → bridge online");
    book.with_goal(SECTION, name, "ms", goal, millis(online - bridge.started));
    for (word, at) in [("first device", devices.first()), ("all devices", devices.last())] {
        if let Some(at) = at {
            let name = format!("{count} {kind}: process start → {word} online");
            book.note(SECTION, name, "ms", millis(*at - bridge.started));
        }
    }
    let goal = (kind == "live").then_some(Goal::AtMost(100.0));
    let name = format!("{count} {kind}: SIGTERM → exit");
    book.with_goal(SECTION, name, "ms", goal, millis(bridge.stop().await));
    lab.forget_retained().await;
}

/// When the bridge was online, and each of so many devices. Either may come first.
async fn come_up(client: &mut Client, count: usize) -> (Instant, Vec<Instant>) {
    let (mut bridge, mut devices) = (None, Vec::with_capacity(count));
    loop {
        if let (Some(bridge), true) = (bridge, devices.len() >= count) {
            return (bridge, devices);
        }
        let message = client.wait(|message| message.says("online")).await;
        if message.topic.ends_with("bridge/state") {
            bridge = Some(message.at);
        } else {
            devices.push(message.at);
        }
    }
}
