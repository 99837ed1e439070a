//! The life of one physical device: connect, serve, wait, connect again.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    attribution::{Attribution, ReadScope},
    backoff::jittered,
    buttons::Buttons,
    client::{
        connection::ExchangeError,
        fault::{Fault, Remedy},
        login_budget::LoginPurpose,
        opening::Opened,
        readings::DeviceReading,
    },
    context::Context,
    countdown::{CountdownRegistry, Countdowns},
    energy::EnergyTotals,
    mailbox::{Reached, Stopped},
    meter::Meters,
    off_rules::OffRules,
    own_settings::OwnSettings,
    reboot,
    removal::Removal,
    state::DeviceState,
    switching::{Switching, switch_off_unread},
    thermostat,
};
use crate::domain::{
    command_error::CommandError,
    device_command::{DeviceAction, DeviceCommand},
    devices::{ClientChoice, DeviceEvent, WorkerSettings},
    report::{EventKind, Kind, Phase},
};

/// Between probes while a command is pending: it lives 10 s by default.
const PROBE_FOR_COMMAND: Duration = Duration::from_secs(1);
/// A device that is not given its turn connects after this.
const FIRST_CONNECT_MAX: Duration = Duration::from_mins(1);
/// For removing the OFF rules of a strip before another client serves it.
const HAND_OVER: Duration = Duration::from_secs(3);
/// From a failed exchange to the next one.
const RETRY_SOON: Duration = Duration::from_millis(500);

/// Owns one device: its connection, its queue, its state.
///
/// ```text
///                        first connect
///             ┌────────── connecting ──────────┐
///  a probe    │                │               │ the login is refused
///  fails      ▼                ▼               ▼
///  ┌──── unreachable ──────► ready ◄────── forbidden, setup mode (retried in minutes; commands are refused)
///  └──────► ▲    a probe     │   ▲
///           │    succeeds    │   │ an exchange succeeds
///           │                ▼   │
///           └──────────── degraded ────────► locked out (retried after half an hour; commands are refused)
///         two failed exchanges                 the device counts wrong passwords; reached from every connect
///         and one failed reconnect
/// ```
///
/// A device is online while it is ready or degraded.
pub(super) struct Worker {
    context: Context,
    countdowns: Countdowns,
    off_rules: OffRules,
    meters: Meters,
    settings: OwnSettings,
    buttons: Buttons,
    /// Another device answers at the address: a search goes before each connect.
    displaced: bool,
    /// Cancelled when a worker with a new id takes the device over.
    handed_over: CancellationToken,
}

/// What a worker does next.
enum NextStep {
    /// Log in and read everything.
    Connect,
    /// Execute commands and polls.
    Serve,
    /// Wait until then, or for a command that is worth a probe.
    Wait(Instant),
    /// End.
    Stop,
}

/// What a failed exchange means for the session.
enum FailureAction {
    /// Keep it, and try again soon.
    RetrySoon,
    /// Keep it; the next poll comes in its time.
    Continue,
    /// Drop it.
    Leave(NextStep),
}

/// When the periodic reads of a connected device are due.
struct Schedule {
    poll: Instant,
    slow_poll: Instant,
    /// No command is sent before then: the last exchange failed.
    hold: Instant,
}

impl Worker {
    pub(super) fn new(
        context: Context,
        countdowns: CountdownRegistry,
        totals: EnergyTotals,
        handed_over: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        Self {
            context,
            countdowns: Countdowns::new(countdowns),
            off_rules: OffRules::new(now),
            meters: Meters::new(totals, now),
            settings: OwnSettings::new(now),
            buttons: Buttons::default(),
            displaced: false,
            handed_over,
        }
    }

    /// Runs until the stop. Pending commands are dropped then, and their replies send `shutting_down`.
    // Boxed: the future would have room for the worker twice, as its argument and as the variable that it is moved to.
    pub(super) async fn run(mut self: Box<Self>, turn: CancellationToken) {
        self.context.send_report().await;
        let mut step = self.wait_for_turn(turn).await;
        loop {
            step = match step {
                NextStep::Connect => self.connect().await.unwrap_or(NextStep::Stop),
                NextStep::Serve => self.serve().await,
                NextStep::Wait(until) => self.wait(until).await.unwrap_or(NextStep::Stop),
                NextStep::Stop => break,
            };
        }
        if self.context.mailbox.is_removed() {
            self.context.mailbox.refuse_removed(&self.context.config.id);
            // The next worker for the same device keeps what this one armed, wrote and left on.
            if self.handed_over.is_cancelled() {
                return;
            }
            self.apply_messages();
            let removal = Removal::new(&mut self.context, &mut self.countdowns, &mut self.off_rules);
            Box::pin(removal.run()).await;
        }
    }

