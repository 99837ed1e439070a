//! Everything that speaks MQTT.

pub mod link;
