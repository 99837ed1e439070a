//! The client of this project (`tplink`): one for each device, kept over its logins.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};
use tplink::{Account, Client, Endpoint, Error, Limits, Scheme, Transport};

use super::{
    batches::Batches,
    child_list::{child_list, set_thermostat},
    choice::{Known, Needs, ServingClient},
    countdown_requests,
    discovery::{Discovered, LISTEN, discover},
    fault::Fault,
    iot,
    readings::component_ids,
    rule_requests,
    session::{DeviceRequest, MeterRequest, READ_BACK},
    settings_on_wire::{SettingRequest, changed},
    trigger_logs::ENTRIES_MAX,
};
use crate::domain::devices::{ClientChoice, Credentials};
use planner::Power;

/// From a login that failed, and that the crate made good, to the next attempt: a device that starts may refuse one client and
/// take the next, and only this one reaches the countdowns of a strip. Each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_mins(1);
/// Its longest, and the same after sessions that failed again and again.
const LONGEST_RETRY: Duration = Duration::from_mins(30);
/// What it is asked to log in over: all that devices speak.
const ALL: [Transport; 4] = [Transport::Tpap, Transport::Klap, Transport::Aes, Transport::Xor];

/// Our client for one device. Its clones share one connection and one session, so there is never a second one.
#[derive(Debug, Clone, Default)]
pub(in crate::devices) struct OwnClient(Arc<Mutex<OwnState>>);

#[derive(Debug, Default)]
struct OwnState {
    kept: Option<KeptClient>,
    /// The `tapo` crate has logged in to the device: its protocol does not become an older one.
    crate_serves: bool,
    /// When this client is tried again, after the crate did what it could not.
    retry_at: Option<Instant>,
    /// How many logins in a row failed that the crate made good.
    failed_logins: u32,
    /// Whether the log says that this client failed where the `tapo` crate did not. It does so once.
    is_failure_said: bool,
}

/// It remembers how long a device counts wrong passwords, and which form of the password it takes.
#[derive(Debug)]
struct KeptClient {
    client: Client,
    address: String,
    credentials: Credentials,
    /// What the last login went over.
    transport: Option<Transport>,
    /// The `tapo` crate does not have the transport or the account of the last login.
    login_is_ours: bool,
    /// What the requests of this session look like, once it is known.
    dialect: Option<Dialect>,
    /// Those of the last session in which that was known.
    last_dialect: Option<Dialect>,
    /// The device said which form of the password it takes, so a wrong one is one attempt.
    knows_version: bool,
    /// Whether the firmware takes several requests in one.
    batches: Batches,
}

/// The two kinds of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// `{"method": ..., "params": ...}`.
    Smart,
    /// That of old Kasa devices.
    Iot,
}

impl OwnClient {
    /// What to log in over: an old transport first, if the last login was over it. Newer devices tell at the first request
    /// what they speak, and refuse all else.
    pub(super) async fn transports(&self) -> [Transport; 4] {
        let mut transports = ALL;
        let state = self.0.lock().await;
        let last = state.kept.as_ref().and_then(|kept| kept.transport);
        if let Some(last @ (Transport::Aes | Transport::Xor)) = last {
            transports.sort_by_key(|transport| *transport != last);
        }
        transports
    }

    /// Whether only this client can log in to the device, or read it, as it is now.
    pub(super) async fn is_alone(&self) -> bool {
        self.0.lock().await.is_alone()
    }

    /// Whether the device may be one that the `tapo` crate cannot log in to.
    pub(super) async fn may_serve(&self) -> bool {
        !self.0.lock().await.crate_serves
    }

    /// Which client serves the device.
    pub(super) async fn client_for(&self, setting: ClientChoice, needs: Needs) -> ServingClient {
        let state = self.0.lock().await;
        let known = Known {
            setting,
            needs,
            is_old: state.is_alone(),
            own_failed: state.retry_at.is_some(),
        };
        known.client()
    }

    /// It failed in its sessions again and again: the crate is tried, if it can log in at all. Returns whether it is.
    pub(super) async fn give_up(&self) -> bool {
        let mut state = self.0.lock().await;
        if state.is_alone() {
            return false;
        }
        state.retry_at = Some(Instant::now() + LONGEST_RETRY);
        true
    }

    /// What failed does not count any more: the crate fails too, the firmware changed, or time has passed.
    pub(super) async fn forget_failure(&self) {
        self.0.lock().await.retry_at = None;
    }

