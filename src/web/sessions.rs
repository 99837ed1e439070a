//! Who has logged in. Kept in the state file, so that a restart ends no login.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::system::Secret;

/// How long a login lasts.
pub(super) const LIFETIME: Duration = Duration::from_hours(24 * 90);
/// Logins that are known at once. The one that ends first is dropped for another.
const SESSIONS_MAX: usize = 64;

/// The logins in force. It has no token, only what one can be recognized by, together with the password that it was given
/// for: another password ends all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sessions(BTreeMap<String, Timestamp>);

impl Sessions {
    /// A new login; returns its token.
    pub(super) fn start(&mut self, password: &Secret, now: Timestamp) -> String {
        self.0.retain(|_, ends| *ends > now);
        if self.0.len() >= SESSIONS_MAX
            && let Some((first, _)) = self.0.iter().min_by_key(|(_, ends)| **ends)
        {
            let first = first.clone();
            self.0.remove(&first);
        }
        let token = hex(&rand::random::<[u8; 32]>());
        // Times that cannot be added are beyond year 9999.
        let ends = now.checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
        self.0.insert(fingerprint(&token, password), ends);
        token
    }

    /// Whether a token is of a login in force.
    pub(super) fn knows(&self, token: &str, password: &Secret, now: Timestamp) -> bool {
        let ends = self.0.get(&fingerprint(token, password));
        ends.is_some_and(|ends| *ends > now)
    }

    /// Ends a login. Returns whether it was one.
    pub(super) fn end(&mut self, token: &str, password: &Secret) -> bool {
        self.0.remove(&fingerprint(token, password)).is_some()
    }
}

/// Whether a password is the right one. What is compared tells nothing about either by the time it takes.
pub(super) fn is_password(tried: &str, password: &Secret) -> bool {
    Sha256::digest(tried) == Sha256::digest(password.expose())
}

fn fingerprint(token: &str, password: &Secret) -> String {
    let mut hash = Sha256::new();
    hash.update(Sha256::digest(token));
    hash.update(password.expose());
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_login_lasts_until_its_end_or_another_password() {
        let (password, other) = (Secret::new("one"), Secret::new("two"));
        let mut sessions = Sessions::default();
        let token = sessions.start(&password, NOW);
        assert!(sessions.knows(&token, &password, NOW));
        assert!(!sessions.knows(&token, &other, NOW));
        assert!(!sessions.knows("", &password, NOW));
        assert!(!sessions.knows(&token, &password, NOW + LIFETIME));
        let kept = serde_json::to_string(&sessions).unwrap();
        assert!(!kept.contains(&token), "{kept}");
        let mut again: Sessions = serde_json::from_str(&kept).unwrap();
        assert!(again.knows(&token, &password, NOW));
        assert!(again.end(&token, &password) && !again.knows(&token, &password, NOW));
    }

    #[test]
    fn logins_are_bounded_and_the_newest_stay() {
        let (password, mut sessions) = (Secret::new("one"), Sessions::default());
        let first = sessions.start(&password, NOW);
        let later = NOW + Duration::from_secs(1);
        let all: Vec<_> = (0..SESSIONS_MAX)
            .map(|_| sessions.start(&password, later))
            .collect();
        assert!(!sessions.knows(&first, &password, later));
        assert!(all.iter().all(|token| sessions.knows(token, &password, later)));
    }

    #[test]
    fn a_password_is_compared_whole() {
        let password = Secret::new("hunter2");
        assert!(is_password("hunter2", &password));
        assert!(!is_password("hunter", &password) && !is_password("", &password));
    }
}
