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
        client::{AsyncSmtpConnection, AsyncTokioStream},
        commands::{Data, Mail, Rcpt, Starttls},
        extension::{ClientId, Extension},
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
    send_error::SendError,
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
    StartTls(TlsConnector, ServerName<'static>),
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
        let tls = || {
            let name = ServerName::try_from(host.clone()).map_err(|error| root_cause(&error))?;
            Ok::<_, String>((connector().map_err(|error| root_cause(&error))?, name))
        };
        let encryption = match server.encryption {
            MailEncryption::Tls => tls().map(|(connector, name)| Encryption::Tls(connector, name))?,
            MailEncryption::StartTls => {
                tls().map(|(connector, name)| Encryption::StartTls(connector, name))?
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

    /// Sends one message, to one address alone if it is named. Returns what was answered.
    pub(super) async fn send(
        &self,
        message: &NotifyMessage,
        notices: &[Notice],
        only: Option<&str>,
    ) -> Result<SentAnswer, SendError> {
        let mail = self.compose(message, notices)?;
        let delivered = timeout(TIMEOUT, self.deliver(&mail, only)).await;
        let late = |_| Err(format!("no answer within {} s", TIMEOUT.as_secs()).into());
        let (answer, mut connection) = delivered.unwrap_or_else(late)?;
        let _gone = timeout(QUIT_TIMEOUT, connection.quit()).await;
        Ok(answer)
    }

    async fn deliver(
        &self,
        mail: &Message,
        only: Option<&str>,
    ) -> Result<(SentAnswer, AsyncSmtpConnection), SendError> {
        let mut connection = self.connect().await?;
        let sent = self.send_over(&mut connection, mail, only).await;
        if sent.is_err() {
            end(&mut connection).await;
        }
        Ok((sent?, connection))
    }

    /// Connects, encrypted and logged in as the settings say.
    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|error| root_cause(&error))?;
        let hello = hello(tcp.local_addr().map_err(|error| root_cause(&error))?.ip());
        let mut connection = match &self.encryption {
            Encryption::Tls(connector, name) => {
                let tls = connector.connect(name.clone(), tcp).await;
                let stream = BoundedStream::new(tls.map_err(|error| root_cause(&error))?);
                greet(stream, &hello).await?
            }
            Encryption::StartTls(connector, name) => {
                let tls = connector.connect(name.clone(), start_tls(tcp, &hello).await?);
                let stream = BoundedStream::greeted(tls.await.map_err(|error| root_cause(&error))?);
                greet(stream, &hello).await?
            }
            Encryption::None => greet(BoundedStream::new(tcp), &hello).await?,
        };
        let Some(login) = &self.login else {
            return Ok(connection);
        };
        match connection.auth(DEFAULT_MECHANISMS, login).await {
            Ok(_) => Ok(connection),
            Err(error) => {
                end(&mut connection).await;
                Err(why(&error))
            }
        }
    }

    async fn send_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &Message,
        only: Option<&str>,
    ) -> Result<SentAnswer, SendError> {
        let from = Mail::new(Some(self.from.email.clone()), Vec::new());
        connection.command(from).await.map_err(|error| refusal(&error))?;
        // One that is refused costs the others nothing.
        let (mut accepted, mut refused) = (0, Vec::new());
        let (mut late, mut addresses) = (Vec::new(), Vec::new());
        for (index, to) in self.to.iter().enumerate() {
            let address: &str = to.email.as_ref();
            if only.is_some_and(|only| only != address) {
                continue;
            }
            match connection.command(Rcpt::new(to.email.clone(), Vec::new())).await {
                Ok(_) => accepted += 1,
                // The address itself is private.
                Err(error) => match error.status() {
                    Some(code) if error.is_transient() => {
                        late.push(format!("to[{index}] ({code})"));
                        addresses.push(address.to_owned());
                    }
                    Some(code) => refused.push(format!("to[{index}] ({code})")),
                    None => return Err(why(&error).into()),
                },
            }
        }
        let refused = (!refused.is_empty()).then(|| format!("it refuses {}", refused.join(", ")));
        let late = (!late.is_empty()).then(|| format!("it does not take {} yet", late.join(", ")));
        match (accepted, &refused, &late) {
            (0, _, Some(late)) => return Err(SendError::Temporary(late.clone())),
            (0, Some(refused), None) => {
                return Err(SendError::Permanent(format!("{refused}; check from and to")));
            }
            _ => {}
        }
        connection.command(Data).await.map_err(|error| refusal(&error))?;
        let taken = connection.message(&mail.formatted()).await;
        Ok(SentAnswer {
            text: format!("SMTP {}", taken.map_err(|error| refusal(&error))?.code()),
            refused: refused.map(|refused| format!("{refused}, and sent to the others; check to")),
            late: late.map(|late| (addresses, format!("{late}, and sent to the others"))),
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

/// Waits for the greeting of the server, and says who we are.
async fn greet<S>(stream: BoundedStream<S>, hello: &ClientId) -> Result<AsyncSmtpConnection, String>
where
    BoundedStream<S>: AsyncTokioStream + 'static,
{
    let connected = AsyncSmtpConnection::connect_with_transport(Box::new(stream), hello).await;
    connected.map_err(|error| why(&error))
}

/// Asks for encryption (RFC 3207). What the server sent in plain text after its answer is dropped: it is anyone's.
async fn start_tls(tcp: TcpStream, hello: &ClientId) -> Result<TcpStream, String> {
    let twins = tcp.into_std().and_then(|tcp| Ok((tcp.try_clone()?, tcp)));
    let twins = twins.and_then(|(twin, tcp)| Ok((TcpStream::from_std(twin)?, tcp)));
    let (plain, tcp) = twins.map_err(|error| root_cause(&error))?;
    let mut connection = greet(BoundedStream::new(plain), hello).await?;
    if !connection.server_info().supports_feature(Extension::StartTls) {
        end(&mut connection).await;
        return Err("STARTTLS is not supported on this server".to_owned());
    }
    let started = connection.command(Starttls).await;
    started.map_err(|error| why(&error))?;
    TcpStream::from_std(tcp).map_err(|error| root_cause(&error))
}

/// Ends a connection that sends nothing.
async fn end(connection: &mut AsyncSmtpConnection) {
    let _gone = timeout(QUIT_TIMEOUT, connection.abort()).await;
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

/// Why a server does not take a message. After the login, a permanent answer is about the message.
fn refusal(error: &Error) -> SendError {
    if error.is_permanent() {
        SendError::Permanent(why(error))
    } else {
        SendError::Temporary(why(error))
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
