//! Notifications by e-mail.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lettre::{
    Message,
    message::{
        Mailbox, Mailboxes,
        header::{ContentType, HeaderName, HeaderValue, To},
    },
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::ClientId,
    },
};
use rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt as _;
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    bounded_stream::BoundedStream,
    notice::{Notice, NotifyMessage},
    sender::SentAnswer,
};
use crate::{
    config::{MailEncryption, MailServer},
    system::root_cause,
};

/// How long a message may take, from the connection to the last answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long the end of a connection may take. The message is sent then, whatever the server says to that.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends through one mail server. Each message has a connection, because they are rare.
#[derive(Clone)]
pub(super) struct Mailer {
    host: String,
    port: u16,
    encryption: Encryption,
    login: Option<Credentials>,
    from: Mailbox,
    to: Mailboxes,
}

/// How the connection is encrypted, with what that needs.
#[derive(Clone)]
enum Encryption {
    Tls(TlsConnector, ServerName<'static>),
    StartTls(TlsParameters),
    None,
}

/// It has the login.
impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").finish_non_exhaustive()
    }
}

impl Mailer {
    /// # Errors
    /// The certificates of the system cannot be read.
    pub(super) fn new(server: &MailServer) -> Result<Self, String> {
        let host = server.host.clone();
        let encryption = match server.encryption {
            MailEncryption::Tls => {
                let name = ServerName::try_from(host.clone()).map_err(|error| root_cause(&error))?;
                Encryption::Tls(connector().map_err(|error| root_cause(&error))?, name)
            }
            MailEncryption::StartTls => {
                let parameters = TlsParameters::new(host.clone());
                Encryption::StartTls(parameters.map_err(|error| root_cause(&error))?)
            }
            MailEncryption::None => Encryption::None,
        };
        let login = server.login.as_ref().map(|login| {
            let (username, password) = (login.username.expose(), login.password.expose());
            Credentials::new(username.to_owned(), password.to_owned())
        });
        let mailbox = |address| Mailbox::new(None, address);
        Ok(Self {
            host,
            port: server.port,
            encryption,
            login,
            from: Mailbox::new(Some("tapo2mqtt".to_owned()), server.from.clone()),
            to: server.to.iter().cloned().map(mailbox).collect(),
        })
    }

    /// Sends one message. Returns what was answered.
    pub(super) async fn send(
        &self,
        message: &NotifyMessage,
        notices: &[Notice],
    ) -> Result<SentAnswer, String> {
        let mail = self.compose(message, notices)?;
        let delivered = timeout(TIMEOUT, self.deliver(&mail)).await;
        let (answer, mut connection) =
            delivered.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))?;
        let _gone = timeout(QUIT_TIMEOUT, connection.quit()).await;
        Ok(answer)
    }

    async fn deliver(&self, mail: &Message) -> Result<(SentAnswer, AsyncSmtpConnection), String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|error| root_cause(&error))?;
        let hello = hello(tcp.local_addr().map_err(|error| root_cause(&error))?.ip());
        let connected = match &self.encryption {
            Encryption::Tls(connector, name) => {
                let tls = connector.connect(name.clone(), tcp).await;
                let stream = BoundedStream::new(tls.map_err(|error| root_cause(&error))?);
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await
            }
            Encryption::StartTls(_) | Encryption::None => {
                let stream = BoundedStream::new(tcp);
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await
            }
        };
        let mut connection = connected.map_err(|error| why(&error))?;
        if let Encryption::StartTls(parameters) = &self.encryption {
            let started = connection.starttls(parameters.clone(), &hello).await;
            started.map_err(|error| why(&error))?;
        }
        // After a STARTTLS that failed there is no stream to say that on.
        let sent = self.send_over(&mut connection, mail).await;
        if sent.is_err() {
            let _gone = timeout(QUIT_TIMEOUT, connection.abort()).await;
        }
        Ok((sent?, connection))
    }

    async fn send_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &Message,
    ) -> Result<SentAnswer, String> {
        if let Some(login) = &self.login {
            let logged_in = connection.auth(DEFAULT_MECHANISMS, login).await;
            logged_in.map_err(|error| why(&error))?;
        }
        let from = Mail::new(Some(self.from.email.clone()), Vec::new());
        connection.command(from).await.map_err(|error| why(&error))?;
        // One that is refused costs the others nothing.
        let (mut accepted, mut refused) = (0, Vec::new());
        for (index, to) in self.to.iter().enumerate() {
            match connection.command(Rcpt::new(to.email.clone(), Vec::new())).await {
                Ok(_) => accepted += 1,
                // The address itself is private.
                Err(error) => match error.status() {
                    Some(code) => refused.push(format!("to[{index}] ({code})")),
                    None => return Err(why(&error)),
                },
            }
        }
        let refused = (!refused.is_empty()).then(|| format!("it refuses {}", refused.join(", ")));
        if let (0, Some(refused)) = (accepted, &refused) {
            return Err(format!("{refused}; check from and to"));
        }
        connection.command(Data).await.map_err(|error| why(&error))?;
        let taken = connection.message(&mail.formatted()).await;
        Ok(SentAnswer {
            text: format!("SMTP {}", taken.map_err(|error| why(&error))?.code()),
            refused: refused.map(|refused| format!("{refused}, and sent to the others; check to")),
        })
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
        // So that no absence is answered.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        mail.headers_mut()
            .insert_raw(HeaderValue::new(automatic, "auto-generated".to_owned()));
        Ok(mail)
    }
}

/// TLS with the authorities of the system.
fn connector() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = builder.with_platform_verifier()?.with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// What a client without a name of its own says that it is (RFC 5321, 4.1.4). Servers refuse an address that is not its own.
fn hello(ip: IpAddr) -> ClientId {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ClientId::Ipv4(ip),
        IpAddr::V6(ip) => ClientId::Ipv6(ip),
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
    fn we_are_the_address_that_the_server_sees() {
        for (ip, said) in [
            ("192.168.1.5", "[192.168.1.5]"),
            ("::ffff:192.168.1.5", "[192.168.1.5]"),
            ("fd00::5", "[IPv6:fd00::5]"),
        ] {
            assert_eq!(hello(ip.parse().unwrap()).to_string(), said);
        }
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
