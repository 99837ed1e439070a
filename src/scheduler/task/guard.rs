//! The countdown on the plug itself, which switches it off should the bridge be gone.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    Look, Scheduler, Wake,
    errand::Purpose,
    outlet::{Flight, Live},
};
use crate::domain::{
    command_error::ErrorCode,
    device_command::{DeviceAction, Guard, Source},
    reply::CommandResult,
    report::{Availability, Countdown},
};
use planner::{OutletPath, Power, period::after};

/// The longest that a plug counts.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);
/// A countdown may be this far from the instant it is for: a plug counts whole seconds.
const CLOSE: SignedDuration = SignedDuration::from_secs(2);
/// A run longer than a plug can count is renewed when this much of the count is used.
const RENEW: SignedDuration = SignedDuration::from_hours(1);
/// How long a request about the countdown may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to leave the countdown alone after an answer.
pub(super) fn again(outcome: &CommandResult) -> Duration {
    match outcome {
        Ok(_) => Duration::from_secs(5),
        Err(failure) if failure.code == ErrorCode::Superseded => Duration::ZERO,
        Err(_) => Duration::from_mins(1),
    }
}

impl Scheduler {
    /// What to do about the countdown when an outlet is switched.
    pub(super) fn guard_with(&mut self, path: &OutletPath, power: Power, look: Look) -> Guard {
        let due = match power {
            Power::On => self.book.runs_until(path, look.now),
            Power::Off => None,
        };
        let live = self.live.entry(path.clone()).or_default();
        guard(live, due, look)
    }

    /// Arms, renews and clears the countdowns of outlets that nobody switches now.
    pub(super) fn tend_guards(&mut self, look: Look, wake: &mut Wake) {
        let paths: Vec<OutletPath> = self.live.keys().cloned().collect();
        for path in paths {
            let at_hand = |live: &&Live| live.availability == Availability::Online && live.is_idle();
            let Some(live) = self.live.get(&path).filter(at_hand) else {
                continue;
            };
            let due = match live.power {
                Some(Power::On) if self.goes_off(&path, look) => continue,
                Some(Power::On) => self.book.runs_until(&path, look.now),
                Some(Power::Off) | None => None,
            };
            let Some(live) = self
                .live
                .get_mut(&path)
                .filter(|live| !is_right(live, due, look.now))
            else {
                continue;
            };
            if let Some(at) = live.guard_after.filter(|at| *at > look.instant) {
                wake.by(at);
                continue;
            }
            let guard = guard(live, due, look);
            let deadline = look.instant + PATIENCE;
            self.send(
                &path,
                DeviceAction::Guard,
                guard,
                Source::Safety,
                deadline,
                Purpose::Guard,
            );
        }
    }

    fn goes_off(&self, path: &OutletPath, look: Look) -> bool {
        self.aim(path, look).is_some_and(|aim| aim.power == Power::Off)
    }
}

/// Whether the countdown is what it should be, or cannot be.
fn is_right(live: &Live, due: Option<Timestamp>, now: Timestamp) -> bool {
    let ours = live.armed.owns(live.countdown);
    match (live.countdown, due) {
        (Countdown::Unknown | Countdown::Unsupported, _) => true,
        (Countdown::Idle | Countdown::Failed, due) => due.is_none(),
        // Somebody else's is respected.
        (Countdown::Running { .. }, _) if !ours => true,
        (Countdown::Running { .. }, None) => false,
        (Countdown::Running { .. }, Some(due)) => {
            let armed = live.armed.ours(live.countdown).unwrap_or(now);
            let furthest = after(now, LONGEST);
            if due <= furthest {
                armed.duration_since(due).abs() <= CLOSE
            } else {
                furthest.duration_since(armed) <= RENEW
            }
        }
    }
}

fn guard(live: &mut Live, due: Option<Timestamp>, look: Look) -> Guard {
    let ours = live.armed.ours(live.countdown);
    match (due, ours) {
        (Some(_), _) if live.countdown == Countdown::Unsupported => Guard::Leave,
        (Some(due), ours) => {
            live.armed.ask(due.min(after(look.now, LONGEST)));
            Guard::Arm {
                off_at: look.instant_of(due),
                ours,
            }
        }
        (None, Some(ours)) => Guard::Disarm { ours },
        (None, None) => Guard::Leave,
    }
}

impl Live {
    /// Nothing runs that could be ours.
    pub(super) fn forget_armed(&mut self) {
        let switching = matches!(self.flight, Some(Flight { .. }));
        if self.countdown == Countdown::Idle && !switching {
            self.armed = super::Armed::default();
        }
    }
}
