//! What a command writes for its caller.

use std::io::{self, Write as _};

use super::ExitError;

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// Nothing more can be written, as on a full disk.
pub(super) fn print(text: &str) -> Result<(), ExitError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(ExitError::Output),
    }
}
