//! The simulator driven by the tapo crate, a client that was not written for it.

#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

mod control;
mod faults;
mod network;
mod profiles;
mod rules;
mod support;
mod tpap;
