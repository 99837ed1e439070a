//! `[mqtt]`: the brokers and our place on them.

use std::{path::PathBuf, time::Duration};

use mqtt_link::{Authorities, Broker, ClientCertificate, LinkError, Tls};
use planner::Slug;
use serde_json::{Value, json};

use super::{
    address::{host_and_port, missing_brackets},
    credentials::{Files, password},
    layers::Layer,
    parse,
    reader::{Expected, Leaf, Read, Table},
    topic::topic,
};
use crate::{domain::topics::BaseTopic, system::Secret};

/// IANA's port for MQTT.
const PORT: u16 = 1883;
/// IANA's port for MQTT over TLS.
const TLS_PORT: u16 = 8883;
/// The most brokers of one list.
const BROKERS_MAX: usize = 8;
/// Longest client id, in bytes. Brokers must take 23 and in practice take far more.
const CLIENT_ID_MAX: usize = 128;

/// The brokers and our place on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// Whether there is a broker. Without one, the page is all that sends commands.
    pub enabled: bool,
    /// In the order in which they are tried. At least one.
    pub brokers: Vec<Broker>,
    /// What tells this bridge from those at other places, in everything that all of them share.
    pub site: Option<Slug>,
    /// What to log in with; `None` connects anonymously.
    pub login: Option<MqttLogin>,
    /// The first levels of every topic of ours.
    pub base_topic: BaseTopic,
    /// Stable and unique on the broker: two clients with one id throw each other out.
    pub client_id: String,
    /// Time between two signs of life on an idle link, 5 s to 1 h.
    pub keep_alive: Duration,
    /// `None` connects in plain text.
    pub tls: Option<Tls>,
}

/// How to log in to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttLogin {
    /// The user's name at the broker.
    pub username: String,
    /// The password; brokers may know users without one.
    pub password: Option<Secret>,
}

impl Mqtt {
    /// The brokers as a text.
    pub fn shown_brokers(&self) -> String {
        let brokers: Vec<_> = self.brokers.iter().map(Broker::to_string).collect();
        brokers.join(", ")
    }

    pub(super) fn digest(&self) -> Value {
        if !self.enabled {
            return json!({
                "enabled": false,
                "site": self.site.as_ref().map(Slug::as_str),
                "base_topic": self.base_topic,
            });
        }
        json!({
            "enabled": true,
            "brokers": self.brokers.iter().map(Broker::to_string).collect::<Vec<_>>(),
            "site": self.site.as_ref().map(Slug::as_str),
            "tls": self.tls.is_some(),
            "base_topic": self.base_topic,
            "client_id": self.client_id,
            "keep_alive_s": self.keep_alive.as_secs(),
        })
    }
}

/// Reads `[mqtt]`; `discovery_prefix` is Home Assistant's, where it could be read.
pub(super) fn read(
    table: &mut Table<'_>,
    files: Files<'_>,
    discovery_prefix: Option<&BaseTopic>,
) -> Read<Mqtt> {
    let enabled = table.required("enabled", parse::boolean);
    let named = named_brokers(table);
    let login = login(table, files);
    let site = table.optional("site", parse::slug::<Slug>);
    let base_topic = base_topic(table, site.as_ref().ok());
    let client_id = table.optional("client_id", client_id);
    let longest = Duration::from_hours(1);
    let keep_alive = table.required("keep_alive", parse::duration(Duration::from_secs(5)..=longest));
    let tls = tls(table, files)?;
    let (site, base_topic) = (site?, base_topic?);
    if discovery_prefix.is_some_and(|prefix| prefix.overlaps(&base_topic)) {
        return Err(table.problem(
            "base_topic",
            "a topic apart from homeassistant.discovery_prefix: neither the same nor one inside the other",
        ));
    }
    let default_port = if tls.is_some() { TLS_PORT } else { PORT };
    Ok(Mqtt {
        enabled: enabled?,
        brokers: brokers(table, named?, default_port)?,
        login: login?,
        client_id: client_id?.unwrap_or_else(|| default_client_id(&base_topic.at_site(site.as_ref()))),
        site,
        base_topic,
        keep_alive: keep_alive?,
        tls,
    })
}

/// Hosts, and the ports of those that have one.
type NamedBrokers = Vec<(String, Option<u16>)>;

/// `host` and `port`, or `hosts`: what a higher layer sets replaces the other one of a lower layer.
fn named_brokers(table: &mut Table<'_>) -> Read<NamedBrokers> {
    let host = table.required("host", parse::host);
    let port = table.optional("port", parse::integer(1..=u16::MAX));
    let hosts = table.values("hosts", named_broker);
    let [layer_of_host, layer_of_port, layer_of_hosts] =
        ["host", "port", "hosts"].map(|key| table.layer(key));
    let Some(hosts) = hosts?.filter(|_| layer_of_host <= layer_of_hosts) else {
        return Ok(vec![(host?, port?)]);
    };
    if layer_of_host == layer_of_hosts {
        return Err(table.problem("hosts", "either host and port, or hosts"));
    }
    if layer_of_port >= layer_of_hosts {
        return Err(table.problem(
            "port",
            "no port beside hosts, each of which has its own: [\"a:1883\", \"b:1884\"]",
        ));
    }
    Ok(hosts)
}

