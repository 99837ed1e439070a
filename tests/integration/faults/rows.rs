//! The faults of the matrix, and what each is expected to do.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tapo_simulator::{Damage, DeviceHandle, Fault, Latency, Protocol, RunningDevice, Scope, Stage};

use super::log_in_elsewhere;
use crate::process::own_address;

/// What the device is doing when the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Idle,
    Command,
    Poll,
    Login,
}

impl Moment {
    pub const ALL: [Self; 4] = [Self::Idle, Self::Command, Self::Poll, Self::Login];
}

/// What is to become of a command that meets the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is carried out.
    Applied,
    /// It is answered with this, and the device stays available.
    Answer(&'static str),
    /// The device is reported in this state, and the command is answered with one of these. Once the fault is
    /// gone the device heals.
    Blocked(&'static str, &'static [&'static str]),
    /// As `Blocked`, and not contacted for a long time.
    Locked(&'static str, &'static [&'static str]),
}

/// What goes wrong.
#[derive(Clone, Copy)]
pub enum InjectedFault {
    Faults(fn() -> Vec<Fault>),
    Thief,
    Reboot,
    Move,
}

/// One line of the matrix.
#[derive(Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub injected: InjectedFault,
    pub expected: Expected,
    /// Where it differs at login.
    pub at_login: Expected,
    /// Whether our own client heals at login what stops the `tapo` crate.
    pub own_heals: bool,
    pub protocol: Protocol,
}

const SILENT: Expected = Expected::Blocked("unreachable", &["no_answer", "expired"]);
const WRONG: Expected = Expected::Blocked("forbidden", &["wrong_credentials"]);

impl Row {
    fn heals(name: &'static str, faults: fn() -> Vec<Fault>) -> Self {
        Self::of(name, InjectedFault::Faults(faults), Expected::Applied)
    }

    fn of(name: &'static str, injected: InjectedFault, expected: Expected) -> Self {
        Self {
            name,
            injected,
            expected,
            at_login: expected,
            own_heals: false,
            protocol: Protocol::Klap,
        }
    }

    fn at_login(self, at_login: Expected) -> Self {
        Self { at_login, ..self }
    }

    pub fn expected(&self, moment: Moment, is_own: bool) -> Expected {
        if moment == Moment::Login && !(self.own_heals && is_own) {
            self.at_login
        } else {
            self.expected
        }
    }

    /// Short where it is waited for. A simulated TPAP login is seconds of arithmetic on a busy machine, and one
    /// that is given up half way counts as a wrong password.
    pub fn request_timeout(&self) -> &'static str {
        match self.name {
            name if name.starts_with("hang") => "1500ms",
            "protocol flip" | "TPAP lock" => "20s",
            _ => "10s",
        }
    }

    /// Whether the devices need an address of their own.
    pub fn needs_discovery(&self) -> bool {
        ["port closed until probed", "address change"].contains(&self.name)
    }

    pub async fn strike(&self, device: &RunningDevice) {
        match self.injected {
            InjectedFault::Faults(faults) => {
                for fault in faults() {
                    device.faults().set(fault);
                }
            }
            InjectedFault::Thief => {
                device.faults().set(Fault::SingleSession);
                steal(device).await;
            }
            InjectedFault::Reboot => device.reboot(Duration::from_millis(300)).await.unwrap(),
            InjectedFault::Move => {
                let port = device.address().port();
                let next = next_address(device.address().ip());
                device.move_to((next, port).into()).await.unwrap();
            }
        }
    }
}

async fn steal(device: &DeviceHandle) {
    log_in_elsewhere(device).await;
}

/// Where a device moves: known beforehand, because searches on loopback ask single addresses.
pub fn next_address(ip: std::net::IpAddr) -> std::net::IpAddr {
    match ip {
        std::net::IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            std::net::Ipv4Addr::new(a, b + 64, c, d).into()
        }
        ip @ std::net::IpAddr::V6(_) => ip,
    }
}

/// An address for a device that answers discovery.
pub fn address(row: &Row) -> std::net::SocketAddr {
    if row.needs_discovery() {
        (own_address(), 0).into()
    } else {
        ([127, 0, 0, 1], 0).into()
    }
}

fn twice() -> Scope {
    Scope::all().times(2)
}

fn malformed(damage: Damage) -> Vec<Fault> {
    vec![Fault::Malformed {
        damage,
        scope: twice(),
    }]
}

fn values() -> BTreeMap<String, serde_json::Value> {
    [
        ("overheat_status", json!("novel")),
        ("power_protection_status", json!(7)),
        ("rssi", json!("strong")),
        ("on_time", json!(-5)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn status(status: u16, scope: Scope) -> Vec<Fault> {
    vec![Fault::HttpStatus { status, scope }]
}

/// Faults that pass or can be lived with.
fn passing() -> Vec<Row> {
    vec![
        Row::heals("100 ms latency", || {
            let latency = Latency::fixed(Duration::from_millis(100));
            vec![Fault::Latency { latency }]
        }),
        Row::heals("hang before applying, twice", || {
            let (stage, scope) = (Stage::BeforeApplying, twice());
            vec![Fault::Hang { stage, scope }]
        }),
        Row::heals("hang after applying, twice", || {
            let (stage, scope) = (Stage::AfterApplying, twice());
            vec![Fault::Hang { stage, scope }]
        }),
        Row::heals("drop before applying, twice", || {
            let (stage, scope) = (Stage::BeforeApplying, twice());
            vec![Fault::Drop { stage, scope }]
        }),
        Row::heals("drop after applying, twice", || {
            let (stage, scope) = (Stage::AfterApplying, twice());
            vec![Fault::Drop { stage, scope }]
        }),
        Row::heals("close after reply", || vec![Fault::CloseAfterReply]),
        Row::heals("close idle connections", || {
            let after = Duration::from_millis(100);
            vec![Fault::CloseIdle { after }]
        }),
        Row::heals("short sessions", || {
            let lifetime = Duration::from_millis(700);
            vec![Fault::SessionLifetime { lifetime }]
        }),
        Row::heals("protocol flip", || vec![Fault::ProtocolFlip]),
        Row::heals("HTTP 429, twice", || status(429, twice())),
        Row::heals("HTTP 503, twice", || status(503, twice())),
        Row::heals("port closed until probed", || vec![Fault::PortClosedUntilProbed]),
        Row::heals("reply is not JSON, twice", || malformed(Damage::NotJson)),
        Row::heals("reply does not decrypt, twice", || {
            malformed(Damage::Undecryptable)
        }),
        Row::heals("reply truncated, twice", || malformed(Damage::Truncated)),
        Row::heals("reply cut off, twice", || malformed(Damage::CutOff)),
        Row::heals("empty result", || malformed(Damage::EmptyResult)),
        Row::heals("unknown values", || vec![Fault::FieldValues { values: values() }]),
        Row::heals("children in another order, one missing", || {
            let positions = vec![3, 1];
            vec![Fault::Children { positions }]
        }),
        Row::heals("clock unset", || vec![Fault::ClockUnset]),
        Row::of("session stolen", InjectedFault::Thief, Expected::Applied),
        Row::of("reboot, 300 ms", InjectedFault::Reboot, Expected::Applied),
        Row::of("address change", InjectedFault::Move, Expected::Applied),
    ]
}

/// Faults that stay until they are cleared.
fn lasting() -> Vec<Row> {
    let missing = || {
        vec![Fault::MissingFields {
            fields: vec!["device_on".to_owned()],
        }]
    };
    let hang = || {
        let (stage, scope) = (Stage::BeforeApplying, Scope::all());
        vec![Fault::Hang { stage, scope }]
    };
    let undecryptable = || {
        let (damage, scope) = (Damage::Undecryptable, Scope::all());
        vec![Fault::Malformed { damage, scope }]
    };
    let locking = || vec![Fault::WrongPassword, Fault::TpapLock { after: 1 }];
    vec![
        Row::of("hang", InjectedFault::Faults(hang), SILENT),
        Row::of(
            "HTTP 503",
            InjectedFault::Faults(|| status(503, Scope::all())),
            SILENT,
        ),
        Row::of("no reply decrypts", InjectedFault::Faults(undecryptable), SILENT),
        Row::of(
            "relay not reported",
            InjectedFault::Faults(missing),
            Expected::Answer("not_confirmed"),
        ),
        Row::heals("third-party compatibility off", || vec![Fault::ForbidHandshake])
            .at_login(Expected::Blocked("forbidden", &["forbidden"])),
        Row::heals("wrong password", || vec![Fault::WrongPassword]).at_login(WRONG),
        // Our own client takes them for those of a device without an account.
        Row {
            own_heals: true,
            ..Row::heals("blank credentials", || vec![Fault::BlankCredentials]).at_login(WRONG)
        },
        Row {
            protocol: Protocol::Tpap,
            ..Row::heals("TPAP lock", locking)
        }
        .at_login(Expected::Locked("locked_out", &["wrong_credentials"])),
    ]
}

/// All of them, those that take longest first.
pub fn rows() -> Vec<Row> {
    let mut rows = lasting();
    rows.extend(passing());
    rows
}
