//! Hashes and key derivations.

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

pub(crate) fn md5_hex(data: &[u8]) -> String {
    base16ct::lower::encode_string(&Md5::digest(data))
}
