//! The crate alone in a process of its own: what its part of the memory of a device is.

use std::{
    env, io,
    io::{BufRead as _, Read as _, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
};

use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME};

use crate::bridge::resident_memory;

/// What this program is started with to be such a process.
const ARGUMENT: &str = "hold";

pub fn is_wanted() -> bool {
    env::args().nth(1).as_deref() == Some(ARGUMENT)
}

/// Logs in to each device that a line of stdin names, asks it once, and says so; holds them until stdin ends.
pub async fn hold() {
    let mut handlers = Vec::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        let client = tapo::ApiClient::new(DEFAULT_USERNAME, DEFAULT_PASSWORD);
        let handler = client.p110(line).await.expect("a login");
        handler.get_device_info_json().await.expect("the plug answers");
        handlers.push(handler);
    }
    println!("held");
    let _until_the_end = io::stdin().lock().read(&mut [0]);
}

/// A process that holds devices.
pub struct Held {
    child: Child,
    _stdin: ChildStdin,
}

impl Held {
    pub fn start(addresses: &[SocketAddr]) -> Self {
        let program = env::current_exe().expect("a path to this program");
        let mut command = Command::new(program);
        command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        for address in addresses {
            writeln!(stdin, "{address}").expect("it listens");
        }
        writeln!(stdin).expect("it listens");
        let mut stdout = io::BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = String::new();
        stdout.read_line(&mut said).expect("it speaks");
        assert_eq!(said, "held\n", "the process that holds devices ended");
        Self { child, _stdin: stdin }
    }

    /// Resident memory in MB (10^6 bytes).
    pub fn memory(&self) -> f64 {
        resident_memory(self.child.id())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _ = self.child.wait();
    }
}
