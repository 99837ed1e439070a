//! When a window of HeatTrax starts or ends.

use crate::migrate::{Draft, source::Node};

/// HeatTrax's own bound, and ours.
const OFFSET_MINUTES: f64 = 180.0;
/// The shortest and the longest `for`, in hours.
const SHORTEST: f64 = 1.0 / 3600.0;
const LONGEST: f64 = 24.0;

/// A start or an end.
#[derive(Debug, PartialEq)]
pub(super) enum Edge {
    /// Minutes after midnight.
    Clock(u32),
    /// Ours is one text.
    Sun {
        text: String,
        /// Minutes after midnight, where there is no such event.
        fallback: u32,
    },
    After {
        seconds: f64,
    },
}

impl Edge {
    /// `None` where anything of it is not understood.
    pub(super) fn of(node: &Node<'_>) -> Option<Self> {
        let kind = node.text("type")?.to_lowercase();
        match kind.as_str() {
            "time" => Self::clock(node, "value"),
            "duration" => Some(Self::After {
                seconds: node.number("value", SHORTEST..=LONGEST)? * 3600.0,
            }),
            "sunrise" | "sunset" => {
                let offset = if node.get("offset").exists() {
                    node.number("offset", -OFFSET_MINUTES..=OFFSET_MINUTES)?
                } else {
                    0.0
                };
                let fallback = node.parsed("fallback", |value| minutes_of(value.as_str()?))?;
                Some(Self::Sun {
                    text: moved(&kind, offset),
                    fallback,
                })
            }
            _ => None,
        }
    }

    /// The clock time under a key.
    pub(super) fn clock(node: &Node<'_>, key: &str) -> Option<Self> {
        node.parsed(key, |value| minutes_of(value.as_str()?))
            .map(Self::Clock)
    }

    /// Writes the keys of a `start` or an `end`.
    pub(super) fn write(&self, key: &str, keys: &mut Draft) {
        match self {
            Self::Clock(minutes) => keys.key(key, clock(*minutes)),
            Self::Sun { text, fallback } => {
                keys.key(key, text.clone());
                keys.key(&format!("fallback_{key}"), clock(*fallback));
            }
            Self::After { seconds } => keys.key("for", *seconds),
        }
    }
}

/// `sunrise` moved by minutes, at most three hours either way.
fn moved(event: &str, offset: f64) -> String {
    let sign = if offset < 0.0 { '-' } else { '+' };
    // At most 180, so nothing is cut.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let minutes = offset.round().abs() as u32;
    match minutes {
        0 => event.to_owned(),
        _ => format!("{event}{sign}{}", clock(minutes)),
    }
}

/// `6:00` or `06:00` as minutes after midnight.
fn minutes_of(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn clock(minutes: u32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}
