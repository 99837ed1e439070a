//! TPAP: a log-in by SPAKE2+ that never shows the password, then requests under AES-128-CCM with a
//! running sequence number.

mod cipher;
mod spake;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::RngExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) use self::cipher::Cipher;
use self::spake::{Registration, Verifier};
use crate::{
    crypto::{md5_hex, sha1, sha256},
    reply::{Answer, Refusal},
    session::{Account, Limits, Rejection},
};

/// P-256, SHA-256 and HMAC: the only suite there is.
const CIPHER_SUITE: u64 = 1;
const ENCRYPTION: &str = "aes_128_ccm";
/// The account password, as `passcode_type` names it.
const PASSCODE_TYPE: &str = "userpw";
/// What a P110 asks for.
const ITERATIONS: u32 = 3000;
/// Seconds that a P110 grants a session.
const SESSION_LIFETIME: u32 = 604_800;
/// A device keeps few sessions; the oldest make room.
const MAX_SESSIONS: usize = 16;

/// The log-ins and sessions of a device that speaks TPAP. `Debug` shows no secret.
#[derive(Default)]
pub(crate) struct Tpap(Mutex<State>);

#[derive(Default)]
struct State {
    /// What is kept of the password, and what it was made of.
    registered: Option<Registered>,
    /// The log-in that has registered and not yet shared; the next one replaces it.
    pending: Option<Verifier>,
    failures: u32,
    sessions: HashMap<String, Session>,
}

#[derive(Clone)]
struct Registered {
    credential: String,
    salt: [u8; 16],
    registration: Registration,
}

struct Session {
    started: Instant,
    era: u64,
    cipher: Arc<Cipher>,
    next_seq: i32,
}

/// A request that belongs to a session, decrypted.
pub(crate) struct Opened {
    pub(crate) cipher: Arc<Cipher>,
    pub(crate) seq: i32,
    pub(crate) plaintext: Vec<u8>,
}

#[derive(Deserialize)]
struct RegisterParams {
    username: String,
    user_random: String,
    cipher_suites: Vec<u64>,
    encryption: Vec<String>,
    passcode_type: String,
}

#[derive(Deserialize)]
struct ShareParams {
    user_share: String,
    user_confirm: String,
}

impl fmt::Debug for Tpap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tpap")
            .field("sessions", &self.state().sessions.len())
            .finish_non_exhaustive()
    }
}

/// How the device wants to be logged in to, as it announces it.
pub(crate) fn announcement(port: u16) -> Value {
    json!({ "dac": 0, "noc": 0, "pake": [2], "port": port, "tls": 0 })
}

impl Tpap {
    /// Whether the device has locked itself. Without a limit failed log-ins are forgotten.
    pub(crate) fn is_locked(&self, limit: Option<u32>) -> bool {
        let mut state = self.state();
        let Some(limit) = limit else {
            state.failures = 0;
            return false;
        };
        state.failures >= limit
    }

    /// The first step of a log-in. Takes long enough to keep it off the runtime's own threads.
    pub(crate) fn register(&self, account: &Account, params: &Value) -> Answer {
        let params = RegisterParams::deserialize(params).map_err(|_| Refusal::PARAMS)?;
        if !params.cipher_suites.contains(&CIPHER_SUITE) || !params.encryption.iter().any(|e| e == ENCRYPTION)
        {
            return Err(Refusal::TPAP_CIPHER_SUITE);
        }
        if params.passcode_type != PASSCODE_TYPE {
            return Err(Refusal::TPAP_PASSCODE_TYPE);
        }
        // Always this user, never the account's e-mail.
        if params.username != md5_hex(b"admin") {
            return Err(Refusal::TPAP_CREDENTIALS);
        }
        let user_random = STANDARD
            .decode(&params.user_random)
            .map_err(|_| Refusal::PARAMS)?;
        let device_random: [u8; 32] = rand::rng().random();
        let registered = self.registered(account);
        let context = sha256(&[b"PAKE V1", &user_random, &device_random]);
        let verifier = Verifier::new(registered.registration, context).ok_or(Refusal::TPAP_CREDENTIALS)?;
        let result = json!({
            "sub_method": "pake_register",
            "cipher_suites": CIPHER_SUITE,
            "encryption": ENCRYPTION,
            "extra_crypt": { "type": "password_shadow", "params": { "passwd_id": 2 } },
            "iterations": ITERATIONS,
            "dev_random": STANDARD.encode(device_random),
            "dev_salt": STANDARD.encode(registered.salt),
            "dev_share": STANDARD.encode(verifier.share()),
        });
        self.state().pending = Some(verifier);
        Ok(Some(result))
    }

