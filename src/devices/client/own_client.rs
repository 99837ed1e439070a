//! The client of this project (`tplink`): one for each device, kept over its logins.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tplink::{Client, Endpoint, Error, Limits, Scheme, Transport};

use super::{
    batches::Batches,
    choice::{Known, Needs, OwnFailed, ServingClient},
    countdown_requests,
    discovery::{Discovered, LISTEN, OLD_KASA, discover},
    fault::Fault,
    readings::component_ids,
    rule_requests,
    session::{DeviceRequest, MeterRequest, READ_BACK},
    settings_on_wire::{SettingRequest, changed},
};
use crate::domain::devices::{ClientChoice, Credentials};
use planner::Power;

/// What it is asked to log in over: all that SMART devices speak.
pub(super) const SMART: &[Transport] = &[Transport::Tpap, Transport::Klap, Transport::Aes];
/// The same for a device whose last login was the old one.
pub(super) const OLD_FIRST: &[Transport] = &[Transport::Aes, Transport::Tpap, Transport::Klap];

/// Our client for one device. Its clones share one connection and one session, so there is never a second one.
#[derive(Debug, Clone, Default)]
pub(in crate::devices) struct OwnClient(Arc<Mutex<OwnState>>);

#[derive(Debug, Default)]
struct OwnState {
    kept: Option<KeptClient>,
    /// The `tapo` crate has logged in to the device: it does not become older.
    crate_serves: bool,
    /// It did where this client could not.
    failed: bool,
}

/// It remembers how long a device counts wrong passwords, and which form of the password it takes.
#[derive(Debug)]
struct KeptClient {
    client: Client,
    address: String,
    credentials: Credentials,
    /// What the last login went over.
    transport: Option<Transport>,
    /// The device said which form of the password it takes, so a wrong one is one attempt.
    knows_version: bool,
    /// Whether the firmware takes several requests in one.
    batches: Batches,
}

impl OwnClient {
    /// The transport of the last login, while it is in use.
    pub(super) async fn transport(&self) -> Option<Transport> {
        self.0.lock().await.kept.as_ref().and_then(|kept| kept.transport)
    }

    /// Whether the device may be one that the `tapo` crate is too new for.
    pub(super) async fn may_serve(&self) -> bool {
        !self.0.lock().await.crate_serves
    }

    /// Which client serves the device.
    pub(super) async fn client_for(&self, setting: ClientChoice, needs: Needs) -> ServingClient {
        let state = self.0.lock().await;
        let transport = state.kept.as_ref().and_then(|kept| kept.transport);
        let known = Known {
            setting,
            needs,
            is_old: transport == Some(Transport::Aes),
            own_failed: state.failed,
        };
        known.client()
    }

    /// The `tapo` crate has logged in, after this client failed or in its place.
    pub(super) async fn leave_to_crate(&self, failed: OwnFailed) {
        let mut state = self.0.lock().await;
        *state = OwnState {
            kept: None,
            crate_serves: true,
            failed: state.failed || failed == OwnFailed::Yes,
        };
    }

    /// Ends the session, unless a request is in flight.
    pub(in crate::devices) fn close(&self) {
        if let Ok(mut state) = self.0.try_lock()
            && let Some(kept) = &mut state.kept
        {
            kept.client.close();
        }
    }

