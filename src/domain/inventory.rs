//! Every device that answered on the network, whether it is used or not. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use planner::DeviceId;
use serde::{Deserialize, Serialize};

use super::{
    id_from_name::id_from_name,
    network_device::{LoginTrial, NetworkDevice},
    report::Identity,
    scheduling::RequestError,
};

/// Most devices that are listed without being used: anything on the network can pretend to be another one.
const UNUSED_MAX: usize = 256;
/// How exactly is known when a device was seen last. Each change is a write of the state file.
const SEEN_STEP: SignedDuration = SignedDuration::from_hours(6);
/// A device that is not used and was not seen for longer is gone. Far more than one search that it did not answer.
const UNSEEN_MAX: SignedDuration = SignedDuration::from_hours(24);

/// All devices by their MAC, lower case with colons. It is kept in the state file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inventory(BTreeMap<String, InventoryEntry>);

/// What is known of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryEntry {
    /// Where it was seen last.
    pub address: String,
    /// `P110`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its name in the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nickname: Option<String>,
    /// Why it cannot be used, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// When it was seen last, with an accuracy of hours.
    #[serde(default)]
    pub seen: Timestamp,
    /// What it is used for.
    #[serde(default)]
    pub usage: Usage,
    /// The id that it has, or had, by a request or by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<DeviceId>,
    /// Ids that it had before. A group may still name it by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_ids: Vec<DeviceId>,
    /// The name that a request gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The MAC by which Home Assistant knows it, where that is of a device that it replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The id of the `[[device]]` without a MAC that turned out to be it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<DeviceId>,
}

/// What a device is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// It was found.
    #[default]
    Found,
    /// It is one of the devices of the bridge.
    Added,
    /// It was one, and only a request adds it again.
    Removed,
    /// It is not listed as found.
    Ignored,
}

impl Inventory {
    /// Every device, by its MAC.
    pub fn devices(&self) -> impl Iterator<Item = (&str, &InventoryEntry)> {
        self.0.iter().map(|(mac, entry)| (mac.as_str(), entry))
    }

    /// A device.
    pub fn get(&self, mac: &str) -> Option<&InventoryEntry> {
        self.0.get(mac)
    }

    /// A device answered a search. Returns whether that changes anything.
    pub fn on_found(&mut self, found: &NetworkDevice, now: Timestamp) -> bool {
        let before = self.0.get(&found.mac).cloned();
        let entry = self.0.entry(found.mac.clone()).or_default();
        entry.saw(&found.address, now);
        entry.model = found.model.clone().or(entry.model.take());
        match &found.trial {
            LoginTrial::Untried => {}
            LoginTrial::Accepted(nickname) => {
                entry.refused = None;
                entry.nickname = nickname.clone().or(entry.nickname.take());
            }
            LoginTrial::Refused(why) => entry.refused = Some(why.clone()),
        }
        let changed = before.as_ref() != Some(entry);
        if before.is_none() {
            self.forget_oldest(&found.mac);
        }
        changed
    }

    /// A device that the bridge uses reported; `configured` is its id if it has that by the settings.
    pub fn on_report(
        &mut self,
        identity: &Identity,
        address: &str,
        configured: Option<&DeviceId>,
        now: Timestamp,
    ) -> bool {
        let Some(mac) = &identity.mac else { return false };
        let before = self.0.get(mac).cloned();
        let mut changed = false;
        for (other, entry) in &mut self.0 {
            if other != mac && configured.is_some() && entry.configured.as_ref() == configured {
                entry.configured = None;
                changed = true;
            }
        }
        let entry = self.0.entry(mac.clone()).or_default();
        entry.saw(address, now);
        entry.model = Some(identity.model.clone());
        entry.nickname = identity.nickname.clone().or(entry.nickname.take());
        entry.refused = None;
        entry.configured = configured.cloned();
        changed || before.as_ref() != Some(entry)
    }

