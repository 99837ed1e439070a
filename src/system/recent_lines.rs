//! The last lines of the log.

use std::collections::VecDeque;

/// Bytes of lines that are kept.
const CAPACITY: usize = 96 * 1024;

/// Lines, the newest last. Their length together is bounded.
#[derive(Debug)]
pub(super) struct RecentLines {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl RecentLines {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Keeps a line.
    pub(super) fn push(&mut self, line: &[u8]) {
        self.bytes += line.len();
        self.lines.push_back(line.into());
        while self.bytes > CAPACITY
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    /// The last ones, at most so many, without colors and line ends.
    pub(super) fn last(&self, most: usize) -> Vec<String> {
        let first = self.lines.len().saturating_sub(most);
        let lines = self.lines.iter().skip(first);
        lines.map(|line| plain(&String::from_utf8_lossy(line))).collect()
    }
}

/// Without the sequences that color a terminal: texts from outside have no such character.
fn plain(line: &str) -> String {
    let mut parts = line.trim_end().split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or(part, |(_, rest)| rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_without_colors() {
        let mut recent = RecentLines::new();
        recent.push(b"\x1b[2m2026\x1b[0m \x1b[32m INFO\x1b[0m mmm\n");
        recent.push("Küche\n".as_bytes());
        assert_eq!(recent.last(5), ["2026  INFO mmm", "Küche"]);
        assert_eq!(recent.last(1), ["Küche"]);
        for _ in 0..3 {
            recent.push(&vec![b'x'; CAPACITY / 2]);
        }
        assert_eq!((recent.lines.len(), recent.bytes), (2, CAPACITY));
    }
}
