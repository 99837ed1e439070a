//! Commands to switch: limits may refuse them, and where there are schedules they are overrides.

use jiff::SignedDuration;
use tracing::info;

use super::{
    Concern, Look, Scheduler,
    book::Keeping,
    errand::{Before, Deferred, Errand, ErrandId, Item, Standing, Undo, answer},
    outlet::Live,
    timer::Timer,
};
use crate::domain::{
    command::{Action, Command, Target},
    command_error::{CommandError, ErrorCode},
    device_command::{DeviceAction, DeviceCommand, Guard, Source, Switch},
    reply::{Applied, MemberResult},
    report::EventKind,
};
use planner::{
    GroupId, OutletPath, Power,
    overrides::{Lifetime, Origin, Override},
    period::Period,
    safety::{Cause, Refusal},
};

/// Who carries a command out.
enum Scope {
    /// The device owner alone: no group, no timer, nothing to decide.
    Owner(OutletPath),
    /// The scheduler, outlet by outlet.
    Outlets(Vec<OutletPath>, Option<GroupId>),
}

/// What a command does to one outlet beside switching it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    Override(Override),
    Timer(Timer),
    /// A timer that runs ends.
    Plain,
}

impl Scheduler {
    pub(super) fn wish(&mut self, wish: Command, look: Look) -> Concern {
        let action = match wish.action {
            Action::Read => DeviceAction::Read,
            Action::Reboot => DeviceAction::Reboot,
            _ => return self.switch_command(wish, look),
        };
        self.pass_to_devices(wish, action);
        Concern::None
    }

    /// Reads and restarts change nothing that the scheduler decides.
    fn pass_to_devices(&mut self, wish: Command, action: DeviceAction) {
        let parts = match wish.target {
            Target::Outlet(path) => vec![(path, wish.reply)],
            Target::Group(id) => {
                let Some(group) = self.book.rules.group(&id) else {
                    let message = format!("no group {id} is configured");
                    let error = CommandError::bridge(ErrorCode::UnknownGroup, message);
                    return wish.reply.send(Err(error));
                };
                wish.reply.split(group.outlets.clone())
            }
        };
        for (path, reply) in parts {
            self.order(DeviceCommand {
                path,
                action,
                guard: Guard::Leave,
                source: Source::Mqtt,
                deadline: wish.deadline,
                reply,
            });
        }
    }

    fn switch_command(&mut self, wish: Command, look: Look) -> Concern {
        match self.scope(&wish) {
            Err(failure) => {
                wish.reply.send(Err(failure));
                return Concern::None;
            }
            Ok(Scope::Owner(path)) => {
                self.forward(path, wish, look);
                return Concern::None;
            }
            Ok(Scope::Outlets(paths, group)) => match wish.action {
                Action::Auto => self.back_to_schedules(&paths, group.as_ref(), wish, look),
                Action::CountDown(length) => self.count_down(&paths, group, length, wish, look),
                Action::CancelCountdown => self.cancel_countdown(&paths, group, wish, look),
                Action::Read | Action::Reboot => {}
                Action::Switch(_) | Action::OnFor(_) | Action::OffFor(_) => {
                    self.carry_out(paths, group, wish, look);
                }
            },
        }
        Concern::Some
    }

