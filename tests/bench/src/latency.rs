//! From a command to the relay and to the confirmed state, beside what the broker and the crate cost alone.

use std::time::Duration;

use tapo_simulator::{Profile, RunningDevice};
use tokio::time::{Instant, interval, sleep};

use crate::{
    Bench,
    broker::Broker,
    client::{Client, Message},
    figures::{Book, Goal, Samples},
    fleet,
    site::Site,
};

const SECTION: &str = "Latency";
const LOADED_PLUGS: usize = 10;
/// 100 commands a second.
const LOADED_PACE: Duration = Duration::from_millis(10);
/// Commands that follow each other before the kernel would acknowledge a packet by itself.
const CLOSE_PACE: Duration = Duration::from_millis(20);
/// Between quiet commands.
const PAUSE: Duration = Duration::from_millis(15);

pub fn on_off(round: usize) -> &'static str {
    if round.is_multiple_of(2) { "ON" } else { "OFF" }
}

pub async fn measure(bench: &Bench, book: &mut Book) {
    let commands = bench.extent.commands;
    let hop = broker_hop(commands).await;
    let raw = raw_on(commands).await;
    let floor = hop.p50() + raw.p50();
    book.note(SECTION, "floor: one hop over the broker, p50", "ms", hop.p50());
    book.note(SECTION, "floor: `on()` of the tapo crate, p50", "ms", raw.p50());

    let plugs = fleet::devices(Profile::P110, LOADED_PLUGS).await;
    let mut site = Site::open(&bench.binary, &fleet::addresses(&plugs), "").await;
    let plug = plugs.first().expect("a plug");
    let quiet = one_at_a_time(&mut site.client, plug, commands).await;
    tell_quiet(book, &quiet, floor);
    let loaded = paced(&mut site.client, &plugs, 2 * commands, LOADED_PACE).await;
    tell_loaded(book, &loaded);
    let at_once = paced(&mut site.client, &plugs, commands, CLOSE_PACE).await;
    site.bridge.stop().await;

    let broker = Broker::start_as_shipped().await;
    let mut site = Site::open_on(broker, &bench.binary, &fleet::addresses(&plugs), "", "auto").await;
    let held = paced(&mut site.client, &plugs, commands, CLOSE_PACE).await;
    site.bridge.stop().await;
    tell_nagle(book, held.relay.p50(), at_once.relay.p50());
}

/// What a broker that does not set `TCP_NODELAY` costs.
fn tell_nagle(book: &mut Book, held: f64, at_once: f64) {
    let name = "every 20 ms, broker as shipped: command → relay, p50";
    book.note(SECTION, name, "ms", held);
    book.note(
        SECTION,
        "every 20 ms, broker with `set_tcp_nodelay true`: command → relay, p50",
        "ms",
        at_once,
    );
    let difference = format!("{name}: above the other one");
    book.with_goal(SECTION, difference, "ms", Goal::AtMost(0.5), held - at_once);
}

/// How long commands took.
#[derive(Default)]
pub struct Taken {
    pub relay: Samples,
    pub state: Samples,
    /// Commands that a later one overtook, so that nothing can be said of them.
    overtaken: usize,
}

fn tell_quiet(book: &mut Book, quiet: &Taken, floor: f64) {
    let relay = &quiet.relay;
    book.note(SECTION, "command → relay, p50", "ms", relay.p50());
    book.note(SECTION, "command → relay, p95", "ms", relay.rank(0.95));
    book.note(SECTION, "command → relay, p99", "ms", relay.rank(0.99));
    book.note(SECTION, "command → relay, max", "ms", relay.max());
    book.with_goal(
        SECTION,
        "command → relay, p50: ratio to the floor",
        "×",
        Goal::AtMost(1.5),
        relay.p50() / floor,
    );
    book.with_goal(
        SECTION,
        "command → relay, p50: above the floor",
        "ms",
        Goal::AtMost(1.0),
        relay.p50() - floor,
    );
    for (rank, word) in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (1.0, "max")] {
        let name = format!("command → confirmed state, {word}");
        book.note(SECTION, name, "ms", quiet.state.rank(rank));
    }
}

