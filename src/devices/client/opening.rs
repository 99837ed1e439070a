//! The first exchange with a device: log in, read what it is and the state of its outlets.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tplink::Transport;

use super::{
    child_reading::ChildReading,
    choice::{Needs, ServingClient},
    components::Components,
    discovery::{Discovered, LISTEN, discover},
    fault::Fault,
    first_answer,
    identity::KnownIdentity,
    own_client::OwnClient,
    readings::{DeviceReading, OutletReading, has_outlets, kind},
    search::NetworkSearch,
    session::{DeviceRequest, MeterRequest, Session},
};
use crate::devices::children::Children;
use crate::domain::{
    devices::{ClientChoice, DeviceConfig},
    hub_child::HubChild,
    report::Kind,
    search_area::SearchArea,
};

/// A device that accepted the login.
pub(in crate::devices) struct Opened {
    pub(in crate::devices) session: Session,
    pub(in crate::devices) kind: Kind,
    pub(in crate::devices) components: Components,
    /// Whether the `tapo` crate could not read it.
    pub(in crate::devices) reads_odd_answers: bool,
    pub(in crate::devices) info: Value,
    pub(in crate::devices) outlets: Vec<OutletReading>,
    /// What is connected to a hub.
    pub(in crate::devices) children: Vec<ChildReading>,
}

struct FirstReading {
    components: Components,
    outlets: Vec<OutletReading>,
    children: Vec<ChildReading>,
}

/// Why a device was not opened.
pub(in crate::devices) struct OpenFailure {
    pub(in crate::devices) fault: Fault,
    /// The device accepted the login, and then it could not be read.
    pub(in crate::devices) unread: Option<Session>,
}

impl From<Fault> for OpenFailure {
    fn from(fault: Fault) -> Self {
        Self { fault, unread: None }
    }
}

/// How a device is opened.
#[derive(Debug, Clone)]
pub(in crate::devices) struct Opening {
    pub(in crate::devices) address: String,
    pub(in crate::devices) config: Arc<DeviceConfig>,
    /// What the client is for, as far as it is known.
    pub(in crate::devices) needs: Needs,
    /// Whether a device answered there before.
    pub(in crate::devices) is_known: bool,
    /// Whether the device was read since the start of the bridge.
    pub(in crate::devices) was_read: bool,
    /// For one request.
    pub(in crate::devices) limit: Duration,
    /// Our own client, which outlives its sessions.
    pub(in crate::devices) own: OwnClient,
}

impl Opening {
    /// Logs in and reads what the device is and the state of its outlets. A device that needs another client than the one
    /// that logged in first is opened again: at the first contact, a strip.
    ///
    /// # Errors
    /// The fault, with the session of a device that cannot be read.
    pub(in crate::devices) async fn run(self, network: NetworkSearch) -> Result<Opened, OpenFailure> {
        if self.config.credentials.is_none() {
            return Err(Fault::NoAccount.into());
        }
        let (mut session, announced) = match self.first_session().await {
            Err(Fault::Refused) => match wake(&self.address, &network).await {
                None => return Err(Fault::Refused.into()),
                // A camera has its web server elsewhere.
                Some(other) if other.unsupported().is_some() => return Err(no_outlets(other.model).into()),
                Some(_) => self.first_session().await?,
            },
            session => session?,
        };
        let mut needs = self.needs;
        let mut identified = identify(&session).await;
        // A device that was read before answered something odd this time only.
        if !self.was_read
            && session.client() == ServingClient::Crate
            && self.config.client == ClientChoice::Auto
            && let Err(Fault::Unreadable(_)) = identified
        {
            needs.reads_odd_answers = true;
            drop(session);
            session = self.log_in(needs).await?;
            identified = identify(&session).await;
        }
        let (kind, components, info) = match identified {
            Ok(identified) => identified,
            Err(fault) => return Err(unread(fault, session)),
        };
        let dims = components.iter().flatten().any(|id| id == "brightness");
        let needs = Needs {
            kind,
            changes_settings: needs.changes_settings || dims,
            ..needs
        };
        let chosen = self.own.client_for(self.config.client, needs).await;
        if !session.serves(kind) || session.client() == ServingClient::Crate && chosen == ServingClient::Own {
            drop(session);
            session = self.log_in(needs).await?;
        }
        session.set_announced(announced);
        match read(&session, kind, components, &info).await {
            Ok(read) => Ok(Opened {
                session,
                reads_odd_answers: needs.reads_odd_answers,
                kind,
                components: read.components,
                info,
                outlets: read.outlets,
                children: read.children,
            }),
            Err(fault) => Err(unread(fault, session)),
        }
    }

