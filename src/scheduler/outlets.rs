//! One relay as its device reports it, what the bridge promised about it, and what it was last asked.
//!
//! ```text
//!            first report              switch sent             confirmed
//!  unknown ----------------> off/on --------------> switching ----------> off/on
//!                              |  ^                     | failed half way: in doubt until the next reading
//!              offline report  |  | decided (on_reconnect, limits)
//!                              v  |
//!                       unreachable --> returned
//!                              first reading
//! ```

use jiff::tz::TimeZone;
use planner::{
    Now, OutletPath, Power, Steady,
    overrides::{Origin, Override},
    safety::{Report, RunTime},
};
use serde::{Deserialize, Serialize};

use super::{
    commands::{Before, CommandId, PendingMember, SwitchId, Undo},
    fail_safe::SentEnd,
    last_change::{ChangeCause, LastChange},
    off_rules::OffRuleSync,
    retry::Retry,
    timers::{Timer, TimerKind},
};
use crate::domain::{
    off_rules::OurRules,
    report::{self, ChangedBy, Countdown, DeviceRules, Phase},
};

/// How long an outlet may differ from what it should be before that is a mismatch.
const TOLERATED: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);

/// One relay.
#[derive(Debug)]
pub struct OutletState {
    /// What it is called now. A relay whose name is gone keeps the last one.
    pub path: OutletPath,
    /// What changed it last; `None` until a change was seen.
    pub changed: Option<LastChange>,
    /// What its device confirmed last; also while it is out of reach.
    pub power: Option<Power>,
    /// Whether its device can be reached.
    pub online: bool,
    /// When its relay closed, by the device's count.
    pub on_at: Option<Steady>,
    /// When its relay last closed while the bridge watched, or was closed by the bridge without a command.
    pub closed_at: Option<Steady>,
    /// The number of the decision that turned it on: of a command, or of the report that showed it.
    pub went_on: Option<u64>,
    /// The countdown on the device.
    pub countdown: Countdown,
    /// What the device follows by itself.
    pub rules: DeviceRules,
    /// What it has run.
    pub run_time: RunTime,
    /// Switches it at a deadline.
    pub timer: Option<Timer>,
    /// Instead of the schedules.
    pub overridden: Option<Override>,
    /// Our rules on the device, and what is wanted there.
    pub off_rules: OffRuleSync,
    /// The switch on its way.
    pub in_flight: Option<InFlight>,
    /// The command that waits for this outlet.
    pub pending: Option<PendingMember>,
    /// The `AUTO` that is answered once it is decided what follows.
    pub returning: Option<PendingMember>,
    /// What there was before that command.
    pub undo: Option<Undo>,
    /// What it may have become by a switch that failed half way.
    pub doubt: Option<Power>,
    /// When it is asked again after a failure.
    pub retry: Retry,
    /// Since when it is not what it should be.
    pub mismatch: Option<Mismatch>,
    /// The end that its worker was last sent.
    pub off_by: SentEnd,
    /// Whether its device has a meter; `None` before it was reached.
    pub metered: Option<bool>,
    /// Whether it was reported that its timed OFF is over and it may not be on yet.
    pub held_back: bool,
    /// Whether limits apply or applied to it, so that its run is kept over a restart.
    pub limited: bool,
    /// The last entry in the state file. In a box: most outlets have none.
    pub persisted: Option<Box<PersistedRelay>>,
}

/// A switch on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Which.
    pub id: SwitchId,
    /// To what; `None` switches nothing.
    pub power: Option<Power>,
    /// The number of the decision behind it.
    pub number: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// What people are shown as the cause of the change.
    pub cause: ChangeCause,
}

/// What a switch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A member of a command.
    Command(CommandId),
    /// Makes the outlet what it should be.
    Reconcile(Urgency),
}

/// Whether something may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A limit or a timer ran out.
    Limit,
    /// The schedules, or an override.
    Schedule,
}

/// How long an outlet has not been what it should be. One that agrees for less than [`TOLERATED`] and then differs again
/// has differed all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// What it should be.
    expected: Power,
    /// Since when it is not.
    since: Steady,
    /// Since when it is, for the time being.
    agrees_since: Option<Steady>,
    /// Whether it was reported.
    pub reported: bool,
}

