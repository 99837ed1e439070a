//! The devices of the settings, and those that were added while the bridge ran. Pure.

use std::cell::OnceCell;

use planner::{DeviceId, rules::Rules, sensor::SensorSource};

use super::device::Device;
use crate::{
    domain::{
        devices::ClientChoice,
        inventory::{Inventory, InventoryEntry, Usage},
    },
    store::{StateLocation, peek},
};

/// The name of the inventory in the state file.
pub(crate) const INVENTORY: &str = "inventory";

/// The ids of added devices, which groups and sensors may name. They are in the state file, which is read if one does.
#[derive(Debug, Default)]
pub(super) struct AddedIds {
    /// `None`: there is no file.
    location: Option<StateLocation>,
    /// Whether devices are added by themselves: an id may be that of a device that comes later.
    is_open: bool,
    /// `None`: the file cannot be read.
    inventory: OnceCell<Option<Inventory>>,
}

impl AddedIds {
    pub(super) fn new(location: Option<StateLocation>, is_open: bool) -> Self {
        Self {
            location,
            is_open,
            inventory: OnceCell::new(),
        }
    }

    /// Whether a device may have an id. A state file that is lost does not keep the bridge from its other devices.
    pub(super) fn may_have(&self, id: &DeviceId) -> bool {
        let Some(location) = &self.location else {
            return false;
        };
        let inventory = self.inventory.get_or_init(|| peek(location, INVENTORY));
        let known = inventory.as_ref().is_none_or(|inventory| inventory.had(id));
        self.is_open || known
    }
}

/// Rules that name added devices by the ids that they have now.
pub(super) fn with_present_ids(rules: &Rules, devices: &[Device], inventory: &Inventory) -> Rules {
    let mut rules = rules.clone();
    let outlets = rules.groups.iter_mut().flat_map(|group| &mut group.outlets);
    let children = rules
        .sensors
        .iter_mut()
        .filter_map(|sensor| match &mut sensor.source {
            SensorSource::Device(child, _) => Some(child),
            SensorSource::Topic(_) | SensorSource::Weather(_) => None,
        });
    for path in outlets.chain(children) {
        let is_known = devices.iter().any(|device| device.id == path.device);
        if let (false, Some(id)) = (is_known, inventory.present_id(&path.device)) {
            path.device = id.clone();
        }
    }
    rules
}

/// Every device that the bridge uses. A device of the settings goes before an added one that it is, or whose id it has.
pub(super) fn all_devices(configured: &[Device], inventory: &Inventory) -> Vec<Device> {
    let mut devices = configured.to_vec();
    let added = inventory
        .devices()
        .filter(|(_, entry)| entry.usage == Usage::Added);
    for (mac, entry) in added {
        let known_as = inventory.known_as(mac);
        if let Some(configured) = configured_as(configured, inventory, mac, entry) {
            let same = devices.iter_mut().find(|device| device.id == configured.id);
            if let Some(device) = same {
                device.known_as = known_as;
            }
        } else if let (Some(id), Ok(address)) = (&entry.id, entry.address.parse())
            && !devices.iter().any(|device| device.id == *id)
        {
            devices.push(Device {
                id: id.clone(),
                address,
                mac: Some(mac.to_owned()),
                name: entry.name.clone(),
                client: ClientChoice::default(),
                device_settings: false,
                confirm: false,
                credentials: None,
                outlets: Vec::new(),
                children: Vec::new(),
                known_as,
            });
        }
    }
    devices
}

