//! When each outlet must be off, even without the bridge. Pure.

use std::collections::BTreeMap;

use planner::{OutletKey, Steady};

/// When one outlet must be off, even without the bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum WantedEnd {
    /// The scheduler did not send it yet. What an earlier run armed stays.
    #[default]
    Unknown,
    /// It may stay on.
    Never,
    /// By then.
    By(Steady),
}

impl From<Option<Steady>> for WantedEnd {
    fn from(end: Option<Steady>) -> Self {
        end.map_or(Self::Never, Self::By)
    }
}

/// The wanted end of each outlet of a device.
#[derive(Debug, Clone, Default)]
pub(super) struct WantedEnds(BTreeMap<Option<OutletKey>, WantedEnd>);

impl WantedEnds {
    /// A new end of an outlet. `None` is a plug, or all outlets of a strip.
    pub(super) fn set(&mut self, outlet: Option<OutletKey>, end: WantedEnd) {
        if outlet.is_none() {
            self.0.clear();
        }
        self.0.insert(outlet, end);
    }

    /// The end of an outlet: its own, or that of the whole device.
    pub(super) fn of(&self, outlet: Option<&OutletKey>) -> WantedEnd {
        let own = self.0.get(&outlet.cloned());
        own.or_else(|| self.0.get(&None)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlet_has_its_own_end_or_that_of_the_device() {
        let by = |second| WantedEnd::By(Steady::at(jiff::Timestamp::from_second(second).unwrap()));
        let key: OutletKey = "1".parse().unwrap();
        let mut ends = WantedEnds::default();
        assert_eq!(ends.of(Some(&key)), WantedEnd::Unknown);
        ends.set(None, by(1));
        assert_eq!(ends.of(Some(&key)), by(1));
        ends.set(Some(key.clone()), WantedEnd::Never);
        assert_eq!((ends.of(Some(&key)), ends.of(None)), (WantedEnd::Never, by(1)));
        ends.set(None, by(2));
        assert_eq!(ends.of(Some(&key)), by(2));
    }
}
