//! The first step of a login: which secrets the device wants.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::prover::{Proof, Secrets};
use crate::{
    Credentials, Error,
    hash::{hex, md5, sha1, sha256},
};

/// The answer to `pake_register`.
pub(super) struct Registration {
    device_random: Vec<u8>,
    salt: Vec<u8>,
    device_share: Vec<u8>,
    iterations: u32,
}

/// P-256, SHA-256 and HMAC. Others are in the protocol; no device was seen that wants them.
const CIPHER_SUITE: u64 = 1;
const ENCRYPTION: &str = "aes_128_ccm";
/// The SHA-1 of the password stands for it.
const HASHED_BY_SHA1: u64 = 2;
/// Devices ask for 3000. More than this would let one keep the processor busy.
const MOST_ITERATIONS: u64 = 100_000;
/// Real values have 16, 32 and 65 bytes.
const LONGEST_VALUE: usize = 256;

impl Registration {
    pub(super) fn request(user_random: &[u8]) -> Value {
        json!({
            "method": "login",
            "params": {
                "sub_method": "pake_register",
                // The user is always `admin`, whatever the account.
                "username": hex(&md5(b"admin")),
                "user_random": STANDARD.encode(user_random),
                "cipher_suites": [CIPHER_SUITE],
                "encryption": [ENCRYPTION],
                "passcode_type": "userpw",
            }
        })
    }

    /// Reads the result of the answer.
    pub(super) fn read(result: &Value) -> Result<Self, Error> {
        let number = |name: &str| result.get(name).and_then(Value::as_u64);
        let bytes = |name: &str| {
            let text = result
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| text.len() <= LONGEST_VALUE)?;
            STANDARD.decode(text).ok()
        };
        if number("cipher_suites") != Some(CIPHER_SUITE)
            || result.get("encryption") != Some(&json!(ENCRYPTION))
        {
            return Err(Error::Unsupported("the cipher suite of the device".to_owned()));
        }
        let extra = |pointer: &str| result.pointer(&format!("/extra_crypt/{pointer}"));
        let form = extra("params/passwd_id").and_then(Value::as_u64);
        if extra("type") != Some(&json!("password_shadow")) || form != Some(HASHED_BY_SHA1) {
            return Err(Error::Unsupported(format!(
                "the form in which the device keeps its password ({form:?})"
            )));
        }
        let iterations = number("iterations").filter(|iterations| (1..=MOST_ITERATIONS).contains(iterations));
        let read = || {
            Some(Self {
                device_random: bytes("dev_random")?,
                salt: bytes("dev_salt")?,
                device_share: bytes("dev_share")?,
                iterations: u32::try_from(iterations?).ok()?,
            })
        };
        read().ok_or(Error::Unreadable("its registration lacks a value"))
    }

    /// Proves the password. Takes milliseconds: keep it off the threads of the runtime. None if the share of the device
    /// is none.
    pub(super) fn prove(&self, user: &Credentials, user_random: &[u8]) -> Option<Proof> {
        let credential = hex(&sha1(user.password()));
        let secrets = Secrets::derive(credential.as_bytes(), &self.salt, self.iterations);
        let context = sha256(&[b"PAKE V1", user_random, &self.device_random]);
        secrets.prove(&context, &self.device_share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> Value {
        json!({
            "dev_random": STANDARD.encode([1; 32]), "dev_salt": STANDARD.encode([2; 16]),
            "dev_share": STANDARD.encode([4; 65]), "cipher_suites": 1, "iterations": 3000, "encryption": "aes_128_ccm",
            "extra_crypt": { "type": "password_shadow", "params": { "passwd_id": 2 } },
        })
    }

    fn with(pointer: &str, value: Value) -> Option<Error> {
        let mut result = result();
        *result.pointer_mut(pointer).unwrap() = value;
        Registration::read(&result).err()
    }

    #[test]
    fn a_registration_is_read_and_its_limits_hold() {
        let read = Registration::read(&result()).unwrap();
        assert_eq!(
            (read.iterations, read.salt, read.device_share.len()),
            (3000, vec![2; 16], 65)
        );
        for pointer in [
            "/cipher_suites",
            "/encryption",
            "/extra_crypt/params/passwd_id",
            "/extra_crypt/type",
        ] {
            assert!(
                matches!(with(pointer, json!(5)), Some(Error::Unsupported(_))),
                "{pointer}"
            );
        }
        for (pointer, value) in [
            ("/iterations", json!(0)),
            ("/iterations", json!(100_001)),
            ("/iterations", json!(-1)),
            ("/dev_salt", json!("?")),
            ("/dev_random", json!("A".repeat(260))),
            ("/dev_share", Value::Null),
        ] {
            assert_eq!(
                with(pointer, value),
                Some(Error::Unreadable("its registration lacks a value")),
                "{pointer}"
            );
        }
    }

    #[test]
    fn the_user_is_admin() {
        let request = Registration::request(&[0; 32]);
        assert_eq!(request["params"]["username"], "21232f297a57a5a743894a0e4a801fc3");
    }
}
