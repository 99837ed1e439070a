//! `securePassthrough`: the device encrypts a session key with our RSA key, then requests under AES-128-CBC.
//!
//! Source: python-kasa, `kasa/transports/aestransport.py`. Nothing in this protocol proves the device: an attacker in
//! between can take its place and read the password. Newer firmware has KLAP.

mod cipher;
mod key_exchange;
mod login_params;
mod session;

pub(crate) use self::{login_params::PasswordForm, session::AesSession};
