//! From a command to the relay and to the confirmed state, beside what the broker and the crate cost alone.

use std::time::Duration;

use tapo_simulator::{Profile, RunningDevice};
use tokio::time::{Instant, interval, sleep};

use crate::{
    Lab,
    bridge::{Bridge, settings},
    client::Client,
    figures::{Book, Goal, Samples, millis},
    fleet,
};

const SECTION: &str = "1 Latency";
const COMMANDS: usize = 200;
const LOADED_PLUGS: usize = 10;
const LOADED_COMMANDS: usize = 400;
/// 100 commands a second.
const LOADED_PACE: Duration = Duration::from_millis(10);
/// Between quiet commands.
const PAUSE: Duration = Duration::from_millis(15);

pub fn on_off(round: usize) -> &'static str {
    if round.is_multiple_of(2) { "ON" } else { "OFF" }
}

pub async fn measure(lab: &Lab, book: &mut Book) {
    let hop = broker_hop(lab).await;
    let raw = raw_on().await;
    let floor = hop.p50() + raw.p50();
    book.note(SECTION, "floor: one hop over the broker, p50", "ms", hop.p50());
    book.note(SECTION, "floor: `on()` of the tapo crate, p50", "ms", raw.p50());

    let plugs = fleet::devices(Profile::P110, LOADED_PLUGS).await;
    let mut client = Client::connect(lab.broker);
    let bridge = Bridge::start(&lab.binary, &settings(lab.broker, &fleet::addresses(&plugs), ""));
    wait_online(&mut client, LOADED_PLUGS).await;

    let (relay, state) = quiet(&mut client, plugs.first().expect("a plug")).await;
    book.with_goal(
        SECTION,
        "command → relay, p50",
        "ms",
        Goal::AtMost(floor + 1.0),
        relay.p50(),
    );
    book.note(SECTION, "command → relay, p95", "ms", relay.rank(0.95));
    book.note(SECTION, "command → relay, p99", "ms", relay.rank(0.99));
    book.note(SECTION, "command → relay, max", "ms", relay.max());
    book.with_goal(
        SECTION,
        "command → relay, ratio to the floor",
        "×",
        Goal::AtMost(1.5),
        relay.p50() / floor,
    );
    book.note(
        SECTION,
        "command → relay, above the floor",
        "ms",
        relay.p50() - floor,
    );
    book.note(SECTION, "command → confirmed state, p50", "ms", state.p50());
    book.note(SECTION, "command → confirmed state, p99", "ms", state.rank(0.99));

    let (relay, state) = loaded(&mut client, &plugs).await;
    for (name, samples) in [("relay", relay), ("confirmed state", state)] {
        for (rank, word) in [(0.5, "p50"), (0.99, "p99"), (1.0, "max")] {
            let name = format!("at 100 commands/s: command → {name}, {word}");
            book.note(SECTION, name, "ms", samples.rank(rank));
        }
    }
    bridge.stop().await;
}

/// Waits until so many devices were announced as reachable.
pub async fn wait_online(client: &mut Client, count: usize) {
    client.subscribe("tapo2mqtt/+/availability").await;
    let mut online = std::collections::BTreeSet::new();
    while online.len() < count {
        let message = client.next().await;
        if message.says("online") {
            online.insert(message.topic);
        }
    }
    client.subscribe("tapo2mqtt/+").await;
    client.until_quiet(Duration::from_millis(100)).await;
}

async fn broker_hop(lab: &Lab) -> Samples {
    let sender = Client::connect(lab.broker);
    let mut receiver = Client::connect(lab.broker);
    receiver.subscribe("bench/hop").await;
    let mut samples = Samples::default();
    for round in 0..COMMANDS {
        sleep(PAUSE).await;
        let sent = Instant::now();
        sender.publish("bench/hop", on_off(round)).await;
        samples.push(receiver.next().await.at - sent);
    }
    samples
}

async fn raw_on() -> Samples {
    let plugs = fleet::devices(Profile::P110, 1).await;
    let handler = fleet::handler(plugs.first().expect("a plug")).await;
    let mut samples = Samples::default();
    for round in 0..COMMANDS {
        sleep(PAUSE).await;
        let sent = Instant::now();
        switch(&handler, round).await;
        samples.push(sent.elapsed());
    }
    samples
}

pub async fn switch(handler: &tapo::PlugEnergyMonitoringHandler, round: usize) {
    let done = if round.is_multiple_of(2) {
        handler.on().await
    } else {
        handler.off().await
    };
    done.expect("the plug answers");
}

