//! tapo2mqtt puts TP-Link Tapo plugs and power strips on MQTT.
//!
//! `ARCHITECTURE.md` at the top of the repository is the map: the tasks, the messages between
//! them, and what is deliberately absent.

pub mod app;
pub mod calendar;
pub mod cli;
pub mod commands;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod devices;
pub mod diagnostics;
pub mod domain;
pub mod homeassistant;
pub mod migrate;
pub mod mqtt;
pub mod notify;
pub mod scheduler;
pub mod store;
pub mod system;
pub mod weather;
pub mod web;
