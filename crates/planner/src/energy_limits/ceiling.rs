//! What a group may draw: who has to go off, and who may come back.
//!
//! Whoever may be on draws together no more than the ceiling, by what the meters said last. The last in the list that
//! is on goes first. Back comes one at a time, the first in the list first, and the next one once the meter of the one
//! before was read.

use jiff::{SignedDuration, Timestamp};

use super::{
    BlockReason, EnergyBlock, EnergyEvent, EnergyLimits, Member, MeterVisibility, PowerLimit, Relay, Shed,
    kept::{Back, Stage},
};
use crate::{
    period::{after, elapsed},
    rules::{Group, Interlock},
    safety::{Block, Cause},
    units::MilliWatts,
    {OutletPath, Power},
};

/// How long one that may come back is waited for, and its meter, at least: meters are read now and then.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);

fn patience(rule: &PowerLimit) -> SignedDuration {
    rule.min_off.length().max(PATIENCE)
}

type Members<'a> = &'a [(OutletPath, Member)];

impl EnergyLimits {
    pub(super) fn cap(
        &mut self,
        rule: &PowerLimit,
        group: &Group,
        members: Members<'_>,
        before: &[Option<EnergyBlock>],
        now: Timestamp,
    ) -> Vec<EnergyEvent> {
        for (outlet, member) in members {
            self.settle(rule, outlet, *member, now);
        }
        let mut happened = self.shed_intruders(rule, group, members, before, now);
        happened.extend(self.shed_last(rule, group, members, now));
        happened.extend(self.bring_back(rule, members, now));
        self.hold_shed(rule, members);
        self.hold_comers(rule, group, members, now);
        happened
    }

    /// Forgets a member that is back, or that nobody wants any more.
    fn settle(&mut self, rule: &PowerLimit, outlet: &OutletPath, member: Member, now: Timestamp) {
        let Some(shed) = self.shed.get_mut(outlet) else {
            return;
        };
        if let Back::ResumesUntil(until) = shed.back
            && until <= now
        {
            shed.back = Back::Dismissed;
        }
        if let Stage::Returns(since) = shed.stage
            && elapsed(since, now) >= patience(rule)
        {
            // It did not come: others have their turn first.
            shed.stage = Stage::Waits;
            shed.since = now;
        }
        let returned = matches!(shed.stage, Stage::Returns(_)) && member.relay == Relay::On;
        let over = elapsed(shed.since, now) >= rule.min_off.length();
        let unwanted = over && member.relay == Relay::Off && !is_wanted(member, *shed);
        if returned || unwanted {
            self.shed.remove(outlet);
        }
    }

    /// Whether it may be on, and so its draw counts: by what it drew when it was on last, until its meter is read.
    fn counts(&self, outlet: &OutletPath, member: Member) -> bool {
        match self.shed.get(outlet).map(|shed| shed.stage) {
            Some(Stage::Waits) => false,
            Some(Stage::Returns(_)) => true,
            None => matches!(member.relay, Relay::On | Relay::Coming),
        }
    }

    fn draw(&self, outlet: &OutletPath, now: Timestamp) -> Option<MilliWatts> {
        self.loads.get(outlet)?.draw(now)
    }

    /// What those draw that may be on. Of an interlocked group that is one, after the others went off.
    fn allowed(&self, group: &Group, members: Members<'_>, now: Timestamp) -> MilliWatts {
        let counting = members
            .iter()
            .filter(|(outlet, member)| self.counts(outlet, *member));
        let draws = counting.filter_map(|(outlet, _)| self.draw(outlet, now));
        draws.fold(MilliWatts::ZERO, |sum, draw| together(group, sum, draw))
    }

