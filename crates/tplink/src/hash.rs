//! Hashes, in the forms in which the protocols use them.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// SHA-256 of the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

pub(crate) fn sha1(data: &[u8]) -> [u8; 20] {
    Sha1::digest(data).into()
}

pub(crate) fn md5(data: &[u8]) -> [u8; 16] {
    Md5::digest(data).into()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(data: &[u8]) -> String {
    base16ct::lower::encode_string(data)
}

/// The first `N` bytes of a hash that has at least as many.
pub(crate) fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    const { assert!(N <= 32, "a SHA-256 has 32 bytes") }
    hash.first_chunk().copied().unwrap_or([0; N])
}
