//! Everything that speaks MQTT.
//!
//! The event loop ([`MqttTask`]) is the sole owner of the link to the broker, of the topic tree and of
//! what has been published. Topics, payloads and discovery are pure.

mod bridge;
pub mod command;
mod desk;
mod discovery;
mod groups;
mod health;
mod home;
mod inbound;
mod open;
mod pace;
mod reload;
mod requests;
mod scheduling;
mod standings;
mod state;
mod task;
pub mod topics;
mod tree;

pub use bridge::About;
pub use mqtt_link as link;
pub use open::{Parts, link_options};
pub use standings::Standings;
pub use state::states;
pub use task::{Control, MqttTask, Wires};
