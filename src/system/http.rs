//! HTTP to web servers outside, which may be gone, slow or wrong.

pub(crate) mod poster;
pub(crate) mod reader;

use std::time::Duration;

use reqwest::{Client, redirect::Policy};

use super::root_cause;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Who asks, as providers of data want it: a name, and where to complain.
const USER_AGENT: &str = concat!(
    "tapo2mqtt/",
    env!("CARGO_PKG_VERSION"),
    " ",
    env!("CARGO_PKG_REPOSITORY")
);

/// A client whose requests have a connection each, because they are rare. `timeout` is for a request with all of its answer.
///
/// # Errors
/// The certificates of the system cannot be read.
fn client(timeout: Duration, redirects: Policy) -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .redirect(redirects)
        .pool_max_idle_per_host(0)
        .build()
}

/// What happened, such as `Connection refused`. The text has no address, which may hold a secret.
fn cause(error: reqwest::Error) -> String {
    root_cause(&error.without_url())
}
