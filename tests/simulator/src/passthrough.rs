//! `securePassthrough`, the protocol before KLAP: the device encrypts a session key to the client's RSA key, then requests
//! under AES-128-CBC, the first of which logs in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aes::{
    Aes128,
    cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _, block_padding::Pkcs7},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::RngExt as _;
use rsa::{Pkcs1v15Encrypt, PublicKey, pkcs8::DecodePublicKey as _, traits::PublicKeyParts as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    crypto::sha1,
    reply::{Answer, Refusal},
    session::{Account, Limits},
};

/// The only length of RSA key that devices take, in bytes.
const KEY_LENGTH: usize = 128;
/// A device keeps few sessions; the oldest make room.
const MAX_SESSIONS: usize = 16;

/// The sessions of a device, by cookie.
#[derive(Default)]
pub(crate) struct Passthrough(Mutex<HashMap<String, Session>>);

struct Session {
    started: Instant,
    era: u64,
    envelope: Arc<Envelope>,
    /// Set by the login.
    token: Option<String>,
}

/// The keys of a session.
pub(crate) struct Envelope {
    key: [u8; 16],
    iv: [u8; 16],
}

/// A request that belongs to a session, decrypted.
pub(crate) struct Opened {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) plaintext: Vec<u8>,
    /// It carries the token that a login has given.
    pub(crate) logged_in: bool,
}

impl std::fmt::Debug for Passthrough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passthrough").finish_non_exhaustive()
    }
}

impl Passthrough {
    /// The first step: the cookie of a new session, and its keys for the client alone.
    pub(crate) fn handshake(&self, params: &Value) -> Result<(String, Value), Refusal> {
        let pem = params.get("key").and_then(Value::as_str).ok_or(Refusal::PARAMS)?;
        let public = public_key(pem).ok_or(Refusal::RSA_KEY)?;
        let envelope = Envelope {
            key: rand::rng().random(),
            iv: rand::rng().random(),
        };
        let keys = [envelope.key, envelope.iv].concat();
        let sealed = public
            .encrypt(&mut rand::rng(), Pkcs1v15Encrypt, &keys)
            .map_err(|_| Refusal::RSA_KEY)?;
        let cookie = base16ct::upper::encode_string(&rand::rng().random::<[u8; 16]>());
        let session = Session {
            started: Instant::now(),
            era: 0,
            envelope: Arc::new(envelope),
            token: None,
        };
        let mut sessions = self.sessions();
        while sessions.len() >= MAX_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.started);
            let Some(cookie) = oldest.map(|(cookie, _)| cookie.clone()) else {
                break;
            };
            sessions.remove(&cookie);
        }
        sessions.insert(cookie.clone(), session);
        Ok((cookie, json!({ "key": STANDARD.encode(sealed) })))
    }

    /// Opens the envelope of a request.
    pub(crate) fn open(
        &self,
        cookie: Option<&str>,
        token: Option<&str>,
        params: &Value,
        limits: Limits,
    ) -> Result<Opened, Refusal> {
        let cookie = cookie.ok_or(Refusal::SESSION_TIMEOUT)?;
        let mut sessions = self.sessions();
        let session = sessions.get(cookie).ok_or(Refusal::SESSION_TIMEOUT)?;
        let logged_in = match (&session.token, token) {
            (None, None) => false,
            (Some(given), Some(token)) if given == token => true,
            _ => return Err(Refusal::SESSION_TIMEOUT),
        };
        if logged_in && limits.ended(session.started, session.era) {
            sessions.remove(cookie);
            return Err(Refusal::SESSION_TIMEOUT);
        }
        let request = params
            .get("request")
            .and_then(Value::as_str)
            .ok_or(Refusal::PARAMS)?;
        Ok(Opened {
            plaintext: session.envelope.open(request).ok_or(Refusal::AES_DECODE)?,
            envelope: session.envelope.clone(),
            logged_in,
        })
    }

    /// The second step. A refusal ends the session.
    pub(crate) fn login(
        &self,
        cookie: &str,
        params: &Value,
        account: &Account,
        plain_password: bool,
        limits: Limits,
    ) -> Answer {
        let mut sessions = self.sessions();
        if !accepts(params, account, plain_password) {
            sessions.remove(cookie);
            return Err(Refusal::LOGIN);
        }
        let mut session = sessions.remove(cookie).ok_or(Refusal::SESSION_TIMEOUT)?;
        if limits.single_session {
            sessions.clear();
        }
        let token = base16ct::upper::encode_string(&rand::rng().random::<[u8; 16]>());
        session.token = Some(token.clone());
        (session.started, session.era) = (Instant::now(), limits.era);
        sessions.insert(cookie.to_owned(), session);
        Ok(Some(json!({ "token": token })))
    }

    /// Ends every session.
    pub(crate) fn forget(&self) {
        self.sessions().clear();
    }

    /// No panic is possible while the lock is held, so a poisoned table is still whole.
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Envelope {
    fn open(&self, request: &str) -> Option<Vec<u8>> {
        let ciphertext = STANDARD.decode(request).ok()?;
        let decryptor = cbc::Decryptor::<Aes128>::new(&self.key.into(), &self.iv.into());
        decryptor.decrypt_padded_vec::<Pkcs7>(&ciphertext).ok()
    }

    pub(crate) fn seal(&self, text: &str) -> Vec<u8> {
        let encryptor = cbc::Encryptor::<Aes128>::new(&self.key.into(), &self.iv.into());
        encryptor.encrypt_padded_vec::<Pkcs7>(text.as_bytes())
    }
}

/// Reads a key in PEM, whatever the length of its lines.
fn public_key(pem: &str) -> Option<PublicKey> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = PublicKey::from_public_key_der(&STANDARD.decode(base64).ok()?).ok()?;
    (key.size() == KEY_LENGTH).then_some(key)
}

/// Older firmware takes the password itself, newer one its hash under another name.
fn accepts(params: &Value, account: &Account, plain_password: bool) -> bool {
    let hashed = |text: &str| STANDARD.encode(base16ct::lower::encode_string(&sha1(text.as_bytes())));
    let (name, password) = if plain_password {
        ("password", STANDARD.encode(&account.password))
    } else {
        ("password2", hashed(&account.password))
    };
    let is = |name: &str, value: String| params.get(name).is_some_and(|given| *given == json!(value));
    is("username", hashed(&account.username)) && is(name, password)
}
