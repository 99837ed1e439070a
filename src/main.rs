//! The `tapo2mqtt` command.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use clap::Parser as _;
use tapo2mqtt::{
    cli::Cli,
    commands::{ExitAction, execute},
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

fn main() -> ExitCode {
    // An update that replaces the file later makes the system answer with a path that does not exist.
    let program = env::current_exe().unwrap_or_else(|_| "tapo2mqtt".into());
    if PROXY_VARIABLES.iter().any(|name| env::var_os(name).is_some()) {
        return start_again(&program);
    }
    // Two TLS stacks are in the dependency tree with the demo's broker; this one is for everything.
    // It fails only if one is installed already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            // Whether anybody reads it does not matter any more.
            let _unwritten = writeln!(io::stderr(), "tapo2mqtt: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let after = runtime.block_on(execute(cli));
    // A name look-up that hangs must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(10));
    match after {
        ExitAction::Exit(code) => code,
        ExitAction::Restart => start_again(&program),
    }
}

/// Replaces this process by a new one from what is at the path now, with the same arguments and without proxies.
/// Returns only if the system refuses.
fn start_again(program: &Path) -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let mut command = Command::new(program);
    command.args(arguments);
    for name in PROXY_VARIABLES {
        command.env_remove(name);
    }
    let error = command.exec();
    let _unwritten = writeln!(
        io::stderr(),
        "tapo2mqtt: cannot start {} again: {error}",
        program.display()
    );
    ExitCode::FAILURE
}
