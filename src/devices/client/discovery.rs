//! Discovery on UDP 20002: a 16-byte header and JSON, both ways. Old Kasa devices are asked on UDP 9999.
//!
//! The `tapo` crate has a discovery too, but it makes an RSA key pair for every query: up to a second of CPU time, once
//! for each unreachable device. Devices encrypt a part of their answer with that key. This module does not read that
//! part, so one key for all queries is enough and its private half is not needed.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    net::UdpSocket,
    select,
    time::{Instant, sleep_until, timeout_at},
};

use super::readings::line;
use crate::domain::{
    devices::{ClientChoice, Credentials, DeviceConfig},
    mac::mac,
};

/// How long a search or a wake-up probe listens. Devices answer within milliseconds, busy ones later.
pub(in crate::devices) const LISTEN: Duration = Duration::from_secs(1);

/// The protocol of old Kasa devices.
const XOR: &str = "XOR";
/// Where devices listen for queries.
const PORT: u16 = 20002;
/// Where old ones do.
const OLD_PORT: u16 = 9999;
/// Answers have about 1 kB, that of an old strip 2 kB.
const LARGEST: usize = 16 * 1024;
/// Version, type, operation (2), length (2), flags, padding, serial (4), checksum (4).
const HEADER: usize = 16;
const CHECKSUM: std::ops::Range<usize> = 12..16;
/// Stands in the place of the checksum while it is computed.
const CHECKSUM_SEED: u32 = 0x5a6b_7c8d;
/// The public half of a key pair whose private half was deleted.
const PUBLIC_KEY: &str = "-----BEGIN RSA PUBLIC KEY-----
MIGJAoGBAMMk1KrzyTFuhwF5W2qiL0ZCTNEitGP0SMNh2lRD9og+NIGVotoYH4H8
aa9Ru2S2JeS1cd7+7h70Ga7Hz91gctu0H72m0H8pX4syt533M8hhqzyonnilib1j
koOqx3b7G+/f/67TkraP4n8Xp8yAsYz/mhKCnGCSq4mAz8PNRo4dAgMBAAE=
-----END RSA PUBLIC KEY-----
";

/// A device that answered on UDP 20002.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// Where it answered from.
    pub ip: IpAddr,
    /// The announced model, with its region: `P110(UK)`.
    pub model: Option<String>,
    /// Lower case with colons.
    pub mac: Option<String>,
    /// The announced login protocol: `KLAP`, `TPAP`, `AES`.
    pub protocol: Option<String>,
    /// The port of its web server, if it is announced.
    pub http_port: Option<u16>,
    /// The announced type: `SMART.TAPOPLUG`, `SMART.KASAPLUG`...
    pub device_type: Option<String>,
    /// The announced version of the AES login, which decides in which form it takes the password.
    pub login_version: Option<u64>,
    /// Whether it speaks HTTPS only, as cameras and the hubs H200 and H500 do.
    pub is_camera_hub: bool,
    /// Whether it is not set up in the app yet.
    pub factory_default: bool,
}

impl Discovered {
    /// `ip`, with the port unless it is 80.
    pub fn address(&self) -> String {
        match self.http_port {
            Some(port) if port != 80 => SocketAddr::new(self.ip, port).to_string(),
            _ => self.ip.to_string(),
        }
    }

