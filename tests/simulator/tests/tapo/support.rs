//! How the tests talk to a device.

use std::time::Duration;

use tapo::{
    ApiClient, Error, PlugEnergyMonitoringHandler, PowerStripEnergyMonitoringHandler, TapoResponseError,
};
use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, DeviceHandle};

/// Long enough for anything that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) fn client() -> ApiClient {
    ApiClient::new(DEFAULT_USERNAME, DEFAULT_PASSWORD).with_timeout(SOON)
}

/// Logs in to a plug of any model.
pub(crate) async fn plug(device: &DeviceHandle) -> Result<PlugEnergyMonitoringHandler, Error> {
    client().p110(device.address().to_string()).await
}

/// Logs in to a strip of any model.
pub(crate) async fn strip(device: &DeviceHandle) -> Result<PowerStripEnergyMonitoringHandler, Error> {
    client().p304(device.address().to_string()).await
}

/// The kind of an `Unauthorized`, the code of a refusal, or the error itself.
pub(crate) fn kind(error: &Error) -> String {
    match error {
        Error::Tapo(TapoResponseError::Unauthorized { kind, .. }) => (*kind).to_owned(),
        Error::Tapo(TapoResponseError::DeviceError { code, .. }) => code.to_string(),
        Error::Tapo(TapoResponseError::HttpError { status_code, .. }) => format!("HTTP {status_code}"),
        error => format!("{error:?}"),
    }
}
