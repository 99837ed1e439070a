//! Carries out a command: decides over each outlet, sends what may be sent, lets wait what must wait.

use jiff::SignedDuration;
use planner::{
    GroupId, Now, OutletPath, Power, Steady,
    deadline::Deadline,
    overrides::{Lifetime, Origin, Override},
    period::Period,
};
use tokio::time::Instant;
use tracing::debug;

use super::{
    Effect,
    commands::{Before, CommandId, PendingMember, Undo, WaitingMember},
    completion::Completion,
    heating::{HeatingOutcome, HeatingState},
    outlets::{OutletState, Purpose},
    relays::RelayId,
    state::State,
    timers::Timer,
};
use crate::domain::{
    command::{Action, Command, Target},
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, RunLimit, Source, Switch},
    device_settings::SettingChange,
    heating::HeatingChange,
    reply::Reply,
    report::EventKind,
};

/// Carries out commands, at a moment.
pub(super) struct CommandHandler<'a> {
    state: &'a mut State,
    now: Now,
}

/// Who carries a command out.
enum Scope {
    /// The device alone: no group, no timer, nothing to decide.
    Device(OutletPath),
    /// The scheduler, outlet by outlet.
    Outlets(Vec<OutletPath>, Option<GroupId>),
}

/// What a command does to an outlet beside switching it.
#[derive(Debug, Clone, Copy)]
enum CommandChange {
    Override(Override),
    Timer(Timer),
    /// A timer that runs ends.
    EndTimer,
}

/// A command with the reply and the target taken out.
struct CommandTask {
    action: Action,
    lifetime: Option<Lifetime>,
    deadline: Steady,
    reply: Reply,
}

impl<'a> CommandHandler<'a> {
    /// At a moment.
    pub(super) fn new(state: &'a mut State, now: Now) -> Self {
        Self { state, now }
    }

    /// Carries out a command. `deadline` is the command's own, on the steady clock.
    pub(super) fn handle(mut self, mut command: Command, deadline: Steady) {
        if let (Some(percent), Target::Outlet(path)) = (command.brightness, &command.target) {
            let path = path.clone();
            let (first, second) = command.reply.in_turn();
            command.reply = second;
            let dim = DeviceAction::ChangeSetting(SettingChange::Brightness(percent));
            self.forward(path, dim, command.deadline, first);
        }
        let action = match command.action {
            Action::Read => return self.forward_to_all(command, DeviceAction::Read),
            Action::Reboot => return self.forward_to_all(command, DeviceAction::Reboot),
            Action::ChangeSetting(change) => {
                return self.forward_to_all(command, DeviceAction::ChangeSetting(change));
            }
            Action::Thermostat(change) => {
                return self.forward_to_all(command, DeviceAction::Thermostat(change));
            }
            Action::Heat(change) => return self.heat(command, change, deadline),
            action => action,
        };
        let (paths, group) = match self.scope(&command) {
            Err(error) => return command.reply.send(Err(error)),
            Ok(Scope::Device(path)) => {
                let Action::Switch(switch) = action else { return };
                return self.forward(
                    path,
                    DeviceAction::Switch(switch),
                    command.deadline,
                    command.reply,
                );
            }
            Ok(Scope::Outlets(paths, group)) => (paths, group),
        };
        let task = CommandTask {
            action,
            lifetime: command.lifetime,
            deadline,
            reply: command.reply,
        };
        match action {
            Action::Auto => self.back_to_schedules(paths, group, task),
            Action::CountDown(length) => self.count_down(paths, group, length, task),
            Action::CancelCountdown => self.cancel_countdown(paths, group, task),
            Action::Switch(_) | Action::OnFor(_) | Action::OffFor(_) => self.switch(paths, group, task),
            Action::Read
            | Action::Reboot
            | Action::ChangeSetting(_)
            | Action::Thermostat(_)
            | Action::Heat(_) => {}
        }
    }

