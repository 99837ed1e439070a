//! How memory, processor time and discovery grow with the number of outlets.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tapo_simulator::Profile;
use tokio::time::{Instant, sleep};

use crate::{
    Bench,
    client::Message,
    figures::{Book, Goal, millis},
    fleet,
    held::Held,
    site::Site,
};

const SECTION: &str = "Scale";
/// Polls become so rare that what is left is the idle cost.
pub const SELDOM: &str = "[polling]\nstate = \"1h\"\nenergy = \"1h\"";

/// Until polls have begun, and what comes once after a login is over.
const FIRST_POLLS: Duration = Duration::from_secs(5);

pub async fn measure(bench: &Bench, book: &mut Book) {
    one_strip(bench, book).await;
    let mut smallest = None;
    for &count in bench.extent.scale {
        let devices = fleet::devices(Profile::P110, count).await;
        let addresses = fleet::addresses(&devices);
        let memory = polled(bench, book, count, &addresses).await;
        idle(bench, book, count, &addresses).await;
        let alone = tokio::task::block_in_place(|| Held::start(&addresses).memory());
        let Some((few, before, alone_before)) = smallest else {
            smallest = Some((count, memory, alone));
            continue;
        };
        let each = |memory: f64, before: f64| (memory - before) * 1e3 / (count - few) as f64;
        let (ours, theirs) = (each(memory, before), each(alone, alone_before));
        let of = format!("memory per device, from {few} to {count} plugs");
        book.with_goal(SECTION, &of, "kB", Goal::AtMost(20.0), ours);
        book.note(SECTION, format!("{of}: the tapo crate alone"), "kB", theirs);
        book.note(
            SECTION,
            format!("{of}: what the bridge adds"),
            "kB",
            ours - theirs,
        );
    }
    own_client(bench, book).await;
    if let Some(count) = bench.extent.strips {
        let strips = fleet::devices(Profile::P300, count).await;
        let addresses = fleet::addresses(&strips);
        polled(bench, book, 3 * count, &addresses).await;
    }
}

/// Memory where our own client serves all devices.
async fn own_client(bench: &Bench, book: &mut Book) {
    let mut memory = Vec::new();
    for count in [FEW, MANY] {
        let devices = fleet::devices(Profile::P110, count).await;
        let site = Site::open_with(&bench.binary, &fleet::addresses(&devices), "", "own").await;
        sleep(FIRST_POLLS).await;
        memory.push(site.bridge.memory());
        site.bridge.stop().await;
    }
    if let [few, many] = memory[..] {
        let each = (many - few) * 1e3 / (MANY - FEW) as f64;
        let name = format!("memory per device, from {FEW} to {MANY} plugs: our own client");
        book.with_goal(SECTION, &name, "kB", Goal::AtMost(40.0), each);
    }
}

const FEW: usize = 10;
const MANY: usize = 100;

async fn one_strip(bench: &Bench, book: &mut Book) {
    let strip = fleet::devices(Profile::P304M, 1).await;
    let site = Site::open(&bench.binary, &fleet::addresses(&strip), "").await;
    sleep(Duration::from_secs(2)).await;
    let memory = site.bridge.memory();
    let name = "one strip: resident memory";
    book.with_goal(SECTION, name, "MB", Goal::AtMost(12.0), memory);
    book.note(SECTION, "one strip: threads", "", site.bridge.threads());
    site.bridge.stop().await;
}

/// Under the default settings; returns the resident memory in MB.
async fn polled(bench: &Bench, book: &mut Book, outlets: usize, addresses: &[SocketAddr]) -> f64 {
    let mut site = Site::open(&bench.binary, addresses, "").await;
    sleep(FIRST_POLLS).await;
    let load = site.bridge.load(bench.watched(addresses.len())).await;
    let memory = site.bridge.memory();
    note_discovery(book, outlets, &site.home.take_all(), site.bridge.started);
    let goal = (outlets == 1000).then_some(Goal::AtMost(15.0));
    let name = format!("{outlets} outlets: processor, polled at the default intervals");
    book.with_goal(SECTION, name, "% of a core", goal, load);
    let name = format!("{outlets} outlets: resident memory");
    book.note(SECTION, name, "MB", memory);
    site.bridge.stop().await;
    memory
}

/// What was published to Home Assistant, from the start on.
fn note_discovery(book: &mut Book, outlets: usize, sent: &[Message], started: Instant) {
    let mut note = |what: &str, unit, value| {
        book.note(SECTION, format!("{outlets} outlets: {what}"), unit, value);
    };
    let topics: BTreeSet<_> = sent.iter().map(|message| message.topic.as_str()).collect();
    let bytes: usize = sent.iter().map(|message| message.payload.len()).sum();
    note("discovery topics", "", topics.len() as f64);
    note("discovery messages", "", sent.len() as f64);
    note("discovery payloads", "kB", bytes as f64 / 1e3);
    // Most announce each device once; later ones add an entity whose value was seen late.
    let mut seen = BTreeSet::new();
    let burst = sent
        .iter()
        .filter(|message| seen.insert(&message.topic))
        .map(|message| message.at);
    if let Some(last) = burst.max() {
        note(
            "process start → everything announced once",
            "ms",
            millis(last - started),
        );
    }
}

/// Without polls.
async fn idle(bench: &Bench, book: &mut Book, outlets: usize, addresses: &[SocketAddr]) {
    let site = Site::open(&bench.binary, addresses, SELDOM).await;
    sleep(FIRST_POLLS).await;
    let load = site.bridge.load(bench.watched(addresses.len()) / 4).await;
    let name = format!("{outlets} outlets: processor, not polled");
    book.note(SECTION, name, "% of a core", load);
    site.bridge.stop().await;
}
