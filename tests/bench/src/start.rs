//! Start and stop.

use std::time::Duration;

use tapo_simulator::Profile;

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
    let online = client
        .wait(|message| message.topic.ends_with("bridge/state") && message.says("online"))
        .await;
    let goal = (count == 1000 && kind == "dead").then_some(Goal::AtMost(230.0));
    let name = format!("{count} {kind}: process start → bridge online");
    book.with_goal(SECTION, name, "ms", goal, millis(online.at - bridge.started));
    if kind == "live" {
        let mut last = None;
        for number in 0..count {
            let device = client
                .wait(|message| message.topic.ends_with("availability") && message.says("online"))
                .await;
            if number == 0 {
                let name = format!("{count} {kind}: process start → first device online");
                book.note(SECTION, name, "ms", millis(device.at - bridge.started));
            }
            last = Some(device.at);
        }
        if let Some(last) = last {
            let name = format!("{count} {kind}: process start → all devices online");
            book.note(SECTION, name, "ms", millis(last - bridge.started));
        }
    }
    let goal = (kind == "live").then_some(Goal::AtMost(100.0));
    let name = format!("{count} {kind}: SIGTERM → exit");
    book.with_goal(SECTION, name, "ms", goal, millis(bridge.stop().await));
    lab.forget_retained().await;
}