    fn scope(&self, command: &Command) -> Result<Scope, CommandError> {
        let path = match &command.target {
            Target::Group(id) => {
                let rules = self.state.rules.in_force();
                let group = rules.group(id).ok_or_else(|| unknown_group(id))?;
                return Ok(Scope::Outlets(group.outlets.clone(), Some(id.clone())));
            }
            Target::Outlet(path) => path.clone(),
        };
        if self.state.rules.group_of(&path).is_some() {
            return Ok(Scope::Outlets(vec![path], None));
        }
        let plain = matches!(command.action, Action::Switch(_)) && command.lifetime.is_none();
        if !self.state.relays.is_configured(&path.device) {
            // Nothing is kept for a device that is not there.
            let message = format!("no device {} is configured", path.device);
            return Err(CommandError::bridge(ErrorCode::UnknownDevice, message));
        }
        if self.state.relays.is_hub(&path.device) {
            return Err(CommandError::no_outlets(&path));
        }
        if path.outlet.is_some() {
            let Some(outlet) = self.state.outlet(&path) else {
                // Its device knows what outlets it has.
                return if plain {
                    Ok(Scope::Device(path))
                } else {
                    Err(self.unknown_outlet(&path))
                };
            };
            let free = plain && outlet.timer.is_none() && outlet.is_idle();
            return Ok(if free {
                Scope::Device(path)
            } else {
                Scope::Outlets(vec![path], None)
            });
        }
        let outlets = self.state.relays.outlets(&path.device);
        let decided = |outlet: &OutletPath| {
            let known = self.state.outlet(outlet);
            self.state.rules.group_of(outlet).is_some()
                || known.is_some_and(|known| known.timer.is_some() || !known.is_idle())
        };
        if plain && !outlets.iter().any(decided) {
            return Ok(Scope::Device(path));
        }
        let reached = outlets.iter().any(|outlet| {
            self.state
                .outlet(outlet)
                .is_some_and(|known| known.power.is_some())
        });
        if reached || self.state.relays.is_strip(&path.device) {
            return Ok(Scope::Outlets(outlets, None));
        }
        let message = format!("{path} has not been reached yet, so its outlets are not known");
        Err(CommandError::bridge(ErrorCode::NotReady, message))
    }

    fn unknown_outlet(&self, path: &OutletPath) -> CommandError {
        self.state.relays.missing(path).unwrap_or_else(|| {
            let message = format!(
                "{} has not been reached yet, so its outlets are not known",
                path.device
            );
            CommandError::bridge(ErrorCode::NotReady, message)
        })
    }

    /// Passes a command on as it is: the worker of the device replies.
    fn forward(&mut self, path: OutletPath, action: DeviceAction, deadline: Instant, reply: Reply) {
        self.state.push(Effect::Forward(DeviceCommand {
            path,
            action,
            run: RunLimit::default(),
            source: Source::Mqtt,
            deadline,
            reply,
            turn: None,
        }));
    }

    /// Reads and restarts change nothing that the scheduler decides.
    fn forward_to_all(&mut self, command: Command, action: DeviceAction) {
        let parts = match command.target {
            Target::Outlet(path) => vec![(path, command.reply)],
            Target::Group(id) => match self.state.rules.in_force().group(&id) {
                Some(group) => command.reply.split(group.outlets.clone()),
                None => return command.reply.send(Err(unknown_group(&id))),
            },
        };
        for (path, reply) in parts {
            self.forward(path, action, command.deadline, reply);
        }
    }

    // ---- switching

