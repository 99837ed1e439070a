//! Everything that speaks MQTT.

pub mod command;
pub mod link;
pub mod topics;
//! MQTT: topics and payloads.

