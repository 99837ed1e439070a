//! The wall clock was set, or the machine slept.
//!
//! Both look alike from here. Set back, it was the clock. Set forward, time may really have passed: what devices say
//! decides, so they are asked, and what cannot be asked counts as on.

use std::time::Duration;

use jiff::SignedDuration;
use tracing::info;

use super::{Look, Scheduler, errand::Purpose};
use crate::domain::{
    device_command::{DeviceAction, RunLimit, Source},
    report::Availability,
};
use planner::{DeviceId, OutletPath, Power, period::after};

/// A difference up to this is no jump: the system's clock is slewed, and both clocks are not read at once.
const JUMP: SignedDuration = SignedDuration::from_secs(2);
/// How long a device is asked for its own count.
const PATIENCE: Duration = Duration::from_secs(10);

impl Scheduler {
    pub(super) fn notice_jump(&mut self, look: Look) {
        let by_wall = look.now.duration_since(self.looked.now);
        let passed = look.instant.duration_since(self.looked.instant);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let jump = by_wall.saturating_sub(passed);
        if jump.abs() < JUMP {
            return;
        }
        info!(by_seconds = jump.as_secs(), "the wall clock jumped");
        self.book.booted_at = after(self.book.booted_at, jump);
        self.book.listening_since = after(self.book.listening_since, jump);
        self.book.rations.shift(jump);
        if jump.is_negative() {
            self.set_back(jump);
        } else {
            self.set_forward(jump, look);
        }
    }

    fn set_back(&mut self, jump: SignedDuration) {
        let paths: Vec<OutletPath> = self.book.safety.outlets().cloned().collect();
        for path in paths {
            self.book.safety.shift(&path, jump);
        }
        for timer in self.book.timers.values_mut() {
            timer.set_at = after(timer.set_at, jump);
            timer.at = after(timer.at, jump);
        }
    }

    fn set_forward(&mut self, jump: SignedDuration, look: Look) {
        let running = self.live.iter().filter(|(_, live)| {
            live.availability == Availability::Online
                && live.power == Some(Power::On)
                && live.on_since.is_some()
        });
        let running: Vec<OutletPath> = running.map(|(path, _)| path.clone()).collect();
        let mut devices: Vec<DeviceId> = Vec::new();
        for path in running {
            self.book.safety.shift(&path, jump);
            if !devices.contains(&path.device) {
                devices.push(path.device);
            }
        }
        for device in devices {
            self.send(
                &OutletPath::device(device.clone()),
                DeviceAction::Read,
                RunLimit::default(),
                Source::Safety,
                look.instant + PATIENCE,
                Purpose::Reread(device),
            );
        }
    }

    /// The device answered, or did not: what it said last counts.
    pub(super) fn reread(&mut self, device: &DeviceId, look: Look) {
        let of_device = |path: &&OutletPath| path.device == *device;
        let paths: Vec<OutletPath> = self.live.keys().filter(of_device).cloned().collect();
        for path in paths {
            self.book_run(&path, look);
        }
    }
}
