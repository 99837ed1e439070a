//! One member's load.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{EnergyEvent, EnergyRules, IfFinished, Member, MeterVisibility, Reading, Relay, Tally};
use crate::{
    OutletPath,
    period::{Period, after, elapsed},
    units::{MilliWattHours, MilliWatts},
};

/// What it drew when it was on is believed for so long after: another appliance may be plugged in.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// A load went quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadIdle {
    /// Its run is over.
    Finished(IfFinished),
    /// It is on standby, and has to go off.
    Standby,
}

/// What is known of one outlet's load.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Load {
    /// As it was looked at last.
    relay: Option<Relay>,
    /// Since when it is on without a reading.
    pub(super) unread_since: Option<Timestamp>,
    /// What it drew last while it was on, and when.
    draw: Option<(MilliWatts, Timestamp)>,
    tally: Option<Tally>,
    /// The tally as it is kept: not written anew for each watt hour.
    pub(super) checkpoint: Option<Tally>,
    /// Whether its load runs: it drew as much as that takes, and has not finished.
    pub(super) running: bool,
    /// Since when it draws less than a run does.
    quiet_since: Option<Timestamp>,
    /// Since when it draws as little as on standby.
    idle_since: Option<Timestamp>,
    sight: MeterSight,
    /// The sight that was told.
    told: MeterSight,
}

/// Whether what it draws is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum MeterSight {
    #[default]
    NotYet,
    Sees,
    Blind,
}

impl Load {
    /// Goes on with what was kept.
    pub(super) fn recall(tally: Option<Tally>, running: bool) -> Self {
        Self {
            tally,
            checkpoint: tally,
            running,
            ..Self::default()
        }
    }

    /// What it draws, or drew when it was last on; `None` if that is not known.
    pub(super) fn draw(&self, now: Timestamp) -> Option<MilliWatts> {
        let on = self.relay == Some(Relay::On);
        let fresh = |(_, at): &(MilliWatts, Timestamp)| on || elapsed(*at, now) <= REMEMBERED;
        self.draw.filter(fresh).map(|(power, _)| power)
    }

    /// What it drew when it was shed, after a restart.
    pub(super) fn remember(&mut self, draw: MilliWatts, at: Timestamp) {
        self.draw.get_or_insert((draw, at));
    }

    /// What it draws now, as far as anything is known of it.
    pub(super) fn shown(&self) -> Option<MilliWatts> {
        match self.relay? {
            Relay::On => self.draw.map(|(power, _)| power),
            Relay::Off | Relay::Coming => Some(MilliWatts::ZERO),
            Relay::Unknown => None,
        }
    }

    /// What goes on being used.
    pub(super) fn present(&self) -> MilliWatts {
        match (self.relay, self.draw) {
            (Some(Relay::On), Some((power, _))) => power,
            _ => MilliWatts::ZERO,
        }
    }

    pub(super) fn estimate(&self, now: Timestamp) -> MilliWattHours {
        let tally = self.tally.as_ref();
        tally.map_or(MilliWattHours::ZERO, |tally| tally.estimate(self.present(), now))
    }

    pub(super) fn measured(&self) -> MilliWattHours {
        self.tally.as_ref().map_or(MilliWattHours::ZERO, Tally::measured)
    }

    /// Takes how the outlet is.
    pub(super) fn observe(&mut self, member: Member, now: Timestamp, zone: &TimeZone) {
        let present = self.present();
        let tally = self.tally.get_or_insert_with(|| Tally::new(now, zone));
        tally.pass(present, now, zone);
        let before = self.relay.replace(member.relay);
        match (before, member.relay) {
            (Some(Relay::On), Relay::On) | (_, Relay::Unknown) => {}
            // Found on: its run may have begun before.
            (None | Some(Relay::Unknown), Relay::On) => self.unread_since = Some(now),
            (Some(Relay::Off | Relay::Coming), Relay::On) => {
                self.unread_since = Some(now);
                self.end_run();
            }
            (_, Relay::Off | Relay::Coming) => {
                self.unread_since = None;
                self.end_run();
            }
        }
        match member.reach {
            // What it did meanwhile is not known.
            MeterVisibility::Away => self.lose_quiet(),
            MeterVisibility::Unmetered => self.sight = MeterSight::Blind,
            MeterVisibility::Metered => {}
        }
    }

