//! Why an exchange with a device failed. Each variant asks for something else to be done next.

use std::time::Duration;

use crate::ErrorCode;

/// A failed login or request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was sent: the name does not resolve, there is no route, or nothing answers there. Back off.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// Nothing was sent: the port is closed. Some firmware opens it only after a discovery query.
    #[error("the connection was refused")]
    Refused,
    /// The request was sent, and no answer came in time. Read back before anything else.
    #[error("no answer in time")]
    NoAnswer,
    /// The connection ended before the answer. Send the request again once; a switch may have been carried out.
    #[error("the device closed the connection")]
    Closed,
    /// The device does not know the session, or there is none. Log in again.
    #[error("the session was lost")]
    SessionLost,
    /// This device needs an account, and none is configured.
    #[error("the device needs the e-mail and password of its TP-Link account")]
    NoCredentials,
    /// The device belongs to another account, or holds another password. Do not try again before they change.
    #[error("the device does not accept the e-mail and password")]
    WrongCredentials,
    /// The same, from a device that counts such logins and locks itself.
    #[error("the device does not accept the e-mail and password, and counts attempts")]
    CountedCredentials,
    /// The device has locked itself, or would: no login is sent before this time has passed.
    #[error("no login before {} minutes have passed", left.as_secs().div_ceil(60))]
    Locked {
        /// How long no login is sent.
        left: Duration,
    },
    /// Local control is switched off in the app.
    #[error("the device refuses local control")]
    Forbidden,
    /// The device does not speak this transport. Try another.
    #[error("the device speaks another protocol")]
    OtherProtocol,
    /// A variant of a protocol that this crate does not have. Another client may.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// HTTP 429 or 5xx. Back off; after 5xx a switch may have been carried out.
    #[error("the device is overloaded (HTTP {0})")]
    Overloaded(u16),
    /// The device does not have this request: do not send it to this firmware again. The session is good.
    #[error("the device does not know this request (error {0})")]
    UnknownRequest(ErrorCode),
    /// The device answered with an error of its own. The session is good.
    #[error("the device answered with error {0}")]
    Device(ErrorCode),
    /// An answer that makes no sense. The request may have been carried out.
    #[error("the answer could not be read: {0}")]
    Unreadable(&'static str),
}

impl Error {
    /// Whether the device may have carried out the request.
    pub fn may_be_done(&self) -> bool {
        match self {
            // An answer that does not decrypt is taken for a lost session.
            Self::NoAnswer | Self::Closed | Self::SessionLost | Self::Unreadable(_) => true,
            Self::Overloaded(status) => *status >= 500,
            Self::Unreachable(_)
            | Self::Refused
            | Self::NoCredentials
            | Self::WrongCredentials
            | Self::CountedCredentials
            | Self::Locked { .. }
            | Self::Forbidden
            | Self::OtherProtocol
            | Self::Unsupported(_)
            | Self::UnknownRequest(_)
            | Self::Device(_) => false,
        }
    }

    /// What the code in an answer to a SMART request means; `Ok` without an error.
    pub(crate) fn check(code: ErrorCode) -> Result<(), Self> {
        match code {
            ErrorCode::SUCCESS => Ok(()),
            ErrorCode::UNKNOWN_METHOD | ErrorCode::PARAMS => Err(Self::UnknownRequest(code)),
            ErrorCode::SESSION_TIMEOUT => Err(Self::SessionLost),
            code => Err(Self::Device(code)),
        }
    }
}
