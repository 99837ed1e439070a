//! What `login_device` sends.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    Credentials,
    hash::{hex, sha1},
};

/// How the password is sent. Discovery announces it as `lv`, absent or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordForm {
    /// Itself: firmware that announces no `lv`.
    Plain,
    /// Its SHA-1: firmware that announces `lv` 2.
    Hashed,
}

impl PasswordForm {
    pub(crate) fn of_version(lv: Option<u64>) -> Self {
        match lv {
            Some(2) => Self::Hashed,
            _ => Self::Plain,
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Plain => Self::Hashed,
            Self::Hashed => Self::Plain,
        }
    }

    pub(super) fn params(self, account: &Credentials) -> Value {
        let hashed = |text: &[u8]| STANDARD.encode(hex(&sha1(text)));
        let username = hashed(account.username());
        match self {
            Self::Plain => json!({ "username": username, "password": STANDARD.encode(account.password()) }),
            Self::Hashed => json!({ "username": username, "password2": hashed(account.password()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with python-kasa 0.12.
    #[test]
    fn both_forms_are_those_of_python_kasa() {
        let user = Credentials::new("user@example.com", "hunter2");
        let username = "NjNhNzEwNTY5MjYxYTI0YjM3NjYyNzViNzAwMGNlOGQ3YjMyZTJmNw==";
        let plain = json!({ "username": username, "password": "aHVudGVyMg==" });
        assert_eq!(PasswordForm::Plain.params(&user), plain);
        let password2 = "ZjNiYmJkNjZhNjNkNGJmMTc0Nzk0MDU3OGVjM2QwMTAzNTMwZTIxZA==";
        let hashed = json!({ "username": username, "password2": password2 });
        assert_eq!(PasswordForm::Hashed.params(&user), hashed);
    }
}