    /// The device was read over this client.
    pub(super) async fn on_served(&self) {
        self.0.lock().await.failed_logins = 0;
    }

    /// When this client is tried again, if it failed.
    pub(super) async fn retry_at(&self) -> Option<Instant> {
        self.0.lock().await.retry_at
    }

    /// The `tapo` crate has logged in.
    pub(super) async fn leave_to_crate(&self) {
        let mut state = self.0.lock().await;
        (state.kept, state.crate_serves) = (None, true);
    }

    /// The crate has logged in where this client failed. Returns whether that is to be said.
    pub(super) async fn on_crate_helped(&self) -> bool {
        self.leave_to_crate().await;
        let mut state = self.0.lock().await;
        let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(state.failed_logins));
        state.retry_at = Some(Instant::now() + wait.min(LONGEST_RETRY));
        state.failed_logins = state.failed_logins.saturating_add(1);
        !std::mem::replace(&mut state.is_failure_said, true)
    }

    /// Ends the session, unless a request is in flight.
    pub(in crate::devices) fn close(&self) {
        if let Ok(mut state) = self.0.try_lock()
            && let Some(kept) = &mut state.kept
        {
            kept.client.close();
        }
    }

    /// Logs in over the first of these transports that the device speaks, and returns it; none if it speaks none of them.
    pub(super) async fn log_in(
        &self,
        address: &str,
        credentials: &Credentials,
        limit: Duration,
        transports: &[Transport],
    ) -> Result<Option<Transport>, Fault> {
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
        (kept.transport, kept.dialect) = (None, None);
        // Old devices serve no HTTP; newer ones nothing else, and may leave another port without an answer.
        let mut without_http = None;
        for (nth, transport) in transports.iter().enumerate() {
            let is_http = *transport != Transport::Xor;
            if is_http && without_http.is_some() {
                continue;
            }
            match Box::pin(kept.log_in_over(*transport)).await {
                Ok(true) => return Ok(Some(*transport)),
                Ok(false) => {}
                Err(fault @ (Fault::Refused | Fault::Closed)) if is_http => without_http = Some(fault),
                // It may speak TPAP since it was asked.
                Err(Fault::Forbidden)
                    if *transport == Transport::Klap && transports.contains(&Transport::Tpap) =>
                {
                    return match Box::pin(kept.log_in_over(Transport::Tpap)).await {
                        Ok(true) => Ok(Some(Transport::Tpap)),
                        // Whether it speaks TPAP is not known, or it does.
                        Err(
                            fault @ (Fault::NoAnswer
                            | Fault::Closed
                            | Fault::WrongCredentials
                            | Fault::CountedCredentials
                            | Fault::LockedOut),
                        ) => Err(fault),
                        Ok(false) | Err(_) => Err(Fault::Forbidden),
                    };
                }
                Err(Fault::Refused) if nth == 0 && transports.len() > 1 => {}
                Err(_) if !is_http && nth > 0 => {}
                Err(fault) => return Err(fault),
            }
        }
        without_http.map_or(Ok(None), Err)
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
        let kept = state.kept()?;
        let (dialect, described) = Box::pin(describe(&mut kept.client, kept.dialect)).await?;
        kept.set_dialect(dialect);
        if dialect == Dialect::Iot {
            return Ok(iot::components(&described));
        }
        if !described.get("component_list").is_some_and(Value::is_array) {
            return Err(Fault::Unreadable("it has no list of components".to_owned()));
        }
        Ok(component_ids(&described))
    }

    /// Sends one request and returns its result; `Null` where a request has none.
    pub(super) async fn perform(&self, request: DeviceRequest<'_>) -> Result<Value, Fault> {
        let mut state = self.0.lock().await;
        let kept = state.kept()?;
        let dialect = match kept.dialect {
            Some(dialect) => dialect,
            None => match Box::pin(describe(&mut kept.client, None))
                .await
                .map_err(Fault::from)
            {
                Ok((dialect, _)) => dialect,
                // One that answers each reading with an error takes an OFF all the same.
                Err(fault) if fault.is_own_answer() => kept.last_dialect.unwrap_or(Dialect::Smart),
                Err(fault) => return Err(fault),
            },
        };
        kept.set_dialect(dialect);
        let KeptClient { client, batches, .. } = kept;
        if dialect == Dialect::Iot {
            return Ok(Box::pin(iot::send(client, request)).await?);
        }
        let result = Box::pin(send(client, batches, request)).await?;
        if matches!(request, DeviceRequest::Info) {
            batches.on_info(&result);
        }
        Ok(result)
    }
}

