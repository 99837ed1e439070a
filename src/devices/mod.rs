//! The device owner and its workers: one per physical device, one request in flight each.
//!
//! No device handle leaves this module. What goes in are intents, what comes out are answers and
//! [`DeviceEvent`].

mod backoff;
mod client;
mod command_queue;
mod countdown;
pub mod energy;
mod exchange;
#[cfg(test)]
mod fuzz;
mod mailbox;
mod meter;
mod off_rules;
mod owner;
mod reboot;
mod reports;
mod state;
mod switch_target;
mod unconfirmed;
mod worker;

pub use client::discovery::{Discovered, discover};
pub use client::opening::{Seen, look};
pub use countdown::ArmedCountdowns;
pub use owner::DeviceOwner;
