//! A device that answered a search.

/// A device that answered a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkDevice {
    /// Lower case with colons.
    pub mac: String,
    /// Where it answered, with the port unless it is 80.
    pub address: String,
    /// `P110`.
    pub model: Option<String>,
    /// Whether it can be used.
    pub trial: LoginTrial,
}

/// Whether a found device can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginTrial {
    /// Not known: it has a worker, or there is no account.
    Untried,
    /// It accepted a login; its name in the app.
    Accepted(Option<String>),
    /// It is of no use: why, and what to do.
    Refused(String),
}
