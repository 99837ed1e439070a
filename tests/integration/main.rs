//! One integration binary: nothing of ours is mocked, the broker is Debian's Mosquitto.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
// Nothing outside can reach or read this.
#![allow(missing_docs, unreachable_pub)]

mod account;
mod bridge;
mod broker_limits;
mod brokers;
mod calendar;
mod catalogue;
mod chaos;
mod command_line;
mod commands;
mod countdown;
mod cut;
mod decisions;
mod device_owner;
mod device_settings;
mod diagnostics;
mod discovery;
mod documents;
#[cfg(feature = "demo")]
mod embedded_broker;
mod energy;
mod energy_limits;
mod event_loop;
mod faults;
mod faulty_broker;
mod floods;
mod forecasts;
mod groups;
mod guide;
mod health;
mod home_assistant_app;
mod hub;
mod interlock;
mod inventory;
mod limits;
mod link;
mod log;
mod mail;
mod metrics;
mod mosquitto;
mod notify;
mod other_bridge;
mod own_client;
mod packaging;
mod page;
mod plan;
mod probe;
mod process;
mod recent;
mod reload;
mod retained;
mod samples;
mod security;
mod setup;
mod shell;
mod start_stop;
mod strips;
mod supervisor;
mod thermostat;
mod timers;
mod transports;
mod unread_log;
mod upgrade;
mod weather;
mod web;