    fn scope(&self, wish: &Command) -> Result<Scope, CommandError> {
        let path = match &wish.target {
            Target::Group(id) => {
                let group = self.book.rules.group(id).ok_or_else(|| {
                    CommandError::bridge(ErrorCode::UnknownGroup, format!("no group {id} is configured"))
                })?;
                return Ok(Scope::Outlets(group.outlets.clone(), Some(id.clone())));
            }
            Target::Outlet(path) => path.clone(),
        };
        match self.book.keeping(&path) {
            Keeping::Member => return Ok(Scope::Outlets(vec![path], None)),
            Keeping::Part(group) => {
                let message = format!(
                    "group {} has {} as a whole; switch that, or the group",
                    group.id, path.device
                );
                return Err(CommandError::bridge(ErrorCode::BadCommand, message));
            }
            Keeping::Free => {}
        }
        let plain = matches!(wish.action, Action::Switch(_)) && wish.lifetime.is_none();
        if path.outlet.is_some() {
            let timed = self.book.timers.contains_key(&path);
            return Ok(if plain && !timed {
                Scope::Owner(path)
            } else {
                Scope::Outlets(vec![path], None)
            });
        }
        let ours = |outlet: &OutletPath| outlet.device == path.device;
        let members = self.book.rules.groups.iter().flat_map(|group| &group.outlets);
        let kept = members.chain(self.book.timers.keys()).any(ours);
        if plain && !kept {
            return Ok(Scope::Owner(path));
        }
        match self.devices.get(&path.device) {
            Some(outlets) if !outlets.is_empty() => Ok(Scope::Outlets(outlets.clone(), None)),
            _ => {
                let message = format!("{path} has not been reached yet, so its outlets are not known");
                Err(CommandError::bridge(ErrorCode::NotReady, message))
            }
        }
    }

    /// Passes a command on as it is: the device owner answers its reply.
    fn forward(&mut self, path: OutletPath, wish: Command, look: Look) {
        let Action::Switch(switch) = wish.action else {
            return;
        };
        let guard = match switch {
            Switch::To(power) if self.live.contains_key(&path) => self.guard_with(&path, power, look),
            Switch::To(_) | Switch::Toggle => Guard::Leave,
        };
        self.order(DeviceCommand {
            path,
            action: DeviceAction::Switch(switch),
            guard,
            source: Source::Mqtt,
            deadline: wish.deadline,
            reply: wish.reply,
        });
    }

    fn carry_out(&mut self, paths: Vec<OutletPath>, group: Option<GroupId>, wish: Command, look: Look) {
        let Some(power) = self.wanted(&paths, wish.action) else {
            let message = "what it is now is not known, so it cannot be toggled; send ON or OFF";
            wish.reply
                .send(Err(CommandError::bridge(ErrorCode::NotReady, message)));
            return;
        };
        if power == Power::On && self.are_rivals(&paths) {
            let message = "at most one outlet of the group may be on; switch on one of them";
            wish.reply
                .send(Err(CommandError::bridge(ErrorCode::BadCommand, message)));
            return;
        }
        let effects: Result<Vec<Effect>, String> = paths
            .iter()
            .map(|path| self.effect(path, power, &wish, look))
            .collect();
        let effects = match effects {
            Ok(effects) => effects,
            Err(message) => {
                wish.reply
                    .send(Err(CommandError::bridge(ErrorCode::BadCommand, message)));
                return;
            }
        };
        let id = self.desk.errand_id();
        let item = |path: &OutletPath| Item {
            path: path.clone(),
            outcome: None,
        };
        let errand = Errand {
            items: paths.iter().map(item).collect(),
            overriding: self.describe(&paths, group.as_ref(), power, effects.first()),
            reply: wish.reply,
            group,
            standing: Standing::Provisional,
        };
        self.desk.errands.insert(id, errand);
        // All of them before the first is switched: it may have the turn of another.
        for path in paths.iter().rev() {
            self.supersede_deferred(path, look);
            if power == Power::On {
                for rival in self.rivals(path).cloned().collect::<Vec<_>>() {
                    self.supersede_deferred(&rival, look);
                }
            }
        }
        for (path, effect) in paths.into_iter().zip(effects) {
            match self.allow(&path, power, look) {
                Ok(()) => self.set_out(id, path, power, effect, wish.deadline, look),
                Err(refusal) => self.refuse(id, &path, refusal, look),
            }
        }
    }

