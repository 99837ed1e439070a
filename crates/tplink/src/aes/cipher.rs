//! AES-128-CBC under one key and one initialization vector for the whole session.

use std::fmt;

use aes::{
    Aes128,
    cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _, block_padding::Pkcs7},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The keys of a session. `Debug` shows none of them.
pub(super) struct AesCipher {
    key: [u8; 16],
    iv: [u8; 16],
}

impl AesCipher {
    /// Takes the 32 bytes that the device has chosen.
    pub(super) fn new(chosen: &[u8]) -> Option<Self> {
        let (key, iv) = chosen.split_first_chunk()?;
        Some(Self {
            key: *key,
            iv: iv.try_into().ok()?,
        })
    }

    /// The ciphertext in base64.
    pub(super) fn seal(&self, text: &[u8]) -> String {
        let encryptor = cbc::Encryptor::<Aes128>::new(&self.key.into(), &self.iv.into());
        STANDARD.encode(encryptor.encrypt_padded_vec::<Pkcs7>(text))
    }

    /// The text; none for what was not made with these keys. Old firmware breaks the base64 into lines.
    pub(super) fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let sealed: String = sealed.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let ciphertext = STANDARD.decode(sealed).ok()?;
        let decryptor = cbc::Decryptor::<Aes128>::new(&self.key.into(), &self.iv.into());
        decryptor.decrypt_padded_vec::<Pkcs7>(&ciphertext).ok()
    }
}

impl fmt::Debug for AesCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesCipher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::counting;

    /// Made with python-kasa 0.12.
    #[test]
    fn a_request_is_that_of_python_kasa() {
        let cipher = AesCipher::new(&counting::<32>(0)).unwrap();
        let (text, sealed) = (
            r#"{"method":"get_device_info"}"#,
            "AoTU/alSJog6QIUAiFg+poqOeIoym5tr6MEsEcHy66o=",
        );
        assert_eq!(cipher.seal(text.as_bytes()), sealed);
        assert_eq!(cipher.open(sealed).unwrap(), text.as_bytes());
        assert_eq!(
            cipher.open(&sealed.replace("QIUA", "QI\r\nUA")).unwrap(),
            text.as_bytes()
        );
        for damaged in ["", "AoTU", "====", "{}", &sealed[4..]] {
            assert_eq!(cipher.open(damaged), None, "{damaged}");
        }
        assert!(AesCipher::new(&[0; 31]).is_none() && AesCipher::new(&[0; 33]).is_none());
    }
}