impl Mismatch {
    /// What follows of the one before, for an outlet that is in this state.
    pub fn follow(
        before: Option<Self>,
        expected: Option<Power>,
        power: Option<Power>,
        now: Steady,
    ) -> Option<Self> {
        let expected = expected?;
        let agreed_long = |agreed: Option<Steady>| agreed.is_some_and(|since| now.since(since) >= TOLERATED);
        let before = before.filter(|before| before.expected == expected && !agreed_long(before.agrees_since));
        if power == Some(expected) {
            return before.map(|before| Self {
                agrees_since: before.agrees_since.or(Some(now)),
                ..before
            });
        }
        let new = Self {
            expected,
            since: now,
            agrees_since: None,
            reported: false,
        };
        Some(before.map_or(new, |before| Self {
            agrees_since: None,
            ..before
        }))
    }

    /// When it counts, if it differs now.
    pub fn counts_at(&self) -> Option<Steady> {
        self.agrees_since.is_none().then(|| self.since.after(TOLERATED))
    }
}

/// A relay in the state file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistedRelay {
    /// What it was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<OutletPath>,
    /// What it has run.
    pub run: RunTime,
    /// Its timer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    /// Its override.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Override>,
    /// Our rules on its device.
    #[serde(skip_serializing_if = "OurRules::is_empty")]
    pub off_rules: OurRules,
}

/// A reading showed another state than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state now.
    pub power: Power,
    /// The state before; `None` at the first reading.
    pub before: Option<Power>,
    /// Whether the device could not be reached just before.
    pub returned: bool,
    /// What made it.
    pub by: ChangedBy,
}

impl Change {
    /// Whether the state is another one.
    pub fn is_change(self) -> bool {
        self.before != Some(self.power)
    }

    /// Whether the bridge, a countdown or a rule of the bridge made it.
    pub fn is_ours(self) -> bool {
        matches!(
            self.by,
            ChangedBy::Command | ChangedBy::Countdown | ChangedBy::OffRule
        )
    }

    /// Whether the countdown that the bridge armed switched off.
    pub fn is_counted(self) -> bool {
        self.by == ChangedBy::Countdown && self.power == Power::Off
    }

    /// Whether a protection of the device switched off.
    pub fn is_trip(self) -> bool {
        self.by == ChangedBy::Protection && self.power == Power::Off
    }
}

impl OutletState {
    /// Its timed ON or OFF, as the override that this is where there are schedules.
    pub fn timed(&self, now: Now) -> Option<Override> {
        let holds = |timer: &Timer| timer.kind == TimerKind::Timed && !timer.is_over(now);
        let timer = self.timer.filter(holds)?;
        let is_free = self.pending.is_none() && self.overridden.is_none();
        is_free.then(|| Override::until(timer.until_then().into(), timer.ends, Origin::Command, now))
    }

    /// A relay that was never read.
    pub fn new(path: OutletPath) -> Self {
        Self {
            path,
            changed: None,
            power: None,
            online: false,
            on_at: None,
            closed_at: None,
            went_on: None,
            countdown: Countdown::Unknown,
            rules: DeviceRules::default(),
            run_time: RunTime::default(),
            timer: None,
            overridden: None,
            off_rules: OffRuleSync::default(),
            in_flight: None,
            pending: None,
            returning: None,
            undo: None,
            doubt: None,
            retry: Retry::default(),
            mismatch: None,
            off_by: SentEnd::NotSent,
            metered: None,
            held_back: false,
            limited: false,
            persisted: None,
        }
    }

    /// A relay as the state file has it.
    pub fn restored(path: OutletPath, persisted: PersistedRelay) -> Self {
        Self {
            run_time: persisted.run,
            timer: persisted.timer,
            overridden: persisted.overridden,
            off_rules: OffRuleSync::new(persisted.off_rules.clone()),
            limited: persisted.run != RunTime::default(),
            persisted: Some(Box::new(persisted)),
            ..Self::new(path)
        }
    }

