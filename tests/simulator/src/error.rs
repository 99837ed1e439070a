//! What can go wrong with a simulator, as opposed to what its faults do on purpose.

use std::{io, net::SocketAddr, time::Duration};

use crate::Profile;

/// Why a simulator cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The address cannot be listened on: choose another.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No such profile.
    #[error(
        "{0:?} is not a profile; use P100, P110, P110Old, P300, P304M, P316M, EP40M, HS100, HS110, KP115, HS300, KP303, H100 or \
         KH100"
    )]
    UnknownProfile(String),
    /// No such protocol.
    #[error("{0:?} is not a protocol; use klap, klapv1, tpap, aes, aesv1 or xor")]
    UnknownProtocol(String),
    /// A plug was asked for with the profile of a strip or hub, or the reverse.
    #[error("{0} is not a {1}")]
    WrongKind(Profile, &'static str),
    /// The device has no outlet at that position.
    #[error("there is no outlet {0}")]
    NoSuchOutlet(u8),
    /// The hub has no child of that name.
    #[error("there is no child {0:?}")]
    NoSuchChild(String),
    /// What was waited for did not happen in time.
    #[error("waited {budget:?} for {what}")]
    TimedOut {
        /// What.
        what: String,
        /// How long.
        budget: Duration,
    },
    /// The device has stopped.
    #[error("the device has stopped")]
    Stopped,
}
