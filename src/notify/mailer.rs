//! Notifications by e-mail.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox, Mailboxes,
        header::{ContentType, HeaderName, HeaderValue, To},
    },
    transport::smtp::{
        Error,
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::notice::{Notice, NotifyMessage};
use crate::{
    config::{MailEncryption, MailServer},
    system::root_cause,
};

/// How long a message may take, from the connection to the last answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends through one mail server. Each message has a connection, because they are rare.
#[derive(Clone)]
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailboxes,
}

/// The transport has the login.
impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").finish_non_exhaustive()
    }
}

impl Mailer {
    /// # Errors
    /// The certificates of the system cannot be read.
    pub(super) fn new(server: &MailServer) -> Result<Self, String> {
        let parameters = || TlsParameters::new(server.host.clone()).map_err(|error| root_cause(&error));
        let tls = match server.encryption {
            MailEncryption::Tls => Tls::Wrapper(parameters()?),
            MailEncryption::StartTls => Tls::Required(parameters()?),
            MailEncryption::None => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .tls(tls)
            .timeout(Some(TIMEOUT));
        if let Some(login) = &server.login {
            let (username, password) = (login.username.expose(), login.password.expose());
            transport = transport.credentials(Credentials::new(username.to_owned(), password.to_owned()));
        }
        let mailbox = |address| Mailbox::new(None, address);
        Ok(Self {
            transport: transport.build(),
            from: Mailbox::new(Some("tapo2mqtt".to_owned()), server.from.clone()),
            to: server.to.iter().cloned().map(mailbox).collect(),
        })
    }

    /// Sends one message. Returns what was answered.
    pub(super) async fn send(&self, message: &NotifyMessage, notices: &[Notice]) -> Result<String, String> {
        let mail = self.compose(message, notices)?;
        match timeout(TIMEOUT, self.transport.send(mail)).await {
            Ok(Ok(response)) => Ok(format!("SMTP {}", response.code())),
            Ok(Err(error)) => Err(why(&error)),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }

    fn compose(&self, message: &NotifyMessage, notices: &[Notice]) -> Result<Message, String> {
        let NotifyMessage { title, text, .. } = message;
        let at = notices
            .last()
            .and_then(|notice| SystemTime::try_from(notice.at).ok());
        // The same for each attempt: where an answer was lost, the recipient can see that it is the same message.
        let digest = Sha256::digest(format!("{at:?} {title} {text}"));
        let id = digest.first_chunk().copied().map_or(0, u128::from_be_bytes);
        let mail = Message::builder()
            .from(self.from.clone())
            .header(To::from(self.to.clone()))
            .subject(title.replace(char::is_control, " "))
            .date(at.unwrap_or(SystemTime::UNIX_EPOCH))
            .message_id(Some(format!("<{id:032x}@{}>", self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(format!("{text}\n"));
        let mut mail = mail.map_err(|error| error.to_string())?;
        // Nobody's holiday is answered to the bridge.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        mail.headers_mut()
            .insert_raw(HeaderValue::new(automatic, "auto-generated".to_owned()));
        Ok(mail)
    }
}

/// Without the text of the server, which may repeat the login or an address.
fn why(error: &Error) -> String {
    if let Some(code) = error.status() {
        let hint = match u16::from(code) {
            530 | 534 | 535 | 538 => "; check the user and the password",
            550..=559 => "; check from and to",
            _ => "",
        };
        return format!("it answers {code}{hint}");
    }
    if error.is_response() {
        return "its answer is not SMTP".to_owned();
    }
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    root_cause(error)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::system::clock::Clock;

    fn composed(title: &str, text: &str) -> String {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let address = |text: &str| text.parse().unwrap();
        let mailer = Mailer::new(&MailServer {
            host: "mail.lan".to_owned(),
            port: 25,
            encryption: MailEncryption::None,
            login: None,
            from: address("me@example.com"),
            to: vec![address("you@example.com"), address("other@example.com")],
        });
        let message = NotifyMessage {
            title: title.to_owned(),
            text: text.to_owned(),
            is_alarm: true,
        };
        let at: Timestamp = "2026-11-21T19:50:00Z".parse().unwrap();
        let notice = Notice {
            at,
            ..Notice::test(Clock::steered(at).read())
        };
        let mail = mailer.unwrap().compose(&message, &[notice]).unwrap();
        String::from_utf8(mail.formatted()).unwrap()
    }

    #[test]
    fn an_e_mail_has_what_recipients_need() {
        let mail = composed(
            "attic: heater is offline",
            "heater cannot be reached.\n.\nCheck it.",
        );
        for line in [
            "From: tapo2mqtt <me@example.com>",
            "To: you@example.com, other@example.com",
            "Subject: attic: heater is offline",
            "Date: Sat, 21 Nov 2026 19:50:00 +0000",
            "Auto-Submitted: auto-generated",
            "Content-Type: text/plain; charset=utf-8",
            "heater cannot be reached.",
            ".",
        ] {
            assert!(mail.split("\r\n").any(|seen| seen == line), "{line}: {mail}");
        }
        let id = |mail: &str| {
            mail.lines()
                .find(|line| line.starts_with("Message-ID: <"))
                .unwrap()
                .to_owned()
        };
        assert!(id(&mail).ends_with("@example.com>"), "{mail}");
        assert_eq!(
            id(&mail),
            id(&composed(
                "attic: heater is offline",
                "heater cannot be reached.\n.\nCheck it."
            ))
        );
        assert_ne!(id(&mail), id(&composed("attic: heater is offline", "")));
    }

    #[test]
    fn no_text_adds_a_header() {
        for title in [
            "a\r\nBcc: x@y.z",
            "a\nBcc: x@y.z",
            "ü\r\nBcc: x@y.z\r\n\r\n",
            "\u{85}\u{2028}Bcc: x@y.z",
        ] {
            let mail = composed(title, "Bcc: x@y.z");
            let (head, _) = mail.split_once("\r\n\r\n").unwrap();
            assert!(!head.contains("\nBcc") && head.is_ascii(), "{head}");
            assert_eq!(head.matches('\n').count(), head.matches("\r\n").count(), "{head}");
        }
    }
}
