//! AES-128-CCM under a nonce that ends in the number of the request, which its answer shares.

use std::fmt;

use aes::Aes128;
use ccm::{
    Ccm,
    aead::{Aead as _, KeyInit as _},
    consts::{U12, U16},
};

use super::prover::hkdf_sha256;

/// The keys of a session and the number of the next request. `Debug` shows none of them.
pub(super) struct TpapCipher {
    aead: Ccm<Aes128, U16, U12>,
    nonce: [u8; 12],
    next: i32,
}

impl TpapCipher {
    /// None only if the key derivation refused its own lengths.
    pub(super) fn new(shared_key: &[u8], first: i32) -> Option<Self> {
        let key: [u8; 16] = hkdf_sha256(shared_key, b"tp-kdf-salt-aes128-key", b"tp-kdf-info-aes128-key")?;
        Some(Self {
            aead: Ccm::new(&key.into()),
            nonce: hkdf_sha256(shared_key, b"tp-kdf-salt-aes128-iv", b"tp-kdf-info-aes128-iv")?,
            next: first,
        })
    }

    /// The next request with its number before it. None for a text longer than CCM takes, which is 16 MB.
    pub(super) fn seal(&mut self, text: &[u8]) -> Option<(i32, Vec<u8>)> {
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        let sealed = self.aead.encrypt(&self.nonce_at(sequence).into(), text).ok()?;
        Some((sequence, [&sequence.to_be_bytes()[..], &sealed].concat()))
    }

    /// The text of the answer to the request with that number; none for anything else.
    pub(super) fn open(&self, sequence: i32, body: &[u8]) -> Option<Vec<u8>> {
        let (number, sealed) = body.split_first_chunk()?;
        if i32::from_be_bytes(*number) != sequence {
            return None;
        }
        self.aead.decrypt(&self.nonce_at(sequence).into(), sealed).ok()
    }

    fn nonce_at(&self, sequence: i32) -> [u8; 12] {
        let mut nonce = self.nonce;
        let (_, number) = nonce.split_at_mut(8);
        number.copy_from_slice(&sequence.to_be_bytes());
        nonce
    }
}

impl fmt::Debug for TpapCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpapCipher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::hex,
        testing::{counting, unhex},
    };

    const TEXT: &[u8] = br#"{"method":"get_device_info"}"#;

    /// The second is the vector of the `tapo` crate, `tpap_cipher.rs`.
    #[test]
    fn requests_are_those_of_other_clients() {
        let of_login = unhex("67f5a8c516705185d89fbb57c09baf0f7b4e4a70f7f5b38ba79047fba4c4b513");
        for (shared_key, sequence, expected) in [
            (
                of_login,
                -2,
                "fffffffe246f8d10fa5ca5ff361eda0fda0cc7723aa4c8529786ff5e51706698bf654beb2542b2add59d4238355654ed",
            ),
            (
                counting::<32>(0).to_vec(),
                0x0102_0304,
                "01020304c0331c1c36a5df4ce0c68e5a27b2667ebf842dc994a3fd24b9e860a60fab76d4b66b9b669d95cca10c012f13",
            ),
        ] {
            let mut cipher = TpapCipher::new(&shared_key, sequence).unwrap();
            let (number, body) = cipher.seal(TEXT).unwrap();
            assert_eq!((number, hex(&body)), (sequence, expected.to_owned()));
            assert_eq!(cipher.open(sequence, &body).unwrap(), TEXT);
            assert_eq!(cipher.open(sequence + 1, &body), None);
        }
    }

    #[test]
    fn the_number_after_the_largest_is_the_smallest() {
        let mut cipher = TpapCipher::new(&[7; 32], i32::MAX).unwrap();
        assert_eq!(cipher.seal(b"{}").unwrap().0, i32::MAX);
        assert_eq!(cipher.seal(b"{}").unwrap().0, i32::MIN);
    }
}
