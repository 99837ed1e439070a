//! The life of one physical device: connect, serve, wait, connect again.

mod connect;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::info;

use super::{
    backoff::{Backoff, LoginBudget, LoginPurpose, jittered},
    client::discovery::DiscoveryCache,
    client::fault::{Fault, Remedy},
    client::session::Session,
    exchange::ExchangeError,
    mailbox::Mailbox,
    meter::Meters,
    off_rules::RuleStore,
};
use crate::domain::devices::{DeviceConfig, EventSenders, PollingConfig, WorkerSettings};
use crate::{
    devices::energy::EnergyTotals,
    domain::report::{DeviceReport, Kind, Phase},
    system::clock::Clock,
};
use crate::{
    devices::{
        countdown::{CountdownRegistry, OwnCountdown},
        state::DeviceState,
        unconfirmed::UnconfirmedSwitches,
    },
    domain::device_metrics::DeviceMetrics,
};

/// The first wait after a device could not be reached.
const PROBE_FIRST: Duration = Duration::from_secs(1);
/// The first wait after a refused login: devices take blank credentials for a while after a power cut.
const REFUSED_FIRST: Duration = Duration::from_secs(15);
/// Between probes while a command waits: it lives 10 s by default.
const PROBE_FOR_COMMAND: Duration = Duration::from_secs(1);
/// From a failed exchange to the next one.
const RETRY_SOON: Duration = Duration::from_millis(500);
/// Failed exchanges before the session is given up and one active retry decides.
const FAILURES_TO_RECONNECT: u32 = 2;
/// Owns one device: its session, its queue, and everything known of it.
pub(super) struct Worker {
    pub(super) config: Arc<DeviceConfig>,
    pub(super) tempo: Arc<PollingConfig>,
    pub(super) clock: Clock,
    pub(super) mailbox: Mailbox,
    pub(super) recorder: DeviceMetrics,
    pub(super) logins: LoginBudget,
    pub(super) known: DeviceState,
    pub(super) meters: Meters,
    pub(super) book: EnergyTotals,
    pub(super) rules: RuleStore,
    pub(super) own_countdown: OwnCountdown,
    pub(super) unconfirmed: UnconfirmedSwitches,
    pub(super) kind: Kind,
    /// The configured address, until the device was found under another.
    pub(super) address: String,
    pub(super) events: EventSenders,
    pub(super) phase: Phase,
    /// Whether the device may have done what the switch in flight asks, in whole or in part.
    pub(super) may_be_done: bool,
    /// The turn of the switch in flight.
    pub(super) turn: u64,
    /// Failed exchanges in a row.
    failures: u32,
    /// Failed connects in a row.
    connects: u32,
    /// Another device answers where this one was: searched for before each connect.
    displaced: bool,
    directory: DiscoveryCache,
    probes: Backoff,
    refusals: Backoff,
    pub(super) last_report: Option<Arc<DeviceReport>>,
}

/// What a worker does next.
enum WorkerState {
    /// Log in and read everything.
    Connect,
    /// Serve commands and polls.
    Serve(Session),
    /// Wait until then, or for a command that is worth a probe.
    Wait(Instant),
    /// End.
    Stop,
}

/// What a failed exchange means for the session.
enum FailureAction {
    /// Keep it, and ask again soon.
    RetrySoon,
    /// Keep it; the next poll comes when it comes.
    CarryOn,
    /// Give it up.
    Leave(WorkerState),
}

/// What changed settings mean for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConfigChange {
    /// Nothing.
    AsBefore,
    /// The device is connected anew.
    Anew,
}

fn probes(tempo: &PollingConfig) -> Backoff {
    Backoff::new(PROBE_FIRST, tempo.probe_longest)
}

fn refusals(tempo: &PollingConfig) -> Backoff {
    Backoff::new(REFUSED_FIRST.min(tempo.refused_longest), tempo.refused_longest)
}