    /// What goes into the state file; `None` if there is nothing to remember. An override or a timer that no device
    /// confirmed is left out: a command that failed must not come back with the next start. A new timer that can only
    /// switch off is kept all the same.
    pub fn to_persist(&self, confirmed: bool) -> Option<Box<PersistedRelay>> {
        let (mut timer, mut overridden) = (self.timer, self.overridden);
        if let Some(undo) = &self.undo {
            if !confirmed {
                if let Before::Was(before) = undo.overridden {
                    overridden = before;
                }
                timer = timer.filter(|timer| timer.to == Power::Off);
            }
            timer = timer.or(undo.timer);
        }
        let kept = PersistedRelay {
            name: Some(self.path.clone()),
            run: if self.limited {
                self.run_time
            } else {
                RunTime::default()
            },
            timer,
            overridden,
            off_rules: self.off_rules.ours().clone(),
        };
        let empty = PersistedRelay {
            name: kept.name.clone(),
            ..PersistedRelay::default()
        };
        (kept != empty).then(|| Box::new(kept))
    }

    /// Takes a reading. `number` is the number of this report among all decisions.
    pub fn apply(
        &mut self,
        reading: &report::Outlet,
        phase: Phase,
        number: u64,
        now: Now,
        zone: &TimeZone,
    ) -> Option<Change> {
        let was_offline = !std::mem::replace(&mut self.online, true);
        if was_offline {
            self.retry = Retry::default();
            // Its worker may be a new one, or the one that still has the end from before. A switch on its way brings
            // its own.
            if self.in_flight.is_none_or(|flight| flight.power.is_none()) {
                self.off_by = if self.off_by.is_some() {
                    SentEnd::Uncertain
                } else {
                    SentEnd::NotSent
                };
            }
        }
        self.countdown = reading.countdown;
        self.on_at = reading.on_at;
        self.rules.clone_from(&reading.rules);
        self.off_rules.on_reading(&reading.rules);
        let power = reading.power?;
        // The first reading after a start is no return: what it was before is not known.
        let returned = was_offline && self.power.is_some();
        let before = self.power.replace(power);
        let mut change = Change {
            power,
            before,
            returned,
            by: reading.changed_by,
        };
        if !change.is_ours() && (self.is_commanded() || self.awaits(power)) {
            change.by = ChangedBy::Command;
        }
        if phase == Phase::Ready {
            self.doubt = None;
        }
        if change.is_change() {
            // What a command decided counts from the command on, however late its device reports it.
            let decided = self.in_flight.filter(|flight| flight.power == Some(power));
            let number = decided.map_or(number, |flight| flight.number);
            let cause = decided.map(|flight| flight.cause);
            self.changed = before.map(|_| LastChange {
                at: now.wall,
                to: power,
                cause: cause_of(change.by, cause),
            });
            self.went_on = before.filter(|_| power == Power::On).map(|_| number);
            if self.went_on.is_some() {
                self.closed_at = Some(now.steady);
            }
        }
        self.count(reading, now, zone);
        Some(change)
    }

    /// Counts what it has run.
    fn count(&mut self, reading: &report::Outlet, now: Now, zone: &TimeZone) {
        let Some(power) = self.power else { return };
        let missed_off = reading
            .off_seen_at
            .filter(|off| power == Power::On && self.run_time.on_since().is_some_and(|since| since < *off));
        if let Some(off) = missed_off.map(|off| off.min(now.steady)) {
            let at = Now {
                wall: now.wall_at(off),
                steady: off,
            };
            let report = Report {
                power: Power::Off,
                on_time: None,
                at,
            };
            self.run_time.observe(report, zone);
        }
        let report = Report {
            power,
            on_time: reading.on_at.map(|at| now.steady.elapsed_since(at)),
            at: now,
        };
        self.run_time.observe(report, zone);
    }

