//! Where a device answers.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use super::{
    parse::host_of,
    reader::{Expected, Leaf},
};

/// A device's address as it is configured: `192.168.1.50`, `plug.lan:8080`, `[fd00::5]:80`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// In lower case, or an IP address in its canonical form without brackets.
    host: String,
    port: Option<u16>,
}

/// A text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host, host:port or [v6]:port, such as 192.168.1.50 or plug.lan:80")]
pub struct NotAnAddress;

impl Address {
    /// Tapo devices listen here.
    pub const DEFAULT_PORT: u16 = 80;

    /// The configured port, else [`Address::DEFAULT_PORT`].
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(Self::DEFAULT_PORT)
    }

    /// Whether both lead to the same place, as far as the text shows.
    pub fn same_place(&self, other: &Self) -> bool {
        self.host == other.host && self.port() == other.port()
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (host, port) = host_and_port(text).ok_or(NotAnAddress)?;
        Ok(Self { host, port })
    }
}

/// The canonical form of a host without brackets, and the port behind it.
pub(super) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if missing_brackets(text).is_some() {
        return None;
    }
    let bare_v6 = text.parse::<Ipv6Addr>().is_ok();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bare_v6 && !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(port) => Some(port_of(port)?),
        None => None,
    };
    // `fd00::5:80` with a port needs its brackets.
    if port.is_some() && host.contains(':') && !host.starts_with('[') {
        return None;
    }
    let host = host_of(host).filter(|host| reachable(host))?;
    Some((host, port))
}

/// What to write instead of an IPv6 address whose last group may be a port: `fd00::5:80` is both.
pub(super) fn missing_brackets(text: &str) -> Option<Expected> {
    let (host, port) = text.rsplit_once(':')?;
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let is_ambiguous = is_v6(text) && is_v6(host) && port_of(port).is_some();
    is_ambiguous.then(|| format!("brackets: \"[{host}]:{port}\" with a port, \"[{text}]\" without one"))
}

fn port_of(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// Not an address that no single device can have.
fn reachable(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        Ok(IpAddr::V6(ip)) => !ip.is_unspecified() && !ip.is_multicast(),
        Err(_) => true,
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Parses a device's address.
pub(super) fn address(leaf: &Leaf<'_>) -> Result<Address, Expected> {
    let text = leaf.text().ok_or_else(|| NotAnAddress.to_string())?;
    text.parse()
        .map_err(|error: NotAnAddress| missing_brackets(text).unwrap_or_else(|| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_understood() {
        let cases = [
            ("192.168.1.50", "192.168.1.50", 80),
            ("192.168.1.50:8080", "192.168.1.50:8080", 8080),
            ("Plug.Lan:9", "plug.lan:9", 9),
            ("::1", "[::1]", 80),
            ("[FD00::5]", "[fd00::5]", 80),
            ("[fd00::5]:81", "[fd00::5]:81", 81),
            ("127.0.0.1:80", "127.0.0.1:80", 80),
        ];
        for (text, shown, port) in cases {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.port()), (shown, port));
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn an_ipv6_address_that_may_end_in_a_port_needs_brackets() {
        let expected = missing_brackets("fd00::5:1884").unwrap();
        assert!(
            expected.contains("[fd00::5]:1884") && expected.contains("[fd00::5:1884]"),
            "{expected}"
        );
        for clear in [
            "fd00::5",
            "2001:db8:0:0:0:0:0:1",
            "fd00::5:abc",
            "[fd00::5]:80",
            "plug:80",
            "::1",
        ] {
            assert_eq!(missing_brackets(clear), None, "{clear}");
        }
    }

    #[test]
    fn what_no_device_can_have_is_refused() {
        let bad = [
            "",
            ":",
            ":80",
            "plug:",
            "plug:0",
            "plug:65536",
            "plug:+80",
            "plug:x",
            "http://plug",
            "plug/path",
            "a:b:80",
            "[::1",
            "::1]:80",
            "[plug]:80",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "[::]",
            "ff02::1",
            "192.168.1.256",
            "a b",
            "fe80::1%eth0",
            "fd00::5:80",
        ];
        for text in bad {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress), "{text:?}");
        }
    }

    #[test]
    fn the_default_port_is_the_same_place() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        assert!(address("PLUG").same_place(&address("plug:80")));
        assert!(address("::1").same_place(&address("[0:0::1]:80")));
        assert!(!address("plug").same_place(&address("plug:81")));
    }
}
