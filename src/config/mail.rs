//! The mail server of a `[[notify]]`, and who gets what is sent through it.

use std::net::IpAddr;

use lettre::Address;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::{
    address::host_and_port,
    credentials::{Files, password},
    parse,
    reader::{Expected, Leaf, Read, Table},
};
use crate::system::Secret;

/// What a settings file calls an address of a mail server.
const EXAMPLE: &str =
    "a mail server, such as smtps://user@mail.example.com or smtp://user@mail.example.com:587";

/// What it calls the address of a person.
const EXAMPLE_ADDRESS: &str = "an e-mail address, such as \"you@example.com\", in ASCII before the @";

/// A mail server, and who gets what is sent through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// A name or an IP address.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// How the connection is encrypted.
    pub encryption: MailEncryption,
    /// What it logs us in with.
    pub login: Option<MailLogin>,
    /// The sender.
    pub from: Address,
    /// Who gets it. At least one.
    pub to: Vec<Address>,
}

/// How the connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailEncryption {
    /// From the first byte.
    Tls,
    /// After STARTTLS; nothing is sent to a server without it.
    StartTls,
    /// Not at all.
    None,
}

/// A user of a mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLogin {
    /// Often an e-mail address.
    pub username: Secret,
    /// Its password.
    pub password: Secret,
}

/// The keys of an entry that only a mail server has. A mistake in one does not hide those in others.
#[derive(Debug)]
pub(super) struct MailKeys {
    to: Read<Option<Vec<Address>>>,
    from: Read<Option<Address>>,
    password: Read<Option<Secret>>,
    tls: Read<Option<bool>>,
}

impl MailKeys {
    pub(super) fn read(table: &mut Table<'_>, files: Files<'_>) -> Self {
        Self {
            to: table.secret_values("to", mailbox),
            from: table.optional_secret("from", mailbox),
            password: password(table, files),
            tls: table.optional("tls", parse::boolean),
        }
    }

    /// A web server has none of them.
    pub(super) fn refuse(&self, table: &mut Table<'_>) -> Read<()> {
        let expected = "no such key beside a web server: it is one of e-mail (smtps:// or smtp://)";
        let keys = [
            ("to", self.to.as_ref().map(Option::is_some)),
            ("from", self.from.as_ref().map(Option::is_some)),
            ("tls", self.tls.as_ref().map(Option::is_some)),
            ("password", self.password.as_ref().map(Option::is_some)),
        ];
        let refused = keys.map(|(key, is_set)| match is_set {
            Ok(true) => Err(table.secret_problem(key, expected)),
            Ok(false) => Ok(()),
            Err(reported) => Err(*reported),
        });
        refused.into_iter().collect()
    }
}

impl MailServer {
    /// Whether an address is that of a mail server.
    pub(super) fn is_meant(url: &Secret) -> bool {
        scheme(url.expose()).is_some()
    }

    /// The server at an address for which [`Self::is_meant`].
    pub(super) fn new(table: &mut Table<'_>, url: &Secret, keys: MailKeys) -> Read<Self> {
        let place = place(table, url);
        let read = place.as_ref().map_err(|reported| *reported);
        let login = read.and_then(|place| login(table, place, keys.password));
        let encryption = read.and_then(|place| encryption(table, place, keys.tls));
        let to = keys.to.and_then(|to| match to.unwrap_or_default() {
            to if to.is_empty() => Err(table.secret_problem(
                "to",
                "the addresses that get an e-mail, such as [\"you@example.com\"]",
            )),
            to => Ok(to),
        });
        let (place, login, encryption, to, from) = (place?, login?, encryption?, to?, keys.from?);
        let of_user = || login.as_ref()?.username.expose().parse().ok().and_then(in_ascii);
        let default_port = match encryption {
            MailEncryption::Tls => 465,
            MailEncryption::StartTls => 587,
            MailEncryption::None => 25,
        };
        // The last is there in any case.
        let sender = from.or_else(of_user).or_else(|| to.first().cloned());
        Ok(Self {
            host: place.host,
            port: place.port.unwrap_or(default_port),
            encryption,
            from: sender.ok_or_else(|| table.secret_problem("from", EXAMPLE_ADDRESS))?,
            login,
            to,
        })
    }
}

