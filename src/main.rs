//! The `tapo2mqtt` command.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use tapo2mqtt::{
    cli::Cli,
    commands::{BAD_SETTINGS, ExitAction, execute},
    system::program::Program,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::error;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Whether it is read does not matter any more.
            let _unwritten = writeln!(io::stderr(), "tapo2mqtt: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // Before anything else: until then a SIGHUP ends the process.
    let mut hangup = {
        let _context = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let program = Program::of_this_process();
    if Program::has_proxy() {
        return Err(program.replace_process());
    }
    // Two TLS stacks are in the dependency tree with the demo's broker; this one is for everything.
    // It fails only if one is installed already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    loop {
        let cli = match Cli::try_parse() {
            Ok(cli) => cli,
            Err(usage) => return Ok(explain(&usage)),
        };
        match runtime.block_on(execute(cli, &mut hangup, &program)) {
            ExitAction::Exit(code) => {
                // A name look-up that hangs must not hold up the exit.
                runtime.shutdown_timeout(Duration::from_millis(10));
                return Ok(code);
            }
            ExitAction::Restart => {
                // Its devices need a bridge, if only the one that runs.
                let error = program.replace_process();
                error!(%error, "the program cannot be started again; this process goes on");
            }
        }
    }
}

/// Prints help, the version, or what is wrong with the arguments. Only the last is a failure; a supervisor must not try it
/// again.
fn explain(usage: &clap::Error) -> ExitCode {
    let _unwritten = usage.print();
    if usage.use_stderr() {
        ExitCode::from(BAD_SETTINGS)
    } else {
        ExitCode::SUCCESS
    }
}
