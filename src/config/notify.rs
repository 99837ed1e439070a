//! `[[notify]]`: who is notified of what, and how.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Url;
use serde_json::{Value, json};

use super::{
    credentials::{Files, secret},
    mail::{MailKeys, MailServer},
    parse,
    reader::{Read, Table},
};
use crate::{domain::notify_kind::NotifyKind, system::Secret};
use planner::Slug;

/// Entries, each with connections and a queue.
const TARGETS_MAX: usize = 16;
/// How long something may be offline before it is notified, where the settings do not say.
const AFTER: Duration = Duration::from_mins(10);

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyTarget {
    /// Its name in the log, in `bridge/health` and in the state file.
    pub id: String,
    /// Where notifications go.
    pub delivery: Delivery,
    /// What is notified.
    pub events: BTreeSet<NotifyKind>,
    /// How long something is offline or stale before it is notified.
    pub after: Duration,
}

/// How notifications are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A request to a web server.
    Http {
        /// What it understands.
        format: HttpFormat,
        /// Its address, which may hold a token or a password.
        url: Secret,
        /// What it logs us in with.
        token: Option<Secret>,
        /// The host of the address.
        host: String,
    },
    /// An e-mail.
    Mail(MailServer),
}

/// What a web server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFormat {
    /// The fields of a notification.
    Json,
    /// <https://ntfy.sh>.
    Ntfy,
    /// <https://gotify.net>.
    Gotify,
    /// Slack, and what takes its messages, such as Mattermost.
    Slack,
    /// Discord.
    Discord,
}

impl HttpFormat {
    const NAMES: [(&str, Self); 5] = [
        ("json", Self::Json),
        ("ntfy", Self::Ntfy),
        ("gotify", Self::Gotify),
        ("slack", Self::Slack),
        ("discord", Self::Discord),
    ];

    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, format)| *format == self);
        named.map_or("", |(name, _)| name)
    }
}

impl NotifyTarget {
    /// `ntfy`, or `mail`.
    pub fn format(&self) -> &'static str {
        match &self.delivery {
            Delivery::Http { format, .. } => format.name(),
            Delivery::Mail(_) => "mail",
        }
    }

    /// The host that it is sent to.
    pub fn host(&self) -> &str {
        match &self.delivery {
            Delivery::Http { host, .. } => host,
            Delivery::Mail(server) => &server.host,
        }
    }

    /// The names of what is notified.
    pub fn event_names(&self) -> Vec<&'static str> {
        self.events.iter().map(|kind| kind.name()).collect()
    }

    pub(super) fn digest(&self) -> Value {
        json!({
            "id": self.id,
            "format": self.format(),
            "events": self.event_names(),
            "after_s": self.after.as_secs(),
        })
    }
}

/// Reads all entries.
pub(super) fn read_all(root: &mut Table<'_>, files: Files<'_>) -> Read<Vec<NotifyTarget>> {
    let mut taken: Vec<(String, String)> = Vec::new();
    let targets = root.list("notify", |table| {
        let target = read(table, files, taken.len() + 1);
        let place = table.place();
        let id = target
            .as_ref()
            .map_or_else(|_| String::new(), |target| target.id.clone());
        let owner = taken
            .iter()
            .find(|(other, _)| *other == id)
            .map(|(_, owner)| owner.clone());
        taken.push((id, place));
        match (target, owner) {
            (Ok(_), Some(owner)) => Err(table.duplicate("id", &owner)),
            (target, _) => target,
        }
    })?;
    if targets.len() > TARGETS_MAX {
        return Err(root.problem("notify", format!("at most {TARGETS_MAX} entries")));
    }
    Ok(targets)
}

fn read(table: &mut Table<'_>, files: Files<'_>, number: usize) -> Read<NotifyTarget> {
    let id = table.optional("id", parse::slug::<Slug>);
    let events = table.values("events", parse::word(&NotifyKind::NAMES));
    let after = Duration::from_secs(1)..=Duration::from_hours(7 * 24);
    let after = table.optional("after", parse::duration(after));
    let delivery = delivery(table, files);
    let events: Read<BTreeSet<NotifyKind>> = events.and_then(|events| match events {
        Some(events) if events.is_empty() => Err(table.problem("events", "at least one event")),
        Some(events) => Ok(events.into_iter().collect()),
        None => Ok(NotifyKind::NAMES.map(|(_, kind)| kind).into()),
    });
    Ok(NotifyTarget {
        id: id?.map_or_else(|| format!("notify-{number}"), |id| id.to_string()),
        delivery: delivery?,
        events: events?,
        after: after?.unwrap_or(AFTER),
    })
}