    async fn first_session(&self) -> Result<(Session, Option<Transport>), Fault> {
        // The client of the `tapo` crate follows redirects and reads answers of any length: what does that at the first
        // request is not given to it.
        let mut announced = None;
        if self.config.client != ClientChoice::Own && !self.own.is_alone().await {
            let answer = first_answer::check(&self.address, self.limit).await;
            if answer == Err(Fault::Refused)
                && let Ok(Some(old)) =
                    Session::open_without_http(&self.address, &self.config, self.limit, &self.own).await
            {
                return Ok((old, None));
            }
            announced = Some(answer?);
        }
        Ok((self.log_in(self.needs).await?, announced))
    }

    async fn log_in(&self, needs: Needs) -> Result<Session, Fault> {
        let session = Session::open(&self.address, &self.config, needs, self.limit, &self.own).await;
        session.map_err(|fault| {
            if self.is_known {
                fault
            } else {
                fault.at_first_contact()
            }
        })
    }
}

fn unread(fault: Fault, session: Session) -> OpenFailure {
    OpenFailure {
        fault,
        unread: Some(session),
    }
}

/// Its kind, its components if they can be read, and its own values.
async fn identify(session: &Session) -> Result<(Kind, Option<Vec<String>>, Value), Fault> {
    let components = session.components().await?;
    let info = session.perform(DeviceRequest::Info).await?;
    let kind = kind(&info, components.as_deref());
    Ok((kind, components, info))
}

/// Its components, and its outlets or what is connected to it.
async fn read(
    session: &Session,
    kind: Kind,
    components: Option<Vec<String>>,
    info: &Value,
) -> Result<FirstReading, Fault> {
    let list = match kind {
        Kind::Plug => None,
        Kind::Strip | Kind::Hub => Some(session.perform(DeviceRequest::Children).await?),
    };
    if kind != Kind::Hub && !has_outlets(info, list.as_ref()) {
        return Err(no_outlets(DeviceReading::of(info).model));
    }
    let (outlets, children) = match (kind, &list) {
        (Kind::Hub, Some(list)) => (Vec::new(), ChildReading::list(list)),
        (_, Some(list)) => (OutletReading::children(list), Vec::new()),
        (_, None) => (vec![OutletReading::of(info)], Vec::new()),
    };
    let listed = match components {
        Some(components) => components,
        None if kind == Kind::Hub => Vec::new(),
        None => try_components(session, kind, &outlets).await?,
    };
    let mut components = Components::new(&listed);
    if kind == Kind::Strip && session.client() == ServingClient::Own {
        read_child_components(session, outlets.len(), &mut components).await?;
    }
    Ok(FirstReading {
        components,
        outlets,
        children,
    })
}

/// What each child can do. Without an answer, the children are asked for what they may have.
async fn read_child_components(
    session: &Session,
    children: usize,
    components: &mut Components,
) -> Result<(), Fault> {
    let mut start = 0;
    while start < children {
        let page = session.perform(DeviceRequest::ChildComponents(start)).await;
        let entries = match page {
            Ok(page) => components.add_children(&page),
            Err(fault) if fault.is_own_answer() => break,
            Err(fault) => return Err(fault),
        };
        if entries == 0 {
            break;
        }
        start += entries;
    }
    Ok(())
}

