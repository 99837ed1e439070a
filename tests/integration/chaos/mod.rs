//! A seeded run of everything that can go wrong, against the real program: commands go on while devices and
//! the broker fail; then all is well again, and nothing may be lost, done twice, or published wrongly. What exactly is
//! held against the bridge:
//!
//! - The newest command for an outlet is answered, however often it has to be sent; see [`operator`].
//! - All answers to one transaction are the same one. A repeated one has a reason: the command was sent again, or
//!   the connection broke.
//! - After each burst of commands and at the end, every relay is what the answers contain: what an `ok` contains, unchanged
//!   after a failure without attempts, either after one with attempts.
//! - After the last fault, retained state, availability and discovery are there and true, and every outlet obeys.
//! - The device that loses no requests was never asked two things at once, nor out of sequence.
//! - No line of the log is repeated, unless something changed in between.
//! - No command is left open, and memory is flat.
//!
//! `TAPO2MQTT_CHAOS_SEED` repeats a run, `TAPO2MQTT_CHAOS_SECONDS` makes it longer. The seed decides which client serves
//! the devices, what goes wrong when and what is commanded; the order in which devices and broker answer is the machine's.

mod fault_injector;
mod kills;
mod log;
mod operator;
pub mod recording_client;
mod simulation;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{SeedableRng as _, rngs::StdRng};
use tapo2mqtt::system::tasks::Tasks;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use fault_injector::{BrokerFaultInjector, DeviceFaultInjector, Requests, Victim};
use operator::Operator;
use simulation::{Polling, Simulation};

/// What the devices are reached with, by the seed.
const CLIENTS: [&str; 3] = ["auto", "tapo", "own"];
/// How long commands go on after the last fault.
const AFTERMATH: Duration = Duration::from_millis(500);
/// Between two breaks of the broker, on average. After many breaks in a row the link's own pauses would be most of a
/// longer run.
const OFTEN: Duration = Duration::from_millis(1500);
const SELDOM: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(20);
/// Between two bursts of one commander, on average.
const PAUSE: Duration = Duration::from_millis(40);

