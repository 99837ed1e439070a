//! Which relay a configured name stands for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use jiff::SignedDuration;
use planner::{DeviceId, OutletKey, OutletPath, Steady};
use serde::{Deserialize, Serialize};

use crate::domain::{
    command_error::CommandError,
    devices::DeviceTarget,
    report::{DeviceReport, Kind},
    scheduling::ConfiguredDevice,
};

/// A relay: the hardware id of its device, and its position on it. Timers, limits and cooldowns belong to it; a
/// configured name is only how it is shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayId {
    hardware: Arc<str>,
    /// 1..n; 1 on a plug.
    position: u8,
}

/// A device that was not reached yet has no hardware id: this and its configured id stand for it. No hardware id
/// starts so.
const UNIDENTIFIED: char = '?';

/// So long an outlet that a strip leaves out of its list is still one of its outlets: it may be in the next list.
const LEFT_OUT: SignedDuration = SignedDuration::from_mins(5);

impl RelayId {
    fn new(hardware: Arc<str>, position: u8) -> Self {
        Self { hardware, position }
    }

    /// The same position of a device that was not reached yet.
    pub fn unidentified(&self, device: &DeviceId) -> Self {
        Self::new(format!("{UNIDENTIFIED}{device}").into(), self.position)
    }

    /// The same position of other hardware.
    pub fn on(&self, hardware: &Arc<str>) -> Self {
        Self::new(hardware.clone(), self.position)
    }

    /// Whether the hardware is known.
    pub fn is_identified(&self) -> bool {
        !self.hardware.starts_with(UNIDENTIFIED)
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hardware, self.position)
    }
}

impl From<RelayId> for String {
    fn from(relay: RelayId) -> Self {
        relay.to_string()
    }
}

/// A text is not a relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware id and a position, such as 8022AB/1")]
pub struct RelayIdError(String);

impl FromStr for RelayId {
    type Err = RelayIdError;

    fn from_str(text: &str) -> Result<Self, RelayIdError> {
        let parts = text.rsplit_once('/');
        let relay =
            parts.and_then(|(hardware, position)| Some(Self::new(hardware.into(), position.parse().ok()?)));
        relay.ok_or_else(|| RelayIdError(text.to_owned()))
    }
}

impl TryFrom<String> for RelayId {
    type Error = RelayIdError;

    fn try_from(text: String) -> Result<Self, RelayIdError> {
        text.parse()
    }
}

/// A device as it was last identified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDevice {
    /// Its hardware id, which survives a change of its address.
    pub hardware: Arc<str>,
    /// Its MAC, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The positions of the outlets of a strip; empty on a plug.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<u8>,
    /// Whether it is a hub, which has no outlets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_hub: bool,
    /// Whether it reported since the bridge started or its settings changed.
    #[serde(skip)]
    reported: bool,
    /// Whether it got another address since it reported, where other hardware may answer: its names stand for relays
    /// that are not known, and what is promised about this hardware waits until it reports, under whatever name.
    #[serde(skip)]
    moved: bool,
    /// Since when it leaves outlets out that it had.
    #[serde(skip)]
    short_since: Option<Steady>,
}

/// Resolves names to relays.
#[derive(Debug, Default)]
pub struct Relays {
    configured: BTreeMap<DeviceId, ConfiguredDevice>,
    known: BTreeMap<DeviceId, KnownDevice>,
}

impl Relays {
    /// With what an earlier run knew.
    pub fn new(
        configured: BTreeMap<DeviceId, ConfiguredDevice>,
        known: BTreeMap<DeviceId, KnownDevice>,
    ) -> Self {
        Self { configured, known }
    }

    /// What is known of each device, for the state file.
    pub fn known(&self) -> &BTreeMap<DeviceId, KnownDevice> {
        &self.known
    }

