//! Timers: timed ON, timed OFF and countdowns. An outlet has one, and whatever is newer ends it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{
    Look, Scheduler, Wake,
    act::Aim,
    outlet::{SAME_COUNTDOWN, Urgency},
    tell::rfc3339,
};
use crate::domain::{device_command::Source, report::EventKind, scheduling::OutletStatus};
use planner::{
    OutletPath, Power,
    overrides::{Lifetime, Origin, Override},
    period::after,
    plan::{self, GroupPlan, Reason},
};

/// How long a timer is kept whose outlet does not appear any more, or may not be switched on.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);

/// An outlet is switched by itself at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When it was asked for.
    pub set_at: Timestamp,
    /// When the outlet is switched.
    #[serde(alias = "off_at")]
    pub at: Timestamp,
    /// To what: a timed ON and a countdown end OFF, a timed OFF ends ON.
    #[serde(default = "off")]
    pub to: Power,
}

fn off() -> Power {
    Power::Off
}

impl Timer {
    /// A timer that switches off now.
    pub(super) fn off_now(now: Timestamp) -> Self {
        Self {
            set_at: now,
            at: now,
            to: Power::Off,
        }
    }

    /// A timer for a lifetime that an outlet has without schedules: on or off for so long, then the other.
    pub(super) fn of(
        path: &OutletPath,
        power: Power,
        lifetime: Lifetime,
        now: Timestamp,
    ) -> Result<Self, String> {
        let at = match lifetime {
            Lifetime::For(length) => after(now, length.length()),
            Lifetime::Until(instant) => instant,
            Lifetime::UntilNextSchedule | Lifetime::Hold => {
                return Err(format!("{path} has no schedules to override"));
            }
        };
        if at <= now {
            return Err(format!("{at} is not in the future"));
        }
        if at.duration_since(now) > Lifetime::LONGEST {
            return Err(format!("a timed {power} lasts at most 24h"));
        }
        Ok(Self {
            set_at: now,
            at,
            to: power.toggled(),
        })
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.at <= now
    }

    /// When it switches off, if that is what it does.
    pub(super) fn off_at(&self) -> Option<Timestamp> {
        (self.to == Power::Off).then_some(self.at)
    }

    /// What the outlet is until then.
    pub(super) fn until_then(&self) -> Power {
        self.to.toggled()
    }

