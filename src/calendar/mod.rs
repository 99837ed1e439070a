//! Calendars of holidays: iCalendar files here and on web servers, and the task that reads them again.

mod copy;
mod ics;
mod recurrence;
mod task;

use std::{fmt, path::PathBuf};

use planner::holidays::HolidayDates;

pub use copy::CalendarUrl;
pub(crate) use ics::{IcsError, ReadCalendar};
pub use task::{CalendarParts, CalendarTask};

use crate::system::files;

/// Where the calendars are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CalendarSources {
    /// A file on this machine.
    pub file: Option<CalendarFile>,
    /// One on a web server, of which a copy is kept.
    pub url: Option<CalendarUrl>,
}

/// A file on this machine.
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

impl CalendarSources {
    /// The holidays of the file, and of the copy of what is on the web server; `None` without either in the settings. It
    /// blocks, for three seconds at most for each.
    ///
    /// # Errors
    /// The file cannot be read, or is no calendar. A copy that cannot be read is none.
    pub(crate) fn read(&self) -> Result<Option<ReadCalendar>, CalendarError> {
        let copy = self.url.as_ref().map(|url| url.copy().calendar());
        let Some(file) = &self.file else {
            return Ok(copy);
        };
        let mut calendar = file.read()?;
        add(&mut calendar.dates, copy.unwrap_or_default().dates);
        Ok(Some(calendar))
    }
}

/// Of two holidays on one day the first has its name shown.
fn add(dates: &mut HolidayDates, more: HolidayDates) {
    for (date, name) in more {
        dates.entry(date).or_insert(name);
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
