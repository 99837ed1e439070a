//! One outlet: its relay, what is plugged in, and what its meter counted.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    clock::{after, between},
    counters::{Cause, RelayChange},
    default_state::DefaultState,
    energy::Ledger,
    rules::Rules,
};

#[derive(Debug)]
pub(crate) struct Outlet {
    /// Counted from 1.
    pub(crate) position: u8,
    /// Set on a strip.
    pub(crate) child_id: Option<String>,
    pub(crate) nickname: String,
    /// When the relay closed; none while it is open.
    on_since: Option<Timestamp>,
    /// What is plugged in draws this much while the relay is closed.
    watts: f64,
    pub(crate) ledger: Ledger,
    /// What `get_emeter_data` counts: from the last restart on, in mWh.
    pub(crate) since_restart: f64,
    /// All that was drawn, whatever the meter forgot, in mWh.
    pub(crate) drawn: f64,
    booked_until: Timestamp,
    pub(crate) overloaded: bool,
    pub(crate) max_watts: f64,
    pub(crate) auto_off: AutoOff,
    pub(crate) protection: Protection,
    pub(crate) default_state: DefaultState,
    /// Percent.
    pub(crate) brightness: u8,
    pub(crate) rules: Rules,
}

/// The setting that switches an outlet off some time after it was switched on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AutoOff {
    pub(crate) enabled: bool,
    pub(crate) delay_min: u32,
}

/// The setting that drops the relay below the outlet's own limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Protection {
    pub(crate) enabled: bool,
    pub(crate) watts: u32,
}

/// The moment of a change, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) device: Timestamp,
    pub(crate) uptime_ms: u64,
}

impl Outlet {
    pub(crate) fn new(
        position: u8,
        child_id: Option<String>,
        nickname: String,
        watts: f64,
        (max_watts, max_rules): (f64, usize),
        now: Timestamp,
    ) -> Self {
        Self {
            position,
            child_id,
            nickname,
            on_since: None,
            watts,
            ledger: Ledger::default(),
            since_restart: 0.0,
            drawn: 0.0,
            booked_until: now,
            overloaded: false,
            max_watts,
            auto_off: AutoOff {
                enabled: false,
                delay_min: 120,
            },
            protection: Protection::default(),
            default_state: DefaultState::default(),
            brightness: 100,
            rules: Rules::new(max_rules),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on_since.is_some()
    }

    /// What it draws now, in watts.
    pub(crate) fn power(&self) -> f64 {
        if self.is_on() { self.watts } else { 0.0 }
    }

    pub(crate) fn on_time(&self, now: Timestamp) -> Duration {
        self.on_since.map_or(Duration::ZERO, |since| between(since, now))
    }

    /// The device restarted: the relay keeps its state, the time it is on starts at zero.
    pub(crate) fn restart(&mut self, now: Timestamp) {
        if self.is_on() {
            self.on_since = Some(now);
        }
        self.since_restart = 0.0;
        self.rules.forget_countdown();
    }

    /// The meter forgets all it counted.
    pub(crate) fn reset_meter(&mut self) {
        self.ledger = Ledger::default();
        self.since_restart = 0.0;
    }

    /// The meter counts energy from before the simulation.
    pub(crate) fn add_energy(&mut self, now: Timestamp, watt_hours: f64) {
        self.ledger.add(now, watt_hours);
        self.since_restart += watt_hours * 1000.0;
    }

    /// Books what was drawn until now.
    pub(crate) fn book(&mut self, now: Timestamp) {
        if self.is_on() {
            self.ledger.book(self.booked_until, now, self.watts);
            let milliwatt_hours =
                self.watts * 1000.0 * between(self.booked_until, now).as_secs_f64() / 3600.0;
            self.since_restart += milliwatt_hours;
            self.drawn += milliwatt_hours;
        }
        self.booked_until = self.booked_until.max(now);
    }

    /// Switches the relay; none if it was so already. A load above the limit drops it again.
    pub(crate) fn switch(&mut self, on: bool, cause: Cause, now: Moment) -> Vec<RelayChange> {
        self.book(now.device);
        let mut changes = Vec::new();
        if on {
            self.overloaded = false;
        }
        if on != self.is_on() {
            self.on_since = on.then_some(now.device);
            changes.push(self.change(cause, now));
        }
        changes.extend(self.drop_if_overloaded(now));
        changes
    }

    /// Plugs in another load.
    pub(crate) fn set_watts(&mut self, watts: f64, now: Moment) -> Option<RelayChange> {
        self.book(now.device);
        self.watts = watts;
        self.drop_if_overloaded(now)
    }

    /// Drops the relay as too high a load would.
    pub(crate) fn overload(&mut self, now: Moment) -> Option<RelayChange> {
        self.book(now.device);
        self.on_since.take()?;
        self.overloaded = true;
        Some(self.change(Cause::Overload, now))
    }

    fn drop_if_overloaded(&mut self, now: Moment) -> Option<RelayChange> {
        let limit = if self.protection.enabled {
            self.max_watts.min(f64::from(self.protection.watts))
        } else {
            self.max_watts
        };
        if self.power() > limit {
            self.overload(now)
        } else {
            None
        }
    }

    pub(crate) fn auto_off_due(&self) -> Option<Timestamp> {
        let delay = Duration::from_secs(u64::from(self.auto_off.delay_min) * 60);
        let since = self.on_since.filter(|_| self.auto_off.enabled)?;
        Some(after(since, delay))
    }

    fn change(&self, cause: Cause, now: Moment) -> RelayChange {
        RelayChange {
            position: self.position,
            child_id: self.child_id.clone(),
            on: self.is_on(),
            cause,
            at_ms: now.uptime_ms,
            at: Instant::now(),
        }
    }
}