    /// Whether a report is about the device that the settings mean: the worker of a device that a reload removed, or
    /// that another device has the id of now, may still report.
    pub fn is_meant(&self, report: &DeviceReport) -> bool {
        self.means(&report.id, &report.target)
    }

    /// Whether the settings mean this device by an id.
    pub fn means(&self, id: &DeviceId, target: &DeviceTarget) -> bool {
        let device = self.configured.get(id);
        device.is_some_and(|device| device.target == *target)
    }

    /// Whether a device reported since the settings mean it by its id.
    pub fn is_identified(&self, device: &DeviceId) -> bool {
        self.known.get(device).is_some_and(|known| !known.moved)
    }

    /// Whether a device is configured.
    pub fn is_configured(&self, device: &DeviceId) -> bool {
        self.configured.contains_key(device)
    }

    /// Every configured device.
    pub fn configured(&self) -> impl Iterator<Item = &DeviceId> {
        self.configured.keys()
    }

    /// Takes over the devices of reloaded settings.
    pub fn configure(&mut self, configured: BTreeMap<DeviceId, ConfiguredDevice>) {
        // The same device under another id, or gone: its own report contains its name there.
        self.known.retain(|device, _| configured.contains_key(device));
        for (device, known) in &mut self.known {
            known.reported = false;
            let target = |configured: &BTreeMap<DeviceId, ConfiguredDevice>| {
                configured.get(device).map(|device| device.target.clone())
            };
            known.moved |= target(&self.configured) != target(&configured);
        }
        self.configured = configured;
    }

    /// The relay that a name stands for; `None` for an outlet that the settings and the device do not have.
    pub fn resolve(&self, path: &OutletPath) -> Option<RelayId> {
        if self.is_hub(&path.device) {
            return None;
        }
        let position = match &path.outlet {
            None => 1,
            Some(key) => {
                let named = self.named(&path.device, key);
                named.copied().or_else(|| position_of(key))?
            }
        };
        let hardware = match self.known.get(&path.device) {
            Some(known) if !known.moved => known.hardware.clone(),
            _ => format!("{UNIDENTIFIED}{}", path.device).into(),
        };
        Some(RelayId::new(hardware, position))
    }

    /// The names of all outlets of a device: one on a plug, and on a device that was not reached yet; none on a hub.
    pub fn outlets(&self, device: &DeviceId) -> Vec<OutletPath> {
        match self.known.get(device) {
            Some(known) if known.is_hub => Vec::new(),
            Some(known) if !known.positions.is_empty() => {
                let path = |position: &u8| self.path(device, *position);
                known.positions.iter().filter_map(path).collect()
            }
            _ => vec![OutletPath::device(device.clone())],
        }
    }

    /// Why a name stands for no outlet; `None` also while that is not known.
    pub fn missing(&self, path: &OutletPath) -> Option<CommandError> {
        if self.is_hub(&path.device) {
            return Some(CommandError::no_outlets(path));
        }
        let key = path.outlet.as_ref()?;
        let known = self.known.get(&path.device)?;
        let named = self.named(&path.device, key);
        let position = named.copied().or_else(|| position_of(key));
        if position.is_some_and(|position| known.positions.contains(&position)) {
            return None;
        }
        let keys: Vec<OutletKey> = self
            .outlets(&path.device)
            .into_iter()
            .filter_map(|path| path.outlet)
            .collect();
        Some(CommandError::unknown_outlet(path, &keys))
    }

    /// The relay at a position of a device, whatever its names are; `None` before the device was identified.
    pub fn relay_at(&self, device: &DeviceId, position: u8) -> Option<RelayId> {
        let known = self.known.get(device)?;
        Some(RelayId::new(known.hardware.clone(), position))
    }

    /// Whether a configured device is the one of this relay.
    pub fn is_known(&self, relay: &RelayId) -> bool {
        self.known.values().any(|known| known.hardware == relay.hardware)
    }

