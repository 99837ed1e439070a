//! Commands with a transaction that were sent twice. Pure.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use planner::{OutletPath, Power};
use tokio::time::Instant;

use super::{
    decode::{CommandPayload, Transaction},
    inbox::CommandContext,
};
use crate::domain::{
    command::{Action, Target},
    device_command::Switch,
};

/// How long a command is remembered after its response.
const MEMORY: Duration = Duration::from_mins(1);
/// Commands that are remembered at most.
const COMMANDS_MAX: usize = 1000;

/// The commands with a transaction of the last minute. The same command again is not carried out again: same target,
/// same transaction and same payload, whatever time it has.
///
/// A different command to one of its outlets ends the memory of a command, with or without a transaction: OFF, ON, OFF
/// are three commands. So does the state of the outlet that of an OFF: it is a repetition only while the outlet is off.
#[derive(Debug, Default)]
pub(super) struct RepeatedCommands {
    commands: VecDeque<SeenCommand>,
}

#[derive(Debug)]
struct SeenCommand {
    number: u64,
    target: Target,
    /// The members of a group, else the outlet or device.
    outlets: BTreeSet<OutletPath>,
    transaction: Transaction,
    payload: CommandPayload,
    /// `None` while the command is in progress.
    response: Option<SentResponse>,
    /// The response to the same command before, which failed.
    failed: Option<String>,
    /// A different command came: the same one is a new one again. It is known until its response.
    is_ended: bool,
}

#[derive(Debug)]
struct SentResponse {
    text: String,
    is_ok: bool,
    at: Instant,
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
    /// Looks for the same command, and remembers one that is new. `outlets` are what it is for, `state` is what its
    /// target is known to have.
    pub(super) fn check(
        &mut self,
        command: &CommandContext,
        outlets: BTreeSet<OutletPath>,
        state: Option<Power>,
    ) -> Repetition {
        let expired = |seen: &SeenCommand| {
            let response = seen.response.as_ref();
            response.is_some_and(|response| command.received.duration_since(response.at) >= MEMORY)
        };
        self.commands.retain(|seen| !expired(seen));
        let same = self.commands.iter().find(|seen| seen.is_same(command));
        let failed = match same.map(|seen| seen.response.as_ref()) {
            None => None,
            Some(None) => return Repetition::InProgress,
            Some(Some(response)) if !must_be_carried_out(command, state) => {
                return Repetition::Done(response.text.clone());
            }
            Some(Some(response)) => (!response.is_ok && !command.is_read()).then(|| response.text.clone()),
        };
        for seen in &mut self.commands {
            seen.is_ended |= seen.is_ended_by(command, &outlets);
        }
        self.forget_ended();
        if let Some(transaction) = command.transaction.clone() {
            if self.commands.len() >= COMMANDS_MAX {
                self.commands.pop_front();
            }
            self.commands.push_back(SeenCommand {
                number: command.number,
                target: command.target.clone(),
                outlets,
                transaction,
                payload: command.payload.clone(),
                response: None,
                failed,
                is_ended: false,
            });
        }
        Repetition::New
    }

    /// Remembers the response to a command, and returns what is sent: an OFF that failed and is repeated in vain has the
    /// response that it had.
    pub(super) fn done(
        &mut self,
        command: &CommandContext,
        response: String,
        is_ok: bool,
        now: Instant,
    ) -> String {
        let mut seen = self.commands.iter_mut();
        let Some(seen) = seen.find(|seen| seen.number == command.number) else {
            return response;
        };
        let text = seen.failed.take().filter(|_| !is_ok).unwrap_or(response);
        seen.response = Some(SentResponse {
            text: text.clone(),
            is_ok,
            at: now,
        });
        self.forget_ended();
        text
    }

    fn forget_ended(&mut self) {
        self.commands
            .retain(|seen| !(seen.is_ended && seen.response.is_some()));
    }
}

