//! What all tasks share: commands and replies, device reports, messages. Imports nothing of ours but the planner.

pub mod button_action;
pub mod command;
pub mod command_error;
pub mod device_command;
pub mod device_metrics;
pub mod device_settings;
pub mod devices;
pub mod energy_history;
mod energy_series;
pub mod feed;
pub mod hub_child;
pub(crate) mod id_from_name;
pub mod inventory;
pub mod mac;
pub mod network_device;
pub mod off_rules;
pub mod page_msg;
mod relay_history;
pub mod reply;
pub mod report;
pub mod report_thresholds;
pub mod request_reply;
pub mod scheduling;
pub mod search_area;
pub mod sensor_status;
pub mod sent_reply;
pub mod topics;
