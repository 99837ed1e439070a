//! Hashes and key derivations.

use hmac::{Hmac, KeyInit as _, Mac as _};
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

pub(crate) fn md5_hex(data: &[u8]) -> String {
    base16ct::lower::encode_string(&md5(data))
}

/// HMAC-SHA256; none for a key it does not take, which does not occur.
pub(crate) fn hmac_sha256(key: &[u8], data: &[u8]) -> Option<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(data);
    Some(mac.finalize().into_bytes().into())
}

/// HKDF-SHA256 (RFC 5869) to `N` bytes; none above 8160.
pub(crate) fn hkdf_sha256<const N: usize>(secret: &[u8], salt: &[u8], info: &[u8]) -> Option<[u8; N]> {
    let mut key = [0; N];
    hkdf::Hkdf::<Sha256>::new(Some(salt), secret)
        .expand(info, &mut key)
        .ok()?;
    Some(key)
}

/// PBKDF2-HMAC-SHA256 (RFC 8018) to `N` bytes.
pub(crate) fn pbkdf2_sha256<const N: usize>(password: &[u8], salt: &[u8], iterations: u32) -> [u8; N] {
    pbkdf2::pbkdf2_hmac_array::<Sha256, N>(password, salt, iterations)
}
