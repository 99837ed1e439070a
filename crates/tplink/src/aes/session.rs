//! A session over `securePassthrough`.

use std::{fmt, time::UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::Instant};

use super::{PasswordForm, cipher::AesCipher, key_exchange::KeyExchange};
use crate::{
    Account, Credentials, Error, ErrorCode,
    http::{Cookie, HttpLink, HttpReply, token},
    lifetime::expiry,
};

/// What a login leaves. `Debug` shows no secret.
pub(crate) struct AesSession {
    cookie: Option<Cookie>,
    cipher: AesCipher,
    /// Before the login: `/app`.
    target: String,
    expires: Instant,
}

const REQUEST_BY_APP: &str = "Requestbyapp";
const JSON: &str = "application/json";

impl AesSession {
    /// Two requests.
    pub(crate) async fn login(
        http: &mut HttpLink,
        user: Option<&Credentials>,
        form: PasswordForm,
    ) -> Result<(Self, Account), Error> {
        let (account, credentials) = match user {
            Some(user) => (Account::User, user.clone()),
            None => (Account::TapoDefault, Account::tapo_default()),
        };
        let session = Self::login_as(http, &credentials, form).await;
        let session = session.map_err(|error| match error {
            Error::WrongCredentials if user.is_none() => Error::NoCredentials,
            error => error,
        })?;
        Ok((session, account))
    }

    async fn login_as(http: &mut HttpLink, account: &Credentials, form: PasswordForm) -> Result<Self, Error> {
        let mut session = Self::handshake(http).await?;
        let since_1970 = UNIX_EPOCH.elapsed().unwrap_or_default();
        let request = json!({
            "method": "login_device",
            "params": form.params(account),
            // Firmware expects the field; nothing here depends on it.
            "request_time_milis": u64::try_from(since_1970.as_millis()).unwrap_or_default(),
        });
        let answer = session.exchange(http, request.to_string().as_bytes()).await?;
        session.target = format!("/app?token={}", read_token(&answer)?);
        Ok(session)
    }

    async fn handshake(http: &mut HttpLink) -> Result<Self, Error> {
        // A search for primes would keep a thread of the runtime busy.
        let (exchange, request) = spawn_blocking(|| {
            let exchange = KeyExchange::new()?;
            let request = exchange.request()?;
            Some((exchange, request))
        })
        .await
        .ok()
        .flatten()
        .ok_or_else(|| Error::Unsupported("an RSA key on this machine".to_owned()))?;
        let headers = [("Content-Type", JSON), ("Accept", JSON), (REQUEST_BY_APP, "true")];
        let reply = http.post("/app", &headers, request.to_string().as_bytes()).await;
        let reply = reply.map_err(|error| match error {
            Error::Unreadable(_) => Error::OtherProtocol,
            error => error,
        })?;
        let chosen = read_handshake(&reply)?;
        Ok(Self {
            cipher: exchange
                .open(&chosen)
                .ok_or(Error::Unreadable("its session key does not decrypt"))?,
            expires: expiry(reply.cookie.as_ref().map(Cookie::lifetime)),
            cookie: reply.cookie,
            target: "/app".to_owned(),
        })
    }

    /// One request and its answer, as JSON.
    pub(crate) async fn exchange(&mut self, http: &mut HttpLink, request: &[u8]) -> Result<Value, Error> {
        if Instant::now() >= self.expires {
            return Err(Error::SessionLost);
        }
        let request = self.cipher.seal(request);
        let body = json!({ "method": "securePassthrough", "params": { "request": request } });
        let cookie = self.cookie.as_ref().map(Cookie::header);
        let cookie = cookie.as_deref().map(|cookie| ("Cookie", cookie));
        let headers = [("Content-Type", JSON), ("Accept", JSON), (REQUEST_BY_APP, "true")];
        let headers: Vec<_> = headers.into_iter().chain(cookie).collect();
        let reply = http
            .post(&self.target, &headers, body.to_string().as_bytes())
            .await?;
        self.read(&reply)
    }

    fn read(&self, reply: &HttpReply) -> Result<Value, Error> {
        reply.check_load()?;
        if reply.status != 200 {
            return Err(Error::SessionLost);
        }
        let outer = reply.json().ok_or(Error::Unreadable("it is not JSON"))?;
        check_outer(&outer)?;
        let sealed = outer.pointer("/result/response").and_then(Value::as_str);
        let sealed = sealed.ok_or(Error::Unreadable("it has no response"))?;
        // An answer for another session may have a padding that fits by chance, but is no text then.
        match self
            .cipher
            .open(sealed)
            .and_then(|text| String::from_utf8(text).ok())
        {
            Some(text) => serde_json::from_str(&text).map_err(|_| Error::Unreadable("it is not JSON")),
            // Some firmware does not encrypt (python-kasa).
            None => serde_json::from_str(sealed).map_err(|_| Error::SessionLost),
        }
    }
}

