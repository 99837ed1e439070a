//! The device owner and its workers: one per physical device, one request in flight each.
//!
//! Commands go in through [`DeviceOwner`]; replies, reports and events come out as
//! [`DeviceEvent`](crate::domain::devices::DeviceEvent)s. No device handle leaves this module.

mod attribution;
mod backoff;
mod buttons;
mod children;
mod client;
mod command_queue;
mod context;
mod countdown;
pub mod energy;
mod finder;
mod first_connects;
#[cfg(test)]
mod fuzz;
mod lifecycle;
mod mailbox;
mod meter;
mod off_rules;
mod own_settings;
mod owner;
mod reboot;
mod removal;
mod reports;
mod state;
mod switching;
mod thermostat;
mod wanted_ends;
mod worker;

pub use client::discovery::Discovered;
pub use client::identity_registry::{IdentifiedDevice, IdentifiedDevices};
pub use client::opening::{Seen, look};
pub use client::search::find_devices;
pub use countdown::ArmedCountdowns;
pub use owner::{DeviceOwner, DeviceSections};
