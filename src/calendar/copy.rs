//! The copy of a calendar that is on a web server, so that a start without a network has the same holidays.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::ics::{self, IcsError, ReadCalendar};
use crate::{
    store::replace_file,
    system::{
        files,
        http::reader::{HttpReadError, HttpReader},
    },
};

/// Behind the base topic.
const NAME: &str = "-calendar.json";
/// A calendar with every sign escaped, and some more.
const SIZE_MAX: u64 = 8 * 1024 * 1024;
/// It is asked for again after this time.
const FRESH_FOR: SignedDuration = SignedDuration::from_hours(24);

/// A calendar on a web server.
#[derive(Clone, PartialEq, Eq)]
pub struct CalendarUrl {
    url: Url,
    copy: PathBuf,
}

/// Its address may be known to its owner only.
impl fmt::Debug for CalendarUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CalendarUrl").finish_non_exhaustive()
    }
}

/// The server.
impl fmt::Display for CalendarUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.host_str().unwrap_or("of no server"))
    }
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Copy {
    /// Where it is from: that of another address is none of this one.
    url: String,
    asked_at: Option<Timestamp>,
    last_modified: Option<String>,
    calendar: String,
}

/// Why there is no newer copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Http(#[from] HttpReadError),
    #[error("it answers {0}")]
    Status(u16),
    #[error("what it answers is {0}")]
    Content(#[from] IcsError),
    #[error("the copy cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl CalendarUrl {
    /// An address, with its copy beside the state file of this bridge.
    pub fn new(url: Url, state_file: &Path, base_topic: &str) -> Self {
        let copy = state_file.with_file_name(base_topic.replace('/', "-") + NAME);
        Self { url, copy }
    }

    /// What is kept of it. It blocks, for three seconds at most.
    pub(super) fn copy(&self) -> Copy {
        let text = files::read(&self.copy, SIZE_MAX).unwrap_or_default();
        let copy: Copy = serde_json::from_slice(&text).unwrap_or_default();
        if copy.url == self.url.as_str() {
            copy
        } else {
            Copy::default()
        }
    }

    /// Asks the server, and keeps what it answers.
    pub(super) async fn fetch(&self, known: Copy, now: Timestamp) -> Result<(), FetchError> {
        let answer = HttpReader::new()?
            .get(self.url.clone(), known.last_modified.as_deref())
            .await?;
        let copy = match answer.status {
            200 => {
                // What is no calendar replaces none.
                ics::read(&answer.body)?;
                Copy {
                    url: self.url.to_string(),
                    asked_at: Some(now),
                    last_modified: answer.last_modified,
                    calendar: String::from_utf8_lossy(&answer.body).into_owned(),
                }
            }
            304 => Copy {
                asked_at: Some(now),
                ..known
            },
            status => return Err(FetchError::Status(status)),
        };
        let text = serde_json::to_vec(&copy).map_err(io::Error::from)?;
        Ok(replace_file(&self.copy, &text)?)
    }
}

impl Copy {
    /// Its holidays; none of what cannot be read.
    pub(super) fn calendar(&self) -> ReadCalendar {
        ics::read(self.calendar.as_bytes()).unwrap_or_default()
    }

    /// Whether it is time to ask for it again. A time to come is of a clock that was wrong.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let age = self.asked_at.map(|asked| now.duration_since(asked));
        age.is_none_or(|age| age < SignedDuration::ZERO || age >= FRESH_FOR)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{calendar::CalendarSources, system::tasks::Tasks};

    const CALENDAR: &str = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20990101\nEND:VEVENT\nEND:VCALENDAR\n";

    /// Answers each request in turn, and notes what was asked.
    async fn server(answers: Vec<String>) -> (Url, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/my-secret.ics", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = asked.clone();
        Tasks::default().spawn("calendar server", async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                noted.lock().unwrap().push(String::from_utf8(head).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url.parse().unwrap(), asked)
    }

    fn answer(status: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nLast-Modified: Tue, 01 Dec 2026 06:00:00 GMT\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }

    #[tokio::test]
    async fn the_last_good_calendar_of_a_server_is_kept() {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let answers = vec![
            answer("200 OK", CALENDAR),
            answer("304 Not Modified", ""),
            answer("200 OK", "<html>"),
            answer("500 Internal Server Error", ""),
        ];
        let (url, asked) = server(answers).await;
        let calendar = CalendarUrl::new(url, &folder.path().join("state.json"), "home/tapo");
        let sources = CalendarSources {
            file: None,
            url: Some(calendar.clone()),
        };
        let dates = || sources.read().unwrap().unwrap().dates.len();
        assert_eq!(dates(), 0, "nothing is known before the first answer");
        assert!(calendar.copy().is_due(Timestamp::UNIX_EPOCH));

        let hours = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        calendar.fetch(calendar.copy(), hours(0)).await.unwrap();
        assert_eq!(dates(), 1);
        assert!(!calendar.copy().is_due(hours(23)) && calendar.copy().is_due(hours(24)));
        assert!(calendar.copy().is_due(hours(-1)), "a wrong clock asked for it");

        calendar.fetch(calendar.copy(), hours(24)).await.unwrap();
        assert!(!calendar.copy().is_due(hours(47)));
        let asked = asked.lock().unwrap().clone();
        assert!(!asked[0].contains("if-modified-since"), "{asked:?}");
        assert!(
            asked[1].contains("if-modified-since: Tue, 01 Dec 2026 06:00:00 GMT"),
            "{asked:?}"
        );
        for expected in ["not an iCalendar file", "it answers 500"] {
            let error = calendar.fetch(calendar.copy(), hours(48)).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.to_string().contains("my-secret"), "{error}");
            assert_eq!(dates(), 1);
        }
        assert!(!format!("{calendar:?} {calendar}").contains("my-secret"));
        // That of another address is none of this one.
        let other = CalendarUrl::new(
            "https://example.org/other.ics".parse().unwrap(),
            &folder.path().join("state.json"),
            "home/tapo",
        );
        assert_eq!(other.copy(), Copy::default());
    }
}
