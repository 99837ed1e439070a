//! What all tasks share: commands and replies, device reports, messages. Imports nothing of ours but the planner.

pub mod command;
pub mod off_rules;
pub mod report;
pub mod scheduling;
