//! The energy meters of a device: which outlet's turn it is, and what its firmware can be asked.
//!
//! Three requests tell about energy, and none of them everywhere. Live data (voltage, current, power, a counter)
//! comes with firmware from about 1.4. Usage (the day, the month, on plugs also power) needs the device's clock to
//! be set; without it the device answers -1601, and everything else works. The power alone is asked for only where
//! neither tells it (P316M 1.0.5).

use std::{collections::VecDeque, time::Duration};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde_json::Value;
use tokio::time::Instant;
use tracing::debug;

use super::{
    backoff::{LoginPurpose, jittered},
    client::fault::Fault,
    client::session::{DeviceRequest, MeterRequest, Session},
    exchange::ExchangeError,
    worker::Worker,
};
use crate::{
    devices::energy::Counters,
    domain::report::{DeviceClock, Energy, Feature, Metered},
};
use planner::{
    OutletPath,
    units::{MilliAmps, MilliVolts, MilliWattHours, MilliWatts, WattHours},
};

/// A device's clock that differs from ours by no more than this is in step: half of what its rules leave room for.
const IN_STEP: SignedDuration = SignedDuration::from_secs(30);
/// After a relay changed, until the meter shows it.
const SETTLE: Duration = Duration::from_secs(2);
/// A reading that is asked for comes no sooner after the last one than this part of the usual time between two.
const SOONEST_PART: u32 = 6;
/// Answers in a row that could not be read, or did not come, before a request is left alone until the next login.
const FAILURES_TO_GIVE_UP: u8 = 3;

/// What a device's firmware answers to one of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ability {
    /// Asked, with so many failures in a row.
    Asked(u8),
    /// The device does not know the request (-1002, -1008): never asked again.
    Unknown,
}

impl Ability {
    fn is_asked(self) -> bool {
        matches!(self, Self::Asked(failures) if failures < FAILURES_TO_GIVE_UP)
    }
}

/// Whose turn it is, and what can be asked.
#[derive(Debug)]
pub(super) struct Meters {
    live: Ability,
    usage: Ability,
    power: Ability,
    /// The place in the list of the outlet whose turn it is.
    turn: usize,
    /// Positions of outlets that go before the others: their relays changed, or somebody asked.
    urgent: VecDeque<u8>,
    /// When the next outlet is read.
    pub(super) due: Instant,
    last: Option<Instant>,
}

impl Meters {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            live: Ability::Asked(0),
            usage: Ability::Asked(0),
            power: Ability::Asked(0),
            turn: 0,
            urgent: VecDeque::new(),
            due: now,
            last: None,
        }
    }

    /// A login: what only failed earlier is worth another try.
    pub(super) fn renew(&mut self) {
        for ability in [&mut self.live, &mut self.usage, &mut self.power] {
            if *ability != Ability::Unknown {
                *ability = Ability::Asked(0);
            }
        }
    }

    /// Brings a reading forward: of this outlet, or of the one whose turn it is.
    fn hurry(&mut self, position: Option<u8>, at: Instant, usual: Duration) {
        if let Some(position) = position
            && !self.urgent.contains(&position)
        {
            self.urgent.push_back(position);
        }
        let soonest = self.last.map_or(at, |last| last + usual / SOONEST_PART);
        self.due = self.due.min(at.max(soonest));
    }

    /// Takes the outlet to be read now, of the positions that the device has.
    fn take_turn(&mut self, positions: &[u8], now: Instant, usual: Duration) -> Option<u8> {
        let urgent = self.urgent.pop_front();
        let next = if self.urgent.is_empty() {
            jittered(usual)
        } else {
            usual / SOONEST_PART
        };
        self.last = Some(now);
        self.due = now + next;
        if let Some(urgent) = urgent.filter(|urgent| positions.contains(urgent)) {
            return Some(urgent);
        }
        let place = self.turn.checked_rem(positions.len())?;
        self.turn = place + 1;
        positions.get(place).copied()
    }

    fn ability(&mut self, reading: MeterRequest) -> &mut Ability {
        match reading {
            MeterRequest::Live => &mut self.live,
            MeterRequest::Usage => &mut self.usage,
            MeterRequest::Power => &mut self.power,
        }
    }
}

/// What became of one request.
enum Told {
    /// The device answered.
    Values(Value),
    /// It has no such values, or not now.
    Nothing,
    /// Not known: what was known stands.
    Missed,
}

/// What one outlet's meter said.
struct MeterReading {
    live: Told,
    usage: Told,
    power: Told,
}

impl MeterReading {
    /// What is drawn, if this reading says so.
    fn power(&self) -> Option<MilliWatts> {
        number(&self.live, "power_mw")
            .or_else(|| number(&self.usage, "current_power"))
            .map(MilliWatts::new)
            .or_else(|| number(&self.power, "current_power").map(MilliWatts::from_watts))
    }

