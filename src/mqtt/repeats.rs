//! Commands with a transaction that were sent twice. Pure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::decode::{CommandPayload, Transaction};
use crate::domain::command::Target;

/// How long a command is remembered after its response.
const MEMORY: Duration = Duration::from_mins(1);
/// Commands that are remembered at most.
const COMMANDS_MAX: usize = 1000;

/// The commands with a transaction of the last minute. The same command again is not carried out again: same target,
/// same transaction and same payload. A different one with the same transaction is, and ends the memory of those before
/// it: OFF, ON, OFF from a client that always sends the same transaction are three commands.
#[derive(Debug, Default)]
pub(super) struct RepeatedCommands {
    commands: VecDeque<SeenCommand>,
}

#[derive(Debug)]
struct SeenCommand {
    target: Target,
    transaction: Transaction,
    payload: CommandPayload,
    /// `None` while the command is in progress.
    response: Option<(String, Instant)>,
}

/// How a command relates to those before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// The first of its kind: carry it out.
    New,
    /// The same command is in progress; its response is for both.
    InProgress,
    /// The same command was carried out; its response.
    Done(String),
}

impl RepeatedCommands {
    /// Looks for the same command, and remembers one that is new.
    pub(super) fn check(
        &mut self,
        target: &Target,
        transaction: &Transaction,
        payload: &CommandPayload,
        now: Instant,
    ) -> Repetition {
        let expired = |command: &SeenCommand| {
            let response = command.response.as_ref();
            response.is_some_and(|(_, at)| now.duration_since(*at) >= MEMORY)
        };
        self.commands.retain(|command| !expired(command));
        if let Some(position) = self.position(target, transaction, payload) {
            let response = self
                .commands
                .get(position)
                .and_then(|command| command.response.as_ref());
            return match response {
                Some((response, _)) => Repetition::Done(response.clone()),
                None => Repetition::InProgress,
            };
        }
        self.commands
            .retain(|command| command.transaction != *transaction || command.target != *target);
        if self.commands.len() >= COMMANDS_MAX {
            self.commands.pop_front();
        }
        self.commands.push_back(SeenCommand {
            target: target.clone(),
            transaction: transaction.clone(),
            payload: payload.clone(),
            response: None,
        });
        Repetition::New
    }

    /// Remembers the response to a command.
    pub(super) fn done(
        &mut self,
        target: &Target,
        transaction: &Transaction,
        payload: &CommandPayload,
        response: &str,
        now: Instant,
    ) {
        let position = self.position(target, transaction, payload);
        if let Some(command) = position.and_then(|position| self.commands.get_mut(position)) {
            command.response = Some((response.to_owned(), now));
        }
    }

    /// Forgets a command whose target does not exist.
    pub(super) fn forget(&mut self, target: &Target, transaction: &Transaction, payload: &CommandPayload) {
        if let Some(position) = self.position(target, transaction, payload) {
            self.commands.remove(position);
        }
    }

    fn position(
        &self,
        target: &Target,
        transaction: &Transaction,
        payload: &CommandPayload,
    ) -> Option<usize> {
        self.commands.iter().position(|command| {
            command.transaction == *transaction && command.target == *target && command.payload == *payload
        })
    }
}

#[cfg(test)]
mod tests {
    use planner::Power;

    use super::*;
    use crate::domain::{command::Action, device_command::Switch};

    fn outlet(path: &str) -> Target {
        Target::Outlet(path.parse().unwrap())
    }

    fn payload(action: Action) -> CommandPayload {
        CommandPayload {
            action,
            lifetime: None,
            ttl: Duration::from_secs(10),
        }
    }

    const ON: Action = Action::Switch(Switch::To(Power::On));
    const OFF: Action = Action::Switch(Switch::To(Power::Off));

    #[test]
    fn the_same_command_is_not_carried_out_twice_within_a_minute() {
        let (mut repeats, now) = (RepeatedCommands::default(), Instant::now());
        let (target, transaction) = (outlet("heater"), Transaction::Text("t".to_owned()));
        let check =
            |repeats: &mut RepeatedCommands, now| repeats.check(&target, &transaction, &payload(ON), now);
        assert_eq!(check(&mut repeats, now), Repetition::New);
        assert_eq!(check(&mut repeats, now), Repetition::InProgress);
        repeats.done(&target, &transaction, &payload(ON), "ok", now);
        assert_eq!(check(&mut repeats, now), Repetition::Done("ok".to_owned()));
        assert_eq!(check(&mut repeats, now + MEMORY), Repetition::New);
    }

    #[test]
    fn another_command_with_the_same_transaction_is_carried_out() {
        let (mut repeats, now) = (RepeatedCommands::default(), Instant::now());
        let transaction = Transaction::Text("t".to_owned());
        for (path, action) in [
            ("heater", Action::Read),
            ("heater", ON),
            ("heater", OFF),
            ("lamp", OFF),
            ("heater", ON),
            ("heater", OFF),
        ] {
            let (target, payload) = (outlet(path), payload(action));
            let repetition = repeats.check(&target, &transaction, &payload, now);
            assert_eq!(repetition, Repetition::New, "{path} {action}");
            repeats.done(&target, &transaction, &payload, "ok", now);
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut repeats, now) = (RepeatedCommands::default(), Instant::now());
        for number in 0..2 * COMMANDS_MAX {
            let transaction = Transaction::Number(number.into());
            repeats.check(&outlet("heater"), &transaction, &payload(ON), now);
        }
        assert_eq!(repeats.commands.len(), COMMANDS_MAX);
        let last = Transaction::Number((2 * COMMANDS_MAX - 1).into());
        repeats.forget(&outlet("heater"), &last, &payload(ON));
        assert_eq!(repeats.commands.len(), COMMANDS_MAX - 1);
    }
}
