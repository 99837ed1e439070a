//! Home Assistant's MQTT discovery: the entities of devices and groups, and what was announced. Pure.

mod entities;
mod tracker;

pub use entities::{EntityBuilder, Offer, Shape};
pub use tracker::{Announcement, DiscoveryTracker, EntityOwner, Finding};
