//! Devices, outlets and groups in topics that do not exist. Pure.

use std::fmt::Display;

use crate::{config::nearest, mqtt::decode::Shown};

/// Names that are listed at most.
const LISTED_MAX: usize = 20;

/// A name that does not exist, as text and with the code of its response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownName {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl UnknownName {
    pub(super) fn device(name: &str, known: &[&str]) -> Self {
        let what = format!("no device {} is configured", Shown::text(name));
        Self::of("unknown_device", &what, "devices", name, known)
    }

    pub(super) fn outlet(device: impl Display, name: &str, known: &[&str]) -> Self {
        let what = format!("{device} has no outlet {}", Shown::text(name));
        Self::of("unknown_outlet", &what, "outlets", name, known)
    }

    pub(super) fn group(name: &str, known: &[&str]) -> Self {
        let what = format!("no group {} is configured", Shown::text(name));
        Self::of("unknown_group", &what, "groups", name, known)
    }

    pub(super) fn schedule(group: impl Display, name: &str, known: &[&str]) -> Self {
        let what = format!("group {group} has no schedule {}", Shown::text(name));
        Self::of("unknown_schedule", &what, "schedules", name, known)
    }

    fn of(code: &'static str, what: &str, kind: &str, name: &str, known: &[&str]) -> Self {
        let listed = known.get(..LISTED_MAX).unwrap_or(known).join(", ");
        let more = match known.len().saturating_sub(LISTED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let list = if known.is_empty() {
            format!("there are no {kind}")
        } else {
            format!("known {kind} are {listed}{more}")
        };
        let hint = nearest(known, name).map_or_else(String::new, |name| format!("; did you mean {name}?"));
        let message = format!("{what}; {list}{hint}");
        Self { code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_exist_are_listed_and_the_nearest_is_suggested() {
        let known = ["living-room", "mats"];
        let cases = [
            (
                UnknownName::device("Living Room", &known),
                "no device Living Room is configured; known devices are living-room, mats; did you mean living-room?",
            ),
            (
                UnknownName::device("nobody", &[]),
                "no device nobody is configured; there are no devices",
            ),
            (
                UnknownName::outlet("mats", "9\n", &["1", "2"]),
                "mats has no outlet 9\\n; known outlets are 1, 2",
            ),
            (
                UnknownName::group("Driveway", &["driveway"]),
                "no group Driveway is configured; known groups are driveway; did you mean driveway?",
            ),
        ];
        for (unknown, message) in cases {
            assert_eq!(unknown.message, message);
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (100..200).map(|number| format!("plug-{number}")).collect();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let unknown = UnknownName::device("x", &known);
        assert!(
            unknown.message.ends_with("plug-119 and 80 more"),
            "{}",
            unknown.message
        );
    }
}