/// Each key is read, and each is compared with the others, before the first mistake counts.
fn delivery(table: &mut Table<'_>, files: Files<'_>) -> Read<Delivery> {
    let url = secret(table, ["url", "url_file"], files);
    let format = table.optional("format", parse::word(&HttpFormat::NAMES));
    let token = secret(table, ["token", "token_file"], files);
    let mail = MailKeys::read(table, files);
    let Some(url) = url? else {
        return Err(table.secret_problem("url", "the address of a web server or a mail server, or url_file"));
    };
    if !MailServer::is_meant(&url) {
        return http(table, url, format, token, &mail);
    }
    let no_format = format.and_then(|format| match format {
        Some(_) => Err(table.problem("format", "no format beside a mail server: it gets e-mails")),
        None => Ok(()),
    });
    let no_token = token.and_then(|token| match token {
        Some(_) => Err(table.secret_problem("token", "password in place of token, for a mail server")),
        None => Ok(()),
    });
    let server = MailServer::new(table, &url, mail);
    no_format.and(no_token)?;
    server.map(Delivery::Mail)
}

fn http(
    table: &mut Table<'_>,
    url: Secret,
    format: Read<Option<HttpFormat>>,
    token: Read<Option<Secret>>,
    mail: &MailKeys,
) -> Read<Delivery> {
    let parsed = parse::web_address(url.expose());
    let host = parsed.as_ref().and_then(|url| url.host_str()).map(str::to_owned);
    // Without it nothing says what the other keys are for.
    let (Some(parsed), Some(host)) = (parsed, host) else {
        let scheme = url
            .expose()
            .split_once("://")
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        let expected = match scheme.as_deref() {
            Some(scheme @ ("http" | "https")) => {
                format!("a host behind {scheme}://, and a port from 1 to 65535 if it has one")
            }
            _ => "an address that begins with https://, http://, smtps:// or smtp://".to_owned(),
        };
        return Err(table.secret_problem("url", expected));
    };
    let no_mail = mail.refuse(table);
    let format = format.map(|format| format.unwrap_or(HttpFormat::Json));
    let topic = parsed.path_segments().and_then(Iterator::last);
    let no_topic = matches!(format, Ok(HttpFormat::Ntfy)) && topic.is_none_or(str::is_empty);
    let topic = if no_topic {
        Err(table.secret_problem("url", "an address with a topic, such as https://ntfy.sh/topic"))
    } else {
        Ok(())
    };
    let token = token.and_then(|token| checked_token(table, token, format?, &parsed));
    no_mail.and(topic)?;
    Ok(Delivery::Http {
        format: format?,
        url,
        token: token?,
        host,
    })
}

