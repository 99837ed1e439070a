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
    let mut backup: Value = serde_json::from_slice(json_of(&bytes))
        .map_err(|error| refused(format!("it is no JSON: {error}")))?;
    // The response to bridge/request/backup has the state inside.
    if let Some(data) = backup.get_mut("data").map(Value::take) {
        backup = data;
    }
    let text = backup.to_string();
    let to = location.restore(text.as_bytes()).map_err(refused)?;
    let kept = location.replaced_by_restore().map_or_else(String::new, |kept| {
        format!(" The state until then is kept as {}.", kept.display())
    });
    output::print(&format!(
        "{shown} is taken over at the next start of the bridge ({}).{kept}\n",
        to.display()
    ))
}

/// Without what programs put before it: editors a byte order mark, `mosquitto_sub -v` the topic.
fn json_of(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_topic = |word: &[u8]| word.ends_with(b"/bridge/response/backup");
    let mut words = bytes.splitn(2, |byte| *byte == b' ');
    match (words.next(), words.next()) {
        (Some(word), Some(rest)) if is_topic(word) => rest,
        _ => bytes,
    }
}
