//! tapo2mqtt puts TP-Link Tapo plugs and power strips on MQTT.
//!
//! `ARCHITECTURE.md` at the top of the repository is the map: three tasks, the messages between
//! them, and what is deliberately absent.

pub mod clock;
#[cfg(feature = "demo")]
pub mod demo;
pub mod model;
mod secret;
pub mod tasks;

pub use secret::Secret;
