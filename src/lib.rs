//! tapo2mqtt puts TP-Link Tapo plugs and power strips on MQTT.
//!
//! `ARCHITECTURE.md` at the top of the repository is the map: three tasks, the messages between
//! them, and what is deliberately absent.

pub mod bridge;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod device;
pub mod energy;
#[cfg(test)]
mod fuzz;
pub mod intent;
pub mod migrate;
pub mod mirror;
pub mod model;
pub mod mqtt;
pub mod reload;
pub mod report;
pub mod scheduler;
mod secret;
pub mod store;
mod supervisor;
pub mod tasks;
pub mod telemetry;

pub use secret::Secret;