impl Worker {
    pub(super) fn new(
        mut mailbox: Mailbox,
        clock: Clock,
        events: EventSenders,
        recorder: DeviceMetrics,
        book: EnergyTotals,
        countdowns: CountdownRegistry,
        directory: DiscoveryCache,
    ) -> Self {
        let WorkerSettings { config, tempo } = mailbox.settings();
        Self {
            address: config.address.clone(),
            logins: LoginBudget::new(Instant::now()),
            probes: probes(&tempo),
            refusals: refusals(&tempo),
            known: DeviceState::default(),
            meters: Meters::new(Instant::now()),
            book,
            rules: RuleStore::new(Instant::now()),
            own_countdown: OwnCountdown::new(countdowns),
            unconfirmed: UnconfirmedSwitches::default(),
            kind: Kind::Plug,
            phase: Phase::Connecting,
            may_be_done: false,
            turn: 0,
            failures: 0,
            connects: 0,
            displaced: false,
            directory,
            last_report: None,
            config,
            tempo,
            clock,
            mailbox,
            recorder,
            events,
        }
    }

    /// Lives until the stop. Commands that still wait then are answered by being dropped.
    pub(super) async fn run(mut self, first_look: Instant) {
        self.send_report().await;
        let mut life = WorkerState::Wait(first_look);
        loop {
            life = match life {
                WorkerState::Connect => self.connect().await,
                WorkerState::Serve(session) => self.serve(session).await,
                WorkerState::Wait(until) => self.wait(until).await,
                WorkerState::Stop => break,
            };
        }
        if self.mailbox.is_removed() {
            self.own_countdown.on_removed();
            self.warn_of_rules_left();
            self.mailbox.refuse_removed(&self.config.id);
        }
    }

    async fn serve(&mut self, mut session: Session) -> WorkerState {
        let mut next_poll = Instant::now() + jittered(self.tempo.poll);
        let mut next_slow = Instant::now() + jittered(self.tempo.slow_poll);
        let mut hold = Instant::now();
        loop {
            let now = Instant::now();
            if let Some(mirror) = self.mailbox.mirror.take() {
                self.rules.wish(mirror);
            }
            if let Some(wanted) = self.mailbox.wanted_end.take() {
                self.own_countdown.set_wanted(wanted, self.known.countdown);
            }
            self.recorder.now(self.phase, self.mailbox.queue.len());
            let rescan_at = self.rescan_at(now);
            if rescan_at.is_some_and(|at| now >= at)
                || (self.mailbox.settings_changed && self.apply_config() == ConfigChange::Anew)
            {
                return WorkerState::Connect;
            }
            let on_exchange_error = if now >= hold
                && let Some(intent) = self.mailbox.queue.pop()
            {
                self.carry_out(&mut session, intent).await
            } else if now >= next_poll {
                next_poll = now + jittered(self.tempo.poll);
                self.read(&mut session, LoginPurpose::Poll).await
            } else if self.countdown_is_due() {
                self.poll_countdown(&mut session).await
            } else if self.countdown_change_at(now) == Some(now) {
                self.keep_countdown(&mut session).await
            } else if self.has_rules_to_write() {
                self.mirror(&mut session).await
            } else if self.rules_are_due() {
                self.poll_rules(&mut session).await
            } else if now >= next_slow {
                next_slow = now + jittered(self.tempo.slow_poll);
                self.slow_poll(&mut session).await
            } else if self.has_meters() && now >= self.meters.due {
                self.read_meter(&mut session).await
            } else {
                let idle_until = if self.mailbox.queue.is_empty() {
                    let meter = self.has_meters().then_some(self.meters.due);
                    let others = meter.into_iter().chain(self.countdown_change_at(now));
                    others.fold(next_poll.min(next_slow), Instant::min)
                } else {
                    hold.min(next_poll)
                };
                let wake = rescan_at.map_or(idle_until, |at| at.min(idle_until));
                self.mailbox.wait_until(wake).await.map_err(ExchangeError::from)
            };
            let fault = match on_exchange_error {
                Ok(()) => continue,
                Err(ExchangeError::Stopped) => {
                    if self.mailbox.is_removed() {
                        self.remove_our_rules(&mut session).await;
                    }
                    return WorkerState::Stop;
                }
                Err(ExchangeError::Fault(fault)) => fault,
            };
            match self.on_failure(&fault).await {
                FailureAction::RetrySoon => {
                    hold = Instant::now() + jittered(RETRY_SOON);
                    next_poll = next_poll.min(hold);
                }
                FailureAction::CarryOn => hold = Instant::now() + jittered(PROBE_FOR_COMMAND),
                FailureAction::Leave(life) => return life,
            }
        }
    }

