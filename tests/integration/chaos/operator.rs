//! Commands one device, and knows from the answers alone what each of its relays must be.
//!
//! Commands go out in bursts. The newest command of a burst for each outlet is sent again, with its transaction,
//! until it is answered. An older one is not: sent again it could overtake what replaced it.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use tapo_simulator::DeviceHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::recording_client::RecordingClient;

/// Without an answer for this long, a command is sent again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Without an answer for this long, it is lost.
const LOST: Duration = Duration::from_mins(1);
/// What commands live, in seconds.
const TTLS: [f64; 3] = [1.0, 2.0, 3.0];

/// What a relay may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belief {
    on: bool,
    off: bool,
}

impl Belief {
    pub fn certain(on: bool) -> Self {
        Self { on, off: !on }
    }

    fn or(self, other: Self) -> Self {
        Self {
            on: self.on || other.on,
            off: self.off || other.off,
        }
    }

    fn flipped(self) -> Self {
        Self {
            on: self.off,
            off: self.on,
        }
    }

    pub fn allows(self, on: bool) -> bool {
        if on { self.on } else { self.off }
    }
}

const EITHER: Belief = Belief { on: true, off: true };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    On,
    Off,
    Toggle,
}

impl Wanted {
    fn text(self) -> &'static str {
        match self {
            Self::On => "ON",
            Self::Off => "OFF",
            Self::Toggle => "TOGGLE",
        }
    }

    /// What it may have made of a relay.
    fn outcome(self, before: Belief) -> Belief {
        match self {
            Self::On => Belief::certain(true),
            Self::Off => Belief::certain(false),
            Self::Toggle => before.flipped(),
        }
    }
}

struct Command {
    topic: String,
    /// The outlets it is for, counted from 0.
    outlets: Vec<usize>,
    wanted: Wanted,
    transaction: String,
    ttl: f64,
    sent: u32,
}

impl Command {
    fn payload(&self) -> String {
        json!({"state": self.wanted.text(), "transaction": self.transaction, "ttl": self.ttl}).to_string()
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.outlets.iter().any(|outlet| other.outlets.contains(outlet))
    }
}

/// What an operator sent and received.
#[derive(Debug, Default)]
pub struct Tally {
    pub commands: u64,
    pub repeats: u64,
    pub presses: u64,
    /// Answers by code; "ok" for the rest.
    pub answers: BTreeMap<String, u64>,
    /// Newest commands without an answer: must be none.
    pub lost: Vec<String>,
    /// Older commands of a burst without an answer: they never reached the bridge.
    pub overtaken: Vec<String>,
    /// Answers or relays that are not what they must be: must be none.
    pub wrong: Vec<String>,
    /// How often each transaction was sent.
    pub sent: BTreeMap<String, u32>,
    pub slowest: Duration,
}

/// See the module.
pub struct Operator {
    pub id: &'static str,
    device: DeviceHandle,
    client: Arc<RecordingClient>,
    rng: StdRng,
    pub beliefs: Vec<Belief>,
    pub tally: Tally,
    serial: u64,
}

impl Operator {
    /// The commander of a device with this many outlets, all of them off.
    pub fn new(
        id: &'static str,
        device: DeviceHandle,
        outlets: usize,
        client: Arc<RecordingClient>,
        rng: StdRng,
    ) -> Self {
        Self {
            id,
            device,
            client,
            rng,
            beliefs: vec![Belief::certain(false); outlets],
            tally: Tally::default(),
            serial: 0,
        }
    }

