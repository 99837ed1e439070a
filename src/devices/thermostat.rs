//! Sets a thermostat of a hub, reads it back and replies.

use planner::{OutletPath, sensor::Scale};

use super::{
    client::{
        child_reading::ChildReading,
        connection::ExchangeError,
        login_budget::LoginPurpose,
        session::{DeviceRequest, ThermostatSetting},
    },
    context::Context,
};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    device_command::DeviceCommand,
    hub_child::{HubChild, SystemMode, TargetTemperature, Thermostat, ThermostatChange},
    reply::Applied,
    report::Availability,
};

/// A thermostat on the scale of °F has steps of more than half a tenth of a degree.
const SAME_TARGET: f64 = 0.3;

/// Carries out the command. After a fault that time may remove, it is put back.
pub(super) async fn carry_out(
    context: &mut Context,
    command: DeviceCommand,
    change: ThermostatChange,
) -> Result<(), ExchangeError> {
    let (id, setting) = match prepare(context, &command.path, change) {
        Ok(prepared) => prepared,
        Err(error) => {
            command.reply.send(Err(error));
            return Ok(());
        }
    };
    let set = context
        .exchange(DeviceRequest::SetThermostat(&id, setting), LoginPurpose::Command)
        .await;
    let read = match set {
        Ok(_) => {
            context
                .exchange(DeviceRequest::Child(&id), LoginPurpose::Command)
                .await
        }
        Err(error) => Err(error),
    };
    let info = match read {
        Ok(info) => info,
        Err(error) => return context.on_command_failed(error, command, 1),
    };
    if let Some(reading) = ChildReading::of(&info) {
        context.state.children.apply_one(&context.config, &reading);
        context.send_report().await;
    }
    let path = &command.path;
    let known = path
        .outlet
        .as_ref()
        .and_then(|key| context.state.children.by_key(key));
    let result = match known.and_then(|child| mismatch(child, change)) {
        None => Ok(Applied {
            outlets: Vec::new(),
            attempts: 1,
        }),
        Some(message) => Err(CommandError {
            code: ErrorCode::NotConfirmed,
            message,
            attempts: 1,
        }),
    };
    command.reply.send(result);
    Ok(())
}

/// Which thermostat of the hub it is, and what to send.
fn prepare(
    context: &Context,
    path: &OutletPath,
    change: ThermostatChange,
) -> Result<(String, ThermostatSetting), CommandError> {
    let refused = |code, message| CommandError::bridge(code, message);
    let children = &context.state.children;
    let child = path.outlet.as_ref().and_then(|key| children.by_key(key));
    let Some((child, thermostat)) = child.and_then(|child| Some((child, child.thermostat?))) else {
        let message = format!("{path} is no thermostat");
        return Err(refused(ErrorCode::BadCommand, message));
    };
    if child.availability == Availability::Offline {
        let message = format!("{path} is offline: its hub does not reach it");
        return Err(refused(ErrorCode::NotReady, message));
    }
    let Thermostat { min, max, .. } = thermostat;
    let target = change.target.map(TargetTemperature::celsius);
    if let Some(target) = target.filter(|target| !(min..=max).contains(target)) {
        let message = format!("{path} takes a target of {min} to {max} °C, not {target}");
        return Err(refused(ErrorCode::BadCommand, message));
    }
    let scaled = |celsius: f64| match children.scale_of(&child.id) {
        Scale::Celsius => celsius,
        Scale::Fahrenheit => ((celsius * 1.8 + 32.0) * 10.0).round() / 10.0,
    };
    let setting = ThermostatSetting {
        target: target.map(scaled),
        is_on: change.mode.map(|mode| mode == SystemMode::Heat),
    };
    Ok((child.id.clone(), setting))
}

/// What a thermostat reports instead of what it was set to.
fn mismatch(child: &HubChild, change: ThermostatChange) -> Option<String> {
    let target = child.target();
    if let Some(wanted) = change.target
        && target.is_none_or(|target| (target - wanted.celsius()).abs() > SAME_TARGET)
    {
        let read = target.map_or_else(
            || "no target".to_owned(),
            |target| format!("a target of {target} °C"),
        );
        return Some(format!("the thermostat took the command, but reports {read}"));
    }
    let mode = child
        .thermostat
        .and_then(|thermostat| thermostat.is_on)
        .map(SystemMode::of);
    if let Some(wanted) = change.mode
        && mode != Some(wanted)
    {
        let read = mode.map_or("no mode", SystemMode::as_str);
        return Some(format!("the thermostat took the command, but reports {read}"));
    }
    None
}