    fn end_run(&mut self) {
        self.running = false;
        self.lose_quiet();
    }

    fn lose_quiet(&mut self) {
        self.quiet_since = None;
        self.idle_since = None;
    }

    /// Takes what the meter said.
    pub(super) fn read(
        &mut self,
        rules: &EnergyRules,
        reading: Reading,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Vec<LoadIdle> {
        let present = self.present();
        let tally = self.tally.get_or_insert_with(|| Tally::new(now, zone));
        tally.pass(present, now, zone);
        if let Some(total) = reading.total {
            tally.read(total, now);
        }
        self.checkpoint(rules);
        let Some(power) = reading.power else {
            self.sight = MeterSight::Blind;
            self.lose_quiet();
            return Vec::new();
        };
        self.sight = MeterSight::Sees;
        if self.relay != Some(Relay::On) {
            return Vec::new();
        }
        self.draw = Some((power, now));
        self.unread_since = None;
        let finished = self.finish(rules, power, now);
        let standby = self.idle(rules, power, now);
        finished.into_iter().chain(standby).collect()
    }

    fn checkpoint(&mut self, rules: &EnergyRules) {
        /// Without a budget: what people would not miss.
        const STEP: MilliWattHours = MilliWattHours::new(10_000);
        let step = rules.daily_budget.map_or(STEP, |budget| budget.percent(1));
        if let Some(tally) = &self.tally
            && self.checkpoint.is_none_or(|kept| tally.outgrew(&kept, step))
        {
            self.checkpoint = Some(tally.kept());
        }
    }

    fn finish(&mut self, rules: &EnergyRules, power: MilliWatts, now: Timestamp) -> Option<LoadIdle> {
        let Some(rule) = rules.finished else {
            self.running = false;
            return None;
        };
        if power >= rule.below {
            self.running = true;
            self.quiet_since = None;
        } else if self.running && lasted(&mut self.quiet_since, rule.length, now) {
            self.running = false;
            self.quiet_since = None;
            return Some(LoadIdle::Finished(rule.then));
        }
        None
    }

    fn idle(&mut self, rules: &EnergyRules, power: MilliWatts, now: Timestamp) -> Option<LoadIdle> {
        let rule = rules.standby?;
        if power >= rule.below {
            self.idle_since = None;
        } else if lasted(&mut self.idle_since, rule.length, now) {
            self.idle_since = None;
            return Some(LoadIdle::Standby);
        }
        None
    }

    /// Whether it came to be known or unknown what it draws, since that was told. To be known from the start is no
    /// news.
    pub(super) fn sight(&mut self, outlet: &OutletPath) -> Option<EnergyEvent> {
        let told = std::mem::replace(&mut self.told, self.sight);
        match (told, self.sight) {
            (MeterSight::NotYet | MeterSight::Sees, MeterSight::Blind) => {
                Some(EnergyEvent::Blind(outlet.clone()))
            }
            (MeterSight::Blind, MeterSight::Sees) => Some(EnergyEvent::Sees(outlet.clone())),
            _ => None,
        }
    }

    pub(super) fn shift(&mut self, by: SignedDuration) {
        let shift = |at: &mut Timestamp| *at = after(*at, by);
        self.unread_since.iter_mut().for_each(shift);
        self.quiet_since.iter_mut().for_each(shift);
        self.idle_since.iter_mut().for_each(shift);
        if let Some((_, at)) = &mut self.draw {
            shift(at);
        }
        if let Some(tally) = &mut self.tally {
            tally.shift(by);
        }
    }
}

/// Whether it has been so for long enough; the first time it is, counting begins.
fn lasted(since: &mut Option<Timestamp>, length: Period, now: Timestamp) -> bool {
    elapsed(*since.get_or_insert(now), now) >= length.length()
}
