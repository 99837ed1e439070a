//! What a look at a group finds that has to be reported.

use jiff::Timestamp;

use crate::{
    OutletPath,
    units::{MilliWattHours, MilliWatts},
};

/// A change that has to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnergyEvent {
    /// A group used its budget.
    BudgetExhausted {
        /// The budget, in mWh.
        budget: MilliWattHours,
        /// Until when the group is off.
        until: Timestamp,
    },
    /// A member has to go off, so that the others stay below the power limit.
    Shed {
        /// Which.
        outlet: OutletPath,
        /// What all members drew, in mW.
        drew: MilliWatts,
        /// What they may draw, in mW.
        ceiling: MilliWatts,
    },
    /// A member that was shed may be on again.
    Returns(OutletPath),
    /// What a member draws is not known, though its group needs it.
    Blind(OutletPath),
    /// It is known again.
    Sees(OutletPath),
}
