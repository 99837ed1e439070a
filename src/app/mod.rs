//! Wiring: channels, tasks, ordered stop.

pub mod bridge;
mod sections;
