//! A client for TP-Link plugs, strips and switches.
//!
//! JSON in and out, over whatever a device speaks: SMART over KLAP (versions 1 and 2), over TPAP and over the older
//! `securePassthrough`; the JSON of old Kasa devices (IOT) over KLAP and over the XOR cipher of port 9999.
//!
//! A [`Client`] has one device: one connection, one session, one request at a time. It repeats nothing by itself,
//! because only the caller knows what a repeat costs: an [`Error`] names what to do next. The exception is a device that
//! ends each session with its first request. Every size and time is bounded, and no `Debug` shows a secret.
//!
//! ```no_run
//! # async fn example() -> Result<(), tplink::Error> {
//! use serde_json::json;
//! use tplink::{Client, Credentials, Endpoint, Limits};
//!
//! let account = Credentials::new("user@example.com", "password");
//! let mut plug = Client::new(Endpoint::new("192.0.2.7"), Some(account), Limits::default());
//! plug.login(None).await?;
//! plug.call("set_device_info", json!({ "device_on": true })).await?;
//! # Ok(()) }
//! ```
//!
//! The codecs (`klap::cipher`, `aes::cipher`, `tpap::prover`, `xor::frame`...) know nothing of connections, and each is
//! held against the output of another client. `http` and `connect` know nothing of the protocols.

mod account;
mod aes;
mod client;
mod connect;
mod credentials;
mod endpoint;
mod error;
mod error_code;
mod hash;
mod http;
mod iot;
mod klap;
mod lifetime;
mod limits;
mod login;
mod session_use;
mod smart;
#[cfg(test)]
mod testing;
mod tpap;
mod transport;
mod xor;

pub use account::Account;
pub use client::Client;
pub use credentials::Credentials;
pub use endpoint::Endpoint;
pub use error::Error;
pub use error_code::ErrorCode;
pub use klap::Scheme;
pub use limits::Limits;
pub use login::Login;
pub use smart::BATCH;
pub use transport::Transport;
pub use xor::{sysinfo_answer, sysinfo_query};
