//! `diagnostics`: one file that says what happened, from the bridge that runs, or else from settings and state file.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{ExitError, load, sources};
use crate::{
    app::bridge::StartError,
    cli::SettingsArgs,
    config::{self, Problems, Settings},
    diagnostics::Diagnostics,
    domain::topics::Topics,
    mqtt::{
        link::{Exchange, LinkError, LinkFault, RetainedProbe, Topic, exchange, probe_retained},
        link_options,
    },
    system::{clock::Clock, telemetry},
};

/// How long the bridge may take.
const BUDGET: Duration = Duration::from_secs(15);
/// The same where nothing says that there is a bridge: a broker may keep no messages, or not let them be read.
const UNKNOWN_BUDGET: Duration = Duration::from_secs(3);

pub(super) async fn diagnostics(args: &SettingsArgs) -> Result<(), ExitError> {
    if io::stdout().is_terminal() {
        let why =
            "this writes a ZIP file, which a terminal cannot show: tapo2mqtt diagnostics > tapo2mqtt.zip";
        return Err(ExitError::Unwell(why.to_owned()));
    }
    let settings = match load(args) {
        Err(ExitError::Settings(problems)) => return of_problems(args, problems),
        settings => settings?,
    };
    let zip = match of_running_bridge(&settings).await? {
        Ok(zip) => zip,
        Err(why) => of_files(&settings, &why)?,
    };
    write(&zip)
}

/// With settings that cannot be used there is no bridge to ask, and what is wrong with them is what a maintainer needs.
fn of_problems(args: &SettingsArgs, problems: Problems) -> Result<(), ExitError> {
    let texts = config::texts(&sources(args));
    let diagnostics = Diagnostics::of_problems(&problems, &texts, Clock::system().now());
    write(&diagnostics.into_zip().map_err(ExitError::Unwell)?)?;
    telemetry::print_error(&"the file has only what is wrong with the settings, and the version");
    Err(problems.into())
}

fn write(zip: &[u8]) -> Result<(), ExitError> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(zip).and_then(|()| stdout.flush());
    written.map_err(ExitError::Output)
}

/// From the bridge, or why there is nothing from it.
async fn of_running_bridge(settings: &Settings) -> Result<Result<Vec<u8>, String>, ExitError> {
    if !settings.mqtt.enabled {
        return Ok(Err("mqtt.enabled is false".to_owned()));
    }
    let topics = settings.topics();
    let options = link_options(settings, &topics).map_err(StartError::from)?;
    let state = probe_retained(options.clone(), &options.will.topic, UNKNOWN_BUDGET).await;
    let budget = match state.map_err(StartError::from)? {
        RetainedProbe::Payload(payload) if payload == options.will.payload => {
            return Ok(Err("the bridge is offline".to_owned()));
        }
        RetainedProbe::Payload(_) => BUDGET,
        RetainedProbe::Empty => UNKNOWN_BUDGET,
        RetainedProbe::Failed(fault) => return Ok(Err(unreachable(&fault))),
    };
    // Another client may request the same.
    let transaction = format!("diagnostics-{:x}", rand::random::<u64>());
    let payload = json!({ "transaction": transaction }).to_string();
    let (request, response) = (topic(&topics, "request")?, topic(&topics, "response")?);
    let is_ours = |payload: &[u8]| {
        let response: Option<Value> = serde_json::from_slice(payload).ok();
        response.is_some_and(|response| {
            response
                .get("transaction")
                .is_some_and(|ours| *ours == transaction)
        })
    };
    let exchanged = exchange(options, (&request, payload.into()), &response, is_ours, budget).await;
    let response = match exchanged.map_err(StartError::from)? {
        Exchange::Response(response) => response,
        Exchange::NoResponse => return Ok(Err("no bridge answers on its base topic".to_owned())),
        Exchange::Failed(fault) => return Ok(Err(unreachable(&fault))),
    };
    let response: Value = serde_json::from_slice(&response).unwrap_or_default();
    let zip = response.pointer("/data/zip").and_then(Value::as_str);
    let zip = zip.and_then(|zip| STANDARD.decode(zip).ok());
    let why = response.pointer("/error/message").and_then(Value::as_str);
    Ok(zip.ok_or_else(|| format!("the bridge answers: {}", why.unwrap_or("no file"))))
}

fn unreachable(fault: &LinkFault) -> String {
    format!("the broker cannot be asked: {fault}")
}

fn topic(topics: &Topics, kind: &str) -> Result<Topic, ExitError> {
    let topic = format!("{}/bridge/{kind}/diagnostics", topics.base());
    let topic = Topic::try_from(topic).map_err(|_| LinkError::Text { what: "base topic" });
    Ok(topic.map_err(StartError::from)?)
}

/// Without a bridge that runs.
fn of_files(settings: &Settings, why: &str) -> Result<Vec<u8>, ExitError> {
    let source = format!("settings and state file ({why})");
    let mut diagnostics = Diagnostics::new(settings, &source, Clock::system().now());
    if let Some(location) = settings.state_location() {
        let state = location.backup().unwrap_or_else(|why| json!({ "error": why }));
        diagnostics = diagnostics.with("state.json", state);
    }
    diagnostics.into_zip().map_err(ExitError::Unwell)
}
