//! `discover`: who is on the network, ready to paste as settings.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{ExitError, load, output};
use crate::{
    cli::{DiscoverArgs, SettingsArgs},
    devices::{Discovered, find_devices},
    domain::search_area::SearchArea,
};

pub(super) async fn discover(args: &DiscoverArgs, settings: &SettingsArgs) -> Result<(), ExitError> {
    let area = if args.target.is_empty() {
        load(settings)?.discovery.area
    } else {
        SearchArea {
            targets: args.target.clone(),
            ..SearchArea::default()
        }
    };
    let wait = Duration::from_secs(args.wait);
    // All at the same time: the wait is one for all.
    let answers = find_devices(&area, wait).await;
    let found: BTreeMap<IpAddr, Discovered> = answers.into_iter().map(|device| (device.ip, device)).collect();
    output::print(&list(&found, args.wait))
}

fn list(found: &BTreeMap<IpAddr, Discovered>, waited: u64) -> String {
    if found.is_empty() {
        return format!(
            "No device answered within {waited} s.\nDevices are searched in the networks of this machine; name others with \
             discovery.networks in the settings, or try --target with a device's address.\n"
        );
    }
    let row = |cells: [&str; 6]| {
        let [address, model, mac, protocol, client, kind] = cells;
        format!("{address:<16} {model:<12} {mac:<18} {protocol:<9} {client:<10} {kind}\n")
    };
    let mut text = row(["address", "model", "mac", "protocol", "client", "type"]);
    for device in found.values() {
        let or_unknown = |text: &'_ Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        text += &row([
            &device.address(),
            &or_unknown(&device.model),
            &or_unknown(&device.mac),
            &or_unknown(&device.protocol),
            &match device.clients() {
                [] => "none".to_owned(),
                clients => clients.join(", "),
            },
            &or_unknown(&device.device_type),
        ]);
    }
    text += "\nReady to paste; give each an id that says what it switches:\n\n";
    text.extend(found.values().map(as_settings));
    text
}

fn as_settings(device: &Discovered) -> String {
    let model = device.model.as_deref().unwrap_or("tapo").to_ascii_lowercase();
    let model = model.split('(').next().unwrap_or("tapo");
    let tail: String = device
        .mac
        .as_deref()
        .unwrap_or("")
        .chars()
        .filter(char::is_ascii_hexdigit)
        .skip(6)
        .collect();
    let (remark, comment) = match device.obstacle() {
        Some(obstacle) => (format!("# {obstacle}\n"), "# "),
        None => (String::new(), ""),
    };
    let mac = device.mac.as_deref();
    let mac = mac.map_or_else(String::new, |mac| format!("{comment}mac = \"{mac}\"\n"));
    format!(
        "{remark}{comment}[[device]]\n{comment}id = \"{model}-{tail}\"\n{comment}address = \"{}\"\n{mac}\n",
        device.address()
    )
}