    /// Somebody switched on what had no room: it goes off again, not another one.
    fn shed_intruders(
        &mut self,
        rule: &PowerLimit,
        group: &Group,
        members: Members<'_>,
        before: &[Option<EnergyBlock>],
        now: Timestamp,
    ) -> Vec<EnergyEvent> {
        let mut happened = Vec::new();
        for ((outlet, member), before) in members.iter().zip(before) {
            let held = before.is_some_and(|hold| matches!(hold.why, BlockReason::NoRoom { .. }));
            let drew = self.allowed(group, members, now);
            if held && member.relay == Relay::On && drew > rule.max {
                happened.push(self.shed_one(rule, group, (outlet, *member), drew, now));
            }
        }
        happened
    }

    fn shed_one(
        &mut self,
        rule: &PowerLimit,
        group: &Group,
        (outlet, member): (&OutletPath, Member),
        drew: MilliWatts,
        now: Timestamp,
    ) -> EnergyEvent {
        let back = match (group.is_scheduled(), self.shed.get(outlet), member.timer) {
            (true, ..) => Back::Planned,
            // Another one may have its turn meanwhile.
            _ if group.interlock == Interlock::OneOn => Back::Dismissed,
            (false, Some(shed), _) => shed.back,
            (false, None, Some(until)) => Back::ResumesUntil(until),
            (false, None, None) => Back::Resumes,
        };
        let shed = Shed {
            since: now,
            drew: self.draw(outlet, now).unwrap_or_default(),
            all_drew: drew,
            stage: Stage::Waits,
            back,
        };
        self.shed.insert(outlet.clone(), shed);
        EnergyEvent::Shed {
            outlet: outlet.clone(),
            drew,
            ceiling: rule.max,
        }
    }

    /// Until the rest is below the ceiling. One that draws nothing stays: that it goes would not help.
    fn shed_last(
        &mut self,
        rule: &PowerLimit,
        group: &Group,
        members: Members<'_>,
        now: Timestamp,
    ) -> Vec<EnergyEvent> {
        let mut happened = Vec::new();
        let drew = self.allowed(group, members, now);
        while self.allowed(group, members, now) > rule.max {
            let helps = |(outlet, member): &&(OutletPath, Member)| {
                self.counts(outlet, *member) && self.draw(outlet, now) != Some(MilliWatts::ZERO)
            };
            let Some((outlet, member)) = members.iter().rev().find(helps) else {
                break;
            };
            happened.push(self.shed_one(rule, group, (outlet, *member), drew, now));
        }
        happened
    }

    /// The first in the list that may come back, if it is the turn of any.
    fn bring_back(&mut self, rule: &PowerLimit, members: Members<'_>, now: Timestamp) -> Option<EnergyEvent> {
        self.wake_for_returns(rule, members, now);
        if members
            .iter()
            .any(|(outlet, member)| self.is_settling(rule, outlet, *member, now))
        {
            return None;
        }
        let others = |own: &OutletPath| {
            let on = members.iter().filter(|(outlet, member)| {
                outlet != own && (member.relay == Relay::On || self.counts(outlet, *member))
            });
            on.filter_map(|(outlet, _)| self.draw(outlet, now))
                .fold(MilliWatts::ZERO, MilliWatts::plus)
        };
        // Room for those that cannot come yet is left free by those behind them.
        let mut reserved = MilliWatts::ZERO;
        let outlet = members.iter().find_map(|(outlet, member)| {
            let shed = self.shed.get(outlet)?;
            let needs = self.draw(outlet, now).unwrap_or_default();
            let able = member.relay == Relay::Off && member.reach != MeterVisibility::Away;
            // What is too much by itself holds up nobody.
            if !able || !is_wanted(*member, *shed) || needs > rule.max {
                return None;
            }
            let others = others(outlet).plus(reserved);
            let fits = others.plus(needs) <= rule.resume_below || others == MilliWatts::ZERO;
            reserved = reserved.plus(needs);
            let ready = elapsed(shed.since, now) >= rule.min_off.length();
            (ready && fits).then(|| outlet.clone())
        })?;
        self.shed.get_mut(&outlet)?.stage = Stage::Returns(now);
        Some(EnergyEvent::Returns(outlet))
    }

