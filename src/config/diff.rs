//! How reloaded settings differ from those in force. Pure.

use serde::Serialize;

use super::{Device, Log, Settings};

/// What a reload changed, each entry named as in the settings: `device.heater`, `group.mats`, `polling`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SettingsDiff {
    /// Devices, groups and sensors that are new.
    pub added: Vec<String>,
    /// Devices, groups, sensors and sections that are not as before.
    pub changed: Vec<String>,
    /// Devices, groups and sensors that are gone.
    pub removed: Vec<String>,
    /// Sections that are not as the bridge was started with, and that a running bridge does not take over.
    pub needs_restart: Vec<String>,
}

fn changed(section: &str, same: bool) -> Option<String> {
    (!same).then(|| section.to_owned())
}

impl SettingsDiff {
    /// Compares reloaded settings with those in force. Returns the settings to use from now on, and how they differ. The
    /// sections that need a restart stay as they are.
    pub fn compare(running: &Settings, read: Settings) -> (Settings, Self) {
        let mut difference = Self::default();
        for (section, same) in [
            ("mqtt", running.mqtt == read.mqtt),
            ("homeassistant", running.homeassistant == read.homeassistant),
            ("state", running.state_file == read.state_file),
            ("web", running.web == read.web),
            ("metrics", running.metrics == read.metrics),
            ("notify", running.notify == read.notify),
            ("weather", running.weather == read.weather),
            ("log.format", running.log.format == read.log.format),
        ] {
            difference.needs_restart.extend(changed(section, same));
        }
        let new = Settings {
            mqtt: running.mqtt.clone(),
            homeassistant: running.homeassistant.clone(),
            state_file: running.state_file.clone(),
            account_file: running.account_file.clone(),
            earlier_state_file: running.earlier_state_file.clone(),
            web: running.web.clone(),
            metrics: running.metrics.clone(),
            notify: running.notify.clone(),
            weather: running.weather.clone(),
            log: Log {
                format: running.log.format,
                ..read.log
            },
            ..read
        };
        for (section, same) in [
            ("polling", running.polling == new.polling),
            ("report", running.report == new.report),
            ("retry", running.retry == new.retry),
            ("discovery", running.discovery == new.discovery),
            ("log.level", running.log.level == new.log.level),
            ("location", running.rules.location == new.rules.location),
        ] {
            difference.changed.extend(changed(section, same));
        }
        let devices = |settings: &Settings| -> Vec<_> {
            let configured = settings.devices.iter().map(Device::confirmed);
            settings
                .device_set()
                .devices
                .into_iter()
                .zip(configured)
                .collect()
        };
        difference.list("device", &devices(running), &devices(&new), |(device, _)| {
            device.id.as_str()
        });
        let (before, now) = (&running.rules, &new.rules);
        difference.list("group", &before.groups, &now.groups, |group| group.id.as_str());
        difference.list("sensor", &before.sensors, &now.sensors, |sensor| {
            sensor.id.as_str()
        });
        (new, difference)
    }

    /// Sorts the items of a list in.
    fn list<T: PartialEq>(&mut self, kind: &str, before: &[T], now: &[T], id: impl Fn(&T) -> &str) {
        let find = |items: &[T], wanted: &T| items.iter().position(|item| id(item) == id(wanted));
        for item in now {
            let name = format!("{kind}.{}", id(item));
            match find(before, item).and_then(|at| before.get(at)) {
                None => self.added.push(name),
                Some(old) if old != item => self.changed.push(name),
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|item| find(now, item).is_none());
        self.removed
            .extend(gone.map(|item| format!("{kind}.{}", id(item))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn read(text: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bridge.toml");
        std::fs::write(&file, text).unwrap();
        let mut settings = load(&Sources {
            file: Some(file),
            environment: Vec::new(),
        })
        .unwrap();
        settings.state_file = None;
        // Each file is another one.
        settings.device_places.clear();
        settings
    }

    const BEFORE: &str = r#"
        [tapo]
        username = "me@home.org"
        password = "secret"
        [[device]]
        id = "heater"
        address = "192.168.1.5"
        [[device]]
        id = "lamp"
        address = "192.168.1.6"
        [[sensor]]
        id = "outdoor"
        topic = "weather/outdoor"
        [[group]]
        id = "warm"
        name = "Warm"
        outlets = ["heater"]
    "#;

    #[test]
    fn the_same_settings_change_nothing() {
        let before = read(BEFORE);
        let (new, difference) = SettingsDiff::compare(&before, read(BEFORE));
        assert_eq!(difference, SettingsDiff::default());
        assert_eq!(new, before);
    }

    #[test]
    fn each_change_is_named() {
        let now = r#"
            [tapo]
            username = "me@home.org"
            password = "secret"
            [log]
            level = "debug"
            format = "json"
            [polling]
            state = "9s"
            [[device]]
            id = "heater"
            address = "192.168.1.55"
            [[device]]
            id = "fan"
            address = "192.168.1.7"
            [[sensor]]
            id = "indoor"
            topic = "weather/indoor"
            [[group]]
            id = "warm"
            name = "Warmer"
            outlets = ["heater"]
        "#;
        let (_, difference) = SettingsDiff::compare(&read(BEFORE), read(now));
        assert_eq!(difference.added, ["device.fan", "sensor.indoor"]);
        assert_eq!(
            difference.changed,
            ["polling", "log.level", "device.heater", "group.warm"]
        );
        assert_eq!(difference.removed, ["device.lamp", "sensor.outdoor"]);
        assert_eq!(difference.needs_restart, ["log.format"]);
    }

    #[test]
    fn a_question_of_the_page_is_a_change_that_it_can_read() {
        let one = "address = \"192.168.1.6\"\nconfirm = true";
        let of_both = format!("{one}\n[[device.outlet]]\nposition = 2\nconfirm = true");
        let now = read(&BEFORE.replace("address = \"192.168.1.6\"", &of_both));
        let (new, difference) = SettingsDiff::compare(&read(BEFORE), now);
        assert_eq!(difference.changed, ["device.lamp"]);
        let lamp = &new.digest()["devices"][1];
        assert_eq!(
            (&lamp["confirm"], &lamp["outlets"][0]["confirm"]),
            (&true.into(), &true.into())
        );
    }

    #[test]
    fn a_password_changes_the_devices_that_use_it() {
        let before = BEFORE.replace(
            "id = \"lamp\"",
            "id = \"lamp\"\nusername = \"you@home.org\"\npassword = \"other\"",
        );
        let (_, difference) =
            SettingsDiff::compare(&read(&before), read(&before.replace("\"secret\"", "\"new\"")));
        assert_eq!(difference.changed, ["device.heater"]);
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_is_and_is_named_each_time() {
        let before = read(BEFORE);
        let moved = format!("[mqtt]\nbase_topic = \"attic\"\n{BEFORE}");
        let (running, difference) = SettingsDiff::compare(&before, read(&moved));
        assert_eq!(difference.needs_restart, ["mqtt"]);
        assert_eq!(running, before);
        let (_, again) = SettingsDiff::compare(&running, read(&moved));
        assert_eq!(again, difference);
    }
}