    /// How long it runs in all, in whole seconds.
    pub(super) fn seconds(&self) -> u32 {
        let millis = self.at.duration_since(self.set_at).as_millis();
        u32::try_from(millis.max(0).unsigned_abs().div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

impl Scheduler {
    /// What a timer that is over makes of its outlet. One that switches on asks the limits first.
    pub(super) fn timer_aim(&self, path: &OutletPath, look: Look) -> Option<Aim> {
        let timer = self
            .book
            .timers
            .get(path)
            .filter(|timer| timer.is_over(look.now))?;
        match timer.to {
            Power::Off => Some(Aim {
                power: Power::Off,
                urgency: Urgency::Limit,
                source: Source::Schedule,
            }),
            Power::On => {
                self.allow(path, Power::On, look).ok()?;
                if self.in_its_way(path).is_some() {
                    return None;
                }
                Some(Aim {
                    power: Power::On,
                    urgency: Urgency::Schedule,
                    source: Source::Schedule,
                })
            }
        }
    }

    /// Ends timers whose outlet is what they wanted, and those that nobody waits for any more.
    pub(super) fn end_timers(&mut self, look: Look) {
        let over = self
            .book
            .timers
            .iter()
            .filter(|(_, timer)| timer.is_over(look.now));
        let over: Vec<(OutletPath, Timer)> = over.map(|(path, timer)| (path.clone(), *timer)).collect();
        for (path, timer) in over {
            let live = self.live.get(&path);
            let done = live.is_some_and(|live| live.power == Some(timer.to) && live.errand.is_none());
            if done {
                info!(outlet = %path, "timed {} ended", timer.until_then());
                self.finish_timer(&path, timer, look);
                continue;
            }
            let schedules = self.book.scheduled(&path).is_some();
            if timer.to == Power::On && (schedules || self.rival_is_on(&path)) {
                // Schedules decide where there are any now; and of rivals the newest that was switched on stays.
                self.book.timers.remove(&path);
                continue;
            }
            // One that was not heard of since the start may be on. It may also be configured no longer. And who wanted
            // it on again a day ago may not want it any more.
            let heard = live.is_some_and(|live| live.power.is_some());
            let waits = heard && timer.to == Power::Off;
            if !waits && after(timer.at, FORGOTTEN) <= look.now {
                info!(outlet = %path, "its timed {} should have ended a day ago; it is dropped", timer.until_then());
                self.book.timers.remove(&path);
            }
        }
    }

    /// Off, tried until the device confirms it; then it is forgotten.
    pub(super) fn switch_off_once(&mut self, path: &OutletPath, look: Look) {
        self.book.timers.insert(path.clone(), Timer::off_now(look.now));
    }

    fn rival_is_on(&self, path: &OutletPath) -> bool {
        let is_on = |rival: &OutletPath| self.live.get(rival).and_then(|live| live.power) == Some(Power::On);
        self.rivals(path).any(is_on)
    }

    /// Looks again when a limit allows an outlet that its timer switches on; says once why it waits.
    pub(super) fn watch_timers(&mut self, look: Look, wake: &mut Wake) {
        let paths: Vec<OutletPath> = self.book.timers.keys().cloned().collect();
        self.desk.held_back.retain(|path| paths.contains(path));
        for path in paths {
            let Some(timer) = self.book.timers.get(&path) else {
                continue;
            };
            if !timer.is_over(look.now) {
                wake.by(look.instant_of(timer.at));
                continue;
            }
            if timer.to == Power::Off {
                continue;
            }
            let Err(refusal) = self.allow(&path, Power::On, look) else {
                continue;
            };
            if let Some(at) = refusal.possible_at.filter(|at| *at > look.now) {
                wake.by(look.instant_of(at));
            }
            if self.desk.held_back.insert(path.clone()) {
                let message = format!("{path} is not on again after its timed OFF: {refusal}; it waits");
                let group = self.book.rules.group_of(&path).map(|group| group.id.clone());
                self.tell_event(EventKind::RefusedBySafety, Some(&path), group, message, look);
            }
        }
    }

    /// What a timer adds to how its outlet stands. Safety goes before it, and schedules decide beside it.
    pub(super) fn add_timer(
        &self,
        standing: &mut OutletStatus,
        path: &OutletPath,
        timer: &Timer,
        look: Look,
    ) {
        if standing.source == plan::Source::Safety {
            return;
        }
        let over = timer.is_over(look.now);
        standing.next_change = [Some(timer.at).filter(|_| !over), standing.next_change]
            .into_iter()
            .flatten()
            .min();
        let end = rfc3339(timer.at, &self.book);
        let power = timer.until_then();
        if self.book.scheduled(path).is_some() && !over {
            let planned = standing
                .reason
                .take()
                .map_or_else(String::new, |reason| format!("; {reason}"));
            standing.reason = Some(Reason::new(format!(
                "countdown to {} at {end}{planned}",
                timer.to
            )));
            return;
        }
        standing.since = Some(timer.set_at);
        let (expected, reason) = match self.allow(path, timer.to, look) {
            _ if !over => (power, format!("timed {power} until {end}")),
            Ok(()) => (timer.to, format!("timed {power} ended {end}")),
            Err(refusal) => (power, format!("timed {power} ended {end}, but {refusal}")),
        };
        standing.expected = Some(expected);
        standing.reason = Some(Reason::new(reason));
    }

    /// When the first timer of a member ends, and what the group is then, unless it goes off and others stay on.
    pub(super) fn timer_of(&self, plan: &GroupPlan) -> Option<(Timestamp, Option<Power>)> {
        let members = &self.book.rules.group(&plan.id)?.outlets;
        let timers = members
            .iter()
            .filter_map(|path| Some((path, self.book.timers.get(path)?)));
        let (first, timer) = timers.min_by_key(|(_, timer)| timer.at)?;
        let is_off = |path: &OutletPath| self.live.get(path).and_then(|live| live.power) == Some(Power::Off);
        let others_off = || members.iter().filter(|path| *path != first).all(is_off);
        let then = (timer.to == Power::On || others_off()).then_some(timer.to);
        Some((timer.at, then))
    }

    /// An outlet became what its timer wants: by the timer, by its own countdown, or by somebody. It needs none any
    /// more, unless it is just being switched. A plug that counts a little too fast is not somebody.
    pub(super) fn drop_timer(&mut self, path: &OutletPath, power: Power, counted: Counted, look: Look) {
        let switching = self.live.get(path).is_some_and(|live| live.errand.is_some());
        let Some(timer) = self.book.timers.get(path).copied() else {
            return;
        };
        // One that a ceiling switched off goes on again.
        let resumes = power == Power::Off && self.book.rations.resumes(path);
        if switching || resumes || timer.to != power {
            return;
        }
        info!(outlet = %path, state = %power, "its timer ends");
        let in_time = timer.at <= after(look.now, SAME_COUNTDOWN);
        if in_time && (counted == Counted::Yes || timer.is_over(look.now)) {
            self.finish_timer(path, timer, look);
        } else {
            self.book.timers.remove(path);
        }
    }

    /// A timer did what it was for. Where there are schedules, a countdown is a wish for OFF from then on, until they
    /// turn the outlet on the next time.
    fn finish_timer(&mut self, path: &OutletPath, timer: Timer, look: Look) {
        self.book.timers.remove(path);
        let rules = self.book.rules.clone();
        let Some(group) = rules.group_of(path).filter(|group| group.is_scheduled()) else {
            return;
        };
        if timer.to == Power::On {
            return;
        }
        let Ok(new) = Override::new(
            Power::Off.into(),
            Lifetime::UntilNextSchedule,
            Origin::Command,
            timer.at,
        ) else {
            return;
        };
        let end = new.end(group, &rules.location);
        if end.is_some_and(|end| end <= look.now) {
            return;
        }
        self.book.overrides.set(path.clone(), new);
        let message = format!(
            "{path} is overridden to OFF until {}: its countdown ended",
            self.in_words(end)
        );
        let group = group.id.clone();
        self.tell_event(EventKind::OverrideSet, Some(path), Some(group), message, look);
    }
}

/// Whether the countdown that we armed on a plug made it what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Yes,
    No,
}
