//! Reboots a device. One that does not answer may have rebooted at once, or not at all.

use tokio::time::Instant;

use super::{
    client::{connection::ExchangeError, fault::Fault, login_budget::LoginPurpose, session::DeviceRequest},
    context::Context,
    switching::not_confirmed_in_time,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::DeviceCommand,
    reply::Applied,
};

/// A reboot waits until the device shows whether it rebooted, or until its deadline.
#[derive(Debug)]
pub(super) struct PendingReboot {
    command: DeviceCommand,
    sign: Sign,
}

/// What shows that a device reboots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    None,
    /// No port was open at its address.
    Offline,
}

impl PendingReboot {
    /// The device was asked once, without an answer.
    pub(super) fn new(mut command: DeviceCommand) -> Self {
        command.reply.may_be_done(1);
        Self {
            command,
            sign: Sign::None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.command.deadline
    }

    /// A device without an answer may hang. One whose port is closed reboots.
    pub(super) fn on_fault(&mut self, fault: &Fault) {
        if matches!(fault, Fault::Refused | Fault::Unreachable(_)) {
            self.sign = Sign::Offline;
        }
    }

    /// The device answers again. Returns the reboot if that does not show whether it rebooted.
    pub(super) fn on_answer(self) -> Option<Self> {
        if self.sign == Sign::None {
            return Some(self);
        }
        self.command.reply.send(Ok(rebooted()));
        None
    }

    /// The time to live is over.
    pub(super) fn expire(self) {
        let late = not_confirmed_in_time(1, ErrorCode::NoAnswer);
        self.command.reply.send(Err(late));
    }

    /// Replies with an error: waiting would not help.
    pub(super) fn refuse(self, error: CommandError) {
        self.command.reply.send(Err(error));
    }
}

/// Sends the reboot and replies, or keeps the command until the device shows whether it rebooted.
pub(super) async fn carry_out(context: &mut Context, command: DeviceCommand) -> Result<(), ExchangeError> {
    let mut result = context
        .exchange(DeviceRequest::Reboot, LoginPurpose::Command)
        .await;
    let closed = matches!(result, Err(ExchangeError::Fault(Fault::Closed)));
    if closed {
        // A device that reboots at once closes the connection. So does a device that closes idle connections, which did
        // not read the request.
        result = context
            .exchange(DeviceRequest::Reboot, LoginPurpose::Command)
            .await;
    }
    match result {
        Ok(_) | Err(ExchangeError::Fault(Fault::Closed)) => {
            command.reply.send(Ok(rebooted()));
            Ok(())
        }
        Err(ExchangeError::Fault(fault)) if closed || fault == Fault::NoAnswer => {
            let mut reboot = PendingReboot::new(command);
            reboot.on_fault(&fault);
            context.mailbox.reboot = Some(reboot);
            Err(fault.into())
        }
        Err(error) => context.on_command_failed(error, command, 1),
    }
}

/// The result of a confirmed reboot.
fn rebooted() -> Applied {
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
    fn a_device_that_was_offline_rebooted() {
        let (mut reboot, inbox) = pending();
        reboot.on_fault(&Fault::NoAnswer);
        reboot.on_fault(&Fault::Refused);
        reboot.on_fault(&Fault::NoAnswer);
        assert!(reboot.on_answer().is_none());
        assert!(inbox.recv().unwrap().is_ok());
    }

    #[test]
    fn a_device_that_hung_did_not_reboot() {
        let (mut reboot, inbox) = pending();
        // A request that was dropped half way leads to this.
        reboot.on_fault(&Fault::SessionLost);
        let reboot = reboot.on_answer().unwrap();
        assert!(inbox.try_recv().is_err());
        reboot.expire();
        let error = inbox.recv().unwrap().unwrap_err();
        assert_eq!((error.code, error.attempts > 0), (ErrorCode::NoAnswer, true));
    }
}
