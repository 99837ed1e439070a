//! Options that cannot work.

use std::{path::PathBuf, time::Duration};

use crate::topic::MAX_STRING_LENGTH;

/// Options that cannot work with any broker.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A string that MQTT cannot encode.
    #[error("the {what} is longer than {MAX_STRING_LENGTH} bytes or contains a NUL character")]
    Text {
        /// The name of the option.
        what: &'static str,
    },
    /// Host and client id are required. Brokers would assign another client id on each connection.
    #[error("the {what} is empty")]
    Empty {
        /// The name of the option.
        what: &'static str,
    },
    /// MQTT encodes the keep-alive as whole seconds in 16 bits.
    #[error("a keep-alive of {0:?} is outside 1 to 65,535 seconds")]
    KeepAlive(Duration),
    /// A PEM file is not readable.
    #[error("cannot read {what} from {}: {reason}", path.display())]
    Pem {
        /// Certificate authorities, certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Certificate and key do not match, or the operating system has no certificate authorities.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}
