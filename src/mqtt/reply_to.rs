//! Who gets the response to a command or request.

use tokio::sync::oneshot;

/// Where a command or request came from.
#[derive(Debug)]
pub(super) enum ReplyTo {
    /// The broker: whoever reads the response topic.
    Broker,
    /// A page, which waits for the response.
    Page(oneshot::Sender<String>),
}

impl ReplyTo {
    /// As in the log.
    pub(super) fn source(&self) -> &'static str {
        match self {
            Self::Broker => "mqtt",
            Self::Page(_) => "page",
        }
    }

    /// Passes the response to a page; gives it back for whoever reads the response topic.
    pub(super) fn page(self, response: String) -> Option<String> {
        match self {
            Self::Broker => Some(response),
            Self::Page(page) => {
                // Fails if the page is gone.
                let _gone = page.send(response);
                None
            }
        }
    }
}
