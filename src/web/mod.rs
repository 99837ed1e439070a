//! The page: what is published goes to browsers, and what they send goes to the MQTT task as if it came from the broker.
//!
//! It knows nothing of outlets and schedules. It exists only with `[web]`.

mod access;
mod api;
mod assets;
mod event_stream;
mod login_limit;
mod page_connection;
mod server;
mod sessions;

pub use server::{WebParts, WebServer};
pub use sessions::Sessions;
