//! Sunrise and sunset of a civil date.
//!
//! The sun is on its highest point once on (almost) every civil date. Sunrise is looked for in the half day
//! before that, sunset in the half day after it, so near the polar circles the sunset of a date may be
//! after its midnight: one window still has its sunrise before its sunset.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use solar_positioning::{Horizon, Location as Place, SolarEvents, delta_t};

use super::{edge::SunEvent, location::Coordinates};

const SECONDS_PER_DAY: f64 = 86_400.0;
/// The Julian date of the Unix epoch.
const EPOCH: f64 = 2_440_587.5;
/// Half a solar day, in days.
const HALF_DAY: f64 = 0.5;

/// All that a sun event follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SunKey {
    event: SunEvent,
    date: Date,
    /// Latitude and longitude, as the bits of their degrees.
    place: [u64; 2],
    /// When the date starts and ends, which is all that matters of a zone.
    day: [Timestamp; 2],
}

/// So many answers are remembered, both events of two years; then all are forgotten.
const REMEMBERED: usize = 1472;

/// The answers so far. One takes some hundred thousand instructions, more than all else in a decision, and every
/// schedule of every group needs the same few events again and again.
static ALMANAC: Mutex<BTreeMap<SunKey, Option<Timestamp>>> = Mutex::new(BTreeMap::new());

/// When the sun event of a civil date is, to the second, at sea level with the usual refraction. `None` on
/// days without it (polar day and night, dates a zone skipped).
pub fn event(event: SunEvent, date: Date, coordinates: Coordinates, zone: &TimeZone) -> Option<Timestamp> {
    let question = SunKey {
        event,
        date,
        place: [coordinates.latitude(), coordinates.longitude()].map(f64::to_bits),
        day: [start_of(date, zone)?, start_of(date.tomorrow().ok()?, zone)?],
    };
    let mut almanac = ALMANAC.lock().unwrap_or_else(PoisonError::into_inner);
    if almanac.len() >= REMEMBERED {
        almanac.clear();
    }
    let answer = almanac.entry(question);
    *answer.or_insert_with(|| compute(question, coordinates))
}

fn compute(question: SunKey, coordinates: Coordinates) -> Option<Timestamp> {
    let place = Place {
        latitude: coordinates.latitude(),
        longitude: coordinates.longitude(),
    };
    let [start, end] = question.day.map(julian);
    let date = question.date;
    // The difference between Earth's rotation and the clock; years out of range have no events to find.
    let delta_t =
        delta_t::estimate_from_date(i32::from(date.year()), u32::from(date.month().unsigned_abs())).ok()?;
    let sun = SolarEvents::new();
    // An interval without its start: a noon at midnight sharp belongs to the day before.
    let noon = sun
        .next_transit_from_julian(start, end, place.longitude, delta_t)
        .ok()??;
    let found = match question.event {
        SunEvent::Sunrise => {
            sun.next_rise_from_julian(noon - HALF_DAY, noon, place, delta_t, Horizon::SunriseSunset)
        }
        SunEvent::Sunset => {
            sun.next_set_from_julian(noon, noon + HALF_DAY, place, delta_t, Horizon::SunriseSunset)
        }
    };
    instant(found.ok()??)
}

fn start_of(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    date.to_zoned_datetime(zone.clone())
        .ok()
        .map(|start| start.timestamp())
}

// Seconds fit 52 bits of a float for 142 million years.
#[allow(clippy::cast_precision_loss)]
fn julian(instant: Timestamp) -> f64 {
    instant.as_second() as f64 / SECONDS_PER_DAY + EPOCH
}

