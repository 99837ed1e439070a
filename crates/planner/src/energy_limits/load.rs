//! One member's load.

use jiff::{SignedDuration, tz::TimeZone};

use super::{EnergyEvent, EnergyRules, IfFinished, Member, MeterVisibility, Reading, Relay, Tally};
use crate::{
    Now, OutletPath, Steady,
    period::Period,
    units::{MilliWattHours, MilliWatts},
};

/// What it drew when it was on is believed for so long after: another appliance may be plugged in.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// A smaller growth of a tally is stored after this time.
const BETWEEN_CHECKPOINTS: SignedDuration = SignedDuration::from_mins(5);

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
    pub(super) unread_since: Option<Steady>,
    /// What it drew last while it was on, and when.
    draw: Option<(MilliWatts, Steady)>,
    tally: Option<Tally>,
    /// The tally as it is persisted: not written again for each watt hour.
    pub(super) checkpoint: Option<Tally>,
    /// When that was persisted; `None` in an earlier run.
    checkpoint_at: Option<Steady>,
    /// Whether its load runs: it drew as much as that takes, and has not finished.
    pub(super) running: bool,
    /// Since when it draws less than a run does.
    quiet_since: Option<Steady>,
    /// Since when it draws as little as on standby.
    idle_since: Option<Steady>,
    sight: MeterSight,
    /// The sight that was reported.
    reported: MeterSight,
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
    pub(super) fn draw(&self, now: Now) -> Option<MilliWatts> {
        let on = self.relay == Some(Relay::On);
        let fresh = |(_, at): &(MilliWatts, Steady)| on || now.steady.elapsed_since(*at) <= REMEMBERED;
        self.draw.filter(fresh).map(|(power, _)| power)
    }

    /// What it drew when it was shed, after a restart.
    pub(super) fn remember(&mut self, draw: MilliWatts, at: Steady) {
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

    pub(super) fn estimate(&self, now: Now) -> MilliWattHours {
        let tally = self.tally.as_ref();
        tally.map_or(MilliWattHours::ZERO, |tally| tally.estimate(self.present(), now))
    }

    /// Used today, as far as a meter measured it and it is persisted, so that it falls after no crash; `None` before
    /// anything is known of it.
    pub(super) fn measured(&self) -> Option<MilliWattHours> {
        match self.checkpoint {
            Some(kept) => Some(kept.measured()),
            None => (self.sight != MeterSight::NotYet).then_some(MilliWattHours::ZERO),
        }
    }

    /// Takes how the outlet is.
    pub(super) fn observe(&mut self, rules: &EnergyRules, member: Member, now: Now, zone: &TimeZone) {
        let present = self.present();
        let tally = self.tally.get_or_insert_with(|| Tally::new(now, zone));
        tally.pass(present, now, zone);
        // The first one is that of the first reading.
        if self.checkpoint.is_some() {
            self.checkpoint(rules, now);
        }
        let before = self.relay.replace(member.relay);
        match (before, member.relay) {
            (Some(Relay::On), Relay::On) | (_, Relay::Unknown) => {}
            // Found on: its run may have begun before.
            (None | Some(Relay::Unknown), Relay::On) => self.unread_since = Some(now.steady),
            (Some(Relay::Off | Relay::Coming), Relay::On) => {
                self.unread_since = Some(now.steady);
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

    /// Takes a reading of the meter.
    pub(super) fn read(
        &mut self,
        rules: &EnergyRules,
        reading: Reading,
        now: Now,
        zone: &TimeZone,
    ) -> Vec<LoadIdle> {
        let present = self.present();
        let tally = self.tally.get_or_insert_with(|| Tally::new(now, zone));
        tally.pass(present, now, zone);
        if let Some(total) = reading.total {
            tally.read(total, now);
        }
        self.checkpoint(rules, now);
        let Some(power) = reading.power else {
            self.sight = MeterSight::Blind;
            self.lose_quiet();
            return Vec::new();
        };
        self.sight = MeterSight::Sees;
        if self.relay != Some(Relay::On) {
            return Vec::new();
        }
        self.draw = Some((power, now.steady));
        self.unread_since = None;
        let finished = self.finish(rules, power, now);
        let standby = self.idle(rules, power, now);
        finished.into_iter().chain(standby).collect()
    }

    /// What is shown is what is persisted: so it grows in the steps in which it is shown, and each reading is not
    /// written.
    fn checkpoint(&mut self, rules: &EnergyRules, now: Now) {
        const STEP: MilliWattHours = MilliWattHours::new(10_000);
        let step = rules
            .daily_budget
            .map_or(STEP, |budget| budget.percent(1).min(STEP));
        let is_old = |at: Steady| now.steady.elapsed_since(at) >= BETWEEN_CHECKPOINTS;
        let step = if self.checkpoint_at.is_none_or(is_old) {
            MilliWattHours::new(1)
        } else {
            step
        };
        if let Some(tally) = &self.tally
            && self.checkpoint.is_none_or(|kept| tally.outgrew(&kept, step))
        {
            self.checkpoint = Some(tally.kept());
            self.checkpoint_at = Some(now.steady);
        }
    }

    fn finish(&mut self, rules: &EnergyRules, power: MilliWatts, now: Now) -> Option<LoadIdle> {
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

    fn idle(&mut self, rules: &EnergyRules, power: MilliWatts, now: Now) -> Option<LoadIdle> {
        let rule = rules.standby?;
        if power >= rule.below {
            self.idle_since = None;
        } else if lasted(&mut self.idle_since, rule.length, now) {
            self.idle_since = None;
            return Some(LoadIdle::Standby);
        }
        None
    }

    /// Whether it became known or unknown what it draws, since that was reported. Known from the start is not
    /// reported.
    pub(super) fn sight(&mut self, outlet: &OutletPath) -> Option<EnergyEvent> {
        let reported = std::mem::replace(&mut self.reported, self.sight);
        match (reported, self.sight) {
            (MeterSight::NotYet | MeterSight::Sees, MeterSight::Blind) => {
                Some(EnergyEvent::Blind(outlet.clone()))
            }
            (MeterSight::Blind, MeterSight::Sees) => Some(EnergyEvent::Sees(outlet.clone())),
            _ => None,
        }
    }
}

/// Whether it has been so for long enough; the first time it is, counting begins.
fn lasted(since: &mut Option<Steady>, length: Period, now: Now) -> bool {
    now.steady.elapsed_since(*since.get_or_insert(now.steady)) >= length.length()
}
