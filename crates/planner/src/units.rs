//! What meters measure, with the unit in the type: devices mix mW with W and Wh with mWh.

use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Active power.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliWatts(u64);

/// Active power with its direction: negative where the outlet feeds in, as behind a balcony solar plant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetMilliWatts(i64);

/// Voltage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliVolts(u64);

/// Current.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliAmps(u64);

/// Energy, as devices report a day's and a month's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WattHours(u64);

/// Energy, as it is added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliWattHours(u64);

/// Energy in mW times ms, for sums of many short times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroJoules(u64);

impl MilliWatts {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From a number of mW.
    pub const fn new(milliwatts: u64) -> Self {
        Self(milliwatts)
    }

    /// From a number of W.
    pub const fn from_watts(watts: u64) -> Self {
        Self(watts.saturating_mul(1000))
    }

    /// From a number of W, to a mW. Negative numbers and NaN are nothing.
    pub fn from_decimal(watts: f64) -> Self {
        Self(whole(watts * 1e3))
    }

    /// In W, to a tenth.
    pub fn watts(self) -> f64 {
        rounded(self.0, 100, 10)
    }

    /// How far apart two are.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }

    /// The sum, or the largest number there is.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    /// So many hundredths of it, rounded down.
    #[must_use]
    pub const fn percent(self, hundredths: u64) -> Self {
        Self(self.0.saturating_mul(hundredths) / 100)
    }

    /// To the nearest W.
    #[must_use]
    pub const fn whole(self) -> Self {
        Self(self.0.saturating_add(500) / 1000 * 1000)
    }
}

/// `3620 W`, to a tenth.
impl fmt::Display for MilliWatts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} W", self.watts())
    }
}

impl NetMilliWatts {
    /// From a number of mW.
    pub const fn new(milliwatts: i64) -> Self {
        Self(milliwatts)
    }

    /// From a number of W.
    pub const fn from_watts(watts: i64) -> Self {
        Self(watts.saturating_mul(1000))
    }

    /// In W, to a tenth.
    pub fn watts(self) -> f64 {
        let watts = rounded(self.0.unsigned_abs(), 100, 10);
        // There is a negative zero.
        if self.0 < 0 && watts > 0.0 { -watts } else { watts }
    }

    /// What is drawn: nothing where the outlet feeds in.
    #[must_use]
    pub fn drawn(self) -> MilliWatts {
        MilliWatts(u64::try_from(self.0).unwrap_or(0))
    }

    /// How far apart two are.
    #[must_use]
    pub const fn difference(self, other: Self) -> MilliWatts {
        MilliWatts(self.0.abs_diff(other.0))
    }
}

impl MilliVolts {
    /// From a number of mV.
    pub const fn new(millivolts: u64) -> Self {
        Self(millivolts)
    }

    /// In V, to a tenth.
    pub fn volts(self) -> f64 {
        rounded(self.0, 100, 10)
    }
}

impl MilliAmps {
    /// From a number of mA.
    pub const fn new(milliamps: u64) -> Self {
        Self(milliamps)
    }

    /// In A, to a hundredth.
    pub fn amps(self) -> f64 {
        rounded(self.0, 10, 100)
    }
}

impl WattHours {
    /// From a number of Wh.
    pub const fn new(watt_hours: u64) -> Self {
        Self(watt_hours)
    }
}

impl MilliWattHours {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From a number of mWh.
    pub const fn new(milliwatt_hours: u64) -> Self {
        Self(milliwatt_hours)
    }

    /// From a number of kWh, to a mWh. Negative numbers and NaN are nothing.
    pub fn from_kilowatt_hours(kilowatt_hours: f64) -> Self {
        Self(whole(kilowatt_hours * 1e6))
    }

    /// In kWh, to a thousandth (1 Wh).
    pub fn kilowatt_hours(self) -> f64 {
        rounded(self.0, 1000, 1000)
    }

    /// In kWh, to a tenth of a Wh.
    pub fn fine_kilowatt_hours(self) -> f64 {
        rounded(self.0, 100, 10_000)
    }

    /// In mWh.
    pub const fn milliwatt_hours(self) -> u64 {
        self.0
    }

    /// What was used from an earlier reading of the same counter to this one; `None` if it went back.
    pub fn since(self, earlier: Self) -> Option<Self> {
        self.0.checked_sub(earlier.0).map(Self)
    }

    /// How far apart two are.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }

    /// The sum, or the largest number there is.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    /// What a load uses in a time.
    pub fn drawn(load: MilliWatts, seconds: u64) -> Self {
        let milliwatt_hours = u128::from(load.0) * u128::from(seconds) / 3600;
        Self(u64::try_from(milliwatt_hours).unwrap_or(u64::MAX))
    }

