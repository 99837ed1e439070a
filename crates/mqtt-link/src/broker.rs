//! Where a broker listens.

use std::{fmt, net::Ipv6Addr};

/// Where a broker listens. Printed as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// Usually 1883 for TCP, 8883 for TLS.
    pub port: u16,
}

impl Broker {
    /// The host as it stands before a colon and a port.
    pub(crate) fn bracketed_host(&self) -> String {
        match self.host.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => self.host.clone(),
        }
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.bracketed_host(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_has_brackets_before_its_port() {
        let shown = |host: &str| {
            let broker = Broker {
                host: host.to_owned(),
                port: 1883,
            };
            broker.to_string()
        };
        assert_eq!(shown("::1"), "[::1]:1883");
        assert_eq!(shown("127.0.0.1"), "127.0.0.1:1883");
        assert_eq!(shown("broker.lan"), "broker.lan:1883");
    }
}