    /// Takes over what an earlier record of the same relay holds: one that was made before its hardware was known.
    pub fn merge(&mut self, earlier: Self) {
        self.timer = earlier.timer.or(self.timer);
        self.overridden = earlier.overridden.or(self.overridden);
        self.in_flight = earlier.in_flight.or(self.in_flight);
        self.pending = earlier.pending.or(self.pending);
        self.returning = earlier.returning.or(self.returning);
        self.undo = earlier.undo.or(self.undo);
        self.limited |= earlier.limited;
        if self.run_time == RunTime::default() {
            self.run_time = earlier.run_time;
        }
        if self.off_rules.ours().is_empty() {
            self.off_rules = earlier.off_rules;
        }
    }

    /// Whether a command is under way on its device. One that waits for its turn is not.
    fn is_commanded(&self) -> bool {
        self.pending.is_some() && self.in_flight.is_some()
    }

    /// What the command on its way switches it to.
    pub fn commanded_to(&self) -> Option<Power> {
        self.pending.and(self.in_flight)?.power
    }

    /// What the planner goes by: nothing is known of what is out of reach.
    pub fn observed(&self) -> Option<Power> {
        self.power.filter(|_| self.online)
    }

    /// What it is, or is about to be.
    pub fn coming(&self) -> Option<Power> {
        self.in_flight.and_then(|flight| flight.power).or(self.power)
    }

    /// Whether a change to this was made by the bridge, or may have been.
    pub fn awaits(&self, power: Power) -> bool {
        self.in_flight.and_then(|flight| flight.power) == Some(power) || self.doubt == Some(power)
    }

    /// When its relay closed, by the device's count or as it was seen.
    pub fn closed_at(&self) -> Option<Steady> {
        self.on_at.or_else(|| self.run_time.on_since())
    }

    /// Whether its device ends a run by itself, without the bridge.
    pub fn counts_down(&self) -> bool {
        matches!(self.countdown, Countdown::Idle | Countdown::Armed { .. })
    }

    /// Whether its device has to count down for a command, as soon as it can be reached.
    pub fn has_to_be_armed(&self) -> bool {
        let counts = !matches!(
            self.countdown,
            Countdown::Unsupported | Countdown::External { .. }
        );
        counts && self.is_idle() && self.observed() != Some(Power::Off)
    }

    /// Whether it is on with a countdown of the bridge that its worker was sent no end for.
    pub fn is_left_armed(&self) -> bool {
        let is_armed = matches!(self.countdown, Countdown::Armed { .. });
        is_armed && self.power == Some(Power::On) && self.off_by == SentEnd::NotSent
    }

    /// Whether nothing of ours is under way with it.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.pending.is_none()
    }

    /// Whether it is on, goes on now, or is not known to be off.
    pub fn may_be_on(&self) -> bool {
        let goes_on = self.in_flight.and_then(|flight| flight.power) == Some(Power::On);
        self.power != Some(Power::Off) || goes_on || self.doubt == Some(Power::On)
    }

    /// Whether it has been something else than it should be for too long.
    pub fn is_mismatch(&self, now: Steady) -> bool {
        let counts_at = self.mismatch.and_then(|mismatch| mismatch.counts_at());
        counts_at.is_some_and(|at| now >= at)
    }

    /// Whether it needs a look though it is in no group.
    pub fn concerns_us(&self) -> bool {
        self.timer.is_some()
            || !self.is_idle()
            || self.overridden.is_some()
            || !self.off_rules.ours().is_empty()
            || self.countdown.runs()
            || self.off_by.is_some()
    }

    /// Whether it has to be remembered though no configured name stands for it.
    pub fn is_worth_keeping(&self, now: Now) -> bool {
        !self.is_idle() || self.timer.is_some() || (self.limited && !self.run_time.is_forgettable(now))
    }
}

/// `decided` is the cause of a switch of ours to this state that is on its way.
fn cause_of(changed_by: ChangedBy, decided: Option<ChangeCause>) -> ChangeCause {
    match changed_by {
        ChangedBy::Command => decided.unwrap_or(ChangeCause::Command),
        ChangedBy::Countdown => ChangeCause::Countdown,
        ChangedBy::OffRule => ChangeCause::OffRule,
        ChangedBy::Protection => ChangeCause::Protection,
        ChangedBy::AutoOff => ChangeCause::AutoOff,
        ChangedBy::External | ChangedBy::Unknown => ChangeCause::External,
    }
}
