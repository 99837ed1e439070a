//! How a device is put together and started.

use std::{net::SocketAddr, time::Duration};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ChildModel, Fault, Faults, Latency, Profile, Protocol, RunningDevice, SimulatorError,
    core::{Core, Parts},
    discovery,
    identity::{Identity, next_seed},
    network::{Network, listen},
    session::Account,
};

/// The e-mail of the account that devices belong to unless they are given another.
pub const DEFAULT_USERNAME: &str = "demo@example.com";
/// The password of [`DEFAULT_USERNAME`].
pub const DEFAULT_PASSWORD: &str = "demo-password";

const DEFAULT_REBOOT_TIME: Duration = Duration::from_secs(3);

/// Where simulated devices come from.
#[derive(Debug, Clone, Copy)]
pub struct Simulator;

impl Simulator {
    /// A single plug. Starting it fails if the profile is that of a strip.
    pub fn plug(profile: Profile) -> DeviceBuilder {
        DeviceBuilder::new(profile, Some(Kind::Plug))
    }

    /// A strip. Starting it fails if the profile is that of a plug.
    pub fn strip(profile: Profile) -> DeviceBuilder {
        DeviceBuilder::new(profile, Some(Kind::Strip))
    }

    /// A hub. Starting it fails if the profile is that of a plug or a strip.
    pub fn hub(profile: Profile) -> DeviceBuilder {
        DeviceBuilder::new(profile, Some(Kind::Hub))
    }

    /// Any of them.
    pub fn device(profile: Profile) -> DeviceBuilder {
        DeviceBuilder::new(profile, None)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plug,
    Strip,
    Hub,
}

/// A device that does not run yet.
#[derive(Debug, Clone)]
#[must_use = "a device answers only once it was started"]
pub struct DeviceBuilder {
    profile: Profile,
    kind: Option<Kind>,
    address: SocketAddr,
    account: Account,
    protocol: Option<Protocol>,
    nickname: Option<String>,
    outlet_nicknames: Vec<String>,
    children: Option<Vec<(ChildModel, String)>>,
    discovery: bool,
    faults: Vec<Fault>,
    seed: Option<u64>,
    reboot_time: Duration,
}

impl DeviceBuilder {
    fn new(profile: Profile, kind: Option<Kind>) -> Self {
        Self {
            profile,
            kind,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            account: Account {
                username: DEFAULT_USERNAME.to_owned(),
                password: DEFAULT_PASSWORD.to_owned(),
            },
            protocol: None,
            nickname: None,
            outlet_nicknames: Vec::new(),
            children: None,
            discovery: false,
            faults: Vec::new(),
            seed: None,
            reboot_time: DEFAULT_REBOOT_TIME,
        }
    }

    /// Where it listens; port 0 means any free one. Default: 127.0.0.1, port 0.
    pub fn address(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// The account it belongs to. Default: [`DEFAULT_USERNAME`] and [`DEFAULT_PASSWORD`].
    pub fn credentials(self, username: impl Into<String>, password: impl Into<String>) -> Self {
        let account = Account {
            username: username.into(),
            password: password.into(),
        };
        Self { account, ..self }
    }

    /// What it speaks. Default: KLAP; an old Kasa device XOR.
    pub fn protocol(self, protocol: Protocol) -> Self {
        Self {
            protocol: Some(protocol),
            ..self
        }
    }

    /// The name of the plug, or of the strip as a whole. Default: "Simulated" and the model.
    pub fn nickname(self, nickname: impl Into<String>) -> Self {
        Self {
            nickname: Some(nickname.into()),
            ..self
        }
    }

    /// The names of a strip's outlets by position. Default: "Outlet 1" and so on.
    pub fn outlet_nicknames<I>(self, nicknames: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let outlet_nicknames = nicknames.into_iter().map(Into::into).collect();
        Self {
            outlet_nicknames,
            ..self
        }
    }

    /// What is connected to a hub, by model and name. Default: one of each model, with the model as its name.
    pub fn children<N: Into<String>>(self, children: impl IntoIterator<Item = (ChildModel, N)>) -> Self {
        let children = children.into_iter().map(|(model, name)| (model, name.into()));
        Self {
            children: Some(children.collect()),
            ..self
        }
    }

    /// How long it takes over each HTTP request.
    pub fn latency(self, latency: impl Into<Latency>) -> Self {
        let latency = latency.into();
        self.fault(Fault::Latency { latency })
    }

    /// Whether it answers discovery on UDP 20002 of its address, which it then must have for itself.
    /// Default: no.
    pub fn discovery(self, discovery: bool) -> Self {
        Self { discovery, ..self }
    }

    /// A fault that is on from the start.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// It has one session at a time.
    pub fn single_session(self) -> Self {
        self.fault(Fault::SingleSession)
    }

    /// What its ids and its latencies are drawn from. Devices of one profile and seed are the same
    /// device. Default: different for each device of a process.
    pub fn seed(self, seed: u64) -> Self {
        Self {
            seed: Some(seed),
            ..self
        }
    }

    /// How long it is away when a client reboots it. Default: 3 s.
    pub fn reboot_time(self, reboot_time: Duration) -> Self {
        Self { reboot_time, ..self }
    }

    /// Starts it, with every relay open. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The address is taken, or the profile is not one of the kind that was asked for.
    pub async fn start(self) -> Result<RunningDevice, SimulatorError> {
        self.check_kind()?;
        let listener = listen(self.address).await?;
        let address = listener.local_addr().map_err(|source| SimulatorError::Bind {
            address: self.address,
            source,
        })?;
        let protocol = self.protocol.unwrap_or(if self.profile.is_iot() {
            Protocol::Xor
        } else {
            Protocol::Klap
        });
        let udp = if self.discovery {
            Some(discovery::bind(address, protocol).await?)
        } else {
            None
        };
        let seed = self.seed.unwrap_or_else(next_seed);
        let (commands, inbox) = mpsc::unbounded_channel();
        let core = Core::new(Parts {
            profile: self.profile,
            identity: Identity::new(self.profile, seed),
            protocol,
            account: self.account,
            has_discovery: self.discovery,
            faults: Faults::new(self.faults, StdRng::seed_from_u64(seed)),
            reboot_time: self.reboot_time,
            address,
            nickname: self
                .nickname
                .unwrap_or_else(|| format!("Simulated {}", self.profile)),
            outlet_nicknames: self.outlet_nicknames,
            children: self.children,
            commands,
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let network = Network::new(core.clone(), listener, udp, tasks.clone(), stop.clone());
        tasks.spawn(network.run(inbox));
        tasks.spawn(crate::timer::run(core.clone(), stop.clone()));
        Ok(RunningDevice::new(core, tasks, stop))
    }

    fn check_kind(&self) -> Result<(), SimulatorError> {
        match self.kind {
            Some(Kind::Plug) if self.profile.is_strip() || self.profile.is_hub() => {
                Err(SimulatorError::WrongKind(self.profile, "plug"))
            }
            Some(Kind::Strip) if !self.profile.is_strip() => {
                Err(SimulatorError::WrongKind(self.profile, "strip"))
            }
            Some(Kind::Hub) if !self.profile.is_hub() => Err(SimulatorError::WrongKind(self.profile, "hub")),
            _ => Ok(()),
        }
    }
}
