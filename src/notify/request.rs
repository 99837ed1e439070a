//! A notification in the form that a web server understands. Pure.

use reqwest::Url;
use serde_json::{Value, json};

use super::notice::{Notice, NotifyMessage};
use crate::{config::HttpFormat, system::Secret};

/// Longest text that Discord takes, in characters.
const DISCORD_MAX: usize = 2000;

/// Longest message that ntfy takes as a text, in bytes. It makes an attachment of a longer one, or refuses it.
const NTFY_MAX: usize = 4096;

/// What is sent, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotifyRequest {
    pub(super) url: Secret,
    /// What logs us in.
    pub(super) header: Option<(&'static str, Secret)>,
    /// JSON.
    pub(super) body: Value,
}

impl NotifyRequest {
    /// For a server at this address, of the bridge with this name. `notices` are what `message` says.
    pub(super) fn new(
        format: HttpFormat,
        url: &Secret,
        token: Option<&Secret>,
        bridge: &str,
        message: &NotifyMessage,
        notices: &[Notice],
    ) -> Self {
        let bearer = || {
            Some((
                "Authorization",
                Secret::new(format!("Bearer {}", token?.expose())),
            ))
        };
        let NotifyMessage {
            title,
            text,
            is_alarm,
        } = message;
        let (url, header, body) = match format {
            HttpFormat::Json => (url.clone(), bearer(), fields(bridge, message, notices)),
            HttpFormat::Ntfy => {
                let (server, topic) = server_and_topic(url);
                let (priority, tag) = if *is_alarm {
                    (4, "warning")
                } else {
                    (3, "white_check_mark")
                };
                let body = json!({
                    "topic": topic, "title": title, "message": within_bytes(text, NTFY_MAX), "priority": priority,
                    "tags": [tag],
                });
                (server, bearer(), body)
            }
            HttpFormat::Gotify => {
                let priority = if *is_alarm { 8 } else { 5 };
                let header = token.map(|token| ("X-Gotify-Key", token.clone()));
                let body = json!({ "title": title, "message": text, "priority": priority });
                (messages_of(url), header, body)
            }
            HttpFormat::Slack => (
                url.clone(),
                bearer(),
                json!({ "text": format!("*{title}*\n{text}") }),
            ),
            HttpFormat::Discord => {
                let text = planner::shortened(format!("**{title}**\n{text}"), DISCORD_MAX);
                (
                    url.clone(),
                    bearer(),
                    json!({ "content": text, "allowed_mentions": { "parse": [] } }),
                )
            }
        };
        Self { url, header, body }
    }
}

fn within_bytes(text: &str, max: usize) -> String {
    let fits = |(at, char): &(usize, char)| at + char.len_utf8() + '…'.len_utf8() <= max;
    if text.len() <= max {
        return text.to_owned();
    }
    planner::shortened(text.to_owned(), text.char_indices().take_while(fits).count())
}

/// Everything that is known, for programs.
fn fields(bridge: &str, message: &NotifyMessage, notices: &[Notice]) -> Value {
    let one = |notice: &Notice| {
        json!({
            "event": notice.event.map_or("test", |event| event.name()),
            "state": notice.state,
            "subject": notice.subject,
            "title": notice.title,
            "message": notice.message,
            "since": notice.since,
            "at": notice.at,
        })
    };
    json!({
        "bridge": bridge,
        "title": message.title,
        "message": message.text,
        "notifications": notices.iter().map(one).collect::<Vec<_>>(),
    })
}

/// ntfy takes JSON at its root: the address without the topic, and the topic.
fn server_and_topic(url: &Secret) -> (Secret, String) {
    let Ok(mut parsed) = Url::parse(url.expose()) else {
        return (url.clone(), String::new());
    };
    let segments = parsed.path_segments().into_iter().flatten();
    let topic = segments.last().unwrap_or_default().to_owned();
    if let Ok(mut segments) = parsed.path_segments_mut() {
        segments.pop().push("");
    }
    (Secret::new(parsed.as_str()), topic)
}

/// Where Gotify takes messages: below the address of the server.
fn messages_of(url: &Secret) -> Secret {
    let Ok(mut parsed) = Url::parse(url.expose()) else {
        return url.clone();
    };
    let is_complete = parsed.path().trim_end_matches('/').ends_with("/message");
    if let Ok(mut segments) = parsed.path_segments_mut()
        && !is_complete
    {
        segments.pop_if_empty().push("message");
    }
    Secret::new(parsed.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(format: HttpFormat, url: &str, token: Option<&str>) -> NotifyRequest {
        let notice = Notice::test(crate::system::clock::Clock::steered(jiff::Timestamp::UNIX_EPOCH).read());
        let notices = [notice];
        let message = NotifyMessage::of("attic", &notices, 0);
        let token = token.map(Secret::new);
        NotifyRequest::new(
            format,
            &Secret::new(url),
            token.as_ref(),
            "attic",
            &message,
            &notices,
        )
    }

    #[test]
    fn ntfy_takes_json_at_its_root() {
        for (url, server) in [
            ("https://ntfy.sh/alerts", "https://ntfy.sh/"),
            (
                "https://me:pw@home.lan/ntfy/alerts?x=1",
                "https://me:pw@home.lan/ntfy/?x=1",
            ),
        ] {
            let request = request(HttpFormat::Ntfy, url, Some("tk_1"));
            assert_eq!(
                (request.url.expose(), &request.body["topic"]),
                (server, &json!("alerts"))
            );
            assert_eq!(request.header.unwrap().1.expose(), "Bearer tk_1");
            assert_eq!(request.body["title"], "attic: test");
        }
    }

    #[test]
    fn gotify_takes_messages_below_its_address() {
        for url in [
            "https://push.lan",
            "https://push.lan/",
            "https://push.lan/message",
        ] {
            let request = request(HttpFormat::Gotify, url, Some("A1"));
            assert_eq!(request.url.expose(), "https://push.lan/message");
            let (name, token) = request.header.unwrap();
            assert_eq!((name, token.expose()), ("X-Gotify-Key", "A1"));
            assert_eq!(request.body["priority"], 5);
        }
    }

    #[test]
    fn ntfy_gets_no_more_than_it_takes() {
        for char in ["a", "ü", "🔌"] {
            let long = within_bytes(&char.repeat(NTFY_MAX), NTFY_MAX);
            assert!((NTFY_MAX - 8..=NTFY_MAX).contains(&long.len()), "{}", long.len());
        }
        assert_eq!(within_bytes("left on", NTFY_MAX), "left on");
    }

    #[test]
    fn chats_get_one_text() {
        let slack = request(HttpFormat::Slack, "https://hooks.lan/T/B", None);
        assert!(
            slack.body["text"]
                .as_str()
                .unwrap()
                .starts_with("*attic: test*\n")
        );
        assert_eq!(slack.header, None);
        let discord = request(HttpFormat::Discord, "https://discord.lan/api", None);
        assert!(
            discord.body["content"]
                .as_str()
                .unwrap()
                .starts_with("**attic: test**\n")
        );
    }
}
