//! What the bridge writes to its log, from `info` up.

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
    sync::Once,
};

type Lines = Rc<RefCell<Vec<u8>>>;

thread_local! {
    static CAPTURED: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

/// Captures the lines of this thread as long as it lives. A `#[tokio::test]` runs all its tasks on its own
/// thread.
///
/// There is one subscriber for all threads: `tracing` decides once for the process whether something reads
/// a line, and a subscriber of one thread may lose that to the silence of another.
pub struct Log(Lines);

impl Log {
    /// Starts with nothing captured.
    pub fn capture() -> Self {
        static SUBSCRIBER: Once = Once::new();
        let log = Self(Lines::default());
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_ansi(false);
            subscriber.with_writer(|| ThisThread).init();
        });
        CAPTURED.set(Some(log.0.clone()));
        log
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.borrow().clone()).expect("a log in UTF-8");
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        CAPTURED.set(None);
    }
}

struct ThisThread;

impl Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow(|captured| {
            if let Some(lines) = captured {
                lines.borrow_mut().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
