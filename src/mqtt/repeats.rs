//! Commands with a transaction that were sent twice. Pure.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use planner::{OutletPath, Power};
use tokio::time::Instant;

use super::decode::{CommandPayload, Transaction};
use crate::domain::{
    command::{Action, Target},
    device_command::Switch,
};

/// How long a command is remembered after its response.
const MEMORY: Duration = Duration::from_mins(1);
/// Commands that are remembered at most.
const COMMANDS_MAX: usize = 1000;

/// The commands with a transaction of the last minute. The same command again is not carried out again: same target,
/// same transaction and same payload.
///
/// A different command to one of its outlets ends the memory of a command, with or without a transaction: OFF, ON, OFF
/// are three commands. So does the state of the outlet that of an OFF: it is a repetition only while the outlet is off.
#[derive(Debug, Default)]
pub(super) struct RepeatedCommands {
    commands: VecDeque<SeenCommand>,
    last: CommandNumber,
}

/// Distinguishes the commands that were received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CommandNumber(u64);

/// A command as it was received.
#[derive(Debug, Clone)]
pub(super) struct ReceivedCommand {
    pub(super) target: Target,
    /// What it is for: the members of a group, else the outlet or device.
    pub(super) outlets: BTreeSet<OutletPath>,
    /// The confirmed state of the target.
    pub(super) state: Option<Power>,
    pub(super) payload: CommandPayload,
    pub(super) transaction: Option<Transaction>,
}

#[derive(Debug)]
struct SeenCommand {
    number: CommandNumber,
    target: Target,
    outlets: BTreeSet<OutletPath>,
    transaction: Transaction,
    payload: CommandPayload,
    /// `None` while the command is in progress.
    response: Option<(String, Instant)>,
}

/// How a command relates to those before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// The first of its kind: carry it out.
    New(CommandNumber),
    /// The same command is in progress; its response is for both.
    InProgress,
    /// The same command was carried out; its response.
    Done(String),
}

impl RepeatedCommands {
    /// Looks for the same command, and remembers one that is new.
    pub(super) fn check(&mut self, command: &ReceivedCommand, now: Instant) -> Repetition {
        let expired = |seen: &SeenCommand| {
            let response = seen.response.as_ref();
            response.is_some_and(|(_, at)| now.duration_since(*at) >= MEMORY)
        };
        self.commands.retain(|seen| !expired(seen));
        match self.commands.iter().find(|seen| seen.is_same(command)) {
            Some(SeenCommand { response: None, .. }) => return Repetition::InProgress,
            Some(SeenCommand {
                response: Some((response, _)),
                ..
            }) if !command.must_be_carried_out() => return Repetition::Done(response.clone()),
            _ => {}
        }
        self.commands.retain(|seen| !seen.is_ended_by(command));
        self.last = CommandNumber(self.last.0 + 1);
        if let Some(transaction) = command.transaction.clone() {
            if self.commands.len() >= COMMANDS_MAX {
                self.commands.pop_front();
            }
            self.commands.push_back(SeenCommand {
                number: self.last,
                target: command.target.clone(),
                outlets: command.outlets.clone(),
                transaction,
                payload: command.payload.clone(),
                response: None,
            });
        }
        Repetition::New(self.last)
    }

    /// Remembers the response to a command.
    pub(super) fn done(&mut self, number: CommandNumber, response: &str, now: Instant) {
        let seen = self.commands.iter_mut().find(|seen| seen.number == number);
        if let Some(seen) = seen {
            seen.response = Some((response.to_owned(), now));
        }
    }
}

impl ReceivedCommand {
    /// Whether it is carried out although the same command was done before: a read, and an OFF of what may be on.
    fn must_be_carried_out(&self) -> bool {
        match self.payload.action {
            Action::Read => true,
            Action::Switch(Switch::To(Power::Off)) => self.state != Some(Power::Off),
            _ => false,
        }
    }
}

impl SeenCommand {
    fn is_same(&self, command: &ReceivedCommand) -> bool {
        Some(&self.transaction) == command.transaction.as_ref()
            && self.target == command.target
            && self.payload == command.payload
    }

    fn is_ended_by(&self, command: &ReceivedCommand) -> bool {
        if self.is_same(command) {
            return true;
        }
        let same_transaction =
            Some(&self.transaction) == command.transaction.as_ref() && self.target == command.target;
        let changes = command.payload.action != Action::Read && self.payload != command.payload;
        same_transaction || changes && self.shares_outlet(command)
    }