    fn switch(&mut self, paths: Vec<OutletPath>, group: Option<GroupId>, task: CommandTask) {
        let Some(power) = self.wanted(&paths, task.action) else {
            let message = "the present state is not known, so it cannot be toggled; send ON or OFF";
            return refuse(task.reply, ErrorCode::NotReady, message.to_owned());
        };
        if power == Power::On && self.are_rivals(&paths) {
            let message = "at most one outlet of the group may be on; switch on one of them";
            return refuse(task.reply, ErrorCode::BadCommand, message.to_owned());
        }
        let changes: Result<Vec<CommandChange>, String> =
            paths.iter().map(|path| self.change(path, power, &task)).collect();
        let changes = match changes {
            Ok(changes) => changes,
            Err(message) => return refuse(task.reply, ErrorCode::BadCommand, message),
        };
        let announcement = self.announcement(&paths, group.as_ref(), power, changes.first());
        let id = self
            .state
            .commands
            .open(paths.clone(), group, announcement, task.reply);
        // All of them before the first is switched: it may have the turn of another.
        for path in paths.iter().rev() {
            Completion::new(self.state, self.now).withdraw_waiting(path);
            if power == Power::On {
                for rival in self.state.rivals(path).cloned().collect::<Vec<_>>() {
                    Completion::new(self.state, self.now).withdraw_waiting(&rival);
                }
            }
        }
        for (index, (path, change)) in paths.into_iter().zip(changes).enumerate() {
            let member = PendingMember { command: id, index };
            let Some(relay) = self.state.relay(&path).cloned() else {
                let error = self.unknown_outlet(&path);
                Completion::new(self.state, self.now).complete_unnamed(member, Err(error));
                continue;
            };
            match self.state.allow(&path, power, self.now) {
                Ok(()) => self.begin(member, &path, relay, power, change, task.deadline),
                Err(refusal) => {
                    Completion::new(self.state, self.now).refuse_for_limit(member, &relay, refusal);
                }
            }
        }
    }

    fn are_rivals(&self, paths: &[OutletPath]) -> bool {
        let is_rival = |path: &OutletPath| self.state.rivals(path).any(|rival| paths.contains(rival));
        paths.iter().any(is_rival)
    }

    /// What a command makes of its outlets. A toggle is decided here, once: OFF when any of them is on.
    fn wanted(&self, paths: &[OutletPath], action: Action) -> Option<Power> {
        match action {
            Action::Switch(Switch::To(power)) => Some(power),
            Action::OnFor(_) => Some(Power::On),
            Action::OffFor(_) => Some(Power::Off),
            Action::Switch(Switch::Toggle) => {
                let coming = |path: &OutletPath| {
                    let relay = self.state.relay(path)?;
                    let waiting = self.state.commands.waiting(relay).map(|waiting| waiting.power);
                    waiting.or_else(|| self.state.outlets.get(relay)?.coming())
                };
                paths.iter().filter_map(coming).max().map(Power::toggled)
            }
            Action::Auto
            | Action::CountDown(_)
            | Action::CancelCountdown
            | Action::Read
            | Action::Reboot
            | Action::ChangeSetting(_)
            | Action::Thermostat(_)
            | Action::Heat(_) => None,
        }
    }

    fn change(&self, path: &OutletPath, power: Power, task: &CommandTask) -> Result<CommandChange, String> {
        let lifetime = match task.action {
            Action::OnFor(_) | Action::OffFor(_) if task.lifetime.is_some() => {
                return Err("on_time and off_time go with no lifetime".to_owned());
            }
            Action::OnFor(length) | Action::OffFor(length) => Some(Lifetime::For(period(length)?)),
            _ => task.lifetime,
        };
        if self.state.rules.scheduled(path).is_some() {
            let new = Override::new(
                power.into(),
                lifetime.unwrap_or_default(),
                Origin::Command,
                self.now,
            );
            return new
                .map(CommandChange::Override)
                .map_err(|error| error.to_string());
        }
        let Some(lifetime) = lifetime else {
            return Ok(CommandChange::EndTimer);
        };
        Timer::for_lifetime(path, power, lifetime, self.now).map(CommandChange::Timer)
    }

