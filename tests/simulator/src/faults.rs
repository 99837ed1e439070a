//! What can go wrong on a device, switched on and off while it runs.

mod table;

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::table::Faults;

/// One thing that goes wrong until it is cleared. A fault replaces an earlier one of its kind.
///
/// As JSON a fault is an object whose `fault` names its kind, for example
/// `{"fault":"drop","stage":"after_applying","methods":["set_device_info"],"times":1}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Every HTTP request takes this long to work on.
    Latency {
        /// How long.
        latency: Latency,
    },
    /// The request is never answered, also not after the fault was cleared.
    Hang {
        /// Whether the request takes effect.
        stage: Stage,
        /// Which requests.
        #[serde(flatten)]
        scope: Scope,
    },
    /// The connection is closed instead of an answer.
    Drop {
        /// Whether the request takes effect.
        stage: Stage,
        /// Which requests.
        #[serde(flatten)]
        scope: Scope,
    },
    /// The connection is closed after each reply, without announcing it in a header.
    CloseAfterReply,
    /// A connection that was idle for this long is dead: the next request on it is neither applied
    /// nor answered, and the client sees the connection close.
    CloseIdle {
        /// Milliseconds.
        #[serde(rename = "after_ms", with = "millis")]
        after: Duration,
    },
    /// The session table has one row: a second log-in ends the first session.
    SingleSession,
    /// A session over KLAP ends with its first request. The next one is answered with bytes that do not decrypt.
    SingleRequest,
    /// Sessions end after this long.
    SessionLifetime {
        /// Milliseconds.
        #[serde(rename = "lifetime_ms", with = "millis")]
        lifetime: Duration,
    },
    /// `handshake1` is answered with 403: third-party compatibility is off.
    ForbidHandshake,
    /// The device speaks the other protocol (TPAP instead of KLAP or the reverse); sessions end.
    ProtocolFlip,
    /// Requests are answered with an HTTP status, and not applied.
    HttpStatus {
        /// The status, for example 429 or 503.
        status: u16,
        /// Which requests.
        #[serde(flatten)]
        scope: Scope,
    },
    /// Requests are answered with an error code, and not applied: each where it stands in a `multipleRequest` or
    /// `control_child`.
    Refuse {
        /// The code, for example -1002 for a method that this firmware does not have.
        code: i64,
        /// Which requests.
        #[serde(flatten)]
        scope: Scope,
    },
    /// The port is closed, also again after each reboot, until a discovery query arrives. Needs a
    /// device with discovery.
    PortClosedUntilProbed,
    /// The device belongs to another account.
    WrongPassword,
    /// The device checks against an empty e-mail and password, as some do for a while after a power cut.
    BlankCredentials,
    /// After this many failed TPAP log-ins the device refuses every further one (-2101) until the
    /// fault is cleared.
    TpapLock {
        /// Failed log-ins.
        after: u32,
    },
    /// Replies that cannot be read.
    Malformed {
        /// In which way.
        damage: Damage,
        /// Which requests.
        #[serde(flatten)]
        scope: Scope,
    },
    /// These fields are left out of every result, at any depth.
    MissingFields {
        /// Names of fields.
        fields: Vec<String>,
    },
    /// These fields, where a result has them at any depth, have these values: unknown enum values,
    /// wrong types, a chosen `rssi`.
    FieldValues {
        /// Values by name of field.
        values: BTreeMap<String, Value>,
    },
    /// A strip lists these outlets, in this order.
    Children {
        /// Positions, counted from 1.
        positions: Vec<u8>,
    },
    /// The clock was never set: energy answers -1601 and schedules rest.
    ClockUnset,
    /// An old Kasa strip takes a countdown of any outlet for one of the first.
    OutletIgnored,
}

/// The kind of a [`Fault`], to clear it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // Each is the kind of the fault of the same name.
pub enum FaultKind {
    Latency,
    Hang,
    Drop,
    CloseAfterReply,
    CloseIdle,
    SingleSession,
    SingleRequest,
    SessionLifetime,
    ForbidHandshake,
    ProtocolFlip,
    HttpStatus,
    Refuse,
    PortClosedUntilProbed,
    WrongPassword,
    BlankCredentials,
    TpapLock,
    Malformed,
    MissingFields,
    FieldValues,
    Children,
    ClockUnset,
    OutletIgnored,
}

