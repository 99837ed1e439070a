//! The little that must survive a restart, in one versioned file.
//!
//! Written whole to a temporary file beside it, flushed, renamed: losing power at any byte loses at most
//! what changed in the last moment. A file that cannot be read is set aside and reported, never silently reset.

mod disk_file;
mod envelope;
mod location;
mod progress;
mod salvage;
mod section;
mod stored;
mod writer;

use std::{io, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::system::clock::Clock;
use disk_file::DiskFile;
use location::FoundState;
use progress::Progress;
use salvage::Salvaged;
use section::{Encode, EncodedSection};
use writer::Output;

pub use disk_file::{folder_of, replace_file};
pub use location::{StateFileError, StateLocation};
pub use section::Section;
pub use stored::Stored;
pub use writer::{StateFileStatus, Writer};

/// What became of the file at start.
#[derive(Debug)]
pub enum Loaded {
    /// There was none.
    Fresh,
    /// It was read.
    Read,
    /// The one with this name was read, and the next write is to the configured one.
    ReadEarlier(PathBuf),
    /// It, or a part of it, could not be read.
    Damaged {
        /// What was wrong with it.
        why: String,
        /// Where it is now, unless it could not be set aside; then that is tried again before the first write.
        kept: io::Result<PathBuf>,
    },
}

/// A part of the file as it is on the disk, for whoever does not run the bridge. `None` if the file cannot be read.
pub fn peek<T: Default + DeserializeOwned>(location: &StateLocation, name: &str) -> Option<T> {
    let envelope = match location.read() {
        Ok(FoundState::Nothing) => return Some(T::default()),
        Ok(FoundState::Content(envelope) | FoundState::Earlier(envelope, _)) => envelope,
        Ok(FoundState::Damaged(_)) | Err(_) => return None,
    };
    match envelope.sections.get(name) {
        Some(section) => Salvaged::read(section.clone()).value,
        None => Some(T::default()),
    }
}

/// The file while its parts are read.
#[derive(Debug)]
pub struct StateFile {
    location: Option<StateLocation>,
    /// What was in it; `None` if there was none.
    content: Option<Map<String, Value>>,
    /// The file that was read instead.
    earlier: Option<PathBuf>,
    /// What was wrong with it first.
    fault: Option<String>,
    sections: Vec<(&'static str, Box<dyn Encode>)>,
    progress: Progress,
    clock: Clock,
    is_restored: bool,
}

impl StateFile {
    /// Reads the file, if one is configured. The steady clock goes on from where the file left it.
    ///
    /// # Errors
    /// If going on would overwrite what cannot be read or belongs to another bridge.
    pub fn open(location: Option<StateLocation>, clock: &Clock) -> Result<Self, StateFileError> {
        let is_restored = location.as_ref().is_some_and(StateLocation::take_backup);
        let found = location
            .as_ref()
            .map_or(Ok(FoundState::Nothing), StateLocation::read)?;
        let (mut earlier, mut fault) = (None, None);
        let envelope = match found {
            FoundState::Nothing => None,
            FoundState::Content(envelope) => Some(envelope),
            FoundState::Earlier(envelope, file) => {
                earlier = Some(file);
                Some(envelope)
            }
            FoundState::Damaged(why) => {
                fault = Some(why);
                None
            }
        };
        if let Some(as_of) = envelope.as_ref().and_then(|envelope| envelope.clock.as_ref()) {
            clock.continue_from(as_of);
        }
        Ok(Self {
            location,
            content: envelope.map(|envelope| envelope.sections),
            earlier,
            fault,
            sections: Vec::new(),
            progress: Progress::default(),
            clock: clock.clone(),
            is_restored,
        })
    }

    /// Whether it is a backup that was taken over at this start: what it says may be old.
    pub fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// The part under a name; one that is missing is empty. Of one that is damaged, what can be read is there.
    pub fn section<T>(&mut self, name: &'static str) -> Section<T>
    where
        T: Clone + Default + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let kept = self.content.as_mut().and_then(|content| content.remove(name));
        let salvaged = kept.map(Salvaged::read);
        let (value, fault) = salvaged.map_or((None, None), |salvaged| (salvaged.value, salvaged.fault));
        if let Some(fault) = fault {
            self.fault.get_or_insert(format!("{name}: {fault}"));
        }
        let section = Section::new(value.unwrap_or_default(), self.progress.clone());
        self.sections
            .push((name, Box::new(EncodedSection::new(&section))));
        section
    }

    /// Pairs the parts with a writer for what changes. A file of which something could not be read is set aside first.
    ///
    /// # Errors
    /// If the system has no thread for the writer.
    pub fn finish(self) -> Result<(StateFileStatus, Writer, Loaded), StateFileError> {
        let file = self
            .location
            .as_ref()
            .map(|location| DiskFile::new(location.file.clone()));
        let loaded = match (self.fault, self.earlier, &file) {
            // The earlier file stays where it is.
            (Some(why), Some(earlier), _) => Loaded::Damaged {
                why,
                kept: Ok(earlier),
            },
            (Some(why), None, Some(file)) => Loaded::Damaged {
                why,
                kept: file.set_aside(),
            },
            (None, Some(earlier), _) => Loaded::ReadEarlier(earlier),
            _ if self.content.is_some() => Loaded::Read,
            _ => Loaded::Fresh,
        };
        let output = self.location.zip(file).map(|(location, file)| Output {
            file,
            base_topic: location.base_topic,
            sections: self.sections,
            is_damaged: matches!(&loaded, Loaded::Damaged { kept: Err(_), .. }),
        });
        // What was read is in no file of this name now.
        let is_elsewhere = matches!(&loaded, Loaded::Damaged { .. } | Loaded::ReadEarlier(_));
        let (status, writer) =
            Writer::start(output, is_elsewhere, self.progress, self.clock).map_err(StateFileError::Thread)?;
        Ok((status, writer, loaded))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use proptest::prelude::*;
    use test_inputs::{damaged, json};

    use tokio_util::sync::CancellationToken;

    use super::{envelope::Envelope, *};

    type Numbers = BTreeMap<String, u64>;

    fn location(file: &Path) -> StateLocation {
        StateLocation {
            file: file.to_owned(),
            earlier: None,
            base_topic: "tapo2mqtt".to_owned(),
        }
    }

    fn open(
        path: &Path,
    ) -> (
        Section<Numbers>,
        Section<Vec<bool>>,
        StateFileStatus,
        Writer,
        Loaded,
    ) {
        let mut file = StateFile::open(Some(location(path)), &Clock::system()).unwrap();
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
        assert!(matches!(loaded, Loaded::Fresh), "{loaded:?}");
        kept.set(numbers(42));
        flags.set(vec![true]);
        flush(writer).await;

        let (kept, flags, _, _, loaded) = open(&path);
        assert_eq!((kept.get(), flags.get()), (numbers(42), vec![true]));
        assert!(matches!(loaded, Loaded::Read), "{loaded:?}");
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
            let Loaded::Damaged { kept: Ok(to), .. } = loaded else {
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
        let text = r#"{"version": 1, "numbers": {"answer": 42, "wrong": -1}, "flags": [true]}"#;
        fs::write(&path, text).unwrap();
        let (kept, flags, _, writer, loaded) = open(&path);
        assert_eq!((kept.get(), flags.get()), (numbers(42), vec![true]));
        let Loaded::Damaged { kept: Ok(to), why } = loaded else {
            panic!("{loaded:?}")
        };
        assert!(why.starts_with("numbers: wrong: "), "{why}");
        assert_eq!(fs::read_to_string(to).unwrap(), text);
        flush(writer).await;
        assert_eq!(open(&path).1.get(), [true]);
    }

    #[test]
    fn a_newer_version_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(folder.path().join("state.json.broken"), "older").unwrap();
        fs::write(&path, r#"{"version": 2, "novel": true}"#).unwrap();
        let Loaded::Damaged { kept: Ok(to), why } = open(&path).4 else {
            panic!("it was read")
        };
        assert!(to.ends_with("state.json.broken-2"), "{to:?}");
        assert!(why.contains("version 2"), "{why}");
    }

    #[tokio::test]
    async fn a_file_of_another_bridge_is_refused_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (kept, _, _, writer, _) = open(&path);
        kept.set(numbers(42));
        flush(writer).await;
        let text = fs::read(&path).unwrap();
        let other = StateLocation {
            base_topic: "garden".to_owned(),
            ..location(&path)
        };
        let refused = StateFile::open(Some(other.clone()), &Clock::system()).unwrap_err();
        assert!(
            refused.to_string().contains("base topic \"tapo2mqtt\""),
            "{refused}"
        );
        assert_eq!(other.check(), Err(refused.to_string()));
        location(&path).check().unwrap();
        assert_eq!(fs::read(&path).unwrap(), text);
    }

    #[tokio::test]
    async fn the_earlier_file_is_read_once_unless_it_is_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = folder.path().join("tapo2mqtt-state.json");
        let garden = StateLocation {
            file: folder.path().join("garden-state.json"),
            earlier: Some(earlier.clone()),
            base_topic: "garden".to_owned(),
        };
        let text = r#"{"version": 1, "numbers": {"answer": 42}}"#;
        for (owner, taken) in [("", true), (r#""base_topic": "tapo2mqtt", "#, false)] {
            fs::write(
                &earlier,
                text.replace(r#""numbers""#, &format!(r#"{owner}"numbers""#)),
            )
            .unwrap();
            let mut file = StateFile::open(Some(garden.clone()), &Clock::system()).unwrap();
            let kept: Section<Numbers> = file.section("numbers");
            let (_, writer, loaded) = file.finish().unwrap();
            assert_eq!(kept.get() == numbers(42), taken);
            assert_eq!(matches!(loaded, Loaded::ReadEarlier(_)), taken, "{loaded:?}");
            flush(writer).await;
            fs::write(&earlier, "not read any more").unwrap();
            let mut file = StateFile::open(Some(garden.clone()), &Clock::system()).unwrap();
            assert_eq!(file.section::<Numbers>("numbers").get() == numbers(42), taken);
            fs::remove_file(&garden.file).unwrap();
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [pipe.as_path(), folder.path()] {
            let error = StateFile::open(Some(location(path)), &Clock::system()).unwrap_err();
            assert!(matches!(error, StateFileError::Unreadable { .. }), "{error}");
            assert!(error.to_string().ends_with("not a regular file"), "{error}");
        }
    }

    fn encoded(numbers: &Numbers) -> Vec<u8> {
        let sections = serde_json::json!({ "numbers": numbers });
        let sections = sections.as_object().unwrap().clone();
        let envelope = Envelope::new("tapo2mqtt", Clock::system().as_of(), sections);
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
            let opened = StateFile::open(Some(location(&path)), &Clock::system());
            let Ok(mut file) = opened else {
                let is_refused = matches!(opened, Err(StateFileError::OtherBridge { .. }));
                prop_assert!(is_refused);
                return Ok(());
            };
            let kept = file.section::<Numbers>("numbers").get();
            file.finish().unwrap();
            prop_assert_eq!(serde_json::from_slice::<Numbers>(&serde_json::to_vec(&kept).unwrap()).unwrap(), kept);
        }
    }
}
