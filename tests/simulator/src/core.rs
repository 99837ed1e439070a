//! One device, as every connection, timer and handle of it shares it.

use std::{
    fmt,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    ChildModel, Counters, Fault, FaultKind, Faults, Profile, Protocol, SimulatorError,
    clock::DeviceClock,
    counters::Tally,
    hub::HubChild,
    identity::Identity,
    klap::Klap,
    network::Command,
    outlet::Moment,
    passthrough::Passthrough,
    profile::Spec,
    session::{Account, Limits},
    state::State,
    tpap::Tpap,
};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) profile: Profile,
    pub(crate) spec: &'static Spec,
    pub(crate) identity: Identity,
    /// What the device speaks unless a fault flips it.
    pub(crate) native_protocol: Protocol,
    pub(crate) faults: Faults,
    pub(crate) tally: Tally,
    pub(crate) klap: Klap,
    pub(crate) passthrough: Passthrough,
    pub(crate) tpap: Arc<Tpap>,
    pub(crate) clock: DeviceClock,
    /// How long `device_reboot` takes.
    pub(crate) reboot_time: Duration,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) account: Account,
    pub(crate) has_discovery: bool,
    address: Mutex<SocketAddr>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

/// What a core is made of.
pub(crate) struct Parts {
    pub(crate) profile: Profile,
    pub(crate) identity: Identity,
    pub(crate) protocol: Protocol,
    pub(crate) account: Account,
    pub(crate) has_discovery: bool,
    pub(crate) faults: Faults,
    pub(crate) reboot_time: Duration,
    pub(crate) address: SocketAddr,
    pub(crate) nickname: String,
    pub(crate) outlet_nicknames: Vec<String>,
    pub(crate) children: Option<Vec<(ChildModel, String)>>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let spec = parts.profile.spec();
        let clock = DeviceClock::new();
        let mut state = State::new(
            spec,
            &parts.identity,
            parts.nickname,
            &parts.outlet_nicknames,
            clock.now(),
        );
        if spec.is_hub() {
            let one_of_each = || ChildModel::ALL.map(|model| (model, model.to_string())).to_vec();
            let children = parts.children.unwrap_or_else(one_of_each);
            let child = |(number, (model, name))| HubChild::new(&parts.identity, number, model, name);
            state.children = children.into_iter().enumerate().map(child).collect();
        }
        Arc::new(Self {
            profile: parts.profile,
            spec,
            identity: parts.identity,
            native_protocol: parts.protocol,
            faults: parts.faults,
            tally: Tally::default(),
            klap: Klap::default(),
            passthrough: Passthrough::default(),
            tpap: Arc::default(),
            clock,
            reboot_time: parts.reboot_time,
            commands: parts.commands,
            account: parts.account,
            has_discovery: parts.has_discovery,
            address: Mutex::new(parts.address),
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        })
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment {
            device: self.clock.now(),
            uptime_ms: self.clock.uptime_ms(),
        }
    }

    /// Brings the state up to now, works on it, and notifies those who wait.
    pub(crate) fn with_state<R>(&self, work: impl FnOnce(&mut State, Moment) -> R) -> R {
        let result = {
            let mut state = self.lock_state();
            let now = self.moment();
            state.settle(now, !self.faults.is_set(FaultKind::ClockUnset));
            work(&mut state, now)
        };
        self.notify();
        result
    }

    /// Brings the state up to now and looks at it. Tells others only if a rule fired meanwhile, so that
    /// those who wait do not wake themselves.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&mut State, Moment) -> R) -> R {
        let (fired, result) = {
            let mut state = self.lock_state();
            let before = state.relay_changes.len();
            let now = self.moment();
            state.settle(now, !self.faults.is_set(FaultKind::ClockUnset));
            (state.relay_changes.len() > before, look(&mut state, now))
        };
        if fired {
            self.notify();
        }
        result
    }

    pub(crate) fn notify(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until something holds, which is looked at after each change.
    pub(crate) async fn wait_until(
        &self,
        what: impl fmt::Display,
        budget: Duration,
        holds: impl Fn() -> bool,
    ) -> Result<(), SimulatorError> {
        let mut changes = self.changes();
        let wait = async {
            while !holds() {
                if changes.changed().await.is_err() {
                    pending::<()>().await;
                }
            }
        };
        timeout(budget, wait).await.map_err(|_| SimulatorError::TimedOut {
            what: what.to_string(),
            budget,
        })
    }

    pub(crate) fn counters(&self) -> Counters {
        let changes = self.read(|state, _| state.relay_changes.clone());
        self.tally.snapshot(changes)
    }

    pub(crate) fn reset_counters(&self) {
        self.tally.reset();
        self.with_state(|state, _| state.relay_changes.clear());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_address(&self, address: SocketAddr) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub(crate) fn protocol(&self) -> Protocol {
        if self.faults.is_set(FaultKind::ProtocolFlip) {
            self.native_protocol.other(self.profile.is_iot())
        } else {
            self.native_protocol
        }
    }

    /// Whether requests are those of old Kasa devices.
    pub(crate) fn is_iot(&self) -> bool {
        self.profile.is_iot() || self.protocol().is_iot()
    }

    /// The account that log-ins are checked against.
    pub(crate) fn checked_account(&self) -> Account {
        if self.faults.is_set(FaultKind::WrongPassword) {
            return Account {
                username: self.account.username.clone(),
                password: format!("not {}", self.account.password),
            };
        }
        if self.faults.is_set(FaultKind::BlankCredentials) {
            return Account::default();
        }
        self.account.clone()
    }

    /// After how many failed log-ins the device locks itself.
    pub(crate) fn tpap_limit(&self) -> Option<u32> {
        match self.faults.get(FaultKind::TpapLock) {
            Some(Fault::TpapLock { after }) => Some(after),
            _ => None,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        let lifetime = match self.faults.get(FaultKind::SessionLifetime) {
            Some(Fault::SessionLifetime { lifetime }) => Some(lifetime),
            _ => None,
        };
        Limits {
            single_session: self.faults.is_set(FaultKind::SingleSession),
            single_request: self.faults.is_set(FaultKind::SingleRequest),
            lifetime,
            era: self.faults.protocol_flips(),
        }
    }

    pub(crate) fn forget_sessions(&self) {
        self.klap.forget();
        self.passthrough.forget();
        self.tpap.forget();
    }

    /// No panic is possible while the lock is held, so a poisoned state is still whole.
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
