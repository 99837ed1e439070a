//! Options of a link, and their conversion for the MQTT client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rumqttc::{LastWill, MqttOptions, NetworkOptions, QoS, TlsConfiguration};
use rustls::ClientConfig;

use crate::{
    Broker, Filter, LinkError, Login, Tls, Topic, prompt_stream::PromptStream, topic::MAX_STRING_LENGTH,
};

/// Maximum size of a packet in both directions, in bytes. The discovery payload of one device can have 22 kB, so the
/// client's default of 10 KiB would cause endless reconnects.
pub(crate) const MAX_PACKET_SIZE: usize = 1 << 20;
/// How errors call the host of a broker.
const BROKER_HOST: &str = "broker's host";
/// The client assigns packet ids from a ring of this size. Far above the in-flight window, so that an id is reused only
/// if an acknowledgement is long overdue.
const PACKET_IDS: u16 = 1024;
/// How many packets the client reads before it passes them on. Each may be of the largest size; by itself it takes up to 128.
const READ_BATCH: usize = 10;
/// For DNS, TCP, TLS and CONNACK together, and for each flush; in seconds.
pub(crate) const CONNECT_TIMEOUT: u64 = 5;

/// Addresses of the brokers, credentials, last will and subscriptions.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// The brokers, which share everything below, in the order in which they are tried. At least one.
    pub brokers: Vec<Broker>,
    /// The client id. If two clients use the same id, the broker disconnects the older one.
    pub client_id: String,
    /// For brokers that require a login.
    pub login: Option<Login>,
    /// The client pings an idle connection at this interval. The link drops one on which nothing, or no acknowledgement,
    /// comes for twice that. Whole seconds, 1 to 65,535.
    pub keep_alive: Duration,
    /// What the broker publishes if the connection is lost.
    pub will: Will,
    /// Filters that the link subscribes to at QoS 1 on every connection, before it publishes.
    pub subscriptions: Vec<Filter>,
    /// Further filters, which the link can do without. It gives them up when a message that is too large ended the
    /// connection twice soon after it subscribed.
    pub optional_subscriptions: Vec<Filter>,
    /// TCP or TLS.
    pub transport: Transport,
}

/// The last will: retained, QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Also the topic of the last message before DISCONNECT.
    pub topic: Topic,
    /// At most 65,535 bytes.
    pub payload: Bytes,
}

/// The transport to the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Transport {
    /// Unencrypted.
    #[default]
    Tcp,
    /// Encrypted.
    Tls(Tls),
}

impl LinkOptions {
    /// The options of the MQTT client for each broker. A probe has no last will.
    pub(crate) fn to_clients(&self, will: Option<&Will>) -> Result<Vec<(Broker, MqttOptions)>, LinkError> {
        self.validate()?;
        let tls = match &self.transport {
            Transport::Tcp => None,
            Transport::Tls(tls) => Some(tls.client_config()?),
        };
        let mut clients = Vec::new();
        for (position, broker) in self.brokers.iter().enumerate() {
            let id = match position {
                0 => self.client_id.clone(),
                _ => format!("{}-{}", self.client_id, position + 1),
            };
            clients.push((broker.clone(), self.to_client(id, broker, tls.clone(), will)));
        }
        Ok(clients)
    }

    /// The client has another id at each broker. A cluster that lost a node may still clean up what a client had there, under
    /// its id: RabbitMQ then deletes the subscriptions that it made at another node meanwhile, without a word.
    fn to_client(
        &self,
        id: String,
        broker: &Broker,
        tls: Option<Arc<ClientConfig>>,
        will: Option<&Will>,
    ) -> MqttOptions {
        let tls = tls.map(|tls| rumqttc::Transport::Tls(TlsConfiguration::Rustls(tls)));
        let mut client = MqttOptions::new(id, (broker.host.as_str(), broker.port));
        // The client joins host and port with a colon, also those of an IPv6 address.
        let address = broker.to_string();
        client.set_socket_connector(move |_, network| PromptStream::connect(address.clone(), network));
        if let Some(will) = will {
            client.set_last_will(LastWill::new(
                will.topic.as_str(),
                will.payload.clone(),
                QoS::AtLeastOnce,
                true,
            ));
        }
        client
            .set_transport(tls.unwrap_or(rumqttc::Transport::Tcp))
            .set_clean_session(true)
            .set_keep_alive(self.keep_alive_seconds())
            .set_inflight(PACKET_IDS)
            .set_read_batch_size(READ_BATCH)
            .set_max_packet_size(MAX_PACKET_SIZE, MAX_PACKET_SIZE);
        if let Some(login) = &self.login {
            client.set_credentials(&login.username, login.password.clone());
        }
        client
    }