impl OwnState {
    fn is_alone(&self) -> bool {
        self.kept
            .as_ref()
            .is_some_and(|kept| kept.login_is_ours || kept.last_dialect == Some(Dialect::Iot))
    }

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
            login_is_ours: false,
            dialect: None,
            last_dialect: None,
            knows_version: false,
            batches: Batches::default(),
        }
    }

    fn set_dialect(&mut self, dialect: Dialect) {
        (self.dialect, self.last_dialect) = (Some(dialect), Some(dialect));
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
            Ok(login) => {
                self.dialect = match (login.transport, login.scheme) {
                    (Transport::Xor, _) | (_, Some(Scheme::V1 | Scheme::Mixed)) => Some(Dialect::Iot),
                    // KLAP 2 has both.
                    (Transport::Klap, _) => self.dialect,
                    _ => Some(Dialect::Smart),
                };
                let is_klap_2 = login.transport == Transport::Klap && login.scheme == Some(Scheme::V2);
                self.login_is_ours = !(login.transport == Transport::Tpap || is_klap_2)
                    || login.account != Some(Account::User);
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

/// What a device says of what it can do, and in which JSON. Over KLAP 2 that is not known before: each kind answers the
/// requests of the other with an error or without a result.
async fn describe(client: &mut Client, known: Option<Dialect>) -> Result<(Dialect, Value), Error> {
    if known == Some(Dialect::Iot) {
        return Ok((Dialect::Iot, iot::sysinfo(client).await?));
    }
    let components = client.call("component_nego", Value::Null).await;
    let is_answered = match &components {
        Ok(list) => list.get("component_list").is_some(),
        Err(Error::UnknownRequest(_) | Error::Device(_) | Error::Unreadable(_)) => false,
        Err(_) => true,
    };
    if !is_answered
        && known.is_none()
        && let Ok(sysinfo) = iot::sysinfo(client).await
    {
        return Ok((Dialect::Iot, sysinfo));
    }
    Ok((Dialect::Smart, components?))
}

async fn send(
    client: &mut Client,
    batches: &mut Batches,
    request: DeviceRequest<'_>,
) -> Result<Value, Error> {
    match request {
        DeviceRequest::Info => client.call("get_device_info", Value::Null).await,
        DeviceRequest::Children => child_list(client).await,
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
            let current = if change.is_kept() {
                call(client, child, SettingRequest::of(change).method(), Value::Null).await?
            } else {
                Value::Null
            };
            let changed = changed(change, &current);
            let (method, params) = changed.ok_or(Error::Unreadable("its setting has another form"))?;
            call(client, child, method, params).await.map(|_| Value::Null)
        }
        DeviceRequest::LatestFirmware => client.call("get_latest_fw", Value::Null).await,
        DeviceRequest::GetClock => client.call("get_device_time", Value::Null).await,
        DeviceRequest::GetTimer(child) => countdown_requests::get(client, child).await,
        DeviceRequest::SetTimer(child, length, rule) => {
            let timer = countdown_requests::set(client, batches, child, length, rule).await?;
            Ok(json!({ (READ_BACK): timer }))
        }
        DeviceRequest::ClearTimer(child) => countdown_requests::clear(client, child).await,
        DeviceRequest::GetRules(child) => rule_requests::get(client, child).await,
        DeviceRequest::GetRoom(child) => rule_requests::room(client, child).await,
        DeviceRequest::AddRule(child, rule) => rule_requests::add(client, child, rule).await,
        DeviceRequest::EditRule(child, id, rule) => rule_requests::edit(client, child, id, rule).await,
        DeviceRequest::RemoveRule(child, id) => rule_requests::remove(client, child, id).await,
        DeviceRequest::TriggerLogs(id) => {
            let newest = json!({ "page_size": ENTRIES_MAX, "start_id": 0 });
            client.call_child(id, "get_trigger_logs", newest).await
        }
        DeviceRequest::SetThermostat(id, setting) => set_thermostat(client, id, setting).await,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_login_that_failed_is_tried_again_later_and_later() {
        let own = OwnClient::default();
        let mut waits = Vec::new();
        for attempt in 0..8 {
            if attempt == 7 {
                own.on_served().await;
            }
            own.on_crate_helped().await;
            waits.push((own.retry_at().await.unwrap() - Instant::now()).as_secs() / 60);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 1]);
    }
}
