//! The client of one device: sessions, faults and their remedies, the first exchange, discovery.
//!
//! Only this module names the `tapo` crate. The components of a worker use [`Connection`](connection::Connection) and
//! [`DeviceRequest`](session::DeviceRequest); a client for another protocol stands behind the same two.

pub(super) mod connection;
pub(super) mod discovery;
pub(super) mod fault;
mod fence;
mod first_answer;
pub(super) mod identity;
pub(super) mod identity_registry;
pub(super) mod login_budget;
pub(super) mod opening;
pub(super) mod readings;
pub(super) mod session;