fn from_environment(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// What all commanders saw together.
#[derive(Debug, Default)]
struct Sum {
    commands: u64,
    repeats: u64,
    presses: u64,
    answers: BTreeMap<String, u64>,
    lost: Vec<String>,
    overtaken: Vec<String>,
    wrong: Vec<String>,
    sent: BTreeMap<String, u32>,
    slowest: Duration,
    /// Devices whose commands ended without an answer of the device.
    timeouts: BTreeSet<&'static str>,
}

impl Sum {
    fn add(&mut self, id: &'static str, tally: operator::Tally) {
        if tally.answers.contains_key("no_answer") {
            self.timeouts.insert(id);
        }
        self.commands += tally.commands;
        self.repeats += tally.repeats;
        self.presses += tally.presses;
        for (code, count) in tally.answers {
            *self.answers.entry(code).or_default() += count;
        }
        self.lost.extend(tally.lost);
        self.overtaken.extend(tally.overtaken);
        self.wrong.extend(tally.wrong);
        self.sent.extend(tally.sent);
        self.slowest = self.slowest.max(tally.slowest);
    }
}

/// Starts a commander per device, that pauses so long between two bursts, on average.
fn operators(
    simulation: &Simulation,
    seed: u64,
    pause: Duration,
    stop: &CancellationToken,
) -> Vec<tokio::task::JoinHandle<Operator>> {
    let operator = |(at, (id, device)): (usize, &(&'static str, tapo_simulator::RunningDevice))| {
        let outlets = device.child_ids().len().max(1);
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(at as u64));
        let operator = Operator::new(id, device.handle(), outlets, simulation.client.clone(), rng);
        Tasks::default().spawn("operator", operator.work(pause, stop.clone()))
    };
    simulation.devices.iter().enumerate().map(operator).collect()
}

#[tokio::test]
async fn chaos_loses_nothing_and_publishes_no_wrong_state() {
    let seed = from_environment("TAPO2MQTT_CHAOS_SEED", rand::random_range(0..1_000_000));
    let length = Duration::from_secs(from_environment("TAPO2MQTT_CHAOS_SECONDS", 6));
    let client = CLIENTS[usize::try_from(seed).unwrap() % CLIENTS.len()];
    println!("seed {seed}, {} s, client {client}", length.as_secs());
    let (simulation, broker, wire) = Simulation::start(Polling::Usual, client).await;
    let (operators_stop, faults_stop) = (CancellationToken::new(), CancellationToken::new());
    let operators = operators(&simulation, seed, PAUSE, &operators_stop);

    let victim = |(id, device): &(&'static str, tapo_simulator::RunningDevice)| Victim {
        device: device.handle(),
        requests: if simulation::loses_requests(id) {
            Requests::SomeLost
        } else {
            Requests::AllRead
        },
    };
    let victims = simulation.devices.iter().map(victim).collect();
    let rng = StdRng::seed_from_u64(seed.wrapping_add(1));
    let device_injector = DeviceFaultInjector::new(victims, simulation.client.clone(), rng);
    let device_injector =
        Tasks::default().spawn("device fault injector", device_injector.work(faults_stop.clone()));
    let broker_injector = BrokerFaultInjector {
        broker,
        wire,
        rng: StdRng::seed_from_u64(seed.wrapping_add(2)),
        pause: if length > SHORT { SELDOM } else { OFTEN },
    };
    let broker_injector =
        Tasks::default().spawn("broker fault injector", broker_injector.work(faults_stop.clone()));

    sleep(length / 10).await;
    let early = simulation.resident_kib();
    sleep(length * 9 / 10).await;
    let late = simulation.resident_kib();
    faults_stop.cancel();
    let mut faults = device_injector.await.unwrap();
    let (broker, broker_faults) = broker_injector.await.unwrap();
    faults.extend(broker_faults);
    let lifted = Instant::now();
    sleep(AFTERMATH).await;
    operators_stop.cancel();

    let mut sum = Sum::default();
    let mut commanders = Vec::new();
    for operator in operators {
        commanders.push(operator.await.unwrap());
    }
    let healed = simulation.heal().await;
    let took = lifted.elapsed();
    for mut operator in commanders {
        operator.inspect("after the faults");
        if healed.is_ok() {
            operator.prove().await;
        }
        sum.add(operator.id, operator.tally);
    }
    let published_wrong = simulation.compare_with(&broker.broker).await;
    let health = simulation.health().await;
    let losses = usize::try_from(health["mqtt"]["losses"].as_u64().unwrap()).unwrap();
    let gave_up = |id: &str| {
        let timeouts = &health["devices"][id]["failures"]["no_answer"];
        timeouts.is_u64() || sum.timeouts.contains(id)
    };
    let violations = simulation.violations(gave_up);
    let (duplicates, contradictions) = simulation.repeated_answers(&sum.sent, losses);
    let output = simulation.stop().await;
    let repeated_lines = log::repeated(&output);

    println!("faults: {faults:?}, buttons and overloads: {}", sum.presses);
    println!(
        "commands: {} ({} sent again), answers: {:?}, slowest burst {:?}",
        sum.commands, sum.repeats, sum.answers, sum.slowest
    );
    println!(
        "lost: {}, overtaken before the bridge: {}, wrong: {}, published wrongly: {}, duplicates: {duplicates}, \
         contradictions: {}",
        sum.lost.len(),
        sum.overtaken.len(),
        sum.wrong.len(),
        published_wrong.len(),
        contradictions.len()
    );
    println!("healed {took:?} after the last fault; resident {early} KiB at 10 %, {late} KiB at 100 %");
    println!(
        "log lines: {}, of them repeated without a change: {}",
        output.lines().count(),
        repeated_lines.len()
    );
    let mqtt = &health["mqtt"];
    println!("broker: {} connects, {} losses", mqtt["connects"], mqtt["losses"]);

    let context = || format!("TAPO2MQTT_CHAOS_SEED={seed}; the log:\n{output}");
    assert_eq!(healed, Ok(()), "{}", context());
    assert!(sum.lost.is_empty(), "{:?}\n{}", sum.lost, context());
    assert!(sum.wrong.is_empty(), "{:#?}\n{}", sum.wrong, context());
    assert!(published_wrong.is_empty(), "{published_wrong:#?}\n{}", context());
    assert!(contradictions.is_empty(), "{contradictions:#?}\n{}", context());
    assert_eq!(duplicates, 0, "{}", context());
    assert!(violations.is_empty(), "{violations:?}\n{}", context());
    assert!(repeated_lines.is_empty(), "{repeated_lines:#?}\n{}", context());
    assert_eq!(health["queues"]["commands"], 0, "{health:#}");
    assert!(
        late < early + early / 2 + 8 * 1024,
        "{early} KiB at 10 %, {late} KiB at 100 %"
    );
}

/// Opt-in: as much load as the settings allow, and no faults. Memory has to be flat.
#[tokio::test]
#[ignore = "takes minutes; run it with scripts/soak"]
async fn soak() {
    let length = Duration::from_secs(from_environment("TAPO2MQTT_SOAK_SECONDS", 180));
    let (simulation, broker, _wire) = Simulation::start(Polling::Hardest, "auto").await;
    let stop = CancellationToken::new();
    let operators = operators(&simulation, 1, Duration::from_millis(2), &stop);
    sleep(length / 10).await;
    let early = simulation.resident_kib();
    sleep(length * 9 / 10).await;
    let late = simulation.resident_kib();
    stop.cancel();
    let mut sum = Sum::default();
    for operator in operators {
        let operator = operator.await.unwrap();
        sum.add(operator.id, operator.tally);
    }
    let health = simulation.health().await;
    let exchanges = |device: &serde_json::Value| device["exchanges"].as_u64().unwrap();
    let exchanges: u64 = health["devices"]
        .as_object()
        .unwrap()
        .values()
        .map(exchanges)
        .sum();
    println!(
        "{} s: {} commands, {exchanges} requests to devices, answers {:?}",
        length.as_secs(),
        sum.commands,
        sum.answers
    );
    println!("resident {early} KiB at 10 %, {late} KiB at 100 %");
    assert!(sum.lost.is_empty() && sum.overtaken.is_empty(), "{sum:?}");
    assert!(sum.wrong.is_empty(), "{:#?}", sum.wrong);
    assert_eq!(simulation.compare_with(&broker).await, Vec::<String>::new());
    assert_eq!(simulation.violations(|_| false), Vec::<String>::new());
    assert!(late < early + early / 10 + 2 * 1024, "{early} KiB, {late} KiB");
    simulation.stop().await;
}
