//! The error codes in the answers of devices.

use std::fmt;

use serde_json::Value;

/// The number in `error_code` (SMART) or `err_code` (IOT). Unknown ones are data: new firmware brings new ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i64);

/// The names are those of python-kasa's `SmartErrorCode` (`kasa/exceptions.py`).
impl ErrorCode {
    /// No error.
    pub const SUCCESS: Self = Self(0);
    /// The method does not exist on this device.
    pub const UNKNOWN_METHOD: Self = Self(-1002);
    /// Unreadable JSON; on some firmware also a batch, or a request that needs the clock before it is set.
    pub const JSON: Self = Self(-1003);
    /// Wrong parameters; on some firmware the method does not exist.
    pub const PARAMS: Self = Self(-1008);
    /// A batch failed as a whole.
    pub const BATCH_FAILED: Self = Self(1200);
    /// A schedule rule is refused.
    pub const SCHEDULE: Self = Self(-1801);
    /// The device holds no more schedule rules.
    pub const SCHEDULE_FULL: Self = Self(-1802);
    /// A countdown is armed already.
    pub const COUNTDOWN_CONFLICT: Self = Self(-1902);
    pub(crate) const AES_DECODE: Self = Self(-1005);
    pub(crate) const LOGIN: Self = Self(-1501);
    pub(crate) const LOCKED: Self = Self(-2101);
    pub(crate) const TPAP_SUITE: Self = Self(-2201);
    pub(crate) const TPAP_PASSCODE: Self = Self(-2202);
    pub(crate) const TPAP_CREDENTIALS: Self = Self(-2203);
    pub(crate) const OTHER_TRANSPORT: Self = Self(1003);
    pub(crate) const HANDSHAKE: Self = Self(1100);
    pub(crate) const LOGIN_FAILED: Self = Self(1111);
    pub(crate) const SESSION_TIMEOUT: Self = Self(9999);

    /// The code in a SMART answer; none if there is none, or it is no number.
    pub(crate) fn of(answer: &Value) -> Option<Self> {
        answer.get("error_code")?.as_i64().map(Self)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
