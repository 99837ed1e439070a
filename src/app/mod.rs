//! Wiring: channels, tasks, ordered stop, reload.

pub mod bridge;
pub mod reload;
