//! `healthcheck`: is the running bridge connected? Asks the broker, so nothing has to listen.

use std::time::Duration;

use super::{ExitError, load};
use crate::{
    app::bridge::StartError,
    cli::SettingsArgs,
    mqtt::{
        link::{RetainedProbe, probe_retained},
        link_options,
    },
};

/// Containers give a check a few seconds.
const BUDGET: Duration = Duration::from_millis(1500);

pub(super) async fn healthcheck(args: &SettingsArgs) -> Result<(), ExitError> {
    let settings = load(args)?;
    let options = link_options(&settings, &settings.topics()).map_err(StartError::from)?;
    let state = options.will.topic.clone();
    let why = match probe_retained(options, &state, BUDGET)
        .await
        .map_err(StartError::from)?
    {
        RetainedProbe::Payload(payload) if payload.as_ref() == br#"{"state":"online"}"# => return Ok(()),
        RetainedProbe::Payload(_) => "the bridge is offline".to_owned(),
        RetainedProbe::Empty => format!("no bridge ever published {state}"),
        RetainedProbe::Failed(fault) => format!("the broker cannot be asked: {fault}"),
    };
    Err(ExitError::Unwell(why))
}
