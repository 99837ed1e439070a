//! What the sessions of all protocols have in common.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::SimulatorError;

/// How a device is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// What devices speak while third-party compatibility is on: KLAP version 2.
    Klap,
    /// KLAP version 1, with the JSON of old Kasa devices: what these speak on their last firmware.
    KlapV1,
    /// What firmware 1.4 speaks while it is off.
    Tpap,
    /// `securePassthrough`, what firmware before KLAP speaks; it takes the hash of the password.
    Aes,
    /// The same on older firmware, which takes the password itself.
    AesV1,
    /// The protocol of old Kasa devices, with their JSON.
    Xor,
}

impl Protocol {
    const ALL: [Self; 6] = [
        Self::Klap,
        Self::KlapV1,
        Self::Tpap,
        Self::Aes,
        Self::AesV1,
        Self::Xor,
    ];

    /// What a device speaks after a firmware update, or after third-party compatibility was switched.
    pub(crate) fn other(self, is_iot: bool) -> Self {
        match self {
            Self::Klap if is_iot => Self::Xor,
            Self::Klap => Self::Tpap,
            Self::Tpap | Self::Aes | Self::AesV1 => Self::Klap,
            Self::KlapV1 => Self::Xor,
            Self::Xor => Self::KlapV1,
        }
    }

    pub(crate) fn is_klap(self) -> bool {
        matches!(self, Self::Klap | Self::KlapV1)
    }

    pub(crate) fn is_aes(self) -> bool {
        matches!(self, Self::Aes | Self::AesV1)
    }

    /// Whether requests are those of old Kasa devices.
    pub(crate) fn is_iot(self) -> bool {
        matches!(self, Self::KlapV1 | Self::Xor)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Klap => "klap",
            Self::KlapV1 => "klapv1",
            Self::Tpap => "tpap",
            Self::Aes => "aes",
            Self::AesV1 => "aesv1",
            Self::Xor => "xor",
        })
    }
}

impl FromStr for Protocol {
    type Err = SimulatorError;

    fn from_str(text: &str) -> Result<Self, SimulatorError> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| SimulatorError::UnknownProtocol(text.to_owned()))
    }
}

/// The account that a device belongs to. `Debug` hides the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("username", &self.username)
            .field("password", &"***")
            .finish()
    }
}

/// What ends sessions before their time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) single_session: bool,
    /// A session has one request.
    pub(crate) single_request: bool,
    pub(crate) lifetime: Option<Duration>,
    /// Counts changes of protocol; sessions of another count are over.
    pub(crate) era: u64,
}

impl Limits {
    /// Whether a session that started then, in that era, is over.
    pub(crate) fn ended(self, started: Instant, era: u64) -> bool {
        era != self.era
            || self
                .lifetime
                .is_some_and(|lifetime| started.elapsed() >= lifetime)
    }
}

/// Why a request is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Unknown, unconfirmed or expired.
    NoSession,
    /// The sequence number is not the next one.
    Sequence,
    /// It was not made with the session's key.
    Signature,
}
