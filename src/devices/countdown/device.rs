//! The countdowns of all outlets of a device.

use planner::{OutletKey, Power, Steady};
use tokio::time::Instant;

use super::{ArmResult, CountdownRegistry, CountdownRisk, OwnCountdown};
use crate::{
    devices::{
        client::connection::ExchangeError, context::Context, state::OutletAddress, wanted_ends::WantedEnd,
    },
    domain::{
        command_error::{CommandError, ErrorCode},
        device_command::{DeviceCommand, RunLimit},
        reply::Applied,
        report::Countdown,
    },
};

/// One for each outlet that was read, by its position.
#[derive(Debug, Default)]
pub(in crate::devices) struct Countdowns {
    outlets: Vec<OwnCountdown>,
    /// The hardware id of the device that they are about.
    hardware_id: Option<String>,
    registry: CountdownRegistry,
    /// Whose turn it is among those that only the app changes.
    turn: usize,
}

impl Countdowns {
    pub(in crate::devices) fn new(registry: CountdownRegistry) -> Self {
        Self {
            registry,
            ..Self::default()
        }
    }

    /// A new connection: each is read before it is changed.
    pub(in crate::devices) fn on_connected(&mut self, context: &mut Context) {
        let Some(identity) = &context.state.identity else {
            return;
        };
        if self.hardware_id.as_deref() != Some(&identity.device_id) {
            self.hardware_id = Some(identity.device_id.clone());
            self.outlets.clear();
            context.attribution.forget_countdowns();
        }
        self.follow_outlets(context);
        for countdown in &mut self.outlets {
            countdown.on_connected(context);
        }
    }

    /// Takes the outlets that were read: a strip may leave some out of its first answers.
    pub(in crate::devices) fn follow_outlets(&mut self, context: &mut Context) {
        let Some(hardware_id) = &self.hardware_id else {
            return;
        };
        let (registry, known) = (&self.registry, self.outlets.len());
        OutletAddress::follow(
            &mut self.outlets,
            &context.state,
            |known| &mut known.address,
            |address| {
                // As its relay is called in the state file.
                let relay = match &address.child {
                    None => hardware_id.clone(),
                    Some(_) => format!("{hardware_id}/{}", address.position),
                };
                let armed = registry.of(&relay);
                OwnCountdown::new(relay, address, armed, registry.clone())
            },
        );
        for new in self.outlets.iter_mut().skip(known) {
            new.on_connected(context);
        }
    }

    /// A command switched these outlets.
    pub(in crate::devices) fn on_switched(&mut self, targets: &[OutletAddress], power: Power) {
        for countdown in self.of_targets(targets) {
            countdown.on_switched(power);
        }
    }

    /// Clears those that the bridge armed and that are not wanted as they are, while the client still reaches them.
    pub(in crate::devices) async fn clear_ours(
        &mut self,
        context: &mut Context,
    ) -> Result<(), ExchangeError> {
        for countdown in &mut self.outlets {
            let key = countdown.address.key.as_ref();
            let is_wanted = matches!(
                context.wanted.of(key),
                WantedEnd::By(end) if countdown.is_armed_for(context, end)
            );
            if !is_wanted || !countdown.is_on(context) {
                countdown.clear(context, Countdown::is_ours).await?;
            }
        }
        Ok(())
    }

    /// The device left the settings: its countdowns are not the bridge's any more.
    pub(in crate::devices) fn on_removed(&mut self) {
        for countdown in &self.outlets {
            self.registry.set(&countdown.relay, Vec::new());
        }
    }

    /// Those of these outlets may have changed without a reading.
    pub(in crate::devices) fn mark_stale(&mut self, targets: &[OutletAddress]) {
        for countdown in self.of_targets(targets) {
            countdown.stale = true;
        }
    }

    /// Whether that of an outlet runs and was armed for this end.
    pub(in crate::devices) fn is_armed_for(
        &self,
        context: &Context,
        key: Option<&OutletKey>,
        end: Steady,
    ) -> bool {
        let mut outlets = self.outlets.iter();
        let known = outlets.find(|countdown| countdown.address.key.as_ref() == key);
        known.is_some_and(|known| known.is_armed_for(context, end))
    }

    /// Clears the countdowns that run on these outlets, also external ones, and replies. What must end all the same,
    /// because of a limit, is armed again.
    pub(in crate::devices) async fn cancel(
        &mut self,
        context: &mut Context,
        command: DeviceCommand,
    ) -> Result<(), ExchangeError> {
        let targets = context.state.addresses(&command.path);
        if targets.is_empty() {
            let unknown = context.state.unknown_outlet(&command.path);
            command.reply.send(Err(unknown));
            return Ok(());
        }
        let out_of_reach = |known: &OwnCountdown| !known.is_reached(context) && known.is_external(context);
        if self.of_targets(&targets).any(|known| out_of_reach(known)) {
            let message = "the countdown that runs on the outlet was armed with another client, and client = \"tapo\" does \
                           not reach it; it ends by itself";
            let refused = CommandError::bridge(ErrorCode::Unsupported, message);
            command.reply.send(Err(refused));
            return Ok(());
        }
        let end = command.run.end(context.clock.steady());
        context.wanted.set(command.path.outlet.clone(), end.into());
        for countdown in self.of_targets(&targets) {
            if let Err(error) = countdown.clear(context, Countdown::runs).await {
                return context.on_command_failed(error, command, 1);
            }
        }
        let outlets = context.state.powers(&context.config.id, &targets);
        command.reply.send(Ok(Applied { outlets, attempts: 1 }));
        Ok(())
    }

