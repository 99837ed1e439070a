//! `[location]`: the sun and the clock on the wall.

use jiff::tz::TimeZone;

use super::{
    parse,
    reader::{Expected, Leaf, Read, Table},
};
use planner::{
    holidays::Holidays,
    location::{Coordinates, Location},
};

const ZONE_EXPECTED: &str = "a time zone such as \"Europe/Berlin\" or \"America/New_York\"";

/// Reads the root's `[location]`, without its calendar. Without a zone the machine's own counts; it must have one where there
/// are groups, because a schedule in the wrong zone is hours off.
pub(super) fn read(root: &mut Table<'_>) -> Read<Location> {
    let zone_matters = root.has("group");
    root.section("location", |table| {
        let coordinates = coordinates(table);
        let zone = table.optional("timezone", zone)?;
        let zone = match (zone, TimeZone::try_system()) {
            (Some(zone), _) | (None, Ok(zone)) => zone,
            (None, Err(_)) if zone_matters => return Err(table.problem("timezone", ZONE_EXPECTED)),
            (None, Err(_)) => TimeZone::UTC,
        };
        Ok(Location {
            coordinates: coordinates?,
            zone,
            holidays: Holidays::default(),
        })
    })
}

fn coordinates(table: &mut Table<'_>) -> Read<Option<Coordinates>> {
    let latitude = table.optional("latitude", parse::number(-90.0..=90.0));
    let longitude = table.optional("longitude", parse::number(-180.0..=180.0));
    match (latitude?, longitude?) {
        (Some(latitude), Some(longitude)) => match Coordinates::new(latitude, longitude) {
            Ok(coordinates) => Ok(Some(coordinates)),
            Err(error) => Err(table.invalid("latitude", format!("invalid coordinates: {error}"))),
        },
        (None, None) => Ok(None),
        (None, Some(_)) => Err(table.problem("latitude", "the latitude that goes with the longitude")),
        (Some(_), None) => Err(table.problem("longitude", "the longitude that goes with the latitude")),
    }
}

fn zone(leaf: &Leaf<'_>) -> Result<TimeZone, Expected> {
    let zone = leaf.text().and_then(|name| TimeZone::get(name).ok());
    zone.ok_or_else(|| ZONE_EXPECTED.to_owned())
}
