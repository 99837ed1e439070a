//! The faults of a device, and the remedy for each.

use planner::DeviceId;

use crate::domain::{
    command_error::ErrorCode,
    report::{DeviceError, Phase},
};

/// A failed exchange with a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::devices) enum Fault {
    /// No account is configured: setup mode.
    #[error("no Tapo account is configured; set tapo.username and tapo.password")]
    NoAccount,
    /// Nothing was sent: the address does not resolve, or there is no route.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// No port is open. Some plugs open theirs only after a discovery query.
    #[error("the connection was refused")]
    Refused,
    /// The request was sent, or may have been, and no answer came in time.
    #[error("no answer in time")]
    NoAnswer,
    /// The connection ended before the answer: usually an idle one that the device had closed.
    #[error("the device closed the connection")]
    Closed,
    /// The device does not know the session: another client took it, or it rebooted.
    #[error("the session was lost")]
    SessionLost,
    /// The session was lost again right after the login.
    #[error("every session is lost at once; another program may be taking it over and over")]
    SessionUnstable,
    /// The address belongs to another device now.
    #[error(
        "another device answers at this address ({0}), and the right one was not found; if it was replaced, set `mac` of the device to the new one"
    )]
    OtherDevice(String),
    /// It does not answer as a Tapo device does.
    #[error("something answers there, but not as a Tapo device; is the address right?")]
    NotTapo,
    /// It redirects requests to another address, which no Tapo device does. They are not sent there.
    #[error(
        "something answers there that redirects requests to another address, so it is not a Tapo device; is the address right?"
    )]
    Redirects,
    /// An answer does not end, or is larger than any of a Tapo device. It is not read.
    #[error("something answers there with more data than any Tapo device sends; is the address right?")]
    Oversized,
    /// The device has no relay that the bridge can switch: a chime, a fan, a camera. Its model.
    #[error("a {0} has no outlet that can be switched; remove it from the settings")]
    NoOutlets(String),
    /// This device has another id already.
    #[error("this is the same device as {0}; remove one of the two from the settings")]
    SameDevice(DeviceId),
    /// The login was refused because local control by third parties is off.
    #[error(
        "the device refuses local control; switch Third-Party Compatibility in the Tapo app (Me > Third-Party Services) off and on again"
    )]
    Forbidden,
    /// The login proved that e-mail or password differ from the device's owner.
    #[error("the device does not accept the configured e-mail and password (both are case-sensitive)")]
    WrongCredentials,
    /// The same, from a device that counts wrong passwords and locks itself after a few.
    #[error(
        "the device does not accept the configured e-mail and password, and counts attempts; the next one is in half an hour, or after a restart of the bridge"
    )]
    CountedCredentials,
    /// The device counted too many wrong passwords.
    #[error("the device refuses logins after wrong passwords; check the password, then wait half an hour")]
    LockedOut,
    /// A protocol or login variant that the bridge does not support.
    #[error("{0}")]
    UnsupportedProtocol(String),
    /// The device does not know this request.
    #[error("the device does not know this request (error {0})")]
    UnknownRequest(i64),
    /// The device answered with an error of its own.
    #[error("the device answered with error {code} ({kind})")]
    Device {
        /// The number on the wire.
        code: i64,
        /// Its name, where it has one.
        kind: &'static str,
    },
    /// HTTP 429 or 5xx.
    #[error("the device is overloaded (HTTP {0})")]
    Overloaded(u16),
    /// An unreadable answer. The request may have been carried out.
    #[error("the answer could not be read: {0}")]
    Unreadable(String),
}

/// The remedy for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::devices) enum Remedy {
    /// Send the request again at once, once.
    RetryNow,
    /// Log in again, then send the request again, once.
    LogInAgain,
    /// The result of the request is not known: read the device before any reply.
    ReadBack,
    /// Leave the session; probe with back-off.
    BackOff,
    /// Leave the session; search the device under another address.
    Search,
    /// Leave the session; try again in minutes. Time alone does not remove the cause.
    WaitForUser,
    /// Leave the session; every login attempt makes it worse.
    KeepAway,
    /// Do not send this request to this device again; everything else works.
    DoWithout,
}

