//! Energy: the units, a total that only grows, and the counters that keep it.

mod counter;
mod totals;

pub use counter::{Counters, EnergyCounter};
pub use totals::{EnergyCounters, EnergyTotals};
