//! Groups of outlets by clock, sun and sensor conditions, under limits that hold whatever switched them on.
//!
//! Everything here but the task is pure: no I/O, and the time comes in as an argument. `(rules,
//! overrides, accounts, sensors, now)` goes in; what each outlet should be, why, and when that changes next,
//! comes out.

mod mirror;
pub mod task;