fn checked_token(
    table: &mut Table<'_>,
    token: Option<Secret>,
    format: HttpFormat,
    url: &Url,
) -> Read<Option<Secret>> {
    if format == HttpFormat::Gotify && token.is_none() {
        return Err(table.secret_problem("token", "the token of an application of Gotify, or token_file"));
    }
    let has_login = !url.username().is_empty() || url.password().is_some();
    if format != HttpFormat::Gotify && token.is_some() && has_login {
        return Err(table.secret_problem(
            "token",
            "no token beside a login in url: the server gets one of them",
        ));
    }
    // A header cannot hold it.
    let fits = |token: &Secret| token.expose().chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if !token.as_ref().is_none_or(fits) {
        return Err(table.secret_problem("token", "letters, digits and punctuation of ASCII"));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Problems, Settings, Sources, load, load_or};

    fn load_text(text: &str) -> Result<Settings, Problems> {
        load_or(&Sources::default(), text)
    }

    #[test]
    fn an_entry_has_defaults() {
        let settings = load_text("[[notify]]\nurl = 'https://example.com/hook'\n").unwrap();
        let [target] = settings.notify.as_slice() else {
            panic!("{:?}", settings.notify)
        };
        assert_eq!(
            (target.id.as_str(), target.format(), target.host()),
            ("notify-1", "json", "example.com")
        );
        assert_eq!(
            (target.events.len(), target.after),
            (NotifyKind::NAMES.len(), AFTER)
        );
    }

    #[test]
    fn mistakes_are_named_with_their_lines_and_without_secrets() {
        let cases = [
            (
                "format = 'ntfy'",
                1,
                "expected the address of a web server or a mail server",
            ),
            ("url = 'hunter2'", 2, "an address that begins with https://"),
            (
                "url = 'hunter2.lan'\nto = ['you@example.com']",
                2,
                "an address that begins with https://",
            ),
            (
                "url = 'http:///hunter2'",
                2,
                "a host behind http://, and a port from 1 to 65535",
            ),
            (
                "url = 'https://hunter2.lan:99999/'",
                2,
                "a host behind https://, and a port from 1 to 65535",
            ),
            (
                "url = 'ftp://hunter2/'",
                2,
                "an address that begins with https://",
            ),
            (
                "url = 'https://hunter2.lan/'\nformat = 'ntfy'",
                2,
                "an address with a topic",
            ),
            (
                "url = 'https://a.lan/'\nformat = 'gotify'",
                1,
                "the token of an application",
            ),
            (
                "url = 'https://a.lan/'\ntoken = 'hunter2ö'",
                3,
                "letters, digits and punctuation",
            ),
            (
                "url = 'https://me:hunter2@a.lan/'\ntoken = 'hunter2'",
                3,
                "no token beside a login in url",
            ),
            ("url = 'https://a.lan/'\nformat = 'pager'", 3, "one of json, ntfy"),
            ("url = 'https://a.lan/'\nevents = []", 3, "at least one event"),
            (
                "url = 'https://a.lan/'\nevents = ['fire']",
                3,
                "one of limit_reached",
            ),
            ("url = 'https://a.lan/'\nafter = '0s'", 3, "a duration from 1s"),
            (
                "url = 'https://a.lan/'\nurl_file = 'hunter2'",
                2,
                "either url or url_file",
            ),
            ("url_file = 'hunter2'", 2, "the path of a file that exists"),
            ("url = 'https://a.lan/'\nhunter2 = 1", 3, "unknown key"),
        ];
        for (text, line, expected) in cases {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("bridge.toml");
            std::fs::write(&file, format!("[[notify]]\n{text}\n")).unwrap();
            let sources = Sources {
                file: Some(file.clone()),
                environment: Vec::new(),
            };
            let problems = load(&sources).unwrap_err().to_string();
            let (line, file) = (format!("(line {line})"), file.display().to_string());
            assert!(problems.contains(expected), "{text}: {problems}");
            assert!(
                problems.contains(&file) && problems.contains(&line),
                "{text}: {problems}"
            );
            assert!(!problems.contains("hunter2"), "{text}: {problems}");
        }
    }

    #[test]
    fn each_mistake_of_an_entry_is_named() {
        let text = "[[notify]]\nurl = 'https://me:hunter2@a.lan/'\nformat = 'ntfy'\ntoken = 'hunter2'\n\
                    to = ['you']\nfrom = 'me@example.com'\ntls = true\nevents = ['fire']\nafter = '0s'\n";
        let mut places: Vec<String> = load_text(text)
            .unwrap_err()
            .0
            .into_iter()
            .map(|p| p.path)
            .collect();
        places.sort();
        let expected = ["after", "events[0]", "from", "tls", "to[0]", "token", "url"];
        assert_eq!(places, expected.map(|key| format!("notify[0].{key}")));
    }

    #[test]
    fn a_mistake_in_a_file_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bridge.toml");
        std::fs::write(&file, "[[notify]]\nurl_file = 'address'\n").unwrap();
        std::fs::write(directory.path().join("address"), "http:///hunter2\n").unwrap();
        let sources = Sources {
            file: Some(file),
            environment: Vec::new(),
        };
        let problems = load(&sources).unwrap_err().to_string();
        let expected = "url_file (line 2) = \"address\": expected in this file: a host behind http://";
        assert!(problems.contains(expected), "{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }

    #[test]
    fn an_id_names_one_entry() {
        let entry = "[[notify]]\nid = 'phone'\nurl = 'https://example.com/hook'\n";
        let problems = load_text(&entry.repeat(2)).unwrap_err().to_string();
        assert!(
            problems.contains("duplicate id, already used by notify \"phone\""),
            "{problems}"
        );
    }

    #[test]
    fn neither_the_digest_nor_debug_has_a_secret() {
        let text = "[[notify]]\nurl = 'https://me:hunter2@example.com/hunter2'\nformat = 'gotify'\ntoken = 'hunter2'\n";
        let settings = load_text(text).unwrap();
        let shown = format!("{} {settings:?}", settings.digest());
        assert!(
            shown.contains("notify-1") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(!settings.digest().to_string().contains("example.com"));
    }
}