    /// When a rescan that was requested is due: each device has its turn, and a limit of logins.
    fn rescan_at(&mut self, now: Instant) -> Option<Instant> {
        let at = self.mailbox.rescan_at?;
        Some(at.max(self.logins.grants_at(LoginPurpose::Poll, now)))
    }

    /// A strip's list of children does not carry the strip's own values; a plug's read does, but for its
    /// countdown.
    async fn slow_poll(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        match self.kind {
            Kind::Plug => self.poll_countdown(session).await,
            Kind::Strip => self.read_device(session).await,
        }
    }

    /// An exchange failed beyond its own remedies.
    async fn on_failure(&mut self, fault: &Fault) -> FailureAction {
        match fault.remedy() {
            Remedy::DoWithout => FailureAction::CarryOn,
            Remedy::WaitForUser | Remedy::KeepAway | Remedy::Search => {
                FailureAction::Leave(self.on_connect_failed(fault).await)
            }
            // The budget for logins is used up: somebody else keeps taking the session. The device is there, unless
            // it failed in another way just before.
            Remedy::LogInAgain if self.failures == 0 => {
                self.mailbox.trouble = Some(fault.trouble());
                self.enter(Phase::Degraded).await;
                FailureAction::CarryOn
            }
            Remedy::LogInAgain | Remedy::RetryNow | Remedy::ReadBack | Remedy::BackOff => {
                self.failures += 1;
                self.mailbox.trouble = Some(fault.trouble());
                self.enter(Phase::Degraded).await;
                let may_log_in = self.logins.grants(LoginPurpose::Command, Instant::now());
                if self.failures >= FAILURES_TO_RECONNECT && may_log_in {
                    FailureAction::Leave(WorkerState::Connect)
                } else {
                    FailureAction::RetrySoon
                }
            }
        }
    }

    /// Takes changed settings over.
    fn apply_config(&mut self) -> ConfigChange {
        if !self.mailbox.settings_changed {
            return ConfigChange::AsBefore;
        }
        let WorkerSettings { config, tempo } = self.mailbox.settings();
        if self.tempo != tempo {
            (self.probes, self.refusals) = (probes(&tempo), refusals(&tempo));
            self.tempo = tempo;
        }
        if self.config == config {
            return ConfigChange::AsBefore;
        }
        if self.config.address != config.address {
            // What answers there may be another device.
            self.address.clone_from(&config.address);
            (self.known, self.kind) = (DeviceState::default(), Kind::Plug);
            self.rules = RuleStore::new(Instant::now());
            (self.unconfirmed, self.displaced) = (UnconfirmedSwitches::default(), false);
        }
        info!(device = %config.id, "settings of the device changed");
        self.config = config;
        self.connects = 0;
        self.refusals.on_success();
        ConfigChange::Anew
    }

    /// The device answered: it is well, and the next trouble is a new one.
    pub(super) fn on_success(&mut self) {
        self.failures = 0;
        self.connects = 0;
        self.probes.on_success();
        self.mailbox.trouble = None;
        self.mailbox.on_answer();
        self.phase = Phase::Ready;
    }
}
