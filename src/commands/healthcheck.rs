//! `healthcheck`: is the running bridge connected? Asks the broker, so nothing has to listen.

use std::time::Duration;

use super::{ExitError, load};
use crate::{
    app::bridge::StartError,
    cli::SettingsArgs,
    mqtt::{
        link::{Glance, glance},
        link_options,
    },
};

/// Containers give a check a few seconds.
const BUDGET: Duration = Duration::from_millis(1500);

pub(super) async fn healthcheck(args: &SettingsArgs) -> Result<(), ExitError> {
    let settings = load(args)?;
    let options = link_options(&settings, &settings.topics()).map_err(StartError::from)?;
    let state = options.will.topic.clone();
    let why = match glance(options, &state, BUDGET).await.map_err(StartError::from)? {
        Glance::Holds(payload) if payload.as_ref() == br#"{"state":"online"}"# => return Ok(()),
        Glance::Holds(_) => "the bridge is offline".to_owned(),
        Glance::Nothing => format!("no bridge ever published {state}"),
        Glance::Refused(fault) => format!("the broker cannot be asked: {fault}"),
    };
    Err(ExitError::Unwell(why))
}
