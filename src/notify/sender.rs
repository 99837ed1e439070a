//! Sends notifications to one entry of the settings.

use tracing::debug;

use super::{
    mailer::Mailer,
    notice::{Notice, NotifyMessage},
    request::NotifyRequest,
    send_error::SendError,
};
use crate::{
    config::{Delivery, HttpFormat, NotifyTarget},
    system::{Secret, clock::Clock, http::poster::HttpPoster},
};

/// Sends to one entry.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The name of the bridge.
    bridge: String,
    way: Way,
}

/// What a server answered that took a message.
#[derive(Debug)]
pub(super) struct SentAnswer {
    /// Its code.
    pub text: String,
    /// The recipients that it did not take.
    pub refused: Option<String>,
    /// The addresses of those that it may take later, and what is said of them.
    pub late: Option<(Vec<String>, String)>,
}

#[derive(Debug, Clone)]
enum Way {
    Http {
        client: HttpPoster,
        format: HttpFormat,
        url: Secret,
        token: Option<Secret>,
    },
    Mail(Box<Mailer>),
}

impl Sender {
    /// For an entry of the settings of the bridge with this name.
    ///
    /// # Errors
    /// Why nothing can be sent that way.
    pub fn new(bridge: &str, target: &NotifyTarget) -> Result<Self, String> {
        let way = match &target.delivery {
            Delivery::Http {
                format, url, token, ..
            } => Way::Http {
                client: HttpPoster::new().map_err(|error| error.to_string())?,
                format: *format,
                url: url.clone(),
                token: token.clone(),
            },
            Delivery::Mail(server) => Way::Mail(Box::new(Mailer::new(server)?)),
        };
        Ok(Self {
            bridge: bridge.to_owned(),
            way,
        })
    }

    /// Sends notifications in one message, to one address alone if it is named. Returns what was answered.
    pub(super) async fn send(
        self,
        notices: Vec<Notice>,
        left_out: u64,
        only: Option<&str>,
    ) -> Result<SentAnswer, SendError> {
        let message = NotifyMessage::of(&self.bridge, &notices, left_out);
        let answer = match &self.way {
            Way::Http {
                client,
                format,
                url,
                token,
            } => {
                let request =
                    NotifyRequest::new(*format, url, token.as_ref(), &self.bridge, &message, &notices);
                let header = request.header.as_ref().map(|(name, value)| (*name, value));
                let sent = client
                    .post_json(&request.url, header, request.body.to_string())
                    .await;
                let status = sent.map_err(|error| error.to_string())?;
                SentAnswer {
                    text: format!("HTTP {status}"),
                    refused: None,
                    late: None,
                }
            }
            Way::Mail(mailer) => mailer.send(&message, &notices, only).await?,
        };
        debug!(title = message.title, answer = answer.text, "notification sent");
        Ok(answer)
    }
}

/// Sends a test to an entry. Returns what was answered.
///
/// # Errors
/// Why it was not sent, or not to all.
pub async fn send_test(bridge: &str, target: &NotifyTarget, clock: &Clock) -> Result<String, String> {
    let sent = Sender::new(bridge, target)?.send(vec![Notice::test(clock.read())], 0, None);
    let SentAnswer { text, refused, late } = sent.await.map_err(|error| error.to_string())?;
    let missed: Vec<String> = refused.into_iter().chain(late.map(|(_, why)| why)).collect();
    if missed.is_empty() {
        Ok(text)
    } else {
        Err(missed.join("; "))
    }
}
