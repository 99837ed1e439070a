//! What the scheduler knows of one outlet, and what it has asked of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::errand::{ErrandId, SwitchId};
use crate::domain::{
    report::{Availability, Countdown, DeviceRules},
    scheduling::FailSafeState,
};
use planner::{Power, period::after};

/// A plug counts whole seconds, and an answer takes some.
pub(super) const SAME_COUNTDOWN: SignedDuration = SignedDuration::from_secs(3);

/// One outlet as its device says and as we last asked.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// What its device confirmed last; also while it is out of reach.
    pub(super) power: Option<Power>,
    pub(super) availability: Availability,
    pub(super) presence: Presence,
    pub(super) on_since: Option<Timestamp>,
    /// The number of its last way from off to on, if that was heard.
    pub(super) went_on: Option<u64>,
    pub(super) countdown: Countdown,
    /// What it follows by itself.
    pub(super) rules: DeviceRules,
    /// The intent that is on its way.
    pub(super) flight: Option<Flight>,
    /// The errand that still waits for this outlet.
    pub(super) errand: Option<ErrandId>,
    /// What it may have become by an intent that failed half way.
    pub(super) doubt: Option<Power>,
    pub(super) retry: Retry,
    /// Since when it is not what it should be.
    pub(super) differs: Option<Differs>,
    pub(super) armed: Armed,
    /// When the countdown may be asked for again.
    pub(super) guard_after: Option<Instant>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            power: None,
            availability: Availability::Offline,
            presence: Presence::Steady,
            on_since: None,
            went_on: None,
            countdown: Countdown::Unknown,
            rules: DeviceRules::default(),
            flight: None,
            errand: None,
            doubt: None,
            retry: Retry::default(),
            differs: None,
            armed: Armed::default(),
            guard_after: None,
        }
    }
}

/// Whether it came back a moment ago.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Presence {
    #[default]
    Steady,
    /// It is reachable again, and what to do about that is not decided: that takes what it is now.
    Back,
}

/// An intent on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) reply: SwitchId,
    /// What it switches to; `None` touches the countdown only.
    pub(super) power: Option<Power>,
}

/// How long an outlet has not been what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Differs {
    pub(super) since: Instant,
    /// Whether that was told as an event.
    pub(super) told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Not,
    Once,
}

/// When it is asked again after a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Retry {
    /// What it is to become; for something else counting starts anew.
    pub(super) aim: Option<Power>,
    failures: u32,
    pub(super) not_before: Option<Instant>,
}

impl Retry {
    const FIRST: Duration = Duration::from_secs(5);
    const FIRST_URGENT: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_mins(1);
    /// A device that says it did what it then did not is not asked all the time.
    const PAUSE: Duration = Duration::from_secs(1);

    pub(super) fn for_aim(power: Power) -> Self {
        Self {
            aim: Some(power),
            ..Self::default()
        }
    }

    /// Whether nothing has failed since it was last what it should be.
    pub(super) fn is_first(self) -> bool {
        self.failures == 0
    }

    pub(super) fn failed(&mut self, urgency: Urgency, now: Instant) {
        let first = match urgency {
            Urgency::Limit => Self::FIRST_URGENT,
            Urgency::Schedule => Self::FIRST,
        };
        let wait = first.saturating_mul(1 << self.failures.min(6)).min(Self::LONGEST);
        self.failures += 1;
        self.not_before = Some(now + wait);
    }

    pub(super) fn succeeded(&mut self, now: Instant) {
        self.failures = 0;
        self.not_before = Some(now + Self::PAUSE);
    }
}

/// Whether something may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A limit or a timer ran out.
    Limit,
    /// The schedules, or somebody who overrides them.
    Schedule,
}

/// The countdown that we armed: the one the plug confirmed, and one we asked for since. Either may be running when a
/// request failed half way, or the bridge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Armed {
    /// When the countdown ends that the plug confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<Timestamp>,
    /// When the one ends that was asked for last.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
}

impl Armed {
    pub(super) fn ask(&mut self, ends: Timestamp) {
        self.asked = Some(ends);
    }

