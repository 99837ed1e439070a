//! MQTT: topics and payloads.

pub mod command;
pub mod topics;