    /// Whether a device is known to have several outlets.
    pub fn is_strip(&self, device: &DeviceId) -> bool {
        self.known
            .get(device)
            .is_some_and(|known| !known.positions.is_empty())
    }

    /// Whether a device is known to be a hub.
    pub fn is_hub(&self, device: &DeviceId) -> bool {
        self.known.get(device).is_some_and(|known| known.is_hub)
    }

    fn named(&self, device: &DeviceId, key: &OutletKey) -> Option<&u8> {
        self.configured.get(device)?.outlets.get(key)
    }

    fn path(&self, device: &DeviceId, position: u8) -> Option<OutletPath> {
        let named = self.configured.get(device);
        let named = named
            .into_iter()
            .flat_map(|device| &device.outlets)
            .find(|(_, at)| **at == position)
            .map(|(key, _)| key.clone());
        let key = named.or_else(|| position.to_string().parse().ok())?;
        Some(OutletPath::outlet(device.clone(), key))
    }

    /// Identifies the device of a report; returns whether its names stand for other relays now.
    pub fn identify(&mut self, report: &DeviceReport, now: Steady) -> bool {
        let Some(identity) = &report.identity else {
            return false;
        };
        let hardware: Arc<str> = identity.device_id.as_str().into();
        if self.is_taken(report) {
            // Two configured devices are the same one. The first that reported has it.
            return self.known.remove(&report.id).is_some();
        }
        let (positions, short_since) = match identity.kind {
            Kind::Plug | Kind::Hub => (Vec::new(), None),
            Kind::Strip => self.positions(report, &hardware, now),
        };
        let known = KnownDevice {
            hardware: hardware.clone(),
            mac: identity.mac.clone(),
            positions,
            is_hub: identity.kind == Kind::Hub,
            reported: true,
            moved: false,
            short_since,
        };
        let before = self.known.insert(report.id.clone(), known);
        let changed = before.as_ref().is_none_or(|before| {
            let now = self.known.get(&report.id);
            let same = |now: &KnownDevice| {
                before.hardware == now.hardware
                    && before.positions == now.positions
                    && before.is_hub == now.is_hub
            };
            before.moved || !now.is_some_and(same)
        });
        if changed {
            // An earlier run knew it under another id.
            self.known
                .retain(|id, known| *id == report.id || known.hardware != hardware);
        }
        changed
    }

    /// The outlets of a strip: those that it reports, and for a while those that it had.
    fn positions(&self, report: &DeviceReport, hardware: &str, now: Steady) -> (Vec<u8>, Option<Steady>) {
        let reported: BTreeSet<u8> = report.outlets.iter().map(|outlet| outlet.position).collect();
        let known = self.known.get(&report.id);
        let known = known.filter(|known| *known.hardware == *hardware);
        let had: BTreeSet<u8> = known
            .into_iter()
            .flat_map(|known| &known.positions)
            .copied()
            .collect();
        if had.is_subset(&reported) {
            return (reported.into_iter().collect(), None);
        }
        let since = known.and_then(|known| known.short_since).unwrap_or(now);
        if now.elapsed_since(since) >= LEFT_OUT {
            return (reported.into_iter().collect(), None);
        }
        (had.union(&reported).copied().collect(), Some(since))
    }

    /// Whether another configured device reported that it is this hardware.
    pub fn is_taken(&self, report: &DeviceReport) -> bool {
        let Some(identity) = &report.identity else {
            return false;
        };
        let is_it = |known: &KnownDevice| known.reported && *known.hardware == *identity.device_id;
        // Only one has it: it need not be compared with all others at each report.
        if self.known.get(&report.id).is_some_and(is_it) {
            return false;
        }
        self.known
            .iter()
            .any(|(id, known)| *id != report.id && is_it(known))
    }
}

