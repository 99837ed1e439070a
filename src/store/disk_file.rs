//! The file on the disk.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::system::files;

/// What a new state file needs at least.
const SMALLEST: u64 = 16 << 10;
/// More than any state. What is longer is not ours.
const LARGEST: u64 = 64 << 20;
/// As many links as Linux follows.
const LINKS_MAX: usize = 40;

/// The state file on the disk. A symbolic link is followed: what it leads to is written, and the link stays.
#[derive(Debug, Clone)]
pub(super) struct DiskFile(PathBuf);

impl DiskFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Its content; `None` if there is no file.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match files::read(&self.0, LARGEST) {
            Ok(bytes) if bytes.len() as u64 > LARGEST => Err(io::Error::other("too large for a state file")),
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the content in one step: losing power at any byte leaves the old or the new one.
    pub(super) fn replace(&self, content: &[u8]) -> io::Result<()> {
        let file = self.file()?;
        let temporary = with_suffix(&file, ".new");
        let mut new = create(&temporary)?;
        new.write_all(content)?;
        // Its times are of no interest. Its size is written too.
        new.sync_data()?;
        fs::rename(&temporary, &file)?;
        // The rename itself lasts only once the folder is on the disk.
        File::open(folder_of(&file))?.sync_all()
    }

    /// Whether it could be replaced now. Leaves nothing behind, and does not disturb a bridge that runs.
    pub(super) fn try_replace(&self) -> io::Result<()> {
        let file = self.file()?;
        let temporary = with_suffix(&file, ".test");
        let mut new = create(&temporary)?;
        // A disk that is full takes an empty file.
        let size = file
            .metadata()
            .map_or(0, |file| file.len())
            .clamp(SMALLEST, LARGEST);
        let written = io::copy(&mut io::repeat(b' ').take(size), &mut new).and_then(|_| new.sync_all());
        fs::remove_file(temporary)?;
        written
    }

    /// Renames it to `state.json.broken`, or with a number if that exists: what was set aside earlier is kept too.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let file = self.file()?;
        let first = with_suffix(&file, ".broken");
        let numbered = (2_u32..).map(|n| with_suffix(&file, &format!(".broken-{n}")));
        let is_free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
        let to = std::iter::once(first).chain(numbered).find(is_free);
        let to = to.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(file, &to)?;
        Ok(to)
    }

    /// Follows links, also to a file that does not exist yet.
    fn file(&self) -> io::Result<PathBuf> {
        let mut file = self.0.clone();
        for _ in 0..LINKS_MAX {
            let Ok(next) = fs::read_link(&file) else {
                return Ok(file);
            };
            file = file
                .parent()
                .map_or_else(|| next.clone(), |folder| folder.join(&next));
        }
        Err(io::Error::other("too many symbolic links"))
    }
}

/// Replaces a file in one step; only the user of the process can read it.
///
/// # Errors
/// It cannot be written.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    DiskFile::new(path.to_owned()).replace(content)
}

/// Creates a file that only its owner may read. What a crash has left at its name goes; a link there is not followed.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path),
    }
}

/// The folder of a file.
pub fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OsStr::new(suffix));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, here) = (folder.path().join("disk"), folder.path().join("here"));
        fs::create_dir(&disk).unwrap();
        fs::create_dir(&here).unwrap();
        let link = here.join("state.json");
        symlink("../disk/kept.json", &link).unwrap();
        let target = DiskFile::new(link.clone());
        assert_eq!(target.read().unwrap(), None);
        for content in [b"first", b"again"] {
            target.try_replace().unwrap();
            target.replace(content).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(disk.join("kept.json")).unwrap(), content);
        }
        assert_eq!(fs::read_dir(&here).unwrap().count(), 1);
        assert_eq!(
            target.set_aside().unwrap().file_name().unwrap(),
            "kept.json.broken"
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        symlink("loop", here.join("loop")).unwrap();
        assert!(DiskFile::new(here.join("loop")).replace(b"").is_err());
    }

    #[test]
    fn a_link_at_the_temporary_name_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("state.json"));
        fs::write(&victim, "precious").unwrap();
        for name in [".new", ".test"] {
            symlink(&victim, with_suffix(&path, name)).unwrap();
        }
        let target = DiskFile::new(path.clone());
        target.try_replace().unwrap();
        target.replace(b"state").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"state");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        // Left by a crash, and open to all.
        let left = with_suffix(&path, ".new");
        fs::write(&left, "").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        DiskFile::new(path.clone()).replace(b"state").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
