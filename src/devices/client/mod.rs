//! The client of one device: sessions, faults and their remedies, the first exchange, discovery.
//!
//! Only this module names the `tapo` crate. A client for another protocol replaces `session.rs`.

pub(super) mod discovery;
pub(super) mod fault;
pub(super) mod opening;
pub(super) mod readings;
pub(super) mod session;