    /// Arms the countdowns of these outlets for the end that a command names, and replies. One that refuses keeps the end
    /// that it had.
    pub(in crate::devices) async fn count_down(
        &mut self,
        context: &mut Context,
        command: DeviceCommand,
    ) -> Result<(), ExchangeError> {
        let targets = context.state.addresses(&command.path);
        if targets.is_empty() {
            let unknown = context.state.unknown_outlet(&command.path);
            command.reply.send(Err(unknown));
            return Ok(());
        }
        // Arming must not end half way at the stop.
        context.mailbox.view.in_flight = Some((command.path.outlet.clone(), Power::On));
        let armed = self.arm_running(context, &targets, command.run).await;
        context.mailbox.view.in_flight = None;
        let result = match armed {
            Ok(None) => {
                let outlets = context.state.powers(&context.config.id, &targets);
                Ok(Applied { outlets, attempts: 1 })
            }
            Ok(Some(refused)) => Err(refused),
            Err(error) => return context.on_command_failed(error, command, 1),
        };
        command.reply.send(result);
        Ok(())
    }

    /// Arms those of the outlets that are on. Returns the refusal of the first that refuses.
    async fn arm_running(
        &mut self,
        context: &mut Context,
        targets: &[OutletAddress],
        run: RunLimit,
    ) -> Result<Option<CommandError>, ExchangeError> {
        context.connection.set_arms();
        context.follow_needs().await?;
        for countdown in self.of_targets(targets) {
            if !countdown.is_supported(context) || !context.state.reads(&countdown.address, Power::On) {
                continue;
            }
            let closed_at = context.state.on_at(&countdown.address);
            let Some(end) = run.end(closed_at.unwrap_or_else(|| context.clock.steady())) else {
                continue;
            };
            if let ArmResult::Refused(error) = countdown.arm_and_hold(context, end).await? {
                return Ok(Some(error));
            }
            let key = countdown.address.key.clone();
            context.wanted.set(key, Some(end).into());
        }
        Ok(None)
    }

    /// When one should be read before its turn, `now` or later.
    pub(in crate::devices) fn read_at(&self, context: &Context, now: Instant) -> Option<Instant> {
        let outlets = self.outlets.iter();
        outlets
            .filter_map(|countdown| countdown.read_at(context, now))
            .min()
    }

    /// Reads one that is due.
    pub(in crate::devices) async fn poll(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let now = Instant::now();
        let mut outlets = self.outlets.iter_mut();
        match outlets.find(|countdown| countdown.read_at(context, now) == Some(now)) {
            Some(due) => due.poll(context).await,
            None => Ok(()),
        }
    }

    /// The slow values are due: each countdown that the bridge armed is read, and one of the others in turn.
    pub(in crate::devices) fn read_slowly(&mut self, context: &Context) {
        let now = Instant::now();
        self.turn = (self.turn + 1)
            .checked_rem(self.outlets.len())
            .unwrap_or_default();
        for (index, countdown) in self.outlets.iter_mut().enumerate() {
            let known = context.state.countdown_of(countdown.address.position);
            if index == self.turn || matches!(known, Countdown::Armed { .. } | Countdown::Failed) {
                countdown.after_on.read_at.get_or_insert(now);
            }
        }
    }

    /// When one is to be changed, `now` or later; `None` while all are right.
    pub(in crate::devices) fn change_at(&self, context: &Context, now: Instant) -> Option<Instant> {
        let outlets = self.outlets.iter();
        outlets
            .filter_map(|countdown| countdown.change_at(context, now))
            .min()
    }

    /// Makes one that is due follow the wanted end.
    pub(in crate::devices) async fn keep(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let now = Instant::now();
        let mut outlets = self.outlets.iter_mut();
        match outlets.find(|countdown| countdown.change_at(context, now) == Some(now)) {
            Some(due) => due.keep(context).await,
            None => Ok(()),
        }
    }

    /// Arms that of an outlet, unless an external one runs.
    pub(in crate::devices) async fn arm(
        &mut self,
        context: &mut Context,
        target: &OutletAddress,
        end: Steady,
    ) -> Result<ArmResult, ExchangeError> {
        match self.of_targets(std::slice::from_ref(target)).next() {
            Some(countdown) => countdown.arm(context, end).await,
            None => Ok(ArmResult::Without),
        }
    }

    /// After the relay of an outlet closed: its countdown has to run on.
    pub(in crate::devices) async fn hold_after_on(
        &mut self,
        context: &mut Context,
        target: &OutletAddress,
        end: Steady,
        risk: CountdownRisk,
        was_on: bool,
    ) -> Result<ArmResult, ExchangeError> {
        match self.of_targets(std::slice::from_ref(target)).next() {
            Some(countdown) => countdown.hold_after_on(context, end, risk, was_on).await,
            None => Ok(ArmResult::Without),
        }
    }

    fn of_targets(&mut self, targets: &[OutletAddress]) -> impl Iterator<Item = &mut OwnCountdown> {
        let outlets = self.outlets.iter_mut();
        outlets.filter(|countdown| targets.iter().any(|target| target.key == countdown.address.key))
    }
}
