//! The MQTT side of the bridge.
//!
//! The event loop ([`MqttTask`]) owns the link to the broker. A message goes through [`route`] (topic to target) and
//! [`decode`] (payload to command), and on to the scheduler with the one reply that is sent back to the loop. What is
//! published belongs to the `publisher`. Topics, payloads and discovery are pure.

mod commands;
pub mod decode;
mod deleted;
mod faulty;
mod health;
mod inbox;
mod inventory;
mod log_limit;
mod options;
pub(crate) mod publisher;
mod reload;
mod repeats;
mod reply_to;
mod requests;
mod response;
mod retained;
mod route;
mod task;
mod unknown;

pub use deleted::DeletedEntities;
pub use mqtt_link as link;
pub use options::link_options;
#[cfg(feature = "demo")]
pub(crate) use publisher::state::availability;
pub use publisher::{bridge_info::BridgeInfo, state::states, status_cache::StatusCache};
pub use reload::KeepAccount;
pub use task::{Channels, Control, MqttParts, MqttTask, PageChannels};
