//! Where the state file is, and what is there at the start.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tracing::{info, warn};

use super::{
    disk_file::{DiskFile, folder_of, replace_file, with_suffix},
    envelope::Envelope,
    writer::cannot_write,
};

/// Where a bridge keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLocation {
    /// The file.
    pub file: PathBuf,
    /// Read if that one does not exist, unless another bridge wrote it. Never written.
    pub earlier: Option<PathBuf>,
    /// Which bridge it is.
    pub base_topic: String,
}

/// Why a bridge cannot work with its state file.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It exists and cannot be read, which may pass. Going on would overwrite it.
    #[error("the state file {} (state.file) cannot be read: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Another bridge wrote it. Going on would drop what that one keeps there.
    #[error(
        "the state file {} (state.file) belongs to the bridge with base topic {theirs:?}; set state.file to another file. \
         If it is this bridge, which had that base topic before, remove base_topic from the file",
        file.display()
    )]
    OtherBridge {
        /// The file.
        file: PathBuf,
        /// The base topic in it.
        theirs: String,
    },
    /// The system refuses what the writer needs.
    #[error("the state file cannot be written: {0}")]
    Thread(io::Error),
}

/// What is there at the start.
#[derive(Debug)]
pub(super) enum FoundState {
    Nothing,
    Content(Envelope),
    /// What the earlier file has.
    Earlier(Envelope, PathBuf),
    /// What is wrong with it.
    Damaged(String),
}

impl StateLocation {
    /// Where the bridge keeps its energy history: beside the state file, because it is large and written seldom.
    #[must_use]
    pub fn of_history(&self) -> Self {
        let name = self.base_topic.replace('/', "-") + "-history.json";
        Self {
            file: self.file.with_file_name(name),
            earlier: None,
            base_topic: self.base_topic.clone(),
        }
    }

    /// Reads what is there.
    pub(super) fn read(&self) -> Result<FoundState, StateFileError> {
        let file = &self.file;
        let unreadable = |source| StateFileError::Unreadable {
            file: file.clone(),
            source,
        };
        let Some(bytes) = DiskFile::new(file.clone()).read().map_err(unreadable)? else {
            return Ok(self.read_earlier().unwrap_or(FoundState::Nothing));
        };
        let envelope = match Envelope::decode(&bytes) {
            Ok(envelope) => envelope,
            Err(why) => return Ok(FoundState::Damaged(why)),
        };
        match envelope.other_bridge(&self.base_topic) {
            Some(theirs) => Err(StateFileError::OtherBridge {
                file: file.clone(),
                theirs: theirs.to_owned(),
            }),
            None => Ok(FoundState::Content(envelope)),
        }
    }

    /// What cannot be read there stays as it is, and costs no start.
    fn read_earlier(&self) -> Option<FoundState> {
        let earlier = self.earlier.as_ref()?;
        let bytes = DiskFile::new(earlier.clone()).read();
        let decoded = bytes.map_err(|error| error.to_string()).transpose()?;
        match decoded.and_then(|bytes| Envelope::decode(&bytes)) {
            Ok(envelope) if envelope.other_bridge(&self.base_topic).is_some() => None,
            Ok(envelope) => Some(FoundState::Earlier(envelope, earlier.clone())),
            Err(error) => {
                warn!(file = %earlier.display(), %error, "the earlier state file cannot be read; ignored");
                None
            }
        }
    }

