//! The devices that were found: which of them are used, by requests and by the settings.

use jiff::Timestamp;
use planner::{DeviceId, sensor::SensorSource};
use serde::Serialize;
use tracing::info;

use super::requests::InventoryRequest;
use crate::{
    config::{AddDevices, Device, Settings, configured_as},
    domain::{
        inventory::{Inventory, InventoryEntry, Usage},
        network_device::{LoginTrial, NetworkDevice},
        scheduling::RequestError,
    },
    homeassistant::Offer,
};

/// A device that was found or configured, in `device/list` and in `bridge/found`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ListedDevice {
    /// `null` for a device of the settings that never answered.
    pub(super) mac: Option<String>,
    id: Option<DeviceId>,
    name: Option<String>,
    nickname: Option<String>,
    model: Option<String>,
    address: String,
    status: ListedStatus,
    /// Why it cannot be used, and what to do.
    reason: Option<String>,
}

/// What a listed device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum ListedStatus {
    /// It is in the settings.
    Configured,
    /// It was added.
    Added,
    /// It was found, and is not used.
    Found,
    /// It is not to be listed as found.
    Ignored,
}

impl ListedDevice {
    fn of(mac: &str, entry: &InventoryEntry, inventory: &Inventory, configured: &[Device]) -> Self {
        let device = configured_as(configured, inventory, mac, entry);
        let status = match (device, entry.usage) {
            (Some(_), _) => ListedStatus::Configured,
            (None, Usage::Added) => ListedStatus::Added,
            (None, Usage::Found | Usage::Removed) => ListedStatus::Found,
            (None, Usage::Ignored) => ListedStatus::Ignored,
        };
        let id = device.map(|device| &device.id).or(entry.id.as_ref());
        let taken = status == ListedStatus::Added && configured.iter().any(|device| Some(&device.id) == id);
        let taken = taken.then(|| "a [[device]] has this id now; rename it".to_owned());
        let name = device.map_or(entry.name.as_ref(), |device| device.name.as_ref());
        Self {
            mac: Some(mac.to_owned()),
            id: id.cloned(),
            name: name.cloned(),
            nickname: entry.nickname.clone(),
            model: entry.model.clone(),
            address: entry.address.clone(),
            status,
            reason: taken.or_else(|| entry.refused.clone()),
        }
    }

    /// A device of the settings that never answered.
    fn unseen(device: &Device) -> Self {
        Self {
            mac: device.mac.clone(),
            id: Some(device.id.clone()),
            name: device.name.clone(),
            nickname: None,
            model: None,
            address: device.address.to_string(),
            status: ListedStatus::Configured,
            reason: Some("it has not answered yet".to_owned()),
        }
    }

    /// The button that adds it; `None` for one that cannot be used.
    pub(super) fn offer(&self) -> Option<Offer> {
        let mac = self.mac.clone().filter(|_| self.reason.is_none())?;
        let name = self.name.clone().or_else(|| self.nickname.clone());
        let name = name.unwrap_or_else(|| {
            let model = self.model.as_deref().unwrap_or("device");
            format!("{model} {}", mac.get(9..).unwrap_or_default())
        });
        Some(Offer { mac, name })
    }
}

/// All devices: those that were found, and those of the settings.
pub(super) fn list(inventory: &Inventory, configured: &[Device]) -> Vec<ListedDevice> {
    let known = inventory.devices();
    let mut listed: Vec<ListedDevice> = known
        .map(|(mac, entry)| ListedDevice::of(mac, entry, inventory, configured))
        .collect();
    let unseen = configured
        .iter()
        .filter(|device| !listed.iter().any(|listed| listed.id.as_ref() == Some(&device.id)));
    let unseen: Vec<_> = unseen.map(ListedDevice::unseen).collect();
    listed.extend(unseen);
    listed
}

/// The devices that were found and are not used. What is gone is not offered.
pub(super) fn found(inventory: &Inventory, configured: &[Device], now: Timestamp) -> Vec<ListedDevice> {
    let known = inventory.devices().filter(|(_, entry)| !entry.is_gone(now));
    known
        .map(|(mac, entry)| ListedDevice::of(mac, entry, inventory, configured))
        .filter(|device| device.status == ListedStatus::Found)
        .collect()
}

/// Takes devices that answered a search, and forgets those that are gone. With `add = "all"` those that can be used are added.
pub(super) fn take_found(
    inventory: &mut Inventory,
    found: &[NetworkDevice],
    add: AddDevices,
    configured: &[Device],
    now: Timestamp,
) -> bool {
    let mut changed = false;
    for device in found {
        changed |= inventory.on_found(device, now);
        let Some(entry) = inventory.get(&device.mac) else {
            continue;
        };
        let is_new = entry.usage == Usage::Found
            && matches!(device.trial, LoginTrial::Accepted(_))
            && configured_as(configured, inventory, &device.mac, entry).is_none();
        if add == AddDevices::All
            && is_new
            && let Ok(id) = inventory.add(&device.mac, None, None, &ids(configured))
        {
            info!(device = %id, mac = device.mac, address = device.address, "found and added");
        }
    }
    inventory.forget_gone(now) || changed
}

