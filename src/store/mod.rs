//! The little that must survive a restart, in one versioned file.
//!
//! Written whole to a temporary file beside it, flushed, renamed: losing power at any byte loses at most
//! what changed in the last moment. A file that cannot be read is set aside and reported, never silently reset.

mod section;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::system::clock::{AsOf, Clock, sleep_until_some};
use section::Encode;

pub use section::Section;

/// The form of the file. A file of a newer form is set aside, because it cannot be understood.
const VERSION: u32 = 1;
/// Before a failed write is tried again. Each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// After each write, as long as a slow disk takes for one: many changes at once are a few writes.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    version: u32,
    /// The clocks when it was written; not in files of 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock: Option<AsOf>,
    #[serde(flatten)]
    sections: Map<String, Value>,
}

/// What became of the file at start.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// There was none.
    Fresh,
    /// It was read.
    Read,
    /// It, or a part of it, could not be read, and lies at `to` now.
    SetAside {
        /// Where it is.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

/// The file while its parts are read.
#[derive(Debug)]
pub struct StateFile {
    path: Option<PathBuf>,
    /// What was in it; `None` if there was none.
    content: Option<Map<String, Value>>,
    /// What was wrong with it first.
    fault: Option<String>,
    sections: Vec<(&'static str, Box<dyn Encode>)>,
    changed: watch::Sender<()>,
    clock: Clock,
}

impl StateFile {
    /// Reads the file, if one is configured. The steady clock goes on from where the file left it.
    ///
    /// # Errors
    /// If the file exists and cannot be read: going on would overwrite it.
    pub fn open(path: Option<PathBuf>, clock: &Clock) -> io::Result<Self> {
        let bytes = match &path {
            None => None,
            Some(path) => match fs::read(path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
        };
        let (content, fault) = match bytes.map(|bytes| decode(&bytes)) {
            None => (None, None),
            Some(Ok(envelope)) => {
                if let Some(as_of) = &envelope.clock {
                    clock.continue_from(as_of);
                }
                (Some(envelope.sections), None)
            }
            Some(Err(why)) => (Some(Map::new()), Some(why)),
        };
        Ok(Self {
            path,
            content,
            fault,
            sections: Vec::new(),
            changed: watch::Sender::new(()),
            clock: clock.clone(),
        })
    }

    /// The part under a name; one that is missing, or cannot be read, is empty.
    pub fn section<T>(&mut self, name: &'static str) -> Section<T>
    where
        T: Clone + Default + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let kept = self.content.as_mut().and_then(|content| content.remove(name));
        let value = kept.map(serde_json::from_value).transpose();
        let value = value.unwrap_or_else(|error| {
            self.fault.get_or_insert(format!("{name}: {error}"));
            None
        });
        let section = Section::new(value.unwrap_or_default(), self.changed.clone());
        self.sections.push((name, Box::new(section.clone())));
        section
    }

    /// Pairs the parts with a writer for what changes. A file of which something could not be read is set aside first.
    ///
    /// # Errors
    /// If it cannot be set aside: going on would overwrite it.
    pub fn finish(self) -> io::Result<(StateFileStatus, Writer, Loaded)> {
        let mut changes = self.changed.subscribe();
        let loaded = match (&self.path, self.fault) {
            (Some(path), Some(why)) => {
                let to = free_name(path);
                fs::rename(path, &to)?;
                // What could be read is in no file now.
                changes.mark_changed();
                Loaded::SetAside { to, why }
            }
            _ if self.content.is_some() => Loaded::Read,
            _ => Loaded::Fresh,
        };
        let (error, status) = watch::channel(None);
        let writer = Writer {
            path: self.path,
            sections: self.sections.into(),
            changes,
            error,
            clock: self.clock,
            _changed: self.changed,
        };
        Ok((StateFileStatus(status), writer, loaded))
    }
}

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
}

/// The task that writes the file.
#[derive(Debug)]
pub struct Writer {
    path: Option<PathBuf>,
    sections: Arc<[(&'static str, Box<dyn Encode>)]>,
    changes: watch::Receiver<()>,
    error: watch::Sender<Option<String>>,
    clock: Clock,
    /// Parts may be gone before the stop.
    _changed: watch::Sender<()>,
}

impl Writer {
    /// Writes each change until the stop, and what changed before it once more. A write that fails is tried again
    /// after a while, with what has changed by then.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(path) = self.path.take() else {
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
            self.changes.mark_unchanged();
            let (target, sections, as_of) = (path.clone(), self.sections.clone(), self.clock.as_of());
            let written = spawn_blocking(move || write(&target, &sections, as_of))
                .await
                .unwrap_or_else(|e| Err(io::Error::other(e)));
            retry_at = written.is_err().then(|| Instant::now() + wait);
            wait = match written {
                Ok(()) => FIRST_RETRY,
                Err(_) => (wait * 2).min(LONGEST_RETRY),
            };
            self.report(&path, written.err());
            if last {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Logs the first failure and the end of failures, and shows the last one.
    fn report(&self, path: &Path, error: Option<io::Error>) {
        let text = error.map(|error| cannot_write(path, &error));
        let before = self.error.send_replace(text.clone());
        match (before, text) {
            (None, Some(text)) => error!("{text}"),
            (Some(_), None) => info!(file = %path.display(), "the state file can be written again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!(
        "the state file {} cannot be written: {error}; a restart now loses what changed. The bridge tries again; check \
         that the folder exists, that the bridge may write to it, and that the disk is not full",
        path.display()
    )
}

fn decode(bytes: &[u8]) -> Result<Envelope, String> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if envelope.version != VERSION {
        return Err(format!(
            "it has version {}, this program reads version {VERSION}",
            envelope.version
        ));
    }
    Ok(envelope)
}

fn write(path: &Path, sections: &[(&'static str, Box<dyn Encode>)], as_of: AsOf) -> io::Result<()> {
    let encoded = sections
        .iter()
        .map(|(name, section)| Ok(((*name).to_owned(), section.encode()?)));
    let text = serde_json::to_vec_pretty(&Envelope {
        version: VERSION,
        clock: Some(as_of),
        sections: encoded.collect::<io::Result<_>>()?,
    })?;
    let temporary = with_suffix(path, ".new");
    let mut file = File::create(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The rename itself lasts only once the folder is on the disk.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// `state.json.broken`, or with a number if that exists: what was set aside earlier is kept too.
fn free_name(path: &Path) -> PathBuf {
    let first = with_suffix(path, ".broken");
    let numbered = (2_u32..).map(|n| with_suffix(path, &format!(".broken-{n}")));
    std::iter::once(first)
        .chain(numbered)
        .find(|name| !name.exists())
        .unwrap_or_else(|| with_suffix(path, ".broken"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use test_inputs::{damaged, json};

    use super::*;
    use crate::system::tasks::Tasks;

    type Numbers = BTreeMap<String, u64>;

    fn open(
        path: &Path,
    ) -> (
        Section<Numbers>,
        Section<Vec<bool>>,
        StateFileStatus,
        Writer,
        Loaded,
    ) {
        let mut file = StateFile::open(Some(path.to_owned()), &Clock::system()).unwrap();
        let (numbers, flags) = (file.section("numbers"), file.section("flags"));
        let (status, writer, loaded) = file.finish().unwrap();
        (numbers, flags, status, writer, loaded)
    }

    fn numbers(value: u64) -> Numbers {
        [("answer".to_owned(), value)].into()
    }

    /// Writes what is in the sections.
    async fn flush(writer: Writer) {
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;
    }

    #[tokio::test]
    async fn what_changed_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (kept, flags, _, writer, loaded) = open(&path);
        assert_eq!(loaded, Loaded::Fresh);
        kept.set(numbers(42));
        flags.set(vec![true]);
        flush(writer).await;

        let (kept, flags, _, _, loaded) = open(&path);
        assert_eq!(
            (kept.get(), flags.get(), loaded),
            (numbers(42), vec![true], Loaded::Read)
        );
    }

    /// A path that cannot be written, not even by root, until the folder at the name of the temporary file is gone.
    fn blocked(folder: &Path) -> (PathBuf, PathBuf) {
        let path = folder.join("state.json");
        let obstacle = with_suffix(&path, ".new");
        fs::create_dir(&obstacle).unwrap();
        (path, obstacle)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_tried_again_until_it_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let (path, obstacle) = blocked(folder.path());
        let (kept, _, status, writer, _) = open(&path);
        let mut error = status.0.clone();
        let stop = CancellationToken::new();
        let task = Tasks::default().spawn("state writer", writer.run(stop.clone()));
        kept.set(numbers(0));
        let begin = Instant::now();
        let mut attempts = Vec::new();
        for number in 1..=9 {
            error.changed().await.unwrap();
            attempts.push(begin.elapsed().as_secs());
            // Further changes wait for the next attempt.
            kept.set(numbers(number));
        }
        assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        let shown = status.error().unwrap();
        assert!(shown.contains(&path.display().to_string()), "{shown}");
        assert!(shown.contains("Is a directory"), "{shown}");
        assert!(shown.contains("check that the folder exists"), "{shown}");

        fs::remove_dir(obstacle).unwrap();
        error.wait_for(Option::is_none).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), 243);
        assert_eq!(open(&path).0.get(), numbers(9));
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_tried_once_more_at_the_stop() {
        let folder = tempfile::tempdir().unwrap();
        let (path, obstacle) = blocked(folder.path());
        let (kept, _, status, writer, _) = open(&path);
        let mut error = status.0.clone();
        let stop = CancellationToken::new();
        let task = Tasks::default().spawn("state writer", writer.run(stop.clone()));
        kept.set(numbers(1));
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
        assert_eq!(open(&path).0.get(), numbers(1));
    }

    #[tokio::test]
    async fn a_file_cut_at_any_byte_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (kept, _, _, writer, _) = open(&path);
        kept.set(numbers(1));
        flush(writer).await;
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (kept, _, _, _, loaded) = open(&path);
            assert_eq!(kept.get(), Numbers::new());
            let Loaded::SetAside { to, .. } = loaded else {
                panic!("{length}: {loaded:?}")
            };
            assert_eq!(
                fs::read(&to).unwrap(),
                &whole[..length],
                "what was lost can be looked at"
            );
            fs::remove_file(to).unwrap();
        }
    }

    #[tokio::test]
    async fn a_part_that_cannot_be_read_costs_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let text = r#"{"version": 1, "numbers": {"answer": -1}, "flags": [true]}"#;
        fs::write(&path, text).unwrap();
        let (kept, flags, _, writer, loaded) = open(&path);
        assert_eq!((kept.get(), flags.get()), (Numbers::new(), vec![true]));
        let Loaded::SetAside { to, why } = loaded else {
            panic!("{loaded:?}")
        };
        assert!(why.starts_with("numbers: "), "{why}");
        assert_eq!(fs::read_to_string(to).unwrap(), text);
        flush(writer).await;
        assert_eq!(open(&path).1.get(), [true]);
    }

    #[test]
    fn a_newer_version_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(with_suffix(&path, ".broken"), "older").unwrap();
        fs::write(&path, r#"{"version": 2, "novel": true}"#).unwrap();
        let Loaded::SetAside { to, why } = open(&path).4 else {
            panic!("it was read")
        };
        assert!(to.ends_with("state.json.broken-2"), "{to:?}");
        assert!(why.contains("version 2"), "{why}");
    }

    fn encoded(numbers: &Numbers) -> Vec<u8> {
        let sections = serde_json::json!({ "numbers": numbers });
        let envelope = Envelope {
            clock: None,
            version: VERSION,
            sections: sections.as_object().unwrap().clone(),
        };
        serde_json::to_vec_pretty(&envelope).unwrap()
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_read_or_refused_without_a_panic(
            bytes in prop_oneof![
                prop::collection::btree_map("[a-z0-9_-]{1,20}", any::<u64>(), 0..5)
                    .prop_flat_map(|numbers| damaged(encoded(&numbers))),
                prop::collection::vec(any::<u8>(), 0..200),
                json(&["version", "numbers"]).prop_map(|json| json.to_string().into_bytes()),
            ],
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.json");
            fs::write(&path, bytes).unwrap();
            let (kept, ..) = open(&path);
            prop_assert_eq!(serde_json::from_slice::<Numbers>(&serde_json::to_vec(&kept.get()).unwrap()).unwrap(), kept.get());
        }
    }
}
