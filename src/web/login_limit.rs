//! How often a password may be tried. Pure.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

/// Tries of an address within [`WINDOW`].
pub(super) const TRIES: u32 = 6;
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are counted at once. While as many try, no other may.
const ADDRESSES: usize = 64;

/// Counts the tries of each address.
#[derive(Debug, Default)]
pub(super) struct LoginLimit {
    tries: HashMap<IpAddr, (Instant, u32)>,
}

impl LoginLimit {
    /// Whether another try is allowed, which is not counted.
    pub(super) fn is_open(&mut self, address: IpAddr, now: Instant) -> bool {
        self.tries
            .retain(|_, (first, _)| now.duration_since(*first) < WINDOW);
        self.tries
            .get(&address)
            .map_or(self.tries.len() < ADDRESSES, |(_, tries)| *tries < TRIES)
    }

    /// Counts a try; returns whether it is allowed.
    pub(super) fn allows(&mut self, address: IpAddr, now: Instant) -> bool {
        let is_open = self.is_open(address, now);
        if is_open {
            self.tries.entry(address).or_insert((now, 0)).1 += 1;
        }
        is_open
    }

    /// The password was right.
    pub(super) fn forget(&mut self, address: IpAddr) {
        self.tries.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_six_tries_a_minute() {
        let (mut limit, now) = (LoginLimit::default(), Instant::now());
        let address = |last| IpAddr::from([192, 0, 2, last]);
        for _ in 0..TRIES {
            assert!(limit.allows(address(1), now));
        }
        assert!(!limit.allows(address(1), now));
        assert!(limit.allows(address(2), now));
        assert!(limit.allows(address(1), now + WINDOW));
        limit.forget(address(1));
        assert!(limit.allows(address(1), now + WINDOW));
    }

    #[test]
    fn many_addresses_together_get_no_more_memory() {
        let (mut limit, now) = (LoginLimit::default(), Instant::now());
        let allowed = (0..1000_u32).filter(|number| limit.allows(IpAddr::from(number.to_be_bytes()), now));
        assert_eq!(allowed.count(), ADDRESSES);
        assert!(limit.allows(IpAddr::from([9, 9, 9, 9]), now + WINDOW));
    }
}
