//! The total energy of each outlet, which only grows, and the counters from which it is computed.

mod counter;
mod totals;

pub use counter::{Counters, EnergyCounter};
pub use totals::{EnergyCounters, EnergyTotals};
