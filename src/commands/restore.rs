//! `restore`: has a backup taken over at the next start of the bridge.

use std::io;

use serde_json::Value;

use super::{ExitError, load, output};
use crate::{
    cli::{RestoreArgs, SettingsArgs},
    system::files,
};

/// More than any state, in bytes.
const BACKUP_MAX: u64 = 64 << 20;

pub(super) fn restore(args: &RestoreArgs, settings: &SettingsArgs) -> Result<(), ExitError> {
    let shown = args.file.display();
    let location = load(settings)?.state_location();
    let location = location.ok_or_else(|| ExitError::Unwell("this bridge keeps no state".to_owned()))?;
    let bytes = files::read(&args.file, BACKUP_MAX)
        .map_err(|error| io::Error::new(error.kind(), format!("{shown} cannot be read: {error}")))?;
    let refused = |why: String| ExitError::Unwell(format!("{shown} is not restored: {why}"));
    let mut backup: Value = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
    // The response to bridge/request/backup has the state inside.
    if let Some(data) = backup.get_mut("data").map(Value::take) {
        backup = data;
    }
    let text = backup.to_string();
    let to = location.restore(text.as_bytes()).map_err(refused)?;
    output::print(&format!(
        "{shown} is taken over at the next start of the bridge ({}). The state until then is kept as {}.\n",
        to.display(),
        location.before_restore().display()
    ))
}
