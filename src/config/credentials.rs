//! User names and passwords, and the files they may be in.

use std::path::{Path, PathBuf};

use super::{
    layers::{FILE_THAT_EXISTS, read_text},
    parse,
    reader::{Expected, Leaf, Read, Table},
};
use crate::{
    domain::devices::Credentials,
    system::{Secret, files},
};

/// Largest password file that is read, in bytes.
const PASSWORD_FILE_MAX: u64 = 4096;

/// What examples show in the place of a real user name.
const PLACEHOLDER_USERNAMES: [&str; 4] = ["you@example.com", "user@example.com", "changeme", "..."];

/// What examples show in the place of a real password.
const PLACEHOLDER_PASSWORDS: [&str; 4] = ["...", "changeme", "change-me", "password"];

/// A TP-Link account, as the devices require it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The e-mail address of the account, in the capitals it was registered with.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

impl From<&Account> for Credentials {
    fn from(account: &Account) -> Self {
        Self {
            username: account.username.clone(),
            password: account.password.clone(),
        }
    }
}

/// Paths in the settings: relative ones start at the settings file's directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) directory: &'a Path,
}

impl Files<'_> {
    /// Any path.
    pub(super) fn path(self, leaf: &Leaf<'_>) -> Result<PathBuf, Expected> {
        let path = leaf
            .text()
            .filter(|text| !text.is_empty() && !text.contains('\0'));
        let path = path.ok_or_else(|| "the path of a file".to_owned())?;
        Ok(self.directory.join(path))
    }

    /// The path of a file that exists now.
    pub(super) fn existing(self, leaf: &Leaf<'_>) -> Result<PathBuf, Expected> {
        let path = self.path(leaf)?;
        let shown = path.display();
        match files::exists(&path) {
            Ok(true) => Ok(path),
            Ok(false) if path.is_dir() => Err(format!("a file; {shown} is a directory")),
            Ok(false) => Err(format!("a file that exists; {shown} does not")),
            Err(error) => Err(format!("a file that can be read; {shown}: {error}")),
        }
    }

    /// The same of a file that holds a secret, or of the secret itself, by mistake: no complaint shows it.
    pub(super) fn existing_secret(self, leaf: &Leaf<'_>) -> Result<PathBuf, Expected> {
        self.existing(leaf).map_err(|_| SECRET_FILE.to_owned())
    }

    /// The content of a file that holds a secret, the value of `key`.
    fn secret(self, leaf: &Leaf<'_>, key: &str) -> Result<String, Expected> {
        let path = self.path(leaf)?;
        let text = read_text(&path, PASSWORD_FILE_MAX).map_err(|expected| match expected.as_str() {
            FILE_THAT_EXISTS => SECRET_FILE.to_owned(),
            _ => expected,
        })?;
        secret_of(&text, key).map(str::to_owned)
    }
}

/// What a key that names the file of a secret expects.
const SECRET_FILE: &str = "the path of a file that exists, from the directory of the settings file";

/// A secret without what editors put around it. Anything else that is not a part of it is a mistake: the device would
/// only say that the password is wrong.
fn secret_of<'a>(text: &'a str, key: &str) -> Result<&'a str, Expected> {
    let text = text.trim_start_matches('\u{feff}');
    let secret = text.trim_end_matches(['\r', '\n']);
    let blank = |c: Option<char>| c.is_some_and(char::is_whitespace);
    Err(if secret.is_empty() {
        format!("a file with a {key} in it")
    } else if secret.contains('\0') {
        "a text file; it has a NUL character".to_owned()
    } else if secret.starts_with(['\r', '\n']) {
        format!("a file with the {key} in its first line; that line is empty")
    } else if secret.contains(['\r', '\n']) {
        "a file with one line; it has several".to_owned()
    } else if blank(secret.chars().next()) || blank(secret.chars().next_back()) {
        format!(
            "a {key} without a blank at its start or end; if it belongs to the {key}, set `{key}` instead"
        )
    } else {
        return Ok(secret);
    })
}

/// Reads `username`, and `password` or `password_file`. Placeholders count as not set.
pub(super) fn credentials(table: &mut Table<'_>, files: Files<'_>) -> Read<Option<Account>> {
    let username = table.optional("username", parse::text);
    let password = password(table, files);
    let real = |text: &str, placeholders: &[&str]| {
        !text.is_empty() && !placeholders.contains(&text.to_lowercase().as_str())
    };
    let username = username?.filter(|text| real(text, &PLACEHOLDER_USERNAMES));
    let password = password?.filter(|secret| real(secret.expose(), &PLACEHOLDER_PASSWORDS));
    match (username, password) {
        (Some(username), Some(password)) => Ok(Some(Account { username, password })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(table.secret_problem("password", "the password that goes with the username")),
        (None, Some(_)) => Err(table.problem(
            "username",
            "the username that goes with the password, not that of the examples",
        )),
    }
}

/// Reads `password` or `password_file`, whichever the highest layer has. An empty one is not set.
pub(super) fn password(table: &mut Table<'_>, files: Files<'_>) -> Read<Option<Secret>> {
    secret(table, ["password", "password_file"], files)
}

/// The same of another secret: the key that holds it, and the key that names its file.
pub(super) fn secret(
    table: &mut Table<'_>,
    [key, file_key]: [&'static str; 2],
    files: Files<'_>,
) -> Read<Option<Secret>> {
    let inline = table.secret(key);
    let file_layer = table.layer(file_key);
    let inline = inline?.filter(|(_, text)| !text.is_empty());
    match (inline, file_layer) {
        (Some((layer, _)), Some(file)) if layer == file => {
            let expected = format!("either {key} or {file_key}, not both");
            Err(table.secret_problem(key, expected))
        }
        (Some((layer, text)), file) if file.is_none_or(|file| file < layer) => Ok(Some(Secret::new(text))),
        _ => {
            let read = |leaf: &Leaf<'_>| files.secret(leaf, key);
            let secret = table.optional_secret(file_key, read)?;
            if secret.is_some() {
                table.read_from(key, file_key);
            }
            Ok(secret.map(Secret::new))
        }
    }
}
