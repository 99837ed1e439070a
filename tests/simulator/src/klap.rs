//! KLAP, versions 1 and 2: a handshake that proves the account to both sides, then requests under AES-128-CBC
//! with a running sequence number.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aes::{
    Aes128,
    cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _, block_padding::Pkcs7},
};
use tokio::time::Instant;

use crate::{
    crypto::{md5, sha1, sha256},
    session::{Account, Limits, Rejection},
};

const SEED: usize = 16;
const SIGNATURE: usize = 32;
/// A device keeps few sessions; the oldest make room.
const MAX_SESSIONS: usize = 16;

/// Which hashes stand for the account, and what is in the proofs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// The sessions of a device that speaks KLAP, by cookie.
#[derive(Debug, Default)]
pub(crate) struct Klap {
    sessions: Mutex<HashMap<String, Session>>,
}

#[derive(Debug)]
struct Session {
    started: Instant,
    era: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// After `handshake1`.
    Offered { proof: [u8; 32], cipher: Arc<Cipher> },
    /// After `handshake2`.
    Confirmed { cipher: Arc<Cipher>, next_seq: i32 },
}

/// A request that belongs to a session, decrypted.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) cipher: Arc<Cipher>,
    pub(crate) seq: i32,
    pub(crate) plaintext: Vec<u8>,
}

impl Klap {
    /// The first step: the cookie of a new session, and what proves that the device knows the account.
    /// None if the client's seed is not 16 bytes.
    pub(crate) fn offer(
        &self,
        local_seed: &[u8],
        (account, version): (&Account, Version),
        random: impl Fn() -> [u8; SEED],
    ) -> Option<(String, Vec<u8>)> {
        let local_seed: [u8; SEED] = local_seed.try_into().ok()?;
        let remote_seed = random();
        let auth = version.auth_hash(account);
        let proof = version.proof(&remote_seed, &local_seed, &auth);
        let session = Session {
            started: Instant::now(),
            era: 0,
            stage: Stage::Offered {
                proof,
                cipher: Arc::new(Cipher::new(&local_seed, &remote_seed, &auth)),
            },
        };
        let cookie = base16ct::upper::encode_string(&random());
        let mut sessions = self.sessions();
        while sessions.len() >= MAX_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.started);
            let Some(cookie) = oldest.map(|(cookie, _)| cookie.clone()) else {
                break;
            };
            sessions.remove(&cookie);
        }
        sessions.insert(cookie.clone(), session);
        let hash = version.proof(&local_seed, &remote_seed, &auth);
        Some((cookie, [&remote_seed[..], &hash].concat()))
    }

    /// The second step: whether the client proved that it knows the account.
    pub(crate) fn confirm(&self, cookie: &str, proof: &[u8], limits: Limits) -> bool {
        let mut sessions = self.sessions();
        let Some(Session {
            stage: Stage::Offered {
                proof: expected,
                cipher,
            },
            ..
        }) = sessions.get(cookie)
        else {
            return false;
        };
        if proof != expected {
            sessions.remove(cookie);
            return false;
        }
        let confirmed = Stage::Confirmed {
            next_seq: cipher.first_seq(),
            cipher: cipher.clone(),
        };
        if limits.single_session {
            sessions.clear();
        }
        let session = Session {
            started: Instant::now(),
            era: limits.era,
            stage: confirmed,
        };
        sessions.insert(cookie.to_owned(), session);
        true
    }

    /// Opens a request: its session must live, its signature hold, and its sequence number be the next.
    pub(crate) fn open(
        &self,
        cookie: &str,
        seq: i32,
        body: &[u8],
        limits: Limits,
    ) -> Result<Opened, Rejection> {
        let mut sessions = self.sessions();
        let session = sessions.get_mut(cookie).ok_or(Rejection::NoSession)?;
        let over = limits.ended(session.started, session.era);
        let Stage::Confirmed { cipher, next_seq } = &mut session.stage else {
            return Err(Rejection::NoSession);
        };
        if over {
            sessions.remove(cookie);
            return Err(Rejection::NoSession);
        }
        if seq != *next_seq {
            return Err(Rejection::Sequence);
        }
        let plaintext = cipher.open(seq, body).ok_or(Rejection::Signature)?;
        *next_seq = seq.wrapping_add(1);
        let cipher = cipher.clone();
        if limits.single_request {
            sessions.remove(cookie);
        }
        Ok(Opened {
            cipher,
            seq,
            plaintext,
        })
    }

    /// Ends every session.
    pub(crate) fn forget(&self) {
        self.sessions().clear();
    }

    /// No panic is possible while the lock is held, so a poisoned table is still whole.
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Version {
    fn auth_hash(self, account: &Account) -> Vec<u8> {
        let (username, password) = (account.username.as_bytes(), account.password.as_bytes());
        match self {
            Self::V1 => md5(&[md5(username), md5(password)].concat()).to_vec(),
            Self::V2 => sha256(&[&sha1(username), &sha1(password)]).to_vec(),
        }
    }

    /// What the side with the second seed proves with.
    fn proof(self, first: &[u8], second: &[u8], auth: &[u8]) -> [u8; 32] {
        match self {
            Self::V1 => sha256(&[first, auth]),
            Self::V2 => sha256(&[first, second, auth]),
        }
    }
}

/// The keys of a session. `Debug` shows none of them.
pub(crate) struct Cipher {
    key: [u8; 16],
    iv: [u8; 12],
    seq: i32,
    signature_key: [u8; 28],
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cipher").finish_non_exhaustive()
    }
}