impl From<tplink::Error> for Fault {
    fn from(error: tplink::Error) -> Self {
        match error {
            tplink::Error::Unreachable(reason) => Self::Unreachable(reason),
            tplink::Error::Refused => Self::Refused,
            tplink::Error::NoAnswer => Self::NoAnswer,
            tplink::Error::Closed => Self::Closed,
            // In a handshake: the device changed its protocol, or is starting.
            tplink::Error::SessionLost | tplink::Error::OtherProtocol => Self::SessionLost,
            tplink::Error::NoCredentials => Self::NoAccount,
            tplink::Error::WrongCredentials => Self::WrongCredentials,
            tplink::Error::CountedCredentials => Self::CountedCredentials,
            tplink::Error::Locked { .. } => Self::LockedOut,
            tplink::Error::Forbidden => Self::Forbidden,
            tplink::Error::Unsupported(_) => Self::UnsupportedProtocol(error.to_string()),
            tplink::Error::Overloaded(status) => Self::Overloaded(status),
            tplink::Error::UnknownRequest(code) => Self::UnknownRequest(code.0),
            tplink::Error::Device(tplink::ErrorCode(code)) => match code {
                -1501 => Self::WrongCredentials,
                -2203 => Self::CountedCredentials,
                -2101 => Self::LockedOut,
                code => Self::Device {
                    code,
                    kind: match code {
                        -1802 => "SCHEDULE_FULL",
                        -1803 => "SCHEDULE_CONFLICT",
                        -1902 => "COUNTDOWN_CONFLICT",
                        _ => "UNNAMED",
                    },
                },
            },
            tplink::Error::Unreadable(reason) => Self::Unreadable(reason.to_owned()),
        }
    }
}

impl Fault {
    /// The remedy (measured against tapo 0.12.2).
    pub(in crate::devices) fn remedy(&self) -> Remedy {
        match self {
            Self::Closed => Remedy::RetryNow,
            Self::SessionLost => Remedy::LogInAgain,
            Self::NoAnswer | Self::Unreadable(_) => Remedy::ReadBack,
            Self::Unreachable(_)
            | Self::Refused
            | Self::Overloaded(_)
            | Self::NotTapo
            | Self::SessionUnstable => Remedy::BackOff,
            Self::OtherDevice(_) => Remedy::Search,
            Self::NoAccount
            | Self::Forbidden
            | Self::WrongCredentials
            | Self::UnsupportedProtocol(_)
            | Self::Redirects
            | Self::Oversized
            | Self::NoOutlets(_)
            | Self::SameDevice(_) => Remedy::WaitForUser,
            Self::LockedOut | Self::CountedCredentials => Remedy::KeepAway,
            Self::UnknownRequest(_) | Self::Device { .. } => Remedy::DoWithout,
        }
    }

    /// Whether it is an answer of the device about this request, and not a failure of the link. It needs no reconnect.
    pub(in crate::devices) fn is_own_answer(&self) -> bool {
        self.remedy() == Remedy::DoWithout || matches!(self, Self::Unreadable(_))
    }

    /// Whether the device may have carried out the request.
    pub(in crate::devices) fn may_be_done(&self) -> bool {
        match self {
            // An answer that does not decrypt looks like a lost session.
            Self::NoAnswer
            | Self::Closed
            | Self::Unreadable(_)
            | Self::Oversized
            | Self::SessionLost
            | Self::SessionUnstable => true,
            Self::Overloaded(status) => *status >= 500,
            Self::NoAccount
            | Self::Unreachable(_)
            | Self::Refused
            | Self::OtherDevice(_)
            | Self::SameDevice(_)
            | Self::NotTapo
            | Self::Redirects
            | Self::NoOutlets(_)
            | Self::Forbidden
            | Self::WrongCredentials
            | Self::CountedCredentials
            | Self::LockedOut
            | Self::UnsupportedProtocol(_)
            | Self::UnknownRequest(_)
            | Self::Device { .. } => false,
        }
    }

    /// The fault of a request in a session: the device took the login, so it is not the password that it refuses.
    pub(in crate::devices) fn after_login(self) -> Self {
        match self {
            Self::WrongCredentials => Self::SessionLost,
            fault => fault,
        }
    }

    /// The fault of a login to something that never answered as a device: there was no session to lose.
    pub(in crate::devices) fn at_first_contact(self) -> Self {
        match self {
            Self::SessionLost | Self::SessionUnstable | Self::Unreadable(_) | Self::Overloaded(500..) => {
                Self::NotTapo
            }
            fault => fault,
        }
    }

