//! Where the outlets are: for the sun, and for local time.

use jiff::tz::TimeZone;

use super::holidays::Holidays;

/// A place on Earth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

/// Why two numbers are no place.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CoordinatesError {
    /// Outside -90..=90, or not a number.
    #[error("latitude {0} is not between -90 and 90")]
    Latitude(f64),
    /// Outside -180..=180, or not a number.
    #[error("longitude {0} is not between -180 and 180")]
    Longitude(f64),
}

impl Coordinates {
    /// A place by its latitude (-90..=90, north is positive) and longitude (-180..=180, east is positive),
    /// in degrees.
    ///
    /// # Errors
    /// A number outside its range.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, CoordinatesError> {
        if !(-90.0..=90.0).contains(&latitude) {
            return Err(CoordinatesError::Latitude(latitude));
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return Err(CoordinatesError::Longitude(longitude));
        }
        Ok(Self { latitude, longitude })
    }

    /// Degrees, north is positive.
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees, east is positive.
    pub fn longitude(self) -> f64 {
        self.longitude
    }
}

/// The place, the time zone and the calendar that schedules are read in.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// The place. Without one no sun edge can be computed: each takes its fallback.
    pub coordinates: Option<Coordinates>,
    /// The zone of every clock time and weekday.
    pub zone: TimeZone,
    /// Its holidays and its weekend.
    pub holidays: Holidays,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_on_earth() {
        assert!(Coordinates::new(90.0, -180.0).is_ok());
        assert_eq!(Coordinates::new(90.1, 0.0), Err(CoordinatesError::Latitude(90.1)));
        assert_eq!(
            Coordinates::new(0.0, -180.5),
            Err(CoordinatesError::Longitude(-180.5))
        );
        assert!(Coordinates::new(f64::NAN, 0.0).is_err());
        assert!(Coordinates::new(0.0, f64::INFINITY).is_err());
    }
}
