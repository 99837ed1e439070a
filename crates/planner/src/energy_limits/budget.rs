//! What a group may use in one civil day.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{BlockReason, EnergyBlock, EnergyEvent, loads::Loads};
use crate::{
    GroupId, Now, Steady,
    rules::Group,
    safety::{Block, Cause, midnight, next_midnight},
    units::MilliWattHours,
};

/// The shortest time until a budget is checked again.
const SOONEST: SignedDuration = SignedDuration::from_secs(1);

/// The budgets that are used, one of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ExhaustedBudgets(BTreeMap<GroupId, ExhaustedBudget>);

/// A budget that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ExhaustedBudget {
    /// The start of the day it was for.
    day: Timestamp,
    /// When that was noticed.
    since: Timestamp,
    /// How much it was, in mWh: another budget is not used yet.
    budget: MilliWattHours,
}

/// Whether the budget of a group is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BudgetState {
    /// Not yet. When to check again; `None` while nothing is drawn.
    Left(Option<Steady>),
    /// All members have to be off until midnight.
    Exhausted {
        /// Why each member must not be on.
        block: EnergyBlock,
        /// What to report, the first time only.
        event: Option<EnergyEvent>,
    },
}

impl ExhaustedBudgets {
    /// Compares what a group used today with its budget.
    pub(super) fn check(
        &mut self,
        budget: MilliWattHours,
        group: &Group,
        loads: &Loads,
        now: Now,
        zone: &TimeZone,
    ) -> BudgetState {
        let (day, until) = (midnight(now.wall, zone), next_midnight(now.wall, zone));
        let known = self.0.get_mut(&group.id);
        // A later day is left from before the clock was set back.
        if let Some(known) = known.filter(|known| known.day >= day && known.budget == budget) {
            known.day = day;
            return BudgetState::Exhausted {
                block: block(budget, known.since, until),
                event: None,
            };
        }
        self.0.remove(&group.id);
        let left = budget.less(loads.used_today(group, now));
        if left > MilliWattHours::ZERO {
            let lasts = left.lasts(loads.power(group));
            return BudgetState::Left(lasts.map(|lasts| now.steady.after(lasts.max(SOONEST))));
        }
        let exhausted = ExhaustedBudget {
            day,
            since: now.wall,
            budget,
        };
        self.0.insert(group.id.clone(), exhausted);
        BudgetState::Exhausted {
            block: block(budget, now.wall, until),
            event: Some(EnergyEvent::BudgetExhausted { budget, until }),
        }
    }

    /// Forgets the other groups.
    pub(super) fn retain(&mut self, keep: impl Fn(&GroupId) -> bool) {
        self.0.retain(|group, _| keep(group));
    }
}

fn block(budget: MilliWattHours, since: Timestamp, until: Timestamp) -> EnergyBlock {
    EnergyBlock {
        block: Block {
            cause: Cause::Budget,
            since,
            until: Some(until),
        },
        why: BlockReason::BudgetExhausted(budget),
        earliest: until,
    }
}
