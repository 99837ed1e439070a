//! The bridge as a process of its own, and what the system says about it.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME};
use tempfile::TempDir;
use tokio::{process::Child, time::Instant};

/// The kernel counts processor time in hundredths of a second on every Linux that matters.
const TICKS_PER_SECOND: f64 = 100.0;

pub struct Bridge {
    child: Child,
    pid: u32,
    pub started: Instant,
    _home: TempDir,
}

/// Settings for devices named `d0`, `d1`...
pub fn settings(broker: SocketAddr, devices: &[SocketAddr], more: &str, client: &str) -> String {
    let (host, port) = (broker.ip(), broker.port());
    let mut text = format!(
        "[discovery]\nnetworks = []\nadd = \"none\"\n[mqtt]\nhost = \"{host}\"\nport = {port}\n[tapo]\nusername = \"{DEFAULT_USERNAME}\"\npassword = \"{DEFAULT_PASSWORD}\"\n{more}\n"
    );
    for (number, address) in devices.iter().enumerate() {
        let _ = write!(
            text,
            "[[device]]\nid = \"d{number}\"\naddress = \"{address}\"\nclient = \"{client}\"\n"
        );
    }
    text
}

impl Bridge {
    pub fn start(binary: &Path, settings: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("bridge.toml");
        fs::write(&file, settings).expect("the settings are written");
        let log = fs::File::create(home.path().join("log")).expect("a log file");
        let mut command = tokio::process::Command::new(binary);
        command
            .arg("--config")
            .arg(&file)
            .current_dir(home.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .kill_on_drop(true);
        let started = Instant::now();
        let child = command.spawn().expect("the bridge starts; see scripts/bench");
        let pid = child.id().expect("the bridge runs");
        Self {
            child,
            pid,
            started,
            _home: home,
        }
    }

    /// SIGTERM, then how long it takes to end.
    pub async fn stop(mut self) -> Duration {
        let asked = Instant::now();
        let kill = Command::new("kill")
            .args(["-TERM", &self.pid.to_string()])
            .status();
        assert!(kill.is_ok_and(|status| status.success()), "the bridge had ended");
        let status = self.child.wait().await.expect("the bridge ends");
        assert!(status.success(), "the bridge ended with {status}");
        asked.elapsed()
    }

    /// Resident memory in MB (10^6 bytes).
    pub fn memory(&self) -> f64 {
        resident_memory(self.pid)
    }

    pub fn threads(&self) -> f64 {
        status(self.pid, "Threads:")
    }

    /// Processor time used so far, in seconds.
    pub fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("the bridge runs");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        // Fields 14 and 15 of proc(5), counted after the name.
        (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) / TICKS_PER_SECOND
    }

    /// The share of one core it uses over this time, in percent.
    pub async fn load(&self, over: Duration) -> f64 {
        let (cpu, since) = (self.cpu(), Instant::now());
        tokio::time::sleep(over).await;
        (self.cpu() - cpu) / since.elapsed().as_secs_f64() * 100.0
    }
}

/// Resident memory of a process in MB (10^6 bytes).
pub fn resident_memory(pid: u32) -> f64 {
    status(pid, "VmRSS:") * 1024.0 / 1e6
}

fn status(pid: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .expect("the kernel tells");
    line.split_whitespace()
        .next()
        .and_then(|value| value.parse().ok())
        .expect("a number")
}
