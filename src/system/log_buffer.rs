//! Log lines on their way to standard error.

use std::{
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::Duration,
};

use tracing::error;

use super::recent_lines::RecentLines;

/// How much waits for a reader. Further lines are lost.
const CAPACITY: usize = 256 * 1024;
/// Before a write to a pipe that is full and does not block is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Lines wait here, so that writing one never waits for a reader of the log: a pipe that is not read would
/// stop the bridge.
#[derive(Debug)]
pub(super) struct LogBuffer {
    waiting: Mutex<WaitingLines>,
    changed: Condvar,
}

#[derive(Debug)]
struct WaitingLines {
    bytes: Vec<u8>,
    /// Lines that did not fit since the last ones were taken.
    lost: u64,
    /// Lines that were taken are being written.
    is_writing: bool,
    recent: RecentLines,
}

impl LogBuffer {
    /// An empty one.
    pub(super) const fn new() -> Self {
        Self {
            waiting: Mutex::new(WaitingLines {
                bytes: Vec::new(),
                lost: 0,
                is_writing: false,
                recent: RecentLines::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Takes over a line, or counts it as lost if there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        waiting.recent.push(line);
        if waiting.bytes.len() + line.len() > CAPACITY {
            waiting.lost += 1;
        } else {
            waiting.bytes.extend_from_slice(line);
        }
        self.changed.notify_all();
    }

    /// The last lines, at most so many, whether they were read or not.
    pub(super) fn last(&self, most: usize) -> Vec<String> {
        self.lock().recent.last(most)
    }

    /// Waits for lines, writes them, and logs how many were lost behind them.
    pub(super) fn write_next(&self, output: &mut impl Write) {
        let waiting = self.lock();
        let is_idle = |waiting: &mut WaitingLines| waiting.bytes.is_empty() && waiting.lost == 0;
        let waited = self.changed.wait_while(waiting, is_idle);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut waiting.bytes);
        let lost = std::mem::take(&mut waiting.lost);
        waiting.is_writing = true;
        drop(waiting);
        if lost > 0 {
            // At the level that is always on, and before any newer line.
            error!("{lost} log lines lost: they were not read in time");
        }
        write_all(output, &lines);
        self.lock().is_writing = false;
        self.changed.notify_all();
    }

    /// Waits until all is written, at most `budget`.
    pub(super) fn flush(&self, budget: Duration) {
        let is_busy = |waiting: &mut WaitingLines| waiting.is_writing || !waiting.bytes.is_empty();
        let _timed_out = self.changed.wait_timeout_while(self.lock(), budget, is_busy);
    }

    /// A panic while the lock is held can only come from an allocation failure; the bytes stay lines.
    fn lock(&self) -> MutexGuard<'_, WaitingLines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each write is one whole line.
impl Write for &LogBuffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// There is nowhere to report an output that is closed.
fn write_all(output: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(written) if written > 0 => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY),
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes at a time, and nothing each second time.
    struct Slow {
        taken: Vec<u8>,
        room: usize,
        is_full: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.is_full = !self.is_full;
            if self.is_full {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = &bytes[..bytes.len().min(self.room)];
            self.taken.extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_whole_or_lost_and_counted() {
        let buffer = LogBuffer::new();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..CAPACITY / 1024 + 3 {
            (&buffer).write_all(&line).unwrap();
        }
        assert_eq!(buffer.lock().lost, 3);
        let mut output = Slow {
            taken: Vec::new(),
            room: 100_000,
            is_full: false,
        };
        buffer.write_next(&mut output);
        assert_eq!(output.taken, line.repeat(CAPACITY / 1024));
        assert_eq!(buffer.lock().lost, 0);
        (&buffer).write_all(b"later\n").unwrap();
        buffer.write_next(&mut output);
        assert!(output.taken.ends_with(b"x\nlater\n"));
        buffer.flush(Duration::MAX);
    }

    #[test]
    fn a_flush_waits_no_longer_than_it_may() {
        let buffer = LogBuffer::new();
        (&buffer).write_all(b"this is not read\n").unwrap();
        buffer.flush(Duration::from_millis(1));
        assert!(!buffer.lock().bytes.is_empty());
    }
}
