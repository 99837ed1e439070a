//! The one reply to a request.

use std::fmt;

use serde_json::Value;
use tokio::sync::mpsc;

use super::{scheduling::RequestError, sent_reply::SentReply};

/// The data of a response, or why there is none.
pub type RequestResult = Result<Value, RequestError>;

/// The right to reply to a request, exactly once. It travels with the request. A reply that is dropped sends
/// [`RequestError::ShuttingDown`], so no code path can lose a request silently.
pub struct RequestReply(Option<Box<dyn FnOnce(RequestResult) + Send + Sync>>);

impl RequestReply {
    /// A reply that calls `send`, once.
    pub fn new(send: impl FnOnce(RequestResult) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(send)))
    }

    /// The same reply, which goes through `sent` once it is sent.
    #[must_use]
    pub fn through(mut self, sent: &mpsc::UnboundedSender<SentReply>) -> Self {
        let sent = sent.clone();
        let through = |send: Box<dyn FnOnce(RequestResult) + Send + Sync>| {
            Self::new(move |result| {
                // One without a receiver is delivered by its drop.
                let _delivered = sent.send(SentReply::new(result.is_ok(), move || send(result)));
            })
        };
        self.0.take().map_or(Self(None), through)
    }

    /// Sends the result.
    pub fn send(mut self, result: RequestResult) {
        self.send_once(result);
    }

    fn send_once(&mut self, result: RequestResult) {
        if let Some(send) = self.0.take() {
            send(result);
        }
    }
}

impl Drop for RequestReply {
    fn drop(&mut self) {
        self.send_once(Err(RequestError::ShuttingDown));
    }
}

impl fmt::Debug for RequestReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestReply")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_request_gets_one_reply_even_if_it_is_dropped() {
        let (results, inbox) = mpsc::channel();
        let reply = || {
            let results = results.clone();
            RequestReply::new(move |result| results.send(result).unwrap())
        };
        reply().send(Ok(Value::Null));
        drop(reply());
        let results: Vec<_> = inbox.try_iter().collect();
        assert_eq!(results, [Ok(Value::Null), Err(RequestError::ShuttingDown)]);
    }
}