    /// Over what was known before. Without a total, which is added up elsewhere.
    fn over(&self, before: &Energy) -> Energy {
        let live = |key| number(&self.live, key);
        let usage = |key| number(&self.usage, key);
        let kept = |last_report: &Told| matches!(last_report, Told::Missed);
        let power = self.power();
        let day_or_month = |key, known| {
            let last_report = usage(key).map(|energy| WattHours::new(energy).into());
            last_report.or(if kept(&self.usage) { known } else { None })
        };
        let live_kept = kept(&self.live);
        Energy {
            power: power.or(if live_kept { before.power } else { None }),
            voltage: live("voltage_mv")
                .map(MilliVolts::new)
                .or(before.voltage.filter(|_| live_kept)),
            current: live("current_ma")
                .map(MilliAmps::new)
                .or(before.current.filter(|_| live_kept)),
            today: day_or_month("today_energy", before.today),
            month: day_or_month("month_energy", before.month),
            total: before.total,
        }
    }

    fn counters(&self) -> Counters {
        let month = number(&self.usage, "month_energy").map(WattHours::new);
        Counters {
            month: local_time(&self.usage).zip(month),
            since_restart: number(&self.live, "energy_mwh").map(MilliWattHours::new),
        }
    }
}

/// What the device's clock showed.
fn local_time(usage: &Told) -> Option<civil::DateTime> {
    value(usage, "local_time")?.as_str()?.parse().ok()
}

/// Compares a device's clock with ours. An hour that comes twice may be either.
fn in_step(shown: civil::DateTime, zone: &str, now: Timestamp) -> DeviceClock {
    let Ok(time_zone) = TimeZone::get(zone) else {
        return DeviceClock::Untold;
    };
    let instant = || time_zone.to_ambiguous_timestamp(shown);
    let near = |at: Timestamp| at.duration_since(now).abs() <= IN_STEP;
    if [instant().earlier(), instant().later()]
        .into_iter()
        .flatten()
        .any(near)
    {
        DeviceClock::InStep {
            zone: zone.to_owned(),
        }
    } else {
        DeviceClock::Wrong
    }
}

fn value<'a>(last_report: &'a Told, key: &str) -> Option<&'a Value> {
    match last_report {
        Told::Values(values) => values.get(key),
        Told::Nothing | Told::Missed => None,
    }
}

fn number(last_report: &Told, key: &str) -> Option<u64> {
    value(last_report, key).and_then(Value::as_u64)
}

impl Worker {
    /// Whether the device has meters that can be read.
    pub(super) fn has_meters(&self) -> bool {
        let identity = self.known.identity.as_ref();
        identity.is_some_and(|identity| identity.meters_energy)
    }

    /// An outlet was switched, by whomever: its meter is read once it has settled.
    pub(super) fn meter_soon(&mut self, position: u8) {
        let at = Instant::now() + SETTLE.min(self.tempo.slow_poll);
        self.meters.hurry(Some(position), at, self.tempo.slow_poll);
    }

    /// Somebody asked for an outlet, or for a whole strip, of which the next one's turn comes sooner.
    pub(super) fn meter_for(&mut self, path: &OutletPath) {
        let outlets = self.known.outlets.iter().map(|known| &known.outlet);
        let mut asked = outlets.filter(|outlet| outlet.key == path.outlet);
        let position = asked.next().map(|outlet| outlet.position);
        self.meters.hurry(position, Instant::now(), self.tempo.slow_poll);
    }

    /// What an earlier run knew of the meters: entities that need it must not go and come back.
    pub(super) fn recall_meters(&mut self) {
        if self.book.measures_voltage(&self.config.id) {
            self.announce_voltage();
        }
    }

    /// What one outlet of a device measures, all do.
    fn announce_voltage(&mut self) {
        for known in &mut self.known.outlets {
            known.outlet.features.insert(Feature::Voltage);
        }
    }

    /// Reads one outlet's meter. A command that comes in meanwhile goes first; the turn is taken again soon.
    pub(super) async fn read_meter(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        let (now, usual) = (Instant::now(), self.tempo.slow_poll);
        let outlets = self.known.outlets.iter();
        let positions: Vec<u8> = outlets.map(|known| known.outlet.position).collect();
        let Some(position) = self.meters.take_turn(&positions, now, usual) else {
            return Ok(());
        };
        let Some(known) = self.known.at(position) else {
            return Ok(());
        };
        let child = known.child.clone();
        let mut reading = MeterReading {
            live: self
                .ask_meter(session, MeterRequest::Live, child.as_deref())
                .await?,
            usage: Told::Missed,
            power: Told::Missed,
        };
        if !self.mailbox.queue.is_empty() {
            self.meters.hurry(Some(position), Instant::now(), usual);
            return Ok(());
        }
        reading.usage = self
            .ask_meter(session, MeterRequest::Usage, child.as_deref())
            .await?;
        let has_power =
            number(&reading.live, "power_mw").is_some() || number(&reading.usage, "current_power").is_some();
        if !has_power && self.mailbox.queue.is_empty() {
            reading.power = self
                .ask_meter(session, MeterRequest::Power, child.as_deref())
                .await?;
        }
        let metered = self.apply_meter_reading(position, &reading);
        self.apply_clock(&reading);
        self.send_report().await;
        if let Some(metered) = metered {
            self.send_metered(metered).await;
        }
        Ok(())
    }

