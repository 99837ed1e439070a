//! `[[device]]`: the plugs, strips and hubs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    address::{Address, address},
    credentials::{Account, Files, credentials},
    parse,
    reader::{Read, Table},
    register::IdIndex,
};
use crate::domain::devices::ClientChoice;
use planner::{DeviceId, OutletKey};

/// More outlets than any strip has.
pub(super) const POSITION_MAX: u8 = 32;

/// One physical device: a plug, a strip or a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its topic, and the key of everything about it.
    pub id: DeviceId,
    /// Where it answers; a name is resolved again when it stops answering. No two devices share one.
    pub address: Address,
    /// Its MAC; `None` takes the device that answers first.
    pub mac: Option<String>,
    /// What people call it; `None` takes the nickname on the device.
    pub name: Option<String>,
    /// What it is reached with.
    pub client: ClientChoice,
    /// Whether the settings that it keeps itself are managed.
    pub device_settings: bool,
    /// Whether the page asks before it switches any of its outlets.
    pub confirm: bool,
    /// An account of its own; `None` takes the one of `[tapo]`.
    pub credentials: Option<Account>,
    /// Outlets of a strip that are named here. Those that are not have their position as the key.
    pub outlets: Vec<NamedOutlet>,
    /// The MAC by which Home Assistant knows a device that was added while the bridge ran; `None` is by its id.
    pub known_as: Option<String>,
    /// What is connected to a hub and named here. The others go by their names in the app.
    pub children: Vec<NamedChild>,
}

/// One sensor or thermostat of a hub, named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedChild {
    /// Its topic level.
    pub key: OutletKey,
    /// Which one: its own id. `None` is the one whose name in the app makes this key.
    pub device_id: Option<String>,
    /// What people call it; `None` takes its name in the app.
    pub name: Option<String>,
}

/// One outlet of a strip, named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedOutlet {
    /// Which one, counted from 1 as on the device.
    pub position: u8,
    /// Its topic level: the configured slug, else the position.
    pub key: OutletKey,
    /// What people call it; `None` takes the nickname on the device.
    pub name: Option<String>,
    /// Whether the page asks before it switches this one.
    pub confirm: bool,
}

impl Device {
    /// What is configured for the outlet at a position, if it is.
    pub fn outlet_at(&self, position: u8) -> Option<&NamedOutlet> {
        self.outlets.iter().find(|outlet| outlet.position == position)
    }

    /// What the page asks before it switches: all, or the outlets at these positions.
    pub(super) fn confirmed(&self) -> (bool, Vec<u8>) {
        let outlets = self.outlets.iter().filter(|outlet| outlet.confirm);
        (self.confirm, outlets.map(|outlet| outlet.position).collect())
    }

    pub(super) fn digest(&self) -> Value {
        let outlet = |outlet: &NamedOutlet| json!({"position": outlet.position, "key": outlet.key, "confirm": outlet.confirm});
        json!({
            "id": self.id,
            "address": self.address.to_string(),
            "confirm": self.confirm,
            "outlets": self.outlets.iter().map(outlet).collect::<Vec<_>>(),
            "children": self.children.iter().map(|child| &child.key).collect::<Vec<_>>(),
        })
    }
}

/// What the devices read so far have taken.
#[derive(Debug, Default)]
struct TakenDevices {
    ids: Vec<(DeviceId, String)>,
    addresses: Vec<(Address, String)>,
}

/// Reads all devices, and returns which ids groups can name, and where each is.
pub(super) fn read_all(
    root: &mut Table<'_>,
    files: Files<'_>,
) -> (Read<Vec<Device>>, IdIndex<Device>, BTreeMap<DeviceId, String>) {
    let mut taken = TakenDevices::default();
    let mut places = BTreeMap::new();
    let mut register = IdIndex::new();
    let devices = root.list("device", |table| {
        let id = table
            .required("id", parse::slug)
            .and_then(|id| free_id(table, id, &mut taken));
        let device = read(table, files, id.clone(), &mut taken);
        if let Ok(id) = id {
            register.add(id.as_str(), device.clone().ok());
            places.insert(id, format!("{} of {}", table.place(), table.source()));
        }
        device
    });
    (devices, register, places)
}