    /// Why the bridge cannot use it, and what to do.
    pub fn obstacle(&self) -> Option<&'static str> {
        let unsupported = self.unsupported();
        if unsupported.is_some() {
            unsupported
        } else if self.factory_default {
            Some("not set up yet; add the device in the Tapo app first")
        } else {
            None
        }
    }

    /// Why it is of a kind that the bridge does not support.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        let kind = self.device_type.as_deref().unwrap_or("PLUG");
        let is_light = kind.contains("BULB") && !kind.starts_with("IOT.");
        if kind.contains("HUB") && self.is_camera_hub {
            Some("a hub that speaks the protocol of cameras; H100 and KH100 are supported")
        } else if !is_light && !["PLUG", "SWITCH", "HUB"].iter().any(|known| kind.contains(known)) {
            Some("not a plug, a power strip, a switch, a newer light or a hub; nothing else is supported")
        } else {
            None
        }
    }

    /// To log in to it with an account, under an id that means nothing. `None` if the bridge cannot use it, or if the
    /// login proves nothing. An answer comes from whatever is on the network: only a client that never shows the password
    /// logs in, so not over AES.
    pub fn with_account(&self, credentials: &Credentials) -> Option<DeviceConfig> {
        // Over XOR there is no login: any account would do.
        let shows_nothing = !matches!(self.protocol.as_deref(), Some(XOR | "AES"));
        if self.obstacle().is_some() || !shows_nothing {
            return None;
        }
        Some(DeviceConfig {
            client: ClientChoice::Tapo,
            credentials: Some(credentials.clone()),
            ..DeviceConfig::new("found".parse().ok()?, self.address())
        })
    }

    /// Which clients can serve it, by the names of the setting `client`; empty if none.
    pub fn clients(&self) -> &'static [&'static str] {
        let is_old = |kind: &str| kind.starts_with("IOT.");
        if self.obstacle().is_some() {
            &[]
        } else if self.protocol.as_deref() == Some("AES") || self.device_type.as_deref().is_some_and(is_old) {
            &["own"]
        } else {
            &["tapo", "own"]
        }
    }

    /// What an old Kasa device says of itself.
    pub(super) fn of_old(ip: IpAddr, sysinfo: &Value) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| sysinfo.get(name)?.as_str());
        Self {
            ip,
            model: first(&["model"]).and_then(line),
            mac: first(&["mac", "mic_mac", "ethernet_mac"]).and_then(mac),
            protocol: Some(XOR.to_owned()),
            login_version: None,
            http_port: None,
            device_type: first(&["type", "mic_type"]).and_then(line),
            is_camera_hub: false,
            factory_default: false,
        }
    }

    pub(in crate::devices) fn of(ip: IpAddr, message: &Value) -> Self {
        let text = |pointer| message.pointer(pointer).and_then(Value::as_str).and_then(line);
        let port = message
            .pointer("/result/mgt_encrypt_schm/http_port")
            .and_then(Value::as_u64);
        Self {
            ip,
            model: text("/result/device_model"),
            mac: text("/result/mac").as_deref().and_then(mac),
            protocol: text("/result/mgt_encrypt_schm/encrypt_type"),
            login_version: message
                .pointer("/result/mgt_encrypt_schm/lv")
                .and_then(Value::as_u64),
            http_port: port.and_then(|port| u16::try_from(port).ok()),
            device_type: text("/result/device_type"),
            is_camera_hub: message.pointer("/result/mgt_encrypt_schm/is_support_https")
                == Some(&Value::Bool(true)),
            factory_default: message.pointer("/result/factory_default") == Some(&Value::Bool(true)),
        }
    }
}

/// Queries broadcast or single addresses for `wait`, also for old Kasa devices. Ends earlier once every address answered,
/// which a broadcast address never does. Some plugs open their web server only after a query (seen on P110 1.4.6), so this
/// also wakes a device that refuses connections. A network without a route has no devices.
pub(super) async fn discover(targets: &[IpAddr], wait: Duration) -> Vec<Discovered> {
    // Old ones have no IPv6.
    let v4: Vec<IpAddr> = targets.iter().copied().filter(IpAddr::is_ipv4).collect();
    let mut newer = pin!(Query::newer().ask(targets, wait));
    let mut old = pin!(Query::old().ask(&v4, wait));
    let is_all = |found: &HashMap<_, _>| targets.iter().all(|target| found.contains_key(target));
    let (first, other) = select! {
        newer = &mut newer => (newer, None),
        old = &mut old => (old, Some(newer)),
    };
    let mut found = first;
    if !is_all(&found) {
        let others = match other {
            Some(newer) => newer.await,
            None => old.await,
        };
        // What is said there says more.
        found.extend(
            others
                .into_iter()
                .filter(|(ip, _)| !found.contains_key(ip))
                .collect::<Vec<_>>(),
        );
    }
    found.into_values().collect()
}

/// A query, and what is made of an answer.
struct Query {
    port: u16,
    datagram: Vec<u8>,
    read: fn(IpAddr, &[u8]) -> Option<Discovered>,
}

impl Query {
    fn newer() -> Self {
        Self {
            port: PORT,
            datagram: query(rand::random()),
            read: |ip, answer| {
                let message = answer.get(HEADER..).map(serde_json::from_slice);
                Some(Discovered::of(
                    ip,
                    &message.and_then(Result::ok).unwrap_or_default(),
                ))
            },
        }
    }

    /// Old Kasa devices answer with what they are.
    fn old() -> Self {
        Self {
            port: OLD_PORT,
            datagram: tplink::sysinfo_query(),
            read: |ip, answer| Some(Discovered::of_old(ip, &tplink::sysinfo_answer(answer)?)),
        }
    }

    async fn ask(self, targets: &[IpAddr], wait: Duration) -> HashMap<IpAddr, Discovered> {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = targets.iter().partition(|target| target.is_ipv4());
        let mut found = HashMap::new();
        for (any, targets) in [
            (IpAddr::from(Ipv4Addr::UNSPECIFIED), v4),
            (Ipv6Addr::UNSPECIFIED.into(), v6),
        ] {
            let _unreachable = self.ask_network(any, &targets, wait, &mut found).await;
        }
        found
    }

