//! Reads the energy meters of a device: one outlet at a time, with the requests that its firmware knows.
//!
//! Four requests return energy values, and no model knows all of them. Live data (voltage, current, power, a counter)
//! comes with firmware from about 1.4. Usage (the day, the month, on plugs also power) needs the device's clock to
//! be set; without it the device answers -1601, and everything else works. The power alone is requested only where
//! neither returns it (P316M 1.0.5), and the energy of the day where the usage cannot be read.

mod ability;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, warn};

use self::ability::Ability;
use super::{
    backoff::jittered,
    client::{
        connection::ExchangeError,
        fault::Fault,
        login_budget::LoginPurpose,
        session::{DeviceRequest, MeterRequest},
    },
    context::Context,
};
use crate::{
    devices::energy::{Counters, EnergyTotals},
    domain::{
        devices::DeviceEvent,
        report::{DeviceClock, Energy, Feature, Metered},
    },
};
use planner::{
    OutletPath, Power,
    units::{MilliAmps, MilliVolts, MilliWattHours, NetMilliWatts, WattHours},
};

/// A clock of a device that differs by no more than this is in step: half of the delay of its OFF rules.
pub(super) const IN_STEP: SignedDuration = SignedDuration::from_secs(30);
/// After a relay changed, until the meter shows it.
const SETTLE: Duration = Duration::from_secs(2);
/// Between the first readings of the outlets of a strip.
const FIRST_READINGS: Duration = Duration::from_secs(2);
/// A requested reading comes no sooner after the last one than this part of the usual interval.
const SOONEST_PART: u32 = 6;
/// And after this at the latest, where that is long.
const SOONEST_MAX: Duration = Duration::from_secs(5);
/// The energy of the day, in Wh.
const TODAY: &str = "today_energy";

/// The meters of a device: which outlet is read next, and which requests it knows.
#[derive(Debug)]
pub(super) struct Meters {
    live: Ability,
    usage: Ability,
    power: Ability,
    day: Ability,
    /// The index of the outlet that is read next.
    turn: usize,
    /// Positions of outlets that go before the others: their relays changed, or a read was requested.
    urgent: VecDeque<u8>,
    /// Positions of outlets that had a turn since the start.
    seen: BTreeSet<u8>,
    /// Whether it is known what the meters measure.
    known: bool,
    /// When the next outlet is read.
    due: Instant,
    last: Option<Instant>,
    /// The relays as they were last seen, by position.
    powers: BTreeMap<u8, Option<Power>>,
    totals: EnergyTotals,
}

impl Meters {
    pub(super) fn new(totals: EnergyTotals, now: Instant) -> Self {
        Self {
            live: Ability::Asked(0),
            usage: Ability::Asked(0),
            power: Ability::Asked(0),
            day: Ability::Asked(0),
            turn: 0,
            urgent: VecDeque::new(),
            powers: BTreeMap::new(),
            seen: BTreeSet::new(),
            known: false,
            due: now,
            last: None,
            totals,
        }
    }

