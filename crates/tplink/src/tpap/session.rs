//! A session over TPAP.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::Instant};

use super::{cipher::TpapCipher, prover::Proof, registration::Registration};
use crate::{
    Credentials, Error, ErrorCode,
    http::{HttpLink, HttpReply, token},
    lifetime::expiry,
};

/// What a login leaves. `Debug` shows no secret.
pub(crate) struct TpapSession {
    /// `/stok=<token>/ds`.
    target: String,
    cipher: TpapCipher,
    expires: Instant,
}

/// How long a locked device is not contacted. How long it stays locked is not known; each attempt may keep it so.
const LOCKED_FOR: Duration = Duration::from_hours(1);

/// The error of a device that has locked itself.
pub(super) fn locked() -> Error {
    Error::Locked { left: LOCKED_FOR }
}

impl TpapSession {
    /// Two requests. A wrong password is counted by the device, so nothing here is tried twice.
    pub(crate) async fn login(http: &mut HttpLink, user: Option<&Credentials>) -> Result<Self, Error> {
        let user = user.ok_or(Error::NoCredentials)?.clone();
        let user_random: [u8; 32] = rand::rng().random();
        let result = step(http, &Registration::request(&user_random)).await?;
        let registration = Registration::read(&result)?;
        let proof = spawn_blocking(move || registration.prove(&user, &user_random)).await;
        let proof = proof
            .ok()
            .flatten()
            .ok_or(Error::Unreadable("its share is no point"))?;
        let share = json!({
            "method": "login",
            "params": {
                "sub_method": "pake_share",
                "user_share": STANDARD.encode(&proof.share),
                "user_confirm": STANDARD.encode(proof.confirmation),
            }
        });
        let result = step(http, &share).await?;
        Self::start(&proof, &result)
    }

    /// Reads the result of `pake_share`.
    fn start(proof: &Proof, result: &Value) -> Result<Self, Error> {
        let text = |name: &str| result.get(name).and_then(Value::as_str);
        let confirmation = text("dev_confirm").and_then(|text| STANDARD.decode(text).ok());
        // The device took the proof and does not know the password: it is not ours.
        if !proof.verify(&confirmation.unwrap_or_default()) {
            return Err(Error::WrongCredentials);
        }
        let token = token(result.get("stok"))?;
        let first = result
            .get("start_seq")
            .and_then(Value::as_i64)
            .and_then(|first| i32::try_from(first).ok());
        let first = first.ok_or(Error::Unreadable("it has no first number"))?;
        let lifetime = result
            .get("expired")
            .and_then(Value::as_u64)
            .filter(|seconds| *seconds > 0);
        let cipher = TpapCipher::new(&proof.shared_key, first);
        Ok(Self {
            target: format!("/stok={token}/ds"),
            cipher: cipher.ok_or(Error::Unreadable("its key has no length"))?,
            expires: expiry(lifetime.map(Duration::from_secs)),
        })
    }

    /// One request and its answer, as JSON.
    pub(crate) async fn exchange(&mut self, http: &mut HttpLink, request: &[u8]) -> Result<Value, Error> {
        if Instant::now() >= self.expires {
            return Err(Error::SessionLost);
        }
        let sealed = self.cipher.seal(request);
        let (sequence, body) = sealed.ok_or_else(|| Error::Unsupported("a request of 16 MB".to_owned()))?;
        let reply = http
            .post(
                &self.target,
                &[("Content-Type", "application/octet-stream")],
                &body,
            )
            .await?;
        self.read(sequence, &reply)
    }

    fn read(&self, sequence: i32, reply: &HttpReply) -> Result<Value, Error> {
        reply.check_load()?;
        if reply.status != 200 {
            return Err(Error::SessionLost);
        }
        // A ciphertext can begin like JSON, so it is decrypted first. Plain JSON is the answer to an unknown session,
        // and anything else one for another session.
        let text = self
            .cipher
            .open(sequence, &reply.body)
            .ok_or_else(|| match reply.error_code() {
                Some(ErrorCode::LOCKED) => locked(),
                _ => Error::SessionLost,
            })?;
        serde_json::from_slice(&text).map_err(|_| Error::Unreadable("it is not JSON"))
    }
}

/// One step of the login: its result.
async fn step(http: &mut HttpLink, request: &Value) -> Result<Value, Error> {
    let body = request.to_string().into_bytes();
    let reply = http
        .post("/", &[("Content-Type", "application/json")], &body)
        .await?;
    read_step(&reply)
}

