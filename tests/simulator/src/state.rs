//! Everything about a device that requests, buttons and time change.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    counters::{Cause, RelayChange},
    hub::HubChild,
    identity::Identity,
    outlet::{Moment, Outlet},
    profile::Spec,
};

#[derive(Debug)]
pub(crate) struct State {
    /// In the order of their positions.
    pub(crate) outlets: Vec<Outlet>,
    /// The children of a hub.
    pub(crate) children: Vec<HubChild>,
    pub(crate) nickname: String,
    /// The version that the device could install, and its release note.
    pub(crate) newer_firmware: Option<(String, String)>,
    /// Answers of `get_` methods that `set_` methods change, without effect on anything else.
    pub(crate) settings: Map<String, Value>,
    pub(crate) relay_changes: Vec<RelayChange>,
}

impl State {
    pub(crate) fn new(
        spec: &Spec,
        identity: &Identity,
        nickname: String,
        outlet_nicknames: &[String],
        now: Timestamp,
    ) -> Self {
        let outlets = (1..).zip(spec.loads).map(|(position, watts)| {
            let child_id = identity.child_id(spec, position);
            let name = outlet_nicknames
                .get(usize::from(position - 1))
                .cloned()
                .unwrap_or_else(|| format!("Outlet {position}"));
            // A plug and its outlet are one.
            let name = if spec.is_strip() { name } else { nickname.clone() };
            let limits = (spec.max_watts, spec.max_schedule_rules);
            let mut outlet = Outlet::new(position, child_id, name, *watts, limits, now);
            if spec.iot.is_some() {
                outlet.rules.number_countdowns_from(u32::from(position) * 1000);
            }
            outlet
        });
        let outlets = outlets.collect();
        Self {
            outlets,
            children: Vec::new(),
            nickname,
            newer_firmware: None,
            settings: initial_settings(),
            relay_changes: Vec::new(),
        }
    }

    /// The outlet at a position, counted from 1.
    pub(crate) fn outlet(&mut self, position: u8) -> Option<&mut Outlet> {
        self.outlets.get_mut(usize::from(position.checked_sub(1)?))
    }

    /// Fires every rule that is due by now, in order of time, and books energy up to now.
    pub(crate) fn settle(&mut self, now: Moment, clock_set: bool) {
        for outlet in &mut self.outlets {
            if !clock_set {
                outlet.rules.skip_schedules(now.device);
            }
            while let Some((at, on, cause)) = next_firing(outlet, now.device) {
                let at = Moment { device: at, ..now };
                self.relay_changes.extend(outlet.switch(on, cause, at));
            }
            outlet.book(now.device);
        }
    }

    /// When the next rule of any outlet is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let due = |outlet: &Outlet| [outlet.rules.next_due(), outlet.auto_off_due()];
        self.outlets.iter().flat_map(due).flatten().min()
    }

    /// Switches the relay of an outlet; false if there is no such outlet.
    pub(crate) fn switch(&mut self, position: u8, on: bool, cause: Cause, now: Moment) -> bool {
        let Some(outlet) = self.outlet(position) else {
            return false;
        };
        let changes = outlet.switch(on, cause, now);
        self.relay_changes.extend(changes);
        true
    }

    /// Restarts the device.
    pub(crate) fn restart(&mut self, now: Timestamp) {
        for outlet in &mut self.outlets {
            outlet.restart(now);
        }
    }

    /// The power comes back: each relay is what its default state says.
    pub(crate) fn regain_power(&mut self, now: Moment) {
        for outlet in &mut self.outlets {
            let on = outlet.default_state.after_power_loss(outlet.is_on());
            self.relay_changes
                .extend(outlet.switch(on, Cause::PowerLoss, now));
            outlet.restart(now.device);
        }
    }
}

/// The earliest of a rule and the auto-off setting, if it is due.
fn next_firing(outlet: &mut Outlet, now: Timestamp) -> Option<(Timestamp, bool, Cause)> {
    let auto_off = outlet.auto_off_due().filter(|due| *due <= now);
    let rule = outlet.rules.next_due().filter(|due| *due <= now);
    match (auto_off, rule) {
        (Some(auto_off), rule) if rule.is_none_or(|rule| auto_off <= rule) => {
            Some((auto_off, false, Cause::AutoOff))
        }
        _ => {
            let firing = outlet.rules.fire(now)?;
            Some((firing.at, firing.on, firing.cause))
        }
    }
}

fn initial_settings() -> Map<String, Value> {
    let night_mode = json!({
        "end_time": 420,
        "night_mode_type": "sunrise_sunset",
        "start_time": 1140,
        "sunrise_offset": 0,
        "sunset_offset": 0,
    });
    let settings = json!({
        "led_info": { "led_rule": "always", "led_status": true, "night_mode": night_mode },
        "auto_update_info": { "enable": false, "random_range": 120, "time": 180 },
    });
    settings.as_object().cloned().unwrap_or_default()
}