    /// What a command makes of its outlets. A toggle is decided here, once: off when any of them is on.
    fn wanted(&self, paths: &[OutletPath], change: Action) -> Option<Power> {
        match change {
            Action::Switch(Switch::To(power)) => Some(power),
            Action::OnFor(_) => Some(Power::On),
            Action::OffFor(_) => Some(Power::Off),
            Action::Switch(Switch::Toggle) => {
                let coming = paths
                    .iter()
                    .filter_map(|path| self.deferred_power(path).or(self.live.get(path)?.coming()));
                coming.max().map(Power::toggled)
            }
            Action::Auto | Action::CountDown(_) | Action::CancelCountdown | Action::Read | Action::Reboot => {
                None
            }
        }
    }

    fn deferred_power(&self, path: &OutletPath) -> Option<Power> {
        let deferred = self.desk.deferred.iter().find(|deferred| deferred.path == *path);
        deferred.map(|deferred| deferred.power)
    }

    fn effect(&self, path: &OutletPath, power: Power, wish: &Command, look: Look) -> Result<Effect, String> {
        let lifetime = match wish.action {
            Action::OnFor(_) | Action::OffFor(_) if wish.lifetime.is_some() => {
                return Err("on_time and off_time go with no lifetime".to_owned());
            }
            Action::OnFor(length) | Action::OffFor(length) => {
                let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
                Some(Lifetime::For(
                    Period::new(length).map_err(|error| error.to_string())?,
                ))
            }
            Action::Switch(_)
            | Action::Auto
            | Action::CountDown(_)
            | Action::CancelCountdown
            | Action::Read
            | Action::Reboot => wish.lifetime,
        };
        if self.book.scheduled(path).is_some() {
            let lifetime = lifetime.unwrap_or_default();
            let new = Override::new(power.into(), lifetime, Origin::Command, look.now);
            return new.map(Effect::Override).map_err(|error| error.to_string());
        }
        let Some(lifetime) = lifetime else {
            return Ok(Effect::Plain);
        };
        Timer::of(path, power, lifetime, look.now).map(Effect::Timer)
    }

    /// Whether the limits in force allow an outlet to be switched so. OFF is always allowed.
    pub(super) fn allow(&self, path: &OutletPath, power: Power, look: Look) -> Result<(), Refusal> {
        let Some(plan) = self.book.plan.outlets.get(path).filter(|_| power == Power::On) else {
            return Ok(());
        };
        let zone = &self.book.rules.location.zone;
        self.book
            .safety
            .account(path)
            .allow_on(&plan.limits, look.now, zone)?;
        self.rations_allow(path, look)
    }

    /// Answers that a limit forbids it, and when it will be possible.
    pub(super) fn refuse(&mut self, id: ErrandId, path: &OutletPath, refusal: Refusal, look: Look) {
        let when = match refusal.possible_at {
            Some(at) => format!("possible again at {}", self.in_words(Some(at))),
            None if refusal.cause == Cause::PowerLimit => "possible when the others draw less".to_owned(),
            None => "possible some time after it is confirmed off".to_owned(),
        };
        let message = format!("{path} may not be on now: {refusal}; {when}");
        self.refuse_for_safety(id, path, message, look);
    }

    /// Tells and answers that an outlet may not be switched.
    pub(super) fn refuse_for_safety(&mut self, id: ErrandId, path: &OutletPath, message: String, look: Look) {
        let group = self.book.rules.group_of(path).map(|group| group.id.clone());
        self.tell_event(
            EventKind::RefusedBySafety,
            Some(path),
            group,
            message.clone(),
            look,
        );
        let failure = CommandError::bridge(ErrorCode::RefusedBySafety, message);
        self.complete(id, path, Err(failure), look);
    }

