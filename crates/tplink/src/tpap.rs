//! TPAP: a login by SPAKE2+ that does not reveal the password, then requests under AES-128-CCM with a running number.
//!
//! Sources: `src/api/protocol/tpap_*.rs` of the `tapo` crate 0.12.2, python-kasa's pull request 1592, RFC 9383.

mod announcement;
mod cipher;
mod prover;
mod registration;
mod session;

pub(crate) use self::{announcement::Announcement, session::TpapSession};