impl Fault {
    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Latency { .. } => FaultKind::Latency,
            Self::Hang { .. } => FaultKind::Hang,
            Self::Drop { .. } => FaultKind::Drop,
            Self::CloseAfterReply => FaultKind::CloseAfterReply,
            Self::CloseIdle { .. } => FaultKind::CloseIdle,
            Self::SingleSession => FaultKind::SingleSession,
            Self::SingleRequest => FaultKind::SingleRequest,
            Self::SessionLifetime { .. } => FaultKind::SessionLifetime,
            Self::ForbidHandshake => FaultKind::ForbidHandshake,
            Self::ProtocolFlip => FaultKind::ProtocolFlip,
            Self::HttpStatus { .. } => FaultKind::HttpStatus,
            Self::Refuse { .. } => FaultKind::Refuse,
            Self::PortClosedUntilProbed => FaultKind::PortClosedUntilProbed,
            Self::WrongPassword => FaultKind::WrongPassword,
            Self::BlankCredentials => FaultKind::BlankCredentials,
            Self::TpapLock { .. } => FaultKind::TpapLock,
            Self::Malformed { .. } => FaultKind::Malformed,
            Self::MissingFields { .. } => FaultKind::MissingFields,
            Self::FieldValues { .. } => FaultKind::FieldValues,
            Self::Children { .. } => FaultKind::Children,
            Self::ClockUnset => FaultKind::ClockUnset,
            Self::OutletIgnored => FaultKind::OutletIgnored,
        }
    }

    /// Whether it refuses a request to this outlet; `None` is the device as a whole.
    pub(crate) fn refuses(&self, outlet: Option<u8>) -> bool {
        let Self::Refuse { scope, .. } = self else {
            return false;
        };
        scope.outlets.is_empty() || outlet.is_some_and(|outlet| scope.outlets.contains(&outlet))
    }

    fn scope_mut(&mut self) -> Option<&mut Scope> {
        match self {
            Self::Hang { scope, .. }
            | Self::Drop { scope, .. }
            | Self::HttpStatus { scope, .. }
            | Self::Refuse { scope, .. }
            | Self::Malformed { scope, .. } => Some(scope),
            _ => None,
        }
    }
}

/// Whether a request takes effect before it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It has no effect.
    BeforeApplying,
    /// It has its effect; the client gets no reply.
    AfterApplying,
}

/// Which requests a fault hits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Methods, at any depth of a `multipleRequest` or `control_child`; empty means all. The steps of
    /// a log-in are methods too: `discover`, `handshake1`, `handshake2`, `pake_register`, `pake_share`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// How many of these requests; none means until the fault is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// The positions of the outlets that refuse; empty means all, and the device too. Only a refusal looks at it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outlets: Vec<u8>,
}

impl Scope {
    /// All requests.
    pub fn all() -> Self {
        Self::default()
    }

    /// Requests that contain this method.
    pub fn method(method: impl Into<String>) -> Self {
        Self {
            methods: vec![method.into()],
            ..Self::default()
        }
    }

    /// Of these, those to this outlet.
    #[must_use]
    pub fn outlet(self, position: u8) -> Self {
        Self {
            outlets: vec![position],
            ..self
        }
    }

    /// The next `times` of these requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    fn covers(&self, methods: &[String]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| methods.contains(method))
    }
}

/// How a reply is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// It decrypts to text that is not JSON.
    NotJson,
    /// It does not decrypt.
    Undecryptable,
    /// Its body is cut in half, and is as long as in its header.
    Truncated,
    /// The connection closes in the middle of its body.
    CutOff,
    /// `set_` replies carry `"result":{}`.
    EmptyResult,
}

/// How long a device takes over a request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "distribution")]
pub enum Latency {
    /// Always the same.
    Fixed {
        /// Milliseconds.
        #[serde(rename = "ms", with = "millis")]
        time: Duration,
    },
    /// Anything between two bounds, equally likely.
    Uniform {
        /// Milliseconds.
        #[serde(rename = "min_ms", with = "millis")]
        min: Duration,
        /// Milliseconds.
        #[serde(rename = "max_ms", with = "millis")]
        max: Duration,
    },
    /// Mostly quick, now and then slow.
    LongTail {
        /// Milliseconds.
        #[serde(rename = "typical_ms", with = "millis")]
        typical: Duration,
        /// Milliseconds.
        #[serde(rename = "slow_ms", with = "millis")]
        slow: Duration,
        /// The share of slow requests, 0 to 1.
        slow_share: f64,
    },
}

impl Latency {
    /// Always the same.
    pub fn fixed(time: Duration) -> Self {
        Self::Fixed { time }
    }

    fn sample(self, rng: &mut StdRng) -> Duration {
        match self {
            Self::Fixed { time } => time,
            Self::Uniform { min, max } => min + max.saturating_sub(min).mul_f64(rng.random::<f64>()),
            Self::LongTail {
                typical,
                slow,
                slow_share,
            } => {
                if rng.random::<f64>() < slow_share {
                    slow
                } else {
                    typical
                }
            }
        }
    }
}

impl From<Duration> for Latency {
    fn from(time: Duration) -> Self {
        Self::fixed(time)
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_reads_as_it_is_written() {
        let json =
            json!({"fault": "drop", "stage": "after_applying", "methods": ["set_device_info"], "times": 2});
        let fault: Fault = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&fault).unwrap(), json);
        assert_eq!(
            serde_json::to_value(FaultKind::TpapLock).unwrap(),
            json!("tpap_lock")
        );

        let json =
            json!({"fault": "latency", "latency": {"distribution": "uniform", "min_ms": 5, "max_ms": 9}});
        let fault: Fault = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&fault).unwrap(), json);
        serde_json::from_value::<Fault>(json!({"fault": "gremlin"})).unwrap_err();
    }
}
