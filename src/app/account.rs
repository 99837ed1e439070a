//! An account that came by a request: tried with a device before it is kept.

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::{
    config::{Account, Settings},
    devices::{find_devices, look},
    domain::{
        devices::{Credentials, DeviceConfig},
        one_line::one_line,
    },
};

/// Devices that are tried. Each counts a wrong password, and locks itself after several.
const TRIED_MAX: usize = 3;
/// How long the network is searched, where no device is configured.
const SEARCH: Duration = Duration::from_secs(3);

/// Tries an account with the configured devices that need it, else with those on the network, and keeps it if one accepts
/// it.
///
/// # Errors
/// Why it is not kept.
pub(super) async fn keep(settings: Settings, account: Account) -> Result<(), String> {
    let Some(file) = settings.account_file.clone() else {
        return Err("this bridge keeps no account".to_owned());
    };
    let credentials = Credentials {
        username: account.username.clone(),
        password: account.password.clone(),
    };
    let mut refusals = Vec::new();
    for device in candidates(&settings, &credentials).await {
        match look(&device, settings.polling.request_timeout).await {
            Ok(_) => {
                let kept = spawn_blocking(move || file.keep(&account)).await;
                let kept = kept.map_err(|error| error.to_string())?;
                return kept.map_err(|error| format!("the account cannot be stored: {error}"));
            }
            Err(why) => refusals.push(format!("{}: {why}", device.address)),
        }
    }
    if refusals.is_empty() {
        let why = "no device was found that could test the account; add a [[device]], or set [tapo] in the settings file";
        return Err(why.to_owned());
    }
    Err(format!(
        "not stored, because no device accepted it: {}",
        one_line(&refusals)
    ))
}

async fn candidates(settings: &Settings, credentials: &Credentials) -> Vec<DeviceConfig> {
    let with_account = |mut device: DeviceConfig| {
        device.credentials = Some(credentials.clone());
        device
    };
    let own = settings.devices.iter().map(|device| device.credentials.is_some());
    let configured = settings.device_set().devices.into_iter().zip(own);
    let needing = configured
        .filter(|(_, has_own)| !has_own)
        .map(|(device, _)| device);
    let mut candidates: Vec<_> = needing.map(with_account).take(TRIED_MAX).collect();
    if candidates.is_empty() {
        let found = find_devices(&settings.discovery.area, SEARCH).await;
        let usable = found.iter().filter_map(|device| device.with_account(credentials));
        candidates.extend(usable.take(TRIED_MAX));
    }
    candidates
}
