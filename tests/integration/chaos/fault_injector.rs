//! What goes wrong in a chaos run: a script drawn from a seed, played on devices and on the way to the broker.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{RngExt as _, rngs::StdRng};
use serde_json::json;
use tapo_simulator::{Damage, DeviceHandle, Fault, FaultKind, Latency, Protocol, Scope, Stage};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::recording_client::RecordingClient;
use crate::{cut::Cut, mosquitto::Mosquitto};

/// How often something happened, by its name.
pub type Tally = BTreeMap<String, u32>;

/// A fault that will be lifted.
struct Lift {
    at: Instant,
    device: usize,
    kind: FaultKind,
}

/// A device to torment.
pub struct Victim {
    pub device: DeviceHandle,
    pub requests: Requests,
}

/// Whether a device may lose requests unread, as by a connection that it closes while the next one is on its way. The
/// number of such a request is missing in the sequence, and the next one is refused through no fault of the bridge.
/// A device that loses none does not hang or change its protocol either, so that no request to it is given up while it
/// is in work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    AllRead,
    SomeLost,
}

/// Sets faults on devices.
pub struct DeviceFaultInjector {
    victims: Vec<Victim>,
    client: Arc<RecordingClient>,
    rng: StdRng,
    lifts: Vec<Lift>,
    tally: Tally,
}

