//! What the bridge needs from the machine: clock, tasks, signals, service manager, log, secrets.

pub mod clock;
mod secret;
pub(crate) mod service_manager;
pub(crate) mod signals;
pub mod tasks;
pub mod telemetry;

pub use secret::Secret;
