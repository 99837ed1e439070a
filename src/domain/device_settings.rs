//! The settings that a device keeps itself, and changes of them.

use std::fmt;

use serde::Serialize;

/// The settings of one outlet. `None` is not known, or a setting that the device does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutletSettings {
    /// Whether the device switches off some time after each ON.
    pub auto_off: Option<bool>,
    /// How long after it, in minutes.
    pub auto_off_delay: Option<u32>,
    /// Whether the device switches off above a power that its user set.
    pub power_protection: Option<bool>,
    /// That power, in W.
    pub power_protection_threshold: Option<u32>,
    /// The largest that can be set, in W.
    pub max_power: Option<u32>,
    /// What the relay is after a power failure.
    pub power_on_behavior: Option<PowerOnBehavior>,
    /// The brightness of a lamp while it is on, in percent.
    pub brightness: Option<u8>,
}

/// What a relay is after a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerOnBehavior {
    /// Closed.
    On,
    /// Open.
    Off,
    /// As before.
    Previous,
}

impl PowerOnBehavior {
    /// All of them, with their words in topics.
    pub const ALL: [(&str, Self); 3] = [("off", Self::Off), ("on", Self::On), ("previous", Self::Previous)];
}

/// The attribute of `set/<attribute>` that dims, and its key in a `set`.
pub const BRIGHTNESS: &str = "brightness";

/// A change of one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingChange {
    /// Whether the LED of the device lights.
    Led(bool),
    /// [`OutletSettings::auto_off`].
    AutoOff(bool),
    /// [`OutletSettings::auto_off_delay`].
    AutoOffDelay(u32),
    /// [`OutletSettings::power_protection`].
    PowerProtection(bool),
    /// [`OutletSettings::power_protection_threshold`].
    PowerProtectionThreshold(u32),
    /// [`OutletSettings::power_on_behavior`].
    PowerOnBehavior(PowerOnBehavior),
    /// [`OutletSettings::brightness`].
    Brightness(u8),
}

impl SettingChange {
    /// Its name: the attribute of `set/<attribute>`, and the key in the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Led(_) => "led",
            Self::AutoOff(_) => "auto_off",
            Self::AutoOffDelay(_) => "auto_off_delay",
            Self::PowerProtection(_) => "power_protection",
            Self::PowerProtectionThreshold(_) => "power_protection_threshold",
            Self::PowerOnBehavior(_) => "power_on_behavior",
            Self::Brightness(_) => BRIGHTNESS,
        }
    }

    /// Whether it is one that works without the bridge, and so has to be managed by it if the user wants that.
    pub fn is_kept(self) -> bool {
        !matches!(self, Self::Brightness(_))
    }

    /// Whether it is one of the whole device, and not of an outlet.
    pub fn is_of_device(self) -> bool {
        matches!(self, Self::Led(_))
    }

    /// Whether these settings of an outlet, as they were read, have it.
    pub fn is_in(self, settings: &OutletSettings) -> bool {
        match self {
            Self::Led(_) => false,
            Self::AutoOff(enabled) => settings.auto_off == Some(enabled),
            Self::AutoOffDelay(minutes) => settings.auto_off_delay == Some(minutes),
            Self::PowerProtection(enabled) => settings.power_protection == Some(enabled),
            Self::PowerProtectionThreshold(watts) => settings.power_protection_threshold == Some(watts),
            Self::PowerOnBehavior(behavior) => settings.power_on_behavior == Some(behavior),
            Self::Brightness(percent) => settings.brightness == Some(percent),
        }
    }
}

/// As in the log: `led true`, `auto_off_delay 30`.
impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Led(on) | Self::AutoOff(on) | Self::PowerProtection(on) => write!(f, " {on}"),
            Self::AutoOffDelay(number) | Self::PowerProtectionThreshold(number) => write!(f, " {number}"),
            Self::PowerOnBehavior(behavior) => {
                let mut words = PowerOnBehavior::ALL.iter();
                let word = words.find(|(_, of)| of == behavior).map_or("", |(word, _)| word);
                write!(f, " {word}")
            }
            Self::Brightness(percent) => write!(f, " {percent} %"),
        }
    }
}

/// The newest firmware that a device knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestFirmware {
    /// Its version; that of the installed one if there is no newer one.
    pub version: String,
    /// What is new in it.
    pub note: Option<String>,
}
