//! What the device counts, and what it says of it. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;

use crate::domain::report::Countdown;
use planner::Power;

/// What the device counts: tapo refuses anything else.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(24);

/// Rounded up, so that the bridge itself is first, and in the bounds of what the device counts.
pub(super) fn whole_seconds(left: Duration) -> Duration {
    let up = u64::from(left.subsec_nanos() > 0);
    Duration::from_secs(left.as_secs() + up).clamp(SHORTEST, LONGEST)
}

/// From now, negative if it is past.
pub(super) fn until(instant: Instant) -> SignedDuration {
    let now = Instant::now();
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    match instant.checked_duration_since(now) {
        Some(ahead) => signed(ahead),
        None => -signed(now.duration_since(instant)),
    }
}

/// To the second, as the device counts.
pub(super) fn ending(now: Timestamp, left: Duration) -> Timestamp {
    let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
    let ends = now.saturating_add(left).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(ends.as_second()).unwrap_or(ends)
}

/// What a reading says. A rule with nothing left has fired and is disabled: it only waits to be removed.
pub(super) fn countdown(value: &Value, now: Timestamp) -> Countdown {
    let left = value.get("remaining_s").and_then(Value::as_u64).unwrap_or(0);
    let to = value.get("on").and_then(Value::as_bool).map(Power::from);
    match to {
        Some(to) if left > 0 => Countdown::Running {
            to,
            ends: ending(now, Duration::from_secs(left)),
        },
        _ => Countdown::Idle,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_device_counts_whole_seconds_and_the_bridge_is_first() {
        let seconds = |ms| whole_seconds(Duration::from_millis(ms)).as_secs();
        assert_eq!(
            [0, 1, 1000, 1001, 59_999].map(seconds),
            [1, 1, 1, 2, 60],
            "at most 1 s later than asked for"
        );
        assert_eq!(seconds(90_000_000), 86_400);
    }

    #[test]
    fn a_rule_that_fired_is_none() {
        let now: Timestamp = "2026-11-21T10:00:00.7Z".parse().unwrap();
        let read = |value| countdown(&value, now);
        assert_eq!(read(json!(null)), Countdown::Idle);
        assert_eq!(read(json!({"on": false, "remaining_s": 0})), Countdown::Idle);
        assert_eq!(read(json!({"on": 1, "remaining_s": "9"})), Countdown::Idle);
        let running = Countdown::Running {
            to: Power::Off,
            ends: "2026-11-21T10:01:00Z".parse().unwrap(),
        };
        assert_eq!(read(json!({"on": false, "remaining_s": 60})), running);
        assert_eq!(
            ending(now, Duration::MAX),
            Timestamp::from_second(Timestamp::MAX.as_second()).unwrap()
        );
    }
}
