//! The client against simulated devices, which share no code with it.

#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

mod faults;
mod iot;
mod logins;
mod requests;
mod support;
