//! The little that must survive a restart, in one versioned file.
//!
//! Written whole to a temporary file beside it, flushed, renamed: losing power at any byte loses at most
//! what changed in the last moment. A file that cannot be read is set aside and reported, never silently reset.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    devices::{ArmedCountdowns, energy::EnergyCounters},
    scheduler::PersistedScheduler,
    system::clock::{AsOf, Clock, sleep_until_some},
};
use planner::{DeviceId, GroupId};

/// The form of the file. A file of a newer form is set aside, because it cannot be understood.
const VERSION: u32 = 1;
/// Before a failed write is tried again. Each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// After each write, as long as a slow disk takes for one: many changes at once are a few writes.
const PAUSE: Duration = Duration::from_millis(20);

/// Everything that is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Persisted {
    /// Devices that somebody deleted in Home Assistant: not announced again until asked.
    #[serde(default)]
    pub deleted_in_home_assistant: BTreeSet<DeviceId>,
    /// What each outlet used in all.
    #[serde(default)]
    pub energy: EnergyCounters,
    /// The same of groups.
    #[serde(default)]
    pub groups_deleted_in_home_assistant: BTreeSet<GroupId>,
    /// When the countdowns end that were armed on devices.
    #[serde(default)]
    pub countdowns: ArmedCountdowns,
    /// What the scheduler must not forget.
    #[serde(default)]
    pub scheduler: PersistedScheduler,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    /// The clocks when it was written; not in files of 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock: Option<AsOf>,
    #[serde(flatten)]
    saved: Persisted,
}

/// What became of the file at start.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// There was none.
    Fresh,
    /// It was read.
    Read,
    /// It could not be read, and lies at `to` now.
    SetAside {
        /// Where it is.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

/// Changes what is kept. Clones share it; the [`Writer`] sees every change.
#[derive(Debug, Clone)]
pub struct Store {
    saved: watch::Sender<Persisted>,
    trouble: watch::Receiver<Option<String>>,
}

impl Store {
    /// What is kept now.
    pub fn saved(&self) -> Persisted {
        self.saved.borrow().clone()
    }

    /// Why what is kept is not in the file, and what to do, while the file cannot be written.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Reports each change from now on.
    pub fn changes(&self) -> watch::Receiver<Persisted> {
        self.saved.subscribe()
    }

    /// Changes it in place. `change` says whether it changed anything.
    pub fn update(&self, change: impl FnOnce(&mut Persisted) -> bool) {
        self.saved.send_if_modified(change);
    }

    /// Replaces a part of it; an equal value is not written again.
    pub fn replace<T: PartialEq>(&self, part: fn(&mut Persisted) -> &mut T, value: T) {
        self.saved.send_if_modified(|saved| {
            let part = part(saved);
            let changed = *part != value;
            *part = value;
            changed
        });
    }
}

/// The task that writes the file.
#[derive(Debug)]
pub struct Writer {
    path: Option<PathBuf>,
    changes: watch::Receiver<Persisted>,
    trouble: watch::Sender<Option<String>>,
    clock: Clock,
}

/// Reads the file, if one is configured, and pairs what it held with a writer for what changes.
///
/// # Errors
/// If the file exists and can neither be read nor set aside: going on would overwrite it.
///
/// The steady clock goes on from where the file left it.
pub fn open(path: Option<PathBuf>, clock: &Clock) -> io::Result<(Store, Writer, Loaded)> {
    let (saved, as_of, loaded) = match &path {
        None => (Persisted::default(), None, Loaded::Fresh),
        Some(path) => load(path)?,
    };
    if let Some(as_of) = &as_of {
        clock.continue_from(as_of);
    }
    let (saved, changes) = watch::channel(saved);
    let (trouble, told) = watch::channel(None);
    let keeper = Store { saved, trouble: told };
    let writer = Writer {
        path,
        changes,
        trouble,
        clock: clock.clone(),
    };
    Ok((keeper, writer, loaded))
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
            let saved = self.changes.borrow_and_update().clone();
            let (target, as_of) = (path.clone(), self.clock.as_of());
            let written = spawn_blocking(move || write(&target, saved, as_of))
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

    /// Logs the first failure and the end of failures, and shows the last one to all keepers.
    fn report(&self, path: &Path, error: Option<io::Error>) {
        let trouble = error.map(|error| cannot_write(path, &error));
        let before = self.trouble.send_replace(trouble.clone());
        match (before, trouble) {
            (None, Some(trouble)) => error!("{trouble}"),
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

fn load(path: &Path) -> io::Result<(Persisted, Option<AsOf>, Loaded)> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Persisted::default(), None, Loaded::Fresh));
        }
        Err(error) => return Err(error),
    };
    match decode(&bytes) {
        Ok((saved, as_of)) => Ok((saved, as_of, Loaded::Read)),
        Err(why) => {
            let to = free_name(path);
            fs::rename(path, &to)?;
            Ok((Persisted::default(), None, Loaded::SetAside { to, why }))
        }
    }
}