/// Changes what devices are used for. Returns the MAC of the device that is meant. `settings` are as they were read.
///
/// # Errors
/// Why nothing is changed.
pub(super) fn carry_out(
    inventory: &mut Inventory,
    request: InventoryRequest,
    settings: &Settings,
) -> Result<String, RequestError> {
    let taken = ids(&settings.devices);
    match request {
        InventoryRequest::List => Ok(String::new()),
        InventoryRequest::Add { device, id, name } => {
            let mac = not_configured(inventory, &device, settings, "it is used already")?;
            if let Some(entry) = inventory.get(&mac).filter(|entry| entry.usage == Usage::Added) {
                let is_same = id.is_none_or(|id| entry.id.as_ref() == Some(&id))
                    && name.is_none_or(|name| entry.name.as_ref() == Some(&name));
                return is_same.then_some(mac).ok_or_else(|| {
                    RequestError::Invalid(format!(
                        "{device} is added already; device/rename gives it another id or name"
                    ))
                });
            }
            usable(inventory, &mac)?;
            inventory.add(&mac, id, name, &taken)?;
            Ok(mac)
        }
        InventoryRequest::Rename { device, id, name } => {
            let advice = "change its id or name there, and send reload";
            let mac = added(inventory, &device, settings, advice)?;
            inventory.rename(&mac, id, name, &taken)?;
            Ok(mac)
        }
        InventoryRequest::Ignore { device, ignored } => {
            let mac = not_configured(inventory, &device, settings, "remove it there, and send reload")?;
            let is_ignored = inventory
                .get(&mac)
                .is_some_and(|entry| entry.usage == Usage::Ignored);
            if ignored != is_ignored {
                let usage = if ignored { Usage::Ignored } else { Usage::Found };
                inventory.set_usage(&mac, usage);
            }
            Ok(mac)
        }
        InventoryRequest::Remove { device } => {
            let mac = added(inventory, &device, settings, "remove it there, and send reload")?;
            inventory.set_usage(&mac, Usage::Removed);
            Ok(mac)
        }
        InventoryRequest::Replace { device, by } => {
            let new = not_configured(inventory, &by, settings, "name a device that is not used")?;
            let advice = format!("set its mac to \"{new}\" there, and send reload");
            let old = added(inventory, &device, settings, &advice)?;
            let new_usage = inventory.get(&new).map(|entry| entry.usage);
            if old == new || new_usage == Some(Usage::Added) {
                return Err(RequestError::Invalid(format!(
                    "by: {by} is used already; name a device that is not"
                )));
            }
            usable(inventory, &new)?;
            inventory.replace(&old, &new);
            Ok(new)
        }
    }
}

/// What is wrong with groups and sensors that name devices that there are not: they may come, or were removed.
pub(super) fn absent_members(settings: &Settings) -> impl Iterator<Item = String> {
    let members = settings.rules.groups.iter().flat_map(|group| {
        let members = group.outlets.iter();
        members.map(move |outlet| (format!("group {}", group.id), &outlet.device))
    });
    let sensors = settings
        .rules
        .sensors
        .iter()
        .filter_map(|sensor| match &sensor.source {
            SensorSource::Device(child, _) => Some((format!("sensor {}", sensor.id), &child.device)),
            SensorSource::Topic(_) | SensorSource::Weather(_) => None,
        });
    let named = members.chain(sensors);
    let absent = named.filter(|(_, device)| !settings.devices.iter().any(|known| known.id == **device));
    absent.map(|(who, device)| {
        format!(
            "{who} names {device}, which is no [[device]] and is not added; send device/add, or change it"
        )
    })
}

fn ids(configured: &[Device]) -> Vec<DeviceId> {
    configured.iter().map(|device| device.id.clone()).collect()
}

/// The MAC of a device that requests may change. `advice` is what to do about one that the settings have.
fn not_configured(
    inventory: &Inventory,
    device: &str,
    settings: &Settings,
    advice: &str,
) -> Result<String, RequestError> {
    let configured = &settings.devices;
    let in_settings = |id: &DeviceId| {
        let place = settings.device_places.get(id);
        let place = place.map_or("a [[device]]", String::as_str);
        RequestError::Invalid(format!("{id} is in the settings, {place}: {advice}"))
    };
    if let Some(device) = configured.iter().find(|known| known.id.as_str() == device) {
        return Err(in_settings(&device.id));
    }
    let mac = inventory.find(device)?;
    let entry = inventory.get(&mac);
    match entry.and_then(|entry| configured_as(configured, inventory, &mac, entry)) {
        Some(device) => Err(in_settings(&device.id)),
        None => Ok(mac),
    }
}

/// The MAC of an added device.
fn added(
    inventory: &Inventory,
    device: &str,
    settings: &Settings,
    advice: &str,
) -> Result<String, RequestError> {
    let mac = not_configured(inventory, device, settings, advice)?;
    match inventory.get(&mac) {
        Some(entry) if entry.usage == Usage::Added => Ok(mac),
        _ => Err(RequestError::Invalid(format!(
            "{device} is not added; send device/add first"
        ))),
    }
}

/// A device that cannot be used is not added.
fn usable(inventory: &Inventory, mac: &str) -> Result<(), RequestError> {
    match inventory.get(mac).and_then(|entry| entry.refused.as_ref()) {
        Some(why) => Err(RequestError::Invalid(format!("{mac} cannot be used: {why}"))),
        None => Ok(()),
    }
}