fn tell_loaded(book: &mut Book, loaded: &Taken) {
    for (name, samples) in [("relay", &loaded.relay), ("confirmed state", &loaded.state)] {
        for (rank, word) in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (1.0, "max")] {
            let name = format!("at 100 commands/s: command → {name}, {word}");
            book.note(SECTION, name, "ms", samples.rank(rank));
        }
    }
    let overtaken = "at 100 commands/s: commands overtaken by the next, left out above";
    book.note(SECTION, overtaken, "", loaded.overtaken as f64);
}

async fn broker_hop(rounds: usize) -> Samples {
    let broker = Broker::start().await;
    let sender = Client::connect(broker.address);
    let mut receiver = Client::connect(broker.address);
    receiver.subscribe("bench/hop").await;
    let mut samples = Samples::default();
    for round in 0..rounds {
        sleep(PAUSE).await;
        let sent = Instant::now();
        sender.publish("bench/hop", on_off(round)).await;
        samples.push(receiver.next().await.at - sent);
    }
    samples
}

async fn raw_on(rounds: usize) -> Samples {
    let plugs = fleet::devices(Profile::P110, 1).await;
    let handler = fleet::handler(plugs.first().expect("a plug")).await;
    let mut samples = Samples::default();
    for round in 0..rounds {
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

fn wanted(round: usize) -> String {
    format!("\"state\":\"{}\"", on_off(round))
}

/// Commands to the first device, each after the state of the one before was confirmed.
pub async fn one_at_a_time(client: &mut Client, plug: &RunningDevice, commands: usize) -> Taken {
    let mut taken = Taken::default();
    for round in 0..commands {
        sleep(PAUSE).await;
        let sent = Instant::now();
        client.command(0, on_off(round)).await;
        let confirmed = client
            .wait(|message| message.topic == "tapo2mqtt/d0" && message.says(&wanted(round)))
            .await;
        taken.relay.push(fleet::moved(plug) - sent);
        taken.state.push(confirmed.at - sent);
    }
    taken
}

/// Commands at a steady pace, over all plugs in turn.
async fn paced(client: &mut Client, plugs: &[RunningDevice], commands: usize, pace: Duration) -> Taken {
    for (number, plug) in plugs.iter().enumerate() {
        client.command(number, "OFF").await;
        plug.wait_relay(1, false, Duration::from_secs(10))
            .await
            .expect("the plug is switched");
    }
    client.until_quiet(Duration::from_millis(200)).await;
    for plug in plugs {
        plug.reset_counters();
    }
    let mut pace = interval(pace);
    let mut sent = vec![Vec::new(); plugs.len()];
    for number in 0..commands {
        pace.tick().await;
        let device = number % plugs.len();
        let times = sent.get_mut(device).expect("a device of ours");
        times.push(Instant::now());
        let command = on_off(times.len() - 1);
        client.command(device, command).await;
    }
    let messages = client.until_quiet(Duration::from_secs(1)).await;
    let mut taken = Taken::default();
    for (number, (plug, sent)) in plugs.iter().zip(&sent).enumerate() {
        let topic = format!("tapo2mqtt/d{number}");
        let states = messages.iter().filter(|message| message.topic == topic);
        match_up(&mut taken, plug, sent, states);
    }
    taken
}

/// Each command is to switch over, so the nth is what moved the relay the nth time, and the first state after that
/// which says so confirms it. Of a plug of which a move or a state is missing because a later command overtook it,
/// nothing is said.
fn match_up<'a>(
    taken: &mut Taken,
    plug: &RunningDevice,
    sent: &[Instant],
    states: impl Iterator<Item = &'a Message>,
) {
    let moves = plug.counters().relay_changes;
    let mut states = states.peekable();
    let mut confirmed = Vec::new();
    for (round, change) in moves.iter().enumerate() {
        let confirms = |message: &&Message| message.at >= change.at && message.says(&wanted(round));
        confirmed.extend(states.find(confirms).map(|message| message.at));
    }
    if moves.len() != sent.len() || confirmed.len() != sent.len() {
        taken.overtaken += sent.len();
        return;
    }
    for ((sent, change), confirmed) in sent.iter().zip(&moves).zip(confirmed) {
        taken.relay.push(change.at - *sent);
        taken.state.push(confirmed - *sent);
    }
}
