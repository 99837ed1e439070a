//! What a link needs to know, and how that reads to the MQTT client.

use std::{fmt, net::Ipv6Addr, path::PathBuf, time::Duration};

use bytes::Bytes;
use rumqttc::{LastWill, MqttOptions, NetworkOptions, QoS, TlsConfiguration};

use super::{Filter, Topic, tls, topic::TEXT_MAX};

/// Packets up to this size pass in both directions, in bytes. The discovery of a strip alone is 22 kB, and
/// the client's own limit of 10 KiB would end in endless reconnects.
pub(super) const PACKET_MAX: usize = 1 << 20;
/// The client gives packet ids from a ring of this size. Far above the credit, so that an id comes round
/// only when an acknowledgement is long overdue.
const PACKET_IDS: u16 = 1024;
/// For name, TCP, TLS and CONNACK together, and for each flush; in seconds.
pub(super) const CONNECT_TIMEOUT: u64 = 5;

/// Whom to connect to, as whom, and what the broker shall know from the start.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Name or address of the broker.
    pub host: String,
    /// Its port; 1883 is usual for TCP, 8883 for TLS.
    pub port: u16,
    /// Under which name. Of two clients with one id the broker throws the older one out.
    pub client_id: String,
    /// For brokers that ask for it.
    pub login: Option<Login>,
    /// A silent connection is probed this often, and given up after twice that. Whole seconds, 1 to 65,535.
    pub keep_alive: Duration,
    /// What the broker publishes when the link breaks.
    pub will: Will,
    /// Subscribed to at QoS 1 on every connection, before anything is published.
    pub subscriptions: Vec<Filter>,
    /// How the bytes travel.
    pub transport: Transport,
}

/// User name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// Empty if the broker wants none.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &format_args!("***"))
            .finish()
    }
}

/// The last will: retained, QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Also the topic of the farewell.
    pub topic: Topic,
    /// At most 65,535 bytes.
    pub payload: Bytes,
}

/// How the bytes travel to the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Transport {
    /// In the clear.
    #[default]
    Tcp,
    /// Encrypted.
    Tls(Tls),
}

/// Whom to trust, and how to prove who we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who may have signed the broker's certificate.
    pub authorities: Authorities,
    /// For brokers that ask for one.
    pub client: Option<ClientCertificate>,
}

/// The certificate authorities that are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Authorities {
    /// Those of the operating system.
    #[default]
    System,
    /// Those in this PEM file, and no other.
    File(PathBuf),
}

/// A certificate and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
    pub key: PathBuf,
}

