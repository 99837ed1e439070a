//! What the bridge needs from the machine: clock, tasks, service manager, log, secrets.

pub mod clock;
pub(crate) mod files;
mod log_buffer;
mod log_line;
pub(crate) mod overflow;
pub mod program;
pub(crate) mod resolver;
mod secret;
pub(crate) mod service_manager;
pub mod tasks;
pub mod telemetry;

pub use secret::Secret;
