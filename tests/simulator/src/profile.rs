//! The differences of the models, as data.

mod tables;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::SimulatorError;

/// A model of outlet that can be simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Profile {
    /// A plug without an energy meter.
    P100,
    /// A plug with an energy meter, firmware 1.4.8.
    P110,
    /// The same plug on firmware 1.3.0: no `charging_status`, `overheated` instead of
    /// `overheat_status`, no `get_emeter_data`.
    P110Old,
    /// A strip of three outlets, listed 3, 2, 1.
    P300,
    /// A strip of four outlets with an energy meter each.
    P304M,
    /// A strip of six outlets with an energy meter each, whose live data lacks a counter in mWh.
    P316M,
    /// A Kasa-branded outdoor strip of two outlets, listed 2, 1, without the `auto_off` fields.
    EP40M,
    /// A strip of two outlets with an energy meter each.
    P210M,
    /// A strip of four outlets, listed 4 to 1, and a night light, which is a child too.
    P306,
    /// A strip of two outlets, whose firmware has the AES login.
    TP25,
    /// An old Kasa plug.
    HS100,
    /// An old Kasa plug with an energy meter, in volts, amperes and watts.
    HS110,
    /// An old Kasa plug with an energy meter, in thousandths of these.
    KP115,
    /// An old Kasa strip of six outlets with an energy meter each.
    HS300,
    /// An old Kasa strip of three outlets, whose ids it lists by their last two characters.
    KP303,
    /// An old Kasa wall switch.
    HS200,
    /// An old Kasa wall switch that dims.
    HS220,
    /// A wall switch.
    KS205,
    /// A wall switch that dims.
    S500D,
    /// A bulb that dims, without `on_time`.
    L510,
    /// A hub, firmware 1.5.23.
    H100,
    /// A Kasa-branded hub, firmware 1.7.5.
    KH100,
}

impl Profile {
    /// Every hub.
    pub const HUBS: [Self; 2] = [Self::H100, Self::KH100];

    /// Every profile with outlets.
    pub const ALL: [Self; 20] = [
        Self::P100,
        Self::P110,
        Self::P110Old,
        Self::P300,
        Self::P304M,
        Self::P316M,
        Self::EP40M,
        Self::P210M,
        Self::P306,
        Self::TP25,
        Self::HS100,
        Self::HS110,
        Self::KP115,
        Self::HS300,
        Self::KP303,
        Self::HS200,
        Self::HS220,
        Self::KS205,
        Self::S500D,
        Self::L510,
    ];

    /// Every profile.
    pub fn every() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::HUBS)
    }

    /// How many outlets it switches: 1 for a plug, none for a hub.
    pub fn outlets(self) -> u8 {
        u8::try_from(self.spec().listing.len()).unwrap_or(u8::MAX)
    }

    /// Whether its outlets are children of the device.
    pub fn is_strip(self) -> bool {
        self.spec().is_strip()
    }

    /// Whether sensors and thermostats connect to it.
    pub fn is_hub(self) -> bool {
        self.spec().is_hub()
    }

    /// Whether its outlets measure power and energy.
    pub fn has_energy(self) -> bool {
        self.spec().meter.is_some()
    }

    /// Whether it is an old Kasa device, with their JSON over whatever it speaks.
    pub fn is_iot(self) -> bool {
        self.spec().iot.is_some()
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::P100 => "P100",
            Self::P110 => "P110",
            Self::P110Old => "P110Old",
            Self::P300 => "P300",
            Self::P304M => "P304M",
            Self::P316M => "P316M",
            Self::EP40M => "EP40M",
            Self::P210M => "P210M",
            Self::P306 => "P306",
            Self::TP25 => "TP25",
            Self::HS100 => "HS100",
            Self::HS110 => "HS110",
            Self::KP115 => "KP115",
            Self::HS300 => "HS300",
            Self::KP303 => "KP303",
            Self::HS200 => "HS200",
            Self::HS220 => "HS220",
            Self::KS205 => "KS205",
            Self::S500D => "S500D",
            Self::L510 => "L510",
            Self::H100 => "H100",
            Self::KH100 => "KH100",
        }
    }

    pub(crate) fn spec(self) -> &'static Spec {
        match self {
            Self::P100 => &tables::P100,
            Self::P110 => &tables::P110,
            Self::P110Old => &tables::P110_OLD,
            Self::P300 => &tables::P300,
            Self::P304M => &tables::P304M,
            Self::P316M => &tables::P316M,
            Self::EP40M => &tables::EP40M,
            Self::P210M => &tables::P210M,
            Self::P306 => &tables::P306,
            Self::TP25 => &tables::TP25,
            Self::HS100 => &tables::HS100,
            Self::HS110 => &tables::HS110,
            Self::KP115 => &tables::KP115,
            Self::HS300 => &tables::HS300,
            Self::KP303 => &tables::KP303,
            Self::HS200 => &tables::HS200,
            Self::HS220 => &tables::HS220,
            Self::KS205 => &tables::KS205,
            Self::S500D => &tables::S500D,
            Self::L510 => &tables::L510,
            Self::H100 => &tables::H100,
            Self::KH100 => &tables::KH100,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = SimulatorError;

    fn from_str(text: &str) -> Result<Self, SimulatorError> {
        Self::every()
            .find(|profile| profile.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| SimulatorError::UnknownProfile(text.to_owned()))
    }
}

