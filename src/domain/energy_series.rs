//! The energy of consecutive slots of time, the newest so many. Pure.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use planner::units::MilliWattHours;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A slot without a reading.
const GAP: u32 = u32::MAX;

/// What was used in each slot, up to the newest one that has a reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EnergySeries {
    /// The number of the newest slot.
    newest: i64,
    /// mWh, the oldest first; [`GAP`] is not known.
    #[serde(serialize_with = "to_text", deserialize_with = "from_text")]
    values: VecDeque<u32>,
}

impl EnergySeries {
    /// Adds what was used in a slot. Those before the newest `most` are forgotten.
    pub(super) fn add(&mut self, slot: i64, used: MilliWattHours, most: usize) {
        let apart = usize::try_from(self.newest.abs_diff(slot)).unwrap_or(usize::MAX);
        // Nothing that is kept is of the same time: it is too long ago, or the newest has a date that never was.
        if self.values.is_empty() || apart >= most {
            self.values = VecDeque::from([GAP]);
            self.newest = slot;
        }
        if slot > self.newest {
            self.newest = slot;
            self.values.extend(std::iter::repeat_n(GAP, apart));
            while self.values.len() > most {
                self.values.pop_front();
            }
        }
        // Before the first of them.
        while slot < self.newest && self.values.len() <= apart {
            self.values.push_front(GAP);
        }
        if let Some(value) = self.place(slot).and_then(|place| self.values.get_mut(place)) {
            let before = if *value == GAP { 0 } else { *value };
            let used = u32::try_from(used.milliwatt_hours()).unwrap_or(GAP);
            *value = before.saturating_add(used).min(GAP - 1);
        }
    }

    /// What was used in a slot; `None` if that is not known.
    pub(super) fn of(&self, slot: i64) -> Option<MilliWattHours> {
        let value = *self.values.get(self.place(slot)?)?;
        (value != GAP).then(|| MilliWattHours::new(value.into()))
    }

    fn place(&self, slot: i64) -> Option<usize> {
        let behind = usize::try_from(self.newest.checked_sub(slot)?).ok()?;
        self.values.len().checked_sub(behind + 1)
    }
}

/// As base64 of four bytes each: a tenth of what JSON would take.
fn to_text<S: Serializer>(values: &VecDeque<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VecDeque<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(D::Error::custom("values of four bytes each"));
    }
    Ok(values.iter().copied().map(u32::from_le_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 4;

    fn mwh(value: u64) -> MilliWattHours {
        MilliWattHours::new(value)
    }

    fn all(series: &EnergySeries, slots: std::ops::Range<i64>) -> Vec<Option<u64>> {
        slots
            .map(|slot| Some(series.of(slot)?.milliwatt_hours()))
            .collect()
    }

    #[test]
    fn slots_add_up_and_those_between_are_gaps() {
        let mut series = EnergySeries::default();
        assert_eq!(all(&series, 0..2), [None, None]);
        for (slot, used) in [(10, 5), (10, 2), (12, 0)] {
            series.add(slot, mwh(used), MOST);
        }
        assert_eq!(all(&series, 9..14), [None, Some(7), None, Some(0), None]);
        // The clock was set back.
        series.add(11, mwh(3), MOST);
        assert_eq!(all(&series, 9..14), [None, Some(7), Some(3), Some(0), None]);
        series.add(9, mwh(4), MOST);
        assert_eq!(all(&series, 8..11), [None, Some(4), Some(7)]);
        // So far that what is there has dates that never were.
        series.add(1, mwh(9), MOST);
        assert_eq!(all(&series, 0..3), [None, Some(9), None]);
        assert_eq!(series.of(12), None);
    }

    #[test]
    fn the_oldest_are_forgotten_and_a_long_pause_forgets_all() {
        let mut series = EnergySeries::default();
        for slot in 0..6 {
            series.add(slot, mwh(1), MOST);
        }
        assert_eq!(series.values.len(), MOST);
        assert_eq!(
            all(&series, 0..6),
            [None, None, Some(1), Some(1), Some(1), Some(1)]
        );
        series.add(i64::MAX, mwh(2), MOST);
        assert_eq!((series.values.len(), series.of(i64::MAX)), (1, Some(mwh(2))));
        assert_eq!(series.of(i64::MIN), None);
    }

    #[test]
    fn it_survives_being_saved_and_nonsense_is_refused() {
        let mut series = EnergySeries::default();
        series.add(1, mwh(u64::MAX), MOST);
        series.add(3, mwh(70_000), MOST);
        let text = serde_json::to_string(&series).unwrap();
        assert_eq!(serde_json::from_str::<EnergySeries>(&text).unwrap(), series);
        for damaged in [r#"{"newest":1,"values":"AAA"}"#, r#"{"newest":1,"values":"?"}"#] {
            assert!(
                serde_json::from_str::<EnergySeries>(damaged).is_err(),
                "{damaged}"
            );
        }
    }
}
