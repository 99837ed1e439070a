//! A place as providers want it.

use planner::location::Coordinates;

/// Degrees with four decimals at most, which is 11 m: more than a forecast knows, and what MET Norway asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) latitude: f64,
    pub(super) longitude: f64,
}

impl From<Coordinates> for Place {
    fn from(place: Coordinates) -> Self {
        // Without a negative zero.
        let cut = |degrees: f64| (degrees * 1e4).trunc() / 1e4 + 0.0;
        Self {
            latitude: cut(place.latitude()),
            longitude: cut(place.longitude()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_four_decimals_at_most() {
        let place: Place = Coordinates::new(40.712_776, -74.005_974).unwrap().into();
        assert_eq!(
            format!("{},{}", place.latitude, place.longitude),
            "40.7127,-74.0059"
        );
        let place: Place = Coordinates::new(-0.000_01, 10.0).unwrap().into();
        assert_eq!(format!("{},{}", place.latitude, place.longitude), "0,10");
    }
}
