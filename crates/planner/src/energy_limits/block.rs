//! Why an energy rule keeps an outlet off.

use jiff::Timestamp;

use crate::{
    safety::{Block, Refusal},
    units::{MilliWattHours, MilliWatts},
};

/// Why an outlet must not be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnergyBlock {
    /// Which rule, since when, until when.
    pub block: Block,
    /// The numbers.
    pub why: BlockReason,
    /// It does not end before this, whatever the others draw.
    pub earliest: Timestamp,
}

/// The numbers behind an [`EnergyBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockReason {
    /// The group used this much, in mWh.
    BudgetExhausted(MilliWattHours),
    /// All members together drew more than they may.
    Over {
        /// What they drew, in mW.
        drew: MilliWatts,
        /// What they may draw, in mW.
        ceiling: MilliWatts,
    },
    /// It would be too much together with the others.
    NoRoom {
        /// What it drew when it was on, in mW.
        needs: MilliWatts,
        /// What all may draw, in mW.
        ceiling: MilliWatts,
    },
}

impl EnergyBlock {
    /// Begins when the block before it began, if both are for lack of room.
    pub(super) fn continues(&mut self, before: &Self) {
        if let (BlockReason::NoRoom { .. }, BlockReason::NoRoom { .. }) = (self.why, before.why) {
            self.block.since = before.block.since;
            self.earliest = before.earliest;
        }
    }

    /// Whether it lasts longer than a block.
    pub fn outlasts(&self, block: &Block) -> bool {
        let end = |block: &Block| block.until.unwrap_or(Timestamp::MAX);
        end(&self.block) > end(block)
    }

    /// How an ON is refused because of it.
    pub(super) fn refusal(&self) -> Refusal {
        Refusal {
            cause: self.block.cause,
            possible_at: self.block.until,
        }
    }
}