fn decode(bytes: &[u8]) -> Result<(Persisted, Option<AsOf>), String> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if envelope.version != VERSION {
        return Err(format!(
            "it has version {}, this program reads version {VERSION}",
            envelope.version
        ));
    }
    Ok((envelope.saved, envelope.clock))
}

fn write(path: &Path, saved: Persisted, as_of: AsOf) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(&Envelope {
        version: VERSION,
        clock: Some(as_of),
        saved,
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
    use proptest::prelude::*;

    use super::*;
    use crate::devices::energy::{Counters, EnergyCounter};
    use planner::units::{MilliWattHours, WattHours};

    /// With all that an account may have.
    fn account() -> EnergyCounter {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut account = EnergyCounter::new("8022-02", now);
        let shown = Counters {
            month: Some(("2026-11-21T08:00:00".parse().unwrap(), WattHours::new(7))),
            since_restart: Some(MilliWattHours::new(9)),
        };
        account.read("8022-02", shown, now);
        account
    }

    use test_inputs::{damaged, json};

    const SCHEDULER: &str = r#"{
        "relays": {"8022/1": {
            "name": "mats/1",
            "run": {"on_since": "2024-06-21T08:00:00Z"},
            "timer": {"set_at": "2024-06-21T08:00:00Z", "ends": {"steady": "2024-06-21T09:00:00Z"}, "seconds": 3600, "to": "OFF"},
            "override": {"stance": "on", "set_at": "2024-06-21T08:00:00Z", "since": "2024-06-21T08:00:00Z", "ends": "at_edge", "origin": "device"}
        }},
        "devices": {"mats": {"hardware": "8022", "positions": [1, 2]}},
        "vacation": {"since": "2024-06-21T08:00:00Z"},
        "schedule_changes": {"driveway": {"noon": {"set": {"id": "noon", "start": "12:00", "for": "1h"}}, "old": "removed"}},
        "groups": {"driveway": {"memory": {"noon": {"at": "2024-06-21T08:00:00Z", "memory": {"was": "active"}}}}}
    }"#;

    fn saved() -> Persisted {
        Persisted {
            deleted_in_home_assistant: ["heater".parse().unwrap(), "mats".parse().unwrap()].into(),
            countdowns: [("8022".to_owned(), vec![jiff::Timestamp::UNIX_EPOCH])].into(),
            energy: [("mats/2".to_owned(), account())].into(),
            groups_deleted_in_home_assistant: ["driveway".parse().unwrap()].into(),
            scheduler: serde_json::from_str(SCHEDULER).unwrap(),
        }
    }

    #[tokio::test]
    async fn what_changed_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (keeper, writer, loaded) = open(Some(path.clone()), &Clock::system()).unwrap();
        assert_eq!(loaded, Loaded::Fresh);
        let stop = CancellationToken::new();
        keeper.replace(|kept| kept, saved());
        stop.cancel();
        writer.run(stop).await;

        let (keeper, _writer, loaded) = open(Some(path), &Clock::system()).unwrap();
        assert_eq!((keeper.saved(), loaded), (saved(), Loaded::Read));
    }

    #[tokio::test]
    async fn what_is_equal_is_no_change() {
        let (keeper, writer, _) = open(None, &Clock::system()).unwrap();
        keeper.replace(|kept| &mut kept.energy, saved().energy);
        assert!(writer.changes.has_changed().unwrap());
        let mut changes = writer.changes;
        changes.mark_unchanged();
        keeper.replace(|kept| &mut kept.energy, saved().energy);
        assert!(!changes.has_changed().unwrap());
        assert_eq!(keeper.saved().energy, saved().energy);
        assert_eq!(keeper.saved().scheduler, PersistedScheduler::default());
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
        let (keeper, writer, _) = open(Some(path.clone()), &Clock::system()).unwrap();
        let mut trouble = keeper.trouble.clone();
        let stop = CancellationToken::new();
        let task = crate::system::tasks::Tasks::default().spawn("state writer", writer.run(stop.clone()));
        keeper.replace(|kept| &mut kept.energy, saved().energy);
        let begin = Instant::now();
        let mut attempts = Vec::new();
        for _ in 0..9 {
            trouble.changed().await.unwrap();
            attempts.push(begin.elapsed().as_secs());
            // Further changes wait for the next attempt.
            let day = jiff::Timestamp::from_second(i64::try_from(attempts.len()).unwrap()).unwrap();
            keeper.replace(
                |kept| &mut kept.energy,
                [("mats/1".to_owned(), EnergyCounter::new("8022-01", day))].into(),
            );
        }
        assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        let told = keeper.trouble().unwrap();
        assert!(told.contains(&path.display().to_string()), "{told}");
        assert!(told.contains("Is a directory"), "{told}");
        assert!(told.contains("check that the folder exists"), "{told}");

        fs::remove_dir(obstacle).unwrap();
        trouble.wait_for(Option::is_none).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), 243);
        let on_disk = open(Some(path), &Clock::system()).unwrap().0.saved();
        assert_eq!(on_disk, keeper.saved());
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_tried_once_more_at_the_stop() {
        let folder = tempfile::tempdir().unwrap();
        let (path, obstacle) = blocked(folder.path());
        let (keeper, writer, _) = open(Some(path.clone()), &Clock::system()).unwrap();
        let mut trouble = keeper.trouble.clone();
        let stop = CancellationToken::new();
        let task = crate::system::tasks::Tasks::default().spawn("state writer", writer.run(stop.clone()));
        keeper.replace(|kept| kept, saved());
        trouble.wait_for(Option::is_some).await.unwrap();
        let begin = Instant::now();
        fs::remove_dir(obstacle).unwrap();
        stop.cancel();
        task.await.unwrap();
        assert!(
            begin.elapsed() < FIRST_RETRY,
            "it does not wait for its next attempt"
        );
        assert_eq!(keeper.trouble(), None);
        assert_eq!(open(Some(path), &Clock::system()).unwrap().0.saved(), saved());
    }

    #[test]
    fn a_file_cut_at_any_byte_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, saved(), Clock::system().as_of()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (kept, _, loaded) = load(&path).unwrap();
            assert_eq!(kept, Persisted::default());
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

    #[test]
    fn a_newer_version_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(with_suffix(&path, ".broken"), "older").unwrap();
        fs::write(&path, r#"{"version": 2, "novel": true}"#).unwrap();
        let (_, _, loaded) = load(&path).unwrap();
        let Loaded::SetAside { to, why } = loaded else {
            panic!("{loaded:?}")
        };
        assert!(to.ends_with("state.json.broken-2"), "{to:?}");
        assert!(why.contains("version 2"), "{why}");
    }

    fn any_saved() -> impl Strategy<Value = Persisted> {
        prop::collection::btree_set("[a-z0-9_-]{1,20}", 0..5).prop_map(|ids| Persisted {
            deleted_in_home_assistant: ids.iter().filter_map(|id| id.parse().ok()).collect(),
            groups_deleted_in_home_assistant: ids.iter().filter_map(|id| id.parse().ok()).collect(),
            scheduler: PersistedScheduler::default(),
            energy: EnergyCounters::default(),
            countdowns: ArmedCountdowns::default(),
        })
    }

    fn encoded(saved: &Persisted) -> Vec<u8> {
        let envelope = Envelope {
            clock: None,
            version: VERSION,
            saved: saved.clone(),
        };
        serde_json::to_vec_pretty(&envelope).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(saved in any_saved()) {
            prop_assert_eq!(decode(&encoded(&saved)), Ok((saved, None)));
        }

        #[test]
        fn a_damaged_file_is_read_or_refused_without_a_panic(
            bytes in prop_oneof![
                any_saved().prop_flat_map(|saved| damaged(encoded(&saved))),
                prop::collection::vec(any::<u8>(), 0..200),
                json(&["version", "deleted_in_home_assistant"]).prop_map(|json| json.to_string().into_bytes()),
            ],
        ) {
            if let Ok((saved, _)) = decode(&bytes) {
                prop_assert_eq!(decode(&encoded(&saved)), Ok((saved, None)));
            }
        }
    }
}