/// Whether a command is carried out although the same one was done before: a read, and an OFF of what may be on.
fn must_be_carried_out(command: &CommandContext, state: Option<Power>) -> bool {
    match command.payload.action {
        Action::Read => true,
        Action::Switch(Switch::To(Power::Off)) => state != Some(Power::Off),
        _ => false,
    }
}

impl SeenCommand {
    fn has_transaction_of(&self, command: &CommandContext) -> bool {
        Some(&self.transaction) == command.transaction.as_ref() && self.target == command.target
    }

    fn is_same(&self, command: &CommandContext) -> bool {
        !self.is_ended && self.has_transaction_of(command) && command.payload.repeats(&self.payload)
    }

    fn is_ended_by(&self, command: &CommandContext, outlets: &BTreeSet<OutletPath>) -> bool {
        let changes = !command.is_read() && !command.payload.repeats(&self.payload);
        self.has_transaction_of(command) || changes && self.shares_outlet(outlets)
    }

    fn shares_outlet(&self, outlets: &BTreeSet<OutletPath>) -> bool {
        let same = |a: &OutletPath, b: &OutletPath| {
            a.device == b.device && (a.outlet.is_none() || b.outlet.is_none() || a.outlet == b.outlet)
        };
        let mut ours = self.outlets.iter();
        ours.any(|ours| outlets.iter().any(|path| same(ours, path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{decode::Validity, inbox::OpenCount, reply_to::ReplyTo};

    const ON: Action = Action::Switch(Switch::To(Power::On));
    const OFF: Action = Action::Switch(Switch::To(Power::Off));
    const TOGGLE: Action = Action::Switch(Switch::Toggle);

    /// Commands that are received, each with another number.
    #[derive(Default)]
    struct Receiver {
        repeats: RepeatedCommands,
        number: u64,
    }

    impl Receiver {
        /// A command to the group `all`, or to an outlet.
        fn command(&mut self, path: &str, action: Action, transaction: &str) -> CommandContext {
            self.number += 1;
            CommandContext {
                number: self.number,
                target: if path == "all" {
                    Target::Group("all".parse().unwrap())
                } else {
                    Target::Outlet(path.parse().unwrap())
                },
                payload: CommandPayload {
                    action,
                    lifetime: None,
                    brightness: None,
                    validity: Validity::default(),
                },
                transaction: (!transaction.is_empty()).then(|| Transaction::Text(transaction.to_owned())),
                reply_to: ReplyTo::Broker,
                received: Instant::now(),
                _open: OpenCount::default().open(),
            }
        }

        fn check(&mut self, command: &CommandContext, state: Option<Power>) -> Repetition {
            let outlets = match &command.target {
                Target::Outlet(path) => [path.clone()].into(),
                Target::Group(_) => ["heater", "mats/1"].map(|path| path.parse().unwrap()).into(),
            };
            self.repeats.check(command, outlets, state)
        }

        fn done(&mut self, command: &CommandContext, response: &str) -> String {
            let is_ok = response == "ok";
            self.repeats
                .done(command, response.to_owned(), is_ok, command.received)
        }

        /// Which of these commands are carried out. Each is done, with what it wants, before the next one comes.
        fn carried_out(&mut self, commands: &[(&str, Action, &str)]) -> Vec<bool> {
            let mut is_new = |(path, action, transaction): &(&str, Action, &str)| {
                let command = self.command(path, *action, transaction);
                let state = if *action == ON { Power::On } else { Power::Off };
                let is_new = self.check(&command, Some(state)) == Repetition::New;
                if is_new {
                    self.done(&command, "ok");
                }
                is_new
            };
            commands.iter().map(&mut is_new).collect()
        }
    }

    #[test]
    fn the_same_command_is_not_carried_out_twice_within_a_minute() {
        let mut receiver = Receiver::default();
        let mut on = receiver.command("heater", ON, "t");
        assert_eq!(receiver.check(&on, None), Repetition::New);
        assert_eq!(receiver.check(&on, None), Repetition::InProgress);
        receiver.done(&on, "ok");
        assert_eq!(receiver.check(&on, None), Repetition::Done("ok".to_owned()));
        on.received += MEMORY;
        assert_eq!(receiver.check(&on, None), Repetition::New);
    }

    #[test]
    fn a_repetition_may_have_more_time() {
        let mut receiver = Receiver::default();
        let toggle = receiver.command("heater", TOGGLE, "t");
        receiver.check(&toggle, None);
        receiver.done(&toggle, "ok");
        let mut again = receiver.command("heater", TOGGLE, "t");
        again.payload.validity = Validity {
            ttl: MEMORY,
            expires: Some(jiff::Timestamp::UNIX_EPOCH),
        };
        assert_eq!(receiver.check(&again, None), Repetition::Done("ok".to_owned()));
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
        assert_eq!(Receiver::default().carried_out(&commands), [true; 6]);
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
            assert_eq!(Receiver::default().carried_out(&commands), [true; 3], "{other:?}");
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
            let carried_out = Receiver::default().carried_out(&commands);
            assert_eq!(carried_out, [true, true, false], "{other:?}");
        }
    }

    #[test]
    fn an_off_is_a_repetition_only_while_the_outlet_is_off() {
        for state in [Some(Power::Off), Some(Power::On), None] {
            let mut receiver = Receiver::default();
            let off = receiver.command("heater", OFF, "t");
            assert_eq!(receiver.check(&off, Some(Power::Off)), Repetition::New);
            assert_eq!(receiver.check(&off, state), Repetition::InProgress);
            receiver.done(&off, "ok");
            let is_repetition = receiver.check(&off, state) != Repetition::New;
            assert_eq!(is_repetition, state == Some(Power::Off), "{state:?}");
        }
    }

    #[test]
    fn an_off_that_fails_again_has_the_response_that_it_had() {
        let mut receiver = Receiver::default();
        let mut sent = Vec::new();
        for response in ["no_answer", "superseded", "ok", "no_answer"] {
            let off = receiver.command("heater", OFF, "t");
            assert_eq!(receiver.check(&off, None), Repetition::New, "{response}");
            sent.push(receiver.done(&off, response));
        }
        assert_eq!(sent, ["no_answer", "no_answer", "ok", "no_answer"]);
    }

    #[test]
    fn a_repeated_off_that_is_replaced_has_its_first_response() {
        let mut receiver = Receiver::default();
        let off = receiver.command("heater", OFF, "t");
        receiver.check(&off, None);
        receiver.done(&off, "no_answer");
        let again = receiver.command("heater", OFF, "t");
        assert_eq!(receiver.check(&again, None), Repetition::New);
        let on = receiver.command("heater", ON, "u");
        assert_eq!(receiver.check(&on, None), Repetition::New);
        assert_eq!(receiver.done(&again, "superseded"), "no_answer");
        let off = receiver.command("heater", OFF, "t");
        assert_eq!(
            receiver.check(&off, Some(Power::Off)),
            Repetition::New,
            "it was ended"
        );
    }

    #[test]
    fn the_response_belongs_to_the_command_that_got_it() {
        let mut receiver = Receiver::default();
        let first = receiver.command("heater", OFF, "t");
        let other = receiver.command("heater", ON, "");
        let second = receiver.command("heater", OFF, "t");
        for command in [&first, &other, &second] {
            assert_eq!(receiver.check(command, None), Repetition::New);
        }
        receiver.done(&first, "superseded");
        assert_eq!(receiver.check(&second, None), Repetition::InProgress);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut receiver = Receiver::default();
        for number in 0..2 * COMMANDS_MAX {
            let command = receiver.command("heater", ON, &number.to_string());
            receiver.check(&command, None);
        }
        assert_eq!(receiver.repeats.commands.len(), COMMANDS_MAX);
    }
}
