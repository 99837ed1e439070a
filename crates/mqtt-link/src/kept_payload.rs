//! A retained payload, kept to be published again on the next connection.

use bytes::Bytes;
use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec};

/// Smaller ones are states: they change often, and compression gains little.
const COMPRESSED_FROM: usize = 4096;
/// The fastest one. What is this large repeats its words, so that a tenth is left.
const COMPRESSION_LEVEL: u8 = 1;

/// A payload, compressed if it is large: a discovery message was most of what a device needs in memory.
#[derive(Debug)]
pub(crate) enum KeptPayload {
    Plain(Bytes),
    Compressed { deflated: Box<[u8]>, bytes: usize },
}

impl KeptPayload {
    pub(crate) fn new(payload: Bytes) -> Self {
        if payload.len() < COMPRESSED_FROM {
            // Shrink the buffer: a JSON writer leaves up to as much spare capacity.
            return Self::Plain(Bytes::from(Vec::from(payload).into_boxed_slice()));
        }
        Self::Compressed {
            deflated: compress_to_vec(&payload, COMPRESSION_LEVEL).into_boxed_slice(),
            bytes: payload.len(),
        }
    }

    /// The payload as it is published.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Plain(payload) => payload.clone(),
            // What was compressed here can be decompressed.
            Self::Compressed { deflated, .. } => decompress_to_vec(deflated).unwrap_or_default().into(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(payload) => payload.len(),
            Self::Compressed { bytes, .. } => *bytes,
        }
    }
}

impl PartialEq<Bytes> for KeptPayload {
    fn eq(&self, payload: &Bytes) -> bool {
        self.len() == payload.len() && self.to_bytes() == payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_payload_is_kept_small_and_comes_back_as_it_was() {
        let large = "{\"unique_id\":\"plug\"},".repeat(500);
        let kept = KeptPayload::new(large.clone().into());
        assert!(
            matches!(&kept, KeptPayload::Compressed { deflated, .. } if deflated.len() < large.len() / 4)
        );
        assert_eq!(kept, Bytes::from(large.clone()));
        assert_ne!(kept, Bytes::from(large.replacen("plug", "lamp", 1)));
        assert_eq!(kept.to_bytes(), large);
    }

    #[test]
    fn a_small_payload_is_kept_as_it_is() {
        for small in ["", "ON"] {
            let kept = KeptPayload::new(small.into());
            assert!(matches!(kept, KeptPayload::Plain(_)));
            assert_eq!(kept, Bytes::from(small));
            assert_ne!(kept, Bytes::from("OFF"));
        }
    }
}