/// The session key, encrypted to ours. A device with another protocol answers 1003, an HTML page or a status.
fn read_handshake(reply: &HttpReply) -> Result<String, Error> {
    reply.check_load()?;
    if matches!(reply.status, 401 | 403) {
        return Err(Error::Forbidden);
    }
    let outer = reply
        .json()
        .filter(|_| reply.status == 200)
        .ok_or(Error::OtherProtocol)?;
    match ErrorCode::of(&outer).unwrap_or_default() {
        ErrorCode::SUCCESS => {}
        ErrorCode::OTHER_TRANSPORT => return Err(Error::OtherProtocol),
        code => return Err(Error::Device(code)),
    }
    let key = outer.pointer("/result/key").and_then(Value::as_str);
    key.map(str::to_owned).ok_or(Error::OtherProtocol)
}

fn read_token(answer: &Value) -> Result<&str, Error> {
    match ErrorCode::of(answer).unwrap_or_default() {
        ErrorCode::SUCCESS => {}
        ErrorCode::LOGIN | ErrorCode::LOGIN_FAILED => return Err(Error::WrongCredentials),
        code => return Err(Error::Device(code)),
    }
    token(answer.pointer("/result/token"))
}

/// The codes of the envelope are about the session, not about the request in it.
fn check_outer(outer: &Value) -> Result<(), Error> {
    match ErrorCode::of(outer).unwrap_or_default() {
        ErrorCode::OTHER_TRANSPORT | ErrorCode::HANDSHAKE | ErrorCode::AES_DECODE => Err(Error::SessionLost),
        ErrorCode::LOGIN | ErrorCode::LOGIN_FAILED => Err(Error::WrongCredentials),
        code => Error::check(code),
    }
}

impl fmt::Debug for AesSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesSession").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::testing::{counting, damage, fuzz_count, reply};

    fn session() -> AesSession {
        AesSession {
            cookie: None,
            cipher: AesCipher::new(&counting::<32>(0)).unwrap(),
            target: "/app".to_owned(),
            expires: expiry(None),
        }
    }

    fn sealed(text: &str) -> HttpReply {
        let response = session().cipher.seal(text.as_bytes());
        reply(
            200,
            json!({ "error_code": 0, "result": { "response": response } }).to_string(),
        )
    }

    #[test]
    fn an_answer_is_taken_out_of_its_envelope() {
        let answer = json!({ "error_code": -1002 });
        assert_eq!(session().read(&sealed(&answer.to_string())).unwrap(), answer);
        let plain = json!({ "error_code": 0, "result": { "response": answer.to_string() } });
        assert_eq!(session().read(&reply(200, plain.to_string())).unwrap(), answer);
        assert_eq!(
            session().read(&sealed("<html>")),
            Err(Error::Unreadable("it is not JSON"))
        );
    }

    #[test]
    fn the_codes_of_the_envelope_have_their_meanings() {
        let with = |code: i64| session().read(&reply(200, json!({ "error_code": code }).to_string()));
        assert_eq!(with(9999), Err(Error::SessionLost));
        assert_eq!(with(1003), Err(Error::SessionLost));
        assert_eq!(with(-1005), Err(Error::SessionLost));
        assert_eq!(with(-1501), Err(Error::WrongCredentials));
        assert_eq!(with(-1006), Err(Error::Device(ErrorCode(-1006))));
        assert_eq!(session().read(&reply(403, "")), Err(Error::SessionLost));
        assert_eq!(session().read(&reply(502, "")), Err(Error::Overloaded(502)));
        let start = |status, body: &str| read_handshake(&reply(status, body));
        assert_eq!(
            start(200, r#"{"error_code":0,"result":{"key":"AA"}}"#),
            Ok("AA".to_owned())
        );
        assert_eq!(start(200, r#"{"error_code":1003}"#), Err(Error::OtherProtocol));
        assert_eq!(start(200, "<html>"), Err(Error::OtherProtocol));
        assert_eq!(start(404, ""), Err(Error::OtherProtocol));
        assert_eq!(start(403, ""), Err(Error::Forbidden));
    }

    #[test]
    fn a_login_gives_a_token() {
        let answer = json!({ "error_code": 0, "result": { "token": "AB12" } });
        assert_eq!(read_token(&answer), Ok("AB12"));
        assert_eq!(
            read_token(&json!({ "error_code": -1501 })),
            Err(Error::WrongCredentials)
        );
        assert_eq!(
            read_token(&json!({ "error_code": -1 })),
            Err(Error::Device(ErrorCode(-1)))
        );
    }

    #[test]
    fn damaged_replies_are_no_harm() {
        let mut rng = StdRng::seed_from_u64(4);
        let (session, whole) = (session(), sealed(r#"{"error_code":0,"result":{"token":"AB12"}}"#));
        for _ in 0..fuzz_count() {
            let mut damaged = reply(200, whole.body.clone());
            damage(&mut damaged.body, &mut rng);
            if let Ok(answer) = session.read(&damaged) {
                let _ = read_token(&answer);
            }
            damaged.status = rng.random_range(100..600);
            let _ = session.read(&damaged);
            let _ = read_handshake(&damaged);
        }
    }
}
