//! Where a device is reached.

use std::{convert::Infallible, str::FromStr};

/// Host and ports of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    http_port: u16,
    xor_port: u16,
}

/// Where SMART devices and newer IOT devices serve HTTP.
const HTTP_PORT: u16 = 80;
/// Where IOT devices take XOR frames.
const XOR_PORT: u16 = 9999;

impl Endpoint {
    /// A device on the usual ports: 80 for HTTP, 9999 for XOR.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            http_port: HTTP_PORT,
            xor_port: XOR_PORT,
        }
    }

    /// Another port for HTTP.
    #[must_use]
    pub fn with_http_port(self, http_port: u16) -> Self {
        Self { http_port, ..self }
    }

    /// Another port for XOR.
    #[must_use]
    pub fn with_xor_port(self, xor_port: u16) -> Self {
        Self { xor_port, ..self }
    }

    /// A name or an address; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn http_port(&self) -> u16 {
        self.http_port
    }

    pub(crate) fn xor_port(&self) -> u16 {
        self.xor_port
    }
}

/// Reads `host` or `host:port`, where the port is that of HTTP and of XOR: a device serves one of them there. IPv6 with a
/// port needs brackets.
impl FromStr for Endpoint {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
        // The colons of a bare IPv6 address separate no port.
        let named = text
            .rsplit_once(':')
            .filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
            .and_then(|(host, port)| Some((host, port.parse().ok()?)));
        Ok(match named {
            Some((host, port)) => Self::new(bare(host)).with_http_port(port).with_xor_port(port),
            None => Self::new(bare(text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_its_port_are_read() {
        for (text, host, port) in [
            ("192.0.2.7", "192.0.2.7", 80),
            ("192.0.2.7:8080", "192.0.2.7", 8080),
            ("plug.lan:81", "plug.lan", 81),
            ("fe80::1", "fe80::1", 80),
            ("[fe80::1]", "fe80::1", 80),
            ("[fe80::1]:81", "fe80::1", 81),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host(), endpoint.http_port()), (host, port), "{text}");
            let xor_port = if port == 80 { 9999 } else { port };
            assert_eq!(endpoint.xor_port(), xor_port);
        }
    }
}
