//! `run`: the bridge.

use std::{ffi::OsStr, path::Path};

use tokio::signal::unix::Signal;
use tracing::{info, warn};

use super::{ExitAction, ExitError, log_start, signals::Signals, sources};
use crate::{
    app::bridge::Bridge,
    cli::SettingsArgs,
    config::{self, Loader, Settings},
    system::{AppSupervisor, clock::Clock, program::Program, telemetry},
};

pub(super) async fn run(
    args: &SettingsArgs,
    hangup: &mut Signal,
    program: &Program,
) -> Result<ExitAction, ExitError> {
    let signals = Signals::listen(hangup)?;
    let (args, program) = (args.clone(), program.clone());
    signals.run(move || start(&args, program)).await
}

fn start(args: &SettingsArgs, program: Program) -> Result<Bridge, ExitError> {
    let sources = sources(args);
    let supervisor = config::supervised_broker(&sources);
    let answer = supervisor.as_ref().map(AppSupervisor::broker);
    let broker = answer.as_ref().and_then(|answer| answer.clone().ok());
    let settings = config::load_with(&sources, "", broker.as_ref())?;
    let log_level = telemetry::start(
        settings.log.level,
        settings.log.format,
        &settings.rules.location.zone,
    )?;
    log_start(&settings, sources.file.as_deref());
    if sources.file.is_none() {
        let looked: Vec<_> = sources
            .usual_files()
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        info!(
            "no settings file ({}); `tapo2mqtt setup` writes one",
            looked.join(", ")
        );
    }
    for overriding in config::overriding_variables(&sources) {
        info!("{overriding}");
    }
    for ignored in config::ignored_variables(&sources) {
        warn!("{ignored}");
    }
    if let Some(Err(why)) = &answer {
        warn!("{why}; the bridge works without one until then");
    }
    let file = sources.file.clone();
    let known = broker.clone();
    let loader = Loader::new(move || config::load_with(&sources, "", broker.as_ref()))
        .with_trial(move |settings| try_start(settings, file.as_deref(), &program));
    let bridge = Bridge::start(&settings, Some(loader), log_level, Clock::system())?;
    if let Some(supervisor) = supervisor {
        bridge.restart_after(supervisor.broker_changed(known));
    }
    Ok(bridge)
}

/// Whether what is at the path of the program now, perhaps another version, would start with these settings.
fn try_start(settings: &Settings, file: Option<&Path>, program: &Program) -> Result<(), String> {
    if let Some(location) = settings.state_location() {
        location.try_read().map_err(|error| error.to_string())?;
    }
    let config = file.map(|file| [OsStr::new("--config"), file.as_os_str()]);
    let config = config.iter().flatten().copied();
    // It reads the settings, and nothing else.
    let plan = ["plan", "--days", "1"].map(OsStr::new);
    let arguments: Vec<_> = config.chain(plan).collect();
    program.try_with(&arguments)
}
