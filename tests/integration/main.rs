//! One integration binary: nothing of ours is mocked, the broker is Debian's Mosquitto.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
// Nothing outside can reach or read this.
#![allow(missing_docs, unreachable_pub)]

mod bridge;
mod catalogue;
mod chaos;
mod commands;
mod cut;
mod decisions;
mod device_owner;
mod documents;
#[cfg(feature = "demo")]
mod embedded_broker;
mod energy;
mod faults;
mod forgetful;
mod groups;
mod guard;
mod guide;
mod health;
mod interlock;
mod limits;
mod link;
mod log;
mod mosquitto;
mod packaging;
mod plan;
mod presence;
mod probe;
mod process;
mod rations;
mod reload;
mod retained;
mod samples;
// mod seam;
mod security;
mod shell;
mod storms;
mod supervisor;
mod timers;
