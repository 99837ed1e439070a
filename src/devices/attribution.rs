//! What changed a relay: a command of the bridge, the device's countdown, an OFF rule, or anything external. Pure.

use jiff::{SignedDuration, tz::TimeZone};
use planner::{Now, OutletKey, Power, Steady};

use super::state::{ChangeSign, DeviceState, OutletAddress, RelayChange};
use crate::domain::{
    off_rules::{OurRules, has_fired},
    report::{ChangedBy, DeviceClock},
};

/// A device that was busy may carry out a switch this long after it was sent.
const LATE: SignedDuration = SignedDuration::from_secs(30);
/// A device counts whole seconds and is read some time later.
const COUNTED_IN_SECONDS: SignedDuration = SignedDuration::from_secs(2);
/// The countdown counts whole seconds too, and may end this much early.
const COUNTDOWN_TOLERANCE: SignedDuration = SignedDuration::from_secs(3);

/// What the bridge did that explains a change of a relay.
#[derive(Debug, Default)]
pub(super) struct Attribution {
    /// Switches that were sent and that the device did not confirm yet. One that is carried out late is not external.
    sent: Vec<AttributedSwitch>,
    /// One for each outlet that has some.
    held: Vec<Delegated>,
}

/// What the bridge armed and wrote on one outlet, which that carries out by itself.
#[derive(Debug, Default)]
struct Delegated {
    /// Which outlet; `None` is a plug.
    outlet: Option<OutletKey>,
    /// When the countdown ends that the bridge armed.
    countdown_ends: Option<Steady>,
    /// The countdown was read as ended, and the relay was not read since.
    countdown_has_ended: bool,
    /// The OFF rules that the bridge wrote.
    off_rules: OurRules,
}

impl Delegated {
    fn countdown_ended(&self, now: Steady) -> bool {
        let ended = |ends: Steady| ends.since(now) <= COUNTDOWN_TOLERANCE;
        self.countdown_has_ended || self.countdown_ends.is_some_and(ended)
    }

    /// Whether an OFF rule of the bridge fired a moment ago, by the device's clock.
    fn off_rule_fired(&self, clock: &DeviceClock, now: Now) -> bool {
        let DeviceClock::InStep { zone } = clock else {
            return false;
        };
        TimeZone::get(zone).is_ok_and(|zone| has_fired(&self.off_rules, &zone, now.wall))
    }
}

/// Which outlets a reading is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum ReadScope<'a> {
    All,
    Only(&'a OutletAddress),
}

impl ReadScope<'_> {
    fn has(self, outlet: Option<&OutletKey>) -> bool {
        match self {
            Self::All => true,
            Self::Only(address) => address.key.as_ref() == outlet,
        }
    }
}

#[derive(Debug)]
struct AttributedSwitch {
    outlet: Option<OutletKey>,
    power: Power,
    at: Steady,
}

impl Attribution {
    /// A switch is sent. An earlier one of the same outlet may still be carried out before it.
    pub(super) fn on_sent(&mut self, outlet: Option<OutletKey>, power: Power, now: Steady) {
        self.forget_old(now);
        self.sent
            .retain(|sent| sent.outlet != outlet || sent.power != power);
        self.sent.push(AttributedSwitch {
            outlet,
            power,
            at: now,
        });
    }

    /// The device confirmed a state: no switch of this outlet is pending.
    pub(super) fn on_confirmed(&mut self, outlet: Option<&OutletKey>) {
        self.sent.retain(|sent| sent.outlet.as_ref() != outlet);
    }

    /// When the countdown of the bridge on an outlet ends; `None` if none runs.
    pub(super) fn set_countdown(&mut self, outlet: Option<OutletKey>, ends: Option<Steady>) {
        self.update(outlet, |held| held.countdown_ends = ends);
    }

    /// Another device: what was armed was armed on the one before.
    pub(super) fn forget_countdowns(&mut self) {
        for held in &mut self.held {
            held.countdown_ends = None;
        }
    }

    /// A reading shows that no countdown runs on an outlet. If it was about to end, it ended.
    pub(super) fn on_no_countdown(&mut self, outlet: Option<OutletKey>, now: Steady) {
        self.update(outlet, |held| {
            held.countdown_has_ended = held.countdown_ended(now);
            held.countdown_ends = None;
        });
    }

