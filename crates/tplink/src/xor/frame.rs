//! The frame: a length in 4 big-endian bytes, and a body of which each byte hides the next.

use crate::limits::LONGEST_REPLY;

/// What the first byte is hidden by.
const START: u8 = 171;
/// The length before the body.
pub(super) const HEADER: usize = 4;

/// The whole frame of a request. None for a text of more than 4 GB.
pub(super) fn seal(text: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(text.len()).ok()?;
    let mut frame = length.to_be_bytes().to_vec();
    let mut key = START;
    frame.extend(text.iter().map(|byte| {
        key ^= byte;
        key
    }));
    Some(frame)
}

/// The length that a header announces; none above 1 MiB.
pub(super) fn length(header: [u8; HEADER]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(header)).ok()?;
    (length <= LONGEST_REPLY).then_some(length)
}

/// Decrypts a body in place.
pub(super) fn open(body: &mut [u8]) {
    let mut key = START;
    for byte in body {
        key = std::mem::replace(byte, *byte ^ key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hash::hex, testing::unhex};

    /// Made with python-kasa 0.12.
    #[test]
    fn a_frame_is_that_of_python_kasa() {
        let text = br#"{"system":{"get_sysinfo":{}}}"#;
        let frame = "0000001dd0f281f88bff9af7d5ef94b6d1b4c09fec95e68fe187e8caf08bf68bf6";
        assert_eq!(hex(&seal(text).unwrap()), frame);
        let mut body = unhex(&frame[2 * HEADER..]);
        open(&mut body);
        assert_eq!(body, text);
    }

    #[test]
    fn a_body_has_at_most_1_mib() {
        assert_eq!(length([0, 0x10, 0, 0]), Some(LONGEST_REPLY));
        assert_eq!(length([0, 0x10, 0, 1]), None);
        assert_eq!(length([0xff; HEADER]), None);
    }
}