    /// Another device: nothing is known of its meters.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.totals.clone(), Instant::now());
    }

    /// A login: requests that only failed are tried again. Features and totals of an earlier run are kept: their entities
    /// must not disappear and return, or be unknown until the turn of their outlet.
    pub(super) fn on_connected(&mut self, context: &mut Context) {
        self.abilities().into_iter().for_each(Ability::on_login);
        self.recall_totals(context);
        if self.totals.measures_voltage(&context.config.id) {
            context.state.add_feature(Feature::Voltage);
        }
        if !context.state.meters_energy() && !context.connection.is_own() {
            context.state.set_clock(DeviceClock::Unreported);
        }
    }

    fn recall_totals(&self, context: &mut Context) {
        if !context.state.meters_energy() {
            return;
        }
        let identity = context.state.identity.clone();
        let device = identity.as_ref().map(|identity| identity.device_id.as_str());
        for known in &mut context.state.outlets {
            let Some(meter) = known.child.as_deref().or(device) else {
                continue;
            };
            let energy = &mut known.outlet.energy;
            if energy.total.is_none() {
                energy.total = self.totals.of(&context.config.id, known.outlet.position, meter);
            }
        }
    }

    /// Whether it is known which values the meters of the device have; also if it has none.
    pub(super) fn are_known(&self, context: &Context) -> bool {
        self.known || !context.state.meters_energy()
    }

    fn abilities(&mut self) -> [&mut Ability; 4] {
        [&mut self.live, &mut self.usage, &mut self.power, &mut self.day]
    }

    /// When the next outlet is read; `None` for a device without meters.
    pub(super) fn due(&self, context: &Context) -> Option<Instant> {
        context.state.meters_energy().then_some(self.due)
    }

    /// The meter of an outlet whose relay changed is read once it has settled.
    pub(super) fn follow_relays(&mut self, context: &Context) {
        let usual = context.polling.slow_poll;
        for known in &context.state.outlets {
            let (position, power) = (known.outlet.position, known.outlet.power);
            let before = self.powers.insert(position, power);
            if before.is_some_and(|before| before != power) {
                let at = Instant::now() + SETTLE.min(usual);
                self.hurry(Some(position), at, usual);
            }
        }
    }

    /// A read was requested: of an outlet, or of a whole strip, whose next outlet is read sooner.
    pub(super) fn on_read_requested(&mut self, context: &Context, path: &OutletPath) {
        let outlets = context.state.outlets.iter().map(|known| &known.outlet);
        let mut requested = outlets.filter(|outlet| outlet.key == path.outlet);
        let position = requested.next().map(|outlet| outlet.position);
        self.hurry(position, Instant::now(), context.polling.slow_poll);
    }

    /// Reads the meter of one outlet. A command that arrives meanwhile goes first.
    pub(super) async fn read(&mut self, context: &mut Context) -> Result<(), ExchangeError> {
        let (now, usual) = (Instant::now(), context.polling.slow_poll);
        let outlets = context.state.outlets.iter();
        let positions: Vec<u8> = outlets.map(|known| known.outlet.position).collect();
        let Some(position) = self.take_turn(&positions, now, usual) else {
            return Ok(());
        };
        let result = self.read_outlet(context, position).await;
        let is_cut_short = match &result {
            Ok(end) => *end == ReadingEnd::ForCommand,
            // The device is announced once this is known, and an interval may be an hour.
            Err(_) => !self.known,
        };
        if is_cut_short {
            self.read_again(position, usual);
        }
        result.map(drop)
    }

    async fn read_outlet(
        &mut self,
        context: &mut Context,
        position: u8,
    ) -> Result<ReadingEnd, ExchangeError> {
        let Some(known) = context.state.at(position) else {
            return Ok(ReadingEnd::Whole);
        };
        let child = known.child.clone();
        let child = child.as_deref();
        let live = self.request(context, MeterRequest::Live, child).await?;
        if !context.mailbox.queue.is_empty() {
            return Ok(ReadingEnd::ForCommand);
        }
        let usage = self.request(context, MeterRequest::Usage, child).await?;
        let has_power = number(&live, "power_mw").is_some() || number(&usage, "current_power").is_some();
        let power = if has_power || !context.mailbox.queue.is_empty() {
            MeterAnswer::Missed
        } else {
            self.request(context, MeterRequest::Power, child).await?
        };
        let lacks_day = match &usage {
            MeterAnswer::Values(_) => amount(&usage, TODAY).is_none(),
            MeterAnswer::Nothing | MeterAnswer::Missed => self.usage.fails(),
        };
        let day = if lacks_day && context.mailbox.queue.is_empty() {
            self.request(context, MeterRequest::Day, child).await?
        } else {
            MeterAnswer::Missed
        };
        let reading = MeterReading {
            live,
            usage,
            power,
            day,
        };
        let metered = self.apply(context, position, &reading);
        self.apply_clock(context, &reading);
        context.send_report().await;
        if let Some(metered) = metered {
            let metered = DeviceEvent::Metered(metered);
            context.reporter.send_to_scheduler(metered).await;
        }
        Ok(ReadingEnd::Whole)
    }

    async fn request(
        &mut self,
        context: &mut Context,
        request: MeterRequest,
        child: Option<&str>,
    ) -> Result<MeterAnswer, ExchangeError> {
        if !self.ability(request).take_turn() {
            return Ok(MeterAnswer::Nothing);
        }
        let answer = context
            .exchange(DeviceRequest::Meter(request, child), LoginPurpose::Poll)
            .await;
        let ability = self.ability(request);
        let fault = match answer {
            Ok(values) => {
                ability.on_answer();
                self.report_pauses(context);
                return Ok(MeterAnswer::Values(values));
            }
            Err(ExchangeError::Fault(fault)) => fault,
            Err(ExchangeError::Stopped) => return Err(ExchangeError::Stopped),
        };
        match fault {
            Fault::UnknownRequest(code) => {
                if ability.on_unknown() {
                    let device = &context.config.id;
                    debug!(%device, request = request.method(), code, "meter request not supported by this model");
                    if request == MeterRequest::Live {
                        self.totals.forget_voltage(device);
                    }
                }
                self.report_pauses(context);
                Ok(MeterAnswer::Nothing)
            }
            // -1601: the clock of the device was never set. The relay works all the same.
            Fault::Device { .. } => Ok(MeterAnswer::Nothing),
            Fault::Unreadable(reason) => {
                let is_paused = self.on_failure(context, request, &reason);
                Ok(if is_paused {
                    MeterAnswer::Nothing
                } else {
                    MeterAnswer::Missed
                })
            }
            Fault::NoAnswer => {
                self.on_failure(context, request, "no answer in time");
                Err(Fault::NoAnswer.into())
            }
            fault => Err(fault.into()),
        }
    }

    /// Counts an answer that is of no use. Returns whether the request is left out of readings now.
    fn on_failure(&mut self, context: &Context, request: MeterRequest, reason: &str) -> bool {
        let ability = self.ability(request);
        if ability.on_failure() {
            warn_of_pause(context, request, reason);
        }
        let is_paused = ability.is_paused();
        self.report_pauses(context);
        is_paused
    }

    /// Names what is left out of readings among the issues.
    fn report_pauses(&mut self, context: &Context) {
        let requests = [
            MeterRequest::Live,
            MeterRequest::Usage,
            MeterRequest::Power,
            MeterRequest::Day,
        ];
        let paused = requests
            .into_iter()
            .filter(|request| self.ability(*request).is_paused());
        let paused: Vec<&str> = paused.map(MeterRequest::method).collect();
        let issue = (!paused.is_empty()).then(|| {
            format!(
                "answers of the meter cannot be read ({}); it is asked again later",
                paused.join(", ")
            )
        });
        context.report_issue("meter", issue);
    }

    /// Compares the clock of the device with that of the bridge, by the time in its reading.
    fn apply_clock(&self, context: &mut Context, reading: &MeterReading) {
        if matches!(reading.usage, MeterAnswer::Missed) {
            return;
        }
        let state = &mut context.state;
        let clock = match (local_time(&reading.usage), state.zone.as_deref(), &state.clock) {
            (Some(shown), Some(zone), _) => in_step(shown, zone, context.clock.now()),
            (Some(_), None, _) => DeviceClock::Unreported,
            (None, ..) if !self.usage.is_known() || self.usage.is_paused() => DeviceClock::Unreported,
            // A second refusal shows that the clock was never set; one does not.
            (None, _, DeviceClock::InStep { .. }) => DeviceClock::Unread,
            (None, ..) => DeviceClock::Wrong,
        };
        state.set_clock(clock);
    }

    /// Adds to the total, and takes the values whose change is large enough for a report. Returns the reading for the
    /// scheduler, which needs each of them.
    fn apply(&mut self, context: &mut Context, position: u8, reading: &MeterReading) -> Option<Metered> {
        let now = Instant::now();
        let identity = context.state.identity.clone();
        let device = identity
            .as_ref()
            .map_or("", |identity| identity.device_id.as_str());
        let known = context.state.at(position)?;
        let mut energy = reading.over(&known.outlet.energy);
        // What one outlet of a device measures, all measure.
        self.known |= !matches!(reading.live, MeterAnswer::Missed);
        let counters = reading.counters();
        let id = &context.config.id;
        let mut metered = Metered {
            device: id.clone(),
            outlet: known.outlet.key.clone(),
            power: reading.power().map(NetMilliWatts::drawn),
            total: None,
        };
        if counters.month.is_some() || counters.since_restart.is_some() {
            let meter = known.child.as_deref().unwrap_or(device);
            let at = context.clock.now();
            let total = self.totals.read(id, position, meter, counters, at);
            self.totals.record(device, position, total, at);
            metered.total = Some(total);
            energy.total = metered.total;
        }
        let since = known
            .energy_reported_at
            .map(|reported| now.duration_since(reported));
        if context
            .polling
            .telling
            .is_reportable(&known.outlet.energy, &energy, since)
        {
            known.outlet.energy = energy;
            known.energy_reported_at = Some(now);
        }
        if energy.voltage.is_some() || energy.current.is_some() {
            context.state.add_feature(Feature::Voltage);
        }
        Some(metered)
    }

    /// An outlet whose reading was not finished goes first, once the meter has settled: the reading does not count.
    fn read_again(&mut self, position: u8, usual: Duration) {
        self.urgent.retain(|urgent| *urgent != position);
        self.urgent.push_front(position);
        self.last = None;
        self.due = Instant::now() + SETTLE.min(usual);
    }

    /// Brings a reading forward: of this outlet, or of the next one.
    fn hurry(&mut self, position: Option<u8>, at: Instant, usual: Duration) {
        if let Some(position) = position
            && !self.urgent.contains(&position)
        {
            self.urgent.push_back(position);
        }
        let soonest = self.last.map_or(at, |last| last + soonest(usual));
        self.due = self.due.min(at.max(soonest));
    }

    /// Takes the outlet to be read now, of the positions that the device has.
    fn take_turn(&mut self, positions: &[u8], now: Instant, usual: Duration) -> Option<u8> {
        let urgent = self
            .urgent
            .pop_front()
            .filter(|urgent| positions.contains(urgent));
        let is_new = |position: &&u8| !self.seen.contains(position) && urgent != Some(**position);
        let mut new = positions.iter().filter(is_new).copied();
        let first = urgent.or_else(|| new.next());
        let next = if new.next().is_some() {
            FIRST_READINGS.min(usual)
        } else if self.urgent.is_empty() {
            jittered(usual)
        } else {
            soonest(usual)
        };
        self.last = Some(now);
        self.due = now + next;
        if let Some(first) = first {
            self.seen.insert(first);
            return Some(first);
        }
        let place = self.turn.checked_rem(positions.len())?;
        self.turn = place + 1;
        positions.get(place).copied()
    }

    fn ability(&mut self, request: MeterRequest) -> &mut Ability {
        match request {
            MeterRequest::Live => &mut self.live,
            MeterRequest::Usage => &mut self.usage,
            MeterRequest::Power => &mut self.power,
            MeterRequest::Day => &mut self.day,
        }
    }
}

