//! Groups of which at most one outlet may be on: which one that is. The newest wins.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::rules::{Group, Interlock, Rules};
use crate::{GroupId, OutletPath};

/// In each interlocked group, the outlet that is on or is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterlockOwners(BTreeMap<GroupId, OutletPath>);

/// Why an outlet holds its group's interlock. The greater one goes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InterlockClaim {
    /// It was on in its first report: since then, by its device's count, where the device reports it.
    Found(Option<Timestamp>),
    /// A command wants it on, or it went on. What came later has the greater number. Devices count whole seconds, so
    /// which of two went on first is known better from their first reports.
    Came(u64),
}

impl InterlockOwners {
    /// Finds who holds each interlock. Among equals it is the first in the settings.
    pub fn find(rules: &Rules, claim: impl Fn(&OutletPath) -> Option<InterlockClaim>) -> Self {
        let holders = rules.groups.iter();
        let holders = holders.filter_map(|group| Some((group.id.clone(), holder(group, &claim)?)));
        Self(holders.collect())
    }

    /// Finds who holds the interlock of one group.
    pub fn find_in(group: Option<&Group>, claim: impl Fn(&OutletPath) -> Option<InterlockClaim>) -> Self {
        let holder = group.and_then(|group| Some((group.id.clone(), holder(group, &claim)?)));
        Self(holder.into_iter().collect())
    }

    /// Who holds the interlock of a group, if any does.
    pub fn of(&self, group: &GroupId) -> Option<&OutletPath> {
        self.0.get(group)
    }
}

fn holder(group: &Group, claim: &impl Fn(&OutletPath) -> Option<InterlockClaim>) -> Option<OutletPath> {
    if group.interlock != Interlock::OneOn {
        return None;
    }
    let claims = group.outlets.iter().filter_map(|path| Some((path, claim(path)?)));
    // The last of equal maxima is taken, so the order is turned round.
    let (holder, _) = claims.rev().max_by_key(|(_, claim)| *claim)?;
    Some(holder.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Site, group, outlet};

    fn holder(claims: [Option<InterlockClaim>; 2], interlock: Interlock) -> Option<OutletPath> {
        let mut group = group(Vec::new());
        group.interlock = interlock;
        let id = group.id.clone();
        let site = Site::new(group, "UTC");
        let [first, second] = claims;
        let claim = |path: &OutletPath| if *path == outlet(1) { first } else { second };
        InterlockOwners::find(&site.rules, claim).of(&id).cloned()
    }

    #[test]
    fn rule_17_the_newest_wins() {
        let on = |second| Some(InterlockClaim::Found(Timestamp::from_second(second).ok()));
        let came = |number| Some(InterlockClaim::Came(number));
        for (claims, expected) in [
            ([None, None], None),
            ([on(5), None], Some(outlet(1))),
            ([on(5), on(6)], Some(outlet(2))),
            ([on(6), on(5)], Some(outlet(1))),
            ([on(5), on(5)], Some(outlet(1))),
            ([Some(InterlockClaim::Found(None)), on(1)], Some(outlet(2))),
            ([on(5), came(1)], Some(outlet(2))),
            ([came(7), came(3)], Some(outlet(1))),
        ] {
            assert_eq!(holder(claims, Interlock::OneOn), expected, "{claims:?}");
        }
        assert_eq!(holder([on(5), on(6)], Interlock::Free), None);
    }
}