    /// The OFF rules on an outlet that the bridge wrote.
    pub(super) fn set_off_rules(&mut self, outlet: Option<OutletKey>, rules: &OurRules) {
        self.update(outlet, |held| {
            if held.off_rules != *rules {
                held.off_rules.clone_from(rules);
            }
        });
    }

    fn update(&mut self, outlet: Option<OutletKey>, change: impl FnOnce(&mut Delegated)) {
        if let Some(held) = self.held.iter_mut().find(|held| held.outlet == outlet) {
            return change(held);
        }
        let mut held = Delegated {
            outlet,
            ..Delegated::default()
        };
        change(&mut held);
        // Most devices have one outlet, and a vector would begin with room for four.
        self.held.reserve_exact(1);
        self.held.push(held);
    }

    /// Sets what made each change. Returns those that nothing of the bridge made.
    pub(super) fn attribute(
        &mut self,
        state: &mut DeviceState,
        changes: Vec<RelayChange>,
        read: ReadScope<'_>,
        now: Now,
    ) -> Vec<RelayChange> {
        let mut external = Vec::new();
        for change in changes {
            match change.sign {
                ChangeSign::CountRestarted(start) => self.conclude_off(state, &change, start, now),
                ChangeSign::Read | ChangeSign::Tripped | ChangeSign::AutoOff => {
                    let changed_by = self.changed_by(&change, &state.clock, now);
                    if let Some(known) = state.by_key(change.outlet.as_ref()) {
                        known.outlet.changed_by = changed_by;
                    }
                    if matches!(changed_by, ChangedBy::External | ChangedBy::AutoOff) {
                        external.push(change);
                    }
                }
            }
        }
        // An end that was read before this reading explains no later change.
        for held in &mut self.held {
            held.countdown_has_ended &= !read.has(held.outlet.as_ref());
        }
        external
    }

    fn changed_by(&mut self, change: &RelayChange, clock: &DeviceClock, now: Now) -> ChangedBy {
        let command = self.explains(change, now.steady);
        let held = self.held.iter().find(|held| held.outlet == change.outlet);
        if command {
            ChangedBy::Command
        } else if change.power == Power::On {
            ChangedBy::External
        } else if change.sign == ChangeSign::Tripped {
            ChangedBy::Protection
        } else if held.is_some_and(|held| held.countdown_ended(now.steady)) {
            ChangedBy::Countdown
        } else if held.is_some_and(|held| held.off_rule_fired(clock, now)) {
            ChangedBy::OffRule
        } else if change.sign == ChangeSign::AutoOff {
            ChangedBy::AutoOff
        } else {
            ChangedBy::External
        }
    }

    /// An outlet that was on starts a new run. If a command of the bridge closed the relay, it was open before: it was
    /// switched off after the reading before. Without a command the count of a device proves nothing.
    fn conclude_off(&self, state: &mut DeviceState, change: &RelayChange, start: Steady, now: Now) {
        let on = |sent: &&AttributedSwitch| sent.outlet == change.outlet && sent.power == Power::On;
        let sent_at = self.sent.iter().find(on).map(|sent| sent.at);
        if sent_at.is_none_or(|sent_at| start.since(sent_at) < -COUNTED_IN_SECONDS) {
            return;
        }
        if let Some(known) = state.by_key(change.outlet.as_ref()) {
            known.start_run(start, now);
            known.outlet.changed_by = ChangedBy::Command;
        }
    }

    /// Whether a switch that was sent made this change. If so, it is not pending any more.
    fn explains(&mut self, change: &RelayChange, now: Steady) -> bool {
        self.forget_old(now);
        let ours = |sent: &AttributedSwitch| sent.outlet == change.outlet && sent.power == change.power;
        let found = self.sent.iter().any(ours);
        self.sent.retain(|sent| !ours(sent));
        found
    }