    /// How long a load takes to use so much, rounded up; `None` is for ever.
    pub fn lasts(self, load: MilliWatts) -> Option<SignedDuration> {
        let millis = (u128::from(self.0) * MILLIS_PER_HOUR)
            .div_ceil(Some(u128::from(load.0)).filter(|load| *load > 0)?);
        Some(SignedDuration::from_millis(i64::try_from(millis).ok()?))
    }

    /// What is left of it without another, at least nothing.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many hundredths of it, rounded down.
    #[must_use]
    pub const fn percent(self, hundredths: u64) -> Self {
        Self(self.0.saturating_mul(hundredths) / 100)
    }

    /// The tens of Wh that are full.
    #[must_use]
    pub const fn in_tens(self) -> Self {
        Self(self.0 / 10_000 * 10_000)
    }

    /// The part of it that belongs to `part` of a length of time, if it was used evenly.
    #[must_use]
    pub fn share(self, part: SignedDuration, whole: SignedDuration) -> Self {
        let (part, whole) = (millis(part), millis(whole));
        if part >= whole {
            return self;
        }
        Self(u64::try_from(u128::from(self.0) * part / whole).unwrap_or(u64::MAX))
    }
}

impl MicroJoules {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// What a load uses in a length of time; nothing in one that is negative.
    pub fn drawn(load: MilliWatts, time: SignedDuration) -> Self {
        Self(u64::try_from(u128::from(load.0) * millis(time)).unwrap_or(u64::MAX))
    }

    /// The sum, or the largest number there is.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

/// Rounded down.
impl From<MicroJoules> for MilliWattHours {
    fn from(energy: MicroJoules) -> Self {
        Self(energy.0 / 3_600_000)
    }
}

/// `4 kWh`, to a thousandth.
impl fmt::Display for MilliWattHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kWh", self.kilowatt_hours())
    }
}

const MILLIS_PER_HOUR: u128 = 3_600_000;

fn millis(time: SignedDuration) -> u128 {
    u128::try_from(time.as_millis()).unwrap_or(0)
}

impl From<WattHours> for MilliWattHours {
    fn from(energy: WattHours) -> Self {
        Self(energy.0.saturating_mul(1000))
    }
}

