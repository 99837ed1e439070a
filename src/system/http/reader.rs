//! Reads documents from web servers outside, which are not to be trusted: each answer is bounded in time and in size.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{
    Client, Response, Url,
    header::{ACCEPT, DATE, EXPIRES, HeaderMap, HeaderName, IF_MODIFIED_SINCE, LAST_MODIFIED, RETRY_AFTER},
    redirect::{Attempt, Policy},
};

/// How long a request may take, with all of its answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest document, in bytes.
const BODY_MAX: usize = 2 * 1024 * 1024;
/// Redirects that are followed, on the same server.
const REDIRECTS_MAX: usize = 3;
/// The longest value of a header that is kept.
const HEADER_MAX: usize = 64;
/// Reads documents.
#[derive(Debug, Clone)]
pub(crate) struct HttpReader(Client);

/// An answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpAnswer {
    /// The status: 200 with a document, 203 with one of a service that will end.
    pub(crate) status: u16,
    /// The clock of the server.
    pub(crate) date: Option<Timestamp>,
    /// How long the document is the newest.
    pub(crate) fresh_for: Option<SignedDuration>,
    /// What asks for a newer one.
    pub(crate) last_modified: Option<String>,
    /// How long not to ask.
    pub(crate) retry_after: Option<SignedDuration>,
    /// The document.
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer. The text has no address, which may have a private place in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpReadError {
    /// Not in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// A document that is larger than any that is wanted.
    #[error("the answer is larger than {} MB", BODY_MAX / (1024 * 1024))]
    TooLarge,
    /// No connection, or not with a certificate that is trusted, or it broke.
    #[error("{0}")]
    Failed(String),
}

impl HttpReader {
    /// # Errors
    /// The certificates of the system cannot be read.
    pub(crate) fn new() -> Result<Self, HttpReadError> {
        Ok(Self(super::client(TIMEOUT, Policy::custom(follow))?))
    }

    /// Reads a document; only one that is newer than `modified`, an earlier [`HttpAnswer::last_modified`].
    ///
    /// # Errors
    /// There is no answer that can be used.
    pub(crate) async fn get(&self, url: Url, modified: Option<&str>) -> Result<HttpAnswer, HttpReadError> {
        let mut request = self.0.get(url).header(
            ACCEPT,
            "application/json, application/geo+json;q=0.9, text/calendar;q=0.8",
        );
        if let Some(modified) = modified {
            request = request.header(IF_MODIFIED_SINCE, modified);
        }
        let response = request.send().await?;
        let mut answer = HttpAnswer::of(&response);
        if matches!(answer.status, 200 | 203) {
            answer.body = read(response).await?;
        }
        Ok(answer)
    }
}

/// Other servers than the one that was asked are no business of a forecast.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let first = attempt.previous().first();
    let same = |first: &Url| first.origin() == attempt.url().origin();
    if attempt.previous().len() <= REDIRECTS_MAX && first.is_some_and(same) {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, HttpReadError> {
    let announced = response.content_length().unwrap_or_default();
    if announced > BODY_MAX as u64 {
        return Err(HttpReadError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(HttpReadError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl HttpAnswer {
    fn of(response: &Response) -> Self {
        let headers = response.headers();
        let date = instant(headers, DATE);
        let since = |at: Timestamp| Some(at.duration_since(date?));
        let seconds = |text: &str| {
            text.parse::<u32>()
                .ok()
                .map(|s| SignedDuration::from_secs(s.into()))
        };
        let retry_after = text(headers, RETRY_AFTER).and_then(seconds);
        Self {
            status: response.status().as_u16(),
            date,
            fresh_for: instant(headers, EXPIRES).and_then(since),
            last_modified: text(headers, LAST_MODIFIED).map(str::to_owned),
            retry_after: retry_after.or_else(|| instant(headers, RETRY_AFTER).and_then(since)),
            body: Vec::new(),
        }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (value.len() <= HEADER_MAX).then_some(value)
}

fn instant(headers: &HeaderMap, name: HeaderName) -> Option<Timestamp> {
    let at = rfc2822::parse(text(headers, name)?).ok()?;
    Some(at.timestamp())
}

impl From<reqwest::Error> for HttpReadError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        Self::Failed(super::cause(error))
    }
}