/// What the address of a mail server says.
#[derive(Debug)]
struct MailPlace {
    is_encrypted: bool,
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

fn place(table: &mut Table<'_>, url: &Secret) -> Read<MailPlace> {
    let parsed = scheme(url.expose()).and_then(|(is_encrypted, rest)| {
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = rest
            .rsplit_once('@')
            .map_or((None, rest), |(user, place)| (Some(user), place));
        let user = match user {
            Some(user) => Some(percent_decode_str(user).decode_utf8().ok()?.into_owned()),
            None => None,
        };
        let (host, port) = host_and_port(place)?;
        Some(MailPlace {
            is_encrypted,
            user,
            host,
            port,
        })
    });
    parsed.ok_or_else(|| table.secret_problem("url", EXAMPLE))
}

fn login(
    table: &mut Table<'_>,
    place: &MailPlace,
    password: Read<Option<Secret>>,
) -> Read<Option<MailLogin>> {
    if place
        .user
        .as_ref()
        .is_some_and(|user| user.is_empty() || user.contains(':'))
    {
        let expected = "a user name without a password in url; set password or password_file";
        return Err(table.secret_problem("url", expected));
    }
    match (&place.user, password?) {
        (Some(user), Some(password)) => Ok(Some(MailLogin {
            username: Secret::new(user.as_str()),
            password,
        })),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(table.secret_problem("password", "the password of the user in url, or password_file"))
        }
        (None, Some(_)) => Err(table.secret_problem("url", format!("the user of the password: {EXAMPLE}"))),
    }
}

fn encryption(table: &mut Table<'_>, place: &MailPlace, tls: Read<Option<bool>>) -> Read<MailEncryption> {
    match (place.is_encrypted, tls?) {
        (true, Some(false)) => Err(table.problem("tls", "true with smtps://, or smtp:// in url")),
        (true, _) => Ok(MailEncryption::Tls),
        (false, tls) if tls.unwrap_or_else(|| !is_loopback(&place.host)) => Ok(MailEncryption::StartTls),
        (false, _) => Ok(MailEncryption::None),
    }
}

