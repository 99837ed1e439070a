//! Whether a firmware takes several requests in one. Pure.

use serde_json::Value;
use tplink::{Error, ErrorCode};

/// What is known of it: some refuse such a request (P100), some do not answer the second one (P300 1.0.7).
#[derive(Debug, Default)]
pub(super) struct Batches {
    refused: bool,
    firmware: Option<String>,
}

/// Its parameters, the whole of it, or its length are wrong.
const REFUSALS: [ErrorCode; 3] = [ErrorCode::JSON, ErrorCode::BATCH_FAILED, ErrorCode(-1006)];

impl Batches {
    /// Whether one may be sent.
    pub(super) fn are_taken(&self) -> bool {
        !self.refused
    }

    /// One failed as a whole. Returns whether it was refused, so that nothing of it was carried out. No other one is sent
    /// after it, or after one without an answer that can be read.
    pub(super) fn on_failure(&mut self, error: &Error) -> bool {
        let refused = match error {
            Error::UnknownRequest(_) => true,
            Error::Device(code) => REFUSALS.contains(code),
            _ => false,
        };
        self.refused |= refused || matches!(error, Error::NoAnswer | Error::Unreadable(_));
        refused
    }

    /// The device reported its values: another firmware is asked again.
    pub(super) fn on_info(&mut self, info: &Value) {
        let firmware = info.get("fw_ver").and_then(Value::as_str);
        if firmware.is_some() && firmware != self.firmware.as_deref() {
            *self = Self {
                refused: self.refused && self.firmware.is_none(),
                firmware: firmware.map(str::to_owned),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_firmware_that_refuses_is_not_asked_again() {
        let mut batches = Batches::default();
        batches.on_info(&json!({ "fw_ver": "1.0.7" }));
        assert!(!batches.on_failure(&Error::Closed) && batches.are_taken());
        assert!(batches.on_failure(&Error::Device(ErrorCode(-1003))) && !batches.are_taken());
        batches.on_info(&json!({ "fw_ver": "1.0.7" }));
        batches.on_info(&json!({}));
        assert!(!batches.are_taken());
        batches.on_info(&json!({ "fw_ver": "1.0.15" }));
        assert!(batches.are_taken());
        assert!(!batches.on_failure(&Error::NoAnswer), "it may be carried out");
        assert!(!batches.are_taken());
    }
}