    /// Makes the change provisionally, and commands the device or waits for the turn.
    fn begin(
        &mut self,
        member: PendingMember,
        path: &OutletPath,
        relay: RelayId,
        power: Power,
        change: CommandChange,
        deadline: Steady,
    ) {
        let keeps = self.apply(member.command, path, change);
        let rules = self.state.rules.in_force().clone();
        let group = self.state.rules.group_in(&rules, path);
        if let (Power::Off, Some(group)) = (power, group)
            && let Some(state) = self.state.groups.get_mut(&group.id)
        {
            state.energy.dismiss(path);
        }
        let Some(outlet) = self.state.outlets.get_mut(&relay) else {
            return;
        };
        outlet.pending = Some(member);
        let disk = self.state.disk_wait(outlet_end(change), &relay, self.now);
        let Some(outlet) = self.state.outlets.get(&relay) else {
            return;
        };
        let closes = power == Power::On && outlet.power != Some(Power::On);
        let mut waiting = WaitingMember {
            at: self.now.steady,
            member,
            relay,
            power,
            deadline,
            disk,
        };
        if closes
            && let Some(group) = group
            && let Some(state) = self.state.groups.get_mut(&group.id)
        {
            waiting.at = state.turns.reserve(group, self.now.steady);
            // Its time to live counts from its turn on.
            waiting.deadline = deadline.after(waiting.at.since(self.now.steady));
        }
        let in_the_way = power == Power::On && self.state.rival_in_the_way(path).is_some();
        if waiting.at > self.now.steady || in_the_way || waiting.disk.is_some() {
            self.state.commands.wait(waiting);
            return self.state.mark(path);
        }
        self.state.send_switch(
            path,
            power,
            Purpose::Command(member.command),
            Source::Mqtt,
            deadline,
            self.now,
        );
        if keeps {
            self.state.mark(path);
        } else {
            self.state.mark_for_result(path, Some(power), self.now);
        }
    }

    /// Changes overrides and timers provisionally. Returns whether there is an end to keep before a device confirms it.
    fn apply(&mut self, command: CommandId, path: &OutletPath, change: CommandChange) -> bool {
        let now = self.now;
        let Some(relay) = self.state.relay(path).cloned() else {
            return false;
        };
        let Some(outlet) = self.state.outlets.get_mut(&relay) else {
            return false;
        };
        self.state.commands.note_change(command, relay);
        let earlier = outlet.undo;
        let (overridden, timer) = (outlet.overridden, outlet.timer.take());
        let before = match (earlier.map(|undo| undo.overridden), change) {
            (Some(before @ Before::Was(_)), _) => before,
            (_, CommandChange::Override(_)) => Before::Was(overridden),
            (_, CommandChange::Timer(_) | CommandChange::EndTimer) => Before::Untouched,
        };
        outlet.undo = Some(Undo {
            command,
            overridden: before,
            timer: earlier.map_or(timer, |undo| undo.timer),
        });
        match change {
            CommandChange::Override(new) => {
                outlet.overridden = Some(new);
                timer.is_some() || new.named_end().is_some()
            }
            CommandChange::Timer(new) => {
                outlet.timer = Some(new);
                let until = self.state.show(Some(new.ends.wall(now)));
                debug!(outlet = %path, until, "timed {}", new.until_then());
                true
            }
            CommandChange::EndTimer => timer.is_some(),
        }
    }

    /// The text of the event once the override is confirmed.
    fn announcement(
        &self,
        paths: &[OutletPath],
        group: Option<&GroupId>,
        power: Power,
        change: Option<&CommandChange>,
    ) -> Option<String> {
        let (Some(CommandChange::Override(new)), [first, ..]) = (change, paths) else {
            return None;
        };
        let of = self.state.rules.scheduled(first)?;
        let end = new.end(of, &self.state.rules.in_force().location, self.now);
        let what = group.map_or_else(|| first.to_string(), |group| format!("group {group}"));
        Some(format!(
            "{what} is overridden to {power} until {}",
            self.state.show(end)
        ))
    }

    // ---- back to the schedules