fn read(
    table: &mut Table<'_>,
    files: Files<'_>,
    id: Read<DeviceId>,
    taken: &mut TakenDevices,
) -> Read<Device> {
    let address = table
        .required("address", address)
        .and_then(|address| free_address(table, address, taken));
    let mac = table.optional("mac", parse::mac);
    let name = table.optional("name", parse::name);
    let clients = [
        ("auto", ClientChoice::Auto),
        ("tapo", ClientChoice::Tapo),
        ("own", ClientChoice::Own),
    ];
    let client = table.optional("client", parse::word(&clients));
    let device_settings = match (table.optional("device_settings", parse::boolean), &client) {
        (Ok(Some(true)), Ok(Some(ClientChoice::Tapo))) => Err(table.invalid(
            "device_settings",
            "the client \"tapo\" does not know these settings; use \"auto\" or \"own\"".to_owned(),
        )),
        (device_settings, _) => device_settings,
    };
    let confirm = table.optional("confirm", parse::boolean);
    let credentials = credentials(table, files);
    let mut outlets = Vec::new();
    let read = table.list("outlet", |table| read_outlet(table, &mut outlets));
    let mut children = Vec::new();
    let read_children = table.list("child", |table| read_child(table, &mut children));
    read?;
    read_children?;
    Ok(Device {
        id: id?,
        address: address?,
        mac: mac?,
        name: name?,
        client: client?.unwrap_or_default(),
        device_settings: device_settings?.unwrap_or_default(),
        confirm: confirm?.unwrap_or_default(),
        credentials: credentials?,
        outlets,
        known_as: None,
        children,
    })
}

fn free_id(table: &mut Table<'_>, id: DeviceId, taken: &mut TakenDevices) -> Read<DeviceId> {
    for (other, owner) in &taken.ids {
        if *other == id {
            return Err(table.duplicate("id", owner));
        }
        if id.is_outlet_of(other) || other.is_outlet_of(&id) {
            let message =
                format!("reserved id: with _o and a number it means an outlet of {owner} in Home Assistant");
            return Err(table.invalid("id", message));
        }
    }
    taken.ids.push((id.clone(), table.place()));
    Ok(id)
}

fn free_address(table: &mut Table<'_>, address: Address, taken: &mut TakenDevices) -> Read<Address> {
    let other = taken
        .addresses
        .iter()
        .find(|(other, _)| other.same_place(&address));
    if let Some((_, owner)) = other {
        return Err(table.duplicate("address", owner));
    }
    taken.addresses.push((address.clone(), table.place()));
    Ok(address)
}

fn read_outlet(table: &mut Table<'_>, siblings: &mut Vec<NamedOutlet>) -> Read<()> {
    let position = table.required("position", parse::integer(1..=POSITION_MAX));
    let id: Read<Option<OutletKey>> = table.optional("id", parse::slug);
    let name = table.optional("name", parse::name);
    let confirm = table.optional("confirm", parse::boolean);
    let position = position?;
    if let Some(sibling) = siblings.iter().find(|sibling| sibling.position == position) {
        return Err(table.duplicate("position", &format!("outlet \"{}\"", sibling.key)));
    }
    let key = match id? {
        Some(key) => free_key(table, key, position, siblings)?,
        None => own_key(table, position)?,
    };
    siblings.push(NamedOutlet {
        position,
        key,
        name: name?,
        confirm: confirm?.unwrap_or_default(),
    });
    Ok(())
}

fn read_child(table: &mut Table<'_>, siblings: &mut Vec<NamedChild>) -> Read<()> {
    let key: Read<OutletKey> = table.required("id", parse::slug);
    let device_id = table.optional("device_id", parse::text);
    let name = table.optional("name", parse::name);
    let (key, device_id) = (key?, device_id?);
    for sibling in siblings.iter() {
        let owner = || format!("child \"{}\"", sibling.key);
        if sibling.key == key {
            return Err(table.duplicate("id", &owner()));
        }
        if device_id.is_some() && sibling.device_id == device_id {
            return Err(table.duplicate("device_id", &owner()));
        }
    }
    siblings.push(NamedChild {
        key,
        device_id,
        name: name?,
    });
    Ok(())
}

fn free_key(
    table: &mut Table<'_>,
    key: OutletKey,
    position: u8,
    siblings: &[NamedOutlet],
) -> Read<OutletKey> {
    if let Some(sibling) = siblings.iter().find(|sibling| sibling.key == key) {
        return Err(table.duplicate("id", &format!("outlet {}", sibling.position)));
    }
    // "2" at position 1 would be taken for the outlet at position 2, named or not.
    let number = key.as_str().bytes().all(|byte| byte.is_ascii_digit());
    if number && key.as_str() != position.to_string() {
        return Err(table.problem(
            "id",
            "a name, or the outlet's own position; a number means another position",
        ));
    }
    Ok(key)
}

fn own_key(table: &mut Table<'_>, position: u8) -> Read<OutletKey> {
    let key = position.to_string().parse();
    key.map_err(|_| table.problem("position", "a position that can be a topic"))
}
