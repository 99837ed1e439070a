//! Commands one after the other on many plugs at once, beside what the crate reaches alone.

use tapo_simulator::RunningDevice;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Bench,
    client::{Client, Message},
    figures::{Book, Goal},
    fleet,
    latency::{on_off, switch},
    scale::SELDOM,
    site::Site,
};

const SECTION: &str = "Sustained commands";
/// With as many plugs the crate alone is measured too.
const BESIDE_THE_CRATE: usize = 100;
/// The bridge answers `busy` to what is more than its queue holds.
const AT_ONCE: usize = 100;

pub async fn measure(bench: &Bench, book: &mut Book, devices: &[RunningDevice]) {
    let count = devices.len();
    let mut site = Site::open(&bench.binary, &fleet::addresses(devices), SELDOM).await;
    let ours = per_second(bench, &mut site.client, count).await;
    site.bridge.stop().await;
    let at_once = count.min(AT_ONCE);
    let name = format!("{count} plugs, {at_once} at once: commands over MQTT, each confirmed by a read back");
    book.note(SECTION, name, "1/s", ours);
    if count != BESIDE_THE_CRATE {
        return;
    }
    for (what, reading) in [("", Reading::No), (" with a read back", Reading::Yes)] {
        let alone = alone_per_second(bench, devices, reading).await;
        let name = format!("{count} plugs: `on()`/`off()` of the tapo crate{what}");
        book.note(SECTION, name, "1/s", alone);
        let name = format!("{count} plugs: ratio to the crate{what}");
        book.with_goal(SECTION, name, "×", Goal::AtLeast(0.7), ours / alone);
    }
}

/// Every plug, of many as many as the queue holds, gets its next command when the last one was answered: nothing can
/// pile up.
async fn per_second(bench: &Bench, client: &mut Client, count: usize) -> f64 {
    client.subscribe("tapo2mqtt/+/response").await;
    let mut rounds = vec![0_usize; count.min(AT_ONCE)];
    for device in 0..rounds.len() {
        client.command(device, command(device, 0)).await;
    }
    let (since, mut answered) = (Instant::now(), 0_u32);
    while since.elapsed() < bench.extent.sustained {
        let message = client.wait(|message| message.topic.ends_with("/response")).await;
        assert!(
            message.says("\"status\":\"ok\""),
            "a command failed: {:?}",
            message.payload
        );
        answered += 1;
        let device = device_of(&message);
        let round = rounds.get_mut(device).expect("a device of ours");
        *round += 1;
        client.command(device, command(device, *round)).await;
    }
    f64::from(answered) / since.elapsed().as_secs_f64()
}

/// A transaction that was used before would be answered without the plug.
fn command(device: usize, round: usize) -> String {
    format!(
        "{{\"state\":\"{}\",\"transaction\":\"{device}-{round}\"}}",
        on_off(round)
    )
}

fn device_of(response: &Message) -> usize {
    let topic = response.topic.strip_prefix("tapo2mqtt/d");
    let number = topic.and_then(|topic| topic.strip_suffix("/response")?.parse().ok());
    number.expect("a device of ours")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Yes,
}

async fn alone_per_second(bench: &Bench, devices: &[RunningDevice], reading: Reading) -> f64 {
    let mut loops = JoinSet::new();
    let mut handlers = Vec::with_capacity(devices.len());
    for device in devices {
        handlers.push(fleet::handler(device).await);
    }
    let (since, lasting) = (Instant::now(), bench.extent.sustained);
    for handler in handlers {
        loops.spawn(async move {
            let mut round = 0_usize;
            while since.elapsed() < lasting {
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