    /// Waits until this device is to be connected first. A command waits no longer than for any other probe.
    async fn wait_for_turn(&mut self, turn: CancellationToken) -> NextStep {
        let waiting = self.wait(Instant::now() + FIRST_CONNECT_MAX);
        match turn.run_until_cancelled(waiting).await {
            Some(step) => step.unwrap_or(NextStep::Stop),
            None => NextStep::Connect,
        }
    }

    async fn connect(&mut self) -> Result<NextStep, Stopped> {
        self.leave_before_change().await?;
        self.context.connection.close();
        self.context.mailbox.rescan_at = None;
        self.apply_config();
        let Context {
            lifecycle,
            connection,
            ..
        } = &self.context;
        let is_lost = lifecycle.has_failed_connects() && connection.is_elsewhere();
        if self.displaced || lifecycle.is_search_due() || is_lost {
            self.search().await?;
        }
        match self.context.connection.open(&mut self.context.mailbox).await? {
            Ok(opened) => Ok(self.on_connected(opened).await),
            Err(fault) => {
                // Another device answered at the address before, and it is not known which one this is.
                if !self.displaced {
                    switch_off_unread(&mut self.context).await?;
                }
                Ok(self.on_connect_failed(&fault).await)
            }
        }
    }

    /// Asks the network for the address of a device that does not answer where it was.
    async fn search(&mut self) -> Result<(), Stopped> {
        let Context {
            connection,
            mailbox,
            config,
            reporter,
            ..
        } = &mut self.context;
        if let Some(old) = connection.search(mailbox).await? {
            let new = connection.address();
            info!(device = %config.id, %old, %new, "address changed");
            let message = format!("{} answers at {new} instead of {old}", config.id);
            reporter.event(EventKind::AddressChanged, None, message).await;
        }
        Ok(())
    }

    /// The device accepted the login and was read.
    async fn on_connected(&mut self, opened: Opened) -> NextStep {
        let Opened {
            session,
            kind,
            components,
            info,
            outlets,
            children,
            reads_odd_answers: _,
        } = opened;
        self.displaced = false;
        let context = &mut self.context;
        context.connection.start(session);
        let mac = context.connection.identity().mac();
        let reading = DeviceReading::of(&info);
        context.state.components = components;
        context.state.identify(&context.config, kind, &reading, mac);
        context.mailbox.reached = Reached::Reached;
        context.lifecycle.on_connected();
        context.on_answer();
        let now = context.clock.read();
        let changes = context.state.apply_reading(&context.config, kind, &outlets, now);
        context.state.children.apply(&context.config, &children);
        context.state.add_listed_features();
        self.meters.on_connected(context);
        self.settings.on_connected(context);
        self.buttons.on_connected();
        self.countdowns.on_connected(context);
        let soon = Instant::now() + context.polling.poll;
        self.off_rules.on_connected(context, soon);
        context.report_changes(changes, ReadScope::All).await;
        if kind == Kind::Hub {
            context.send_hub_reading().await;
        }
        self.recheck_pending().await;
        NextStep::Serve
    }

    /// A command that was permitted when it arrived may not be permitted any more: the scheduler decides again, with the
    /// reading that was just reported.
    async fn recheck_pending(&mut self) {
        for command in self.context.mailbox.take_switch_ons() {
            // Without a scheduler, the dropped command replies by itself.
            let reporter = &self.context.reporter;
            reporter.send_to_scheduler(DeviceEvent::Recheck(command)).await;
        }
    }

