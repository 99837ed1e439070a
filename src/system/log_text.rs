//! What is logged, as tests read it.

use std::{
    io,
    sync::{Arc, Mutex},
};

/// Where lines are written. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct LogText(Arc<Mutex<Vec<u8>>>);

impl LogText {
    /// What was written.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for LogText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged by this thread while the guard lives.
pub(crate) fn logging() -> (LogText, tracing::subscriber::DefaultGuard) {
    let log = LogText::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    (log, tracing::subscriber::set_default(subscriber.finish()))
}

/// What these events are logged as.
pub(crate) fn logged(events: impl FnOnce()) -> String {
    let (log, _guard) = logging();
    events();
    log.text()
}