/// The nearest number that is not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The cast saturates, as it should.
fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// A number of thousandths, rounded to `step` of them, in units of which `per` steps make one. Numbers that no
/// outlet reaches stop at the largest that is exact.
fn rounded(thousandths: u64, step: u64, per: u32) -> f64 {
    let steps = thousandths.saturating_add(step / 2) / step;
    f64::from(u32::try_from(steps).unwrap_or(u32::MAX)) / f64::from(per)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_in_milliwatts_and_watts() {
        let vectors = [
            (MilliWatts::new(0), 0.0),
            (MilliWatts::new(49), 0.0),
            (MilliWatts::new(50), 0.1),
            (MilliWatts::new(234_838), 234.8),
            (MilliWatts::new(7_387), 7.4),
            (MilliWatts::from_watts(60), 60.0),
            (MilliWatts::from_watts(u64::MAX), f64::from(u32::MAX) / 10.0),
        ];
        for (power, watts) in vectors {
            assert!((power.watts() - watts).abs() < f64::EPSILON, "{power:?}");
        }
        assert_eq!(MilliWatts::from_watts(3), MilliWatts::new(3000));
        assert_eq!(MilliWatts::from_decimal(0.25), MilliWatts::new(250));
        assert_eq!(MilliWatts::from_decimal(-0.25), MilliWatts::new(0));
        assert_eq!(
            MilliWatts::new(700).difference(MilliWatts::from_watts(1)),
            MilliWatts::new(300)
        );
    }

    #[test]
    fn power_that_is_fed_in_is_negative_and_draws_nothing() {
        for (milliwatts, watts, drawn) in [
            (-19_231, -19.2, 0),
            (-49, 0.0, 0),
            (7_387, 7.4, 7_387),
            (i64::MIN, f64::from(u32::MAX) / -10.0, 0),
        ] {
            let power = NetMilliWatts::new(milliwatts);
            assert!((power.watts() - watts).abs() < f64::EPSILON, "{power:?}");
            assert_eq!(power.drawn(), MilliWatts::new(drawn));
        }
        assert!(NetMilliWatts::new(-49).watts().is_sign_positive());
        let (fed, used) = (NetMilliWatts::new(-300), NetMilliWatts::from_watts(1));
        assert_eq!(fed.difference(used), MilliWatts::new(1300));
    }

    #[test]
    fn energy_in_milliwatt_hours_watt_hours_and_kilowatt_hours() {
        let vectors = [
            (MilliWattHours::new(499), 0.0),
            (MilliWattHours::new(500), 0.001),
            (MilliWattHours::new(8_725_929), 8.726),
            (WattHours::new(8725).into(), 8.725),
            (WattHours::new(1).into(), 0.001),
        ];
        for (energy, kilowatt_hours) in vectors {
            assert!(
                (energy.kilowatt_hours() - kilowatt_hours).abs() < 1e-12,
                "{energy:?}"
            );
        }
        assert_eq!(MilliWattHours::from(WattHours::new(3)), MilliWattHours::new(3000));
        assert_eq!(
            MilliWattHours::from(WattHours::new(u64::MAX)),
            MilliWattHours::new(u64::MAX)
        );
        assert_eq!(
            MilliWattHours::from_kilowatt_hours(0.01),
            MilliWattHours::from(WattHours::new(10))
        );
        assert_eq!(MilliWattHours::from_kilowatt_hours(-1.0), MilliWattHours::ZERO);
        assert_eq!(
            MilliWattHours::from_kilowatt_hours(f64::NAN),
            MilliWattHours::ZERO
        );
    }

    #[test]
    fn voltage_and_current() {
        assert!((MilliVolts::new(240_695).volts() - 240.7).abs() < 1e-12);
        assert!((MilliAmps::new(1099).amps() - 1.1).abs() < 1e-12);
        assert!((MilliAmps::new(164).amps() - 0.16).abs() < 1e-12);
    }

    #[test]
    fn a_load_over_a_time_is_energy() {
        assert_eq!(
            MilliWattHours::drawn(MilliWatts::from_watts(60), 3600),
            WattHours::new(60).into()
        );
        assert_eq!(
            MilliWattHours::drawn(MilliWatts::from_watts(1), 36),
            MilliWattHours::new(10)
        );
        assert_eq!(
            MilliWattHours::drawn(MilliWatts::new(u64::MAX), u64::MAX),
            MilliWattHours::new(u64::MAX)
        );
    }

    #[test]
    fn a_load_for_a_time_and_the_time_of_a_load_are_inverse() {
        let load = MilliWatts::from_watts(2000);
        let second = SignedDuration::from_secs(1);
        let drawn = |time| MicroJoules::drawn(load, time);
        assert_eq!(MilliWattHours::from(drawn(second)), MilliWattHours::new(555));
        assert_eq!(drawn(-second), MicroJoules::ZERO);
        let hour = SignedDuration::from_hours(1);
        let energy = MilliWattHours::from(drawn(hour));
        let in_parts = (0..3600).fold(MicroJoules::ZERO, |sum, _| sum.plus(drawn(second)));
        assert_eq!(
            MilliWattHours::from(in_parts),
            energy,
            "nothing is lost in between"
        );
        assert_eq!(
            (energy.to_string(), load.to_string()),
            ("2 kWh".to_owned(), "2000 W".to_owned())
        );
        assert_eq!(energy.lasts(load), Some(hour));
        assert_eq!(
            MilliWattHours::new(1).lasts(load),
            Some(SignedDuration::from_millis(2)),
            "rounded up"
        );
        assert_eq!(energy.lasts(MilliWatts::ZERO), None);
        assert_eq!(MilliWattHours::new(u64::MAX).lasts(MilliWatts::new(1)), None);
    }

    #[test]
    fn a_share_is_a_part_of_the_time_and_never_more_than_the_whole() {
        let (energy, hour) = (MilliWattHours::new(900), SignedDuration::from_hours(1));
        assert_eq!(energy.share(hour, hour * 3), MilliWattHours::new(300));
        for whole in [SignedDuration::ZERO, -hour, hour] {
            assert_eq!(energy.share(hour, whole), energy);
        }
        assert_eq!(energy.share(-hour, hour), MilliWattHours::ZERO);
        assert_eq!(energy.less(MilliWattHours::new(1000)), MilliWattHours::ZERO);
        assert_eq!(MilliWatts::from_watts(50).percent(90), MilliWatts::from_watts(45));
    }

    #[test]
    fn a_counter_that_went_back_has_no_difference() {
        assert_eq!(MilliWattHours::new(5).since(MilliWattHours::new(6)), None);
        assert_eq!(
            MilliWattHours::new(9).since(MilliWattHours::new(6)),
            Some(MilliWattHours::new(3))
        );
    }
}
