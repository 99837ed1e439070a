//! A broker that is killed as `kill -9` does, and keeps nothing, under a load of commands.
//!
//! What holds: a command that the bridge received is carried out once and has one answer. Both the command and its
//! answer may die with the broker; whoever misses an answer sends the command again with the same transaction, and
//! either it is carried out now, or its answer comes again. `TAPO2MQTT_KILLS` makes the run longer.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tapo_simulator::{Cause, DeviceHandle};
use tapo2mqtt::system::tasks::Tasks;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    from_environment,
    recording_client::RecordingClient,
    simulation::{Polling, Simulation},
};
use crate::mosquitto::Mosquitto;

/// Without an answer for this long, a command is sent again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long everything may take to be back in the broker.
const BACK: Duration = Duration::from_secs(20);
/// A connection that lives this long is sound, and the link's next pause is its shortest again.
const SOUND: Duration = Duration::from_secs(5);

/// What toggling one outlet came to.
struct Toggled {
    device: DeviceHandle,
    position: u8,
    commands: usize,
    repeats: usize,
    transactions: Vec<String>,
}

/// Toggles an outlet over and over. A toggle that is lost, or done twice, shows.
async fn toggle(
    client: Arc<RecordingClient>,
    id: &'static str,
    device: DeviceHandle,
    position: u8,
    stop: CancellationToken,
) -> Toggled {
    let path = if device.child_ids().is_empty() {
        id.to_owned()
    } else {
        format!("{id}/{position}")
    };
    let mut toggled = Toggled {
        device,
        position,
        commands: 0,
        repeats: 0,
        transactions: Vec::new(),
    };
    while !stop.is_cancelled() {
        let transaction = format!("{path}-{}", toggled.commands);
        let command = json!({"state": "TOGGLE", "transaction": transaction}).to_string();
        client.send(&format!("{path}/set"), command.clone());
        while !client
            .until(PATIENCE, |received| received.answer(&transaction).is_some())
            .await
        {
            toggled.repeats += 1;
            client.send(&format!("{path}/set"), command.clone());
        }
        toggled.commands += 1;
        toggled.transactions.push(transaction);
    }
    toggled
}

/// Waits until the broker holds everything again: the bridge, the availability, state and discovery of all devices.
async fn all_back(simulation: &Simulation, broker: &Mosquitto) -> Duration {
    let since = Instant::now();
    loop {
        let missing = simulation.missing(&broker.retained_under("#").await);
        if missing.is_empty() {
            return since.elapsed();
        }
        assert!(since.elapsed() < BACK, "{missing:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_broker_that_is_killed_costs_no_command() {
    let kills = from_environment("TAPO2MQTT_KILLS", 3);
    let (simulation, mut broker, _wire) = Simulation::start(Polling::Usual, "auto").await;
    let stop = CancellationToken::new();
    let mut togglers = Vec::new();
    for (id, device) in &simulation.devices {
        for position in 1..=device.profile().outlets() {
            let toggler = toggle(
                simulation.client.clone(),
                id,
                device.handle(),
                position,
                stop.clone(),
            );
            togglers.push(Tasks::default().spawn("toggler", toggler));
        }
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        sleep(Duration::from_millis(rand::random_range(50..250))).await;
        broker.kill();
        broker.restart().await;
        slowest = slowest.max(all_back(&simulation, &broker).await);
        if kills > 3 {
            sleep(SOUND).await;
        }
    }
    stop.cancel();

    let (mut commands, mut repeats, mut switched) = (0, 0, 0);
    let mut wrong = Vec::new();
    for toggler in togglers {
        let toggled = toggler.await.unwrap();
        let changes = toggled.device.counters().relay_changes;
        let ours = |change: &&tapo_simulator::RelayChange| {
            change.position == toggled.position && change.cause == Cause::Request
        };
        let changes = changes.iter().filter(ours).count();
        if changes != toggled.commands {
            wrong.push(format!("{} toggles, {changes} changes", toggled.commands));
        }
        wrong.extend(not_once(&simulation.client, &toggled.transactions));
        commands += toggled.commands;
        repeats += toggled.repeats;
        switched += changes;
    }
    println!(
        "{kills} kills: {commands} commands ({repeats} sent again), {switched} carried out, {} wrong; \
         all topics back within {slowest:?}",
        wrong.len()
    );
    assert_eq!(wrong, Vec::<String>::new());
    assert!(commands > 0 && switched > 0);
    assert_eq!(simulation.compare_with(&broker).await, Vec::<String>::new());
    assert_eq!(simulation.violations(|_| false), Vec::<String>::new());
    let health = simulation.health().await;
    assert_eq!(health["queues"]["commands"], 0, "{health:#}");
    simulation.stop().await;
}

/// Commands whose answers differ, or are no success: the devices are well.
fn not_once(client: &RecordingClient, transactions: &[String]) -> Vec<String> {
    let received = client.received.borrow();
    let mut wrong = Vec::new();
    for transaction in transactions {
        let answers = &received.answers[transaction];
        let ok = |answer: &String| crate::bridge::parsed(answer)["status"] == "ok";
        if answers.iter().any(|answer| answer != &answers[0] || !ok(answer)) {
            wrong.push(format!("{transaction}: {answers:?}"));
        }
    }
    wrong
}
