//! tapo2mqtt puts TP-Link Tapo plugs and power strips on MQTT.
//!
//! `ARCHITECTURE.md` at the top of the repository is the map: three tasks, the messages between
//! them, and what is deliberately absent.

pub mod bridge;
pub mod clock;
pub mod config;
pub mod demo;
pub mod device;
pub mod intent;
pub mod model;
pub mod mqtt;
pub mod report;
pub mod scheduler;
mod secret;
pub mod store;
pub mod tasks;
pub mod telemetry;
#[cfg(feature = "demo")]
pub use secret::Secret;