    /// `AUTO`: the override ends now.
    fn back_to_schedules(&mut self, paths: Vec<OutletPath>, group: Option<GroupId>, task: CommandTask) {
        if !paths
            .iter()
            .any(|path| self.state.rules.scheduled(path).is_some())
        {
            let message = "there are no schedules to go back to";
            return refuse(task.reply, ErrorCode::BadCommand, message.to_owned());
        }
        self.state.clear_overrides(&paths, "by AUTO", self.now);
        for path in &paths {
            let Some(outlet) = self.state.outlet_mut(path) else {
                continue;
            };
            // What follows is a command's.
            outlet.closed_at = None;
            outlet.timer = outlet.timer.filter(|timer| timer.is_over(self.now));
        }
        self.answer_what_follows(paths, group, task.reply);
    }

    /// Nothing is switched by the command itself: the next look decides.
    fn answer_what_follows(&mut self, paths: Vec<OutletPath>, group: Option<GroupId>, reply: Reply) {
        let id = self.state.commands.open(paths.clone(), group, None, reply);
        for (index, path) in paths.into_iter().enumerate() {
            let member = PendingMember { command: id, index };
            match self.state.outlet_mut(&path) {
                // The look that follows knows what it leads to.
                Some(outlet) if outlet.returning.is_none() => {
                    outlet.returning = Some(member);
                    self.state.mark(&path);
                }
                _ => Completion::new(self.state, self.now).complete_unasked(member, &path),
            }
        }
    }

    // ---- thermostats

    /// A target, a mode or a preset: an override of each outlet.
    fn heat(&mut self, command: Command, change: HeatingChange, deadline: Steady) {
        let Target::Group(id) = command.target else {
            let message = "only a group has a thermostat; send this to group/<group>/set";
            return refuse(command.reply, ErrorCode::BadCommand, message.to_owned());
        };
        let rules = self.state.rules.in_force().clone();
        let Some(group) = rules.group(&id) else {
            return command.reply.send(Err(unknown_group(&id)));
        };
        let Some(thermostat) = &group.thermostat else {
            let message = format!("group {id} has no [group.thermostat]");
            return refuse(command.reply, ErrorCode::BadCommand, message);
        };
        let paths = group.outlets.clone();
        let plan = self.state.groups.get(&id).and_then(|group| group.plan());
        let state = HeatingState {
            thermostat,
            target: plan.and_then(|plan| plan.thermostat?.target()),
            overridden: paths.iter().find_map(|path| self.state.outlet(path)?.overridden),
            now: self.now,
        };
        let task = CommandTask {
            action: command.action,
            lifetime: command.lifetime,
            deadline,
            reply: command.reply,
        };
        match state.change(change, task.lifetime) {
            Err(message) => refuse(task.reply, ErrorCode::BadCommand, message),
            Ok(HeatingOutcome::Auto) => self.back_to_schedules(paths, Some(id), task),
            Ok(HeatingOutcome::Unchanged) => self.answer_what_follows(paths, Some(id), task.reply),
            Ok(HeatingOutcome::Held(new)) => {
                let end = self.state.show(new.end(group, &rules.location, self.now));
                let message = format!("group {id} is overridden to {change} until {end}");
                self.hold(&paths, new);
                self.state
                    .event_of(EventKind::OverrideSet, None, Some(id.clone()), message, self.now);
                self.answer_what_follows(paths, Some(id), task.reply);
            }
        }
    }

    /// An override that switches nothing by itself.
    fn hold(&mut self, paths: &[OutletPath], new: Override) {
        for path in paths {
            Completion::new(self.state, self.now).withdraw(path);
            self.state.set_override(path, new);
            if let Some(outlet) = self.state.outlet_mut(path) {
                // What follows is a command's.
                outlet.closed_at = None;
                outlet.timer = outlet.timer.filter(|timer| timer.is_over(self.now));
            }
        }
    }

    // ---- countdowns