/// From one reading to the next that is requested.
fn soonest(usual: Duration) -> Duration {
    (usual / SOONEST_PART).min(SOONEST_MAX)
}

/// Said once: the values that a device does not report are null without a reason.
fn warn_of_pause(context: &Context, request: MeterRequest, reason: &str) {
    warn!(
        device = %context.config.id,
        request = request.method(),
        %reason,
        "meter answers cannot be read; their values are unknown, and are requested again later, at least every 20 readings"
    );
}

/// How the reading of one outlet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadingEnd {
    /// All was asked.
    Whole,
    /// A command arrived.
    ForCommand,
}

/// What one request returned.
enum MeterAnswer {
    /// The values.
    Values(Value),
    /// The device has no such values, or not now.
    Nothing,
    /// Unknown: the values before stay.
    Missed,
}

/// The meter reading of one outlet.
struct MeterReading {
    live: MeterAnswer,
    usage: MeterAnswer,
    power: MeterAnswer,
    day: MeterAnswer,
}

impl MeterReading {
    /// The power, if this reading has one.
    fn power(&self) -> Option<NetMilliWatts> {
        number(&self.live, "power_mw")
            .or_else(|| number(&self.usage, "current_power"))
            .map(NetMilliWatts::new)
            .or_else(|| number(&self.power, "current_power").map(NetMilliWatts::from_watts))
    }