    /// Whether what a member draws is about to be known: nobody comes back meanwhile.
    fn is_settling(&self, rule: &PowerLimit, outlet: &OutletPath, member: Member, now: Timestamp) -> bool {
        let returns = self
            .shed
            .get(outlet)
            .is_some_and(|shed| matches!(shed.stage, Stage::Returns(_)));
        let unread = self.loads.get(outlet).and_then(|load| load.unread_since);
        let unread = unread.is_some_and(|since| elapsed(since, now) < patience(rule));
        returns || unread || member.relay == Relay::Coming
    }

    fn wake_for_returns(&mut self, rule: &PowerLimit, members: Members<'_>, now: Timestamp) {
        let mut wakes = Vec::new();
        for (outlet, _) in members {
            let unread = self.loads.get(outlet).and_then(|load| load.unread_since);
            wakes.extend(unread.map(|since| after(since, patience(rule))));
            let Some(shed) = self.shed.get(outlet) else {
                continue;
            };
            wakes.push(after(shed.since, rule.min_off.length()));
            if let Stage::Returns(since) = shed.stage {
                wakes.push(after(since, patience(rule)));
            }
            if let Back::ResumesUntil(until) = shed.back {
                wakes.push(until);
            }
        }
        let waiting = members.iter().any(|(outlet, _)| self.shed.contains_key(outlet));
        for at in wakes.into_iter().filter(|at| waiting && *at > now) {
            self.wake_at(at);
        }
    }

    fn hold_shed(&mut self, rule: &PowerLimit, members: Members<'_>) {
        for (outlet, _) in members {
            let Some(shed) = self.shed.get(outlet).filter(|shed| shed.stage == Stage::Waits) else {
                continue;
            };
            let hold = EnergyBlock {
                block: Block {
                    cause: Cause::PowerLimit,
                    since: shed.since,
                    until: None,
                },
                why: BlockReason::Over {
                    drew: shed.all_drew,
                    ceiling: rule.max,
                },
                earliest: after(shed.since, rule.min_off.length()),
            };
            self.holds.insert(outlet.clone(), hold);
        }
    }

    /// Members that schedules or somebody want on, and for which there is no room.
    fn hold_comers(&mut self, rule: &PowerLimit, group: &Group, members: Members<'_>, now: Timestamp) {
        let mut sum = self.allowed(group, members, now);
        for (outlet, member) in members {
            let comes = member.relay == Relay::Off
                && member.wanted == Some(Power::On)
                && !self.shed.contains_key(outlet);
            let Some(needs) = self.draw(outlet, now).filter(|_| comes) else {
                continue;
            };
            if sum.plus(needs) <= rule.max {
                sum = sum.plus(needs);
                continue;
            }
            let hold = EnergyBlock {
                block: Block {
                    cause: Cause::PowerLimit,
                    since: now,
                    until: None,
                },
                why: BlockReason::NoRoom {
                    needs,
                    ceiling: rule.max,
                },
                earliest: now,
            };
            self.holds.insert(outlet.clone(), hold);
        }
    }

    /// Whether there is room for one more.
    pub(super) fn fits(
        &self,
        rule: &PowerLimit,
        group: &Group,
        members: Members<'_>,
        outlet: &OutletPath,
        now: Timestamp,
    ) -> bool {
        let Some((_, member)) = members.iter().find(|(known, _)| known == outlet) else {
            return true;
        };
        if self.counts(outlet, *member) {
            return true;
        }
        let needs = self.draw(outlet, now).unwrap_or_default();
        needs == MilliWatts::ZERO || together(group, self.allowed(group, members, now), needs) <= rule.max
    }
}

/// What is drawn by one more.
fn together(group: &Group, others: MilliWatts, one: MilliWatts) -> MilliWatts {
    match group.interlock {
        Interlock::Free => others.plus(one),
        Interlock::OneOn => others.max(one),
    }
}

/// Whether it would be on but for the ceiling.
fn is_wanted(member: Member, shed: Shed) -> bool {
    match shed.back {
        Back::Planned => member.wanted == Some(Power::On),
        Back::Resumes | Back::ResumesUntil(_) => true,
        Back::Dismissed => false,
    }
}
