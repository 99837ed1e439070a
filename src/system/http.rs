//! Requests to web servers outside.

use std::{error::Error, time::Duration};

use reqwest::{Client, Response, redirect::Policy};

use super::Secret;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take, with its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Makes requests, each with a connection of its own. It follows no redirect: what is sent may be a secret.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient(Client);

/// Why a request failed. The text has no address, which may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HttpError(String);

impl HttpClient {
    /// # Errors
    /// The certificates of the system cannot be read.
    pub(crate) fn new() -> Result<Self, HttpError> {
        let client = Client::builder()
            .user_agent(concat!("tapo2mqtt/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .pool_max_idle_per_host(0)
            .build();
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
        let error = error.without_url();
        // The last one says what happened, such as `Connection refused`.
        let mut cause: &dyn Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self(cause.to_string())
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
