//! When a relay must be off at the latest, also without the bridge: its worker keeps the device's countdown that way.

use jiff::{SignedDuration, tz::TimeZone};
use planner::{
    Now, Steady,
    location::Location,
    overrides::{Override, OverrideState},
    rules::{Group, Limits},
};

use super::outlets::OutletState;
use crate::domain::device_command::RunLimit;

/// Two ends this close are the same: a device counts whole seconds.
const CLOSE: SignedDuration = SignedDuration::from_secs(2);

/// The end that the worker of an outlet was last sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SentEnd {
    /// None, or the worker is a new one.
    #[default]
    NotSent,
    /// This one, or that there is none.
    Sent(Option<Steady>),
    /// A switch to ON brought one, which may not be wanted any more.
    WithSwitch,
}

impl SentEnd {
    /// Whether a worker that was sent this already does what the end requires.
    pub fn covers(self, end: Option<Steady>) -> bool {
        match (self, end) {
            (Self::NotSent | Self::Sent(None), None) => true,
            (Self::Sent(Some(sent)), Some(end)) => sent.since(end).abs() <= CLOSE,
            _ => false,
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

    /// By the timer, or by the override where the schedules turn it off then.
    fn planned_end(&self) -> Option<Steady> {
        let timer = self.outlet.timer.and_then(|timer| timer.off_at(self.now));
        let group = self.group.filter(|group| group.is_scheduled());
        let overridden = group.and_then(|group| self.override_end(group, self.outlet.overridden?));
        timer.into_iter().chain(overridden).min()
    }

    fn override_end(&self, group: &Group, found: Override) -> Option<Steady> {
        if found.state() != OverrideState::On {
            return None;
        }
        let end = found.end(group, self.location, self.now)?;
        let open = |schedule: &planner::rules::Schedule| {
            schedule.enabled && schedule.calendar(self.location).open_at(end).is_some()
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