    /// Makes the change provisionally, and asks the device or waits for its turn.
    fn set_out(
        &mut self,
        id: ErrandId,
        path: OutletPath,
        power: Power,
        effect: Effect,
        deadline: tokio::time::Instant,
        look: Look,
    ) {
        self.take_effect(id, &path, effect);
        if power == Power::Off {
            self.book.rations.dismiss(&path);
        }
        let live = self.live.entry(path.clone()).or_default();
        live.errand = Some(id);
        let closes = power == Power::On && live.power != Some(Power::On);
        let mut member = Deferred {
            at: look.instant,
            errand: id,
            path,
            power,
            deadline,
        };
        if closes && let Some(at) = self.take_slot(&member.path, look.instant) {
            // Its time to live counts from its turn on.
            member.deadline += at.duration_since(look.instant);
            member.at = at;
            self.desk.deferred.push(member);
            return;
        }
        if power == Power::On && self.in_its_way(&member.path).is_some() {
            self.desk.deferred.push(member);
            return;
        }
        self.send_member(&member, look);
    }

    /// Changes overrides and timers provisionally.
    pub(super) fn take_effect(&mut self, id: ErrandId, path: &OutletPath, effect: Effect) {
        let earlier = self.desk.undo.get(path).copied();
        let now = (
            self.book.overrides.get(path).copied(),
            self.book.timers.remove(path),
        );
        let overridden = match (earlier.map(|undo| undo.overridden), effect) {
            (Some(before @ Before::Was(_)), _) => before,
            (_, Effect::Override(_)) => Before::Was(now.0),
            (_, Effect::Timer(_) | Effect::Plain) => Before::Untouched,
        };
        let undo = Undo {
            errand: id,
            overridden,
            timer: earlier.map_or(now.1, |undo| undo.timer),
        };
        self.desk.undo.insert(path.clone(), undo);
        match effect {
            Effect::Override(new) => self.book.overrides.set(path.clone(), new),
            Effect::Timer(timer) => {
                let until = self.in_words(Some(timer.at));
                info!(outlet = %path, until, "timed {}", timer.until_then());
                self.book.timers.insert(path.clone(), timer);
            }
            Effect::Plain => {}
        }
    }

    /// `AUTO`: the override ends now.
    fn back_to_schedules(
        &mut self,
        paths: &[OutletPath],
        group: Option<&GroupId>,
        wish: Command,
        look: Look,
    ) {
        if !paths.iter().any(|path| self.book.scheduled(path).is_some()) {
            let message = "there are no schedules to go back to";
            wish.reply
                .send(Err(CommandError::bridge(ErrorCode::BadCommand, message)));
            return;
        }
        self.clear_overrides(paths, "by AUTO", look);
        for path in paths {
            self.book.timers.remove(path);
        }
        let done = |path: &OutletPath| -> MemberResult {
            let power = self.live.get(path).and_then(Live::observed);
            (path.clone(), Ok(Applied::unasked(path, power)))
        };
        let members = paths.iter().map(done).collect();
        answer(wish.reply, members, group);
    }

    /// Ends overrides, also those that no device has confirmed yet.
    pub(super) fn clear_overrides(&mut self, paths: &[OutletPath], how: &str, look: Look) -> usize {
        let mut ended = Vec::new();
        for path in paths {
            if let Some(undo) = self.desk.undo.get_mut(path) {
                undo.overridden = Before::Was(None);
            }
            if self.book.overrides.clear(path).is_some() {
                ended.push(path.clone());
            }
        }
        self.tell_overrides_ended(&ended, how, look);
        ended.len()
    }

    /// What an override is called when it stands.
    fn describe(
        &self,
        paths: &[OutletPath],
        group: Option<&GroupId>,
        power: Power,
        effect: Option<&Effect>,
    ) -> Option<String> {
        let (Some(Effect::Override(new)), [first, ..]) = (effect, paths) else {
            return None;
        };
        let of = self.book.scheduled(first)?;
        let end = self.in_words(new.end(of, &self.book.rules.location));
        let what = group.map_or_else(|| first.to_string(), |group| format!("group {group}"));
        Some(format!("{what} is overridden to {power} until {end}"))
    }
}