    /// The new values, with those before where this reading missed some. The total is that before.
    fn over(&self, before: &Energy) -> Energy {
        let live = |key| amount(&self.live, key);
        let usage = |key| amount(&self.usage, key);
        let missed = |answer: &MeterAnswer| matches!(answer, MeterAnswer::Missed);
        let (live_missed, usage_missed) = (missed(&self.live), missed(&self.usage));
        let day_or_month = |read: Option<u64>, before| {
            let read = read.map(|energy| WattHours::new(energy).into());
            read.or(if usage_missed { before } else { None })
        };
        Energy {
            power: self.power().or(before.power.filter(|_| live_missed)),
            voltage: live("voltage_mv")
                .map(MilliVolts::new)
                .or(before.voltage.filter(|_| live_missed)),
            current: live("current_ma")
                .map(MilliAmps::new)
                .or(before.current.filter(|_| live_missed)),
            today: day_or_month(usage(TODAY).or_else(|| amount(&self.day, TODAY)), before.today),
            month: day_or_month(usage("month_energy"), before.month),
            total: before.total,
        }
    }

    fn counters(&self) -> Counters {
        let month = amount(&self.usage, "month_energy").map(WattHours::new);
        Counters {
            month: local_time(&self.usage).zip(month),
            since_restart: amount(&self.live, "energy_mwh").map(MilliWattHours::new),
        }
    }
}

