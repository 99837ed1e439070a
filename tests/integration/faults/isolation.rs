//! Devices that hang cost the others nothing.

use std::time::Duration;

use serde_json::json;
use tapo_simulator::{Fault, Profile, RunningDevice, Scope, Simulator, Stage};
use tokio::time::Instant;

use super::{code, send, word};
use crate::bridge::Setup;

const SAMPLES: usize = 60;
const FAMILIES: [usize; 3] = [0, 1, 10];

/// Round trips of commands to a live plug while so many devices hang with commands waiting for them.
async fn round_trips(hanging: usize) -> Vec<Duration> {
    let live = Simulator::plug(Profile::P110).start().await.unwrap();
    let mut setup = Setup::new().device("live", live.address());
    let mut dead: Vec<RunningDevice> = Vec::new();
    for number in 0..hanging {
        let device = Simulator::plug(Profile::P110).start().await.unwrap();
        setup = setup.device(&format!("dead-{number}"), device.address());
        dead.push(device);
    }
    let bridge = setup.start().await;
    for id in (0..hanging)
        .map(|number| format!("dead-{number}"))
        .chain(["live".to_owned()])
    {
        bridge.available(&id).await;
    }
    for (number, device) in dead.iter().enumerate() {
        let (stage, scope) = (Stage::BeforeApplying, Scope::all());
        device.faults().set(Fault::Hang { stage, scope });
        for on in [true, false] {
            send(&bridge, &format!("dead-{number}"), "waits", on, 60.0).await;
        }
    }
    let mut took = Vec::new();
    for sample in 0..SAMPLES {
        bridge.probe.forget();
        let transaction = format!("t{sample}");
        let state = word(sample % 2 == 0);
        let sent = Instant::now();
        let answer = bridge.set("live", &transaction, json!({ "state": state })).await;
        took.push(sent.elapsed());
        assert_eq!(code(&answer), "ok", "{answer}");
    }
    took.sort_unstable();
    assert!(
        dead.iter()
            .all(|device| device.counters().relay_changes.is_empty())
    );
    took
}

#[tokio::test]
async fn a_live_plug_answers_as_fast_beside_devices_that_hang() {
    let mut medians = Vec::new();
    for hanging in FAMILIES {
        let took = round_trips(hanging).await;
        let (median, longest) = (took[SAMPLES / 2], took[SAMPLES - 1]);
        println!("{hanging:>2} hanging: p50 {median:>8.1?}  max {longest:>8.1?}");
        medians.push(median.as_secs_f64());
    }
    for (hanging, median) in FAMILIES.iter().zip(&medians).skip(1) {
        let ratio = median / medians[0];
        println!("{hanging:>2} hanging: p50 is {ratio:.2} times that of none");
        // Noise of a busy machine; a device that is waited for costs a hundred times as much.
        assert!(ratio <= 20.0, "{ratio}");
    }
}
