//! What the bridge needs from the machine: clock, tasks, service manager, log, secrets.

mod app_supervisor;
pub mod clock;
pub(crate) mod clock_sleep;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod interfaces;
mod log_buffer;
mod log_line;
#[cfg(test)]
pub(crate) mod log_text;
mod mqtt_service;
pub mod network;
pub(crate) mod overflow;
pub mod program;
mod recent_lines;
pub(crate) mod resolver;
mod root_cause;
mod secret;
pub(crate) mod service_manager;
pub mod tasks;
pub mod telemetry;

pub use app_supervisor::AppSupervisor;
pub use mqtt_service::MqttService;
pub(crate) use root_cause::{causes, root_cause};
pub use secret::Secret;
