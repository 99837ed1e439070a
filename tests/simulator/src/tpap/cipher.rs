//! AES-128-CCM under a nonce that ends in the request's sequence number, which the reply shares.

use aes::Aes128;
use ccm::{
    Ccm,
    aead::{Aead as _, KeyInit as _},
    consts::{U12, U16},
};

use crate::crypto::hkdf_sha256;

pub(crate) struct Cipher {
    aead: Ccm<Aes128, U16, U12>,
    nonce: [u8; 12],
}

impl Cipher {
    /// None only if the key derivation did not know its own key length.
    pub(super) fn new(shared_key: &[u8]) -> Option<Self> {
        let derive_key = |salt: &[u8], info: &[u8]| hkdf_sha256::<16>(shared_key, salt, info);
        let key = derive_key(b"tp-kdf-salt-aes128-key", b"tp-kdf-info-aes128-key")?;
        Some(Self {
            aead: Ccm::new(&key.into()),
            nonce: hkdf_sha256(shared_key, b"tp-kdf-salt-aes128-iv", b"tp-kdf-info-aes128-iv")?,
        })
    }

    /// The sequence number that a request names, and what is encrypted.
    pub(super) fn split(body: &[u8]) -> Option<(i32, &[u8])> {
        let (seq, ciphertext) = body.split_first_chunk()?;
        Some((i32::from_be_bytes(*seq), ciphertext))
    }

    pub(super) fn open(&self, seq: i32, ciphertext: &[u8]) -> Option<Vec<u8>> {
        self.aead.decrypt(&self.nonce_at(seq).into(), ciphertext).ok()
    }

    /// The reply to the request `seq`. Empty only for a text longer than CCM takes, which is 16 MB.
    pub(crate) fn seal(&self, seq: i32, plaintext: &[u8]) -> Vec<u8> {
        let sealed = self.aead.encrypt(&self.nonce_at(seq).into(), plaintext);
        [&seq.to_be_bytes()[..], &sealed.unwrap_or_default()].concat()
    }

    /// The last four bytes of the nonce are the sequence number.
    fn nonce_at(&self, seq: i32) -> [u8; 12] {
        let mut nonce = self.nonce;
        for (to, from) in nonce.iter_mut().skip(8).zip(seq.to_be_bytes()) {
            *to = from;
        }
        nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_own_number_only() {
        let cipher = Cipher::new(&[7; 32]).unwrap();
        let sealed = cipher.seal(-2, b"{}");
        let (seq, ciphertext) = Cipher::split(&sealed).unwrap();
        assert_eq!((seq, cipher.open(seq, ciphertext)), (-2, Some(b"{}".to_vec())));
        assert_eq!(cipher.open(-1, ciphertext), None);
        assert_eq!(Cipher::split(&[0; 3]), None);
        assert_eq!(cipher.open(0, &[]), None);
    }
}
