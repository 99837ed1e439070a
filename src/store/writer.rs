//! Writes the state file when something changed.

use std::{io, path::PathBuf, sync::mpsc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{disk_file::DiskFile, envelope::Envelope, progress::Progress, section::Encode};
use crate::system::{
    clock::{AsOf, Clock, sleep_until_some},
    tasks,
};

/// Before a failed write is tried again. Each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// After each write, as long as a slow disk takes for one: many changes at once are a few writes.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether the file can be written.
#[derive(Debug, Clone)]
pub struct StateFileStatus(watch::Receiver<Option<String>>);

/// Without a file there is nothing to go wrong.
impl Default for StateFileStatus {
    fn default() -> Self {
        Self(watch::channel(None).1)
    }
}

impl StateFileStatus {
    /// Why what is kept is not in the file, and what to do, while the file cannot be written.
    pub fn error(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Waits until that changes.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nothing is written any more.
            std::future::pending::<()>().await;
        }
    }
}

/// What is written, and where.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) file: DiskFile,
    pub(super) base_topic: String,
    pub(super) sections: Vec<(&'static str, Box<dyn Encode>)>,
    /// What is there cannot be read, and is set aside before it is written.
    pub(super) is_damaged: bool,
}

impl Output {
    fn write(&mut self, as_of: AsOf) -> io::Result<()> {
        if self.is_damaged {
            match self.file.set_aside() {
                // It was removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done.map(drop)?,
            }
            self.is_damaged = false;
        }
        let encoded = self
            .sections
            .iter_mut()
            .map(|(name, section)| Ok((*name, section.encoded()?)));
        let sections = encoded.collect::<io::Result<Vec<_>>>()?;
        let content = Envelope::encode(&self.base_topic, as_of, &sections)?;
        self.file.replace(content.as_bytes())
    }
}

/// A write, with the clocks now. The result goes back.
type Job = (AsOf, oneshot::Sender<io::Result<()>>);

/// The task that has the file written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    /// To the thread that writes; `None` without a file.
    jobs: Option<mpsc::Sender<Job>>,
    changes: watch::Receiver<u64>,
    error: watch::Sender<Option<String>>,
    clock: Clock,
    progress: Progress,
}

