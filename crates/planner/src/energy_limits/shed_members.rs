//! What a group may draw: which members have to go off, and which may be on again.
//!
//! All members that may be on draw together no more than the limit, by the last readings of their meters. The last in
//! the list that is on goes off first. One at a time may be on again, the first in the list first, and the next one
//! once the meter of the one before was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    BlockReason, EnergyBlock, EnergyEvent, Member, MeterVisibility, Relay,
    limited_group::LimitedGroup,
    shed::{Back, Shed, Stage},
};
use crate::{
    OutletPath, Power, Steady,
    rules::Interlock,
    safety::{Block, Cause},
    units::MilliWatts,
};

/// The members of all groups that power limits switched off.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ShedMembers(BTreeMap<OutletPath, Shed>);

/// What follows from the power limit of a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PowerDecision {
    /// What to report.
    pub(super) events: Vec<EnergyEvent>,
    /// The members that must not be on.
    pub(super) blocks: Vec<(OutletPath, EnergyBlock)>,
    /// When time alone may change any of it.
    pub(super) wake: Option<Steady>,
}

impl ShedMembers {
    /// Decides which members must not be on. `before` are the blocks of the members at the last look, in their order.
    pub(super) fn decide(
        &mut self,
        group: &LimitedGroup<'_>,
        before: &[Option<EnergyBlock>],
    ) -> PowerDecision {
        for (outlet, member) in group.members {
            self.settle(group, outlet, *member);
        }
        let mut events = self.shed_without_room(group, before);
        events.extend(self.shed_last(group));
        let wake = self.wake(group);
        events.extend(self.bring_back(group));
        let mut blocks = self.blocks(group);
        blocks.extend(self.blocks_without_room(group));
        PowerDecision { events, blocks, wake }
    }

    /// Whether there is room for one more member.
    pub(super) fn has_room_for(&self, group: &LimitedGroup<'_>, outlet: &OutletPath) -> bool {
        let Some((_, member)) = group.members.iter().find(|(known, _)| known == outlet) else {
            return true;
        };
        if self.counts(outlet, *member) {
            return true;
        }
        let needs = group.draw(outlet).unwrap_or_default();
        needs == MilliWatts::ZERO || group.together(self.allowed(group), needs) <= group.limit.max
    }

    /// Forgets a member that is on again, or that does not have to be on any more.
    fn settle(&mut self, group: &LimitedGroup<'_>, outlet: &OutletPath, member: Member) {
        let Some(shed) = self.0.get_mut(outlet) else {
            return;
        };
        if let Back::ResumesUntil(until) = shed.back
            && until <= group.now.steady
        {
            shed.back = Back::Dismissed;
        }
        if let Stage::Returns(since) = shed.stage
            && group.waited_long_enough(since)
        {
            // It did not go on: the next one in the list may.
            shed.stage = Stage::Waits;
            shed.since = group.now.steady;
        }
        let returned = matches!(shed.stage, Stage::Returns(_)) && member.relay == Relay::On;
        let over = group.was_off_long_enough(shed.since);
        let unwanted = over && member.relay == Relay::Off && !shed.is_wanted(member);
        if returned || unwanted {
            self.0.remove(outlet);
        }
    }

    /// Whether a member may be on, and so its power counts: what it drew when it was last on, until its meter is read.
    fn counts(&self, outlet: &OutletPath, member: Member) -> bool {
        match self.0.get(outlet).map(|shed| shed.stage) {
            Some(Stage::Waits) => false,
            Some(Stage::Returns(_)) => true,
            None => matches!(member.relay, Relay::On | Relay::Coming),
        }
    }

    /// What the members draw that may be on, in mW. Of an interlocked group that is one, after the others went off.
    fn allowed(&self, group: &LimitedGroup<'_>) -> MilliWatts {
        let counting = group
            .members
            .iter()
            .filter(|(outlet, member)| self.counts(outlet, *member));
        let draws = counting.filter_map(|(outlet, _)| group.draw(outlet));
        draws.fold(MilliWatts::ZERO, |sum, draw| group.together(sum, draw))
    }

