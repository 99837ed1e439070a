//! Keeps the OFF edges of groups on the plugs themselves, where the settings say so.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use tokio::time::Instant;
use tracing::debug;

use super::{Look, Scheduler, Wake};
use crate::{
    domain::{
        devices::DeviceMsg,
        off_rules::{Mirror, WeeklyOff},
        report::{Availability, DeviceClock, DeviceRules, EventKind},
    },
    scheduler::mirror::{Held, Week, has_fired, week},
};
use planner::{
    OutletPath,
    overrides::{Override, OverrideState},
    rules::{Group, Rules, SyncOffToDevice},
};

/// Between two orders for the same: a worker does it between its polls.
const AGAIN: Duration = Duration::from_mins(1);

/// What is wanted on one plug, and what was asked for last.
#[derive(Debug, Clone)]
pub(super) struct Mirroring {
    rules: Arc<Rules>,
    overridden: Option<Override>,
    clock: DeviceClock,
    /// When it is worked out anew whatever happens.
    until: Option<Timestamp>,
    wanted: BTreeSet<WeeklyOff>,
    asked: Option<(BTreeSet<WeeklyOff>, Instant)>,
    /// The trouble that was told.
    told: Option<String>,
}

impl Scheduler {
    /// Asks for the rules that shall be on each plug, where they are not.
    pub(super) fn tend_mirrors(&mut self, look: Look, wake: &mut Wake) {
        let rules = self.book.rules.clone();
        let members = rules
            .groups
            .iter()
            .filter(|group| group.sync_off_to_device == SyncOffToDevice::Yes && group.is_scheduled());
        let mut paths: BTreeSet<OutletPath> = members.flat_map(|group| group.outlets.clone()).collect();
        paths.retain(|path| path.outlet.is_none());
        // Where nothing is mirrored any more, what is there of ours goes.
        paths.extend(self.book.mirrored.keys().cloned());
        self.desk.mirrors.retain(|path, _| paths.contains(path));
        for path in paths {
            let Some(live) = self.live.get(&path) else {
                continue;
            };
            let reachable = live.availability == Availability::Online && live.rules.list.is_some();
            let clock_matters = self.mirrored_group(&path).is_some();
            if !reachable || (clock_matters && live.rules.clock == DeviceClock::Unread) {
                continue;
            }
            self.think_over(&path, look);
            self.ask_for_rules(&path, look, wake);
            self.tell_mirror_trouble(&path, look);
        }
    }

    /// Works out what is wanted, if anything changed that it depends on.
    fn think_over(&mut self, path: &OutletPath, look: Look) {
        let overridden = self.book.overrides.get(path).copied();
        let clock = self.live.get(path).map(|live| live.rules.clock.clone());
        let clock = clock.unwrap_or_default();
        let rules = self.book.rules.clone();
        if let Some(known) = self.desk.mirrors.get(path) {
            let same = Arc::ptr_eq(&known.rules, &rules)
                && known.overridden == overridden
                && known.clock == clock
                && known.until.is_none_or(|until| look.now < until);
            if same {
                return;
            }
        }
        let zone = zone_of(&clock);
        let coming = match (self.mirrored_group(path), &zone) {
            (Some(group), Some(zone)) => {
                let held = self.held(overridden, group);
                week(group, &rules.location, zone, held, look.now)
            }
            // By a clock that is wrong a rule would fire at any time.
            _ => Week::default(),
        };
        let before = self.desk.mirrors.remove(path);
        let (asked, told) = before.map_or((None, None), |before| (before.asked, before.told));
        let new = Mirroring {
            rules,
            overridden,
            clock,
            until: coming.until,
            wanted: coming.rules,
            asked,
            told,
        };
        self.desk.mirrors.insert(path.clone(), new);
    }

    /// The group of an outlet, if its plugs hold its edges.
    fn mirrored_group(&self, path: &OutletPath) -> Option<&Group> {
        self.book
            .scheduled(path)
            .filter(|group| group.sync_off_to_device == SyncOffToDevice::Yes)
    }

