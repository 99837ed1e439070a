//! The shape of every JSON answer.

use serde_json::{Map, Value, json};

/// What a method answers: a result, nothing (as each `set_` does), or an error code.
pub(crate) type Answer = Result<Option<Value>, Refusal>;

/// An error code. The names are those of python-kasa's `SmartErrorCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) i64);

impl Refusal {
    pub(crate) const UNKNOWN_METHOD: Self = Self(-1002);
    pub(crate) const JSON_DECODE: Self = Self(-1003);
    pub(crate) const AES_DECODE: Self = Self(-1005);
    pub(crate) const PARAMS: Self = Self(-1008);
    pub(crate) const RSA_KEY: Self = Self(-1010);
    pub(crate) const LOGIN: Self = Self(-1501);
    pub(crate) const TIME: Self = Self(-1601);
    pub(crate) const SCHEDULE_FULL: Self = Self(-1802);
    pub(crate) const SCHEDULE_CONFLICT: Self = Self(-1803);
    pub(crate) const SCHEDULE_INDEX: Self = Self(-1805);
    pub(crate) const COUNTDOWN: Self = Self(-1901);
    pub(crate) const COUNTDOWN_CONFLICT: Self = Self(-1902);
    /// A session that `securePassthrough` does not know.
    pub(crate) const SESSION_TIMEOUT: Self = Self(9999);
    /// What firmware without TPAP answers to its log-in, and firmware with KLAP to `securePassthrough`.
    pub(crate) const TRANSPORT_UNKNOWN: Self = Self(1003);
    pub(crate) const TPAP_LOCKED: Self = Self(-2101);
    pub(crate) const TPAP_CIPHER_SUITE: Self = Self(-2201);
    pub(crate) const TPAP_PASSCODE_TYPE: Self = Self(-2202);
    pub(crate) const TPAP_CREDENTIALS: Self = Self(-2203);
    pub(crate) const TPAP_SESSION: Self = Self(-2402);
}

/// The reply that carries an answer.
pub(crate) fn reply(answer: Answer) -> Map<String, Value> {
    let mut reply = Map::new();
    match answer {
        Ok(result) => {
            reply.insert("error_code".to_owned(), json!(0));
            if let Some(result) = result {
                reply.insert("result".to_owned(), result);
            }
        }
        Err(Refusal(code)) => {
            reply.insert("error_code".to_owned(), json!(code));
        }
    }
    reply
}
