//! How memory, processor time and throughput grow with the number of outlets.

use std::{collections::BTreeSet, time::Duration};

use tapo_simulator::{Profile, RunningDevice};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    Lab,
    bridge::{Bridge, settings},
    client::Client,
    figures::{Book, Goal, millis},
    fleet,
    latency::{on_off, switch, wait_online},
};

const SECTION: &str = "4 Scale";
/// Polls become so rare that what is left is the idle cost.
const SELDOM: &str = "[polling]\nstate = \"1h\"\nenergy = \"1h\"";
const WATCHED: Duration = Duration::from_secs(10);
const SUSTAINED: Duration = Duration::from_secs(4);
const SWITCHED: usize = 100;

pub async fn measure(lab: &Lab, book: &mut Book) {
    one_strip(lab, book).await;
    let mut small = None;
    for (outlets, profile, count) in [
        (10, Profile::P110, 10),
        (100, Profile::P110, 100),
        (1000, Profile::P110, 1000),
        (3000, Profile::P300, 1000),
    ] {
        let devices = fleet::devices(profile, count).await;
        let addresses = fleet::addresses(&devices);
        let memory = polled(lab, book, outlets, &addresses).await;
        idle(lab, book, outlets, &addresses).await;
        if outlets == 10 {
            small = Some(memory);
        }
        if let (1000, Some(small)) = (outlets, small) {
            let each = (memory - small) * 1000.0 / 990.0;
            book.with_goal(
                SECTION,
                "memory per device, from 10 to 1000 plugs",
                "kB",
                Goal::AtMost(20.0),
                each,
            );
        }
        if outlets == 100 {
            sustained(lab, book, &devices).await;
        }
        lab.forget_retained().await;
    }
}

async fn one_strip(lab: &Lab, book: &mut Book) {
    let strip = fleet::devices(Profile::P304M, 1).await;
    let mut client = Client::connect(lab.broker);
    let bridge = Bridge::start(&lab.binary, &settings(lab.broker, &fleet::addresses(&strip), ""));
    wait_online(&mut client, 1).await;
    sleep(Duration::from_secs(2)).await;
    book.with_goal(
        SECTION,
        "one strip: resident memory",
        "MB",
        Goal::AtMost(12.0),
        bridge.memory(),
    );
    book.note(SECTION, "one strip: threads", "", bridge.threads());
    bridge.stop().await;
    lab.forget_retained().await;
}

/// Under the default settings; returns the resident memory in MB.
async fn polled(lab: &Lab, book: &mut Book, outlets: usize, addresses: &[std::net::SocketAddr]) -> f64 {
    let mut client = Client::connect(lab.broker);
    let mut home = Client::connect(lab.broker);
    home.subscribe("homeassistant/#").await;
    let bridge = Bridge::start(&lab.binary, &settings(lab.broker, addresses, ""));
    wait_online(&mut client, addresses.len()).await;
    let burst = home.until_quiet(Duration::from_secs(2)).await;
    let bytes: usize = burst.iter().map(|message| message.payload.len()).sum();
    let topics: BTreeSet<_> = burst.iter().map(|message| message.topic.as_str()).collect();
    let last = burst
        .iter()
        .map(|message| message.at)
        .max()
        .unwrap_or(bridge.started);
    book.note(
        SECTION,
        format!("{outlets} outlets: discovery topics"),
        "",
        topics.len() as f64,
    );
    book.note(
        SECTION,
        format!("{outlets} outlets: discovery messages"),
        "",
        burst.len() as f64,
    );
    book.note(
        SECTION,
        format!("{outlets} outlets: discovery payloads"),
        "kB",
        bytes as f64 / 1e3,
    );
    let name = format!("{outlets} outlets: process start → last discovery message");
    book.note(SECTION, name, "ms", millis(last - bridge.started));
    let load = bridge.load(WATCHED).await;
    let goal = (outlets == 1000).then_some(Goal::AtMost(15.0));
    let name = format!("{outlets} outlets: processor, polled at the default intervals");
    book.with_goal(SECTION, name, "% of a core", goal, load);
    let memory = bridge.memory();
    book.note(
        SECTION,
        format!("{outlets} outlets: resident memory"),
        "MB",
        memory,
    );
    bridge.stop().await;
    memory
}