// The range is checked by the conversion to an instant.
#[allow(clippy::cast_possible_truncation)]
fn instant(julian: f64) -> Option<Timestamp> {
    let seconds = ((julian - EPOCH) * SECONDS_PER_DAY).round();
    Timestamp::from_second(seconds as i64).ok()
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, ZonedDateTime};

    use super::*;

    fn at(text: &str, date: Date, place: (f64, f64), zone: &str) -> Option<ZonedDateTime> {
        let kind = match text {
            "rise" => SunEvent::Sunrise,
            _ => SunEvent::Sunset,
        };
        let zone = TimeZone::get(zone).unwrap();
        let coordinates = Coordinates::new(place.0, place.1).unwrap();
        event(kind, date, coordinates, &zone).map(|instant| instant.to_zoned_datetime(zone))
    }

    #[track_caller]
    fn close(found: Option<ZonedDateTime>, expected: &str) {
        let found = found.expect("the sun rises and sets here");
        let expected: jiff::civil::DateTime = expected.parse().unwrap();
        let expected = expected.to_zoned_datetime(found.time_zone().clone()).unwrap();
        let off = found.timestamp().duration_since(expected.timestamp()).abs();
        assert!(
            off <= SignedDuration::from_mins(2),
            "{found} is {off} from {expected}"
        );
    }

    #[test]
    fn the_sun_is_where_the_almanac_says() {
        let new_york = ((40.7128, -74.006), "America/New_York");
        let london = ((51.5074, -0.1278), "Europe/London");
        let sydney = ((-33.8688, 151.2093), "Australia/Sydney");
        let auckland = ((-36.8485, 174.7633), "Pacific/Auckland");
        let honolulu = ((21.3069, -157.8583), "Pacific/Honolulu");
        let cases = [
            (new_york, "2024-03-20", "06:58:42", "19:08:28"),
            (new_york, "2024-06-21", "05:25:23", "20:30:34"),
            (new_york, "2024-12-21", "07:17:06", "16:31:47"),
            (london, "2024-03-20", "06:02:33", "18:14:03"),
            (london, "2024-06-21", "04:43:33", "21:21:17"),
            (london, "2024-12-21", "08:04:21", "15:53:18"),
            (sydney, "2024-06-21", "07:00:18", "16:53:41"),
            (sydney, "2024-12-21", "05:41:07", "20:05:26"),
            (auckland, "2024-06-21", "07:34:01", "17:11:30"),
            (honolulu, "2024-06-21", "05:50:42", "19:16:11"),
        ];
        for ((place, zone), day, rise, set) in cases {
            let date: Date = day.parse().unwrap();
            close(at("rise", date, place, zone), &format!("{day}T{rise}"));
            close(at("set", date, place, zone), &format!("{day}T{set}"));
        }
    }

    #[test]
    fn a_northern_sunset_after_midnight_belongs_to_the_day_before() {
        let alaska = (64.2008, -149.4937);
        let date: Date = "2024-06-21".parse().unwrap();
        close(
            at("rise", date, alaska, "America/Anchorage"),
            "2024-06-21T03:25:21",
        );
        close(
            at("set", date, alaska, "America/Anchorage"),
            "2024-06-22T00:34:00",
        );
    }

    #[test]
    fn there_is_no_sun_event_on_polar_days_and_nights() {
        for day in ["2024-06-21", "2024-12-21"] {
            for kind in ["rise", "set"] {
                assert_eq!(
                    at(kind, day.parse().unwrap(), (78.22, 15.63), "Arctic/Longyearbyen"),
                    None,
                    "{kind} {day}"
                );
            }
        }
    }

    #[test]
    fn each_date_of_a_year_has_one_of_each_and_in_order() {
        let places = [
            ((40.7128, -74.006), "America/New_York"),
            ((1.87, -157.43), "Pacific/Kiritimati"),
            ((-43.95, -176.55), "Pacific/Chatham"),
            ((64.2008, -149.4937), "America/Anchorage"),
        ];
        for (place, zone) in places {
            let mut last = Timestamp::MIN;
            for date in Date::constant(2024, 1, 1)
                .series(jiff::Span::new().days(9))
                .take(40)
            {
                let rise = at("rise", date, place, zone).unwrap().timestamp();
                let set = at("set", date, place, zone).unwrap().timestamp();
                assert!(last < rise && rise < set, "{zone} {date}");
                last = set;
            }
        }
    }

    #[test]
    fn a_date_that_a_zone_skipped_has_no_sun() {
        let skipped = Date::constant(2011, 12, 30);
        assert_eq!(at("rise", skipped, (-13.83, -171.77), "Pacific/Apia"), None);
    }
}
