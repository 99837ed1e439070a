//! From the start of the process to the bridge and its devices online.

use std::net::SocketAddr;

use tapo_simulator::Profile;
use tokio::time::Instant;

use crate::{
    Bench,
    bridge::{Bridge, settings},
    broker::Broker,
    client::Client,
    figures::{Book, Goal, millis},
    fleet,
};

const SECTION: &str = "Start";

pub async fn measure(bench: &Bench, book: &mut Book) {
    for &count in bench.extent.plugs {
        let devices = fleet::devices(Profile::P110, count).await;
        once(
            bench,
            book,
            &format!("{count} live"),
            &fleet::addresses(&devices),
            count,
        )
        .await;
        once(bench, book, &format!("{count} dead"), &fleet::dead(count), 0).await;
    }
}

/// A start with so many devices that will come up.
async fn once(bench: &Bench, book: &mut Book, name: &str, addresses: &[SocketAddr], live: usize) {
    let broker = Broker::start().await;
    let mut client = Client::connect(broker.address);
    client.subscribe("tapo2mqtt/bridge/state").await;
    client.subscribe("tapo2mqtt/+/availability").await;
    let bridge = Bridge::start(&bench.binary, &settings(broker.address, addresses, "", "auto"));
    let (online, devices) = come_up(&mut client, live).await;
    let since_start = |at: Instant| millis(at - bridge.started);
    let goal = name.starts_with("1000 ").then_some(Goal::AtMost(230.0));
    let figure = format!("{name}: process start → bridge online");
    book.with_goal(SECTION, figure, "ms", goal, since_start(online));
    for (word, at) in [("first device", devices.first()), ("all devices", devices.last())] {
        if let Some(at) = at {
            let figure = format!("{name}: process start → {word} online");
            book.note(SECTION, figure, "ms", since_start(*at));
        }
    }
    let taken = bridge.stop().await;
    book.note(SECTION, format!("{name}: SIGTERM → exit"), "ms", millis(taken));
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
