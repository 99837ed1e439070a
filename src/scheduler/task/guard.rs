//! The end that a device's worker keeps with the device's own countdown.

use jiff::{SignedDuration, Timestamp};

use super::{Look, Scheduler, outlet::Live};
use crate::domain::{device_command::RunLimit, devices::DeviceMsg, report::Availability};
use planner::{OutletPath, Power, Steady};

/// Ends that differ by less are the same.
const SAME: SignedDuration = SignedDuration::from_secs(1);

impl Scheduler {
    /// How long an outlet may stay on that is switched now.
    pub(super) fn run_limit(&self, path: &OutletPath, power: Power, look: Look) -> RunLimit {
        let due = match power {
            Power::On => self.book.runs_until(path, look.now),
            Power::Off => None,
        };
        RunLimit {
            off_by: due.map(|due| self.steady_of(due, look)),
            max_on: None,
        }
    }

    /// Sends the ends of running outlets that changed.
    pub(super) fn tend_guards(&mut self, look: Look) {
        let paths: Vec<OutletPath> = self.live.keys().cloned().collect();
        for path in paths {
            let at_hand = |live: &Live| live.availability == Availability::Online && live.is_idle();
            if self.live.get(&path).is_some_and(at_hand) {
                self.send_end(&path, look);
            }
        }
    }

    /// Sends the end of a running outlet if it changed.
    pub(super) fn send_end(&mut self, path: &OutletPath, look: Look) {
        let Some(live) = self.live.get(path) else {
            return;
        };
        let due = match live.power {
            Some(Power::On) => self.book.runs_until(path, look.now),
            Some(Power::Off) | None => None,
        };
        let off_by = due.map(|due| self.steady_of(due, look));
        let sent = live.off_by;
        let same = match (sent, off_by) {
            (Some(Some(sent)), Some(off_by)) => off_by.since(sent).abs() < SAME,
            (sent, off_by) => sent == Some(off_by),
        };
        if same {
            return;
        }
        let message = DeviceMsg::OffBy(path.clone(), off_by);
        if self.orders.try_send(message).is_ok()
            && let Some(live) = self.live.get_mut(path)
        {
            live.off_by = Some(off_by);
        }
    }

    fn steady_of(&self, at: Timestamp, look: Look) -> Steady {
        self.clock.steady().after(at.duration_since(look.now))
    }
}
