//! The whole payload of one device.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::{
    abbreviation::abbreviated,
    component::{Component, Platform},
    device::{Availability, Device, Origin},
    entity::State,
    identity::{Key, NodeId},
};

/// The discovery payload of one device, in one retained message.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicePayload {
    /// Names the discovery topic, the device, and the beginning of its unique ids.
    pub node: NodeId,
    /// The device.
    pub device: Device,
    /// Who announces it.
    pub origin: Origin,
    /// The topics that show whether it is available, while all of them say so. None: always.
    pub availability: Vec<Availability>,
    /// The entities of the device itself.
    pub components: BTreeMap<Key, Component>,
    /// The outlets of a strip, by position, from 1.
    pub children: BTreeMap<u8, Child>,
    /// How outlets are shown.
    pub layout: Layout,
    /// Entities that were announced earlier and are to disappear, by unique id. Home Assistant wants them
    /// once in this form; the next payload leaves them out.
    pub removed: BTreeMap<String, Platform>,
}

/// One outlet of a strip.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its name: the nickname, or `Outlet 1`.
    pub name: String,
    /// Its entities.
    pub components: BTreeMap<Key, Component>,
}

/// How the outlets of a strip are shown. The unique ids are the same, so a user may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// As entities of the strip, whose names begin with the outlet's.
    #[default]
    Flat,
    /// As devices below the strip. Home Assistant before 2026.11 rejects the whole payload.
    ChildDevices,
}

/// A part of a JSON message that Home Assistant reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// The topic of the message.
    pub topic: String,
    /// Which part, as a JSON pointer (RFC 6901): `/state`.
    pub pointer: String,
}

impl DevicePayload {
    /// A device without entities, available always.
    pub fn new(node: NodeId, device: Device, origin: Origin) -> Self {
        Self {
            node,
            device,
            origin,
            availability: Vec::new(),
            components: BTreeMap::new(),
            children: BTreeMap::new(),
            layout: Layout::default(),
            removed: BTreeMap::new(),
        }
    }

    /// The message, on one line and with short keys. Serialized as any other value, its keys are written out.
    pub fn to_json(&self) -> String {
        // Neither a map with keys that are not text nor a failing Serialize is among the fields.
        let payload = serde_json::to_value(self).unwrap_or_default();
        abbreviated(payload).to_string()
    }

    /// The unique ids of all entities with their platform.
    pub fn announces(&self) -> BTreeMap<String, Platform> {
        let platform = |(id, _, component): (String, _, &Component)| (id, component.platform());
        self.entities().map(platform).collect()
    }

    /// Marks as removed what an earlier payload announced and this one does not.
    pub fn remove_vanished(&mut self, announced: impl IntoIterator<Item = (String, Platform)>) {
        let current = self.announces();
        let vanished = announced.into_iter().filter(|(id, _)| !current.contains_key(id));
        self.removed.extend(vanished);
    }

    /// Every key that a template of this payload reads. Home Assistant warns on each message in which one
    /// of them is missing.
    pub fn reads(&self) -> BTreeSet<StateKey> {
        let availability = self.availability.iter();
        let availability = availability.map(|it| State::new(&it.topic, it.template.clone()));
        let states = self.entities().flat_map(|(_, _, component)| component.states());
        states
            .chain(availability)
            .flat_map(|state| state_keys(&state))
            .collect()
    }

    /// Unique id, outlet and component of every entity.
    fn entities(&self) -> impl Iterator<Item = (String, Option<&Child>, &Component)> {
        let own = self
            .components
            .iter()
            .map(|(key, component)| (format!("{}_{key}", self.node), None, component));
        let outlets = self.children.iter().flat_map(move |(position, child)| {
            child.components.iter().map(move |(key, component)| {
                let id = format!("{}_{key}", self.node.outlet(*position));
                (id, Some(child), component)
            })
        });
        own.chain(outlets)
    }

    fn rendered(&self) -> Rendered<'_> {
        let current = self.announces();
        let removed = self.removed.iter().filter(|(id, _)| !current.contains_key(*id));
        let mut components: BTreeMap<_, _> = removed
            .map(|(id, platform)| (id.clone(), Entry::removed(*platform)))
            .collect();
        let mut children = Vec::new();
        let own = |child: Option<&Child>| child.is_none() || self.layout == Layout::Flat;
        for (id, child, component) in self.entities().filter(|(_, child, _)| own(*child)) {
            let below = child.map(|child| child.name.as_str());
            components.insert(id.clone(), Entry::new(id, component, below));
        }
        if self.layout == Layout::ChildDevices {
            children.extend(self.children.iter().map(|(position, child)| {
                let identifier = self.node.outlet(*position);
                let entry = |(key, component)| {
                    let id = format!("{identifier}_{key}");
                    (id.clone(), Entry::new(id, component, None))
                };
                RenderedChild {
                    components: child.components.iter().map(entry).collect(),
                    identifiers: [identifier],
                    name: &child.name,
                }
            }));
        }
        Rendered {
            device: RenderedDevice {
                identifiers: [&self.node],
                device: &self.device,
            },
            origin: &self.origin,
            availability: &self.availability,
            availability_mode: "all",
            qos: 1,
            components,
            child_devices: children,
        }
    }
}

fn state_keys(state: &State) -> Vec<StateKey> {
    let pointers = state.template.pointers().iter();
    let key = |pointer: &String| StateKey {
        topic: state.topic.clone(),
        pointer: pointer.clone(),
    };
    pointers.map(key).collect()
}

impl Serialize for DevicePayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rendered().serialize(serializer)
    }
}

/// The message with its keys written out.
#[derive(Serialize)]
struct Rendered<'a> {
    device: RenderedDevice<'a>,
    origin: &'a Origin,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    availability: &'a [Availability],
    availability_mode: &'static str,
    /// For the topics of all its entities.
    qos: u8,
    components: BTreeMap<String, Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_devices: Vec<RenderedChild<'a>>,
}

#[derive(Serialize)]
struct RenderedDevice<'a> {
    identifiers: [&'a NodeId; 1],
    #[serde(flatten)]
    device: &'a Device,
}

#[derive(Serialize)]
struct RenderedChild<'a> {
    identifiers: [String; 1],
    name: &'a str,
    components: BTreeMap<String, Entry<'a>>,
}

/// One component; with nothing but its platform it makes Home Assistant remove the entity.
#[derive(Serialize)]
struct Entry<'a> {
    platform: Platform,
    #[serde(flatten)]
    entity: Option<Announced<'a>>,
}

#[derive(Serialize)]
struct Announced<'a> {
    unique_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[allow(clippy::option_option)] // Left out, null, or a name.
    name: Option<Option<String>>,
    #[serde(flatten)]
    component: &'a Component,
}

impl<'a> Entry<'a> {
    fn new(unique_id: String, component: &'a Component, below: Option<&str>) -> Self {
        let name = component.name();
        let name = match below {
            Some(outlet) => Some(Some(name.shown_below(outlet))),
            None => name.shown(),
        };
        Self {
            platform: component.platform(),
            entity: Some(Announced {
                unique_id,
                name,
                component,
            }),
        }
    }

    fn removed(platform: Platform) -> Self {
        Self {
            platform,
            entity: None,
        }
    }
}