    fn shares_outlet(&self, command: &ReceivedCommand) -> bool {
        let same = |a: &OutletPath, b: &OutletPath| {
            a.device == b.device && (a.outlet.is_none() || b.outlet.is_none() || a.outlet == b.outlet)
        };
        self.outlets
            .iter()
            .any(|ours| command.outlets.iter().any(|path| same(ours, path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Action = Action::Switch(Switch::To(Power::On));
    const OFF: Action = Action::Switch(Switch::To(Power::Off));
    const TOGGLE: Action = Action::Switch(Switch::Toggle);

    /// To the group `all`, or to an outlet that is as the command wants it.
    fn command(path: &str, action: Action, transaction: &str) -> ReceivedCommand {
        let (target, outlets) = if path == "all" {
            let members = ["heater", "mats/1"].map(|path| path.parse().unwrap());
            (Target::Group("all".parse().unwrap()), members.into())
        } else {
            let path: OutletPath = path.parse().unwrap();
            (Target::Outlet(path.clone()), [path].into())
        };
        ReceivedCommand {
            target,
            outlets,
            state: Some(if action == ON { Power::On } else { Power::Off }),
            payload: CommandPayload {
                action,
                lifetime: None,
                ttl: Duration::from_secs(10),
            },
            transaction: (!transaction.is_empty()).then(|| Transaction::Text(transaction.to_owned())),
        }
    }

    /// Which of these commands are carried out; each is done before the next one comes.
    fn carried_out(commands: &[(&str, Action, &str)]) -> Vec<bool> {
        let (mut repeats, now) = (RepeatedCommands::default(), Instant::now());
        let mut is_new = |(path, action, transaction): &(&str, Action, &str)| match repeats
            .check(&command(path, *action, transaction), now)
        {
            Repetition::New(number) => {
                repeats.done(number, "ok", now);
                true
            }
            _ => false,
        };
        commands.iter().map(&mut is_new).collect()
    }

    #[test]
    fn the_same_command_is_not_carried_out_twice_within_a_minute() {
        let (mut repeats, now) = (RepeatedCommands::default(), Instant::now());
        let on = command("heater", ON, "t");
        let Repetition::New(number) = repeats.check(&on, now) else {
            panic!("the first is new");
        };
        assert_eq!(repeats.check(&on, now), Repetition::InProgress);
        repeats.done(number, "ok", now);
        assert_eq!(repeats.check(&on, now), Repetition::Done("ok".to_owned()));
        assert!(matches!(repeats.check(&on, now + MEMORY), Repetition::New(_)));
    }

    #[test]
    fn another_command_with_the_same_transaction_is_carried_out() {
        let commands = [
            ("heater", Action::Read, "t"),
            ("heater", ON, "t"),
            ("heater", OFF, "t"),
            ("lamp", OFF, "t"),
            ("heater", ON, "t"),
            ("heater", OFF, "t"),
        ];
        assert_eq!(carried_out(&commands), [true; 6]);
    }

    #[test]
    fn a_command_after_a_different_one_is_no_repetition() {
        for other in [
            ("mats/1", ON, "b"),
            ("mats/1", ON, ""),
            ("mats/1", Action::OnFor(MEMORY), "a"),
            ("mats", ON, "b"),
            ("all", TOGGLE, "b"),
        ] {
            let commands = [("mats/1", OFF, "a"), other, ("mats/1", OFF, "a")];
            assert_eq!(carried_out(&commands), [true; 3], "{other:?}");
        }
    }

    #[test]
    fn commands_to_other_outlets_and_equal_ones_end_no_memory() {
        for other in [
            ("mats/2", ON, "b"),
            ("heater", ON, "a"),
            ("mats/1", TOGGLE, "b"),
            ("mats/1", Action::Read, "b"),
        ] {
            let commands = [("mats/1", TOGGLE, "a"), other, ("mats/1", TOGGLE, "a")];
            assert_eq!(carried_out(&commands), [true, true, false], "{other:?}");
        }
    }

    #[test]
    fn an_off_is_a_repetition_only_while_the_outlet_is_off() {
        for (state, repeated) in [(Some(Power::Off), false), (Some(Power::On), true), (None, true)] {
            let (mut repeats, now) = (RepeatedCommands::default(), Instant::now());
            let mut off = command("heater", OFF, "t");
            let Repetition::New(number) = repeats.check(&off, now) else {
                panic!("the first is new");
            };
            off.state = state;
            assert_eq!(repeats.check(&off, now), Repetition::InProgress, "{state:?}");
            repeats.done(number, "ok", now);
            let carried_out = matches!(repeats.check(&off, now), Repetition::New(_));
            assert_eq!(carried_out, repeated, "{state:?}");
        }
    }

    #[test]
    fn the_response_belongs_to_the_command_that_got_it() {
        let (mut repeats, now) = (RepeatedCommands::default(), Instant::now());
        let off = command("heater", OFF, "t");
        let Repetition::New(first) = repeats.check(&off, now) else {
            panic!("the first is new");
        };
        repeats.check(&command("heater", ON, ""), now);
        assert!(matches!(repeats.check(&off, now), Repetition::New(_)));
        repeats.done(first, "superseded", now);
        assert_eq!(repeats.check(&off, now), Repetition::InProgress);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut repeats, now) = (RepeatedCommands::default(), Instant::now());
        for number in 0..2 * COMMANDS_MAX {
            repeats.check(&command("heater", ON, &number.to_string()), now);
        }
        assert_eq!(repeats.commands.len(), COMMANDS_MAX);
    }
}