    /// The device could not be reached, or it refused the login.
    async fn on_connect_failed(&mut self, fault: &Fault) -> NextStep {
        self.context.connection.close();
        self.context.count_failure(fault);
        self.context.mailbox.on_fault(fault);
        self.context.mailbox.error = Some(fault.device_error());
        let displaced_now = fault.remedy() == Remedy::Search && !self.displaced;
        self.displaced |= displaced_now;
        let wait = self.context.lifecycle.on_connect_failed(fault);
        self.context.send_report().await;
        if displaced_now {
            return NextStep::Connect;
        }
        NextStep::Wait(Instant::now() + wait)
    }

    async fn wait(&mut self, until: Instant) -> Result<NextStep, Stopped> {
        let waiting_since = Instant::now();
        loop {
            if self.context.lifecycle.refuses_logins() {
                self.refuse_pending();
            }
            let probe_at = if self.context.mailbox.queue.is_empty() {
                until
            } else {
                until.min(waiting_since + PROBE_FOR_COMMAND)
            };
            self.leave_before_change().await?;
            if self.apply_config() {
                return Ok(NextStep::Connect);
            }
            let now = Instant::now();
            let is_locked_out = self.context.lifecycle.phase == Phase::LockedOut;
            let rescan_at = self.rescan_at(now).filter(|_| !is_locked_out);
            if rescan_at.is_some_and(|at| now >= at) {
                // Each attempt counts, whatever its result, so that requests cannot cause more of them.
                self.context.connection.logins().spend(now);
                return Ok(NextStep::Connect);
            }
            if now >= probe_at {
                return Ok(NextStep::Connect);
            }
            let wake = rescan_at.map_or(probe_at, |at| at.min(probe_at));
            self.context.update_metrics();
            self.context.mailbox.wait_until(wake).await?;
        }
    }

    /// Replies to commands for which waiting is useless.
    fn refuse_pending(&mut self) {
        let mailbox = &mut self.context.mailbox;
        if let Some(error) = mailbox.error.clone() {
            let refused = CommandError::bridge(error.code, error.message);
            mailbox.queue.refuse_all(&refused);
        }
    }

    async fn serve(&mut self) -> NextStep {
        let now = Instant::now();
        let mut schedule = Schedule {
            poll: if self.context.state.is_listed() {
                now + jittered(self.context.polling.poll)
            } else {
                now
            },
            slow_poll: now + jittered(self.context.polling.slow_poll),
            hold: now,
        };
        loop {
            let now = Instant::now();
            self.apply_messages();
            self.meters.follow_relays(&self.context);
            self.countdowns.follow_outlets(&mut self.context);
            self.off_rules.follow_outlets(&self.context);
            self.context.update_metrics();
            if self.leave_before_change().await.is_err() {
                return NextStep::Stop;
            }
            let rescan_at = self.rescan_at(now);
            let is_client_due = self.context.connection.is_other_due();
            if rescan_at.is_some_and(|at| now >= at) || is_client_due || self.apply_config() {
                return NextStep::Connect;
            }
            let fault = match self.serve_next(&mut schedule, rescan_at, now).await {
                Ok(()) => {
                    self.complete().await;
                    continue;
                }
                Err(ExchangeError::Stopped) => return NextStep::Stop,
                Err(ExchangeError::Fault(fault)) => fault,
            };
            match self.on_failure(&fault).await {
                FailureAction::RetrySoon => {
                    schedule.hold = Instant::now() + jittered(RETRY_SOON);
                    schedule.poll = schedule.poll.min(schedule.hold);
                }
                FailureAction::Continue => schedule.hold = Instant::now() + jittered(PROBE_FOR_COMMAND),
                FailureAction::Leave(step) => return step,
            }
        }
    }

    /// Reports, once, that everything was read that shows which values the device has.
    async fn complete(&mut self) {
        let context = &mut self.context;
        let is_known =
            context.state.is_listed() && self.meters.are_known(context) && self.settings.are_known(context);
        if !context.state.is_complete && is_known {
            context.state.is_complete = true;
            context.send_report().await;
        }
    }

