//! Groups of outlets by clock, sun and sensor conditions, under limits that hold whatever switched them on.
//!
//! Everything here but the task is pure: no I/O, and the time comes in as an argument. `(rules,
//! overrides, accounts, sensors, now)` goes in; what each outlet should be, why, and when that changes next,
//! comes out.

pub mod activity;
pub mod condition;
pub mod days;
pub mod edge;
pub mod energy;
pub mod evaluate;
pub mod forecast;
pub mod ids;
pub mod interlock;
mod level;
pub mod location;
mod mirror;
pub mod occurrence;
pub mod overrides;
pub mod period;
pub mod planner;
pub mod readings;
pub mod rules;
pub mod safety;
pub mod sensor;
pub mod sun;
pub mod task;
#[cfg(test)]
pub(crate) mod testing;
pub mod window;
pub mod wire;
