//! Energy: the units, a total that only grows, and the accounts that keep it.

mod account;
mod book;

pub use account::{Counters, EnergyCounter};
pub use book::{EnergyCounters, EnergyTotals};