    /// The most urgent exchange, or the wait for the next one: commands before polls, relays before slow values.
    async fn serve_next(
        &mut self,
        schedule: &mut Schedule,
        rescan_at: Option<Instant>,
        now: Instant,
    ) -> Result<(), ExchangeError> {
        let context = &mut self.context;
        let meter_due = self.meters.due(context);
        let settings_due = self.settings.due(context);
        if now >= schedule.hold
            && let Some(command) = context.mailbox.queue.pop()
        {
            // The largest of these futures, and the rarest: the others set the room that each worker takes.
            Box::pin(self.carry_out(command)).await
        } else if now >= schedule.poll {
            schedule.poll = now + jittered(context.polling.poll);
            context.read(LoginPurpose::Poll).await?;
            self.buttons.read(context).await
        } else if context.connection.is_client_due() {
            context.follow_needs().await
        } else if self.countdowns.read_at(context, now) == Some(now) {
            self.countdowns.poll(context).await
        } else if self.countdowns.change_at(context, now) == Some(now) {
            self.countdowns.keep(context).await
        } else if self.off_rules.are_pending() {
            self.off_rules.write_next(context).await
        } else if self.off_rules.are_due() {
            self.off_rules.poll(context).await
        } else if now >= schedule.slow_poll {
            schedule.slow_poll = now + jittered(context.polling.slow_poll);
            self.countdowns.read_slowly(context);
            match context.connection.kind() {
                // A plug's read carries all its values but the countdown.
                Kind::Plug => Ok(()),
                Kind::Strip | Kind::Hub => context.read_device().await,
            }
        } else if meter_due.is_some_and(|due| now >= due) {
            self.meters.read(context).await
        } else if settings_due.is_some_and(|due| now >= due) {
            self.settings.read(context).await
        } else {
            let idle_until = if context.mailbox.queue.is_empty() {
                let countdown = [
                    self.countdowns.read_at(context, now),
                    self.countdowns.change_at(context, now),
                ];
                let others = meter_due
                    .into_iter()
                    .chain(settings_due)
                    .chain(countdown.into_iter().flatten());
                others.fold(schedule.poll.min(schedule.slow_poll), Instant::min)
            } else {
                schedule.hold.min(schedule.poll)
            };
            let wake = rescan_at.map_or(idle_until, |at| at.min(idle_until));
            Ok(context.mailbox.wait_until(wake).await?)
        }
    }

    /// Carries out one command and replies. After a fault that time may remove, the command is put back.
    async fn carry_out(&mut self, command: DeviceCommand) -> Result<(), ExchangeError> {
        let context = &mut self.context;
        context.connection.begin_command();
        match command.action {
            DeviceAction::Switch(switch) => {
                let switching = Switching::new(context, &mut self.countdowns);
                switching.carry_out(command, switch).await
            }
            DeviceAction::CountDown => self.countdowns.count_down(context, command).await,
            DeviceAction::CancelCountdown => self.countdowns.cancel(context, command).await,
            DeviceAction::Read => self.read(command).await,
            DeviceAction::Reboot => reboot::carry_out(context, command).await,
            DeviceAction::ChangeSetting(change) => self.settings.carry_out(context, command, change).await,
            DeviceAction::Thermostat(change) => thermostat::carry_out(context, command, change).await,
        }
    }

    async fn read(&mut self, command: DeviceCommand) -> Result<(), ExchangeError> {
        let context = &mut self.context;
        // One read answers all read commands that arrived before it.
        let mut commands = context.mailbox.queue.take_reads();
        commands.insert(0, command);
        match context.read(LoginPurpose::Command).await {
            Ok(()) => {
                for command in commands {
                    self.meters.on_read_requested(context, &command.path);
                    command.reply.send(context.state.read_result(&command.path));
                }
                Ok(())
            }
            Err(ExchangeError::Stopped) => Err(ExchangeError::Stopped),
            Err(ExchangeError::Fault(fault)) => {
                for command in commands {
                    context.mailbox.queue.put_back(command, 1, Instant::now());
                }
                Err(fault.into())
            }
        }
    }

    /// An exchange failed in spite of its remedies.
    async fn on_failure(&mut self, fault: &Fault) -> FailureAction {
        match fault.remedy() {
            Remedy::DoWithout => FailureAction::Continue,
            Remedy::WaitForUser | Remedy::KeepAway | Remedy::Search => {
                FailureAction::Leave(self.on_connect_failed(fault).await)
            }
            // The budget of logins is used up: another client takes the session again and again. The device works,
            // unless it failed in another way just before.
            Remedy::LogInAgain if !self.context.lifecycle.has_failed() => {
                self.degrade(fault).await;
                FailureAction::Continue
            }
            Remedy::LogInAgain | Remedy::RetryNow | Remedy::ReadBack | Remedy::BackOff => {
                let reconnect = self.context.lifecycle.on_failure();
                self.degrade(fault).await;
                let logins = self.context.connection.logins();
                if reconnect && logins.grants(LoginPurpose::Command, Instant::now()) {
                    FailureAction::Leave(NextStep::Connect)
                } else {
                    FailureAction::RetrySoon
                }
            }
        }
    }

