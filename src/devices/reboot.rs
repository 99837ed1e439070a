//! A reboot that the device did not answer: it may have rebooted at once, or not at all.

use tokio::time::Instant;

use super::{client::fault::Fault, switch_target::too_late};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::DeviceCommand,
    reply::Applied,
};

/// A reboot waits until the device shows what it did, or until its deadline.
#[derive(Debug)]
pub(super) struct PendingReboot {
    command: DeviceCommand,
    seen: Absence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    Nothing,
    /// Nothing listens at its address.
    Gone,
}

impl PendingReboot {
    /// The device was asked once, without an answer.
    pub(super) fn new(mut command: DeviceCommand) -> Self {
        command.reply.may_be_done(1);
        Self {
            command,
            seen: Absence::Nothing,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.command.deadline
    }

    /// A device that answers nothing may hang. One whose port is closed is away.
    pub(super) fn on_fault(&mut self, fault: &Fault) {
        if matches!(fault, Fault::Refused | Fault::Unreachable(_)) {
            self.seen = Absence::Gone;
        }
    }

    /// The device answers again. Gives the reboot back if that does not show what it did.
    pub(super) fn on_answer(self) -> Option<Self> {
        if self.seen == Absence::Nothing {
            return Some(self);
        }
        self.command.reply.send(Ok(rebooted()));
        None
    }

    /// The time to live is over.
    pub(super) fn expire(self) {
        let late = too_late(1, ErrorCode::NoAnswer);
        self.command.reply.send(Err(late));
    }

    /// Replies with an error: waiting would not help.
    pub(super) fn refuse(self, error: CommandError) {
        self.command.reply.send(Err(error));
    }
}

/// What is confirmed of a reboot.
pub(super) fn rebooted() -> Applied {
    Applied {
        outlets: Vec::new(),
        attempts: 1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::domain::{
        device_command::{DeviceAction, RunLimit, Source},
        reply::{CommandResult, Reply},
    };

    fn pending() -> (PendingReboot, mpsc::Receiver<CommandResult>) {
        let (replies, inbox) = mpsc::channel();
        let command = DeviceCommand {
            path: "plug".parse().unwrap(),
            action: DeviceAction::Reboot,
            run: RunLimit::default(),
            source: Source::Mqtt,
            deadline: Instant::now(),
            reply: Reply::new(move |outcome| replies.send(outcome.result).unwrap()),
            turn: None,
        };
        (PendingReboot::new(command), inbox)
    }

    #[test]
    fn a_device_that_went_and_came_back_rebooted() {
        let (mut reboot, inbox) = pending();
        reboot.on_fault(&Fault::NoAnswer);
        reboot.on_fault(&Fault::Refused);
        reboot.on_fault(&Fault::NoAnswer);
        assert!(reboot.on_answer().is_none());
        assert!(inbox.recv().unwrap().is_ok());
    }

    #[test]
    fn a_device_that_hung_did_not() {
        let (mut reboot, inbox) = pending();
        // What a request that was given up half way leads to.
        reboot.on_fault(&Fault::SessionLost);
        let reboot = reboot.on_answer().unwrap();
        assert!(inbox.try_recv().is_err());
        reboot.expire();
        let error = inbox.recv().unwrap().unwrap_err();
        assert_eq!((error.code, error.attempts > 0), (ErrorCode::NoAnswer, true));
    }
}
