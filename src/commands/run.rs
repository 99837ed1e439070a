//! `run`: the bridge.

use super::{After, CommandError, load, run_until_signal};
use crate::{bridge::Bridge, cli::SettingsArgs, clock::Clock, telemetry};

pub(super) async fn run(args: &SettingsArgs) -> Result<After, CommandError> {
    let settings = load(args)?;
    let log_level = telemetry::start(settings.log.level, settings.log.format);
    let bridge = Bridge::start(&settings, log_level, Clock::system())?;
    run_until_signal(bridge).await
}
