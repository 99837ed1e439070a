//! Bounds the log of commands. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Lines that may be written at once.
const BURST: u32 = 200;
/// The time after which one more line may be written.
const PER_LINE: Duration = Duration::from_millis(100);
/// The time without another line after which a flood is over.
const QUIET: Duration = Duration::from_secs(1);

/// Bounds the lines about commands and requests: a flood of them must not fill a disk.
#[derive(Debug)]
pub(super) struct LogLimit {
    lines: u32,
    refilled: Instant,
    suppressed: u64,
    suppressed_at: Instant,
}

impl LogLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            lines: BURST,
            refilled: now,
            suppressed: 0,
            suppressed_at: now,
        }
    }

    /// Whether a line may be written now. `Some` has the number of lines that were not, since the last one that was.
    pub(super) fn line(&mut self, now: Instant) -> Option<u64> {
        let elapsed = now.duration_since(self.refilled).as_millis() / PER_LINE.as_millis();
        if let Some(more) = u32::try_from(elapsed).ok().filter(|more| *more < BURST) {
            self.lines = self.lines.saturating_add(more).min(BURST);
            self.refilled += PER_LINE * more;
        } else {
            self.lines = BURST;
            self.refilled = now;
        }
        if self.lines == 0 {
            self.suppressed += 1;
            self.suppressed_at = now;
            return None;
        }
        self.lines -= 1;
        Some(self.take_suppressed())
    }

    /// Whether a flood is over, of which lines were not written.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.suppressed > 0 && now.duration_since(self.suppressed_at) >= QUIET
    }

    /// The number of lines that were not written and not counted yet.
    pub(super) fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_logged_and_a_flood_is_counted() {
        let start = Instant::now();
        let mut limit = LogLimit::new(start);
        let flood = (0..1000).filter_map(|_| limit.line(start)).collect::<Vec<_>>();
        assert_eq!(flood, vec![0; 200]);
        assert_eq!(limit.line(start + PER_LINE), Some(800));
        assert_eq!(limit.line(start + PER_LINE), None);
        assert_eq!(limit.line(start + 3 * PER_LINE), Some(1));
        assert_eq!(limit.line(start + Duration::from_hours(1)), Some(0));
        assert_eq!(limit.lines, BURST - 1);
    }

    #[test]
    fn a_flood_is_over_a_second_after_its_last_line() {
        let start = Instant::now();
        let mut limit = LogLimit::new(start);
        for _ in 0..BURST + 2 {
            limit.line(start);
        }
        let last = start + PER_LINE / 2;
        assert_eq!(limit.line(last), None);
        assert!(!limit.is_over(start + QUIET) && limit.is_over(last + QUIET));
        assert_eq!(limit.take_suppressed(), 3);
        assert!(!limit.is_over(last + 2 * QUIET), "it was said");
    }
}
