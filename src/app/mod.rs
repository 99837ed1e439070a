//! Wiring: channels, tasks, ordered stop.

mod account;
pub mod bridge;
mod sections;
