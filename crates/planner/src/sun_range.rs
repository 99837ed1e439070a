//! Between which times of day sunrise or sunset is in the course of a year.

use std::sync::{Mutex, PoisonError};

use jiff::{
    Span,
    civil::{Date, Time},
    tz::TimeZone,
};

use super::{edge::SunEvent, location::Coordinates, sun::event};

/// The year whose dates show between which times of day a sun event is, and the days between two of them.
const SAMPLED: Date = Date::constant(2024, 1, 1);
const SAMPLE_DAYS: i64 = 15;
const SAMPLES: usize = 25;

/// Between which times of day a sun event is in the course of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SunRange {
    /// The earliest and the latest, in minutes since the midnight of its date, to within an hour. `None` where it
    /// never is.
    pub minutes: Option<(i64, i64)>,
    /// Whether each date has one.
    pub always: bool,
}

impl SunRange {
    /// Takes as long as [`event`] for 25 dates, the first time.
    pub fn of(event: SunEvent, coordinates: Coordinates, zone: &TimeZone) -> Self {
        static RANGES: Mutex<Vec<(SunEvent, Coordinates, TimeZone, SunRange)>> = Mutex::new(Vec::new());
        let mut ranges = RANGES.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(kind, place, known, _): &&(SunEvent, Coordinates, TimeZone, Self)| {
            (*kind, *place) == (event, coordinates) && known == zone
        };
        if let Some((.., range)) = ranges.iter().find(same) {
            return *range;
        }
        let range = Self::computed(event, coordinates, zone);
        // Places change with the settings only.
        if ranges.len() >= SAMPLES {
            ranges.clear();
        }
        ranges.push((event, coordinates, zone.clone(), range));
        range
    }

    fn computed(kind: SunEvent, coordinates: Coordinates, zone: &TimeZone) -> Self {
        let dates = SAMPLED.series(Span::new().days(SAMPLE_DAYS)).take(SAMPLES);
        let minutes = dates.map(|date| {
            let wall = zone.to_datetime(event(kind, date, coordinates, zone)?);
            Some(wall.duration_since(date.to_datetime(Time::midnight())).as_mins())
        });
        let minutes: Vec<Option<i64>> = minutes.collect();
        let found = || minutes.iter().copied().flatten();
        Self {
            minutes: found().min().zip(found().max()),
            always: minutes.iter().all(Option::is_some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_that_of_a_year() {
        let range = |event, place: (f64, f64), zone: &str| {
            let place = Coordinates::new(place.0, place.1).unwrap();
            SunRange::of(event, place, &TimeZone::get(zone).unwrap())
        };
        let berlin = ((52.52, 13.405), "Europe/Berlin");
        // 04:43 in June, 08:17 in January.
        let sunrise = range(SunEvent::Sunrise, berlin.0, berlin.1);
        let (earliest, latest) = sunrise.minutes.unwrap();
        assert!(
            (280..=300).contains(&earliest) && (480..=497).contains(&latest),
            "{sunrise:?}"
        );
        assert!(sunrise.always);
        // At 00:34 of the next day in June.
        let (_, latest) = range(SunEvent::Sunset, (64.2008, -149.4937), "America/Anchorage")
            .minutes
            .unwrap();
        assert!(latest > 24 * 60, "{latest}");
        let svalbard = range(SunEvent::Sunset, (78.22, 15.63), "Arctic/Longyearbyen");
        assert!(svalbard.minutes.is_some() && !svalbard.always);
        assert_eq!(range(SunEvent::Sunset, (90.0, 0.0), "UTC").minutes, None);
    }
}