impl DeviceFaultInjector {
    pub fn new(victims: Vec<Victim>, client: Arc<RecordingClient>, rng: StdRng) -> Self {
        Self {
            victims,
            client,
            rng,
            lifts: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Strikes until the stop, then lifts everything.
    pub async fn work(mut self, stop: CancellationToken) -> Tally {
        let mut strike = Instant::now();
        while !stop.is_cancelled() {
            let lift = self.lifts.iter().map(|lift| lift.at).min();
            let next = lift.map_or(strike, |lift| lift.min(strike));
            stop.run_until_cancelled(sleep_until(next)).await;
            self.lift_due();
            if Instant::now() >= strike {
                self.strike().await;
                strike += millis(self.rng.random_range(20..250));
            }
        }
        for victim in &self.victims {
            victim.device.faults().clear_all();
        }
        self.tally
    }

    fn lift_due(&mut self) {
        let now = Instant::now();
        let (due, rest): (Vec<_>, Vec<_>) = self.lifts.drain(..).partition(|lift| lift.at <= now);
        self.lifts = rest;
        for lift in due {
            self.victims[lift.device].device.faults().clear(lift.kind);
            // These last until a person helps; this is what he does then.
            if matches!(
                lift.kind,
                FaultKind::ForbidHandshake | FaultKind::WrongPassword | FaultKind::BlankCredentials
            ) {
                self.client.send("bridge/request/rescan", "");
            }
        }
    }

    async fn strike(&mut self) {
        let at = self.rng.random_range(0..self.victims.len());
        let lasting = millis(self.rng.random_range(50..1200));
        let (device, requests) = (self.victims[at].device.clone(), self.victims[at].requests);
        if requests == Requests::SomeLost && self.rng.random_bool(0.04) {
            self.count("reboot");
            device
                .reboot(millis(self.rng.random_range(50..800)))
                .await
                .unwrap();
            return;
        }
        let Some(fault) = self.draw(&device, requests) else {
            return;
        };
        let kind = fault.kind();
        self.count(&name(kind));
        // A fault replaces an earlier one of its kind, and so does its end.
        self.lifts.retain(|lift| (lift.device, lift.kind) != (at, kind));
        self.lifts.push(Lift {
            at: Instant::now() + lasting,
            device: at,
            kind,
        });
        device.faults().set(fault);
    }

    fn draw(&mut self, device: &DeviceHandle, requests: Requests) -> Option<Fault> {
        let faults = device.faults();
        let scope = self.scope();
        let stage = if self.rng.random() {
            Stage::BeforeApplying
        } else {
            Stage::AfterApplying
        };
        // A wrong password over TPAP locks the device for half an hour.
        let guarded = [FaultKind::WrongPassword, FaultKind::BlankCredentials];
        let spoken_for = guarded.iter().any(|kind| faults.is_set(*kind));
        let lossy = requests == Requests::SomeLost;
        let klap = device.protocol() == Protocol::Klap && !faults.is_set(FaultKind::ProtocolFlip);
        Some(match self.rng.random_range(0..40) {
            0..4 => Fault::Latency {
                latency: self.latency(),
            },
            4..8 if lossy => Fault::Hang { stage, scope },
            8..14 if lossy => Fault::Drop { stage, scope },
            14..16 if lossy => Fault::CloseAfterReply,
            16..18 if lossy => Fault::CloseIdle { after: millis(30) },
            18..20 => Fault::SingleSession,
            20..22 => Fault::SessionLifetime {
                lifetime: millis(self.rng.random_range(50..500)),
            },
            22 if klap => Fault::ForbidHandshake,
            23 if klap => Fault::WrongPassword,
            24 if klap => Fault::BlankCredentials,
            25 if lossy && !spoken_for => Fault::ProtocolFlip,
            26..29 => Fault::HttpStatus {
                status: [429, 500, 503][self.rng.random_range(0..3)],
                scope,
            },
            29..34 => Fault::Malformed {
                damage: self.damage(requests),
                scope,
            },
            34 => Fault::MissingFields {
                fields: ["rssi", "on_time", "nickname", "mac", "model"]
                    .map(str::to_owned)
                    .to_vec(),
            },
            35 | 36 => Fault::FieldValues {
                values: [
                    ("overheat_status".to_owned(), json!("melting")),
                    ("rssi".to_owned(), json!("loud")),
                    ("on_time".to_owned(), json!(-1)),
                ]
                .into(),
            },
            37 if !device.child_ids().is_empty() => Fault::Children {
                positions: vec![2, 1],
            },
            38 => Fault::ClockUnset,
            39 if lossy => Fault::PortClosedUntilProbed,
            _ => return None,
        })
    }

    fn scope(&mut self) -> Scope {
        let times = self.rng.random_range(1..4);
        match self.rng.random_range(0..4) {
            0 => Scope::method("set_device_info").times(times),
            1 => Scope::method("get_device_info").times(times),
            2 => Scope::method("handshake1").times(times),
            _ => Scope::all().times(times),
        }
    }

    fn latency(&mut self) -> Latency {
        if self.rng.random() {
            Latency::Uniform {
                min: millis(0),
                max: millis(80),
            }
        } else {
            Latency::LongTail {
                typical: millis(5),
                slow: millis(250),
                slow_share: 0.2,
            }
        }
    }

    fn damage(&mut self, requests: Requests) -> Damage {
        let all = [
            Damage::NotJson,
            Damage::Undecryptable,
            Damage::Truncated,
            Damage::EmptyResult,
            Damage::CutOff,
        ];
        let closes = usize::from(requests == Requests::AllRead);
        all[self.rng.random_range(0..all.len() - closes)]
    }

    fn count(&mut self, name: &str) {
        *self.tally.entry(name.to_owned()).or_default() += 1;
    }
}

/// Breaks the way to the broker, and the broker.
pub struct BrokerFaultInjector {
    pub broker: Mosquitto,
    pub wire: Cut,
    pub rng: StdRng,
    /// Between two breaks, on average.
    pub pause: Duration,
}

impl BrokerFaultInjector {
    /// Breaks things until the stop; everything is whole again then.
    pub async fn work(mut self, stop: CancellationToken) -> (Self, Tally) {
        let mut tally = Tally::default();
        loop {
            let pause = self.pause.mul_f64(self.rng.random_range(0.5..=1.5));
            stop.run_until_cancelled(sleep(pause)).await;
            if stop.is_cancelled() {
                return (self, tally);
            }
            let lasting = millis(self.rng.random_range(50..800));
            let name = match self.rng.random_range(0..6) {
                0 | 1 => {
                    self.wire.cut();
                    "broker_cut"
                }
                2 => {
                    self.wire.sever();
                    sleep(lasting).await;
                    self.wire.restore();
                    "broker_severed"
                }
                3 | 4 => {
                    self.wire.black_hole();
                    sleep(lasting).await;
                    self.wire.restore();
                    "broker_stalled"
                }
                _ => {
                    self.broker.kill();
                    sleep(lasting / 4).await;
                    self.broker.restart().await;
                    "broker_killed"
                }
            };
            *tally.entry(name.to_owned()).or_default() += 1;
        }
    }
}

fn name(kind: FaultKind) -> String {
    serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
