//! What the tests of all transports share.

use rand::{RngExt as _, rngs::StdRng};

use crate::http::HttpReply;

/// An answer without a cookie.
pub(crate) fn reply(status: u16, body: impl AsRef<[u8]>) -> HttpReply {
    HttpReply {
        status,
        cookie: None,
        body: body.as_ref().to_vec(),
    }
}

/// How many damaged answers each transport gets. `TPLINK_FUZZ` sets another number.
pub(crate) fn fuzz_count() -> u32 {
    std::env::var("TPLINK_FUZZ")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(2000)
}

/// Changes, inserts, removes or repeats a few bytes, or cuts the end off.
pub(crate) fn damage(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..4) {
        let place = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, rng.random()),
            2 if place < bytes.len() => drop(bytes.remove(place)),
            3 => {
                let copy = bytes.get(place..).unwrap_or_default().to_vec();
                bytes.extend(copy.iter().take(64));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = rng.random();
                }
            }
        }
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(text).unwrap()
}

/// A fixed `00 01 02...` from a first byte on.
pub(crate) fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first + u8::try_from(index).unwrap())
}