    /// The error code of a command that this fault ended.
    pub(in crate::devices) fn code(&self) -> ErrorCode {
        match self {
            Self::NoAccount => ErrorCode::SetupMode,
            Self::Forbidden => ErrorCode::Forbidden,
            Self::UnsupportedProtocol(_) => ErrorCode::UnsupportedProtocol,
            Self::OtherDevice(_)
            | Self::SameDevice(_)
            | Self::NotTapo
            | Self::Redirects
            | Self::Oversized => ErrorCode::WrongDevice,
            Self::WrongCredentials | Self::CountedCredentials => ErrorCode::WrongCredentials,
            Self::LockedOut => ErrorCode::LockedOut,
            Self::UnknownRequest(_) | Self::NoOutlets(_) => ErrorCode::Unsupported,
            Self::Device { .. } => ErrorCode::DeviceError,
            Self::Unreachable(_)
            | Self::Refused
            | Self::NoAnswer
            | Self::Closed
            | Self::SessionLost
            | Self::SessionUnstable
            | Self::Overloaded(_)
            | Self::Unreadable(_) => ErrorCode::NoAnswer,
        }
    }

    /// The phase in which a device waits after this fault kept it from logging in.
    pub(in crate::devices) fn phase(&self) -> Phase {
        match self {
            Self::NoAccount => Phase::SetupMode,
            Self::Forbidden
            | Self::WrongCredentials
            | Self::UnsupportedProtocol(_)
            | Self::Redirects
            | Self::Oversized
            | Self::NoOutlets(_)
            | Self::SameDevice(_) => Phase::Forbidden,
            Self::LockedOut | Self::CountedCredentials => Phase::LockedOut,
            _ => Phase::Unreachable,
        }
    }

    /// Whether only another device, another firmware or other settings change it: asking again soon is of no use.
    pub(in crate::devices) fn is_lasting(&self) -> bool {
        matches!(self, Self::NoOutlets(_))
    }

    /// The error in reports and replies.
    pub(in crate::devices) fn device_error(&self) -> DeviceError {
        DeviceError {
            code: self.code(),
            message: self.to_string(),
        }
    }

    /// The kind alone, for counting.
    pub(in crate::devices) fn kind(&self) -> &'static str {
        match self {
            Self::NoAccount => "no_account",
            Self::Unreachable(_) => "unreachable",
            Self::Refused => "refused",
            Self::NoAnswer => "no_answer",
            Self::Closed => "closed",
            Self::SessionLost => "session_lost",
            Self::SessionUnstable => "session_unstable",
            Self::OtherDevice(_) => "other_device",
            Self::SameDevice(_) => "same_device",
            Self::NotTapo => "not_tapo",
            Self::Redirects => "redirects",
            Self::Oversized => "oversized",
            Self::NoOutlets(_) => "no_outlets",
            Self::Forbidden => "forbidden",
            Self::WrongCredentials => "wrong_credentials",
            Self::CountedCredentials => "counted_credentials",
            Self::LockedOut => "locked_out",
            Self::UnsupportedProtocol(_) => "unsupported_protocol",
            Self::UnknownRequest(_) => "unknown_request",
            Self::Device { .. } => "device_error",
            Self::Overloaded(_) => "overloaded",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_our_client_keeps_what_may_be_done() {
        use tplink::{Error, ErrorCode};
        for error in [
            Error::Unreachable(String::new()),
            Error::Refused,
            Error::NoAnswer,
            Error::Closed,
            Error::SessionLost,
            Error::WrongCredentials,
            Error::CountedCredentials,
            Error::Forbidden,
            Error::Unsupported("TPAP".to_owned()),
            Error::Overloaded(429),
            Error::Overloaded(503),
            Error::UnknownRequest(ErrorCode::PARAMS),
            Error::Device(ErrorCode::COUNTDOWN_CONFLICT),
            Error::Unreadable("it is not JSON"),
        ] {
            let may_be_done = error.may_be_done();
            assert_eq!(Fault::from(error.clone()).may_be_done(), may_be_done, "{error}");
        }
        // In a session that worked, the password is right.
        let refused = Fault::from(Error::Device(ErrorCode(-1501)));
        assert_eq!(refused.after_login(), Fault::SessionLost);
    }

    #[test]
    fn what_never_answered_as_a_device_is_none() {
        let lost = Fault::Unreadable("TP_SESSIONID cookie not found in response".to_owned());
        for fault in [
            Fault::SessionLost,
            lost,
            Fault::Overloaded(500),
            Fault::Overloaded(503),
        ] {
            assert_eq!(fault.at_first_contact(), Fault::NotTapo);
        }
        for fault in [
            Fault::Overloaded(429),
            Fault::NoAnswer,
            Fault::Forbidden,
            Fault::WrongCredentials,
        ] {
            assert_eq!(fault.clone().at_first_contact(), fault);
        }
    }
}
