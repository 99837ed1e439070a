//! KLAP: both sides prove that they know the account, then requests under AES-128-CBC with a running number.
//!
//! Source: python-kasa, `kasa/transports/klaptransport.py`.

mod cipher;
mod offer;
mod scheme;
mod session;

pub use self::scheme::Scheme;
pub(crate) use self::session::KlapSession;