/// The time that the clock of the device showed.
fn local_time(usage: &MeterAnswer) -> Option<civil::DateTime> {
    value(usage, "local_time")?.as_str()?.parse().ok()
}

/// Compares the clock of a device with that of the bridge. An hour that occurs twice may be either.
fn in_step(shown: civil::DateTime, zone: &str, now: Timestamp) -> DeviceClock {
    let Ok(time_zone) = TimeZone::get(zone) else {
        return DeviceClock::Unreported;
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

fn value<'a>(answer: &'a MeterAnswer, key: &str) -> Option<&'a Value> {
    match answer {
        MeterAnswer::Values(values) => values.get(key),
        MeterAnswer::Nothing | MeterAnswer::Missed => None,
    }
}

/// A number, which some firmware sends with decimals.
fn number(answer: &MeterAnswer, key: &str) -> Option<i64> {
    let number = value(answer, key)?;
    number.as_i64().or_else(|| nearest(number.as_f64()?))
}

/// A number of what cannot be negative.
fn amount(answer: &MeterAnswer, key: &str) -> Option<u64> {
    u64::try_from(number(answer, key)?).ok()
}

/// The nearest whole number, unless it is beyond all that a meter counts.
#[allow(clippy::cast_possible_truncation)] // It is in the range.
fn nearest(number: f64) -> Option<i64> {
    (number.abs() < 1e15).then(|| number.round() as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live() -> Value {
        json!({"current_ma": 1099, "voltage_mv": 240_695, "power_mw": 234_838, "energy_wh": 8725, "energy_mwh": 8_725_929})
    }

    fn usage() -> Value {
        json!({"current_power": 234_000, "local_time": "2026-11-21T08:00:00", "today_energy": 46, "month_energy": 430})
    }

    fn reading(live: MeterAnswer, usage: MeterAnswer, power: MeterAnswer) -> MeterReading {
        MeterReading {
            live,
            usage,
            power,
            day: MeterAnswer::Missed,
        }
    }

    fn full() -> Energy {
        Energy {
            power: Some(NetMilliWatts::new(234_838)),
            voltage: Some(MilliVolts::new(240_695)),
            current: Some(MilliAmps::new(1099)),
            today: Some(WattHours::new(46).into()),
            month: Some(WattHours::new(430).into()),
            total: None,
        }
    }

    #[test]
    fn every_unit_is_taken_for_what_it_is() {
        let whole = reading(
            MeterAnswer::Values(live()),
            MeterAnswer::Values(usage()),
            MeterAnswer::Missed,
        );
        assert_eq!(whole.over(&Energy::default()), full());
        assert_eq!(
            whole.counters().since_restart,
            Some(MilliWattHours::new(8_725_929))
        );
        // Usage reports mW, the power alone W.
        let old = reading(
            MeterAnswer::Nothing,
            MeterAnswer::Values(usage()),
            MeterAnswer::Missed,
        );
        assert_eq!(
            old.over(&Energy::default()).power,
            Some(NetMilliWatts::from_watts(234))
        );
        let alone = MeterAnswer::Values(json!({"current_power": 234}));
        let strip = reading(MeterAnswer::Nothing, MeterAnswer::Nothing, alone);
        assert_eq!(
            strip.over(&Energy::default()).power,
            Some(NetMilliWatts::from_watts(234))
        );
    }

    #[test]
    fn a_missing_or_mistyped_field_leaves_every_other_value() {
        for (index, whole) in [live(), usage()].into_iter().enumerate() {
            for key in whole.as_object().unwrap().keys() {
                for broken in [None, Some(json!(null)), Some(json!("x")), Some(json!(-1))] {
                    let mut values = whole.clone();
                    match broken {
                        None => drop(values.as_object_mut().unwrap().remove(key)),
                        Some(value) => values[key] = value,
                    }
                    let reading = if index == 0 {
                        reading(
                            MeterAnswer::Values(values),
                            MeterAnswer::Values(usage()),
                            MeterAnswer::Missed,
                        )
                    } else {
                        reading(
                            MeterAnswer::Values(live()),
                            MeterAnswer::Values(values),
                            MeterAnswer::Missed,
                        )
                    };
                    let energy = reading.over(&Energy::default());
                    let displaced = [
                        energy.voltage.is_none(),
                        energy.current.is_none(),
                        energy.today.is_none(),
                        energy.month.is_none(),
                        reading.counters().since_restart.is_none(),
                    ];
                    assert!(
                        displaced.iter().filter(|displaced| **displaced).count() <= 1,
                        "{key}: {energy:?}"
                    );
                    assert!(energy.power.is_some(), "{key}");
                }
            }
        }
    }

    #[test]
    fn a_plug_behind_a_solar_plant_feeds_in() {
        let usage = r#"{"today_runtime":137,"month_runtime":137,"today_energy":6,"month_energy":6,
            "local_time":"2026-06-17 11:12:11","electricity_charge":[0,0,0],"current_power":-19231}"#;
        let usage = MeterAnswer::Values(serde_json::from_str(usage).unwrap());
        let reading = reading(MeterAnswer::Nothing, usage, MeterAnswer::Missed);
        let energy = reading.over(&Energy::default());
        assert_eq!(energy.power, Some(NetMilliWatts::new(-19_231)));
        assert_eq!(energy.today, Some(WattHours::new(6).into()));
        assert!(reading.counters().month.is_some());
    }

    #[test]
    fn decimals_are_rounded_and_no_number_panics() {
        let values = |value: Value| MeterAnswer::Values(json!({ "key": value }));
        for (value, read, used) in [
            (json!(-19.6), Some(-20), None),
            (json!(6.4), Some(6), Some(6)),
            (json!(1e300), None, None),
            (json!(u64::MAX), None, None),
            (json!(i64::MIN), Some(i64::MIN), None),
            (json!("6"), None, None),
            (json!(null), None, None),
        ] {
            let answer = values(value.clone());
            assert_eq!(
                (number(&answer, "key"), amount(&answer, "key")),
                (read, used),
                "{value}"
            );
        }
    }

    #[test]
    fn missed_values_stay_and_missing_ones_are_unknown() {
        let missed = reading(MeterAnswer::Missed, MeterAnswer::Missed, MeterAnswer::Missed);
        assert_eq!(missed.over(&full()), full());
        let gone = reading(
            MeterAnswer::Values(live()),
            MeterAnswer::Nothing,
            MeterAnswer::Missed,
        );
        let energy = gone.over(&full());
        assert_eq!((energy.today, energy.month), (None, None), "the clock is unset");
        assert_eq!(energy.power, full().power);
    }

    #[test]
    fn outlets_take_turns_and_one_that_was_switched_goes_first_once() {
        let (now, usual) = (Instant::now(), Duration::from_secs(30));
        let mut meters = Meters::new(EnergyTotals::default(), now);
        let turn = |meters: &mut Meters| meters.take_turn(&[1, 2, 3], now, usual).unwrap();
        let turns: Vec<_> = (0..4).map(|_| turn(&mut meters)).collect();
        assert_eq!(turns, [1, 2, 3, 1]);
        for position in [1, 3, 1, 9] {
            meters.hurry(Some(position), now, usual);
        }
        let turns: Vec<_> = (0..4).map(|_| turn(&mut meters)).collect();
        assert_eq!(turns, [1, 3, 2, 3], "there is no 9");
        assert_eq!(meters.take_turn(&[], now, usual), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_was_not_finished_is_read_soon() {
        let (now, usual) = (Instant::now(), Duration::from_hours(1));
        let mut meters = Meters::new(EnergyTotals::default(), now);
        assert_eq!(meters.take_turn(&[1, 2], now, usual), Some(1));
        assert_eq!(meters.take_turn(&[1, 2], now, usual), Some(2));
        assert!(meters.due > now + usual / 2);
        meters.read_again(2, usual);
        assert_eq!(meters.due, now + SETTLE);
        assert_eq!(meters.take_turn(&[1, 2], meters.due, usual), Some(2));
    }

    #[test]
    fn frequent_requests_do_not_flood_the_device() {
        let (start, usual) = (Instant::now(), Duration::from_secs(30));
        let mut meters = Meters::new(EnergyTotals::default(), start);
        let outlets = [1, 2, 3, 4, 5, 6];
        for _ in outlets {
            meters.take_turn(&outlets, start, usual);
        }
        let mut read = 0;
        for second in 0..605 {
            let now = start + Duration::from_secs(second);
            meters.hurry(Some(1 + u8::try_from(second % 6).unwrap()), now, usual);
            if now >= meters.due {
                meters.take_turn(&outlets, now, usual);
                read += 1;
            }
        }
        assert_eq!(read, 120, "one in five seconds");
    }

    #[test]
    fn a_switched_outlet_does_not_wait_for_a_long_interval() {
        let (start, usual) = (Instant::now(), Duration::from_hours(24));
        let mut meters = Meters::new(EnergyTotals::default(), start);
        meters.take_turn(&[1], start, usual);
        meters.hurry(Some(1), start + SETTLE, usual);
        assert_eq!(meters.due, start + SOONEST_MAX);
    }

    #[test]
    fn after_a_start_all_outlets_are_read_in_a_row() {
        let (start, usual) = (Instant::now(), Duration::from_secs(30));
        let mut meters = Meters::new(EnergyTotals::default(), start);
        let read: Vec<_> = (0..4)
            .map(|_| {
                let at = meters.due;
                let position = meters.take_turn(&[1, 2, 3, 4], at, usual).unwrap();
                (position, at.duration_since(start).as_secs())
            })
            .collect();
        assert_eq!(read, [(1, 0), (2, 2), (3, 4), (4, 6)]);
        assert!(meters.due >= start + Duration::from_secs(20));
    }

    #[test]
    fn a_clock_is_in_step_within_half_a_minute_in_its_own_zone() {
        let berlin = |shown: &str, now: &str| {
            let shown: civil::DateTime = shown.parse().unwrap();
            let clock = in_step(shown, "Europe/Berlin", now.parse().unwrap());
            matches!(clock, DeviceClock::InStep { zone } if zone == "Europe/Berlin")
        };
        assert!(berlin("2026-11-21T12:00:20", "2026-11-21T11:00:00Z"));
        assert!(!berlin("2026-11-21T12:00:31", "2026-11-21T11:00:00Z"));
        assert!(
            !berlin("2026-11-21T11:00:00", "2026-11-21T11:00:00Z"),
            "another zone"
        );
        for hour in ["00", "01"] {
            let now = format!("2026-10-25T{hour}:30:00Z");
            assert!(berlin("2026-10-25T02:30:00", &now), "an hour that comes twice");
        }
        let shown = "2026-11-21T12:00:00".parse().unwrap();
        let nowhere = in_step(shown, "Nowhere/Land", "2026-11-21T11:00:00Z".parse().unwrap());
        assert_eq!(nowhere, DeviceClock::Unreported);
    }
}
