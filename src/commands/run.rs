//! `run`: the bridge.

use super::{After, CommandError, Signals, load, run_until_signal};
use crate::{bridge::Bridge, cli::SettingsArgs, clock::Clock, telemetry};

pub(super) async fn run(args: &SettingsArgs) -> Result<After, CommandError> {
    let settings = load(args)?;
    let log_level = telemetry::start(settings.log.level, settings.log.format);
    let signals = Signals::listen()?;
    let bridge = Bridge::start(&settings, log_level, Clock::system())?;
    Ok(run_until_signal(bridge, signals).await)
}