    /// The second step, which uses up the first. Takes long enough to keep it off the runtime's own
    /// threads.
    pub(crate) fn share(&self, params: &Value, limits: Limits) -> Answer {
        let params = ShareParams::deserialize(params).map_err(|_| Refusal::PARAMS)?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| Refusal::PARAMS);
        let (share, confirmation) = (decode(&params.user_share)?, decode(&params.user_confirm)?);
        let verifier = self.state().pending.take().ok_or(Refusal::PARAMS)?;
        let Some(agreement) = verifier.agree(&share, &confirmation) else {
            self.state().failures += 1;
            return Err(Refusal::TPAP_CREDENTIALS);
        };
        let cipher = Cipher::new(&agreement.shared_key).ok_or(Refusal::TPAP_CREDENTIALS)?;
        let token = base16ct::lower::encode_string(&rand::rng().random::<[u8; 16]>());
        let next_seq = rand::rng().random();
        let mut state = self.state();
        state.failures = 0;
        state.make_room(limits);
        let session = Session {
            started: Instant::now(),
            era: limits.era,
            cipher: Arc::new(cipher),
            next_seq,
        };
        state.sessions.insert(token.clone(), session);
        Ok(Some(json!({
            "sub_method": "pake_share",
            "dev_confirm": STANDARD.encode(agreement.confirmation),
            "stok": token,
            "start_seq": next_seq,
            "expired": SESSION_LIFETIME,
        })))
    }

    /// Opens a request: its session must live and its sequence number be the next.
    pub(crate) fn open(&self, token: &str, body: &[u8], limits: Limits) -> Result<Opened, Rejection> {
        let mut state = self.state();
        let session = state.sessions.get_mut(token).ok_or(Rejection::NoSession)?;
        if limits.ended(session.started, session.era) {
            state.sessions.remove(token);
            return Err(Rejection::NoSession);
        }
        let (seq, ciphertext) = Cipher::split(body).ok_or(Rejection::Signature)?;
        if seq != session.next_seq {
            return Err(Rejection::Sequence);
        }
        let plaintext = session.cipher.open(seq, ciphertext).ok_or(Rejection::Signature)?;
        session.next_seq = seq.wrapping_add(1);
        let cipher = session.cipher.clone();
        Ok(Opened {
            cipher,
            seq,
            plaintext,
        })
    }

    /// Ends every session and log-in.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.sessions.clear();
        state.pending = None;
    }

    /// What the device keeps of the account's password, made when it is first needed.
    fn registered(&self, account: &Account) -> Registered {
        let credential = base16ct::lower::encode_string(&sha1(account.password.as_bytes()));
        let known = self.state().registered.clone();
        if let Some(known) = known.filter(|known| known.credential == credential) {
            return known;
        }
        let salt: [u8; 16] = rand::rng().random();
        let registered = Registered {
            registration: Registration::new(&credential, &salt, ITERATIONS),
            credential,
            salt,
        };
        self.state().registered = Some(registered.clone());
        registered
    }

    /// No panic is possible while the lock is held, so a poisoned state is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn make_room(&mut self, limits: Limits) {
        if limits.single_session {
            self.sessions.clear();
        }
        while self.sessions.len() >= MAX_SESSIONS {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.started);
            let Some(token) = oldest.map(|(token, _)| token.clone()) else {
                return;
            };
            self.sessions.remove(&token);
        }
    }
}
