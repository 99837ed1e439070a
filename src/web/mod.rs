//! The page: what is published goes to browsers, and what they send goes to the MQTT task as if it came from the broker.
//!
//! It knows nothing of outlets and schedules; only the figures for monitors read what was published. It exists only with
//! `[web]` or `[metrics]`.

mod access;
mod api;
mod assets;
mod connections;
mod event_stream;
mod login_limit;
mod metrics;
mod page_connection;
mod server;
mod sessions;

pub use server::{Served, WebParts, WebServer};
pub use sessions::Sessions;
