//! The settings that a device keeps itself, its newest firmware and its clock: read rarely, changed by command.
//!
//! Only our own client knows these requests. Some plugs fail if they are sent often, so each goes out once an hour at most.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use tracing::debug;

use super::{
    client::{
        components::{Component, Components},
        connection::ExchangeError,
        fault::Fault,
        login_budget::LoginPurpose,
        session::DeviceRequest,
        settings_on_wire::{SettingRequest, latest_firmware, led},
    },
    context::Context,
    meter::IN_STEP,
    state::OutletAddress,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::DeviceCommand,
    device_settings::{OutletSettings, PowerOnBehavior, SettingChange},
    reply::Applied,
    report::{DeviceClock, Feature, Outlet},
};

/// From one reading of everything to the next.
const INTERVAL: Duration = Duration::from_hours(1);
/// Between two questions after newer firmware, for which a device asks its cloud.
const FIRMWARE_INTERVAL: Duration = Duration::from_hours(24);
/// After a request that failed.
const RETRY: Duration = Duration::from_mins(1);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum SettingsStep {
    /// A setting: of a child, or of the device itself.
    Setting(SettingRequest, Option<Arc<str>>),
    Firmware,
    Clock,
}

/// The settings of a device: what is read next, and what it has.
#[derive(Debug)]
pub(super) struct OwnSettings {
    pending: VecDeque<SettingsStep>,
    due: Instant,
    firmware_due: Instant,
    /// What the device and its outlets can do.
    components: Components,
    /// What the device does not know.
    refused: BTreeSet<SettingsStep>,
    /// Whether all was read once.
    is_known: bool,
}

impl OwnSettings {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            pending: VecDeque::new(),
            due: now,
            firmware_due: now,
            components: Components::default(),
            refused: BTreeSet::new(),
            is_known: false,
        }
    }

    /// A login. What was read lately is not read again.
    pub(super) fn on_connected(&mut self, context: &Context) {
        if self.components != context.state.components {
            *self = Self::new(Instant::now());
            self.components = context.state.components.clone();
        }
    }

    /// Whether it is known which settings the device has; also if they are not wanted.
    pub(super) fn are_known(&self, context: &Context) -> bool {
        self.is_known || !context.connection.is_own()
    }

    /// When the next request is due.
    pub(super) fn due(&self, context: &Context) -> Option<Instant> {
        context.connection.is_own().then_some(self.due)
    }

    /// Sends the next request.
    pub(super) async fn read(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let now = Instant::now();
        if self.pending.is_empty() {
            self.begin(context, now);
        }
        let mut result = Ok(());
        if let Some(step) = self.pending.pop_front() {
            result = self.take(context, &step).await;
            match &result {
                Ok(()) => self.due = now,
                // What it does not answer, although it answers others, is left to the next hour.
                Err(ExchangeError::Fault(Fault::NoAnswer)) => self.due = now + RETRY,
                Err(_) => {
                    self.due = now + RETRY;
                    self.pending.push_front(step);
                }
            }
        }
        if self.pending.is_empty() {
            self.due = now + INTERVAL;
            self.is_known = true;
        }
        result?;
        context.send_report().await;
        Ok(())
    }

    /// Collects what is read in this hour.
    fn begin(&mut self, context: &mut Context, now: Instant) {
        if context.config.device_settings {
            self.collect_settings(context);
        }
        if !context.state.meters_energy() && self.components.has(Component::Schedule) {
            self.pending.push_back(SettingsStep::Clock);
        }
        if self.components.has(Component::Firmware) && now >= self.firmware_due {
            self.firmware_due = now + FIRMWARE_INTERVAL;
            self.pending.push_back(SettingsStep::Firmware);
        }
        self.pending.retain(|step| !self.refused.contains(step));
    }

    fn collect_settings(&mut self, context: &mut Context) {
        let mut steps = Vec::new();
        if self.components.has(Component::Led) {
            steps.push(SettingsStep::Setting(SettingRequest::Led, None));
        }
        for known in &mut context.state.outlets {
            let lists = |component| self.components.lists(known.child.as_deref(), component);
            let mut push = |request| steps.push(SettingsStep::Setting(request, known.child.clone()));
            if lists(Component::AutoOff) {
                push(SettingRequest::AutoOff);
            }
            if lists(Component::PowerProtection) {
                if known.outlet.settings.max_power.is_none() {
                    push(SettingRequest::MaxPower);
                }
                push(SettingRequest::PowerProtection);
            }
            // It comes with each reading of the relay.
            if lists(Component::DefaultStates) {
                known.outlet.features.insert(Feature::PowerOnBehavior);
            }
        }
        self.pending.extend(steps);
    }

    async fn take(&mut self, context: &mut Context, step: &SettingsStep) -> Result<(), ExchangeError> {
        let request = match step {
            SettingsStep::Setting(request, child) => DeviceRequest::GetSetting(*request, child.as_deref()),
            SettingsStep::Firmware => DeviceRequest::LatestFirmware,
            SettingsStep::Clock => DeviceRequest::GetClock,
        };
        let answer = match context.exchange(request, LoginPurpose::Poll).await {
            Ok(answer) => answer,
            Err(error) => {
                let fault = error.own_answer()?;
                debug!(device = %context.config.id, ?step, reason = %fault, "not supported by this model");
                self.refused.insert(step.clone());
                return Ok(());
            }
        };
        match step {
            SettingsStep::Setting(request, child) => apply(context, *request, child.as_deref(), &answer),
            SettingsStep::Firmware => {
                let latest = latest_firmware(&answer).map(Arc::new);
                context.state.latest_firmware = latest.or(context.state.latest_firmware.take());
            }
            SettingsStep::Clock => apply_clock(context, &answer),
        }
        Ok(())
    }

    /// Changes a setting, reads it back and replies.
    pub(super) async fn carry_out(
        &mut self,
        context: &mut Context,
        mut command: DeviceCommand,
        change: SettingChange,
    ) -> Result<(), ExchangeError> {
        let targets = match targets(context, &command, change) {
            Ok(targets) => targets,
            Err(refusal) => {
                command.reply.send(Err(refusal));
                return Ok(());
            }
        };
        for target in &targets {
            match set(context, target, change).await {
                Ok(true) => {}
                Ok(false) => {
                    context.send_report().await;
                    let message = format!("the device accepted {change}, but reads back another value");
                    command.reply.send(Err(CommandError {
                        attempts: 1,
                        ..CommandError::bridge(ErrorCode::NotConfirmed, message)
                    }));
                    return Ok(());
                }
                Err(error) => return context.on_command_failed(error, command, 1),
            }
        }
        context.send_report().await;
        if change == SettingChange::PowerOnBehavior(PowerOnBehavior::On) {
            command
                .reply
                .note("it goes ON after each power failure, also while the bridge is down: not for a heater");
        }
        command.reply.send(Ok(Applied {
            outlets: Vec::new(),
            attempts: 1,
        }));
        Ok(())
    }
}