    fn validate(&self) -> Result<(), LinkError> {
        if self.brokers.is_empty() {
            return Err(LinkError::Empty { what: BROKER_HOST });
        }
        let hosts = self.brokers.iter().map(|broker| (BROKER_HOST, &broker.host));
        for (what, text) in hosts.chain([("client id", &self.client_id)]) {
            if text.is_empty() {
                return Err(LinkError::Empty { what });
            }
            check_string(what, text)?;
        }
        if let Some(login) = &self.login {
            check_string("user name", &login.username)?;
            check_string("password", &login.password)?;
        }
        if self.will.payload.len() > MAX_STRING_LENGTH {
            return Err(LinkError::Text { what: "last will" });
        }
        if self.keep_alive_seconds() == 0
            || self.keep_alive != Duration::from_secs(self.keep_alive_seconds().into())
        {
            return Err(LinkError::KeepAlive(self.keep_alive));
        }
        Ok(())
    }

    fn keep_alive_seconds(&self) -> u16 {
        u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX)
    }
}

/// The client's network options.
pub(crate) fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT);
    network
}

fn check_string(what: &'static str, text: &str) -> Result<(), LinkError> {
    if text.len() > MAX_STRING_LENGTH || text.contains('\0') {
        return Err(LinkError::Text { what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rumqttc::ConnectAuth;

    use super::*;

    fn broker(host: &str) -> Broker {
        Broker {
            host: host.to_owned(),
            port: 1883,
        }
    }

    fn options() -> LinkOptions {
        LinkOptions {
            brokers: vec![broker("localhost")],
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
            optional_subscriptions: Vec::new(),
            transport: Transport::Tcp,
        }
    }

    #[test]
    fn options_that_the_client_cannot_use_are_rejected() {
        let broken = |change: fn(&mut LinkOptions)| {
            let mut options = options();
            change(&mut options);
            options.to_clients(None).err().unwrap().to_string()
        };
        assert!(broken(|options| options.client_id.clear()).contains("client id is empty"));
        assert!(broken(|options| options.brokers.clear()).contains("host is empty"));
        assert!(broken(|options| options.brokers.push(broker(""))).contains("host is empty"));
        assert!(broken(|options| options.keep_alive = Duration::from_millis(900)).contains("900ms"));
        assert!(broken(|options| options.keep_alive = Duration::from_millis(1500)).contains("1.5s"));
        assert!(broken(|options| options.keep_alive = Duration::from_secs(65_536)).contains("65536s"));
        assert!(broken(|options| options.client_id = "a\0".into()).contains("NUL"));
        assert!(
            broken(|options| options.will.payload = vec![b'x'; MAX_STRING_LENGTH + 1].into())
                .contains("last will")
        );
    }

    #[test]
    fn the_client_has_another_id_at_each_broker() {
        let mut options = options();
        options.brokers = ["a", "b", "c"].map(broker).into();
        let clients = options.to_clients(None).unwrap();
        let ids: Vec<_> = clients.iter().map(|(_, client)| client.client_id()).collect();
        assert_eq!(ids, ["test", "test-2", "test-3"]);
    }

    #[test]
    fn options_reach_the_client_and_debug_output_hides_the_password() {
        let options = options();
        let clients = options.to_clients(None).unwrap();
        let client = &clients[0].1;
        assert!(
            matches!(client.auth(), ConnectAuth::UsernamePassword { password, .. } if password == "hunter2")
        );
        assert!(client.clean_session());
        assert_eq!(client.max_packet_size(), MAX_PACKET_SIZE);
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
