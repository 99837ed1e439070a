//! The scheduler against simulated devices, in paused time. Each test is named after the rule it holds.

mod come_back;
mod commands;
mod days;
mod energy;
mod interlock;
mod limits;
mod off_rules;
mod outlive;
mod promises;
mod property;
mod reload;
mod room;
mod rules;
mod simulation;
mod thermostat;
mod timers;
mod weather;