    async fn ask_meter(
        &mut self,
        session: &mut Session,
        reading: MeterRequest,
        child: Option<&str>,
    ) -> Result<Told, ExchangeError> {
        if !self.meters.ability(reading).is_asked() {
            return Ok(Told::Nothing);
        }
        let answer = self
            .exchange(session, DeviceRequest::Meter(reading, child), LoginPurpose::Poll)
            .await;
        let ability = self.meters.ability(reading);
        match answer {
            Ok(values) => {
                *ability = Ability::Asked(0);
                Ok(Told::Values(values))
            }
            Err(ExchangeError::Fault(Fault::UnknownRequest(code))) => {
                *ability = Ability::Unknown;
                debug!(device = %self.config.id, request = ?reading, code, "meter request not supported by this model");
                if reading == MeterRequest::Live {
                    self.book.forget_voltage(&self.config.id);
                }
                Ok(Told::Nothing)
            }
            // -1601: its clock was never set. Others are as little reason to doubt the switch.
            Err(ExchangeError::Fault(Fault::Device { .. })) => Ok(Told::Nothing),
            // The tapo crate reads these answers with all their fields or not at all; some firmware lacks one.
            Err(ExchangeError::Fault(Fault::Unreadable(_))) => {
                if let Ability::Asked(failures) = ability {
                    *failures = failures.saturating_add(1);
                }
                Ok(if ability.is_asked() {
                    Told::Missed
                } else {
                    Told::Nothing
                })
            }
            Err(ExchangeError::Fault(Fault::NoAnswer)) => {
                if let Ability::Asked(failures) = ability {
                    *failures = failures.saturating_add(1);
                }
                Err(Fault::NoAnswer.into())
            }
            Err(on_exchange_error) => Err(on_exchange_error),
        }
    }

    /// Whether the device's clock shows what ours does, by the time in its reading.
    fn apply_clock(&mut self, reading: &MeterReading) {
        if matches!(reading.usage, Told::Missed) {
            return;
        }
        let zone = self.known.zone.as_deref();
        let clock = match (local_time(&reading.usage), zone, &self.known.rules.clock) {
            (Some(shown), Some(zone), _) => in_step(shown, zone, self.clock.now()),
            (Some(_), None, _) => DeviceClock::Untold,
            (None, ..) if !self.meters.usage.is_asked() => DeviceClock::Untold,
            // One refusal says little; if there is another, the clock was never set.
            (None, _, DeviceClock::InStep { .. }) => DeviceClock::Unread,
            (None, ..) => DeviceClock::Wrong,
        };
        if self.known.rules.clock != clock {
            self.known.rules.clock = clock;
            self.known.hold_rules();
        }
    }

    /// Adds up, and takes what is worth telling. Returns what was read, for those who need each reading.
    fn apply_meter_reading(&mut self, position: u8, reading: &MeterReading) -> Option<Metered> {
        let now = Instant::now();
        let identity = self.known.identity.clone();
        let device = identity
            .as_ref()
            .map_or("", |identity| identity.device_id.as_str());
        let known = self.known.at(position)?;
        let mut energy = reading.over(&known.outlet.energy);
        let counters = reading.counters();
        let mut metered = Metered {
            device: self.config.id.clone(),
            outlet: known.outlet.key.clone(),
            power: reading.power(),
            total: None,
        };
        if counters.month.is_some() || counters.since_restart.is_some() {
            let meter = known.child.as_deref().unwrap_or(device);
            let at = self.clock.now();
            metered.total = Some(self.book.read(&self.config.id, position, meter, counters, at));
            energy.total = metered.total;
        }
        let since = known
            .energy_told
            .map(|last_report| now.duration_since(last_report));
        if self.tempo.telling.is_news(&known.outlet.energy, &energy, since) {
            known.outlet.energy = energy;
            known.energy_told = Some(now);
        }
        if energy.voltage.is_some() || energy.current.is_some() {
            self.announce_voltage();
        }
        Some(metered)
    }
}

#[cfg(test)]
mod tests;
