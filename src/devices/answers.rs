//! What an intent is about, and what it is answered.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::worker::Worker;
use crate::domain::command::{Code, Done, Failure};
use planner::{OutletKey, OutletPath, Power};

/// How often the device was asked for one command. It can be read while the device is being asked.
#[derive(Debug, Default)]
pub(super) struct Attempts(AtomicU32);

impl Attempts {
    pub(super) fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn so_far(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The answer to a command whose time is over; `unasked` is its code if the device was not asked.
pub(super) fn too_late(attempts: u32, unasked: Code) -> Failure {
    let message =
        "the device did not confirm in time; its state is read again as soon as it answers".to_owned();
    Failure {
        code: if attempts == 0 { unasked } else { Code::NoAnswer },
        message,
        attempts,
    }
}

/// An outlet to be switched.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) key: Option<OutletKey>,
    pub(super) child: Option<Arc<str>>,
}

impl Worker {
    pub(super) fn reads(&self, target: &Target, power: Power) -> bool {
        self.confirmed(std::slice::from_ref(target)) == Some(power)
    }

    /// Whether a newer command decides over an outlet.
    pub(super) fn is_overtaken(&self, target: &Target) -> bool {
        self.mailbox.queue.overtakes(target.key.as_ref())
    }

    pub(super) fn targets(&self, path: &OutletPath) -> Vec<Target> {
        let wanted = self
            .known
            .outlets
            .iter()
            .filter(|known| path.outlet.is_none() || known.outlet.key == path.outlet);
        wanted
            .map(|known| Target {
                key: known.outlet.key.clone(),
                child: known.child.clone(),
            })
            .collect()
    }

    pub(super) fn states(&self, targets: &[Target]) -> Vec<(OutletPath, Option<Power>)> {
        let power = |target: &Target| {
            self.known
                .outlets
                .iter()
                .find(|known| known.outlet.key == target.key)?
                .outlet
                .power
        };
        let path = |target: &Target| OutletPath {
            device: self.config.id.clone(),
            outlet: target.key.clone(),
        };
        targets
            .iter()
            .map(|target| (path(target), power(target)))
            .collect()
    }

    /// ON if any of the targets is.
    pub(super) fn confirmed(&self, targets: &[Target]) -> Option<Power> {
        self.states(targets)
            .into_iter()
            .filter_map(|(_, power)| power)
            .max()
    }

    pub(super) fn all_confirmed(&self, targets: &[Target], power: Power) -> bool {
        targets.iter().all(|target| self.reads(target, power))
    }

    /// The answer to a switch, about the outlets that no newer command took over.
    pub(super) fn switched(
        &self,
        mut targets: Vec<Target>,
        power: Power,
        attempts: u32,
    ) -> Result<Done, Failure> {
        targets.retain(|target| self.reads(target, power) || !self.is_overtaken(target));
        if targets.is_empty() {
            return Err(Failure {
                attempts,
                ..Failure::superseded()
            });
        }
        if self.all_confirmed(&targets, power) {
            let outlets = self.states(&targets);
            return Ok(Done { outlets, attempts });
        }
        let message = format!("the device took the command but does not read back {power}");
        Err(Failure {
            code: Code::NotConfirmed,
            message,
            attempts,
        })
    }

    pub(super) fn unknown_outlet(&self, path: &OutletPath) -> Failure {
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
        Failure::bridge(Code::UnknownOutlet, message)
    }
}