    /// The one to replace or clear: that which runs, else that which was asked for.
    pub(super) fn ours(self, countdown: Countdown) -> Option<Timestamp> {
        match countdown {
            Countdown::Running { to: Power::Off, ends } => {
                self.matching(ends).or(self.asked).or(self.confirmed)
            }
            _ => self.asked.or(self.confirmed),
        }
    }

    fn matching(self, ends: Timestamp) -> Option<Timestamp> {
        let same = |ours: &Timestamp| ours.duration_since(ends).abs() <= SAME_COUNTDOWN;
        self.asked.filter(same).or(self.confirmed.filter(same))
    }

    /// Whether a countdown that runs is ours.
    pub(super) fn owns(self, countdown: Countdown) -> bool {
        matches!(countdown, Countdown::Running { to: Power::Off, ends } if self.matching(ends).is_some())
    }

    /// Whether our countdown ran out, from what the plug said before and says now.
    pub(super) fn ran_out(self, before: Countdown, now_says: Countdown, now: Timestamp) -> bool {
        let over =
            matches!(before, Countdown::Running { ends, .. } if ends.duration_since(now) <= SAME_COUNTDOWN);
        over && self.owns(before) && !self.owns(now_says)
    }

    /// Takes what the plug says of it.
    pub(super) fn heard(&mut self, countdown: Countdown) {
        if let Countdown::Running { to: Power::Off, ends } = countdown
            && let Some(ours) = self.matching(ends)
        {
            self.confirmed = Some(ours);
        }
    }

    /// The wall clock jumped. If it was set, the countdown ends that much later or earlier by it; if the machine slept,
    /// it ends when it did. Both are ours.
    pub(super) fn fork(&mut self, by: SignedDuration) {
        self.confirmed = self.asked.or(self.confirmed);
        self.asked = self.confirmed.map(|ends| after(ends, by));
    }
}

impl Live {
    /// What the planner goes by: nothing is known of what is out of reach.
    pub(super) fn observed(&self) -> Option<Power> {
        self.power.filter(|_| self.availability == Availability::Online)
    }

    /// What it is, or is about to be.
    pub(super) fn coming(&self) -> Option<Power> {
        self.flight.and_then(|flight| flight.power).or(self.power)
    }

    /// Whether a change to this was made by us, or may have been.
    pub(super) fn awaits(&self, power: Power) -> bool {
        self.flight.and_then(|flight| flight.power) == Some(power) || self.doubt == Some(power)
    }

    /// The countdown that somebody else started on the plug: what it switches to, and when.
    pub(super) fn foreign(&self) -> Option<(Power, Timestamp)> {
        match self.countdown {
            Countdown::Running { to, ends } if !self.armed.owns(self.countdown) => Some((to, ends)),
            _ => None,
        }
    }

    /// Whether nothing of ours is under way with it.
    pub(super) fn is_idle(&self) -> bool {
        self.flight.is_none() && self.errand.is_none()
    }

    /// Whether it is idle, and no countdown runs on its plug or may be ours.
    pub(super) fn is_left_alone(&self) -> bool {
        let counts = matches!(self.countdown, Countdown::Running { .. });
        self.is_idle() && !counts && self.armed == Armed::default()
    }

    /// Whether it is on, goes on now, or is not known to be off.
    pub(super) fn may_be_on(&self) -> bool {
        let goes_on = self.flight.and_then(|flight| flight.power) == Some(Power::On);
        self.power != Some(Power::Off) || goes_on || self.doubt == Some(Power::On)
    }

    pub(super) fn guard_state(&self) -> Option<FailSafeState> {
        match self.countdown {
            Countdown::Unknown => None,
            Countdown::Unsupported => Some(FailSafeState::Unsupported),
            Countdown::Idle => Some(FailSafeState::Idle),
            Countdown::Running { .. } if self.armed.owns(self.countdown) => Some(FailSafeState::Armed),
            Countdown::Running { .. } => Some(FailSafeState::External),
            Countdown::Failed => Some(FailSafeState::Failed),
        }
    }
}