/// The components that matter, of a device whose list cannot be read, by what it answers.
async fn try_components(
    session: &Session,
    kind: Kind,
    outlets: &[OutletReading],
) -> Result<Vec<String>, Fault> {
    let child = outlets.first().and_then(|outlet| outlet.child_id.as_deref());
    let child = child.filter(|_| kind == Kind::Strip);
    let mut requests = vec![(
        "energy_monitoring",
        DeviceRequest::Meter(MeterRequest::Usage, child),
    )];
    if kind == Kind::Plug {
        requests.push(("schedule", DeviceRequest::GetRoom(None)));
    }
    let mut components = Vec::new();
    for (component, request) in requests {
        match session.perform(request).await {
            Err(Fault::UnknownRequest(_)) => {}
            // An answer that cannot be read is one, and so is an error of the meter.
            Ok(_) | Err(Fault::Unreadable(_) | Fault::Device { .. }) => components.push(component.to_owned()),
            Err(fault) => return Err(fault),
        }
    }
    Ok(components)
}

/// Some plugs open their web server only after a discovery packet (seen on P110 1.4.6).
async fn wake(address: &str, network: &NetworkSearch) -> Option<Discovered> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    network.wake(host.parse::<IpAddr>().ok()?).await
}

fn no_outlets(model: Option<String>) -> Fault {
    Fault::NoOutlets(model.unwrap_or_else(|| "device of this kind".to_owned()))
}

/// The result of one login, for `check`.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// `P110`, `P304M`...
    pub model: String,
    /// Firmware version.
    pub firmware: String,
    /// Its name in the app.
    pub nickname: Option<String>,
    /// The names of its outlets in the app, by their position.
    pub outlets: Vec<(Option<u8>, Option<String>)>,
    /// What is connected to a hub.
    pub children: Vec<HubChild>,
}

/// A fault as text. A device that cannot be used at all says why in its answer to discovery.
async fn explained(fault: Fault, address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_explained = matches!(fault, Fault::NoAccount | Fault::OtherDevice(_));
    if let (Ok(ip), false) = (ip, is_explained) {
        let answers = discover(&[ip], LISTEN).await;
        if let Some(obstacle) = answers.first().and_then(Discovered::obstacle) {
            return obstacle.to_owned();
        }
    }
    fault.to_string()
}

/// Logs in once and reads the device.
///
/// # Errors
/// The fault, also if another device answers.
pub(in crate::devices) async fn open_once(
    config: &DeviceConfig,
    request: Duration,
    network: &NetworkSearch,
) -> Result<Opened, Fault> {
    let opening = Opening {
        address: config.address.clone(),
        config: Arc::new(config.clone()),
        needs: Needs::of(config),
        is_known: false,
        was_read: false,
        limit: request,
        own: OwnClient::default(),
    };
    let opened = opening.run(network.clone()).await;
    let opened = opened.map_err(|failure| failure.fault)?;
    let expected = config.mac.as_deref().map(KnownIdentity::of_mac);
    match expected.and_then(|expected| expected.mismatch(&DeviceReading::of(&opened.info))) {
        Some(other) => Err(Fault::OtherDevice(other)),
        None => Ok(opened),
    }
}

/// Logs in once and reads the device, to check the settings. No retries.
///
/// # Errors
/// The problem and what to do, as text.
pub async fn look(config: &DeviceConfig, request: Duration) -> Result<Seen, String> {
    let nowhere = NetworkSearch::new(SearchArea::default());
    let opened = match open_once(config, request, &nowhere).await {
        Ok(opened) => opened,
        Err(fault) => return Err(explained(fault, &config.address).await),
    };
    let device = DeviceReading::of(&opened.info);
    let outlets = opened.outlets.into_iter();
    let mut outlets: Vec<_> = outlets.map(|outlet| (outlet.position, outlet.nickname)).collect();
    outlets.sort();
    let mut children = Children::default();
    children.apply(config, &opened.children);
    Ok(Seen {
        model: device.model.unwrap_or_else(|| "unknown model".to_owned()),
        firmware: device.firmware.unwrap_or_else(|| "unknown firmware".to_owned()),
        nickname: device.nickname,
        outlets,
        children: children.as_slice().to_vec(),
    })
}