/// Options that no broker could be reached with.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A text that MQTT cannot carry.
    #[error("the {what} is longer than {TEXT_MAX} bytes or contains a NUL character")]
    Text {
        /// Which one.
        what: &'static str,
    },
    /// MQTT has no host or client id that is empty; brokers would make one up, another one each time.
    #[error("the {what} is empty")]
    Empty {
        /// Which one.
        what: &'static str,
    },
    /// MQTT counts whole seconds in 16 bits.
    #[error("a keep-alive of {0:?} is outside 1 to 65,535 seconds")]
    KeepAlive(Duration),
    /// The MQTT client takes such an address for TCP only.
    #[error(
        "TLS to the bare IPv6 address {0} is not possible; use a host name that the broker's certificate lists"
    )]
    Ipv6OverTls(Ipv6Addr),
    /// A PEM file cannot be read.
    #[error("cannot read {what} from {}: {why}", path.display())]
    Pem {
        /// Certificate authorities, certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificates and keys that do not fit, or no authorities in the operating system.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl LinkOptions {
    /// `host:port`, for people.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// The options in the client's words. A connection that only looks has no last will.
    pub(super) fn to_client(&self, will: Option<&Will>) -> Result<MqttOptions, LinkError> {
        let transport = match (&self.transport, self.host.parse::<Ipv6Addr>()) {
            (Transport::Tcp, _) => rumqttc::Transport::Tcp,
            (Transport::Tls(_), Ok(address)) => return Err(LinkError::Ipv6OverTls(address)),
            (Transport::Tls(tls), Err(_)) => {
                rumqttc::Transport::Tls(TlsConfiguration::Rustls(tls::configure(tls)?))
            }
        };
        self.check()?;
        let mut client = MqttOptions::new(&self.client_id, bracketed(&self.host), self.port);
        if let Some(will) = will {
            client.set_last_will(LastWill::new(
                will.topic.as_str(),
                will.payload.clone(),
                QoS::AtLeastOnce,
                true,
            ));
        }
        client
            .set_transport(transport)
            .set_clean_session(true)
            .set_keep_alive(self.keep_alive)
            .set_inflight(PACKET_IDS)
            .set_max_packet_size(PACKET_MAX, PACKET_MAX);
        if let Some(login) = &self.login {
            client.set_credentials(&login.username, &login.password);
        }
        Ok(client)
    }

    fn check(&self) -> Result<(), LinkError> {
        for (what, text) in [("broker's host", &self.host), ("client id", &self.client_id)] {
            if text.is_empty() {
                return Err(LinkError::Empty { what });
            }
            check_text(what, text)?;
        }
        if let Some(login) = &self.login {
            check_text("user name", &login.username)?;
            check_text("password", &login.password)?;
        }
        if self.will.payload.len() > TEXT_MAX {
            return Err(LinkError::Text { what: "last will" });
        }
        let seconds = self.keep_alive.as_secs();
        if self.keep_alive.subsec_nanos() != 0 || !(1..=u64::from(u16::MAX)).contains(&seconds) {
            return Err(LinkError::KeepAlive(self.keep_alive));
        }
        Ok(())
    }
}

/// The client's network options.
pub(super) fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT);
    network
}

/// The client joins host and port with a colon; an IPv6 address needs brackets for that.
fn bracketed(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

fn check_text(what: &'static str, text: &str) -> Result<(), LinkError> {
    if text.len() > TEXT_MAX || text.contains('\0') {
        return Err(LinkError::Text { what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> LinkOptions {
        LinkOptions {
            host: "localhost".into(),
            port: 1883,
            client_id: "test".into(),
            login: Some(Login {
                username: "user".into(),
                password: "hunter2".into(),
            }),
            keep_alive: Duration::from_secs(15),
            will: Will {
                topic: "t".parse().unwrap(),
                payload: Bytes::from_static(b"offline"),
            },
            subscriptions: Vec::new(),
            transport: Transport::Tcp,
        }
    }

    #[test]
    fn what_would_make_the_client_panic_or_lie_is_refused() {
        let broken = |change: fn(&mut LinkOptions)| {
            let mut options = options();
            change(&mut options);
            options.to_client(None).err().unwrap().to_string()
        };
        assert!(broken(|options| options.client_id.clear()).contains("client id is empty"));
        assert!(broken(|options| options.host.clear()).contains("host is empty"));
        assert!(broken(|options| options.keep_alive = Duration::from_millis(900)).contains("900ms"));
        assert!(broken(|options| options.keep_alive = Duration::from_millis(1500)).contains("1.5s"));
        assert!(broken(|options| options.keep_alive = Duration::from_secs(65_536)).contains("65536s"));
        assert!(broken(|options| options.client_id = "a\0".into()).contains("NUL"));
        assert!(
            broken(|options| options.will.payload = vec![b'x'; TEXT_MAX + 1].into()).contains("last will")
        );
        let ipv6 = |options: &mut LinkOptions| {
            options.host = "::1".into();
            options.transport = Transport::Tls(Tls::default());
        };
        assert!(broken(ipv6).contains("IPv6"));
    }

    #[test]
    fn options_reach_the_client_and_the_password_no_text() {
        let options = options();
        let client = options.to_client(None).unwrap();
        assert_eq!(client.credentials().unwrap().password, "hunter2");
        assert!(client.clean_session());
        assert_eq!(client.max_packet_size(), PACKET_MAX);
        assert!(!format!("{options:?}").contains("hunter2"));
        assert_eq!(bracketed("::1"), "[::1]");
        assert_eq!(bracketed("127.0.0.1"), "127.0.0.1");
    }
}