    /// What a bridge keeps, in the form of the file. It has no secret.
    ///
    /// # Errors
    /// Why there is none.
    pub fn backup(&self) -> Result<Value, String> {
        match self.file().read() {
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Ok(None) => Err(format!("nothing is stored in {} yet", self.file.display())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has a backup taken over at the next start. Returns the file that it waits in.
    ///
    /// # Errors
    /// It is not for this bridge, or cannot be written.
    pub fn restore(&self, backup: &[u8]) -> Result<PathBuf, String> {
        self.check_backup(backup)?;
        let to = self.beside(".restore");
        // What root writes there the bridge could not take over, and root follows no links of others.
        let owner = folder_of(&to).metadata().map(|folder| folder.uid());
        if let Ok(owner @ 1..) = owner
            && rustix::process::geteuid().is_root()
        {
            return Err(format!(
                "{} belongs to the user of the bridge; restore as that user (sudo -u '#{owner}')",
                to.with_file_name("").display()
            ));
        }
        replace_file(&to, backup).map_err(|error| format!("{} cannot be written: {error}", to.display()))?;
        Ok(to)
    }

    /// Where the state goes that a backup replaces; `None` if there is none yet.
    pub fn replaced_by_restore(&self) -> Option<PathBuf> {
        self.file.exists().then(|| self.before_restore())
    }

    fn before_restore(&self) -> PathBuf {
        self.beside(".before-restore")
    }

    /// Takes a backup over that waits for the start; says whether there was one. One that is not for this bridge stays where it
    /// is.
    pub(super) fn take_backup(&self) -> bool {
        let waiting = self.beside(".restore");
        let backup = match DiskFile::new(waiting.clone()).read() {
            Ok(None) => return false,
            Ok(Some(backup)) => Ok(backup),
            Err(error) => Err(error.to_string()),
        };
        let taken = backup.and_then(|backup| self.replace_by(&backup, &waiting));
        match &taken {
            Ok(()) => info!(file = %self.file.display(), "state restored"),
            Err(why) => warn!(file = %waiting.display(), %why, "not restored"),
        }
        taken.is_ok()
    }

    /// A power cut between the steps costs nothing: the backup waits until the last one.
    fn replace_by(&self, backup: &[u8], waiting: &Path) -> Result<(), String> {
        self.check_backup(backup)?;
        let replace = || {
            // Where it is there already, what it replaced is kept already.
            if let Some(before) = self.file().read()?.filter(|before| before != backup) {
                replace_file(&self.before_restore(), &before)?;
            }
            self.file().replace(backup)?;
            fs::remove_file(waiting)
        };
        replace().map_err(|error| error.to_string())
    }

    fn check_backup(&self, backup: &[u8]) -> Result<(), String> {
        let envelope = Envelope::decode(backup)?;
        match envelope.other_bridge(&self.base_topic) {
            Some(theirs) => Err(format!("it belongs to the bridge with base topic {theirs:?}")),
            None if envelope.sections.is_empty() => Err("it has nothing in it".to_owned()),
            None => Ok(()),
        }
    }

    fn file(&self) -> DiskFile {
        DiskFile::new(self.file.clone())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.file, suffix)
    }

    /// Whether a bridge could start with what is there.
    ///
    /// # Errors
    /// Why not.
    pub fn try_read(&self) -> Result<(), StateFileError> {
        self.read().map(drop)
    }

    /// Whether a bridge could read it and write it now, for `check`.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(&self) -> Result<(), String> {
        if let FoundState::Damaged(why) = self.read().map_err(|error| error.to_string())? {
            return Err(format!(
                "the state file {} (state.file) cannot be read ({why}); the bridge sets it aside and starts without it",
                self.file.display()
            ));
        }
        let tried = DiskFile::new(self.file.clone()).try_replace();
        tried.map_err(|error| cannot_write(&self.file, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backup_replaces_outlives_a_power_cut() {
        let folder = tempfile::tempdir().unwrap();
        let location = StateLocation {
            file: folder.path().join("state.json"),
            earlier: None,
            base_topic: "tapo2mqtt".to_owned(),
        };
        let before = r#"{"version": 1, "vacation": "off"}"#;
        fs::write(&location.file, before).unwrap();
        // The second time as if the power had gone before the backup was removed.
        for _ in 0..2 {
            fs::write(location.beside(".restore"), r#"{"version": 1, "vacation": "on"}"#).unwrap();
            assert!(location.take_backup());
            assert_eq!(fs::read_to_string(location.before_restore()).unwrap(), before);
        }
    }
}