impl Writer {
    /// Starts the thread. It is there from the start and does nothing else, so that no write waits for threads that a name
    /// server holds up. It writes at once if `is_elsewhere` says that no file of this name has what is kept.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(
        output: Option<Output>,
        is_elsewhere: bool,
        progress: Progress,
        clock: Clock,
    ) -> io::Result<(StateFileStatus, Self)> {
        let mut changes = progress.subscribe();
        let mut error = None;
        let mut path = PathBuf::new();
        let mut jobs = None;
        if let Some(mut output) = output {
            output.file.path().clone_into(&mut path);
            error = output.file.try_replace().err();
            // What cannot be written now is tried again.
            if is_elsewhere || error.is_some() {
                changes.mark_changed();
            }
            progress.on_write(0, error.is_some());
            let (to_thread, received) = mpsc::channel::<Job>();
            tasks::thread("state file", move || {
                for (as_of, done) in received {
                    // The task may be gone at the end of the process.
                    let _gone = done.send(output.write(as_of));
                }
            })?;
            jobs = Some(to_thread);
        }
        let writer = Self {
            error: watch::Sender::new(error.map(|error| cannot_write(&path, &error))),
            path,
            jobs,
            changes,
            clock,
            progress,
        };
        Ok((StateFileStatus(writer.error.subscribe()), writer))
    }

    /// Writes each change until the stop, and what changed before it once more. A write that fails is tried again
    /// after a while, with what has changed by then.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(jobs) = self.jobs.take() else {
            return stop.cancelled().await;
        };
        let mut wait = FIRST_RETRY;
        let mut retry_at = None;
        loop {
            let last = tokio::select! {
                biased;
                changed = self.changes.changed(), if retry_at.is_none() => changed.is_err(),
                () = stop.cancelled() => true,
                () = sleep_until_some(retry_at) => false,
            };
            let changes = *self.changes.borrow_and_update();
            let (done, result) = oneshot::channel();
            // A thread that is gone drops the job, and with it its end of the channel.
            let _gone = jobs.send((self.clock.as_of(), done));
            let gone = |_| Err(io::Error::other("the thread that writes it ended"));
            let written = result.await.unwrap_or_else(gone);
            self.progress.on_write(changes, written.is_err());
            retry_at = written.is_err().then(|| Instant::now() + wait);
            wait = match written {
                Ok(()) => FIRST_RETRY,
                Err(_) => (wait * 2).min(LONGEST_RETRY),
            };
            self.report(written.err());
            if last {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.progress.awaited() => {}
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Logs the first failure and the end of failures, and shows the last one.
    fn report(&self, error: Option<io::Error>) {
        let text = error.map(|error| cannot_write(&self.path, &error));
        let before = self.error.send_replace(text.clone());
        match (before, text) {
            (None, Some(text)) => error!("{text}"),
            (Some(_), None) => info!(file = %self.path.display(), "the state file can be written again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
}

pub(super) fn cannot_write(path: &std::path::Path, error: &io::Error) -> String {
    format!(
        "the state file {} (state.file) cannot be written: {error}; a restart now loses what changed. The bridge tries \
         again; check that the folder exists, that the bridge may write to it, and that the disk is not full",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        store::{Section, StateFile, StateLocation},
        system::tasks::Tasks,
    };

    fn open(path: &Path) -> (Section<u64>, StateFileStatus, Writer) {
        let location = StateLocation {
            file: path.to_owned(),
            earlier: None,
            base_topic: "tapo2mqtt".to_owned(),
        };
        let mut file = StateFile::open(Some(location), &Clock::system()).unwrap();
        let number = file.section("number");
        let (status, writer, _) = file.finish().unwrap();
        (number, status, writer)
    }

    /// A path that cannot be written, not even by root, until the folder at the name of the temporary file is gone.
    fn blocked(folder: &Path) -> (PathBuf, PathBuf) {
        let path = folder.join("state.json");
        let obstacle = folder.join("state.json.new");
        fs::create_dir(&obstacle).unwrap();
        (path, obstacle)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_tried_again_until_it_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let (path, obstacle) = blocked(folder.path());
        let (kept, status, writer) = open(&path);
        let mut error = status.0.clone();
        let stop = CancellationToken::new();
        let task = Tasks::default().spawn("state writer", writer.run(stop.clone()));
        kept.set(1);
        let begin = Instant::now();
        let mut attempts = Vec::new();
        for number in 2..=10 {
            error.changed().await.unwrap();
            attempts.push(begin.elapsed().as_secs());
            // Further changes wait for the next attempt.
            kept.set(number);
        }
        assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        let shown = status.error().unwrap();
        assert!(shown.contains(&path.display().to_string()), "{shown}");
        assert!(shown.contains("Is a directory"), "{shown}");
        assert!(shown.contains("check that the folder exists"), "{shown}");

        fs::remove_dir(obstacle).unwrap();
        error.wait_for(Option::is_none).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), 243);
        assert_eq!(open(&path).0.get(), 10);
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_tried_once_more_at_the_stop() {
        let folder = tempfile::tempdir().unwrap();
        let (path, obstacle) = blocked(folder.path());
        let (kept, status, writer) = open(&path);
        let mut error = status.0.clone();
        let stop = CancellationToken::new();
        let task = Tasks::default().spawn("state writer", writer.run(stop.clone()));
        kept.set(1);
        error.wait_for(Option::is_some).await.unwrap();
        let begin = Instant::now();
        fs::remove_dir(obstacle).unwrap();
        stop.cancel();
        task.await.unwrap();
        assert!(
            begin.elapsed() < FIRST_RETRY,
            "it does not wait for its next attempt"
        );
        assert_eq!(status.error(), None);
        assert_eq!(open(&path).0.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_cannot_be_written_is_known_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/state.json");
        let (kept, status, writer) = open(&path);
        let shown = status.error().unwrap();
        assert!(
            shown.contains("(state.file)") && shown.contains("No such file"),
            "{shown}"
        );

        // Nothing changes, and all the same it is tried again.
        let mut error = status.0.clone();
        let stop = CancellationToken::new();
        let task = Tasks::default().spawn("state writer", writer.run(stop.clone()));
        error.changed().await.unwrap();
        fs::create_dir(path.parent().unwrap()).unwrap();
        error.wait_for(Option::is_none).await.unwrap();
        kept.set(1);
        stop.cancel();
        task.await.unwrap();
        assert_eq!(open(&path).0.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_set_aside_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        // With .broken behind it, it is longer than a name may be; with .new it is not.
        let path = folder.path().join("s".repeat(250));
        fs::write(&path, "damaged").unwrap();
        let (kept, status, writer) = open(&path);
        let mut error = status.0.clone();
        let stop = CancellationToken::new();
        let task = Tasks::default().spawn("state writer", writer.run(stop.clone()));
        kept.set(1);
        error.wait_for(Option::is_some).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"damaged");
        assert!(status.error().unwrap().contains("too long"), "{status:?}");

        fs::remove_file(&path).unwrap();
        error.wait_for(Option::is_none).await.unwrap();
        stop.cancel();
        task.await.unwrap();
        assert_eq!(open(&path).0.get(), 1);
    }

    #[tokio::test]
    async fn a_change_can_be_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (kept, _, writer) = open(&path);
        let stop = CancellationToken::new();
        let task = Tasks::default().spawn("state writer", writer.run(stop.clone()));
        for number in 1..=5 {
            kept.set(number);
            let changes = kept.change_count();
            kept.written(changes).await;
            assert!(kept.is_written(changes));
            assert_eq!(open(&path).0.get(), number);
        }
        stop.cancel();
        task.await.unwrap();
        // Without a file, nothing is to wait for.
        let nowhere = Section::<u64>::default();
        nowhere.set(1);
        assert!(nowhere.is_written(nowhere.change_count()));
    }
}
