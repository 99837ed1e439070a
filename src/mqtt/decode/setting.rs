//! Payloads that change a setting which a device keeps.

use planner::OutletPath;

use super::{
    CommandPayload, Text, Validity,
    attribute::on_or_off,
    fields::{Fields, Scalar},
    payload_error::PayloadError,
};
use crate::domain::{
    command::{Action, Target},
    device_settings::{BRIGHTNESS, PowerOnBehavior, SettingChange},
};

/// A setting that `set/<attribute>` changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// What it takes, for errors.
    expected: &'static str,
    read: fn(&Scalar) -> Option<SettingChange>,
}

const BRIGHT: Setting = Setting {
    name: BRIGHTNESS,
    expected: "1 to 100 %",
    read: |value| percent(value).map(SettingChange::Brightness),
};

const SWITCH: &str = "ON, OFF, 1, 0, true or false";

static SETTINGS: [Setting; 7] = [
    BRIGHT,
    Setting {
        name: "led",
        expected: SWITCH,
        read: |value| on_or_off(value).map(SettingChange::Led),
    },
    Setting {
        name: "auto_off",
        expected: SWITCH,
        read: |value| on_or_off(value).map(SettingChange::AutoOff),
    },
    Setting {
        name: "auto_off_delay",
        expected: "1 to 1440 minutes",
        read: |value| whole(value, 1440).map(SettingChange::AutoOffDelay),
    },
    Setting {
        name: "power_protection",
        expected: SWITCH,
        read: |value| on_or_off(value).map(SettingChange::PowerProtection),
    },
    Setting {
        name: "power_protection_threshold",
        expected: "1 to 5000 W",
        read: |value| whole(value, 5000).map(SettingChange::PowerProtectionThreshold),
    },
    Setting {
        name: "power_on_behavior",
        expected: "off, on or previous",
        read: |value| behavior(value).map(SettingChange::PowerOnBehavior),
    },
];

impl Setting {
    /// The names of all settings.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        SETTINGS.iter().map(|setting| setting.name)
    }

    /// The setting of an attribute.
    pub(super) fn find(attribute: &str) -> Option<Self> {
        SETTINGS.iter().find(|setting| setting.name == attribute).copied()
    }

    /// Reads a value, alone or in an object under the name of the setting.
    pub(super) fn read(self, target: &Target, body: Text<'_>) -> Result<CommandPayload, PayloadError> {
        let (value, validity) = match body {
            Text::Plain(text) => (
                Scalar::Text(text.trim_matches('"').to_owned()),
                Validity::default(),
            ),
            Text::Object(mut fields) => {
                let value = fields.take(self.name);
                let validity = Validity::take(&mut fields)?;
                fields.finish()?;
                let value = value.ok_or(PayloadError::MissingKey {
                    key: self.name,
                    expected: self.expected,
                })?;
                (value, validity)
            }
        };
        let change = (self.read)(&value).ok_or_else(|| PayloadError::InvalidValue {
            key: self.name,
            expected: self.expected,
            shown: value.shown(),
        })?;
        check_target(target, change)?;
        Ok(CommandPayload::of(Action::ChangeSetting(change), validity))
    }
}

/// Takes the brightness out of a `set`.
pub(super) fn take_brightness(target: &Target, fields: &mut Fields) -> Result<Option<u8>, PayloadError> {
    let Some(value) = fields.take(BRIGHT.name) else {
        return Ok(None);
    };
    let percent = percent(&value).ok_or_else(|| PayloadError::InvalidValue {
        key: BRIGHT.name,
        expected: BRIGHT.expected,
        shown: value.shown(),
    })?;
    check_target(target, SettingChange::Brightness(percent))?;
    Ok(Some(percent))
}

fn percent(value: &Scalar) -> Option<u8> {
    u8::try_from(whole(value, 100)?).ok()
}

/// A group may have outlets of many models, and an outlet of a strip has no LED of its own.
fn check_target(target: &Target, change: SettingChange) -> Result<(), PayloadError> {
    let name = change.name();
    let message = match target {
        Target::Group(_) => format!("{name} is a setting of a device: send this to each of them"),
        Target::Outlet(OutletPath {
            device,
            outlet: Some(_),
        }) if change.is_of_device() => {
            format!("{name} is a setting of the whole device: send this to {device}/set/{name}")
        }
        Target::Outlet(_) => return Ok(()),
    };
    Err(PayloadError::Unsupported { message })
}

/// A whole number from 1.
fn whole(value: &Scalar, most: u32) -> Option<u32> {
    let number = match value {
        Scalar::Number(number) => number.as_f64()?,
        Scalar::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // Home Assistant sends 30.0 too.
    (1..=most).find(|whole| (f64::from(*whole) - number).abs() < f64::EPSILON)
}

fn behavior(value: &Scalar) -> Option<PowerOnBehavior> {
    let Scalar::Text(text) = value else {
        return None;
    };
    let word = text.trim().to_ascii_lowercase();
    let mut all = PowerOnBehavior::ALL.into_iter();
    all.find(|(name, _)| *name == word).map(|(_, behavior)| behavior)
}