    /// The MAC of a device that a request names by its id or its MAC. Of two with an id, one in use is meant.
    ///
    /// # Errors
    /// No device has it.
    pub fn find(&self, name: &str) -> Result<String, RequestError> {
        let mac = super::mac::mac(name).filter(|mac| self.0.contains_key(mac));
        let of_id = |(_, entry): &(&String, &InventoryEntry)| entry.is_called(name);
        let called = self.0.iter().filter(of_id);
        let called = called.min_by_key(|(_, entry)| entry.usage != Usage::Added);
        let mac = mac.or_else(|| called.map(|(mac, _)| mac.clone()));
        mac.ok_or_else(|| {
            RequestError::Invalid(format!(
                "no device {name} was found; device/list shows the ids and MACs of all"
            ))
        })
    }

    /// The id that an added device has now, by any id that it has or had.
    pub fn present_id(&self, id: &DeviceId) -> Option<&DeviceId> {
        let mut added = self.0.values().filter(|entry| entry.usage == Usage::Added);
        let has = |entry: &&InventoryEntry| entry.id.as_ref() == Some(id);
        let had = |entry: &&InventoryEntry| entry.former_ids.contains(id);
        let by_id = added.clone().find(has).or_else(|| added.find(had));
        by_id?.id.as_ref()
    }

    /// Whether a device has or had an id, used or not.
    pub fn had(&self, id: &DeviceId) -> bool {
        let of = |entry: &InventoryEntry| entry.id.as_ref() == Some(id) || entry.former_ids.contains(id);
        self.0.values().any(of)
    }

    /// Makes it one of the devices of the bridge, with the id that it has or had, or one from its name. `taken` are the
    /// ids of the settings. Returns its id.
    ///
    /// # Errors
    /// The wanted id belongs to another device.
    pub fn add(
        &mut self,
        mac: &str,
        wanted: Option<DeviceId>,
        name: Option<String>,
        taken: &[DeviceId],
    ) -> Result<DeviceId, RequestError> {
        let id = match (wanted, self.get(mac).and_then(|entry| entry.id.clone())) {
            (Some(wanted), _) => self.free(wanted, mac, taken)?,
            (None, Some(kept)) if self.owner(&kept, mac, taken).is_none() => kept,
            (None, _) => self.id_for(mac, taken)?,
        };
        self.change(mac, |entry| {
            entry.set_id(&id);
            entry.usage = Usage::Added;
            entry.name = name.or(entry.name.take());
        });
        Ok(id)
    }

    /// Gives an added device another id or another name. An empty name is that in the app again.
    ///
    /// # Errors
    /// The id belongs to another device.
    pub fn rename(
        &mut self,
        mac: &str,
        id: Option<DeviceId>,
        name: Option<String>,
        taken: &[DeviceId],
    ) -> Result<(), RequestError> {
        let id = id.map(|id| self.free(id, mac, taken)).transpose()?;
        self.change(mac, |entry| {
            if let Some(id) = id {
                entry.set_id(&id);
            }
            if let Some(name) = name {
                entry.name = Some(name).filter(|name| !name.is_empty());
            }
        });
        Ok(())
    }

    /// Uses a device no longer, or another way.
    pub fn set_usage(&mut self, mac: &str, usage: Usage) {
        self.change(mac, |entry| entry.usage = usage);
    }

    /// Another device takes the place of an added one: its id, its name, and what Home Assistant knows it by.
    pub fn replace(&mut self, old: &str, new: &str) {
        let (Some(before), Some(node)) = (self.0.get(old).cloned(), self.known_as(new)) else {
            return;
        };
        let known_as = self.known_as(old);
        self.change(old, |entry| {
            entry.usage = Usage::Removed;
            entry.id = None;
            entry.former_ids.clear();
            entry.name = None;
            // Two devices are never known as one.
            entry.replaces = Some(node);
        });
        self.change(new, |entry| {
            entry.usage = Usage::Added;
            entry.id = before.id;
            entry.former_ids = before.former_ids;
            entry.name = before.name;
            entry.replaces = known_as;
        });
    }

