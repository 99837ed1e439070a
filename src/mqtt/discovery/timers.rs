//! Timers of outlets, and what a plug switches by itself.

use std::collections::{BTreeMap, BTreeSet};

use ha_discovery::{
    Component, Key, Number, NumberClass, NumberRange, Options, Sensor, SensorClass, State, TimeUnit,
};

use super::Discovery;
use crate::{
    domain::report::Feature,
    mqtt::{
        command::COUNTDOWN_KEY,
        topics::{Address, Verb},
    },
};
use planner::OutletPath;

/// The longest countdown, in seconds.
const LONGEST: f64 = 86_400.0;

impl Discovery {
    /// The countdown that can be set, when it ends, and one that somebody set on the plug.
    pub(super) fn timers(&self, path: &OutletPath, features: &BTreeSet<Feature>) -> BTreeMap<Key, Component> {
        let state = |key| State::json_key(self.topics.state(path), key);
        let time = |name: &str, key| Sensor::of_class(SensorClass::Timestamp, state(key)).named(name);
        let set = self.topics.topic_of(&Address::Outlet {
            path: path.clone(),
            verb: Verb::SetAttribute(COUNTDOWN_KEY.to_owned()),
        });
        let mut components = BTreeMap::from([(
            Key::literal("timer_until"),
            time("Timer ends", "timer_until").icon("timer-sand").into(),
        )]);
        if let Some(range) = NumberRange::new(0.0, LONGEST, 1.0) {
            let countdown = Number::new("Countdown", range, state("countdown"), set)
                .class(NumberClass::Duration(TimeUnit::Seconds))
                .icon("timer-outline");
            components.insert(Key::literal("countdown"), countdown.into());
        }
        if features.contains(&Feature::Countdown) {
            let to = Sensor::options(
                "Device timer action",
                Options::of("ON", ["OFF"]),
                state("device_timer_to"),
            );
            components.extend([
                (
                    Key::literal("device_timer_until"),
                    time("Device timer end", "device_timer_until")
                        .diagnostic()
                        .off_by_default()
                        .into(),
                ),
                (
                    Key::literal("device_timer_to"),
                    to.diagnostic().off_by_default().into(),
                ),
            ]);
        }
        if features.contains(&Feature::Rules) {
            let rules = Sensor::count("Device schedules", state("device_schedules_enabled"))
                .icon("calendar-clock")
                .diagnostic();
            components.insert(Key::literal("device_schedules"), rules.into());
        }
        components
    }
}
