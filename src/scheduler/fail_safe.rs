//! When a relay must be off at the latest, also without the bridge: its worker keeps the device's countdown that way.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use planner::{
    Now, Steady,
    location::Location,
    overrides::{Override, OverrideState},
    rules::{Group, Limits},
    thermostat::Lease,
};

use super::outlets::OutletState;
use crate::domain::device_command::RunLimit;

/// Two ends this close are the same: a device counts whole seconds.
pub(super) const CLOSE: SignedDuration = SignedDuration::from_secs(2);

/// The end that the worker of an outlet was last sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SentEnd {
    /// None, or the worker is a new one.
    #[default]
    NotSent,
    /// This one, or that there is none.
    Sent(Option<Steady>),
    /// A switch brought what counts from the moment the relay closed; an OFF brings that there is none.
    WithSwitch(RunLimit),
    /// A switch failed that would have brought one.
    Uncertain,
}

impl SentEnd {
    /// Whether a worker that was sent this already does what the end requires, for an outlet whose relay closed then.
    pub fn covers(self, end: Option<Steady>, closed_at: Option<Steady>) -> bool {
        let is_known = match self {
            Self::NotSent | Self::Sent(_) => true,
            Self::WithSwitch(run) => closed_at.is_some() || run == RunLimit::default(),
            Self::Uncertain => false,
        };
        match (self.end(closed_at), end) {
            _ if !is_known => false,
            (None, None) => true,
            (Some(sent), Some(end)) => sent.since(end).abs() <= CLOSE,
            _ => false,
        }
    }

    /// The end that the worker has, as far as that is known.
    pub fn end(self, closed_at: Option<Steady>) -> Option<Steady> {
        match self {
            Self::NotSent | Self::Uncertain => None,
            Self::Sent(sent) => sent,
            Self::WithSwitch(run) => run.end(closed_at?),
        }
    }

    /// Whether the worker may have an end that has to be taken back.
    pub fn is_some(self) -> bool {
        match self {
            Self::NotSent => false,
            Self::Sent(end) => end.is_some(),
            Self::WithSwitch(run) => run != RunLimit::default(),
            Self::Uncertain => true,
        }
    }
}

/// What bounds the run of an outlet.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// The outlet.
    pub outlet: &'a OutletState,
    /// Its group, if it is in one.
    pub group: Option<&'a Group>,
    /// The limits in force.
    pub limits: Limits,
    /// How long a thermostat lets it be on.
    pub lease: Option<Lease>,
    /// Where the group is.
    pub location: &'a Location,
    /// The moment.
    pub now: Now,
}

impl Bounds<'_> {
    /// When an outlet that is on has to be off.
    pub fn end(&self) -> Option<Steady> {
        self.planned_end().into_iter().chain(self.limit_end()).min()
    }

    /// How long an outlet may stay on that is switched on by a command that is sent now.
    pub fn run_limit(&self) -> RunLimit {
        let limit = self.limit_end();
        if self.outlet.run_time.on_since().is_some() {
            return RunLimit {
                off_by: self.planned_end().into_iter().chain(limit).min(),
                max_on: None,
            };
        }
        // The limit counts from the moment the relay closes, not from now.
        RunLimit {
            off_by: self.planned_end(),
            max_on: limit.map(|end| self.now.steady.until(end)),
        }
    }

    /// When the limits switch off an outlet that is on.
    pub fn limit_at(&self) -> Option<Timestamp> {
        self.outlet.run_time.on_since()?;
        Some(self.now.wall_at(self.limit_end()?))
    }

    /// Whether the end that its worker has is early enough, and late enough for now: a lease is renewed now and then. Also
    /// when to renew it.
    pub fn holds_lease(&self, end: Option<Steady>) -> Option<Steady> {
        let sent = self.outlet.off_by.end(self.outlet.closed_at())?;
        let renewal = self.lease?.renewal(sent)?;
        (sent <= end?.after(CLOSE) && renewal > self.now.steady).then_some(renewal)
    }

    /// By the timer, by the override where the schedules turn it off then, or by the lease of a thermostat.
    fn planned_end(&self) -> Option<Steady> {
        let timer = self.outlet.timer.and_then(|timer| timer.off_at(self.now));
        let group = self.group.filter(|group| group.is_scheduled());
        let overridden = group.and_then(|group| self.override_end(group, self.outlet.overridden?));
        let lease = self.lease.map(|lease| lease.off_by(self.now.steady));
        timer.into_iter().chain(overridden).chain(lease).min()
    }

    fn override_end(&self, group: &Group, found: Override) -> Option<Steady> {
        if found.state() != OverrideState::On {
            return None;
        }
        let end = found.end(group, self.location, self.now)?;
        let open = |schedule: &planner::rules::Schedule| {
            schedule.enabled && schedule.calendar(&group.id, self.location).open_at(end).is_some()
        };
        (!group.schedules.iter().any(open)).then(|| self.now.steady_at(end))
    }

    fn limit_end(&self) -> Option<Steady> {
        self.group?;
        let zone: &TimeZone = &self.location.zone;
        let due = self.outlet.run_time.runs_until(&self.limits, self.now, zone);
        due.map(|due| due.at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_switch_brings_the_end_of_the_run_that_it_begins() {
        let at = |seconds| Steady::at(jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
        let run = |off_by: Option<i64>, max_on: Option<u64>| {
            SentEnd::WithSwitch(RunLimit {
                off_by: off_by.map(at),
                max_on: max_on.map(Duration::from_secs),
            })
        };
        let none = run(None, None);
        for (sent, end, closed_at, covers) in [
            (SentEnd::NotSent, None, Some(100), true),
            (SentEnd::NotSent, Some(160), Some(100), false),
            (SentEnd::Sent(Some(at(162))), Some(160), Some(100), true),
            (SentEnd::Sent(Some(at(163))), Some(160), Some(100), false),
            (run(None, Some(60)), Some(160), Some(100), true),
            (run(None, Some(60)), Some(160), Some(103), false),
            (run(Some(130), Some(60)), Some(130), Some(100), true),
            (run(Some(130), Some(60)), Some(160), Some(100), false),
            (run(None, Some(60)), None, Some(100), false),
            (run(None, Some(60)), Some(160), None, false),
            (none, None, None, true),
            (none, None, Some(100), true),
            (none, Some(160), Some(100), false),
            (SentEnd::Uncertain, None, None, false),
            (SentEnd::Uncertain, Some(160), Some(100), false),
        ] {
            let found = sent.covers(end.map(at), closed_at.map(at));
            assert_eq!(found, covers, "{sent:?} {end:?} {closed_at:?}");
        }
    }
}
