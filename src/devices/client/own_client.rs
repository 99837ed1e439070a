//! The client of this project (`tplink`): one for each device, kept over its logins.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tplink::{Client, Endpoint, Error, ErrorCode, Limits, Scheme, Transport};

use super::{
    choice::{Known, Needs, OwnFailed, ServingClient},
    discovery::{Discovered, LISTEN, OLD_KASA, discover},
    fault::Fault,
    readings::{TEXT_MAX, component_ids},
    rule_on_wire::{rule_of, weekly, with_id},
    session::{DeviceRequest, MeterRequest},
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
        let client = state.client()?;
        let list = Box::pin(client.call("component_nego", Value::Null)).await?;
        if !list.get("component_list").is_some_and(Value::is_array) {
            return Err(Fault::Unreadable("it has no list of components".to_owned()));
        }
        Ok(component_ids(&list))
    }

    /// Sends one request and returns its result; `Null` where a request has none.
    pub(super) async fn perform(&self, request: DeviceRequest<'_>) -> Result<Value, Fault> {
        let mut state = self.0.lock().await;
        let client = state.client()?;
        Ok(Box::pin(send(client, request)).await?)
    }
}

impl OwnState {
    fn client(&mut self) -> Result<&mut Client, Fault> {
        let kept = self.kept.as_mut().ok_or(Fault::SessionLost)?;
        Ok(&mut kept.client)
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

async fn send(client: &mut Client, request: DeviceRequest<'_>) -> Result<Value, Error> {
    match request {
        DeviceRequest::Info => client.call("get_device_info", Value::Null).await,
        DeviceRequest::Children => client.call("get_child_device_list", first_page()).await,
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
        DeviceRequest::ChildComponents => client.call("get_child_device_component_list", first_page()).await,
        DeviceRequest::GetSetting(request, child) => call(client, child, request.method(), Value::Null).await,
        DeviceRequest::SetSetting(change, child) => {
            let current = call(client, child, SettingRequest::of(change).method(), Value::Null).await?;
            let changed = changed(change, &current);
            let (method, params) = changed.ok_or(Error::Unreadable("its setting has another form"))?;
            call(client, child, method, params).await.map(|_| Value::Null)
        }
        DeviceRequest::LatestFirmware => client.call("get_latest_fw", Value::Null).await,
        DeviceRequest::GetClock => client.call("get_device_time", Value::Null).await,
        DeviceRequest::GetTimer => get_timer(client).await,
        DeviceRequest::SetTimer(delay) => set_timer(client, delay).await,
        DeviceRequest::ClearTimer => clear_timer(client).await,
        DeviceRequest::GetRules => get_rules(client).await,
        DeviceRequest::GetRoom => {
            let page = rule_page(client, 0).await?;
            let room = page.get("schedule_rule_max_count").cloned();
            room.ok_or(Error::Unreadable("it does not say how many rules it holds"))
        }
        DeviceRequest::AddRule(rule) => {
            let added = client.call("add_schedule_rule", weekly(rule)).await?;
            let id = added.get("id").and_then(Value::as_str);
            // Without an id it may exist all the same, and the next reading shows it.
            Ok(id
                .filter(|id| id.len() <= TEXT_MAX)
                .map_or(Value::Null, |id| json!({ "id": id })))
        }
        DeviceRequest::EditRule(id, rule) => {
            let rule = with_id(weekly(rule), id);
            client.call("edit_schedule_rule", rule).await.map(|_| Value::Null)
        }
        DeviceRequest::RemoveRule(id) => {
            let rules = json!({ "remove_all": false, "rule_list": [{ "id": id }] });
            client
                .call("remove_schedule_rules", rules)
                .await
                .map(|_| Value::Null)
        }
    }
}

fn first_page() -> Value {
    json!({ "start_index": 0 })
}

async fn call(client: &mut Client, child: Option<&str>, method: &str, params: Value) -> Result<Value, Error> {
    match child {
        Some(id) => client.call_child(id, method, params).await,
        None => client.call(method, params).await,
    }
}

/// The only countdown of the device, as it is on the wire.
async fn countdown(client: &mut Client) -> Result<Option<Value>, Error> {
    let mut list = client.call("get_countdown_rules", Value::Null).await?;
    let rules = list.get_mut("rule_list").map(Value::take);
    Ok(match rules {
        Some(Value::Array(rules)) => rules.into_iter().next(),
        _ => None,
    })
}

async fn get_timer(client: &mut Client) -> Result<Value, Error> {
    let Some(rule) = countdown(client).await? else {
        return Ok(Value::Null);
    };
    let on = rule.pointer("/desired_states/on").and_then(Value::as_bool);
    let on = on.or_else(|| match rule.get("action")?.as_str()? {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    });
    let on = on.ok_or(Error::Unreadable("its countdown does not say to what"))?;
    let seconds = |name| rule.get(name).and_then(Value::as_u64);
    let length = seconds("delay").ok_or(Error::Unreadable("its countdown has no length"))?;
    Ok(json!({ "on": on, "length_s": length, "remaining_s": seconds("remain").unwrap_or_default() }))
}

/// A countdown that is there is changed in place: at no moment is the outlet without one.
async fn set_timer(client: &mut Client, delay: Duration) -> Result<Value, Error> {
    let new = json!({ "enable": true, "delay": delay.as_secs(), "desired_states": { "on": false } });
    let listed = countdown(client).await?;
    let id = listed.as_ref().and_then(|rule| rule.get("id")?.as_str());
    let answer = match id {
        Some(id) => client.call("edit_countdown_rule", with_id(new.clone(), id)).await,
        None => client.call("add_countdown_rule", new.clone()).await,
    };
    let replaces = match &answer {
        // Firmware that cannot change it in place.
        Err(Error::UnknownRequest(_)) => id.is_some(),
        // One runs that it does not list.
        Err(Error::Device(code)) => *code == ErrorCode::COUNTDOWN_CONFLICT,
        _ => false,
    };
    if !replaces {
        return answer.map(|_| Value::Null);
    }
    clear_timer(client).await?;
    client.call("add_countdown_rule", new).await.map(|_| Value::Null)
}

async fn clear_timer(client: &mut Client) -> Result<Value, Error> {
    let all = json!({ "remove_all": true });
    client
        .call("remove_countdown_rules", all)
        .await
        .map(|_| Value::Null)
}

async fn rule_page(client: &mut Client, start: usize) -> Result<Value, Error> {
    client
        .call("get_schedule_rules", json!({ "start_index": start }))
        .await
}

/// A plug holds 32 rules and returns five at a time.
const RULE_PAGES: u32 = 7;
const RULES_MAX: usize = 32;

async fn get_rules(client: &mut Client) -> Result<Value, Error> {
    let (mut rules, mut fetched) = (Vec::new(), 0);
    for _ in 0..RULE_PAGES {
        let page = rule_page(client, fetched).await?;
        let list = page.get("rule_list").and_then(Value::as_array);
        let list = list.map(Vec::as_slice).unwrap_or_default();
        fetched += list.len();
        rules.extend(list.iter().filter_map(rule_of));
        let sum = page.get("sum").and_then(Value::as_u64).unwrap_or_default();
        if list.is_empty() || fetched as u64 >= sum {
            break;
        }
    }
    rules.truncate(RULES_MAX);
    Ok(rules.into())
}
