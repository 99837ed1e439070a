//! One HTTP answer.

use serde_json::Value;

use super::Cookie;
use crate::{Error, ErrorCode};

/// What a device answered. `Debug` shows sizes only.
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) cookie: Option<Cookie>,
    pub(crate) body: Vec<u8>,
}

impl HttpReply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The code in a plain JSON body.
    pub(crate) fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::of(&self.json()?)
    }

    /// The error of a status that means the same on every path: too many requests, or trouble inside.
    pub(crate) fn check_load(&self) -> Result<(), Error> {
        match self.status {
            status @ (429 | 500..=599) => Err(Error::Overloaded(status)),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for HttpReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {} with {} bytes", self.status, self.body.len())
    }
}