    /// The MAC by which Home Assistant knows a device.
    pub fn known_as(&self, mac: &str) -> Option<String> {
        let entry = self.0.get(mac)?;
        Some(entry.replaces.clone().unwrap_or_else(|| mac.to_owned()))
    }

    fn change(&mut self, mac: &str, change: impl FnOnce(&mut InventoryEntry)) {
        if let Some(entry) = self.0.get_mut(mac) {
            change(entry);
        }
    }

    /// An id that no other device has.
    fn free(&self, id: DeviceId, mac: &str, taken: &[DeviceId]) -> Result<DeviceId, RequestError> {
        match self.owner(&id, mac, taken) {
            None => Ok(id),
            Some(owner) => Err(RequestError::Invalid(format!(
                "the id {id} cannot be given: it is that of {owner}"
            ))),
        }
    }

    /// What an id belongs to, if that is not this device.
    fn owner(&self, id: &DeviceId, mac: &str, taken: &[DeviceId]) -> Option<String> {
        let conflicts = |other: &DeviceId| other == id || other.is_outlet_of(id) || id.is_outlet_of(other);
        let configured = taken.iter().find(|other| conflicts(other));
        let others = self.0.iter().filter(|(other, _)| *other != mac);
        let mut others = others.filter(|(_, entry)| {
            let ids = entry.id.iter().chain(&entry.former_ids);
            ids.filter(|_| entry.usage == Usage::Added).any(&conflicts)
        });
        configured
            .map(ToString::to_string)
            .or_else(|| others.next().map(|(mac, _)| format!("the device {mac}")))
    }

    /// An id from the name of a device in the app, or from its model.
    fn id_for(&self, mac: &str, taken: &[DeviceId]) -> Result<DeviceId, RequestError> {
        let entry = self.get(mac);
        let nickname = entry
            .and_then(|entry| entry.nickname.as_deref())
            .unwrap_or_default();
        let model = entry.and_then(|entry| entry.model.as_deref()).unwrap_or("tapo");
        let model = id_from_name(model.split('(').next().unwrap_or_default());
        let tail: String = mac.chars().filter(char::is_ascii_hexdigit).skip(6).collect();
        let named = Some(id_from_name(nickname)).filter(|id| !id.is_empty());
        let base = named.unwrap_or_else(|| format!("{model}-{tail}"));
        let numbered = (2..=UNUSED_MAX).map(|number| format!("{base}-{number}"));
        let mut candidates = std::iter::once(base.clone()).chain(numbered);
        let free = |id: String| self.free(id.parse().ok()?, mac, taken).ok();
        candidates
            .find_map(free)
            .ok_or_else(|| RequestError::Invalid(format!("no id like {base} is free; send one with \"id\"")))
    }

    /// Forgets the devices that are gone. Returns whether there was one.
    pub fn forget_gone(&mut self, now: Timestamp) -> bool {
        let before = self.0.len();
        self.0
            .retain(|_, entry| !(entry.is_plain() && entry.is_gone(now)));
        self.0.len() != before
    }

    /// Keeps the list bounded.
    fn forget_oldest(&mut self, new: &str) {
        let unused = |(mac, entry): &(&String, &InventoryEntry)| *mac != new && entry.is_plain();
        if self.0.iter().filter(unused).count() >= UNUSED_MAX {
            let oldest = self.0.iter().filter(unused).min_by_key(|(_, entry)| entry.seen);
            if let Some(oldest) = oldest.map(|(mac, _)| mac.clone()) {
                self.0.remove(&oldest);
            }
        }
    }
}

impl InventoryEntry {
    /// Whether it was not seen for so long that it is not offered any more.
    pub fn is_gone(&self, now: Timestamp) -> bool {
        now.duration_since(self.seen) > UNSEEN_MAX
    }

    /// Whether it was found and nothing else: no request and no settings said what it is used for.
    fn is_plain(&self) -> bool {
        let has_history = self.id.is_some() || self.configured.is_some() || self.replaces.is_some();
        self.usage == Usage::Found && !has_history
    }

