//! What an intent is about, and what it is answered.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::worker::Worker;
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    reply::Applied,
};
use planner::{OutletKey, OutletPath, Power};

/// How often the device was asked for one command. It can be read while the device is being asked.
#[derive(Debug, Default)]
pub(super) struct SwitchProgress(AtomicU32);

impl SwitchProgress {
    pub(super) fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn so_far(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The answer to a command whose time is over; `unasked` is its code if the device was not asked.
pub(super) fn too_late(attempts: u32, unasked: ErrorCode) -> CommandError {
    let message =
        "the device did not confirm in time; its state is read again as soon as it answers".to_owned();
    CommandError {
        code: if attempts == 0 {
            unasked
        } else {
            ErrorCode::NoAnswer
        },
        message,
        attempts,
    }
}

/// An outlet to be switched.
#[derive(Debug, Clone)]
pub(super) struct SwitchTarget {
    pub(super) key: Option<OutletKey>,
    pub(super) child: Option<Arc<str>>,
}

impl Worker {
    pub(super) fn reads(&self, target: &SwitchTarget, power: Power) -> bool {
        self.confirmed(std::slice::from_ref(target)) == Some(power)
    }

    /// Whether a newer command decides over an outlet.
    pub(super) fn is_overtaken(&self, target: &SwitchTarget) -> bool {
        self.mailbox.queue.overtakes(target.key.as_ref(), self.turn)
    }

    pub(super) fn targets(&self, path: &OutletPath) -> Vec<SwitchTarget> {
        let wanted = self
            .known
            .outlets
            .iter()
            .filter(|known| path.outlet.is_none() || known.outlet.key == path.outlet);
        wanted
            .map(|known| SwitchTarget {
                key: known.outlet.key.clone(),
                child: known.child.clone(),
            })
            .collect()
    }

    pub(super) fn states(&self, targets: &[SwitchTarget]) -> Vec<(OutletPath, Option<Power>)> {
        let power = |target: &SwitchTarget| {
            self.known
                .outlets
                .iter()
                .find(|known| known.outlet.key == target.key)?
                .outlet
                .power
        };
        let path = |target: &SwitchTarget| OutletPath {
            device: self.config.id.clone(),
            outlet: target.key.clone(),
        };
        targets
            .iter()
            .map(|target| (path(target), power(target)))
            .collect()
    }

    /// ON if any of the targets is.
    pub(super) fn confirmed(&self, targets: &[SwitchTarget]) -> Option<Power> {
        self.states(targets)
            .into_iter()
            .filter_map(|(_, power)| power)
            .max()
    }

    pub(super) fn all_confirmed(&self, targets: &[SwitchTarget], power: Power) -> bool {
        targets.iter().all(|target| self.reads(target, power))
    }

    /// The answer to a switch, about the outlets that no newer command took over.
    pub(super) fn switched(
        &self,
        mut targets: Vec<SwitchTarget>,
        power: Power,
        attempts: u32,
    ) -> Result<Applied, CommandError> {
        targets.retain(|target| self.reads(target, power) || !self.is_overtaken(target));
        if targets.is_empty() {
            return Err(CommandError {
                attempts,
                ..CommandError::superseded()
            });
        }
        if self.all_confirmed(&targets, power) {
            let outlets = self.states(&targets);
            return Ok(Applied { outlets, attempts });
        }
        let message = format!("the device took the command but does not read back {power}");
        Err(CommandError {
            code: ErrorCode::NotConfirmed,
            message,
            attempts,
        })
    }

    pub(super) fn unknown_outlet(&self, path: &OutletPath) -> CommandError {
        let keys: Vec<_> = self
            .known
            .outlets
            .iter()
            .filter_map(|known| known.outlet.key.as_ref())
            .map(OutletKey::as_str)
            .collect();
        let message = if keys.is_empty() {
            format!(
                "{path} does not exist: {} is a plug; leave the outlet out",
                path.device
            )
        } else {
            format!(
                "{path} does not exist; {} has the outlets {}",
                path.device,
                keys.join(", ")
            )
        };
        CommandError::bridge(ErrorCode::UnknownOutlet, message)
    }
}
