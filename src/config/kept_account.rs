//! The account that came by a request, in a file beside the state file.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    credentials::Account,
    layers::{FILE_THAT_EXISTS, read_text},
    reader::Expected,
};
use crate::{store::replace_file, system::Secret};

/// Behind the base topic.
const NAME: &str = "-account.json";
/// Far more than an account has, in bytes.
const SIZE_MAX: u64 = 4096;

/// Where an account is kept that the settings do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFile(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    username: String,
    password: String,
}

impl AccountFile {
    /// That of the bridge with this state file.
    pub(super) fn beside(state_file: &Path, base_topic: &str) -> Self {
        Self(state_file.with_file_name(base_topic.replace('/', "-") + NAME))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What is kept, if anything is. No error shows it.
    pub(super) fn read(&self) -> Result<Option<Account>, Expected> {
        let text = match read_text(&self.0, SIZE_MAX) {
            Ok(text) => text,
            Err(expected) if expected == FILE_THAT_EXISTS => return Ok(None),
            Err(expected) => return Err(expected),
        };
        let Ok(Content { username, password }) = serde_json::from_str(&text) else {
            return Err(
                "an account as bridge/request/account stores it; remove the file and send it again"
                    .to_owned(),
            );
        };
        let password = Secret::new(password);
        Ok(Some(Account { username, password }))
    }

    /// Keeps an account instead of what is kept. Only the user of the process can read it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, account: &Account) -> io::Result<()> {
        let content = Content {
            username: account.username.clone(),
            password: account.password.expose().to_owned(),
        };
        replace_file(&self.0, serde_json::to_string(&content)?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn only_its_owner_reads_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = AccountFile::beside(&folder.path().join("any.json"), "home/tapo");
        assert_eq!(file.read(), Ok(None));
        let account = Account {
            username: "me@example.org".to_owned(),
            password: Secret::new("hunter2"),
        };
        file.keep(&account).unwrap();
        let path = folder.path().join("home-tapo-account.json");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(file.read(), Ok(Some(account)));
        fs::write(&path, r#"{"username": "me@example.org", "pass": "hunter2"}"#).unwrap();
        assert!(!file.read().unwrap_err().contains("hunter2"));
    }
}
