//! Commands one after the other on many plugs at once, beside what the crate reaches alone.

use std::time::Duration;

use rumqttc::ClientError;
use tapo_simulator::{Profile, RunningDevice};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
    time::Instant,
};

use crate::{
    Bench,
    alone::{Alone, Which},
    broker::Broker,
    client::{Client, Message, Publisher},
    figures::{Book, Goal},
    fleet,
    groups::{self, Asks, Limits, MEMBERS},
    latency::on_off,
    scale::SELDOM,
    site::Site,
};

const SECTION: &str = "Sustained commands";
/// With as many plugs the floors are measured too.
const BESIDE_THE_FLOORS: usize = 100;
/// The bridge answers `busy` to what is more than its queue holds.
const AT_ONCE: usize = 100;

pub async fn measure(bench: &Bench, book: &mut Book) {
    for &count in bench.extent.scale {
        let devices = fleet::devices(Profile::P110, count).await;
        let at_once = count.min(AT_ONCE);
        let name = format!("{count} plugs, {at_once} at once");
        let ours = bridge(bench, book, &name, &devices, SELDOM, Which::Crate).await;
        if count == BESIDE_THE_FLOORS {
            for (limits, what) in [(Limits::Without, "without limits"), (Limits::With, "with limits")] {
                let grouped = format!("{SELDOM}\n{}", groups::of(count, MEMBERS, Asks::Nothing, limits));
                let name = format!("{name}, in groups of {MEMBERS} with a schedule, {what}");
                let in_groups = bridge(bench, book, &name, &devices, &grouped, Which::Crate).await;
                let name = format!("{count} plugs: ratio of those in groups {what} to those in none");
                book.with_goal(SECTION, name, "×", Goal::AtLeast(0.7), in_groups / ours);
            }
            floors(bench, book, &devices, ours, Which::Crate).await;
            let name = format!("{name}, with our own client");
            let ours = bridge(bench, book, &name, &devices, SELDOM, Which::Own).await;
            floors(bench, book, &devices, ours, Which::Own).await;
        }
    }
}

/// Commands a second over MQTT, each confirmed by a read back.
async fn bridge(
    bench: &Bench,
    book: &mut Book,
    name: &str,
    devices: &[RunningDevice],
    more: &str,
    which: Which,
) -> f64 {
    let addresses = fleet::addresses(devices);
    let mut site = Site::open_with(&bench.binary, &addresses, more, which.setting()).await;
    let requests = || {
        devices
            .iter()
            .map(|device| device.counters().http_requests)
            .sum::<u64>()
    };
    let (before, requests_before) = (site.bridge.cpu(), requests());
    let done = carry_out(bench, &mut site.client, devices.len()).await;
    let (cpu, requests) = (site.bridge.cpu() - before, requests() - requests_before);
    site.bridge.stop().await;
    let figure = format!("{name}: commands over MQTT, each confirmed by a read back");
    book.note(SECTION, figure, "1/s", done.per_second());
    let figure = format!("{name}: processor time of the bridge for each");
    book.note(SECTION, figure, "µs", cpu * 1e6 / f64::from(done.commands));
    let figure = format!("{name}: requests to a plug for each");
    book.note(SECTION, figure, "", requests as f64 / f64::from(done.commands));
    done.per_second()
}

/// What the client alone reaches, and what is left of that when commands and states go over the broker.
async fn floors(bench: &Bench, book: &mut Book, devices: &[RunningDevice], ours: f64, which: Which) {
    let (count, client) = (devices.len(), which.name());
    let goal_of = |one: Which| (which == one).then_some(Goal::AtLeast(0.7));
    for (what, reading) in [("", Reading::No), (" with a read back", Reading::Yes)] {
        let alone = alone_per_second(bench, devices, reading, which).await;
        let name = format!("{count} plugs: ON and OFF with {client} alone{what}");
        book.note(SECTION, name, "1/s", alone);
        let name = format!("{count} plugs: ratio to {client}{what}");
        book.with_goal(SECTION, name, "×", goal_of(Which::Crate), ours / alone);
    }
    let least = least_per_second(bench, devices, which).await;
    let name = format!("{count} plugs: {client} with a read back behind the broker, and nothing else");
    book.note(SECTION, name, "1/s", least);
    let name = format!("{count} plugs: ratio to {client} behind the broker");
    book.with_goal(SECTION, name, "×", goal_of(Which::Own), ours / least);
}

