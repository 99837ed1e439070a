//! One notification.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp, Unit, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::cause::Cause;
use crate::domain::notify_kind::NotifyKind;
use planner::{Now, Steady, shortened};

/// Longest text, in characters. A phone shows less.
const TEXT_MAX: usize = 1000;
/// Notifications that are listed in a message about several.
const LISTED: usize = 20;

/// What is sent about a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// `None` is a test.
    pub(super) event: Option<NotifyKind>,
    /// A device, an outlet, a group or a sensor; empty: the bridge.
    pub(super) subject: String,
    pub(super) state: NoticeState,
    pub(super) title: String,
    pub(super) message: String,
    /// Since when it was so.
    pub(super) since: Timestamp,
    /// When this was decided.
    pub(super) at: Timestamp,
    /// The same on the steady clock.
    pub(super) queued: Steady,
}

/// Whether something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NoticeState {
    Began,
    Over,
}

/// What a message to people says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotifyMessage {
    pub(super) title: String,
    pub(super) text: String,
    /// Whether something is wrong that was not before.
    pub(super) is_alarm: bool,
}

impl Notice {
    /// Something is wrong since then.
    pub(super) fn began(cause: &Cause, text: &str, since: Now, now: Now, zone: &TimeZone) -> Self {
        let text = text.trim_end_matches('.');
        let message = format!("{text}. Since {}. {}", shown(since.wall, zone), cause.advice());
        Self {
            event: Some(cause.kind),
            subject: cause.subject.clone(),
            state: NoticeState::Began,
            title: cause.title(),
            message: shortened(message, TEXT_MAX),
            since: since.wall,
            at: now.wall,
            queued: now.steady,
        }
    }

    /// It is over.
    pub(super) fn over(cause: &Cause, since: Now, ended: Now, now: Now, zone: &TimeZone) -> Self {
        let lasted = rounded(ended.steady.elapsed_since(since.steady));
        let (over, began) = (cause.over(), shown(since.wall, zone));
        Self {
            state: NoticeState::Over,
            message: format!("{over}. It began at {began} and lasted {lasted:#}."),
            title: over,
            ..Self::began(cause, "", since, now, zone)
        }
    }

    pub(super) fn test(now: Now) -> Self {
        Self {
            event: None,
            subject: String::new(),
            state: NoticeState::Over,
            title: "test".to_owned(),
            message: "This is a test. Notifications of this bridge arrive here.".to_owned(),
            since: now.wall,
            at: now.wall,
            queued: now.steady,
        }
    }
}

impl NotifyMessage {
    /// `notices` are not empty; `left_out` is how many more there were.
    pub(super) fn of(bridge: &str, notices: &[Notice], left_out: u64) -> Self {
        let is_alarm = notices.iter().any(|notice| notice.state == NoticeState::Began);
        let (title, mut text) = if let [notice] = notices {
            (notice.title.clone(), notice.message.clone())
        } else {
            let lines = notices
                .iter()
                .take(LISTED)
                .map(|notice| format!("- {}", notice.message));
            let mut lines: Vec<String> = lines.collect();
            let more = notices.len().saturating_sub(LISTED);
            if more > 0 {
                lines.push(format!("- and {more} more"));
            }
            (format!("{} notifications", notices.len()), lines.join("\n"))
        };
        if left_out > 0 {
            let _ = write!(
                text,
                "\n{left_out} earlier notifications could not be sent and are left out."
            );
        }
        Self {
            title: format!("{bridge}: {title}"),
            text,
            is_alarm,
        }
    }
}

fn shown(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone()).strftime("%F %R").to_string()
}

/// Hours and minutes, or seconds below a minute.
fn rounded(length: SignedDuration) -> SignedDuration {
    let unit = if length < SignedDuration::from_mins(1) {
        Unit::Second
    } else {
        Unit::Minute
    };
    length.round(unit).unwrap_or(length)
}
