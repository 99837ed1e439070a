//! Calendars of holidays: iCalendar files, and the task that reads them again.

mod ics;
mod recurrence;
mod task;

use std::{fmt, path::PathBuf};

pub(crate) use ics::{IcsError, ReadCalendar};
pub use task::{CalendarParts, CalendarTask};

use crate::system::files;

/// Where a calendar is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarFile(pub PathBuf);

impl fmt::Display for CalendarFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.display(), f)
    }
}

impl CalendarFile {
    /// Reads it. It blocks, for three seconds at most.
    ///
    /// # Errors
    /// It cannot be read, or is no calendar.
    pub(crate) fn read(&self) -> Result<ReadCalendar, CalendarError> {
        Ok(ics::read(&files::read(&self.0, ics::LARGEST as u64)?)?)
    }
}

/// Why a calendar could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CalendarError {
    /// The file.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// What is in it.
    #[error(transparent)]
    Content(#[from] IcsError),
}
