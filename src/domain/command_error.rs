//! Why a command was not carried out.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use planner::{OutletKey, OutletPath};
use serde::{Serialize, Serializer};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// The stable code.
    pub code: ErrorCode,
    /// As text for people.
    pub message: String,
    /// How many times the device was asked.
    pub attempts: u32,
}

impl CommandError {
    /// A failure that the device was not asked about.
    pub fn bridge(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            attempts: 0,
        }
    }

    /// A command that a newer one for the same outlet replaced.
    pub fn superseded() -> Self {
        Self::bridge(
            ErrorCode::Superseded,
            "a newer command for this outlet replaced this one before it was carried out",
        )
    }

    /// A path that names no outlet of its device. `outlets` are those that it has; none on a plug.
    pub fn unknown_outlet(path: &OutletPath, outlets: &[OutletKey]) -> Self {
        let device = &path.device;
        let message = if outlets.is_empty() {
            format!("{path} does not exist: {device} is a plug; leave the outlet out")
        } else {
            let keys: Vec<&str> = outlets.iter().map(OutletKey::as_str).collect();
            format!(
                "{path} does not exist; {device} has the outlets {}",
                keys.join(", ")
            )
        };
        Self::bridge(ErrorCode::UnknownOutlet, message)
    }

    /// A command to switch a hub, or what is connected to one: neither has a relay.
    pub fn no_outlets(path: &OutletPath) -> Self {
        let message = format!("{path}: {} is a hub, which has no outlets to switch", path.device);
        Self::bridge(ErrorCode::UnknownOutlet, message)
    }

    /// The same failure after attempts whose outcome is not known. That a command was not carried out in time can
    /// then not be reported any more.
    pub(super) fn after(self, attempts: u32) -> Self {
        match self.code {
            _ if attempts == 0 => self,
            ErrorCode::Expired | ErrorCode::NotReady => Self {
                code: ErrorCode::NoAnswer,
                message: "the device did not confirm in time; its state is read again as soon as it answers"
                    .to_owned(),
                attempts: self.attempts.max(attempts),
            },
            _ => Self {
                attempts: self.attempts.max(attempts),
                ..self
            },
        }
    }

    /// A command that was received after the time at which it expired.
    pub fn late(expires: Timestamp) -> Self {
        let message = format!(
            "expired at {expires:.0}, and was received later; not carried out. If it was sent before, check the clocks of its \
             sender and of this machine"
        );
        Self::bridge(ErrorCode::Late, message)
    }

    /// A command whose time to live ran out.
    pub fn expired(waited: Duration, why: &str) -> Self {
        let message = format!("not carried out within {:.1} s: {why}", waited.as_secs_f64());
        Self::bridge(ErrorCode::Expired, message)
    }
}

/// Stable codes of failures, as in a response's `error.code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorCode {
    /// The device has not been reached since the bridge started.
    NotReady,
    /// The bridge is stopping.
    ShuttingDown,
    /// The time to live ran out before the device could be reached.
    Expired,
    /// It was received after it had expired. In a response the same as the one above.
    Late,
    /// A newer command for the same outlet came first.
    Superseded,
    /// No Tapo credentials are configured.
    SetupMode,
    /// Too many commands wait already.
    Busy,
    /// No such device is configured.
    UnknownDevice,
    /// The device has no such outlet.
    UnknownOutlet,
    /// No such group is configured.
    UnknownGroup,
    /// What was asked for makes no sense for this outlet or group, such as a lifetime without a schedule.
    BadCommand,
    /// The device refuses local control; a switch in the Tapo app changes that.
    Forbidden,
    /// The device requires a login that the bridge does not support.
    UnsupportedProtocol,
    /// The device does not accept the e-mail and password.
    WrongCredentials,
    /// The device locked itself after too many wrong passwords.
    LockedOut,
    /// The device does not know this request.
    Unsupported,
    /// The device answered with an error of its own.
    DeviceError,
    /// The device took the command but reads back the other state.
    NotConfirmed,
    /// Another device answers at the address.
    WrongDevice,
    /// The device did not answer, and what it did is not known.
    NoAnswer,
    /// A safety limit forbids it now.
    RefusedBySafety,
    /// The settings were read again and have problems.
    InvalidSettings,
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_str().serialize(serializer)
    }
}

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The device, or the way to it.
    Device,
    /// The bridge, or the command itself.
    Bridge,
    /// A safety limit.
    Safety,
}

impl fmt::Display for ErrorCode {
    /// As in `error.code`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl ErrorCode {
    /// The code as it stands in a response.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::ShuttingDown => "shutting_down",
            Self::Expired | Self::Late => "expired",
            Self::Superseded => "superseded",
            Self::SetupMode => "setup_mode",
            Self::Busy => "busy",
            Self::UnknownDevice => "unknown_device",
            Self::UnknownOutlet => "unknown_outlet",
            Self::UnknownGroup => "unknown_group",
            Self::BadCommand => "bad_command",
            Self::Forbidden => "forbidden",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::WrongCredentials => "wrong_credentials",
            Self::LockedOut => "locked_out",
            Self::Unsupported => "unsupported",
            Self::DeviceError => "device_error",
            Self::NotConfirmed => "not_confirmed",
            Self::WrongDevice => "wrong_device",
            Self::NoAnswer => "no_answer",
            Self::RefusedBySafety => "refused_by_safety",
            Self::InvalidSettings => "invalid_settings",
        }
    }

    /// Whether something is wrong. A newer command that replaces this one, or a stop of the bridge, is no failure.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Superseded | Self::ShuttingDown)
    }

    /// Whose failure it is.
    pub fn origin(self) -> Origin {
        match self {
            Self::NotReady
            | Self::Expired
            | Self::Forbidden
            | Self::UnsupportedProtocol
            | Self::WrongCredentials
            | Self::LockedOut
            | Self::Unsupported
            | Self::DeviceError
            | Self::NotConfirmed
            | Self::WrongDevice
            | Self::NoAnswer => Origin::Device,
            Self::ShuttingDown
            | Self::Superseded
            | Self::SetupMode
            | Self::Busy
            | Self::InvalidSettings
            | Self::Late
            | Self::UnknownDevice
            | Self::UnknownOutlet
            | Self::UnknownGroup
            | Self::BadCommand => Origin::Bridge,
            Self::RefusedBySafety => Origin::Safety,
        }
    }
}