/// What a change is for: outlets, or the device itself.
fn targets(
    context: &mut Context,
    command: &DeviceCommand,
    change: SettingChange,
) -> Result<Vec<OutletAddress>, CommandError> {
    let name = change.name();
    let refusal = |code, message: String| Err(CommandError::bridge(code, message));
    if change.is_kept() && !context.config.device_settings {
        let message = format!("{name} is not managed: set device_settings = true of this device");
        return refusal(ErrorCode::Unsupported, message);
    }
    let dims = |outlet: &Outlet| outlet.features.contains(&Feature::Brightness);
    if !change.is_kept() && !context.state.outlets.iter().any(|known| dims(&known.outlet)) {
        return refusal(
            ErrorCode::Unsupported,
            format!("{} cannot be dimmed", command.path),
        );
    }
    if !context.connection.is_own() {
        let message = format!("{name} needs the client of the bridge, which cannot log in to this device");
        return refusal(ErrorCode::Unsupported, message);
    }
    if change.is_of_device() {
        return Ok(vec![OutletAddress {
            position: 1,
            key: None,
            child: None,
        }]);
    }
    let targets = context.state.addresses(&command.path);
    if targets.is_empty() {
        return Err(context.state.unknown_outlet(&command.path));
    }
    if let SettingChange::PowerProtectionThreshold(watts) = change {
        let settings = targets.iter().filter_map(|target| settings_of(context, target));
        let most = settings.filter_map(|settings| settings.max_power).min();
        if let Some(most) = most.filter(|most| watts > *most) {
            return refusal(ErrorCode::BadCommand, format!("{name} is at most {most} W here"));
        }
    }
    Ok(targets)
}

fn settings_of(context: &Context, target: &OutletAddress) -> Option<OutletSettings> {
    let mut outlets = context.state.outlets.iter();
    let known = outlets.find(|known| known.outlet.key == target.key)?;
    Some(known.outlet.settings)
}

/// Returns whether the device has the new value.
async fn set(
    context: &mut Context,
    target: &OutletAddress,
    change: SettingChange,
) -> Result<bool, ExchangeError> {
    let child = target.child.as_deref();
    let set = DeviceRequest::SetSetting(change, child);
    context.exchange(set, LoginPurpose::Command).await?;
    let request = SettingRequest::of(change);
    if request == SettingRequest::Info {
        context.read_back(std::slice::from_ref(target)).await?;
    } else {
        let get = DeviceRequest::GetSetting(request, child);
        let answer = context.exchange(get, LoginPurpose::Command).await?;
        apply(context, request, child, &answer);
    }
    Ok(match change {
        SettingChange::Led(on) => context.state.led == Some(on),
        change => settings_of(context, target).is_some_and(|settings| change.is_in(&settings)),
    })
}

/// Takes the answer to a request for settings.
fn apply(context: &mut Context, request: SettingRequest, child: Option<&str>, answer: &Value) {
    if request == SettingRequest::Led {
        context.state.led = led(answer).or(context.state.led);
        return;
    }
    let mut outlets = context.state.outlets.iter_mut();
    let Some(known) = outlets.find(|known| known.child.as_deref() == child) else {
        return;
    };
    let outlet = &mut known.outlet;
    request.apply(answer, &mut outlet.settings);
    if outlet.settings.auto_off.is_some() {
        outlet.features.insert(Feature::AutoOffSetting);
    }
    if outlet.settings.power_protection.is_some() {
        outlet.features.insert(Feature::PowerProtection);
    }
}

/// The clock of a device whose meter does not show it.
fn apply_clock(context: &mut Context, answer: &Value) {
    let Some(shown) = answer.get("timestamp").and_then(Value::as_i64) else {
        return;
    };
    let now = context.clock.now();
    let state = &mut context.state;
    let shown = Timestamp::from_second(shown).ok();
    let is_right = shown.is_some_and(|shown| shown.duration_since(now).abs() <= IN_STEP);
    state.set_clock(match state.zone.clone().filter(|_| is_right) {
        Some(zone) => DeviceClock::InStep { zone },
        None => DeviceClock::Wrong,
    });
}
