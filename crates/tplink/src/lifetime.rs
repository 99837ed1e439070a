//! When a session is over by the clock of this machine.

use std::time::Duration;

use tokio::time::Instant;

/// Sessions are renewed this long before the device ends them: its clock may be fast (python-kasa).
const MARGIN: Duration = Duration::from_mins(20);
/// No session is believed to live longer, whatever the device says.
const LONGEST: Duration = Duration::from_hours(24 * 7);

/// When to stop using a session that was promised to live so long. One that lives for minutes only is
/// renewed after half of them.
pub(crate) fn expiry(promised: Option<Duration>) -> Instant {
    let promised = promised.unwrap_or(Duration::from_hours(24)).min(LONGEST);
    Instant::now() + promised.saturating_sub(MARGIN).max(promised / 2)
}