impl TryFrom<String> for Profile {
    type Error = SimulatorError;

    fn try_from(text: String) -> Result<Self, SimulatorError> {
        text.parse()
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.name().to_owned()
    }
}

/// A component and its version, as `component_nego` lists it.
pub(crate) type Component = (&'static str, u8);

/// Lists of components that are reported as one: models share their beginnings.
pub(crate) type Components = &'static [&'static [Component]];

/// Groups of fields that an outlet's `get_device_info` has or lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutletFields {
    AutoOff,
    /// `brightness`, in percent.
    Brightness,
    Charging,
    Overcurrent,
    /// `overheated`, a boolean: plugs before firmware 1.4.
    OverheatedFlag,
    OverheatStatus,
    PowerProtection,
    /// `is_usb`: strips with USB outlets or newer firmware.
    Usb,
    /// `on_off`, a number beside `device_on`.
    OnOff,
}

/// The answers of an outlet about power and energy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    /// `get_emeter_data` exists: firmware from about 1.4.
    pub(crate) emeter: bool,
    /// `get_energy_usage` carries `current_power`, in mW.
    pub(crate) power_in_usage: bool,
    /// Energies are also given in mWh, by `get_emeter_data` too.
    pub(crate) milliwatt_hours: bool,
}

/// How an old Kasa device differs from others of its kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iot {
    /// Its meter has volts, amperes, watts and kilowatt-hours, with fractions.
    pub(crate) whole_units: bool,
    /// It lists its outlets by the last two characters of their ids.
    pub(crate) short_ids: bool,
    /// `dev_name`.
    pub(crate) description: &'static str,
}

/// One model on one firmware.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) model: &'static str,
    /// As discovery names it, with its region.
    pub(crate) device_model: &'static str,
    pub(crate) device_type: &'static str,
    pub(crate) hw_ver: &'static str,
    pub(crate) fw_ver: &'static str,
    /// Knows TPAP and answers `discover` with a result; older firmware answers with code 1003.
    pub(crate) knows_tpap: bool,
    /// `default_states` has an empty `state` beside its type: firmware before 1.4.
    pub(crate) default_state_object: bool,
    /// What `get_protection_power` calls whether it is enabled.
    pub(crate) protection_flag: &'static str,
    /// Set for old Kasa devices.
    pub(crate) iot: Option<Iot>,
    /// Empty for an old Kasa device.
    pub(crate) components: Components,
    /// Empty for a plug.
    pub(crate) child_components: Components,
    pub(crate) outlet_fields: &'static [OutletFields],
    /// The last child is a light, which is no outlet.
    pub(crate) night_light: bool,
    /// The positions in the order in which the device lists its outlets.
    pub(crate) listing: &'static [u8],
    pub(crate) meter: Option<Meter>,
    /// What is plugged in at the start, in watts, by position.
    pub(crate) loads: &'static [f64],
    /// Above this many watts an outlet drops its relay.
    pub(crate) max_watts: f64,
    pub(crate) max_schedule_rules: usize,
}

impl Spec {
    pub(crate) fn is_strip(&self) -> bool {
        self.listing.len() > 1
    }

    pub(crate) fn is_hub(&self) -> bool {
        self.device_type.ends_with("HUB")
    }

    /// Whether the device as a whole has a component.
    pub(crate) fn has_component(&self, name: &str) -> bool {
        contains(self.components, name)
    }

    /// Whether what carries the outlet has a component: the child on a strip, else the device.
    pub(crate) fn outlet_has_component(&self, name: &str) -> bool {
        let carrier = if self.is_strip() {
            self.child_components
        } else {
            self.components
        };
        contains(carrier, name)
    }
}

fn contains(components: Components, name: &str) -> bool {
    components.iter().copied().flatten().any(|(id, _)| *id == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_in_any_case_and_written_as_it_is_named() {
        for profile in Profile::every() {
            let name = profile.name();
            assert_eq!(name.parse::<Profile>().unwrap(), profile);
            assert_eq!(name.to_lowercase().parse::<Profile>().unwrap(), profile);
        }
        assert!(matches!(
            "P999".parse::<Profile>(),
            Err(SimulatorError::UnknownProfile(_))
        ));
    }

    #[test]
    fn every_outlet_is_listed_once_and_has_a_load() {
        for profile in Profile::ALL {
            let spec = profile.spec();
            let mut positions = spec.listing.to_vec();
            positions.sort_unstable();
            assert_eq!(
                positions,
                (1..=profile.outlets()).collect::<Vec<_>>(),
                "{profile}"
            );
            assert_eq!(spec.loads.len(), spec.listing.len(), "{profile}");
            assert_eq!(profile.is_strip(), profile.outlets() > 1, "{profile}");
        }
    }
}
