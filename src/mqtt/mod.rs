//! Everything that speaks MQTT.
//!
//! The event loop ([`MqttTask`]) is the sole owner of the link to the broker, of the topic tree and of
//! what has been published. Topics, payloads and discovery are pure.

mod bridge_info;
pub mod command;
mod discovery;
mod faulty;
mod groups;
mod health;
mod home;
mod inbound;
mod open;
mod pending;
mod publisher;
mod reload;
mod requests;
mod scheduling;
mod state;
mod status_cache;
mod task;
mod throttle;
pub mod topics;

pub use bridge_info::BridgeInfo;
pub use mqtt_link as link;
pub use open::{Parts, link_options};
pub use state::states;
pub use status_cache::StatusCache;
pub use task::{Channels, Control, MqttTask};
