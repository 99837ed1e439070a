//! The first exchange with a device: log in, read what it is and the state of its outlets.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    discovery::DiscoveryCache,
    fault::Fault,
    identity::KnownIdentity,
    readings::{DeviceReading, OutletReading, kind},
    session::{DeviceRequest, Session},
};
use crate::domain::devices::DeviceConfig;
use crate::domain::report::Kind;

/// A device that accepted the login.
pub(in crate::devices) struct Opened {
    pub(in crate::devices) session: Session,
    pub(in crate::devices) kind: Kind,
    pub(in crate::devices) components: Vec<String>,
    pub(in crate::devices) info: Value,
    pub(in crate::devices) outlets: Vec<OutletReading>,
}

/// Logs in and reads what the device is and the state of its outlets. The first time, a device whose components are those
/// of a strip is opened again as a strip.
pub(in crate::devices) async fn open(
    address: String,
    config: Arc<DeviceConfig>,
    guess: Kind,
    limit: Duration,
    discovery: DiscoveryCache,
) -> Result<Opened, Fault> {
    let mut session = match Session::open(&address, config.credentials.as_ref(), guess, limit).await {
        Err(Fault::Refused) if wake(&address, &discovery).await => {
            Session::open(&address, config.credentials.as_ref(), guess, limit).await?
        }
        session => session?,
    };
    let components = session.components().await?;
    let kind = kind(&components);
    if kind != guess {
        session = Session::open(&address, config.credentials.as_ref(), kind, limit).await?;
    }
    let info = session.perform(DeviceRequest::Info).await?;
    let outlets = match kind {
        Kind::Plug => vec![OutletReading::of(&info)],
        Kind::Strip => OutletReading::children(&session.perform(DeviceRequest::Children).await?),
    };
    Ok(Opened {
        session,
        kind,
        components,
        info,
        outlets,
    })
}

/// Some plugs open their web server only after a discovery packet (seen on P110 1.4.6).
async fn wake(address: &str, discovery: &DiscoveryCache) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    match host.parse::<IpAddr>() {
        Ok(ip) => discovery.wake(ip).await,
        Err(_) => false,
    }
}

/// The result of one login, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `P110`, `P304M`...
    pub model: String,
    /// Firmware version.
    pub firmware: String,
    /// Its name in the app.
    pub nickname: Option<String>,
    /// The names of its outlets in the app, by their position.
    pub outlets: Vec<(Option<u8>, Option<String>)>,
}

/// Logs in once and reads the device, to check the settings. No retries.
///
/// # Errors
/// The problem and what to do, as text.
pub async fn look(config: &DeviceConfig, request: Duration) -> Result<Seen, String> {
    let opening = open(
        config.address.clone(),
        Arc::new(config.clone()),
        Kind::Plug,
        request,
        DiscoveryCache::default(),
    );
    let opened = opening.await.map_err(|fault| match fault {
        // Before the first login no session can be lost: the device does not support this login.
        Fault::SessionLost => {
            "something answers there, but not as a Tapo device; is the address right?".to_owned()
        }
        fault => fault.to_string(),
    })?;
    let device = DeviceReading::of(&opened.info);
    let expected = config.mac.as_deref().map(KnownIdentity::of_mac);
    if let Some(other) = expected.and_then(|expected| expected.mismatch(&device)) {
        return Err(Fault::OtherDevice(other).to_string());
    }
    let outlets = opened.outlets.into_iter();
    let mut outlets: Vec<_> = outlets.map(|outlet| (outlet.position, outlet.nickname)).collect();
    outlets.sort();
    Ok(Seen {
        model: device.model.unwrap_or_else(|| "unknown model".to_owned()),
        firmware: device.firmware.unwrap_or_else(|| "unknown firmware".to_owned()),
        nickname: device.nickname,
        outlets,
    })
}