/// The device of the settings that a found device is: by its MAC; without one by what it turned out to be, else by its
/// address.
pub fn configured_as<'a>(
    devices: &'a [Device],
    inventory: &Inventory,
    mac: &str,
    entry: &InventoryEntry,
) -> Option<&'a Device> {
    let by_mac = devices.iter().find(|device| device.mac.as_deref() == Some(mac));
    let mut others = devices.iter().filter(|device| device.mac.is_none());
    let is_other = |device: &Device| {
        let mut known = inventory.devices();
        known.any(|(other, entry)| other != mac && entry.configured.as_ref() == Some(&device.id))
    };
    let is_there = |device: &&Device| {
        let address = entry.address.parse();
        address.is_ok_and(|address| device.address.same_place(&address)) && !is_other(device)
    };
    by_mac
        .or_else(|| {
            let mut others = others.clone();
            others.find(|device| entry.configured.as_ref() == Some(&device.id))
        })
        .or_else(|| others.find(is_there))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{
        network_device::{LoginTrial, NetworkDevice},
        report::{DeviceRole, Identity, Kind},
    };

    const A: &str = "aa:bb:cc:00:00:01";

    fn device(id: &str, address: &str, mac: Option<&str>) -> Device {
        Device {
            id: id.parse().unwrap(),
            address: address.parse().unwrap(),
            mac: mac.map(str::to_owned),
            name: None,
            client: ClientChoice::default(),
            device_settings: false,
            confirm: false,
            credentials: None,
            outlets: Vec::new(),
            children: Vec::new(),
            known_as: None,
        }
    }

    /// A device that was found at an address and added.
    fn added(address: &str) -> Inventory {
        let mut inventory = Inventory::default();
        let found = NetworkDevice {
            mac: A.to_owned(),
            address: address.to_owned(),
            model: None,
            trial: LoginTrial::Accepted(Some("Lamp".to_owned())),
        };
        inventory.on_found(&found, Timestamp::UNIX_EPOCH);
        inventory.add(A, None, None, &[]).unwrap();
        inventory
    }

    fn named(configured: &[Device], inventory: &Inventory) -> Vec<(String, Option<String>)> {
        let all = all_devices(configured, inventory).into_iter();
        all.map(|device| (device.id.to_string(), device.known_as))
            .collect()
    }

    #[test]
    fn an_added_device_needs_no_settings() {
        let inventory = added("192.0.2.7:8080");
        let all = all_devices(&[], &inventory);
        assert_eq!(all[0].mac.as_deref(), Some(A));
        assert_eq!(all[0].address.to_string(), "192.0.2.7:8080");
        assert_eq!(named(&[], &inventory), [("lamp".to_owned(), Some(A.to_owned()))]);
    }

    #[test]
    fn settings_by_mac_or_address_are_those_of_the_device() {
        let inventory = added("192.0.2.7");
        let as_lamp = [("heater".to_owned(), Some(A.to_owned()))];
        for configured in [
            device("heater", "192.0.2.9", Some(A)),
            device("heater", "192.0.2.7:80", None),
        ] {
            assert_eq!(named(&[configured], &inventory), as_lamp);
        }
        let other = device("heater", "192.0.2.9", Some("aa:bb:cc:00:00:02"));
        assert_eq!(named(&[other], &inventory).len(), 2);
    }

    #[test]
    fn what_a_device_turned_out_to_be_goes_before_its_address() {
        let mut inventory = added("192.0.2.7");
        let heater = device("heater", "192.0.2.7", None);
        let identity = Identity {
            device_id: "8022".to_owned(),
            model: "P110".to_owned(),
            firmware: None,
            hardware: None,
            mac: Some("aa:bb:cc:00:00:02".to_owned()),
            nickname: None,
            kind: Kind::Plug,
            role: DeviceRole::default(),
            meters_energy: false,
        };
        inventory.on_report(&identity, "192.0.2.8", Some(&heater.id), Timestamp::UNIX_EPOCH);
        let ids = named(std::slice::from_ref(&heater), &inventory);
        assert_eq!(
            ids,
            [
                ("heater".to_owned(), None),
                ("lamp".to_owned(), Some(A.to_owned()))
            ]
        );
    }

    #[test]
    fn an_id_of_the_settings_is_not_that_of_an_added_device() {
        let lamp = device("lamp", "192.0.2.9", None);
        assert_eq!(named(&[lamp], &added("192.0.2.7")), [("lamp".to_owned(), None)]);
    }
}
