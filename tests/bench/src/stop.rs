//! From SIGTERM to the exit.

use std::time::Duration;

use tapo_simulator::{Profile, RunningDevice};

use crate::{
    Bench,
    figures::{Book, Goal, millis},
    fleet,
    isolation::hang,
    site::Site,
};

const SECTION: &str = "Stop";
const HANGING: usize = 10;

#[derive(Clone, Copy)]
enum Broker {
    Alive,
    Killed,
    Frozen,
}

pub async fn measure(bench: &Bench, book: &mut Book) {
    for (name, broker, devices, limit) in [
        ("nothing to wait for", Broker::Alive, 1, 100.0),
        ("10 hanging plugs", Broker::Alive, 1 + HANGING, 1000.0),
        (
            "10 hanging plugs, broker gone",
            Broker::Killed,
            1 + HANGING,
            1000.0,
        ),
        (
            "10 hanging plugs, broker frozen",
            Broker::Frozen,
            1 + HANGING,
            1000.0,
        ),
    ] {
        let plugs = fleet::devices(Profile::P110, devices).await;
        let taken = once(bench, &plugs, broker).await;
        let name = format!("{name}: SIGTERM → exit");
        book.with_goal(SECTION, name, "ms", Goal::AtMost(limit), millis(taken));
    }
}

async fn once(bench: &Bench, plugs: &[RunningDevice], broker: Broker) -> Duration {
    let mut site = Site::open(&bench.binary, &fleet::addresses(plugs), "").await;
    hang(&site.client, plugs).await;
    match broker {
        Broker::Alive => {}
        Broker::Killed => site.broker.kill(),
        Broker::Frozen => site.broker.freeze(),
    }
    site.bridge.stop().await
}