    /// Sends bursts, and now and then presses a button, until the stop.
    pub async fn work(mut self, pause: Duration, stop: CancellationToken) -> Self {
        while !stop.is_cancelled() {
            self.burst().await;
            if self.rng.random_bool(0.05) {
                self.meddle();
            }
            let pause = pause.mul_f64(self.rng.random_range(0.0..=2.0));
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        self
    }

    /// One command for each outlet; all must succeed.
    pub async fn prove(&mut self) {
        for outlet in 0..self.beliefs.len() {
            let ok = self.tally.answers.get("ok").copied();
            let command = self.command(vec![outlet], Wanted::Toggle, 10.0);
            self.carry_out(vec![command]).await;
            if self.tally.answers.get("ok").copied() == ok {
                let wrong = format!("{}: outlet {outlet} does not obey after the faults", self.id);
                self.tally.wrong.push(wrong);
            }
        }
    }

    /// Whether each relay is what it must be.
    pub fn inspect(&mut self, when: &str) {
        for (outlet, belief) in self.beliefs.iter().enumerate() {
            let on = self.device.relay(position(outlet));
            if !belief.allows(on) {
                let wrong = format!(
                    "{when}: outlet {outlet} of {} is on: {on}, must be {belief:?}",
                    self.id
                );
                self.tally.wrong.push(wrong);
            }
        }
    }

    async fn burst(&mut self) {
        let count = *self.pick(&[1, 1, 1, 2, 3, 4]);
        let ttl = *self.pick(&TTLS);
        let commands = (0..count).map(|_| self.any_command(ttl)).collect();
        self.carry_out(commands).await;
    }

    fn any_command(&mut self, ttl: f64) -> Command {
        let all: Vec<usize> = (0..self.beliefs.len()).collect();
        if all.len() > 1 && self.rng.random_bool(0.15) {
            let wanted = *self.pick(&[Wanted::On, Wanted::Off]);
            return self.command(all, wanted, ttl);
        }
        let outlet = *self.pick(&all);
        let wanted = *self.pick(&[Wanted::On, Wanted::Off, Wanted::Toggle]);
        self.command(vec![outlet], wanted, ttl)
    }

    fn command(&mut self, outlets: Vec<usize>, wanted: Wanted, ttl: f64) -> Command {
        self.serial += 1;
        let topic = match (self.beliefs.len(), outlets.as_slice()) {
            (2.., [outlet]) => format!("{}/{}/set", self.id, outlet + 1),
            _ => format!("{}/set", self.id),
        };
        Command {
            topic,
            outlets,
            wanted,
            transaction: format!("{}-{}-{}", self.id, wanted.text(), self.serial),
            ttl,
            sent: 0,
        }
    }

    async fn carry_out(&mut self, mut commands: Vec<Command>) {
        let started = Instant::now();
        let newest: Vec<bool> = commands
            .iter()
            .enumerate()
            .map(|(at, command)| !commands[at + 1..].iter().any(|later| later.overlaps(command)))
            .collect();
        let missing = |commands: &[Command]| -> Vec<usize> {
            let received = self.client.received.borrow();
            let open = |at: &usize| newest[*at] && received.answer(&commands[*at].transaction).is_none();
            (0..commands.len()).filter(open).collect()
        };
        let mut due: Vec<usize> = (0..commands.len()).collect();
        while !due.is_empty() && started.elapsed() < LOST {
            for at in due {
                let command = &mut commands[at];
                command.sent += 1;
                self.client.send(&command.topic, command.payload());
            }
            let answered = |received: &super::recording_client::Received| {
                commands
                    .iter()
                    .zip(&newest)
                    .all(|(command, newest)| !newest || received.answer(&command.transaction).is_some())
            };
            self.client.until(PATIENCE, answered).await;
            due = missing(&commands);
        }
        self.tally.slowest = self.tally.slowest.max(started.elapsed());
        let before = self.beliefs.clone();
        let mut story = format!("with {before:?} after");
        for (command, newest) in commands.iter().zip(newest) {
            self.take_in(command, newest);
            let answer = self.client.received.borrow().answer(&command.transaction);
            let answer = answer.map_or_else(|| "unanswered".to_owned(), |answer| answer.to_string());
            write!(story, "\n  {} {} {answer}", command.topic, command.wanted.text()).unwrap();
        }
        self.inspect(&story);
    }

    fn take_in(&mut self, command: &Command, newest: bool) {
        self.tally.commands += 1;
        self.tally.repeats += u64::from(command.sent.saturating_sub(1));
        self.tally.sent.insert(command.transaction.clone(), command.sent);
        let answer = self.client.received.borrow().answer(&command.transaction);
        let Some(answer) = answer else {
            let without = if newest {
                &mut self.tally.lost
            } else {
                &mut self.tally.overtaken
            };
            without.push(command.transaction.clone());
            self.doubt(command);
            return;
        };
        let code = answer["error"]["code"].as_str().unwrap_or("ok").to_owned();
        *self.tally.answers.entry(code.clone()).or_default() += 1;
        match code.as_str() {
            "ok" => self.believe(command, &answer),
            // What the device was asked for and did not confirm may have happened.
            _ if answer["attempts"] != 0 => self.doubt(command),
            // One that failed, and whose answer a broker that stalls held back, is carried out when it is sent again.
            _ if command.sent > 1 => self.doubt(command),
            "no_answer" | "not_confirmed" => self.doubt(command),
            // It means that nothing was sent to the device.
            _ => {}
        }
    }

    fn believe(&mut self, command: &Command, answer: &Value) {
        let answered_on = answer["state"] == "ON";
        if command.wanted != Wanted::Toggle && answer["state"] != command.wanted.text() {
            self.tally
                .wrong
                .push(format!("{} is answered {answer}", command.transaction));
        }
        let members = answer["outlets"].as_object();
        for outlet in &command.outlets {
            let member = members.map(|members| members.get(&(outlet + 1).to_string()));
            let belief = match member {
                None => Belief::certain(answered_on),
                Some(Some(power)) => Belief::certain(power == "ON"),
                // The strip did not list it, so it was not switched.
                Some(None) => self.beliefs[*outlet],
            };
            self.beliefs[*outlet] = belief;
        }
    }

    fn doubt(&mut self, command: &Command) {
        for outlet in &command.outlets {
            let belief = self.beliefs[*outlet];
            self.beliefs[*outlet] = if command.wanted == Wanted::Toggle {
                EITHER
            } else {
                belief.or(command.wanted.outcome(belief))
            };
        }
    }

    /// A press on a button, or a load that trips an outlet, while no command is open.
    fn meddle(&mut self) {
        self.tally.presses += 1;
        let outlet = self.rng.random_range(0..self.beliefs.len());
        if self.rng.random_bool(0.7) {
            self.device.press(position(outlet)).unwrap();
            self.beliefs[outlet] = self.beliefs[outlet].flipped();
        } else {
            self.device.overload(position(outlet)).unwrap();
            self.beliefs[outlet] = Belief::certain(false);
        }
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.rng.random_range(0..from.len())]
    }
}

fn position(outlet: usize) -> u8 {
    u8::try_from(outlet + 1).unwrap()
}
