//! Reads files that others write.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::tasks;

/// How long a disk may take for one file.
const BUDGET: Duration = Duration::from_secs(3);
/// Reads that may hang at the same time: each has a thread.
const HANGING_MAX: usize = 8;
/// Reads that were not done yet.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Reads a whole file of at most `limit` bytes; a longer one is cut behind the byte that is too many.
///
/// # Errors
/// Also if it is no regular file (a pipe would never end), or does not come within three seconds.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let owned = path.to_owned();
    within(&RUNNING, BUDGET, move || read_regular(&owned, limit))
}

/// Whether there is a regular file.
///
/// # Errors
/// If it cannot be seen, or the disk does not answer within three seconds.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    let owned = path.to_owned();
    within(&RUNNING, BUDGET, move || match fs::metadata(owned) {
        Ok(found) => Ok(found.is_file()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    })
}

fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: to open a pipe waits for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs work that may hang on a thread of its own.
fn within<T: Send + 'static>(
    running: &'static AtomicUsize,
    budget: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if running.fetch_add(1, Ordering::Relaxed) >= HANGING_MAX {
        running.fetch_sub(1, Ordering::Relaxed);
        return Err(io::Error::other("earlier reads still hang"));
    }
    let (done, result) = mpsc::sync_channel(1);
    let started = tasks::thread("file reader", move || {
        let result = work();
        running.fetch_sub(1, Ordering::Relaxed);
        // The receiver is gone if it took too long.
        let _late = done.send(result);
    });
    if let Err(error) = started {
        running.fetch_sub(1, Ordering::Relaxed);
        return Err(error);
    }
    let late = |_| {
        let why = format!("not read within {} s", budget.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    };
    result.recv_timeout(budget).unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(
            read(&path, 3).unwrap(),
            b"1234",
            "one more shows that it is too long"
        );
        assert!(exists(&path).unwrap());
        let missing = read(&folder.path().join("none"), 5).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            let error = read(path, 5).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{path:?}");
            assert!(!exists(path).unwrap());
        }
    }

    #[test]
    fn work_that_hangs_is_given_up_and_bounded() {
        // Of this test alone.
        static HANGING: AtomicUsize = AtomicUsize::new(0);
        let (release, hold) = mpsc::channel::<()>();
        let hold = std::sync::Arc::new(std::sync::Mutex::new(hold));
        let hang = || {
            let hold = hold.clone();
            within(&HANGING, Duration::from_millis(1), move || {
                let _closed = hold.lock().unwrap().recv();
                Ok(())
            })
        };
        let errors: Vec<_> = (0..=HANGING_MAX).map(|_| hang().unwrap_err()).collect();
        assert_eq!(errors[0].kind(), io::ErrorKind::TimedOut);
        assert_eq!(errors[HANGING_MAX].to_string(), "earlier reads still hang");
        drop(release);
    }
}