    /// A member that had no room was switched on: it goes off again, not another one.
    fn shed_without_room(
        &mut self,
        group: &LimitedGroup<'_>,
        before: &[Option<EnergyBlock>],
    ) -> Vec<EnergyEvent> {
        let mut events = Vec::new();
        for ((outlet, member), before) in group.members.iter().zip(before) {
            let blocked = before.is_some_and(|block| matches!(block.why, BlockReason::NoRoom { .. }));
            let drew = self.allowed(group);
            if blocked && member.relay == Relay::On && drew > group.limit.max {
                events.push(self.shed(group, outlet, *member, drew));
            }
        }
        events
    }

    /// Until the rest is below the limit. A member that draws nothing stays: switching it off would not help.
    fn shed_last(&mut self, group: &LimitedGroup<'_>) -> Vec<EnergyEvent> {
        let mut events = Vec::new();
        let drew = self.allowed(group);
        while self.allowed(group) > group.limit.max {
            let helps = |(outlet, member): &&(OutletPath, Member)| {
                self.counts(outlet, *member) && group.draw(outlet) != Some(MilliWatts::ZERO)
            };
            let Some((outlet, member)) = group.members.iter().rev().find(helps) else {
                break;
            };
            events.push(self.shed(group, outlet, *member, drew));
        }
        events
    }

    fn shed(
        &mut self,
        group: &LimitedGroup<'_>,
        outlet: &OutletPath,
        member: Member,
        drew: MilliWatts,
    ) -> EnergyEvent {
        let back = match (group.group.is_scheduled(), self.0.get(outlet), member.timer) {
            (true, ..) => Back::Planned,
            // Another one may be switched on meanwhile.
            _ if group.group.interlock == Interlock::OneOn => Back::Dismissed,
            (false, Some(shed), _) => shed.back,
            (false, None, Some(until)) => Back::ResumesUntil(until),
            (false, None, None) => Back::Resumes,
        };
        let shed = Shed {
            since: group.now.steady,
            drew: group.draw(outlet).unwrap_or_default(),
            all_drew: drew,
            stage: Stage::Waits,
            back,
        };
        self.0.insert(outlet.clone(), shed);
        EnergyEvent::Shed {
            outlet: outlet.clone(),
            drew,
            ceiling: group.limit.max,
        }
    }

    /// Lets the first in the list be on again for which there is room, unless the power of another is about to be
    /// known.
    fn bring_back(&mut self, group: &LimitedGroup<'_>) -> Option<EnergyEvent> {
        let mut members = group.members.iter();
        if members.any(|(outlet, member)| self.is_settling(group, outlet, *member)) {
            return None;
        }
        // Room for those that cannot be on yet is left free by those behind them.
        let mut reserved = MilliWatts::ZERO;
        let outlet = group.members.iter().find_map(|(outlet, member)| {
            let shed = self.0.get(outlet)?;
            let needs = group.draw(outlet).unwrap_or_default();
            let able = member.relay == Relay::Off && member.reach != MeterVisibility::Away;
            // A member that is too much by itself delays no other.
            if !able || !shed.is_wanted(*member) || needs > group.limit.max {
                return None;
            }
            let others = self.drawn_by_others(group, outlet).plus(reserved);
            let fits = others.plus(needs) <= group.limit.resume_below || others == MilliWatts::ZERO;
            reserved = reserved.plus(needs);
            let ready = group.was_off_long_enough(shed.since);
            (ready && fits).then(|| outlet.clone())
        })?;
        self.0.get_mut(&outlet)?.stage = Stage::Returns(group.now.steady);
        Some(EnergyEvent::Returns(outlet))
    }

    /// What the members except one draw that are or may be on, in mW.
    fn drawn_by_others(&self, group: &LimitedGroup<'_>, own: &OutletPath) -> MilliWatts {
        let on = group.members.iter().filter(|(outlet, member)| {
            outlet != own && (member.relay == Relay::On || self.counts(outlet, *member))
        });
        on.filter_map(|(outlet, _)| group.draw(outlet))
            .fold(MilliWatts::ZERO, MilliWatts::plus)
    }

