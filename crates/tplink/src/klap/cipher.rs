//! AES-128-CBC under an initialization vector that ends in the number of the request, which its answer shares.

use std::fmt;

use aes::{
    Aes128,
    cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _, block_padding::Pkcs7},
};

use super::scheme::SEED;
use crate::hash::{first, sha256};

/// The keys of a session and its last number. `Debug` shows none of them.
pub(super) struct KlapCipher {
    key: [u8; 16],
    iv: [u8; 12],
    signature_key: [u8; 28],
    sequence: i32,
}

/// A decrypted answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OpenedReply {
    pub(super) text: Vec<u8>,
    /// The signature is the one that python-kasa puts before requests. No public client requires it of answers, so a
    /// device with another is not shut out.
    pub(super) is_signed: bool,
}

const SIGNATURE: usize = 32;

impl KlapCipher {
    pub(super) fn new(local: &[u8; SEED], remote: &[u8; SEED], account_hash: &[u8]) -> Self {
        let derive = |label: &[u8]| sha256(&[label, local, remote, account_hash]);
        let iv = derive(b"iv");
        let [.., a, b, c, d] = iv;
        Self {
            key: first(&derive(b"lsk")),
            iv: first(&iv),
            signature_key: first(&derive(b"ldk")),
            sequence: i32::from_be_bytes([a, b, c, d]),
        }
    }

    /// Signature and ciphertext of the next request, with its number.
    pub(super) fn seal(&mut self, text: &[u8]) -> (i32, Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let encryptor = cbc::Encryptor::<Aes128>::new(&self.key.into(), &self.iv_at(sequence).into());
        let ciphertext = encryptor.encrypt_padded_vec::<Pkcs7>(text);
        let signature = self.signature(sequence, &ciphertext);
        (sequence, [&signature[..], &ciphertext].concat())
    }

    /// The text of the answer to the request with that number; none for one that was not made with these keys.
    pub(super) fn open(&self, sequence: i32, body: &[u8]) -> Option<OpenedReply> {
        let (signature, ciphertext) = body.split_at_checked(SIGNATURE)?;
        let decryptor = cbc::Decryptor::<Aes128>::new(&self.key.into(), &self.iv_at(sequence).into());
        let text = decryptor.decrypt_padded_vec::<Pkcs7>(ciphertext).ok()?;
        Some(OpenedReply {
            text,
            is_signed: signature == self.signature(sequence, ciphertext),
        })
    }

    fn signature(&self, sequence: i32, ciphertext: &[u8]) -> [u8; SIGNATURE] {
        sha256(&[&self.signature_key, &sequence.to_be_bytes(), ciphertext])
    }

    fn iv_at(&self, sequence: i32) -> [u8; 16] {
        let mut iv = [0; 16];
        let (base, number) = iv.split_at_mut(self.iv.len());
        base.copy_from_slice(&self.iv);
        number.copy_from_slice(&sequence.to_be_bytes());
        iv
    }
}

impl fmt::Debug for KlapCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlapCipher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{
        Credentials, Scheme,
        hash::hex,
        testing::{counting, damage, fuzz_count, unhex},
    };

    fn cipher(scheme: Scheme) -> KlapCipher {
        let account = scheme.account_hash(&Credentials::new("user@example.com", "hunter2"));
        KlapCipher::new(&counting(0), &counting(16), &account)
    }

    /// Made with python-kasa 0.12.
    #[test]
    fn keys_requests_and_answers_are_those_of_python_kasa() {
        let info = r#"{"method":"get_device_info"}"#;
        let sysinfo = r#"{"system":{"get_sysinfo":{}}}"#;
        let v2_request = "4a9557ab0c4032934d2492030180a48b954b109b6c3b06921cc71ad321c2cd9d\
                          1b303cb7964666646cc7b197a94ec8b5022041706736544b70a31400646797cb";
        let v2_answer = "77cb77455da029113b0c606d39c98bad635b2a0c03a89b58a69b2cd4459e6eac\
                         bd91f728cb6429363e00028487860a30851bc1965234198007619dde0d21215f";
        let v1_request = "782e8fad71a685e21d018ce73b6224b6636af9f166437662982a71246ed97543\
                          209bd9cd367d42a0593c3310b242cacfdfc802ea610a72ac65607d8d9258b7d5";
        let v1_answer = "6013c1a2145be749123f80fce54df56ecfca989b7e6d2a54f63358ce98e3ccb1\
                         8db226bf0b4b25aa56e4f9c92a467b0a48f5c1242705f9d6bc6b773bb520b5f2";
        for (scheme, key, iv, signature_key, first, text, request, answer) in [
            (
                Scheme::V2,
                "bdaeeb0da10915fe4267dfdaa22a3586",
                "1cc7a7e88ef0916075821790",
                "419634a6c004241f729c2344210d6dab5557bbff9de2d4fb41bbb189",
                -1_214_602_356,
                info,
                v2_request,
                v2_answer,
            ),
            (
                Scheme::V1,
                "6701d755c8f155a8ac4696adc2a68efa",
                "0213b513e8fb33407931c7e5",
                "9d9a57733176fe1342d049337a18e82d58597896abdffc0072486c1f",
                -1_533_429_904,
                sysinfo,
                v1_request,
                v1_answer,
            ),
        ] {
            let mut cipher = cipher(scheme);
            assert_eq!(
                (hex(&cipher.key), hex(&cipher.iv)),
                (key.to_owned(), iv.to_owned()),
                "{scheme:?}"
            );
            assert_eq!(hex(&cipher.signature_key), signature_key, "{scheme:?}");
            assert_eq!(
                cipher.seal(text.as_bytes()),
                (first, unhex(request)),
                "{scheme:?}"
            );
            let opened = cipher.open(first, &unhex(answer)).unwrap();
            assert_eq!(
                (&opened.text[..], opened.is_signed),
                (&br#"{"error_code":0}"#[..], true),
                "{scheme:?}"
            );
            assert!(
                cipher
                    .open(first + 1, &unhex(answer))
                    .is_none_or(|opened| !opened.is_signed)
            );
        }
    }

    /// Made with python-kasa 0.12.
    #[test]
    fn the_number_after_the_largest_is_the_smallest() {
        let mut cipher = cipher(Scheme::V2);
        cipher.sequence = i32::MAX;
        let (sequence, body) = cipher.seal(b"{}");
        let expected = "539e7e1d766b055e64b1461aefc1ae5682fce4ed7108e987af2a311be0341939\
                        df076ab3757817d3ea6f91df980b85b3";
        assert_eq!((sequence, hex(&body)), (i32::MIN, expected.to_owned()));
    }

    #[test]
    fn damaged_answers_are_no_harm() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut cipher = cipher(Scheme::V2);
        let (sequence, body) = cipher.seal(&[b' '; 100]);
        for _ in 0..fuzz_count() {
            let mut damaged = body.clone();
            damage(&mut damaged, &mut rng);
            let opened = cipher.open(sequence, &damaged);
            let is_harmless = |opened: OpenedReply| !opened.is_signed && opened.text.len() < damaged.len();
            assert!(damaged == body || opened.is_none_or(is_harmless));
        }
        for length in [0, 31, 32, 33, 47] {
            assert_eq!(cipher.open(sequence, &vec![0; length]), None, "{length}");
        }
    }
}
