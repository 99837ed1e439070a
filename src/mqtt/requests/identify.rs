//! Which topic belongs to a name: people know the name in the Tapo app, commands need a path.

use serde::Serialize;

use crate::{
    domain::{
        report::{DeviceReport, Outlet},
        scheduling::RequestError,
    },
    mqtt::decode::{Fields, PayloadError, Shown},
};
use planner::OutletPath;

/// What has a name and a topic of its own.
#[derive(Debug, Serialize)]
pub(in crate::mqtt) struct Named<'a> {
    path: OutletPath,
    name: Option<&'a str>,
    nickname: Option<&'a str>,
    model: Option<&'a str>,
    mac: Option<&'a str>,
    address: &'a str,
    /// `None` is the device itself.
    position: Option<u8>,
}

impl Named<'_> {
    /// Case does not count.
    fn is_called(&self, name: &str) -> bool {
        let wanted = name.trim().to_lowercase();
        let names = [self.name, self.nickname].into_iter().flatten();
        names.map(str::to_lowercase).any(|known| known == wanted)
    }
}

pub(super) fn read_name(fields: &mut Fields) -> Result<Option<String>, PayloadError> {
    fields.take_text("name", "the name of a device or an outlet")
}

/// Those of that name, or all.
///
/// # Errors
/// Nothing has that name.
pub(in crate::mqtt) fn identify<'a>(
    reports: impl Iterator<Item = &'a DeviceReport>,
    name: Option<&str>,
) -> Result<Vec<Named<'a>>, RequestError> {
    let mut found: Vec<_> = reports.flat_map(named).collect();
    if let Some(name) = name {
        found.retain(|named| named.is_called(name));
        if found.is_empty() {
            return Err(RequestError::UnknownName(Shown::text(name).to_string()));
        }
    }
    Ok(found)
}

/// A device, and the outlets that it has beside itself.
fn named(report: &DeviceReport) -> Vec<Named<'_>> {
    let outlets = report.outlets.iter().filter_map(|outlet| {
        let key = outlet.key.clone()?;
        Some((OutletPath::outlet(report.id.clone(), key), outlet))
    });
    let device = of(report, OutletPath::device(report.id.clone()), None);
    let outlets = outlets.map(|(path, outlet)| of(report, path, Some(outlet)));
    std::iter::once(device).chain(outlets).collect()
}

fn of<'a>(report: &'a DeviceReport, path: OutletPath, outlet: Option<&'a Outlet>) -> Named<'a> {
    let identity = report.identity.as_deref();
    Named {
        path,
        name: outlet.map_or(report.name.as_deref(), |outlet| outlet.name.as_deref()),
        nickname: identity
            .filter(|_| outlet.is_none())
            .and_then(|identity| identity.nickname.as_deref()),
        model: identity.map(|identity| identity.model.as_str()),
        mac: identity.and_then(|identity| identity.mac.as_deref()),
        address: &report.address,
        position: outlet.map(|outlet| outlet.position),
    }
}