    /// Whether the power of a member is about to be known: no other may be on again until then.
    fn is_settling(&self, group: &LimitedGroup<'_>, outlet: &OutletPath, member: Member) -> bool {
        let shed = self.0.get(outlet);
        let returns = shed.is_some_and(|shed| matches!(shed.stage, Stage::Returns(_)));
        let unread = group.loads.unread_since(outlet);
        let unread = unread.is_some_and(|since| !group.waited_long_enough(since));
        returns || unread || member.relay == Relay::Coming
    }

    /// When time alone may let a member be on again, or stop it from that.
    fn wake(&self, group: &LimitedGroup<'_>) -> Option<Steady> {
        let mut instants = Vec::new();
        let mut waiting = false;
        for (outlet, _) in group.members {
            let unread = group.loads.unread_since(outlet);
            instants.extend(unread.map(|since| since.after(group.longest_wait())));
            let Some(shed) = self.0.get(outlet) else {
                continue;
            };
            waiting = true;
            instants.push(shed.since.after(group.limit.min_off.length()));
            if let Stage::Returns(since) = shed.stage {
                instants.push(since.after(group.longest_wait()));
            }
            if let Back::ResumesUntil(until) = shed.back {
                instants.push(until);
            }
        }
        let later = instants.into_iter().filter(|at| *at > group.now.steady);
        later.min().filter(|_| waiting)
    }

    /// The blocks of members that were shed.
    fn blocks(&self, group: &LimitedGroup<'_>) -> Vec<(OutletPath, EnergyBlock)> {
        let shed = group.members.iter().filter_map(|(outlet, _)| {
            let shed = self.0.get(outlet)?;
            (shed.stage == Stage::Waits).then_some((outlet, shed))
        });
        let block = |shed: &Shed| EnergyBlock {
            block: Block {
                cause: Cause::PowerLimit,
                since: group.now.wall_at(shed.since),
                until: None,
            },
            why: BlockReason::Over {
                drew: shed.all_drew,
                ceiling: group.limit.max,
            },
            earliest: group.now.wall_at(shed.since.after(group.limit.min_off.length())),
        };
        shed.map(|(outlet, shed)| (outlet.clone(), block(shed))).collect()
    }

    /// The blocks of members that have to be on, were not shed, and for which there is no room.
    fn blocks_without_room(&self, group: &LimitedGroup<'_>) -> Vec<(OutletPath, EnergyBlock)> {
        let mut blocks = Vec::new();
        let mut sum = self.allowed(group);
        for (outlet, member) in group.members {
            let comes = member.relay == Relay::Off
                && member.wanted == Some(Power::On)
                && !self.0.contains_key(outlet);
            let Some(needs) = group.draw(outlet).filter(|_| comes) else {
                continue;
            };
            if sum.plus(needs) <= group.limit.max {
                sum = sum.plus(needs);
                continue;
            }
            let block = EnergyBlock {
                block: Block {
                    cause: Cause::PowerLimit,
                    since: group.now.wall,
                    until: None,
                },
                why: BlockReason::NoRoom {
                    needs,
                    ceiling: group.limit.max,
                },
                earliest: group.now.wall,
            };
            blocks.push((outlet.clone(), block));
        }
        blocks
    }

    /// Each outlet that was shed, and how.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&OutletPath, &Shed)> {
        self.0.iter()
    }

    /// How an outlet was shed.
    pub(super) fn get(&self, outlet: &OutletPath) -> Option<&Shed> {
        self.0.get(outlet)
    }

    /// An outlet was switched off, and does not go on again without a schedule.
    pub(super) fn dismiss(&mut self, outlet: &OutletPath) {
        if let Some(shed) = self.0.get_mut(outlet) {
            shed.dismiss();
        }
    }

    /// An outlet has another name.
    pub(super) fn rename(&mut self, from: &OutletPath, to: &OutletPath) {
        if let Some(shed) = self.0.remove(from) {
            self.0.insert(to.clone(), shed);
        }
    }

    /// Forgets the other outlets.
    pub(super) fn retain(&mut self, keep: impl Fn(&OutletPath) -> bool) {
        self.0.retain(|outlet, _| keep(outlet));
    }
}
