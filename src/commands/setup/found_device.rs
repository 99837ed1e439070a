//! A device that was found.

use std::fmt::Write as _;

use super::answers::key;
use crate::devices::{Discovered, Seen};

/// A device that answered.
#[derive(Debug)]
pub(super) struct FoundDevice {
    pub(super) id: String,
    address: String,
    mac: Option<String>,
    model: String,
    pub(super) obstacle: Option<&'static str>,
    /// What the login showed, or why there was none.
    pub(super) seen: Result<Seen, String>,
}

impl FoundDevice {
    /// `id_of` makes an id of a name.
    pub(super) fn new(
        found: &Discovered,
        seen: Result<Seen, String>,
        id_of: impl FnOnce(&str) -> String,
    ) -> Self {
        let model = found.model.clone().unwrap_or_else(|| "unknown model".to_owned());
        let nickname = seen.as_ref().ok().and_then(|seen| seen.nickname.as_deref());
        Self {
            id: id_of(nickname.unwrap_or(&model)),
            address: found.address(),
            mac: found.mac.clone(),
            model,
            obstacle: found.obstacle(),
            seen,
        }
    }

    /// On one line, for the terminal.
    pub(super) fn line(&self) -> String {
        let (address, model) = (&self.address, &self.model);
        match &self.seen {
            Ok(seen) => format!("{address:<22}{model:<14}{} -> id {}", named(seen), self.id),
            Err(why) => format!("{address:<22}{model:<14}{why}"),
        }
    }

    /// In the file. One that cannot be used is a comment.
    pub(super) fn block(&self) -> String {
        let remark = match &self.seen {
            Ok(seen) => named(seen),
            Err(why) => why.clone(),
        };
        let comment = if self.obstacle.is_some() { "#" } else { "" };
        let mut block = format!("# {}: {}\n", self.model, remark.replace(char::is_control, " "));
        let lines = [
            "[[device]]\n".to_owned(),
            key("id", self.id.as_str()),
            key("address", self.address.as_str()),
        ];
        let mac = self.mac.as_deref().map(|mac| key("mac", mac));
        for line in lines.into_iter().chain(mac) {
            // Writing to a text cannot fail.
            let _infallible = write!(block, "{comment}{line}");
        }
        block + "\n"
    }
}

/// The names in the app.
fn named(seen: &Seen) -> String {
    let name = seen.nickname.as_deref().unwrap_or("no name");
    let outlets = seen.outlets.iter().filter_map(|(position, name)| {
        let (position, name) = ((*position)?, name.as_ref()?);
        Some(format!("{position} {name}"))
    });
    let outlets: Vec<_> = outlets.collect();
    match outlets.as_slice() {
        [] | [_] => format!("\"{name}\""),
        several => format!("\"{name}\", outlets: {}", several.join(", ")),
    }
}