/// One command at a time: to the relay, and to the state.
async fn quiet(client: &mut Client, plug: &RunningDevice) -> (Samples, Samples) {
    one_at_a_time(client, plug, COMMANDS).await
}

pub async fn one_at_a_time(client: &mut Client, plug: &RunningDevice, commands: usize) -> (Samples, Samples) {
    let (mut relay, mut state) = (Samples::default(), Samples::default());
    for round in 0..commands {
        sleep(PAUSE).await;
        let wanted = format!("\"state\":\"{}\"", on_off(round));
        let sent = Instant::now();
        client.publish("tapo2mqtt/d0/set", on_off(round)).await;
        let confirmed = client
            .wait(|message| message.topic == "tapo2mqtt/d0" && message.says(&wanted))
            .await;
        relay.push(fleet::moved(plug) - sent);
        state.push(confirmed.at - sent);
    }
    (relay, state)
}

/// Commands at a steady pace, over all plugs in turn.
async fn loaded(client: &mut Client, plugs: &[RunningDevice]) -> (Samples, Samples) {
    let (mut relay, mut state) = (Samples::default(), Samples::default());
    let mut pace = interval(LOADED_PACE);
    let mut sent = Vec::with_capacity(LOADED_COMMANDS);
    for plug in plugs {
        plug.reset_counters();
    }
    for number in 0..LOADED_COMMANDS {
        pace.tick().await;
        sent.push(Instant::now());
        let round = number / plugs.len();
        let topic = format!("tapo2mqtt/d{}/set", number % plugs.len());
        client.publish(&topic, on_off(round)).await;
    }
    let mut confirmed = vec![Vec::new(); plugs.len()];
    for message in client.until_quiet(Duration::from_secs(1)).await {
        let plug = message
            .topic
            .strip_prefix("tapo2mqtt/d")
            .and_then(|number| number.parse::<usize>().ok());
        if let Some(times) = plug.and_then(|plug| confirmed.get_mut(plug)) {
            times.push(message.at);
        }
    }
    for (number, sent) in sent.iter().enumerate() {
        let (plug, round) = (number % plugs.len(), number / plugs.len());
        let changes = plugs
            .get(plug)
            .map(|plug| plug.counters().relay_changes)
            .unwrap_or_default();
        if let Some(change) = changes.get(round) {
            relay.push(change.at - *sent);
        }
        if let Some(at) = confirmed
            .get(plug)
            .and_then(|times| times.iter().find(|at| **at > *sent))
        {
            state.push(*at - *sent);
        }
    }
    (relay, state)
}

/// The same plug with more and more hanging ones beside it.
pub async fn isolation(lab: &Lab, book: &mut Book) {
    const SECTION: &str = "2 Isolation";
    let mut alone = None;
    for hanging in [0, 1, 10] {
        let devices = fleet::devices(Profile::P110, 1 + hanging).await;
        let mut client = Client::connect(lab.broker);
        let bridge = Bridge::start(
            &lab.binary,
            &settings(lab.broker, &fleet::addresses(&devices), ""),
        );
        wait_online(&mut client, devices.len()).await;
        for device in devices.iter().skip(1) {
            device.faults().set(tapo_simulator::Fault::Hang {
                stage: tapo_simulator::Stage::BeforeApplying,
                scope: tapo_simulator::Scope::default(),
            });
        }
        for (number, _) in devices.iter().enumerate().skip(1) {
            for round in 0..3 {
                client
                    .publish(&format!("tapo2mqtt/d{number}/set"), on_off(round))
                    .await;
            }
        }
        let plug = devices.first().expect("a plug");
        let (relay, _) = one_at_a_time(&mut client, plug, COMMANDS / 2).await;
        let name = format!("live plug beside {hanging} hanging: command → relay");
        book.note(SECTION, format!("{name}, p50"), "ms", relay.p50());
        let limit = (hanging == 10).then_some(Goal::AtMost(10.0));
        book.with_goal(SECTION, format!("{name}, max"), "ms", limit, relay.max());
        let alone = *alone.get_or_insert(relay.p50());
        if hanging > 0 {
            let limit = (hanging == 10).then_some(Goal::AtMost(1.2));
            book.with_goal(
                SECTION,
                format!("{name}, p50 ratio to alone"),
                "×",
                limit,
                relay.p50() / alone,
            );
        }
        let ended = bridge.stop().await;
        let limit = (hanging == 10).then_some(Goal::AtMost(1000.0));
        book.with_goal(
            SECTION,
            format!("SIGTERM → exit beside {hanging} hanging"),
            "ms",
            limit,
            millis(ended),
        );
    }
}
