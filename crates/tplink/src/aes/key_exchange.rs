//! The RSA key to which the device encrypts the session key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rsa::{Pkcs1v15Encrypt, PrivateKey, pkcs8::EncodePublicKey as _};
use serde_json::{Value, json};

use super::cipher::AesCipher;

/// A key pair for one handshake. It decrypts one answer, so how long that takes tells an attacker nothing about the
/// next: RUSTSEC-2023-0071 needs thousands of decryptions with the same key.
pub(super) struct KeyExchange(PrivateKey);

/// Devices answer -1010 to other lengths.
const KEY_BITS: usize = 1024;

impl KeyExchange {
    /// Searches two primes: tens of milliseconds, and more on a slow machine. Keep it off the threads of the runtime.
    /// None only if the arithmetic of the `rsa` crate fails.
    pub(super) fn new() -> Option<Self> {
        PrivateKey::new(&mut rand::rng(), KEY_BITS).ok().map(Self)
    }

    /// The public key as devices want it: SPKI in PEM, its base64 on one line.
    pub(super) fn request(&self) -> Option<Value> {
        let der = self.0.to_public_key().to_public_key_der().ok()?;
        let base64 = STANDARD.encode(der.as_bytes());
        let key = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
        Some(json!({ "method": "handshake", "params": { "key": key } }))
    }

    /// Reads the key that the device has chosen, in base64. The key pair is spent.
    ///
    /// A ciphertext of the right size that was not made for this key decrypts to bytes made up by the `rsa` crate, so that
    /// the padding gives nothing away. Now and then they have the length of a key; then no answer can be read with it.
    pub(super) fn open(self, chosen: &str) -> Option<AesCipher> {
        let ciphertext = STANDARD.decode(chosen).ok()?;
        let chosen = self
            .0
            .decrypt_blinded(&mut rand::rng(), Pkcs1v15Encrypt, &ciphertext)
            .ok()?;
        AesCipher::new(&chosen)
    }
}

#[cfg(test)]
mod tests {
    use rsa::{PublicKey, pkcs8::DecodePublicKey as _};

    use super::*;

    #[test]
    fn a_key_comes_back_from_the_public_half() {
        let exchange = KeyExchange::new().unwrap();
        let request = exchange.request().unwrap();
        // The length that python-kasa announces as fixed.
        assert_eq!(request.to_string().len(), 314);
        let pem = request["params"]["key"].as_str().unwrap();
        let [begin, base64, end] = pem.lines().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(
            (begin, end),
            ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")
        );
        let public = PublicKey::from_public_key_der(&STANDARD.decode(base64).unwrap()).unwrap();
        let chosen: [u8; 32] = crate::testing::counting(0);
        let sealed = public
            .encrypt(&mut rand::rng(), Pkcs1v15Encrypt, &chosen)
            .unwrap();
        let cipher = exchange.open(&STANDARD.encode(sealed)).unwrap();
        assert_eq!(cipher.seal(b"{}"), AesCipher::new(&chosen).unwrap().seal(b"{}"));
    }

    #[test]
    fn what_was_not_encrypted_for_it_is_refused() {
        for chosen in ["", "AAAA", "?", &STANDARD.encode([255; 128])] {
            assert!(KeyExchange::new().unwrap().open(chosen).is_none());
        }
    }
}
