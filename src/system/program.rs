//! The program of this process, and how to start it again.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf, absolute},
    process::{ChildStderr, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The `tapo` crate's HTTP client would send device traffic through these, even on the local network.
const PROXY_VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
];
/// How long the trial of a program may take.
const TRIAL_BUDGET: Duration = Duration::from_secs(5);
/// How often a trial is looked at.
const TRIAL_STEP: Duration = Duration::from_millis(10);
/// How much of the errors of a trial is shown, in bytes.
const SAID_MAX: u64 = 500;

/// The file that this process was started from: what is there now may be another version.
#[derive(Debug, Clone)]
pub struct Program(PathBuf);

impl Program {
    /// To be called before an update may replace the file: later the system answers with a path that does not exist.
    pub fn of_this_process() -> Self {
        let running = env::current_exe().unwrap_or_else(|_| "tapo2mqtt".into());
        let name = env::args_os().next().unwrap_or_default();
        let search = env::var_os("PATH").unwrap_or_default();
        Self(started_as(&name, &search, &running))
    }

    /// Whether a proxy is set. Then the process is to be replaced before it starts a thread.
    pub fn has_proxy() -> bool {
        PROXY_VARIABLES.iter().any(|name| env::var_os(name).is_some())
    }

    /// Replaces this process by a new one, with the same arguments and without proxies. Returns only if the system
    /// refuses.
    pub fn replace_process(&self) -> io::Error {
        let arguments: Vec<OsString> = env::args_os().skip(1).collect();
        let mut command = Command::new(&self.0);
        command.args(arguments);
        for name in PROXY_VARIABLES {
            command.env_remove(name);
        }
        command.exec()
    }

    /// Runs what is there now with these arguments, to its end. Blocks.
    ///
    /// # Errors
    /// Why it cannot be started, fails or does not end.
    pub fn try_with(&self, arguments: &[&OsStr]) -> Result<(), String> {
        let path = self.0.display();
        let mut command = Command::new(&self.0);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("{path} cannot be started: {error}"))?;
        let started = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let said = said(child.stderr.take());
                    return Err(format!(
                        "{path} does not run with these settings ({status}): {said}"
                    ));
                }
                Ok(None) if started.elapsed() < TRIAL_BUDGET => sleep(TRIAL_STEP),
                Ok(None) => {
                    // Fails only if it ended by itself meanwhile.
                    let _ended = child.kill();
                    let _reaped = child.wait();
                    return Err(format!("{path} does not end its trial"));
                }
                Err(error) => return Err(format!("{path}: {error}")),
            }
        }
    }
}

/// The first of what a program that has ended wrote.
fn said(errors: Option<ChildStderr>) -> String {
    let mut text = Vec::new();
    // What cannot be read says nothing.
    let _unreadable = errors.map(|errors| errors.take(SAID_MAX).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    text.trim().escape_debug().to_string()
}

/// The path that the process was started by, if what runs is there: a link, such as that of a package, may lead to another
/// version later. Else the file that runs.
fn started_as(name: &OsStr, search: &OsStr, running: &Path) -> PathBuf {
    let by_path = Path::new(name).components().nth(1).is_some();
    let candidates: Vec<PathBuf> = if by_path {
        vec![name.into()]
    } else {
        env::split_paths(search).map(|folder| folder.join(name)).collect()
    };
    let is_running = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == running);
    let found = candidates.into_iter().find(is_running);
    let found = found.and_then(|path| absolute(path).ok());
    found.unwrap_or_else(|| running.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_is_the_path_of_a_program_that_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (running, link) = (folder.join("tapo2mqtt-1.0"), folder.join("tapo2mqtt"));
        fs::write(&running, "").unwrap();
        symlink(&running, &link).unwrap();
        let nothing = OsStr::new("");
        assert_eq!(started_as(link.as_os_str(), nothing, &running), link);
        let search = env::join_paths([Path::new("/bin"), &folder]).unwrap();
        assert_eq!(started_as(OsStr::new("tapo2mqtt"), &search, &running), link);
        // A name that says nothing, or leads elsewhere.
        for name in ["", "other", "/bin/sh"] {
            assert_eq!(started_as(OsStr::new(name), &search, &running), running, "{name}");
        }
    }

    #[test]
    fn a_program_that_does_not_start_or_fails_is_refused() {
        let program = |path: &str| Program(path.into());
        assert_eq!(program("/bin/true").try_with(&[]), Ok(()));
        for (path, why) in [
            ("/bin/false", "does not run with these settings (exit status: 1)"),
            ("/nowhere/tapo2mqtt", "cannot be started: No such file"),
            ("/etc/passwd", "cannot be started: Permission denied"),
        ] {
            let refused = program(path).try_with(&[]).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
