//! A session with a device, over the `tapo` crate or our own client.
//!
//! State is read as JSON into lenient structs: the typed results of the crate fail on most
//! firmware versions (missing or renamed fields, closed enums).

use std::{pin::Pin, time::Duration};

use serde_json::{Value, json};
use tapo::{
    ApiClient, PlugEnergyMonitoringHandler, PowerStripEnergyMonitoringHandler, TapoResponseError,
    requests::{DaysOfWeek, ScheduleRule},
    responses::PowerState,
};
use tokio::time::timeout;
use tracing::info;

use super::{
    choice::{Needs, ServingClient, may_help},
    fault::Fault,
    fence::{Fenced, TooManyPieces},
    own_client::OwnClient,
    readings::{TEXT_MAX, line_of},
    rule_on_wire::{RULE_PAGES, RULES_MAX},
    settings_on_wire::SettingRequest,
};
use crate::{
    domain::{
        device_settings::SettingChange,
        devices::{ClientChoice, Credentials, DeviceConfig},
        off_rules::WeeklyOff,
        report::{Kind, Serving},
    },
    system::{causes, resolver::resolved, root_cause},
};
use planner::Power;
use tplink::Transport;

/// One request on the wire.
#[derive(Debug, Clone, Copy)]
pub(in crate::devices) enum DeviceRequest<'a> {
    /// The device's own values; on a plug the outlet's too.
    Info,
    /// All children of a strip or hub: one request for each ten of them.
    Children,
    /// One child of a strip.
    Child(&'a str),
    /// A relay: of a child, or the plug's own.
    Switch(Option<&'a str>, Power),
    /// Values of a meter: of a child, or the plug's own.
    Meter(MeterRequest, Option<&'a str>),
    /// What the children of a strip can do, from this one on. This and the next four are requests of our own client.
    ChildComponents(usize),
    /// Settings: of a child, or the device's own.
    GetSetting(SettingRequest, Option<&'a str>),
    /// Change a setting. Two requests: a device takes its settings as a whole.
    SetSetting(SettingChange, Option<&'a str>),
    /// The newest firmware that the device knows.
    LatestFirmware,
    /// The device's clock.
    GetClock,
    /// Restart in one second, so that the answer still arrives.
    Reboot,
    /// The countdown of an outlet: `Null`, or `{"on": bool, "length_s": int, "remaining_s": int}`, from our client with its
    /// `id`.
    GetTimer(Option<&'a str>),
    /// Arm the countdown of an outlet to OFF, 1 s to 24 h. Our own client changes the one with this id in place, and
    /// returns what it read back as [`READ_BACK`]. The crate sends two requests: it clears and adds it, and a failure of
    /// the second leaves none.
    SetTimer(Option<&'a str>, Duration, Option<&'a str>),
    /// Clear the countdown of an outlet.
    ClearTimer(Option<&'a str>),
    /// The schedule rules of an outlet, one request for each five of them: a list. The crate skips those that it
    /// cannot read.
    GetRules(Option<&'a str>),
    /// How many schedule rules an outlet holds at most: a number.
    GetRoom(Option<&'a str>),
    /// Add a rule to an outlet: `{"id": ...}`.
    AddRule(Option<&'a str>, WeeklyOff),
    /// Replace the content of a rule of an outlet.
    EditRule(Option<&'a str>, &'a str, WeeklyOff),
    /// Remove a rule of an outlet.
    RemoveRule(Option<&'a str>, &'a str),
    /// The newest entries of the log of a button at a hub.
    TriggerLogs(&'a str),
    /// Set a thermostat of a hub.
    SetThermostat(&'a str, ThermostatSetting),
}

/// What a thermostat is set to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::devices) struct ThermostatSetting {
    /// On the scale of the thermostat.
    pub(in crate::devices) target: Option<f64>,
    /// Whether it heats, or only protects against frost.
    pub(in crate::devices) is_on: Option<bool>,
}

impl DeviceRequest<'_> {
    /// Whether a device that cannot answer it is of no use.
    pub(super) fn is_essential(self) -> bool {
        matches!(
            self,
            Self::Info | Self::Children | Self::Child(_) | Self::Switch(..)
        )
    }
}

/// The member of a result with the countdown that was read back, in the form of [`DeviceRequest::GetTimer`].
pub(in crate::devices) const READ_BACK: &str = "read_back";

/// A request to a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::devices) enum MeterRequest {
    /// Voltage, current, power, and the energy since the restart.
    Live,
    /// The energy of the day and the month; on plugs also the power.
    Usage,
    /// The power alone.
    Power,
    /// The energy of the day alone.
    Day,
}

impl MeterRequest {
    /// Its method on the wire.
    pub(in crate::devices) fn method(self) -> &'static str {
        match self {
            Self::Live => "get_emeter_data",
            Self::Usage => "get_energy_usage",
            Self::Power => "get_current_power",
            Self::Day => "get_device_usage",
        }
    }
}

/// A session with one device. Requests must not overlap: the protocol numbers them.
pub(in crate::devices) struct Session {
    handler: Handler,
    /// What it goes over, where that is known.
    transport: Option<Transport>,
    /// Limits every request: the timeout of the crate does not cover reading the body in all cases.
    limit: Duration,
}

enum Handler {
    Plug(PlugEnergyMonitoringHandler),
    Strip(PowerStripEnergyMonitoringHandler),
    Own(OwnClient),
}

impl Session {
    /// Logs in with the client that is chosen for the device: 3 requests, and some more to a device that it cannot log in to.
    pub(in crate::devices) async fn open(
        address: &str,
        config: &DeviceConfig,
        needs: Needs,
        limit: Duration,
        own: &OwnClient,
    ) -> Result<Self, Fault> {
        let credentials = config.credentials.as_ref().ok_or(Fault::NoAccount)?;
        let address = resolve(address).await?;
        let own_login = OwnLogin {
            address: &address,
            credentials,
            limit,
            own,
        };
        let with_crate = async || {
            own.close();
            Self::open_with_crate(address.clone(), credentials, needs.kind, limit).await
        };
        if own.client_for(config.client, needs).await == ServingClient::Own {
            let is_ours = config.client == ClientChoice::Own || own.is_alone().await;
            let failed = match own_login.over(&own.transports().await).await {
                Ok(Some(session)) => return Ok(session),
                // It changed its protocol, is starting, or is no device.
                Ok(None) => Fault::SessionLost,
                Err(fault) => fault,
            };
            if is_ours || needs.kind == Kind::Hub || !may_help(&failed) {
                return Err(failed);
            }
            let session = with_crate().await.map_err(|failure| failure.fault)?;
            if own.on_crate_helped().await {
                info!(device = %config.id, reason = %failed, "our own client cannot log in; the tapo crate serves the device");
            }
            return Ok(session);
        }
        let mut opened = with_crate().await;
        // The library asks for TPAP before it tries KLAP: one that changes its protocol in between seems to refuse both.
        if let Err(CrateFailure {
            fault: Fault::Forbidden,
            ..
        }) = opened
        {
            opened = with_crate().await;
        }
        let failure = match opened {
            Ok(session) => {
                own.leave_to_crate().await;
                return Ok(session);
            }
            Err(failure) => failure,
        };
        let transports = failure.transports();
        if transports.is_empty() || config.client != ClientChoice::Auto || !own.may_serve().await {
            return Err(failure.fault);
        }
        match own_login.over(transports).await {
            Ok(session) => session.ok_or(failure.fault),
            Err(refused @ Fault::WrongCredentials) => Err(refused),
            Err(_) => Err(failure.fault),
        }
    }

    /// Starts a session with an old Kasa device, which serves no HTTP.
    pub(in crate::devices) async fn open_without_http(
        address: &str,
        config: &DeviceConfig,
        limit: Duration,
        own: &OwnClient,
    ) -> Result<Option<Self>, Fault> {
        let credentials = config.credentials.as_ref().ok_or(Fault::NoAccount)?;
        if config.client == ClientChoice::Tapo || !own.may_serve().await {
            return Ok(None);
        }
        let address = resolve(address).await?;
        let login = OwnLogin {
            address: &address,
            credentials,
            limit,
            own,
        };
        login.over(&[Transport::Xor]).await
    }

    /// A plug's handler drives every single plug and a strip's every strip, regardless of the model name; `kind` selects
    /// one.
    async fn open_with_crate(
        address: String,
        credentials: &Credentials,
        kind: Kind,
        limit: Duration,
    ) -> Result<Self, CrateFailure> {
        let client =
            ApiClient::new(credentials.username.as_str(), credentials.password.expose()).with_timeout(limit);
        let login = async {
            Ok(match kind {
                Kind::Plug => Handler::Plug(client.p110(address).await?),
                Kind::Strip | Kind::Hub => Handler::Strip(client.p304(address).await?),
            })
        };
        let mut knows_account = None;
        let login = Box::pin(async {
            let handler = login.await;
            knows_account = handler.as_ref().err().map(|error| !is_unknown_account(error));
            handler
        });
        let handler = within(limit, LOGIN_REQUESTS, login).await;
        let handler = handler.map_err(|fault| CrateFailure {
            fault,
            is_unknown_account: knows_account == Some(false),
        })?;
        Ok(Self {
            handler,
            transport: None,
            limit,
        })
    }

    /// Whether the `tapo` crate reads this answer into a struct, which fails where a field is odd.
    pub(in crate::devices) fn reads_strictly(&self, request: DeviceRequest<'_>) -> bool {
        self.client() == ServingClient::Crate && matches!(request, DeviceRequest::Meter(..))
    }

    /// Whether it serves a device of this kind.
    pub(in crate::devices) fn serves(&self, kind: Kind) -> bool {
        match self.handler {
            Handler::Plug(_) => kind == Kind::Plug,
            Handler::Strip(_) => kind == Kind::Strip,
            Handler::Own(_) => true,
        }
    }

    /// The client that it is a session of.
    pub(in crate::devices) fn client(&self) -> ServingClient {
        match self.handler {
            Handler::Plug(_) | Handler::Strip(_) => ServingClient::Crate,
            Handler::Own(_) => ServingClient::Own,
        }
    }

    /// What reaches the device.
    pub(in crate::devices) fn serving(&self) -> Serving {
        Serving {
            client: self.client().name(),
            transport: self.transport.map(|transport| match transport {
                Transport::Klap => "klap",
                Transport::Tpap => "tpap",
                Transport::Aes => "aes",
                Transport::Xor => "xor",
            }),
        }
    }

    /// Takes what the device announced before the crate logged in, which does not say what it goes over.
    pub(super) fn set_announced(&mut self, announced: Option<Transport>) {
        self.transport = self.transport.or(announced);
    }

    /// Logs in again on the same handler: 2 requests. Fails if the device changed its protocol.
    pub(in crate::devices) async fn refresh(&mut self) -> Result<(), Fault> {
        let (limit, requests) = (self.limit, LOGIN_REQUESTS);
        match &mut self.handler {
            Handler::Plug(plug) => within(limit, requests, Box::pin(plug.refresh_session()))
                .await
                .map(drop),
            Handler::Strip(strip) => within(limit, requests, Box::pin(strip.refresh_session()))
                .await
                .map(drop),
            Handler::Own(own) => own.log_in_again().await,
        }
    }

    /// The names of what the device can do (`energy_monitoring`, `control_child`...). `None` if the list cannot be read:
    /// the crate needs a version from 0 to 255 for each.
    pub(in crate::devices) async fn components(&self) -> Result<Option<Vec<String>>, Fault> {
        let list = match &self.handler {
            Handler::Plug(plug) => within(self.limit, 1, Box::pin(plug.get_component_list())).await,
            Handler::Strip(strip) => within(self.limit, 1, Box::pin(strip.get_component_list())).await,
            Handler::Own(own) => match own.components().await {
                Err(Fault::Unreadable(_)) => return Ok(None),
                list => return list.map(Some).map_err(Fault::after_login),
            },
        };
        match list {
            Ok(list) => Ok(Some(list.into_iter().map(|component| component.id).collect())),
            Err(Fault::Unreadable(_)) => Ok(None),
            Err(fault) => Err(fault.after_login()),
        }
    }

    /// Sends one request and returns its result; `Null` where a request has none.
    pub(in crate::devices) async fn perform(&self, request: DeviceRequest<'_>) -> Result<Value, Fault> {
        if let Handler::Own(own) = &self.handler {
            return own.perform(request).await.map_err(Fault::after_login);
        }
        let requests = match request {
            DeviceRequest::SetTimer(..) => 2,
            DeviceRequest::GetRules(_) => RULE_PAGES,
            _ => 1,
        };
        let answer = within(self.limit, requests, Box::pin(self.send(request))).await;
        answer.map_err(Fault::after_login)
    }

    async fn send(&self, request: DeviceRequest<'_>) -> Result<Value, tapo::Error> {
        match &self.handler {
            Handler::Plug(plug) => send_to_plug(plug, request).await,
            Handler::Strip(strip) => send_to_strip(strip, request).await,
            Handler::Own(_) => Err(tapo::Error::DeviceNotFound),
        }
    }
}

/// A plug has no children: for those the error that a device without them would return.
async fn send_to_plug(
    plug: &PlugEnergyMonitoringHandler,
    request: DeviceRequest<'_>,
) -> Result<Value, tapo::Error> {
    match request {
        DeviceRequest::Info => plug.get_device_info_json().await,
        DeviceRequest::Switch(_, Power::On) => done(plug.on().await),
        DeviceRequest::Switch(_, Power::Off) => done(plug.off().await),
        DeviceRequest::Meter(MeterRequest::Live, None) => as_json(&plug.get_energy_meter_data().await?),
        DeviceRequest::Meter(MeterRequest::Usage, None) => as_json(&plug.get_energy_usage().await?),
        DeviceRequest::Meter(MeterRequest::Power, None) => as_json(&plug.get_current_power().await?),
        DeviceRequest::Meter(MeterRequest::Day, None) => {
            Ok(day(plug.get_device_usage().await?.power_usage.today))
        }
        DeviceRequest::Reboot => done(plug.device_reboot(REBOOT_DELAY_S).await),
        DeviceRequest::GetTimer(None) => Ok(plug.get_timer().await?.map_or(Value::Null, |timer| {
            json!({
                "on": matches!(timer.desired_state, PowerState::On),
                "length_s": timer.delay_s,
                "remaining_s": timer.remaining_s,
            })
        })),
        DeviceRequest::SetTimer(None, delay, _) => done(plug.set_timer(delay, PowerState::Off).await),
        DeviceRequest::ClearTimer(None) => done(plug.clear_timer().await),
        DeviceRequest::GetRules(None) => {
            let mut rules = plug.get_schedule_rules().await?;
            rules.truncate(RULES_MAX);
            rules.retain(|rule| is_id(&rule.id));
            as_json(&rules)
        }
        DeviceRequest::GetRoom(None) => as_json(&plug.get_max_schedule_rules().await?),
        DeviceRequest::AddRule(None, rule) => {
            let rule = plug.add_schedule_rule(weekly(rule)?).await?;
            // Without an id it may exist all the same, and the next reading shows it.
            Ok(if is_id(&rule.id) {
                as_json(&rule)?
            } else {
                Value::Null
            })
        }
        DeviceRequest::EditRule(None, id, rule) => {
            done(plug.edit_schedule_rule(weekly(rule)?.with_id(id)).await)
        }
        DeviceRequest::RemoveRule(None, id) => done(plug.remove_schedule_rule(id).await),
        _ => Err(tapo::Error::DeviceNotFound),
    }
}

/// The crate reaches only the relays and meters of the children.
async fn send_to_strip(
    strip: &PowerStripEnergyMonitoringHandler,
    request: DeviceRequest<'_>,
) -> Result<Value, tapo::Error> {
    let child = |id| strip.plug_unchecked(id);
    match request {
        DeviceRequest::Info => strip.get_device_info_json().await,
        DeviceRequest::Children => strip.get_child_device_list_json().await,
        DeviceRequest::Child(id) => child(id).get_device_info_json().await,
        DeviceRequest::Switch(Some(id), Power::On) => done(child(id).on().await),
        DeviceRequest::Switch(Some(id), Power::Off) => done(child(id).off().await),
        DeviceRequest::Meter(MeterRequest::Live, Some(id)) => {
            as_json(&child(id).get_energy_meter_data().await?)
        }
        DeviceRequest::Meter(MeterRequest::Usage, Some(id)) => as_json(&child(id).get_energy_usage().await?),
        DeviceRequest::Meter(MeterRequest::Power, Some(id)) => as_json(&child(id).get_current_power().await?),
        DeviceRequest::Meter(MeterRequest::Day, Some(id)) => {
            Ok(day(child(id).get_device_usage().await?.power_usage.today))
        }
        DeviceRequest::Reboot => done(strip.device_reboot(REBOOT_DELAY_S).await),
        _ => Err(tapo::Error::DeviceNotFound),
    }
}

fn done<T>(answer: Result<T, tapo::Error>) -> Result<Value, tapo::Error> {
    answer.map(|_| Value::Null)
}

/// As in the usage of which it is a part.
fn day(energy: impl Into<Value>) -> Value {
    json!({ "today_energy": energy.into() })
}

/// The crate has no JSON form of some results. Its typed ones fail when a field is missing; as JSON again, the values are read as
/// leniently as all others.
fn as_json(result: &impl serde::Serialize) -> Result<Value, tapo::Error> {
    Ok(serde_json::to_value(result)?)
}

/// Ids are kept and published.
fn is_id(id: &str) -> bool {
    id.chars().count() <= TEXT_MAX
}

fn weekly(rule: WeeklyOff) -> Result<ScheduleRule, tapo::Error> {
    let part = |part: u16| u8::try_from(part).unwrap_or(u8::MAX);
    ScheduleRule::clock_weekly(
        part(rule.minute / 60),
        part(rule.minute % 60),
        DaysOfWeek::from_bits_truncate(rule.days.bits()),
        PowerState::Off,
    )
}

/// A login is at most four requests (discover, two handshakes, and TPAP's share).
const LOGIN_REQUESTS: u32 = 4;
const REBOOT_DELAY_S: u16 = 1;

/// Limits an operation of some requests, in time and in what it reads, and classifies its error. The operation is boxed: as a
/// part of a worker its 10 kB and more would be allocated for every device, also without a request in flight.
async fn within<T>(
    limit: Duration,
    requests: u32,
    operation: Pin<Box<impl Future<Output = Result<T, tapo::Error>>>>,
) -> Result<T, Fault> {
    match timeout(limit * requests, Fenced::new(operation, requests)).await {
        Ok(Ok(result)) => result.map_err(|error| classify(&error)),
        Ok(Err(TooManyPieces)) => Err(Fault::Oversized),
        Err(_) => Err(Fault::NoAnswer),
    }
}

async fn resolve(address: &str) -> Result<String, Fault> {
    let resolved = resolved(address).await;
    resolved.map_err(|error| Fault::Unreachable(format!("{address} has no address: {error}")))
}

/// A login with our own client.
struct OwnLogin<'a> {
    address: &'a str,
    credentials: &'a Credentials,
    limit: Duration,
    own: &'a OwnClient,
}

impl OwnLogin<'_> {
    /// None if the device speaks none of these.
    async fn over(&self, transports: &[Transport]) -> Result<Option<Session>, Fault> {
        let Self {
            address,
            credentials,
            limit,
            own,
        } = *self;
        let transport = own.log_in(address, credentials, limit, transports).await?;
        Ok(transport.map(|transport| Session {
            handler: Handler::Own(own.clone()),
            transport: Some(transport),
            limit,
        }))
    }
}

/// A login of the `tapo` crate that failed.
struct CrateFailure {
    fault: Fault,
    /// The device proved over KLAP that it has an account, but not the configured one in the form that the crate knows.
    /// No password was sent.
    is_unknown_account: bool,
}

impl CrateFailure {
    /// What the device may speak that the crate does not.
    fn transports(&self) -> &'static [Transport] {
        match self.fault {
            Fault::WrongCredentials if self.is_unknown_account => &[Transport::Klap],
            // So ends its login to a device that speaks AES or XOR.
            Fault::SessionLost | Fault::Closed | Fault::UnsupportedProtocol(_) | Fault::Unreadable(_) => {
                &[Transport::Aes, Transport::Xor]
            }
            _ => &[],
        }
    }
}

fn is_unknown_account(error: &tapo::Error) -> bool {
    matches!(
        error,
        tapo::Error::Tapo(TapoResponseError::Unauthorized {
            kind: "HASH_MISMATCH",
            ..
        })
    )
}

/// The text of an error, which may have a text of the device in it.
fn shown(error: &impl ToString) -> String {
    line_of(&error.to_string(), ERROR_MAX).unwrap_or_default()
}

/// The longest messages of the crate, which say what to do.
const ERROR_MAX: usize = 400;

fn classify(error: &tapo::Error) -> Fault {
    match error {
        tapo::Error::Tapo(response) => classify_response(response),
        tapo::Error::Http(http) if http.is_connect() => classify_connect(http),
        tapo::Error::Http(http) if http.is_timeout() => Fault::NoAnswer,
        tapo::Error::Http(http) if http.is_decode() || http.is_body() => Fault::Unreadable(root_cause(http)),
        tapo::Error::Http(_) => Fault::Closed,
        // `on()` with the answer `"result":{}` ends here too: it was applied.
        tapo::Error::Serde(error) => Fault::Unreadable(shown(error)),
        tapo::Error::UnsupportedProtocol { description, .. } => {
            Fault::UnsupportedProtocol(shown(description))
        }
        tapo::Error::DeviceNotFound | tapo::Error::Validation { .. } => Fault::UnknownRequest(UNKNOWN_METHOD),
        // A reply that does not decrypt belongs to a session that the device no longer has.
        _ => Fault::SessionLost,
    }
}

/// -1002 unknown method, -1008 wrong parameters: the firmware does not have this call.
const UNKNOWN_METHOD: i64 = -1002;
const PARAMS: i64 = -1008;

fn classify_response(error: &TapoResponseError) -> Fault {
    match error {
        TapoResponseError::Unauthorized { kind, .. } => match *kind {
            "FORBIDDEN" => Fault::Forbidden,
            "HASH_MISMATCH" | "LOGIN" | "TPAP_HASH_MISMATCH" => Fault::WrongCredentials,
            "TPAP_CREDENTIALS" => Fault::CountedCredentials,
            "TPAP_AUTH_ATTEMPTS_LIMIT" => Fault::LockedOut,
            _ => Fault::SessionLost,
        },
        TapoResponseError::DeviceError {
            code: code @ (UNKNOWN_METHOD | PARAMS),
            ..
        } => Fault::UnknownRequest(*code),
        TapoResponseError::DeviceError {
            kind: "TPAP_SESSION_INVALID",
            ..
        } => Fault::SessionLost,
        TapoResponseError::DeviceError { code, kind } => Fault::Device { code: *code, kind },
        TapoResponseError::HttpError {
            status_code: code @ (429 | 500..=599),
            ..
        } => Fault::Overloaded(*code),
        // Another status in a handshake: the device changed its protocol or is rebooting.
        TapoResponseError::HttpError { .. } => Fault::SessionLost,
        TapoResponseError::EmptyResult => Fault::Unreadable("the result is missing".to_owned()),
        TapoResponseError::ResponseError { description } => Fault::Unreadable(shown(description)),
        _ => Fault::Unreadable(shown(error)),
    }
}

/// A request that was not sent: no route, no name, or no open port.
fn classify_connect(error: &(dyn std::error::Error + 'static)) -> Fault {
    let refused = causes(error)
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
    if refused {
        Fault::Refused
    } else {
        Fault::Unreachable(root_cause(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_crate_is_one_line_that_says_what_to_do() {
        let unsupported = |detail: &str| {
            let description = format!("not supported ({detail}). Turn on Third-Party Compatibility.");
            let protocol = "TPAP";
            shown_fault(&tapo::Error::UnsupportedProtocol {
                protocol,
                description,
            })
        };
        assert!(unsupported("pake: [0]").ends_with("Turn on Third-Party Compatibility."));
        let long = unsupported(&"\n\u{1b}x".repeat(1_000_000));
        assert!(long.chars().count() <= ERROR_MAX && !long.contains(char::is_control));
    }

    fn shown_fault(error: &tapo::Error) -> String {
        classify(error).to_string()
    }

    #[test]
    fn only_a_refused_login_is_a_wrong_password() {
        let refused = || {
            classify(&tapo::Error::Tapo(TapoResponseError::Unauthorized {
                kind: "LOGIN",
                description: String::new(),
            }))
        };
        assert_eq!(refused(), Fault::WrongCredentials);
        assert_eq!(refused().after_login(), Fault::SessionLost);
        assert_eq!(Fault::LockedOut.after_login(), Fault::LockedOut);
    }
}
