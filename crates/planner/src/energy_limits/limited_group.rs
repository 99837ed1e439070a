//! A group with a power limit at one instant.

use jiff::SignedDuration;

use super::{Member, PowerLimit, loads::Loads};
use crate::{
    Now, OutletPath, Steady,
    rules::{Group, Interlock},
    units::MilliWatts,
};

/// The shortest time to wait for a member that may be on again, and for a reading of its meter: meters are polled.
const SHORTEST_WAIT: SignedDuration = SignedDuration::from_mins(1);

/// A group with a power limit at one instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitedGroup<'a> {
    pub(super) limit: PowerLimit,
    pub(super) group: &'a Group,
    /// In the order of the group.
    pub(super) members: &'a [(OutletPath, Member)],
    pub(super) loads: &'a Loads,
    pub(super) now: Now,
}

impl LimitedGroup<'_> {
    /// What a member draws, or drew when it was last on, in mW; `None` if that is not known.
    pub(super) fn draw(&self, outlet: &OutletPath) -> Option<MilliWatts> {
        self.loads.draw(outlet, self.now)
    }

    /// The power of several members with one more, in mW. Of an interlocked group one is on at a time.
    pub(super) fn together(&self, others: MilliWatts, one: MilliWatts) -> MilliWatts {
        match self.group.interlock {
            Interlock::Free => others.plus(one),
            Interlock::OneOn => others.max(one),
        }
    }

    /// How long to wait for a member that may be on again, and for a reading of its meter.
    pub(super) fn longest_wait(&self) -> SignedDuration {
        self.limit.min_off.length().max(SHORTEST_WAIT)
    }

    /// Whether an instant is so long ago that a member that was shed then was off for long enough.
    pub(super) fn was_off_long_enough(&self, since: Steady) -> bool {
        self.now.steady.elapsed_since(since) >= self.limit.min_off.length()
    }

    /// Whether [`Self::longest_wait`] is over.
    pub(super) fn waited_long_enough(&self, since: Steady) -> bool {
        self.now.steady.elapsed_since(since) >= self.longest_wait()
    }
}