fn named_broker(leaf: &Leaf<'_>) -> Result<(String, Option<u16>), Expected> {
    let broker = leaf.text().and_then(host_and_port);
    broker.ok_or_else(|| {
        let brackets = leaf.text().and_then(missing_brackets);
        brackets.unwrap_or_else(|| {
            "a host, host:port or [v6]:port, such as broker.lan or 192.168.1.2:1884".to_owned()
        })
    })
}

fn brokers(table: &mut Table<'_>, named: NamedBrokers, default_port: u16) -> Read<Vec<Broker>> {
    let mut brokers: Vec<Broker> = Vec::new();
    for (host, port) in named {
        let port = port.unwrap_or(default_port);
        let broker = Broker { host, port };
        if brokers.contains(&broker) {
            return Err(table.problem("hosts", format!("each broker once; {broker} stands there twice")));
        }
        brokers.push(broker);
    }
    match brokers.len() {
        1..=BROKERS_MAX => Ok(brokers),
        _ => Err(table.problem("hosts", format!("1 to {BROKERS_MAX} brokers"))),
    }
}

/// The first levels of every topic. Those of the defaults are not for a site: another one may have them.
fn base_topic(table: &mut Table<'_>, site: Option<&Option<Slug>>) -> Read<BaseTopic> {
    let base_topic = table.required("base_topic", topic)?;
    Ok(match site {
        Some(Some(site)) if table.layer("base_topic") == Some(Layer::Defaults) => BaseTopic::of_site(site),
        _ => base_topic,
    })
}

fn login(table: &mut Table<'_>, files: Files<'_>) -> Read<Option<MqttLogin>> {
    let username = table.optional("username", parse::text);
    let password = password(table, files);
    let username = username?.filter(|username| !username.is_empty());
    match (username, password?) {
        (Some(username), password) => Ok(Some(MqttLogin { username, password })),
        (None, None) => Ok(None),
        // MQTT 3.1.1, 3.1.2.9: without a user name there is no password.
        (None, Some(_)) => Err(table.problem("username", "the username that goes with the password")),
    }
}

fn client_id(leaf: &Leaf<'_>) -> Result<String, Expected> {
    let fits =
        |text: &&str| (1..=CLIENT_ID_MAX).contains(&text.len()) && text.chars().all(|c| !c.is_control());
    let id = leaf.text().filter(fits);
    id.map(str::to_owned)
        .ok_or_else(|| format!("a text of 1 to {CLIENT_ID_MAX} bytes"))
}

/// The same at every start, and another one for each base topic and site.
fn default_client_id(name: &str) -> String {
    let slug = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(slug).take(CLIENT_ID_MAX / 2).collect();
    format!("tapo2mqtt-{name}")
}

fn tls(table: &mut Table<'_>, files: Files<'_>) -> Read<Option<Tls>> {
    if table.is_table("tls") {
        return table.section("tls", |tls| read_tls(tls, files)).map(Some);
    }
    let switch = |leaf: &Leaf<'_>| {
        let expected =
            || "true, false, or a table with ca_file, client_cert_file and client_key_file".to_owned();
        leaf.boolean().ok_or_else(expected)
    };
    Ok(table.required("tls", switch)?.then(Tls::default))
}

fn read_tls(table: &mut Table<'_>, files: Files<'_>) -> Read<Tls> {
    let existing = |leaf: &Leaf<'_>| files.existing(leaf);
    let ca_file = table.optional("ca_file", existing);
    let cert_file = table.optional("client_cert_file", existing);
    let key_file = table.optional_secret("client_key_file", |leaf| files.existing_secret(leaf));
    let authorities = ca_file.and_then(|file| {
        let authorities = file.map_or(Authorities::System, Authorities::File);
        let tls = Tls {
            authorities: authorities.clone(),
            client: None,
        };
        let checked = tls.check().map(|()| authorities);
        checked.map_err(|error| table.invalid("ca_file", error.to_string()))
    });
    let client = match (cert_file?, key_file?) {
        (Some(certificate), Some(key)) => Some(client_certificate(table, certificate, key)?),
        (None, None) => None,
        (Some(_), None) => return Err(table.problem("client_key_file", "the key of client_cert_file")),
        (None, Some(_)) => {
            return Err(table.problem("client_cert_file", "the certificate of client_key_file"));
        }
    };
    Ok(Tls {
        authorities: authorities?,
        client,
    })
}

fn client_certificate(table: &mut Table<'_>, certificate: PathBuf, key: PathBuf) -> Read<ClientCertificate> {
    let client = ClientCertificate { certificate, key };
    let tls = Tls {
        authorities: Authorities::System,
        client: Some(client.clone()),
    };
    let blamed = |error: &LinkError| match error {
        LinkError::Pem { path, .. } if *path == client.key => "client_key_file",
        _ => "client_cert_file",
    };
    let checked = tls.check();
    checked.map_err(|error| table.invalid(blamed(&error), error.to_string()))?;
    Ok(client)
}