    async fn degrade(&mut self, fault: &Fault) {
        self.context.mailbox.error = Some(fault.device_error());
        self.context.enter(Phase::Degraded).await;
    }

    /// When a requested rescan is due: each device has its turn, and a limit of logins.
    fn rescan_at(&mut self, now: Instant) -> Option<Instant> {
        let at = self.context.mailbox.rescan_at?;
        Some(self.context.connection.logins().rescan_at(at, now))
    }

    /// Applies what the scheduler wants from now on.
    fn apply_messages(&mut self) {
        for (outlet, rules) in std::mem::take(&mut self.context.mailbox.off_rules) {
            if !rules.wanted.is_empty() {
                self.context.connection.set_arms();
            }
            self.off_rules
                .set_wanted(&mut self.context, outlet.as_ref(), rules);
        }
        for (outlet, end) in std::mem::take(&mut self.context.mailbox.wanted_ends) {
            if end.is_some() {
                self.context.connection.set_arms();
            }
            self.context.wanted.set(outlet, end.into());
        }
    }

    /// What has to be done with the device before changed settings are taken.
    async fn leave_before_change(&mut self) -> Result<(), Stopped> {
        if !self.context.mailbox.settings_changed {
            return Ok(());
        }
        let new = self.context.mailbox.coming_config();
        let known = self.context.connection.identity().mac();
        let is_other = |mac: &String| known.is_some_and(|known| known != mac);
        if new.mac.as_ref().is_some_and(is_other) {
            // The id stands for another device: this one leaves the settings.
            self.apply_messages();
            Removal::new(&mut self.context, &mut self.countdowns, &mut self.off_rules)
                .run()
                .await;
            return Ok(());
        }
        let is_same = !new.means_another(&self.context.config);
        let to_crate = new.client == ClientChoice::Tapo && self.context.connection.is_own();
        if is_same && to_crate && self.context.connection.kind() == Kind::Strip {
            self.hand_over_strip().await?;
        }
        Ok(())
    }

    /// The next client reaches no countdown and no rules of the outlets of a strip: what the bridge left there is taken back
    /// before. What cannot be is reported until it is over.
    async fn hand_over_strip(&mut self) -> Result<(), Stopped> {
        let context = &mut self.context;
        match self.countdowns.clear_ours(context).await {
            Ok(()) => {}
            Err(ExchangeError::Stopped) => return Err(Stopped),
            Err(ExchangeError::Fault(fault)) => {
                let device = &context.config.id;
                warn!(%device, %fault, "countdowns not cleared before the client changes");
            }
        }
        let removal = timeout(HAND_OVER, self.off_rules.remove_all(context)).await;
        if !matches!(removal, Ok(Ok(()))) {
            let device = &context.config.id;
            warn!(%device, "OFF rules not removed before the client changes; delete them in the Tapo app");
        }
        self.off_rules.on_out_of_reach(context);
        context.send_report().await;
        Ok(())
    }

    /// Applies changed settings. Returns whether the device must be connected again.
    fn apply_config(&mut self) -> bool {
        let context = &mut self.context;
        if !context.mailbox.settings_changed {
            return false;
        }
        let settings = context.mailbox.settings();
        context.connection.configure(settings.clone());
        let WorkerSettings { config, polling } = settings;
        if context.polling != polling {
            context.lifecycle.configure(&polling);
            context.polling = polling;
        }
        if context.config == config {
            return false;
        }
        if config.means_another(&context.config) {
            context.state = DeviceState::default();
            context.attribution = Attribution::default();
            self.off_rules = OffRules::new(Instant::now());
            self.settings = OwnSettings::new(Instant::now());
            self.meters.forget();
            self.displaced = false;
        }
        info!(device = %config.id, "settings of the device changed");
        context.config = config;
        context.lifecycle.forget_refusals();
        true
    }
}
