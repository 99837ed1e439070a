//! Sends JSON to web servers outside.

use std::time::Duration;

use reqwest::{Client, Response, redirect::Policy};

use crate::system::Secret;

/// How long a request may take, with its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends JSON. It follows no redirect: what is sent may be a secret.
#[derive(Debug, Clone)]
pub(crate) struct HttpPoster(Client);

/// Why a request failed. The text has no address, which may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HttpError(String);

impl HttpPoster {
    /// # Errors
    /// The certificates of the system cannot be read.
    pub(crate) fn new() -> Result<Self, HttpError> {
        let client = super::client(TIMEOUT, Policy::none());
        client.map(Self).map_err(HttpError::of)
    }

    /// Sends JSON, and returns the status of a success.
    ///
    /// # Errors
    /// There is no answer, or it is no success.
    pub(crate) async fn post_json(
        &self,
        url: &Secret,
        header: Option<(&'static str, &Secret)>,
        body: String,
    ) -> Result<u16, HttpError> {
        let mut request = self
            .0
            .post(url.expose())
            .header("Content-Type", "application/json");
        if let Some((name, value)) = header {
            request = request.header(name, value.expose());
        }
        let response = request.body(body).send().await.map_err(HttpError::of)?;
        HttpError::unless_success(&response)
    }
}

impl HttpError {
    fn of(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self(format!("no answer within {} s", TIMEOUT.as_secs()));
        }
        if error.is_builder() {
            return Self("the address or the token cannot be used".to_owned());
        }
        Self(super::cause(error))
    }

    fn unless_success(response: &Response) -> Result<u16, Self> {
        let status = response.status();
        let hint = match status.as_u16() {
            200..=299 => return Ok(status.as_u16()),
            300..=399 => "; it redirects, which is not followed: set the address that it redirects to",
            401 | 403 => "; check the token or the password",
            404 => "; check the address",
            _ => "",
        };
        Err(Self(format!("it answers {status}{hint}")))
    }
}
