//! What each command of the command line does.

mod check;
#[cfg(feature = "demo")]
mod demo;
mod diagnostics;
mod discover;
mod healthcheck;
mod notify;
mod output;
mod permissions;
mod plan;
mod restore;
mod run;
mod setup;
mod shell;
mod signals;

#[cfg(feature = "demo")]
mod simulate;

use std::{path::Path, process::ExitCode};

use tracing::info;

use tokio::signal::unix::Signal;

use crate::{
    app::bridge::StartError,
    cli::{Cli, CliCommand, MigrateArgs, MigrationSource, NotifyCommand, SettingsArgs},
    config::{self, Problems, Settings, Sources},
    migrate::Migrated,
    system::{program::Program, telemetry},
};

/// The exit code for bad settings and arguments (sysexits EX_USAGE): starting again will not help.
pub const BAD_SETTINGS: u8 = 64;

/// Why a command failed, with the message and the exit code of the process.
#[derive(Debug, thiserror::Error)]
pub enum ExitError {
    /// The settings have problems; all of them are in the text.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// The settings are valid and cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The embedded broker did not start.
    #[cfg(feature = "demo")]
    #[error(transparent)]
    Broker(#[from] crate::demo::broker::BrokerError),
    /// A simulated device did not start.
    #[cfg(feature = "demo")]
    #[error(transparent)]
    Simulator(#[from] tapo_simulator::SimulatorError),
    /// The operating system refused something.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(std::io::Error),
    /// A check failed; the command has shown why.
    #[error("{0}")]
    Unwell(String),
}

impl ExitError {
    fn code(&self) -> u8 {
        match self {
            Self::Settings(_) => BAD_SETTINGS,
            Self::Start(error) if error.needs_settings() => BAD_SETTINGS,
            _ => 1,
        }
    }
}

/// What the process does after a command.
#[derive(Debug)]
pub enum ExitAction {
    /// Exit.
    Exit(ExitCode),
    /// Start again in the same process, with the same arguments.
    Restart,
}

/// Runs a command and prints its error. `hangup` is SIGHUP, which ends no process any more; `program` is what a restart
/// starts.
pub async fn execute(cli: Cli, hangup: &mut Signal, program: &Program) -> ExitAction {
    let settings = &cli.settings;
    let done = match cli.command.unwrap_or(CliCommand::Run) {
        CliCommand::Run => run::run(settings, hangup, program).await,
        CliCommand::Check => check::check(settings)
            .await
            .map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        CliCommand::Discover(args) => discover::discover(&args, settings)
            .await
            .map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        CliCommand::Setup(args) => setup::setup(&args, settings)
            .await
            .map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        CliCommand::Plan(args) => plan::plan(&args, settings).map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        CliCommand::Healthcheck => healthcheck::healthcheck(settings)
            .await
            .map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        CliCommand::Notify(NotifyCommand::Test) => notify::test(settings)
            .await
            .map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        CliCommand::Diagnostics => diagnostics::diagnostics(settings)
            .await
            .map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        CliCommand::Restore(args) => {
            restore::restore(&args, settings).map(|()| ExitAction::Exit(ExitCode::SUCCESS))
        }
        CliCommand::Completions(args) => {
            shell::completions(&args).map(|()| ExitAction::Exit(ExitCode::SUCCESS))
        }
        CliCommand::Man(args) => shell::man(&args).map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        CliCommand::Migrate(args) => migrate(&args).map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
        #[cfg(feature = "demo")]
        CliCommand::Demo(args) => demo::demo(&args, settings, hangup).await,
        #[cfg(feature = "demo")]
        CliCommand::Simulate(args) => simulate::simulate(args, hangup)
            .await
            .map(|()| ExitAction::Exit(ExitCode::SUCCESS)),
    };
    let after = done.unwrap_or_else(|error| {
        telemetry::print_error(&error);
        ExitAction::Exit(ExitCode::from(error.code()))
    });
    telemetry::flush();
    after
}

fn sources(args: &SettingsArgs) -> Sources {
    Sources::from_process(args.config.clone()).or_usual()
}

fn load(args: &SettingsArgs) -> Result<Settings, ExitError> {
    let sources = sources(args);
    let broker = config::supervised_broker(&sources).and_then(|supervisor| supervisor.broker().ok());
    Ok(config::load_with(&sources, "", broker.as_ref())?)
}

/// The first line of the log: what runs, with which settings.
fn log_start(settings: &Settings, file: Option<&Path>) {
    let mqtt = &settings.mqtt;
    let broker = if mqtt.enabled {
        mqtt.shown_brokers()
    } else {
        "none".to_owned()
    };
    let file = file.map_or_else(|| "none".into(), |file| file.display().to_string());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        settings = file,
        broker,
        base_topic = %mqtt.base_topic,
        devices = settings.devices.len(),
        groups = settings.rules.groups.len(),
        time_zone = settings.rules.location.zone.iana_name(),
        "tapo2mqtt starts"
    );
}

fn migrate(args: &MigrateArgs) -> Result<(), ExitError> {
    let Migrated { settings, losses } = match args.from {
        MigrationSource::Heattrax => crate::migrate::heattrax(&args.file)?,
    };
    output::print(&settings)?;
    if losses.is_empty() {
        return Ok(());
    }
    Err(ExitError::Unwell(format!(
        "not all of {} could be converted; the comments in the output say what to correct:\n  {}",
        args.file.display(),
        losses.join("\n  ")
    )))
}
