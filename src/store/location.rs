//! Where the state file is, and what is there at the start.

use std::{io, path::PathBuf};

use tracing::warn;

use super::{disk_file::DiskFile, envelope::Envelope, writer::cannot_write};

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
