//! `healthcheck`: is the running bridge connected? Asks the broker, so nothing has to listen. Without a broker, the page.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{ExitError, load};
use crate::{
    app::bridge::StartError,
    cli::SettingsArgs,
    config::Settings,
    mqtt::{
        link::{RetainedProbe, probe_retained},
        link_options,
    },
};

/// Containers give a check a few seconds.
const BUDGET: Duration = Duration::from_millis(1500);

pub(super) async fn healthcheck(args: &SettingsArgs) -> Result<(), ExitError> {
    let settings = load(args)?;
    if !settings.mqtt.enabled {
        return ask_page(&settings);
    }
    let options = link_options(&settings, &settings.topics()).map_err(StartError::from)?;
    let state = options.will.topic.clone();
    let why = match probe_retained(options, &state, BUDGET)
        .await
        .map_err(StartError::from)?
    {
        RetainedProbe::Payload(payload) if payload.as_ref() == br#"{"state":"online"}"# => return Ok(()),
        RetainedProbe::Payload(_) => "the bridge is offline".to_owned(),
        RetainedProbe::Empty => format!("no bridge ever published {state}"),
        RetainedProbe::Failed(fault) => format!("the broker cannot be asked: {fault}"),
    };
    Err(ExitError::Unwell(why))
}

/// Whether the page is served, or the figures.
fn ask_page(settings: &Settings) -> Result<(), ExitError> {
    let mut listeners = [&settings.web, &settings.metrics].into_iter();
    let Some(listener) = listeners.find(|listener| listener.enabled) else {
        let why = "nothing can be asked: mqtt.enabled is false, and [web] and [metrics] are off";
        return Err(ExitError::Unwell(why.to_owned()));
    };
    match status_line(listener.listen) {
        Ok(line) if line.starts_with(b"HTTP/1.0 200") || line.starts_with(b"HTTP/1.1 200") => Ok(()),
        Ok(_) => Err(ExitError::Unwell(format!(
            "what answers at {} is not the bridge",
            listener.listen
        ))),
        Err(error) => Err(ExitError::Unwell(format!(
            "the bridge does not answer at {}: {error}",
            listener.listen
        ))),
    }
}

fn status_line(address: SocketAddr) -> io::Result<[u8; 12]> {
    let mut stream = TcpStream::connect_timeout(&address, BUDGET)?;
    stream.set_read_timeout(Some(BUDGET))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    Ok(line)
}
