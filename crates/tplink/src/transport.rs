//! The ways to reach a device.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a device speaks below its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// HTTP with the KLAP handshake, versions 1 and 2: SMART and newer IOT devices.
    Klap,
    /// HTTP with the SPAKE2+ login: SMART firmware from about 1.4 while third-party compatibility is off.
    Tpap,
    /// HTTP with `securePassthrough`: SMART firmware before about 1.2.
    Aes,
    /// TCP port 9999 with an XOR cipher and no login: IOT devices.
    Xor,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Klap => "klap",
            Self::Tpap => "tpap",
            Self::Aes => "aes",
            Self::Xor => "xor",
        })
    }
}
