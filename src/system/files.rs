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

/// How long a disk may take for one file: a card under load pauses for seconds.
const BUDGET: Duration = Duration::from_secs(8);
/// Reads that may hang at the same time: each has a thread.
const HANGING_MAX: usize = 8;
/// Reads that were given up and are not done yet.
static HANGING: AtomicUsize = AtomicUsize::new(0);

/// Reads a whole file of at most `limit` bytes; a longer one is cut behind the byte that is too many.
///
/// # Errors
/// Also if it is no regular file (a pipe would never end), or does not come within eight seconds.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let owned = path.to_owned();
    within(&HANGING, BUDGET, move || read_regular(&owned, limit))
}

/// Whether there is a regular file.
///
/// # Errors
/// If it cannot be seen, or the disk does not answer within eight seconds.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    let owned = path.to_owned();
    within(&HANGING, BUDGET, move || match fs::metadata(owned) {
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
    hanging: &'static AtomicUsize,
    budget: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if hanging.load(Ordering::Relaxed) >= HANGING_MAX {
        return Err(io::Error::other("earlier reads still hang"));
    }
    // Without room for a result: what is sent was received, or the read was given up.
    let (done, result) = mpsc::sync_channel(0);
    tasks::thread("file reader", move || {
        if done.send(work()).is_err() {
            hanging.fetch_sub(1, Ordering::Relaxed);
        }
    })?;
    result.recv_timeout(budget).unwrap_or_else(|error| {
        if error == mpsc::RecvTimeoutError::Timeout {
            hanging.fetch_add(1, Ordering::Relaxed);
        }
        let why = format!("not read within {} s", budget.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    })
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
        static OF_THIS_TEST: AtomicUsize = AtomicUsize::new(0);
        let (release, hold) = mpsc::channel::<()>();
        let hold = std::sync::Arc::new(std::sync::Mutex::new(hold));
        let hang = || {
            let hold = hold.clone();
            within(&OF_THIS_TEST, Duration::from_millis(1), move || {
                let _closed = hold.lock().unwrap().recv();
                Ok(())
            })
        };
        let errors: Vec<_> = (0..=HANGING_MAX).map(|_| hang().unwrap_err()).collect();
        assert_eq!(errors[0].kind(), io::ErrorKind::TimedOut);
        assert_eq!(errors[HANGING_MAX].to_string(), "earlier reads still hang");
        drop(release);
        while OF_THIS_TEST.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        within(&OF_THIS_TEST, BUDGET, || Ok(())).unwrap();
    }

    #[test]
    fn any_number_of_reads_may_run_at_once() {
        static OF_THIS_TEST: AtomicUsize = AtomicUsize::new(0);
        // Each waits for all others.
        let together = std::sync::Arc::new(std::sync::Barrier::new(2 * HANGING_MAX));
        let readers: Vec<_> = (0..2 * HANGING_MAX)
            .map(|_| {
                let together = together.clone();
                let read = move || {
                    together.wait();
                    Ok(())
                };
                std::thread::spawn(|| within(&OF_THIS_TEST, Duration::from_secs(30), read))
            })
            .collect();
        for reader in readers {
            reader.join().unwrap().unwrap();
        }
    }
}