struct Applied {
    commands: u32,
    lasting: Duration,
}

impl Applied {
    fn per_second(&self) -> f64 {
        f64::from(self.commands) / self.lasting.as_secs_f64()
    }
}

/// Every plug, of many as many as the queue holds, gets its next command when the last one was answered: nothing can
/// pile up.
async fn carry_out(bench: &Bench, client: &mut Client, count: usize) -> Applied {
    client.subscribe("tapo2mqtt/+/response").await;
    let mut rounds = vec![0_usize; count.min(AT_ONCE)];
    for device in 0..rounds.len() {
        client.command(device, command(device, 0)).await;
    }
    let (since, mut commands) = (Instant::now(), 0_u32);
    while since.elapsed() < bench.extent.sustained {
        let message = client.wait(|message| message.topic.ends_with("/response")).await;
        assert!(
            message.says("\"status\":\"ok\""),
            "a command failed: {:?}",
            message.payload
        );
        commands += 1;
        let device = device_of(&message);
        let round = rounds.get_mut(device).expect("a device of ours");
        *round += 1;
        client.command(device, command(device, *round)).await;
    }
    Applied {
        commands,
        lasting: since.elapsed(),
    }
}

/// A transaction that was used before would be answered without the plug.
fn command(device: usize, round: usize) -> String {
    format!(
        "{{\"state\":\"{}\",\"transaction\":\"{device}-{round}\"}}",
        on_off(round)
    )
}

fn device_of(message: &Message) -> usize {
    let topic = message.topic.strip_prefix("tapo2mqtt/d");
    let number = topic.and_then(|topic| topic.split('/').next()?.parse().ok());
    number.expect("a device of ours")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Yes,
}

async fn alone_per_second(bench: &Bench, devices: &[RunningDevice], reading: Reading, which: Which) -> f64 {
    let mut loops = JoinSet::new();
    let mut clients = Vec::with_capacity(devices.len());
    for device in devices {
        clients.push(which.log_in(device).await);
    }
    let (since, lasting) = (Instant::now(), bench.extent.sustained);
    for mut client in clients {
        loops.spawn(async move {
            let mut round = 0_usize;
            while since.elapsed() < lasting {
                client.switch(round).await;
                if reading == Reading::Yes {
                    client.read().await;
                }
                round += 1;
            }
            round
        });
    }
    let total: usize = loops.join_all().await.into_iter().sum();
    total as f64 / since.elapsed().as_secs_f64()
}

/// The least that a bridge can do: take a command from the broker, switch, read back, tell state and answer.
async fn least_per_second(bench: &Bench, devices: &[RunningDevice], which: Which) -> f64 {
    let broker = Broker::start().await;
    let mut bridge = Client::connect(broker.address);
    bridge.subscribe("tapo2mqtt/+/set").await;
    let (mut workers, mut tasks) = (Vec::with_capacity(devices.len()), JoinSet::new());
    for (number, device) in devices.iter().enumerate() {
        let (commands, inbox) = unbounded_channel();
        let plug = which.log_in(device).await;
        tasks.spawn(least_worker(number, plug, bridge.publisher(), inbox));
        workers.push(commands);
    }
    tasks.spawn(async move {
        loop {
            let message = bridge.next().await;
            let worker = workers.get(device_of(&message)).expect("a device of ours");
            let _ = worker.send(message.payload);
        }
    });
    let mut client = Client::connect(broker.address);
    client.subscribe("tapo2mqtt/+").await;
    let done = carry_out(bench, &mut client, devices.len()).await;
    tasks.shutdown().await;
    done.per_second()
}

async fn least_worker(
    number: usize,
    mut plug: Alone,
    publisher: Publisher,
    mut inbox: UnboundedReceiver<bytes::Bytes>,
) -> Result<(), ClientError> {
    while let Some(command) = inbox.recv().await {
        let command: serde_json::Value = serde_json::from_slice(&command).expect("a command of ours");
        plug.switch(usize::from(command["state"] != on_off(0))).await;
        let info = plug.read().await;
        let topic = format!("tapo2mqtt/d{number}");
        publisher.publish(&topic, info.to_string()).await?;
        let answer = serde_json::json!({"status": "ok", "transaction": command["transaction"]});
        publisher
            .publish(&format!("{topic}/response"), answer.to_string())
            .await?;
    }
    Ok(())
}