    fn saw(&mut self, address: &str, now: Timestamp) {
        address.clone_into(&mut self.address);
        if now.duration_since(self.seen).abs() >= SEEN_STEP {
            self.seen = now;
        }
    }

    fn set_id(&mut self, id: &DeviceId) {
        self.former_ids.retain(|former| former != id);
        if let Some(before) = self.id.replace(id.clone())
            && before != *id
        {
            self.former_ids.push(before);
        }
    }

    fn is_called(&self, id: &str) -> bool {
        let configured = self.configured.as_ref().filter(|_| self.usage != Usage::Added);
        [self.id.as_ref(), configured]
            .into_iter()
            .flatten()
            .any(|own| own.as_str() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aa:bb:cc:00:00:01";
    const B: &str = "aa:bb:cc:00:00:02";

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    fn found(mac: &str, nickname: Option<&str>) -> NetworkDevice {
        NetworkDevice {
            mac: mac.to_owned(),
            address: "192.0.2.1".to_owned(),
            model: Some("P110".to_owned()),
            trial: LoginTrial::Accepted(nickname.map(str::to_owned)),
        }
    }

    fn id(text: &str) -> DeviceId {
        text.parse().unwrap()
    }

    /// Two devices with one name.
    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        for mac in [A, B] {
            assert!(inventory.on_found(&found(mac, Some("Einfahrt Süd")), at(1000)));
        }
        inventory
    }

    #[test]
    fn ids_come_from_names_and_differ() {
        let mut inventory = inventory();
        let taken = [id("einfahrt-sued-2")];
        assert_eq!(inventory.add(A, None, None, &taken).unwrap(), id("einfahrt-sued"));
        assert_eq!(
            inventory.add(B, None, None, &taken).unwrap(),
            id("einfahrt-sued-3")
        );
        let mut nameless = Inventory::default();
        nameless.on_found(&found(A, None), at(1000));
        assert_eq!(nameless.add(A, None, None, &[]).unwrap(), id("p110-000001"));
        nameless.on_found(&found(B, Some("Bridge")), at(1000));
        assert_eq!(nameless.add(B, None, None, &[]).unwrap(), id("bridge-2"));
    }

    #[test]
    fn an_id_stays_when_the_name_changes_and_after_a_removal() {
        let mut inventory = inventory();
        inventory.add(A, None, None, &[]).unwrap();
        inventory.on_found(&found(A, Some("Garage")), at(1000));
        inventory.set_usage(A, Usage::Removed);
        assert_eq!(inventory.add(A, None, None, &[]).unwrap(), id("einfahrt-sued"));
    }

    #[test]
    fn a_device_in_use_is_meant_by_an_id_that_another_one_had() {
        let mut inventory = inventory();
        for mac in [A, B] {
            inventory.add(mac, Some(id("lamp")), None, &[]).unwrap();
            assert_eq!(inventory.find("lamp").unwrap(), mac);
            inventory.set_usage(mac, Usage::Removed);
            assert_eq!(inventory.find("lamp").unwrap(), A, "it can be added again");
        }
    }

    #[test]
    fn an_id_of_another_device_is_not_given() {
        let mut inventory = inventory();
        inventory.add(A, Some(id("heater")), None, &[]).unwrap();
        for wanted in ["heater", "heater_o1", "lamp"] {
            let error = inventory
                .add(B, Some(id(wanted)), None, &[id("lamp")])
                .unwrap_err();
            assert!(error.to_string().contains("cannot be given"), "{error}");
        }
        assert_eq!(inventory.get(B).unwrap().usage, Usage::Found);
    }

    #[test]
    fn only_what_was_found_and_nothing_else_is_forgotten() {
        let mut inventory = inventory();
        assert!(!inventory.forget_gone(at(1024)));
        let added = inventory.add(A, None, None, &[]).unwrap();
        inventory.set_usage(A, Usage::Removed);
        assert!(inventory.get(A).unwrap().is_gone(at(1025)));
        assert!(inventory.forget_gone(at(1025)), "a day and an hour");
        assert!(inventory.get(B).is_none());
        // A group may name it, and it is not added by itself again.
        assert!(inventory.had(&added) && !inventory.forget_gone(at(9000)));
        inventory.on_found(&found(A, None), at(9000));
        assert!(!inventory.get(A).unwrap().is_gone(at(9001)));
        // The clock was wrong.
        assert!(!inventory.get(A).unwrap().is_gone(at(1)));
    }

    #[test]
    fn a_renamed_device_is_known_by_its_former_id() {
        let mut inventory = inventory();
        inventory.add(A, Some(id("heater")), None, &[]).unwrap();
        inventory
            .rename(A, Some(id("oven")), Some("Oven".to_owned()), &[])
            .unwrap();
        assert_eq!(inventory.present_id(&id("heater")), Some(&id("oven")));
        assert_eq!(inventory.present_id(&id("oven")), Some(&id("oven")));
        assert_eq!(inventory.present_id(&id("lamp")), None);
        assert!(inventory.find("heater").is_err(), "a former id is not an id");
        assert_eq!(inventory.find("AABBCC000001").as_deref(), Ok(A));
        inventory
            .rename(A, Some(id("heater")), Some(String::new()), &[])
            .unwrap();
        let entry = inventory.get(A).unwrap();
        assert_eq!((&entry.former_ids[..], &entry.name), (&[id("oven")][..], &None));
    }

    #[test]
    fn a_replacement_has_everything_of_the_replaced_one() {
        let mut inventory = inventory();
        inventory
            .add(A, Some(id("heater")), Some("Heater".to_owned()), &[])
            .unwrap();
        inventory.replace(A, B);
        let (old, new) = (inventory.get(A).unwrap(), inventory.get(B).unwrap());
        assert_eq!((old.usage, &old.id), (Usage::Removed, &None));
        assert_eq!((new.usage, &new.id), (Usage::Added, &Some(id("heater"))));
        assert_eq!(
            (new.name.as_deref(), new.replaces.as_deref()),
            (Some("Heater"), Some(A))
        );
        // A third one: Home Assistant still knows it by the first.
        let third = "aa:bb:cc:00:00:03";
        inventory.on_found(&found(third, None), at(1000));
        inventory.replace(B, third);
        let known_as = |mac| inventory.known_as(mac).unwrap();
        assert_eq!([known_as(A), known_as(B), known_as(third)], [B, third, A]);
    }

    #[test]
    fn strange_devices_do_not_fill_the_list() {
        let mut inventory = inventory();
        inventory.add(A, None, None, &[]).unwrap();
        for number in 0..1000 {
            inventory.on_found(
                &found(&format!("02:00:00:00:00:{number}"), None),
                at(2000 + number),
            );
        }
        assert_eq!(inventory.devices().count(), UNUSED_MAX + 1);
        assert!(inventory.get(A).is_some() && inventory.get(B).is_none());
    }

    #[test]
    fn what_is_seen_again_is_not_written_again() {
        let mut inventory = inventory();
        assert!(!inventory.on_found(&found(A, None), at(1001)));
        assert!(inventory.on_found(&found(A, None), at(1010)));
        let refused = NetworkDevice {
            trial: LoginTrial::Refused("a hub".to_owned()),
            ..found(A, None)
        };
        assert!(inventory.on_found(&refused, at(1010)));
        let untried = NetworkDevice {
            trial: LoginTrial::Untried,
            ..refused
        };
        assert!(!inventory.on_found(&untried, at(1010)));
        assert_eq!(inventory.get(A).unwrap().refused.as_deref(), Some("a hub"));
    }

    #[test]
    fn an_entry_of_an_older_file_is_read() {
        let inventory: Inventory =
            serde_json::from_str(r#"{"aa:bb:cc:00:00:01": {"address": "192.0.2.7"}}"#).unwrap();
        assert_eq!(inventory.get(A).unwrap().usage, Usage::Found);
        let text = serde_json::to_string(&inventory).unwrap();
        assert_eq!(serde_json::from_str::<Inventory>(&text).unwrap(), inventory);
    }
}
