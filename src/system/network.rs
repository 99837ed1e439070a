//! An IPv4 network.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Most addresses that a search asks one by one, in all networks together.
pub const ADDRESSES_MAX: usize = 1024;

/// The shortest prefix of a network that may be named: it has [`ADDRESSES_MAX`] addresses.
const NAMED_PREFIX_MIN: u8 = 22;

/// An IPv4 network, such as `192.168.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    first: Ipv4Addr,
    prefix: u8,
}

/// A text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an IPv4 network of at most {ADDRESSES_MAX} addresses, such as \"192.168.1.0/24\"")]
pub struct NotANetwork;

impl Network {
    /// The network of an address.
    pub(super) fn of(address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            first: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)),
            prefix,
        }
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.first.to_bits()
    }

    /// How many addresses it has.
    pub fn size(self) -> usize {
        let size = u64::from(self.last() - self.first.to_bits()) + 1;
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// The addresses that devices may have.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let (first, last) = (self.first.to_bits(), self.last());
        // In a network of one or two addresses all are those of devices.
        let range = if self.prefix >= 31 {
            first..=last
        } else {
            first + 1..=last - 1
        };
        range.map(Ipv4Addr::from_bits)
    }

    /// The address of all its devices; `None` in a network that has none.
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        (self.prefix < 31).then(|| Ipv4Addr::from_bits(self.last()))
    }

    /// Whether it is the loopback.
    pub fn is_loopback(self) -> bool {
        self.first.is_loopback()
    }

    fn last(self) -> u32 {
        self.first.to_bits() | !mask(self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| NotANetwork)?;
        let prefix = prefix.parse().map_err(|_| NotANetwork)?;
        let no_device = address.is_multicast() || address.is_unspecified() || address.is_broadcast();
        if no_device || !(NAMED_PREFIX_MIN..=32).contains(&prefix) {
            return Err(NotANetwork);
        }
        Ok(Self::of(address, prefix))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_what_its_prefix_says() {
        let home = network("192.168.1.77/24");
        assert_eq!(home.to_string(), "192.168.1.0/24");
        assert_eq!(home.hosts().count(), 254);
        assert_eq!(home.broadcast(), Some([192, 168, 1, 255].into()));
        assert!(home.contains([192, 168, 1, 9].into()) && !home.contains([192, 168, 2, 9].into()));
        assert!(!home.is_loopback() && network("127.0.0.0/28").is_loopback());
        assert_eq!(network("10.0.0.0/22").size(), ADDRESSES_MAX);
    }

    #[test]
    fn one_address_is_a_network() {
        let one = network("10.1.2.3");
        assert_eq!(one.hosts().collect::<Vec<_>>(), [Ipv4Addr::from([10, 1, 2, 3])]);
        assert_eq!(one.broadcast(), None);
        assert_eq!(network("10.1.2.3/31").hosts().count(), 2);
    }

    #[test]
    fn what_is_no_network_or_too_large_is_refused() {
        for text in [
            "",
            "10.0.0.0/21",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "fd00::/64",
            "224.0.0.0/24",
            "0.0.0.0/24",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }
}