    /// A rule must not switch off what somebody wants on, or wants to be left alone.
    fn held(&self, overridden: Option<Override>, group: &Group) -> Held {
        match overridden.filter(|found| found.stance() != OverrideState::Off) {
            None => Held::Not,
            Some(found) => match found.end(group, &self.book.rules.location) {
                Some(end) => Held::Until(end),
                None => Held::Always,
            },
        }
    }

    fn ask_for_rules(&mut self, path: &OutletPath, look: Look, wake: &mut Wake) {
        let (Some(live), Some(known)) = (self.live.get(path), self.desk.mirrors.get_mut(path)) else {
            return;
        };
        if let Some(until) = known.until.filter(|until| *until > look.now) {
            wake.by(look.instant_of(until));
        }
        let ours = self.book.mirrored.get(path).cloned().unwrap_or_default();
        let answered = live.rules.mirrored.as_deref();
        let answered = answered.and_then(|answer| answer.wanted.as_ref());
        let nothing_to_do = answered.is_none() && known.wanted.is_empty() && ours.is_empty();
        if answered == Some(&known.wanted) || nothing_to_do {
            return;
        }
        if let Some((asked, at)) = &known.asked
            && *asked == known.wanted
            && look.instant < *at + AGAIN
        {
            wake.by(*at + AGAIN);
            return;
        }
        known.asked = Some((known.wanted.clone(), look.instant));
        wake.by(look.instant + AGAIN);
        debug!(outlet = %path, rules = known.wanted.len(), "OFF edges for the plug");
        let mirror = Mirror {
            wanted: known.wanted.clone(),
            ours,
        };
        // What does not fit now is asked again.
        let _full = self
            .orders
            .try_send(DeviceMsg::Mirror(path.device.clone(), Arc::new(mirror)));
    }

    /// Says once why the plug does not hold what it should.
    fn tell_mirror_trouble(&mut self, path: &OutletPath, look: Look) {
        let wanted = self.mirrored_group(path).is_some();
        let (Some(live), Some(known)) = (self.live.get(path), self.desk.mirrors.get_mut(path)) else {
            return;
        };
        let trouble = if wanted { trouble(&live.rules) } else { None };
        if known.told == trouble {
            return;
        }
        known.told.clone_from(&trouble);
        let Some(trouble) = trouble else { return };
        let message = format!("{path} does not hold its OFF edges: {trouble}");
        let group = self.book.rules.group_of(path).map(|group| group.id.clone());
        self.tell_event(EventKind::DeviceScheduleFailed, Some(path), group, message, look);
    }

    /// Takes what is on a plug of ours, for the state file and for everybody to see.
    pub(super) fn hear_rules(&mut self, path: &OutletPath, rules: &DeviceRules) {
        if let Some(live) = self.live.get_mut(path) {
            live.rules.clone_from(rules);
        }
        let Some(mirrored) = &rules.mirrored else { return };
        if mirrored.ours.is_empty() {
            self.book.mirrored.remove(path);
        } else {
            self.book.mirrored.insert(path.clone(), mirrored.ours.clone());
        }
    }

    /// Whether a plug may have gone off by a rule of ours. That is not somebody's wish.
    pub(super) fn went_off_by_rule(&self, path: &OutletPath, look: Look) -> bool {
        let zone = self.live.get(path).and_then(|live| zone_of(&live.rules.clock));
        let ours = self.book.mirrored.get(path);
        zone.zip(ours)
            .is_some_and(|(zone, ours)| has_fired(ours, &zone, look.now))
    }
}

fn zone_of(clock: &DeviceClock) -> Option<TimeZone> {
    match clock {
        DeviceClock::InStep { zone } => TimeZone::get(zone).ok(),
        DeviceClock::Unread | DeviceClock::Untold | DeviceClock::Wrong => None,
    }
}

fn trouble(rules: &DeviceRules) -> Option<String> {
    match &rules.clock {
        DeviceClock::Untold => Some("its clock cannot be read".to_owned()),
        DeviceClock::Wrong => Some("its clock is not in step with the bridge's".to_owned()),
        DeviceClock::Unread | DeviceClock::InStep { .. } => rules.mirrored.as_ref()?.trouble.clone(),
    }
}