    fn forget_old(&mut self, now: Steady) {
        self.sent.retain(|sent| now.since(sent.at) < LATE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{off_rules::WeeklyOff, report::Weekdays};

    /// 2026-11-21 was a Saturday.
    fn at(seconds: i64) -> Now {
        let start = Now {
            wall: "2026-11-21T10:00:00Z".parse().unwrap(),
            steady: Steady::at(jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000)),
        };
        start.moved_to(start.wall + SignedDuration::from_secs(seconds))
    }

    fn off(attribution: &mut Attribution, seconds: i64) -> ChangedBy {
        let change = RelayChange {
            outlet: None,
            power: Power::Off,
            sign: ChangeSign::Read,
        };
        let clock = DeviceClock::InStep {
            zone: "UTC".to_owned(),
        };
        attribution.changed_by(&change, &clock, at(seconds))
    }

    #[test]
    fn a_switch_explains_its_own_change_once_and_for_a_while() {
        let mut attribution = Attribution::default();
        let now = at(0).steady;
        let change = |outlet: &str, power| RelayChange {
            outlet: Some(outlet.parse().unwrap()),
            power,
            sign: ChangeSign::Read,
        };
        let key = || Some("1".parse().unwrap());
        attribution.on_sent(key(), Power::On, now);
        assert!(!attribution.explains(&change("1", Power::Off), now));
        assert!(!attribution.explains(&change("2", Power::On), now));
        assert!(attribution.explains(&change("1", Power::On), now));
        assert!(!attribution.explains(&change("1", Power::On), now));

        attribution.on_sent(key(), Power::On, now);
        assert!(!attribution.explains(&change("1", Power::On), now.after(LATE)));

        attribution.on_sent(key(), Power::On, now);
        attribution.on_confirmed(key().as_ref());
        assert!(!attribution.explains(&change("1", Power::On), now));
    }

    #[test]
    fn a_countdown_that_ended_explains_the_next_relay_reading() {
        let mut attribution = Attribution::default();
        attribution.set_countdown(None, Some(at(3600).steady));
        assert_eq!(off(&mut attribution, 3590), ChangedBy::External);
        assert_eq!(off(&mut attribution, 3599), ChangedBy::Countdown);
        attribution.on_no_countdown(None, at(3602).steady);
        assert_eq!(off(&mut attribution, 3700), ChangedBy::Countdown);
        attribution.attribute(&mut DeviceState::default(), Vec::new(), ReadScope::All, at(3701));
        assert_eq!(off(&mut attribution, 3702), ChangedBy::External);
    }

    #[test]
    fn a_trip_explains_an_off_but_a_command_comes_first() {
        let mut attribution = Attribution::default();
        let trip = RelayChange {
            outlet: None,
            power: Power::Off,
            sign: ChangeSign::Tripped,
        };
        let mut changed_by = || attribution.changed_by(&trip, &DeviceClock::Unread, at(0));
        assert_eq!(changed_by(), ChangedBy::Protection);
        attribution.on_sent(None, Power::Off, at(0).steady);
        let changed_by = attribution.changed_by(&trip, &DeviceClock::Unread, at(0));
        assert_eq!(changed_by, ChangedBy::Command);
    }

    #[test]
    fn what_the_bridge_did_explains_an_off_before_the_auto_off_does() {
        let mut attribution = Attribution::default();
        let auto_off = RelayChange {
            outlet: None,
            power: Power::Off,
            sign: ChangeSign::AutoOff,
        };
        let changed_by = attribution.changed_by(&auto_off, &DeviceClock::Unread, at(0));
        assert_eq!(changed_by, ChangedBy::AutoOff);
        attribution.set_countdown(None, Some(at(1).steady));
        let changed_by = attribution.changed_by(&auto_off, &DeviceClock::Unread, at(0));
        assert_eq!(changed_by, ChangedBy::Countdown);
    }

    #[test]
    fn an_off_rule_of_the_bridge_explains_an_off() {
        let mut attribution = Attribution::default();
        let rule = WeeklyOff {
            minute: 601,
            days: Weekdays::from_bits(0b100_0000),
        };
        attribution.set_off_rules(None, &[("S1".to_owned(), rule)].into());
        assert_eq!(off(&mut attribution, 70), ChangedBy::OffRule);
        assert_eq!(off(&mut attribution, 700), ChangedBy::External);
    }
}
