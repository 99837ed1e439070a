//! `run`: the bridge.

use super::{ExitAction, ExitError, load, signals::Signals, sources};
use crate::{
    app::bridge::Bridge,
    cli::SettingsArgs,
    config,
    system::{clock::Clock, telemetry},
};

pub(super) async fn run(args: &SettingsArgs) -> Result<ExitAction, ExitError> {
    let signals = Signals::listen()?;
    let settings = load(args)?;
    let log_level = telemetry::start(settings.log.level, settings.log.format)?;
    let sources = sources(args);
    let loader = config::Loader::new(move || config::load(&sources));
    let bridge = Bridge::start(&settings, Some(loader), log_level, Clock::system())?;
    Ok(signals.run(bridge).await)
}
