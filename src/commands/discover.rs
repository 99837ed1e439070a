//! `discover`: who is on the network, ready to paste as settings.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{ExitError, load};
use crate::{
    cli::{DiscoverArgs, SettingsArgs},
    devices::{Discovered, discover as search},
};

pub(super) async fn discover(args: &DiscoverArgs, settings: &SettingsArgs) -> Result<(), ExitError> {
    let targets = if args.target.is_empty() {
        load(settings)?.discovery.targets
    } else {
        args.target.clone()
    };
    let wait = Duration::from_secs(args.wait);
    // All at the same time: the wait is one for all.
    let answers = search(&targets, wait).await;
    let found: BTreeMap<IpAddr, Discovered> = answers.into_iter().map(|device| (device.ip, device)).collect();
    if found.is_empty() {
        println!("No device answered within {} s.", args.wait);
        println!(
            "Devices answer broadcasts on their own network only; try --target with a device's address."
        );
        return Ok(());
    }
    println!(
        "{:<16} {:<12} {:<18} {:<9} type",
        "address", "model", "mac", "protocol"
    );
    for device in found.values() {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        println!(
            "{:<16} {:<12} {:<18} {:<9} {}",
            device.address(),
            or_unknown(&device.model),
            or_unknown(&device.mac),
            or_unknown(&device.protocol),
            or_unknown(&device.device_type),
        );
    }
    println!("\nReady to paste; give each an id that says what it switches:\n");
    for device in found.values() {
        print!("{}", as_settings(device));
    }
    Ok(())
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
    let comment = if is_outlet(device) {
        ""
    } else {
        "# not a plug or strip: "
    };
    format!(
        "{comment}[[device]]\n{comment}id = \"{model}-{tail}\"\n{comment}address = \"{}\"\n\n",
        device.address()
    )
}

/// `SMART.TAPOPLUG`, `SMART.KASAPLUG` and strips, which return the same.
fn is_outlet(device: &Discovered) -> bool {
    device
        .device_type
        .as_deref()
        .is_none_or(|kind| kind.contains("PLUG"))
}
