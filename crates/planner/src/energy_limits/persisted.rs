//! What survives a restart.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Tally, budget::ExhaustedBudgets, shed_members::ShedMembers};
use crate::{OutletPath, rules::Group};

/// What the state file has about energy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistedEnergy {
    /// What outlets used today.
    pub(super) tallies: BTreeMap<OutletPath, Tally>,
    /// Budgets that are used.
    pub(super) spent: ExhaustedBudgets,
    /// What power limits switched off.
    pub(super) shed: ShedMembers,
    /// The outlets whose load runs.
    pub(super) running: BTreeSet<OutletPath>,
}

impl PersistedEnergy {
    /// The part about one group.
    #[must_use]
    pub fn only(&self, group: &Group) -> Self {
        let member = |outlet: &OutletPath| group.outlets.contains(outlet);
        let mut of_group = self.clone();
        of_group.tallies.retain(|outlet, _| member(outlet));
        of_group.shed.retain(member);
        of_group.running.retain(member);
        of_group.spent.retain(|id| *id == group.id);
        of_group
    }
}
