//! What a group may use in one civil day.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{BlockReason, BudgetExhausted, EnergyBlock, EnergyEvent, EnergyLimits, Load};
use crate::{
    Now,
    rules::Group,
    safety::{Block, Cause, midnight, next_midnight},
    units::{MilliWattHours, MilliWatts},
};

/// It is not looked at more often than this.
const SOONEST: SignedDuration = SignedDuration::from_secs(1);

impl EnergyLimits {
    /// Holds all members once the budget is used, until midnight; returns since when.
    pub(super) fn spend(
        &mut self,
        budget: MilliWattHours,
        group: &Group,
        now: Now,
        zone: &TimeZone,
        happened: &mut Vec<EnergyEvent>,
    ) -> Option<Timestamp> {
        let (day, until) = (midnight(now.wall, zone), next_midnight(now.wall, zone));
        let known = self.spent.get_mut(&group.id);
        // A later day is left from before the clock was set back.
        if let Some(spent) = known.filter(|spent| spent.day >= day && spent.budget == budget) {
            spent.day = day;
            let since = spent.since;
            self.hold_all(group, budget, since, until);
            return Some(since);
        }
        self.spent.remove(&group.id);
        let left = budget.less(self.used(group, now));
        if left > MilliWattHours::ZERO {
            if let Some(lasts) = left.lasts(self.load(group)) {
                self.wake_at(now.steady.after(lasts.max(SOONEST)));
            }
            return None;
        }
        let spent = BudgetExhausted {
            day,
            since: now.wall,
            budget,
        };
        self.spent.insert(group.id.clone(), spent);
        self.hold_all(group, budget, now.wall, until);
        for outlet in &group.outlets {
            self.dismiss(outlet);
        }
        happened.push(EnergyEvent::BudgetExhausted { budget, until });
        Some(now.wall)
    }

    fn loads(&self, group: &Group) -> impl Iterator<Item = &Load> {
        group.outlets.iter().filter_map(|outlet| self.loads.get(outlet))
    }

    /// Used today by now, with what was drawn since the last readings.
    fn used(&self, group: &Group, now: Now) -> MilliWattHours {
        self.loads(group)
            .map(|load| load.estimate(now))
            .fold(MilliWattHours::ZERO, MilliWattHours::plus)
    }

    fn load(&self, group: &Group) -> MilliWatts {
        self.loads(group)
            .map(Load::present)
            .fold(MilliWatts::ZERO, MilliWatts::plus)
    }

    fn hold_all(&mut self, group: &Group, budget: MilliWattHours, since: Timestamp, until: Timestamp) {
        let hold = EnergyBlock {
            block: Block {
                cause: Cause::Budget,
                since,
                until: Some(until),
            },
            why: BlockReason::BudgetExhausted(budget),
            earliest: until,
        };
        for outlet in &group.outlets {
            self.holds.insert(outlet.clone(), hold);
        }
    }
}