fn read_step(reply: &HttpReply) -> Result<Value, Error> {
    reply.check_load()?;
    let mut answer = reply
        .json()
        .filter(|_| reply.status == 200)
        .ok_or(Error::OtherProtocol)?;
    match ErrorCode::of(&answer).unwrap_or_default() {
        ErrorCode::SUCCESS => {}
        ErrorCode::LOCKED => return Err(locked()),
        ErrorCode::TPAP_CREDENTIALS => return Err(Error::CountedCredentials),
        code @ (ErrorCode::TPAP_SUITE | ErrorCode::TPAP_PASSCODE) => {
            return Err(Error::Unsupported(format!(
                "the TPAP login of the device (error {code})"
            )));
        }
        ErrorCode::OTHER_TRANSPORT => return Err(Error::OtherProtocol),
        code => return Err(Error::Device(code)),
    }
    Ok(answer.get_mut("result").map(Value::take).unwrap_or_default())
}

impl fmt::Debug for TpapSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpapSession").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{
        testing::{damage, fuzz_count, reply},
        tpap::Announcement,
    };

    fn new_session() -> TpapSession {
        TpapSession {
            target: "/stok=AB/ds".to_owned(),
            cipher: TpapCipher::new(&[7; 32], 1).unwrap(),
            expires: expiry(None),
        }
    }

    #[test]
    fn the_codes_of_a_step_have_their_meanings() {
        let with = |code: i64| read_step(&reply(200, json!({ "error_code": code }).to_string()));
        assert_eq!(with(0), Ok(Value::Null));
        assert_eq!(with(-2203), Err(Error::CountedCredentials));
        assert_eq!(with(-2101), Err(Error::Locked { left: LOCKED_FOR }));
        assert!(matches!(with(-2201), Err(Error::Unsupported(_))));
        assert_eq!(with(1003), Err(Error::OtherProtocol));
        assert_eq!(with(-1), Err(Error::Device(ErrorCode(-1))));
        assert_eq!(read_step(&reply(404, "")), Err(Error::OtherProtocol));
        assert_eq!(read_step(&reply(500, "")), Err(Error::Overloaded(500)));
    }

    #[test]
    fn an_answer_that_does_not_decrypt_is_a_lost_session() {
        let session = new_session();
        for body in [
            &b"{\"error_code\":-2402}"[..],
            b"{\"error_code\":-40401}",
            b"",
            b"{",
            &[0; 40],
        ] {
            assert_eq!(session.read(1, &reply(200, body)), Err(Error::SessionLost));
        }
        assert_eq!(
            session.read(1, &reply(200, r#"{"error_code":-2101}"#)),
            Err(locked())
        );
        assert_eq!(session.read(1, &reply(403, "")), Err(Error::SessionLost));
        // A request under the same keys stands for an answer of the device.
        let (sequence, body) = new_session().cipher.seal(b"{}").unwrap();
        assert_eq!(session.read(sequence, &reply(200, body)), Ok(json!({})));
    }

    #[test]
    fn damaged_replies_are_no_harm() {
        let mut rng = StdRng::seed_from_u64(5);
        let session = new_session();
        let (sequence, sealed) = new_session().cipher.seal(&[b' '; 60]).unwrap();
        let plain = json!({ "error_code": 0, "result": {
            "tpap": { "tls": 0, "pake": [2], "port": 80 },
            "dev_random": "AAAA", "dev_salt": "AAAA", "dev_share": "AAAA", "cipher_suites": 1, "iterations": 3000,
            "encryption": "aes_128_ccm", "extra_crypt": { "type": "password_shadow", "params": { "passwd_id": 2 } },
            "stok": "AB", "start_seq": -1, "expired": 604_800, "dev_confirm": "AAAA",
        } });
        let plain = plain.to_string();
        for _ in 0..fuzz_count() {
            let mut body = sealed.clone();
            damage(&mut body, &mut rng);
            let changed = body != sealed;
            assert!(session.read(sequence, &reply(200, body)).is_err() || !changed);
            let mut body = plain.clone().into_bytes();
            damage(&mut body, &mut rng);
            let damaged = reply(200, body);
            let _ = Announcement::read(&damaged);
            let _ = session.read(sequence, &damaged);
            if let Ok(result) = read_step(&damaged) {
                let _ = Registration::read(&result);
            }
        }
    }
}