    async fn ask_network(
        &self,
        any: IpAddr,
        targets: &[IpAddr],
        wait: Duration,
        found: &mut HashMap<IpAddr, Discovered>,
    ) -> io::Result<()> {
        if targets.is_empty() {
            return Ok(());
        }
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.set_broadcast(true)?;
        let end = Instant::now() + wait;
        let mut buffer = vec![0; LARGEST];
        // A datagram may be lost: the query is sent twice, and in a long wait once a second.
        let pause = (wait / 2).min(LISTEN);
        while Instant::now() < end {
            for target in targets {
                // An address without a route must not prevent the queries to the others.
                let _unreachable = socket.send_to(&self.datagram, (*target, self.port)).await;
            }
            let round = (Instant::now() + pause).min(end);
            while let Ok(received) = timeout_at(round, socket.recv_from(&mut buffer)).await {
                let Ok((length, from)) = received else {
                    // The host reports that no port is open there. One may be open after the next query.
                    sleep_until(round).await;
                    break;
                };
                let answer = buffer.get(..length).unwrap_or_default();
                found.extend((self.read)(from.ip(), answer).map(|device| (from.ip(), device)));
                if targets.iter().all(|target| found.contains_key(target)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A query as the app sends it.
fn query(serial: [u8; 4]) -> Vec<u8> {
    let payload = json!({ "params": { "rsa_key": PUBLIC_KEY } }).to_string();
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut query = vec![2, 0, 0, 1];
    query.extend(length.to_be_bytes());
    query.extend([17, 0]);
    query.extend(serial);
    query.extend(CHECKSUM_SEED.to_be_bytes());
    query.extend(payload.as_bytes());
    let checksum = crc32(&query).to_be_bytes();
    for (byte, right) in query.iter_mut().skip(CHECKSUM.start).zip(checksum) {
        *byte = right;
    }
    query
}

/// CRC-32 as Ethernet has it (reflected, polynomial `0x04C11DB7`). Bit by bit: a query has 300 bytes.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carry = if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            (crc >> 1) ^ carry
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_ethernet() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_crate_serves_what_it_speaks() {
        let clients = |kind: &str, protocol: &str| {
            let message =
                json!({"result": {"device_type": kind, "mgt_encrypt_schm": {"encrypt_type": protocol}}});
            Discovered::of(IpAddr::from([192, 168, 1, 5]), &message).clients()
        };
        assert_eq!(clients("SMART.TAPOPLUG", "KLAP"), ["tapo", "own"]);
        assert_eq!(clients("SMART.KASASWITCH", "TPAP"), ["tapo", "own"]);
        assert_eq!(clients("SMART.TAPOPLUG", "AES"), ["own"]);
        assert_eq!(clients("IOT.SMARTPLUGSWITCH", "KLAP"), ["own"]);
        let none: [&str; 0] = [];
        assert_eq!(clients("IOT.SMARTBULB", "KLAP"), none);
        assert_eq!(clients("SMART.IPCAMERA", "AES"), none);
    }

    #[test]
    fn a_password_is_shown_to_nothing_that_only_answers() {
        let account = Credentials {
            username: "a@example.com".to_owned(),
            password: crate::system::Secret::new("b".to_owned()),
        };
        let login = |protocol: &str| {
            let message = json!({"result": {"device_type": "SMART.TAPOPLUG",
                "mgt_encrypt_schm": {"encrypt_type": protocol}}});
            let found = Discovered::of(IpAddr::from([192, 168, 1, 5]), &message);
            found.with_account(&account).map(|config| config.client)
        };
        assert_eq!(login("KLAP"), Some(ClientChoice::Tapo), "it has no AES");
        assert_eq!(login("TPAP"), Some(ClientChoice::Tapo));
        assert_eq!(login("AES"), None);
    }

    #[test]
    fn an_announcement_is_read_leniently() {
        let ip = IpAddr::from([192, 168, 1, 5]);
        let message =
            json!({"result": {"mac": "AA-BB-CC-00-11-22", "mgt_encrypt_schm": {"http_port": 8080}}});
        let found = Discovered::of(ip, &message);
        assert_eq!(
            (found.mac.as_deref(), found.address().as_str()),
            (Some("aa:bb:cc:00:11:22"), "192.168.1.5:8080")
        );
        let nothing = Discovered::of(ip, &json!([1]));
        assert_eq!(
            (nothing.mac.clone(), nothing.address().as_str()),
            (None, "192.168.1.5")
        );
    }
}