    /// Starts a countdown on those that are on. What is off is not switched on by a number.
    fn count_down(
        &mut self,
        paths: Vec<OutletPath>,
        group: Option<GroupId>,
        length: std::time::Duration,
        task: CommandTask,
    ) {
        let power = |path: &OutletPath| self.state.outlet(path).and_then(OutletState::coming);
        if paths.iter().all(|path| power(path) != Some(Power::On)) {
            let known = paths.iter().any(|path| power(path).is_some());
            return task.reply.send(Err(nothing_is_on(&paths, known)));
        }
        let ends = match period(length) {
            Ok(length) => Deadline::Steady(self.now.steady.after(length.length())),
            Err(message) => return refuse(task.reply, ErrorCode::BadCommand, message),
        };
        let timer = Timer::countdown(self.now, ends);
        let id = self.state.commands.open(paths.clone(), group, None, task.reply);
        for (index, path) in paths.into_iter().enumerate() {
            let member = PendingMember { command: id, index };
            let is_on = self.state.outlet(&path).and_then(OutletState::coming) == Some(Power::On);
            if is_on {
                Completion::new(self.state, self.now).withdraw_waiting(&path);
                self.apply(id, &path, CommandChange::Timer(timer));
            }
            let outlet = self.state.outlet_mut(&path);
            if let Some(outlet) = outlet.filter(|outlet| is_on && outlet.has_to_be_armed()) {
                outlet.pending = Some(member);
                let arm = DeviceAction::CountDown;
                self.state.send_countdown(&path, arm, id, task.deadline, self.now);
                self.state.mark(&path);
            } else {
                // The bridge alone ends it, or the worker takes the new end over with the next look.
                Completion::new(self.state, self.now).complete_unasked(member, &path);
            }
        }
    }

    /// Ends countdowns: ours, and one that something else started on the device. A limit that holds goes on holding.
    fn cancel_countdown(&mut self, paths: Vec<OutletPath>, group: Option<GroupId>, task: CommandTask) {
        let id = self.state.commands.open(paths.clone(), group, None, task.reply);
        for (index, path) in paths.into_iter().enumerate() {
            let member = PendingMember { command: id, index };
            let Some(outlet) = self.state.outlet(&path) else {
                Completion::new(self.state, self.now).complete_unasked(member, &path);
                continue;
            };
            let runs = outlet.timer.is_some_and(|timer| timer.to == Power::Off);
            let counts = outlet.countdown.runs();
            if runs {
                Completion::new(self.state, self.now).withdraw_waiting(&path);
                self.apply(id, &path, CommandChange::EndTimer);
            }
            if counts {
                if let Some(outlet) = self.state.outlet_mut(&path) {
                    outlet.pending = Some(member);
                }
                let cancel = DeviceAction::CancelCountdown;
                self.state
                    .send_countdown(&path, cancel, id, task.deadline, self.now);
            } else {
                Completion::new(self.state, self.now).complete_unasked(member, &path);
            }
        }
    }
}

/// The timer that ends a run.
fn outlet_end(change: CommandChange) -> Option<Timer> {
    match change {
        CommandChange::Timer(timer) => Some(timer),
        CommandChange::Override(_) | CommandChange::EndTimer => None,
    }
}

fn period(length: std::time::Duration) -> Result<Period, String> {
    let length = SignedDuration::try_from(length).map_err(|error| error.to_string())?;
    Period::new(length).map_err(|error| error.to_string())
}

fn refuse(reply: Reply, code: ErrorCode, message: String) {
    reply.send(Err(CommandError::bridge(code, message)));
}

fn unknown_group(id: &GroupId) -> CommandError {
    CommandError::bridge(ErrorCode::UnknownGroup, format!("no group {id} is configured"))
}

fn nothing_is_on(paths: &[OutletPath], known: bool) -> CommandError {
    let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    if known {
        let hint = r#"send {"state":"ON","on_time":600} to switch it on for a while"#;
        let are = if paths.len() == 1 { "is" } else { "are" };
        let message = format!("{names} {are} off, so nothing counts down; {hint}");
        CommandError::bridge(ErrorCode::BadCommand, message)
    } else {
        let message = format!("{names} was not read yet, so its state is not known");
        CommandError::bridge(ErrorCode::NotReady, message)
    }
}
