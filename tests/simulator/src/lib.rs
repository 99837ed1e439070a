//! Simulated Tapo plugs, strips and hubs, to test and to try things without hardware.
//!
//! A device is a real HTTP server on a port of its own. It speaks the protocol that real ones speak,
//! with its cryptography and its exact sequence numbers, and holds real state: relays, meters on a
//! running clock, countdowns and schedules that fire. What goes wrong with real devices can be
//! switched on while it runs ([`Fault`]), and everything that happened is counted ([`Counters`]).
//!
//! ```no_run
//! # use tapo_simulator::{Fault, FaultKind, Profile, Scope, Simulator, SimulatorError, Stage};
//! # use std::time::Duration;
//! # async fn example() -> Result<(), SimulatorError> {
//! let plug = Simulator::plug(Profile::P110).latency(Duration::from_millis(20)).start().await?;
//! println!("a P110 of demo@example.com listens on {}", plug.address());
//! let scope = Scope::method("set_device_info").times(1);
//! plug.faults().set(Fault::Drop { stage: Stage::AfterApplying, scope });
//! plug.wait_relay(1, true, Duration::from_secs(60)).await?;
//! # Ok(()) }
//! ```

mod builder;
mod clock;
mod control;
mod core;
mod counters;
mod crypto;
mod default_state;
mod discovery;
mod energy;
mod error;
mod exchange;
mod faults;
mod http;
mod hub;
mod identity;
mod iot;
mod klap;
mod methods;
mod network;
mod outlet;
mod passthrough;
mod profile;
mod reply;
mod rules;
mod running;
mod session;
mod state;
mod timer;
mod tpap;
mod xor;

pub use builder::{DEFAULT_PASSWORD, DEFAULT_USERNAME, DeviceBuilder, Simulator};
pub use control::serve_control;
pub use counters::{Cause, Counters, RelayChange};
pub use error::SimulatorError;
pub use faults::{Damage, Fault, FaultKind, Faults, Latency, Scope, Stage};
pub use hub::ChildModel;
pub use profile::Profile;
pub use running::{DeviceHandle, RunningDevice};
pub use session::Protocol;
