//! The device owner and its workers: one per physical device, one request in flight each.
//!
//! No device handle leaves this module. What goes in are intents, what comes out are answers and
//! [`DeviceEvent`].

mod backoff;
mod countdown;
pub mod energy;
mod exchange;
mod fault;
#[cfg(test)]
mod fuzz;
mod mailbox;
mod meter;
mod opening;
mod owner;
mod queue;
mod readings;
mod reboot;
mod reports;
mod rules;
mod search;
mod session;
mod state;
mod switch_target;
mod unconfirmed;
mod worker;

pub use countdown::ArmedCountdowns;
pub use opening::{Seen, look};
pub use owner::{DeviceOwner, DeviceSections};
pub use search::{Discovered, discover};
