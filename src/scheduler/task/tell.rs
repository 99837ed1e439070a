//! What the scheduler says: how things stand, on change only, and what happened.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use tracing::info;

use super::{
    Look, Scheduler,
    act::TOLERATED,
    book::Book,
    outlet::{Live, Told},
    timer::Timer,
};
use crate::domain::{
    report::{Event, EventKind},
    scheduling::{GroupStatus, OutletStatus, SchedulerUpdate},
};
use planner::{
    GroupId, OutletPath, Power,
    plan::{GroupPlan, Memory, Rule, Source, Vacation, plan_group},
    rules::Rules,
};

/// Changes of a group's members within this time are told as one.
const TOGETHER: SignedDuration = SignedDuration::from_mins(1);

/// Words that wait, and what was said last.
#[derive(Debug)]
pub(super) struct Telling {
    words: VecDeque<SchedulerUpdate>,
    outlets: BTreeMap<OutletPath, Arc<OutletStatus>>,
    groups: BTreeMap<GroupId, Arc<GroupStatus>>,
    /// What a group's coming state was found for, and that state.
    coming: BTreeMap<GroupId, (Outlook, Option<Power>)>,
    /// Whether schedules turn a group on.
    running: BTreeMap<GroupId, Running>,
}

/// What the coming state of a group depends on.
#[derive(Debug, PartialEq)]
struct Outlook {
    plan: GroupPlan,
    /// The next change of each member: a limit of one that is not the first is not in the plan of the group.
    members: Vec<Option<Timestamp>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    Yes,
    No,
}