impl Cipher {
    fn new(local_seed: &[u8], remote_seed: &[u8], auth: &[u8]) -> Self {
        let derive = |label: &[u8]| sha256(&[label, local_seed, remote_seed, auth]);
        let iv = derive(b"iv");
        let [.., a, b, c, d] = iv;
        Self {
            key: head(&derive(b"lsk")),
            iv: head(&iv),
            seq: i32::from_be_bytes([a, b, c, d]),
            signature_key: head(&derive(b"ldk")),
        }
    }

    fn first_seq(&self) -> i32 {
        self.seq.wrapping_add(1)
    }

    /// Signature and ciphertext of a reply.
    pub(crate) fn seal(&self, seq: i32, plaintext: &[u8]) -> Vec<u8> {
        let encryptor = cbc::Encryptor::<Aes128>::new(&self.key.into(), &self.iv_at(seq).into());
        let ciphertext = encryptor.encrypt_padded_vec::<Pkcs7>(plaintext);
        let signature = self.signature(seq, &ciphertext);
        [&signature[..], &ciphertext].concat()
    }

    fn open(&self, seq: i32, body: &[u8]) -> Option<Vec<u8>> {
        let (signature, ciphertext) = body.split_at_checked(SIGNATURE)?;
        if signature != self.signature(seq, ciphertext) {
            return None;
        }
        let decryptor = cbc::Decryptor::<Aes128>::new(&self.key.into(), &self.iv_at(seq).into());
        decryptor.decrypt_padded_vec::<Pkcs7>(ciphertext).ok()
    }

    fn signature(&self, seq: i32, ciphertext: &[u8]) -> [u8; SIGNATURE] {
        sha256(&[&self.signature_key, &seq.to_be_bytes(), ciphertext])
    }

    fn iv_at(&self, seq: i32) -> [u8; 16] {
        let mut iv = [0; 16];
        for (to, from) in iv.iter_mut().zip(self.iv.iter().chain(&seq.to_be_bytes())) {
            *to = *from;
        }
        iv
    }
}

/// The first `N` bytes of a hash that is longer.
fn head<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    hash.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn account() -> Account {
        Account {
            username: "demo@example.com".to_owned(),
            password: "demo-password".to_owned(),
        }
    }

    /// A client's side of the handshake.
    fn log_in(klap: &Klap, limits: Limits) -> (String, Cipher) {
        let (cookie, offer) = klap
            .offer(&[1; 16], (&account(), Version::V2), || [7; 16])
            .unwrap();
        let auth = Version::V2.auth_hash(&account());
        assert_eq!(offer[..16], [7; 16]);
        assert_eq!(offer[16..], sha256(&[&[1; 16], &[7; 16], &auth]));
        assert!(klap.confirm(&cookie, &sha256(&[&[7; 16], &[1; 16], &auth]), limits));
        (cookie, Cipher::new(&[1; 16], &[7; 16], &auth))
    }

    #[test]
    fn the_next_sequence_number_is_taken_and_no_other() {
        let klap = Klap::default();
        let (cookie, cipher) = log_in(&klap, Limits::default());
        let first = cipher.first_seq();
        let request = |seq: i32| klap.open(&cookie, seq, &cipher.seal(seq, b"{}"), Limits::default());
        assert!(matches!(request(first - 1), Err(Rejection::Sequence)));
        assert!(matches!(request(first + 1), Err(Rejection::Sequence)));
        assert_eq!(request(first).unwrap().plaintext, b"{}");
        assert!(matches!(request(first), Err(Rejection::Sequence)));
        assert!(request(first.wrapping_add(1)).is_ok());
    }

    #[test]
    fn a_request_needs_a_live_session_and_its_key() {
        let klap = Klap::default();
        let limits = Limits::default();
        let (cookie, cipher) = log_in(&klap, limits);
        let seq = cipher.first_seq();
        let body = cipher.seal(seq, b"{}");
        assert!(matches!(
            klap.open("nobody", seq, &body, limits),
            Err(Rejection::NoSession)
        ));
        let mut forged = body.clone();
        forged[40] ^= 1;
        assert!(matches!(
            klap.open(&cookie, seq, &forged, limits),
            Err(Rejection::Signature)
        ));
        assert!(matches!(
            klap.open(&cookie, seq, &[], limits),
            Err(Rejection::Signature)
        ));
        let over = Limits {
            lifetime: Some(Duration::ZERO),
            ..limits
        };
        assert!(matches!(
            klap.open(&cookie, seq, &body, over),
            Err(Rejection::NoSession)
        ));

        let (unconfirmed, _) = klap
            .offer(&[1; 16], (&account(), Version::V2), || [8; 16])
            .unwrap();
        assert!(matches!(
            klap.open(&unconfirmed, seq, &body, limits),
            Err(Rejection::NoSession)
        ));
        assert!(!klap.confirm(&unconfirmed, &[0; 32], limits));
        assert!(
            klap.offer(&[1; 15], (&account(), Version::V2), || [8; 16])
                .is_none()
        );
    }

    #[test]
    fn a_table_of_one_session_keeps_the_latest() {
        let klap = Klap::default();
        let limits = Limits {
            single_session: true,
            ..Limits::default()
        };
        let (first, _) = log_in(&klap, limits);
        // The seeds are fixed here, so the cookie is too; rename the first.
        let session = klap.sessions().remove(&first).unwrap();
        klap.sessions().insert("first".to_owned(), session);
        log_in(&klap, limits);
        assert!(!klap.sessions().contains_key("first"));
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let klap = Klap::default();
        for n in 0..100 {
            klap.offer(&[1; 16], (&account(), Version::V2), || [n; 16])
                .unwrap();
        }
        assert_eq!(klap.sessions().len(), MAX_SESSIONS);
    }
}
