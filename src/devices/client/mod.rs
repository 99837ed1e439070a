//! The client of one device: sessions, faults and their remedies, the first exchange, discovery.
//!
//! Only this module names the `tapo` crate and our own client, `tplink`. The components of a worker use
//! [`Connection`](connection::Connection) and [`DeviceRequest`](session::DeviceRequest); both clients stand behind the
//! same two.

mod batches;
mod child_list;
pub(super) mod child_reading;
mod choice;
pub(super) mod components;
pub(super) mod connection;
mod countdown_requests;
pub(super) mod discovery;
pub(super) mod fault;
mod fence;
mod first_answer;
pub(super) mod identity;
pub(super) mod identity_registry;
mod iot;
pub(super) mod login_budget;
pub(super) mod opening;
mod own_client;
mod own_failures;
pub(super) mod readings;
mod rule_on_wire;
mod rule_requests;
pub(super) mod search;
pub(super) mod session;
pub(super) mod settings_on_wire;
pub(super) mod trigger_logs;