    /// Logs in over the first of these transports that the device speaks; false if it speaks none of them.
    pub(super) async fn log_in(
        &self,
        address: &str,
        credentials: &Credentials,
        limit: Duration,
        transports: &[Transport],
    ) -> Result<bool, Fault> {
        let mut state = self.0.lock().await;
        let kept = state
            .kept
            .take_if(|kept| kept.address == address && kept.credentials == *credentials)
            .unwrap_or_else(|| KeptClient::new(address, credentials));
        let kept = state.kept.insert(kept);
        kept.client.set_limits(Limits {
            connect: limit,
            request: limit,
        });
        kept.transport = None;
        for transport in transports {
            if Box::pin(kept.log_in_over(*transport)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Logs in again as the last time.
    pub(super) async fn log_in_again(&self) -> Result<(), Fault> {
        let mut state = self.0.lock().await;
        let kept = state.kept.as_mut().ok_or(Fault::SessionLost)?;
        let transport = kept.transport.ok_or(Fault::SessionLost)?;
        // It may have changed its protocol.
        let is_open = Box::pin(kept.log_in_over(transport)).await?;
        is_open.then_some(()).ok_or(Fault::SessionLost)
    }

    /// The names of what the device can do.
    pub(super) async fn components(&self) -> Result<Vec<String>, Fault> {
        let mut state = self.0.lock().await;
        let client = &mut state.kept()?.client;
        let list = Box::pin(client.call("component_nego", Value::Null)).await?;
        if !list.get("component_list").is_some_and(Value::is_array) {
            return Err(Fault::Unreadable("it has no list of components".to_owned()));
        }
        Ok(component_ids(&list))
    }

    /// Sends one request and returns its result; `Null` where a request has none.
    pub(super) async fn perform(&self, request: DeviceRequest<'_>) -> Result<Value, Fault> {
        let mut state = self.0.lock().await;
        let KeptClient { client, batches, .. } = state.kept()?;
        let result = Box::pin(send(client, batches, request)).await?;
        if matches!(request, DeviceRequest::Info) {
            batches.on_info(&result);
        }
        Ok(result)
    }
}

impl OwnState {
    fn kept(&mut self) -> Result<&mut KeptClient, Fault> {
        self.kept.as_mut().ok_or(Fault::SessionLost)
    }
}

impl KeptClient {
    fn new(address: &str, credentials: &Credentials) -> Self {
        let Ok(endpoint) = address.parse::<Endpoint>();
        let account = tplink::Credentials::new(
            credentials.username.as_str(),
            credentials.password.expose().to_owned(),
        );
        Self {
            client: Client::new(endpoint, Some(account), Limits::default()),
            address: address.to_owned(),
            credentials: credentials.clone(),
            transport: None,
            knows_version: false,
            batches: Batches::default(),
        }
    }

    /// False if the device speaks something else.
    async fn log_in_over(&mut self, transport: Transport) -> Result<bool, Fault> {
        if transport == Transport::Aes && !self.knows_version {
            let announced = self.announced().await;
            if let Some(device) = &announced {
                if device
                    .protocol
                    .as_deref()
                    .is_some_and(|protocol| protocol != "AES")
                {
                    return Ok(false);
                }
                self.client.set_login_version(device.login_version);
                self.knows_version = true;
            }
        }
        match self.client.login(Some(transport)).await {
            Ok(login) if login.scheme.is_some_and(|scheme| scheme != Scheme::V2) => {
                self.client.close();
                Err(Fault::UnsupportedProtocol(OLD_KASA.to_owned()))
            }
            Ok(login) => {
                self.transport = Some(login.transport);
                Ok(true)
            }
            Err(Error::OtherProtocol) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What the device itself says of its login, which decides in which form the password is sent.
    async fn announced(&self) -> Option<Discovered> {
        let ip = self.client.endpoint().host().parse::<IpAddr>().ok()?;
        discover(&[ip], LISTEN).await.into_iter().next()
    }
}

async fn send(
    client: &mut Client,
    batches: &mut Batches,
    request: DeviceRequest<'_>,
) -> Result<Value, Error> {
    match request {
        DeviceRequest::Info => client.call("get_device_info", Value::Null).await,
        DeviceRequest::Children => client.call("get_child_device_list", page_from(0)).await,
        DeviceRequest::Child(id) => client.call_child(id, "get_device_info", Value::Null).await,
        DeviceRequest::Switch(child, power) => {
            let relay = json!({ "device_on": power == Power::On });
            call(client, child, "set_device_info", relay)
                .await
                .map(|_| Value::Null)
        }
        DeviceRequest::Meter(reading, child) => {
            let values = call(client, child, reading.method(), Value::Null).await?;
            if reading != MeterRequest::Day {
                return Ok(values);
            }
            Ok(json!({ "today_energy": values.pointer("/power_usage/today") }))
        }
        DeviceRequest::Reboot => {
            let reboot = client.call("device_reboot", json!({ "delay": 1 })).await;
            reboot.map(|_| Value::Null)
        }
        DeviceRequest::ChildComponents(first) => {
            let page = page_from(first);
            client.call("get_child_device_component_list", page).await
        }
        DeviceRequest::GetSetting(request, child) => call(client, child, request.method(), Value::Null).await,
        DeviceRequest::SetSetting(change, child) => {
            let current = call(client, child, SettingRequest::of(change).method(), Value::Null).await?;
            let changed = changed(change, &current);
            let (method, params) = changed.ok_or(Error::Unreadable("its setting has another form"))?;
            call(client, child, method, params).await.map(|_| Value::Null)
        }
        DeviceRequest::LatestFirmware => client.call("get_latest_fw", Value::Null).await,
        DeviceRequest::GetClock => client.call("get_device_time", Value::Null).await,
        DeviceRequest::GetTimer(child) => countdown_requests::get(client, child).await,
        DeviceRequest::SetTimer(child, length) => {
            let timer = countdown_requests::set(client, batches, child, length).await?;
            Ok(json!({ (READ_BACK): timer }))
        }
        DeviceRequest::ClearTimer(child) => countdown_requests::clear(client, child).await,
        DeviceRequest::GetRules(child) => rule_requests::get(client, child).await,
        DeviceRequest::GetRoom(child) => rule_requests::room(client, child).await,
        DeviceRequest::AddRule(child, rule) => rule_requests::add(client, child, rule).await,
        DeviceRequest::EditRule(child, id, rule) => rule_requests::edit(client, child, id, rule).await,
        DeviceRequest::RemoveRule(child, id) => rule_requests::remove(client, child, id).await,
    }
}

fn page_from(start: usize) -> Value {
    json!({ "start_index": start })
}

/// One request to the device, or to one of its children.
pub(super) async fn call(
    client: &mut Client,
    child: Option<&str>,
    method: &str,
    params: Value,
) -> Result<Value, Error> {
    match child {
        Some(id) => client.call_child(id, method, params).await,
        None => client.call(method, params).await,
    }
}
