//! XOR: old Kasa devices take JSON in a frame on TCP port 9999, behind a cipher without a key. There is no login.
//!
//! Source: python-kasa, `kasa/transports/xortransport.py`.

mod frame;
mod link;

pub(crate) use self::link::XorLink;
