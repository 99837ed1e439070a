//! When a window of HeatTrax starts or ends.

use crate::migrate::{Draft, source::Node};

/// A start or an end.
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
    pub(super) fn of(node: &Node<'_>) -> Option<Self> {
        let kind = node.text("type")?.to_lowercase();
        match kind.as_str() {
            "time" => minutes_of(&node.text("value")?).map(Self::Clock),
            "duration" => Some(Self::After {
                seconds: node.number("value")? * 3600.0,
            }),
            "sunrise" | "sunset" => {
                let offset = node.number("offset").unwrap_or(0.0);
                let fallback = minutes_of(&node.text("fallback")?)?;
                Some(Self::Sun {
                    text: moved(&kind, offset),
                    fallback,
                })
            }
            _ => None,
        }
    }

    /// Minutes after midnight on most days.
    pub(super) fn usual(&self) -> u32 {
        match self {
            Self::Clock(minutes)
            | Self::Sun {
                fallback: minutes, ..
            } => *minutes,
            Self::After { .. } => 0,
        }
    }

    /// Writes the keys of a `start` or an `end`.
    pub(super) fn write(&self, key: &str, groups: &mut Draft) {
        match self {
            Self::Clock(minutes) => groups.key(key, clock(*minutes)),
            Self::Sun { text, fallback } => {
                groups.key(key, text.clone());
                groups.key(&format!("fallback_{key}"), clock(*fallback));
            }
            Self::After { seconds } => groups.key("for", *seconds),
        }
    }
}

/// `sunrise` moved by minutes, at most three hours either way.
fn moved(event: &str, offset: f64) -> String {
    let sign = if offset < 0.0 { '-' } else { '+' };
    // At most 180, so nothing is cut.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let minutes = offset.round().abs().min(180.0) as u32;
    match minutes {
        0 => event.to_owned(),
        _ => format!("{event}{sign}{}", clock(minutes)),
    }
}

/// `6:00` or `06:00` as minutes after midnight.
pub(super) fn minutes_of(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

pub(super) fn clock(minutes: u32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}
