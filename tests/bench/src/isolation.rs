//! A live plug with more and more hanging ones beside it.

use std::time::Duration;

use tapo_simulator::{Fault, Profile, RunningDevice, Scope, Stage};
use tokio::time::sleep;

use crate::{
    Bench,
    client::Client,
    figures::{Book, Goal},
    fleet,
    latency::{on_off, one_at_a_time},
    site::Site,
};

const SECTION: &str = "Isolation";

pub async fn measure(bench: &Bench, book: &mut Book) {
    let mut alone = None;
    for hanging in [0, 1, 10] {
        let devices = fleet::devices(Profile::P110, 1 + hanging).await;
        let mut site = Site::open(&bench.binary, &fleet::addresses(&devices), "").await;
        hang(&site.client, &devices).await;
        let plug = devices.first().expect("a plug");
        let relay = one_at_a_time(&mut site.client, plug, bench.extent.commands / 2)
            .await
            .relay;
        let name = format!("live plug beside {hanging} hanging: command → relay");
        book.note(SECTION, format!("{name}, p50"), "ms", relay.p50());
        let limit = (hanging == 10).then_some(Goal::AtMost(10.0));
        book.with_goal(SECTION, format!("{name}, max"), "ms", limit, relay.max());
        let alone = *alone.get_or_insert(relay.p50());
        if hanging > 0 {
            let limit = (hanging == 10).then_some(Goal::AtMost(1.2));
            let name = format!("{name}, p50: ratio to alone");
            book.with_goal(SECTION, name, "×", limit, relay.p50() / alone);
        }
        site.bridge.stop().await;
    }
}

/// All devices but the first take requests and never answer: one is in flight to each, and commands wait behind it.
pub async fn hang(client: &Client, devices: &[RunningDevice]) {
    for (number, device) in devices.iter().enumerate().skip(1) {
        device.faults().set(Fault::Hang {
            stage: Stage::BeforeApplying,
            scope: Scope::default(),
        });
        device.reset_counters();
        for round in 0..3 {
            client.command(number, on_off(round)).await;
        }
    }
    for device in devices.iter().skip(1) {
        while device.counters().http_requests == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}