async fn idle(lab: &Lab, book: &mut Book, outlets: usize, addresses: &[std::net::SocketAddr]) {
    let mut client = Client::connect(lab.broker);
    let bridge = Bridge::start(&lab.binary, &settings(lab.broker, addresses, SELDOM));
    wait_online(&mut client, addresses.len()).await;
    sleep(Duration::from_secs(1)).await;
    let load = bridge.load(WATCHED / 2).await;
    book.note(
        SECTION,
        format!("{outlets} outlets: processor, idle"),
        "% of a core",
        load,
    );
    bridge.stop().await;
}

/// Every plug gets its next command when the last one was answered.
async fn sustained(lab: &Lab, book: &mut Book, devices: &[RunningDevice]) {
    let alone = alone_per_second(devices, Reading::No).await;
    let read = alone_per_second(devices, Reading::Yes).await;
    book.note(
        SECTION,
        "100 plugs: `on()`/`off()` of the tapo crate",
        "1/s",
        alone,
    );
    book.note(
        SECTION,
        "100 plugs: the tapo crate, each with a read back",
        "1/s",
        read,
    );
    let mut client = Client::connect(lab.broker);
    let bridge = Bridge::start(
        &lab.binary,
        &settings(lab.broker, &fleet::addresses(devices), SELDOM),
    );
    wait_online(&mut client, devices.len()).await;
    client.subscribe("tapo2mqtt/+/response").await;
    let command = |round: usize| format!("{{\"state\":\"{}\",\"transaction\":{round}}}", on_off(round));
    let (mut rounds, mut answered) = ([0_usize; SWITCHED], 0_u32);
    for number in 0..devices.len() {
        client
            .publish(&format!("tapo2mqtt/d{number}/set"), command(0))
            .await;
    }
    let since = Instant::now();
    while since.elapsed() < SUSTAINED {
        let message = client.wait(|message| message.topic.ends_with("/response")).await;
        assert!(
            message.says("\"status\":\"ok\""),
            "a command failed: {:?}",
            message.payload
        );
        answered += 1;
        let number = message
            .topic
            .trim_start_matches("tapo2mqtt/d")
            .trim_end_matches("/response")
            .parse::<usize>();
        let number = number.expect("a device of ours");
        let round = rounds.get_mut(number).expect("a device of ours");
        *round += 1;
        client
            .publish(&format!("tapo2mqtt/d{number}/set"), command(*round))
            .await;
    }
    let ours = f64::from(answered) / since.elapsed().as_secs_f64();
    book.note(
        SECTION,
        "100 plugs: commands over MQTT, each confirmed by a read back",
        "1/s",
        ours,
    );
    book.with_goal(
        SECTION,
        "100 plugs: ratio to the crate alone",
        "×",
        Goal::AtLeast(0.7),
        ours / alone,
    );
    book.with_goal(
        SECTION,
        "100 plugs: ratio to the crate with a read back",
        "×",
        Goal::AtLeast(0.7),
        ours / read,
    );
    bridge.stop().await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Yes,
}

async fn alone_per_second(devices: &[RunningDevice], reading: Reading) -> f64 {
    let mut loops = JoinSet::new();
    let mut handlers = Vec::with_capacity(devices.len());
    for device in devices {
        handlers.push(fleet::handler(device).await);
    }
    let since = Instant::now();
    for handler in handlers {
        loops.spawn(async move {
            let mut round = 0_usize;
            while since.elapsed() < SUSTAINED {
                switch(&handler, round).await;
                if reading == Reading::Yes {
                    handler.get_device_info_json().await.expect("the plug answers");
                }
                round += 1;
            }
            round
        });
    }
    let total: usize = loops.join_all().await.into_iter().sum();
    total as f64 / since.elapsed().as_secs_f64()
}