/// Whether an address of a mail server means TLS from the first byte, and what follows.
fn scheme(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let is_encrypted = scheme.eq_ignore_ascii_case("smtps");
    (is_encrypted || scheme.eq_ignore_ascii_case("smtp")).then_some((is_encrypted, rest))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The plain address of one mailbox.
fn mailbox(leaf: &Leaf<'_>) -> Result<Address, Expected> {
    let address = leaf.text().and_then(|text| text.parse().ok()).and_then(in_ascii);
    address.ok_or_else(|| EXAMPLE_ADDRESS.to_owned())
}

/// As mail servers take it: the domain in ASCII, as name servers know it. What is before the @ has no such form.
fn in_ascii(address: Address) -> Option<Address> {
    if address.domain().is_ascii() {
        return address.user().is_ascii().then_some(address);
    }
    let url: Url = format!("http://{}", address.domain()).parse().ok()?;
    Address::new(address.user(), url.host_str()?)
        .ok()
        .and_then(in_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Delivery, Problems, Sources, load_or};

    fn server(text: &str) -> Result<MailServer, Problems> {
        let settings = load_or(&Sources::default(), &format!("[[notify]]\n{text}\n"))?;
        match settings.notify.into_iter().next().unwrap().delivery {
            Delivery::Mail(server) => Ok(server),
            other @ Delivery::Http { .. } => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_says_where_and_how() {
        use MailEncryption::{None, StartTls, Tls};
        let login = "password = 'p'";
        for (url, more, host, port, encryption) in [
            ("smtps://me@mail.lan", login, "mail.lan", 465, Tls),
            ("SMTP://me@Mail.lan/", login, "mail.lan", 587, StartTls),
            ("smtp://mail.lan:2525", "", "mail.lan", 2525, StartTls),
            ("smtp://mail.lan", "tls = false", "mail.lan", 25, None),
            ("smtp://127.0.0.1", "", "127.0.0.1", 25, None),
            ("smtp://localhost:2525", "tls = true", "localhost", 2525, StartTls),
            ("smtp://[::1]:26", "", "::1", 26, None),
            ("smtps://127.0.0.1", "", "127.0.0.1", 465, Tls),
        ] {
            let server = server(&format!("url = '{url}'\nto = ['you@example.com']\n{more}")).unwrap();
            assert_eq!(
                (server.host.as_str(), server.port, server.encryption),
                (host, port, encryption),
                "{url}"
            );
            assert_eq!(server.login.is_some(), url.contains("me@"), "{url}");
        }
    }

    #[test]
    fn the_sender_is_the_user_where_it_is_an_address() {
        let to = "to = ['you@example.com', 'other@example.com']\npassword = 'p'";
        for (user, from) in [
            ("me@mail.lan", "me@mail.lan"),
            ("me%40mail.lan", "me@mail.lan"),
            ("me", "you@example.com"),
        ] {
            let server = server(&format!("url = 'smtps://{user}@mail.lan'\n{to}")).unwrap();
            assert_eq!((server.from.to_string().as_str(), server.to.len()), (from, 2));
        }
        let from = "from = 'bridge@example.com'";
        let server = server(&format!("url = 'smtps://me@mail.lan'\n{to}\n{from}")).unwrap();
        assert_eq!(server.from.to_string(), "bridge@example.com");
    }

    #[test]
    fn mistakes_are_named_without_secrets() {
        let to = "to = ['you@example.com']";
        for (text, expected) in [
            ("url = 'smtp://'", "a mail server, such as"),
            ("url = 'smtp://mail.lan?hunter2'", "a mail server, such as"),
            (
                "url = 'smtp://me:hunter2@mail.lan'",
                "a user name without a password in url",
            ),
            (
                "url = 'smtp://hunter2@mail.lan'",
                "the password of the user in url",
            ),
            (
                "url = 'smtp://mail.lan'\npassword = 'hunter2'",
                "the user of the password",
            ),
            ("url = 'smtps://mail.lan'\ntls = false", "true with smtps://"),
            (
                "url = 'smtp://mail.lan'\nformat = 'ntfy'",
                "no format beside a mail server",
            ),
            (
                "url = 'smtp://mail.lan'\ntoken = 'hunter2'",
                "password in place of token",
            ),
            (
                "url = 'https://mail.lan'\npassword = 'hunter2'",
                "no such key beside a web server",
            ),
            ("url = 'https://mail.lan'", "no such key beside a web server"),
        ] {
            let problems = server(&format!("{text}\n{to}")).unwrap_err().to_string();
            assert!(problems.contains(expected), "{text}: {problems}");
            assert!(!problems.contains("hunter2"), "{text}: {problems}");
        }
        for to in [
            "",
            "to = []",
            "to = 'hunter2'",
            "to = ['hunter2']",
            "to = ['hunter2ü@example.com']",
            "to = ['hunter2@ex ample.com']",
            "to = ['hunter2@example.com\\r\\nBcc: x@y.z']",
            "from = 'hunter2'",
        ] {
            let text = format!("url = 'smtp://mail.lan'\n{}", to.replace('\'', "\""));
            let problems = server(&text).unwrap_err().to_string();
            assert!(!problems.contains("hunter2"), "{to}: {problems}");
            assert!(
                problems.contains("you@example.com") || problems.contains("to = ***: expected a list"),
                "{to}: {problems}"
            );
        }
    }

    #[test]
    fn each_mistake_of_an_entry_is_named() {
        let text = "url = 'smtps://me@mail.lan'\nto = ['you', 'other']\nfrom = 'me'\ntls = false\nformat = 'ntfy'\n\
                    token = 'hunter2'\nevents = []\nafter = 'soon'";
        let mut places: Vec<String> = server(text).unwrap_err().0.into_iter().map(|p| p.path).collect();
        places.sort();
        let expected = [
            "after", "events", "format", "from", "password", "tls", "to[0]", "to[1]", "token",
        ];
        assert_eq!(places, expected.map(|key| format!("notify[0].{key}")));
    }

    #[test]
    fn a_domain_is_what_name_servers_know() {
        let text =
            "url = 'smtp://mail.lan'\nto = ['you@Bücher.example', 'you@[192.168.1.5]', 'you@Example.com']";
        let server = server(text).unwrap();
        let to: Vec<&str> = server.to.iter().map(AsRef::as_ref).collect();
        assert_eq!(
            to,
            [
                "you@xn--bcher-kva.example",
                "you@[192.168.1.5]",
                "you@Example.com"
            ]
        );
    }
}