impl Telling {
    pub(super) fn new(book: &Book) -> Self {
        Self {
            words: [
                SchedulerUpdate::Rules(book.rules.clone()),
                SchedulerUpdate::Vacation(book.vacation),
            ]
            .into(),
            outlets: BTreeMap::new(),
            groups: BTreeMap::new(),
            coming: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    pub(super) fn has_words(&self) -> bool {
        !self.words.is_empty()
    }

    pub(super) fn next_word(&mut self) -> Option<SchedulerUpdate> {
        self.words.pop_front()
    }

    /// A newer standing takes the place of one that still waits: nobody needs the older one.
    pub(super) fn say(&mut self, word: SchedulerUpdate) {
        let replaced = |waiting: &SchedulerUpdate| match (waiting, &word) {
            (SchedulerUpdate::Outlet(old, _), SchedulerUpdate::Outlet(new, _)) => old == new,
            (SchedulerUpdate::Group(old, _), SchedulerUpdate::Group(new, _)) => old == new,
            _ => false,
        };
        if let Some(at) = self.words.iter().position(replaced) {
            self.words.remove(at);
        }
        self.words.push_back(word);
    }

    /// Other rules hold: what was said of groups that are gone, and what comes next, counts no more.
    pub(super) fn resettle(&mut self, rules: &Rules) {
        let known = |id: &GroupId| rules.group(id).is_some();
        self.groups.retain(|id, _| known(id));
        self.running.retain(|id, _| known(id));
        self.coming.clear();
    }

    fn outlet(&mut self, path: &OutletPath, standing: OutletStatus) {
        if self.outlets.get(path).is_some_and(|told| **told == standing) {
            return;
        }
        let standing = Arc::new(standing);
        self.outlets.insert(path.clone(), standing.clone());
        self.say(SchedulerUpdate::Outlet(path.clone(), standing));
    }

    fn group(&mut self, id: &GroupId, standing: GroupStatus) {
        if self.groups.get(id).is_some_and(|told| **told == standing) {
            return;
        }
        let standing = Arc::new(standing);
        self.groups.insert(id.clone(), standing.clone());
        self.say(SchedulerUpdate::Group(id.clone(), standing));
    }
}

impl Scheduler {
    /// One log line and one event.
    pub(super) fn tell_event(
        &mut self,
        kind: EventKind,
        outlet: Option<&OutletPath>,
        group: Option<GroupId>,
        message: String,
        look: Look,
    ) {
        info!(event = %kind, "{message}");
        self.telling.say(SchedulerUpdate::Event(Event {
            kind,
            device: outlet.map(|path| path.device.clone()),
            outlet: outlet.and_then(|path| path.outlet.clone()),
            group,
            message,
            at: look.now,
        }));
    }

    /// One event per group, however many members it has.
    pub(super) fn tell_overrides_ended(&mut self, ended: &[OutletPath], how: &str, look: Look) {
        let mut by_group: BTreeMap<Option<GroupId>, Vec<&OutletPath>> = BTreeMap::new();
        for path in ended {
            let group = self.book.rules.group_of(path).map(|group| group.id.clone());
            by_group.entry(group).or_default().push(path);
        }
        for (group, paths) in by_group {
            let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
            let message = format!("the override of {} ended {how}", names.join(", "));
            let single = match paths.as_slice() {
                [path] => Some(*path),
                _ => None,
            };
            self.tell_event(EventKind::OverrideEnded, single, group, message, look);
        }
    }

    /// An instant for people: with the offset of the place.
    pub(super) fn in_words(&self, at: Option<Timestamp>) -> String {
        match at {
            None => "AUTO".to_owned(),
            Some(at) => rfc3339(at, &self.book),
        }
    }

    /// Says how outlets and groups stand, where that changed.
    pub(super) fn tell_standings(&mut self, look: Look) {
        self.tell_problems(look);
        let members = self.book.rules.groups.iter().flat_map(|group| &group.outlets);
        let counting = self.live.iter().filter(|(_, live)| live.foreign().is_some());
        let counting = counting.map(|(path, _)| path).chain(self.book.mirrored.keys());
        let others = self.book.timers.keys().chain(counting);
        let paths: BTreeSet<OutletPath> = members.chain(others).cloned().collect();
        for path in &paths {
            let standing = self.outlet_standing(path, look);
            self.telling.outlet(path, standing);
        }
        let told: Vec<OutletPath> = self.telling.outlets.keys().cloned().collect();
        for path in told.iter().filter(|path| !paths.contains(path)) {
            self.telling.outlet(path, OutletStatus::MANUAL);
            self.telling.outlets.remove(path);
        }
        for plan in self.book.plan.groups.clone() {
            self.tell_running(&plan, look);
            let standing = self.group_standing(&plan);
            self.telling.group(&plan.id, standing);
        }
    }

    fn tell_problems(&mut self, look: Look) {
        let paths: Vec<OutletPath> = self.live.keys().cloned().collect();
        for path in paths {
            let aim = self.aim(&path, look);
            let Some(live) = self.live.get_mut(&path) else {
                continue;
            };
            let (Some(aim), true) = (aim, is_problem(live, look)) else {
                continue;
            };
            let Some(differs) = &mut live.differs else {
                continue;
            };
            if differs.told == Told::Once {
                continue;
            }
            differs.told = Told::Once;
            let message = match live.power {
                Some(power) => format!("{path} is {power} and should be {}", aim.power),
                None => format!("{path} should be {}, and is not known to be", aim.power),
            };
            let group = self.book.rules.group_of(&path).map(|group| group.id.clone());
            self.tell_event(EventKind::StateMismatch, Some(&path), group, message, look);
        }
    }

    fn outlet_standing(&self, path: &OutletPath, look: Look) -> OutletStatus {
        let live = self.live.get(path);
        let timer = self.book.timers.get(path);
        let foreign = live.and_then(Live::foreign);
        let mut standing = OutletStatus {
            mismatch: Some(live.is_some_and(|live| is_problem(live, look))),
            failsafe: live.and_then(Live::guard_state),
            countdown: timer
                .filter(|timer| timer.to == Power::Off)
                .map_or(0, Timer::seconds),
            timer_until: timer.map(|timer| timer.at),
            timer_to: timer.map(|timer| timer.to),
            device_timer_until: foreign.map(|(_, ends)| ends),
            device_timer_to: foreign.map(|(to, _)| to),
            mirrored: self
                .book
                .mirrored
                .get(path)
                .into_iter()
                .flat_map(|ours| ours.keys().cloned())
                .collect(),
            ..OutletStatus::MANUAL
        };
        if let Some(plan) = self.book.plan.outlets.get(path) {
            standing.expected = plan.desired;
            standing.source = plan.source;
            standing.rule = plan.rule.as_ref().map(ToString::to_string);
            standing.reason = Some(plan.reason.clone());
            standing.since = plan.since;
            standing.next_change = plan.next_change;
            standing.override_until = plan.override_until;
            standing.cooldown_until = plan.cooldown_until;
            if let (Some(Rule::Limit(_)), Some(told)) = (&plan.rule, self.telling.outlets.get(path))
                && told.rule == standing.rule
            {
                standing.since = told.since;
            }
        }
        if let Some(timer) = timer {
            self.add_timer(&mut standing, path, timer, look);
        }
        OutletStatus {
            since: standing.since.map(|since| to_the_second(since, RoundMode::Floor)),
            next_change: standing.next_change.map(coming),
            override_until: standing.override_until.map(coming),
            cooldown_until: standing.cooldown_until.map(coming),
            timer_until: standing.timer_until.map(coming),
            device_timer_until: standing.device_timer_until.map(coming),
            ..standing
        }
    }

    /// Once per edge of the group as a whole; a start is no edge.
    fn tell_running(&mut self, plan: &GroupPlan, look: Look) {
        let rests = plan.source == Source::Vacation;
        let running = if plan.winner.is_some() && !rests {
            Running::Yes
        } else {
            Running::No
        };
        let before = self.telling.running.insert(plan.id.clone(), running);
        if before.is_none_or(|before| before == running) {
            return;
        }
        let (kind, what) = match running {
            Running::Yes => (EventKind::ScheduleOn, "on"),
            Running::No => (EventKind::ScheduleOff, "off"),
        };
        let message = match plan.source {
            Source::Schedule | Source::Vacation => {
                format!("schedules turn group {} {what}: {}", plan.id, plan.reason)
            }
            // They do not decide now.
            _ => format!(
                "schedules want group {} {what}; what counts is: {}",
                plan.id, plan.reason
            ),
        };
        self.tell_event(kind, None, Some(plan.id.clone()), message, look);
    }

    fn group_standing(&mut self, plan: &GroupPlan) -> GroupStatus {
        let outlook = self.outlook(plan);
        let next_state = match self.telling.coming.get(&plan.id) {
            Some((known, next)) if *known == outlook => *next,
            _ => {
                let next = self.next_state(plan);
                self.telling.coming.insert(plan.id.clone(), (outlook, next));
                next
            }
        };
        let (next_change, next_state) = match self.timer_of(plan) {
            Some((at, state)) if plan.next_change.is_none_or(|change| at < change) => (Some(at), state),
            _ => (plan.next_change, next_state),
        };
        let group = self.book.rules.group(&plan.id);
        let energy = group.and_then(|group| self.energy_standing(group));
        let schedules = group.map(|group| &group.schedules);
        GroupStatus {
            state: plan.state,
            mode: plan.mode,
            expected: plan.expected,
            source: plan.source,
            rule: plan.rule.as_ref().map(ToString::to_string),
            reason: plan.reason.clone(),
            next_change: next_change.map(coming),
            next_state,
            override_until: plan.override_until.map(coming),
            cooldown_until: plan.cooldown_until.map(coming),
            safety: plan.safety,
            energy,
            schedules: schedules
                .into_iter()
                .flatten()
                .map(|schedule| (schedule.id.clone(), schedule.enabled))
                .collect(),
        }
    }

    fn outlook(&self, plan: &GroupPlan) -> Outlook {
        let members = self.book.rules.group(&plan.id).map(|group| &group.outlets);
        let next_change = |path: &OutletPath| self.book.plan.outlets.get(path)?.next_change;
        Outlook {
            plan: plan.clone(),
            members: members.into_iter().flatten().map(next_change).collect(),
        }
    }

    /// What the planner will say at the next change, if nothing else happens; `None` if members will differ.
    ///
    /// Members that went on one after the other reach a limit one after the other: that is one change for people.
    fn next_state(&self, plan: &GroupPlan) -> Option<Power> {
        let group = self.book.rules.group(&plan.id)?;
        let observed = self.observed();
        let first = plan.next_change?;
        let mut at = first;
        loop {
            let inputs = self.book.inputs(&observed, at);
            let (then, _) = plan_group(&inputs, group, &mut Memory::default());
            if then.expected.is_some() {
                return then.expected;
            }
            at = then
                .next_change
                .filter(|next| next.duration_since(first) <= TOGETHER)?;
        }
    }

    pub(super) fn set_vacation(&mut self, vacation: Vacation, look: Look) {
        self.book.vacation = vacation;
        self.telling.say(SchedulerUpdate::Vacation(vacation));
        let message = match vacation {
            Vacation::Off => "vacation ended: schedules run",
            Vacation::Since(_) => "vacation began: schedules rest",
        };
        self.tell_event(EventKind::Vacation, None, None, message.to_owned(), look);
    }
}

fn is_problem(live: &Live, look: Look) -> bool {
    live.differs
        .is_some_and(|differs| look.instant >= differs.since + TOLERATED)
}

/// Nobody reads fractions. What comes is not told too early: at that second it has come.
fn coming(at: Timestamp) -> Timestamp {
    to_the_second(at, RoundMode::Ceil)
}

fn to_the_second(at: Timestamp, mode: RoundMode) -> Timestamp {
    let second = TimestampRound::new().smallest(Unit::Second).mode(mode);
    at.round(second).unwrap_or(at)
}

/// RFC 3339 with the offset of the place, to the second.
pub(super) fn rfc3339(at: Timestamp, book: &Book) -> String {
    let zone = book.rules.location.zone.clone();
    at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