/// An outlet without a name goes by its position.
fn position_of(key: &OutletKey) -> Option<u8> {
    key.as_str().parse().ok().filter(|position| *position > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        devices::DeviceTarget,
        report::{ChangedBy, Condition, Countdown, DeviceRules, Energy, Identity, Outlet, Phase},
    };
    use jiff::Timestamp;

    #[test]
    fn a_relay_reads_as_it_prints() {
        let relay: RelayId = "8022AB/3".parse().unwrap();
        assert_eq!(relay.to_string(), "8022AB/3");
        assert!(relay.is_identified());
        let unknown = "8022AB/2".parse::<RelayId>().unwrap();
        let unknown = unknown.unidentified(&"strip".parse().unwrap());
        assert_eq!(unknown.to_string(), "?strip/2");
        assert_eq!("?strip/2".parse::<RelayId>().unwrap(), unknown);
        assert!(!unknown.is_identified());
        for text in ["", "8022AB", "8022AB/x", "8022AB/300"] {
            assert!(text.parse::<RelayId>().is_err(), "{text}");
        }
    }

    fn report(id: &str, hardware: &str) -> DeviceReport {
        DeviceReport {
            id: id.parse().unwrap(),
            target: DeviceTarget::default(),
            name: None,
            address: "192.0.2.1".to_owned(),
            phase: Phase::Ready,
            availability: Phase::Ready.availability(),
            error: None,
            identity: Some(Arc::new(Identity {
                device_id: hardware.to_owned(),
                model: "P110".to_owned(),
                firmware: None,
                hardware: None,
                mac: None,
                nickname: None,
                kind: Kind::Plug,
                meters_energy: false,
                role: crate::domain::report::DeviceRole::Outlet,
            })),
            is_complete: true,
            rssi: None,
            serving: None,
            led: None,
            latest_firmware: None,
            outlets: Vec::new(),
            children: Vec::new(),
        }
    }

    #[test]
    fn a_report_from_before_a_reload_is_about_another_device() {
        let target = |address: &str| DeviceTarget {
            address: address.to_owned(),
            mac: None,
        };
        let heater = |address| {
            let device = ConfiguredDevice {
                target: target(address),
                ..ConfiguredDevice::default()
            };
            [("heater".parse().unwrap(), device)].into()
        };
        let report = |address: &str, hardware| DeviceReport {
            target: target(address),
            ..report("heater", hardware)
        };
        let id: DeviceId = "heater".parse().unwrap();
        let mut relays = Relays::new(heater("A"), BTreeMap::new());
        assert!(relays.is_meant(&report("A", "H")) && relays.identify(&report("A", "H"), at(0)));
        assert!(relays.is_identified(&id));
        relays.configure(heater("B"));
        assert!(!relays.is_meant(&report("A", "H")) && relays.is_meant(&report("B", "L")));
        assert!(
            !relays.is_identified(&id),
            "until the device at the new address reports"
        );
        assert!(relays.identify(&report("B", "L"), at(0)) && relays.is_identified(&id));
        relays.configure([].into());
        assert!(!relays.is_meant(&report("B", "L")));
    }

    fn at(minute: i64) -> Steady {
        Steady::at(Timestamp::from_second(minute * 60).unwrap())
    }

    #[test]
    fn an_outlet_that_a_strip_leaves_out_is_kept_for_a_while() {
        let id: DeviceId = "strip".parse().unwrap();
        let mut relays = Relays::new(
            [(id.clone(), ConfiguredDevice::default())].into(),
            BTreeMap::new(),
        );
        let strip = |hardware, positions: &[u8]| {
            let mut report = report("strip", hardware);
            let outlet = |position: &u8| Outlet {
                key: position.to_string().parse().ok(),
                position: *position,
                name: None,
                power: None,
                on_since: None,
                on_at: None,
                off_seen_at: None,
                changed_by: ChangedBy::Unknown,
                condition: Condition::default(),
                energy: Energy::default(),
                features: BTreeSet::new(),
                countdown: Countdown::Unknown,
                settings: crate::domain::device_settings::OutletSettings::default(),
                rules: DeviceRules::default(),
            };
            report.outlets = positions.iter().map(outlet).collect();
            let mut identity = (**report.identity.as_ref().unwrap()).clone();
            identity.kind = Kind::Strip;
            report.identity = Some(Arc::new(identity));
            report
        };
        let mut identify = |report, minute| (relays.identify(&report, at(minute)), relays.outlets(&id).len());
        assert_eq!(identify(strip("H", &[1, 2]), 0), (true, 2));
        assert_eq!(identify(strip("H", &[1]), 1), (false, 2));
        assert_eq!(identify(strip("H", &[1]), 5), (false, 2));
        assert_eq!(identify(strip("H", &[1, 2]), 6), (false, 2));
        assert_eq!(
            identify(strip("H", &[2]), 7),
            (false, 2),
            "counted again from here"
        );
        assert_eq!(identify(strip("H", &[2]), 12), (true, 1));
        assert_eq!(identify(strip("H", &[1, 2]), 13), (true, 2));
        assert_eq!(identify(strip("OTHER", &[1]), 14), (true, 1), "replaced");
    }

    #[test]
    fn one_device_has_one_of_two_names() {
        let [heater, lamp] =
            ["heater", "lamp"].map(|id| (id.parse::<DeviceId>().unwrap(), ConfiguredDevice::default()));
        let mut relays = Relays::new([heater, lamp].into(), BTreeMap::new());
        let unidentified = DeviceReport {
            identity: None,
            ..report("heater", "H")
        };
        assert!(!relays.identify(&unidentified, at(0)));
        assert!(
            relays.identify(&report("heater", "H"), at(0)) && relays.identify(&report("lamp", "L"), at(0))
        );
        assert!(!relays.identify(&report("heater", "H"), at(0)), "nothing new");
        // Two configured devices are one: the first that reported keeps it.
        assert!(relays.is_taken(&report("lamp", "H")) && !relays.is_taken(&report("heater", "H")));
        assert!(relays.identify(&report("lamp", "H"), at(0)));
        let relay = |path: &str| {
            relays
                .resolve(&path.parse().unwrap())
                .map(|relay| relay.to_string())
        };
        assert_eq!(
            [relay("heater"), relay("lamp")],
            ["H/1", "?lamp/1"].map(|text| Some(text.to_owned()))
        );
    }

    #[test]
    fn a_name_is_resolved_to_a_position() {
        let strip: DeviceId = "strip".parse().unwrap();
        let configured = ConfiguredDevice {
            outlets: [("left".parse().unwrap(), 2)].into(),
            ..ConfiguredDevice::default()
        };
        let known = KnownDevice {
            hardware: "H".into(),
            mac: None,
            positions: vec![1, 2],
            is_hub: false,
            reported: false,
            moved: false,
            short_since: None,
        };
        let relays = Relays::new(
            [(strip.clone(), configured)].into(),
            [(strip.clone(), known)].into(),
        );
        let resolve = |path: &str| {
            let relay = relays.resolve(&path.parse().unwrap());
            relay.map(|relay| relay.to_string())
        };
        assert_eq!(resolve("strip/left").as_deref(), Some("H/2"));
        assert_eq!(resolve("strip/1").as_deref(), Some("H/1"));
        assert_eq!(resolve("strip/right"), None);
        assert_eq!(resolve("lamp").as_deref(), Some("?lamp/1"));
        let outlets: Vec<String> = relays.outlets(&strip).iter().map(ToString::to_string).collect();
        assert_eq!(outlets, ["strip/1", "strip/left"]);
        let missing = |path: &str| relays.missing(&path.parse().unwrap()).map(|error| error.message);
        for path in ["strip/left", "strip/2", "strip", "lamp", "lamp/1"] {
            assert_eq!(missing(path), None, "{path}");
        }
        let has = "strip/3 does not exist; strip has the outlets 1, left";
        assert_eq!(missing("strip/3").as_deref(), Some(has));
    }
}
