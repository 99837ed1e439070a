//! Why there is no connection, by what a user can do about it.

use std::{error::Error, io};

use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError, tokio_rustls::rustls};
use rustls::CertificateError;

/// Why the connection to the broker failed or ended. The message says what to check. No part of it comes from a packet,
/// so it cannot contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// Return code 4 of CONNACK.
    #[error("the broker refused the user name or the password; check mqtt.username and mqtt.password")]
    BadCredentials,
    /// Return code 5 of CONNACK.
    #[error(
        "the broker does not allow this login; check mqtt.username, mqtt.password and the broker's access rules"
    )]
    NotAuthorized,
    /// Return code 2 of CONNACK.
    #[error("the broker refused the client id; choose another mqtt.client_id")]
    ClientIdRefused,
    /// Return code 1 of CONNACK.
    #[error("the broker does not support MQTT 3.1.1")]
    ProtocolRefused,
    /// Return code 3 of CONNACK.
    #[error("the broker reports that it is temporarily unavailable")]
    Unavailable,
    /// The broker closed several connections in a row, as it does to the older of two clients with the same id. Some
    /// brokers also close the connection on a PUBLISH that their access rules deny (MQTT-3.3.5-2).
    #[error(
        "the broker keeps closing the connection; another client probably uses the same client id: \
         choose another mqtt.client_id for one of them. Otherwise check the broker's log, \
         for example for access rules that deny a topic"
    )]
    ClientIdTaken,
    /// The connection was closed before the broker answered CONNECT, over plain TCP.
    #[error(
        "the connection was closed before the broker answered; if this port expects TLS (often 8883), \
         enable TLS, and check the broker's log"
    )]
    ClosedBeforeAnswer,
    /// The server does not use TLS.
    #[error("no TLS on this port; check mqtt.port (TLS is often on 8883), or disable TLS")]
    NotTls,
    /// The server does not use MQTT.
    #[error("the server on this port is not an MQTT broker; check mqtt.host and mqtt.port")]
    NotMqtt,
    /// No trusted certificate authority signed the broker's certificate.
    #[error("the broker's certificate is signed by an unknown authority; name its CA file in the settings")]
    UnknownAuthority,
    /// The certificate is that of an authority, as self-signed ones usually are.
    #[error(
        "the broker's certificate is self-signed, or that of an authority, and not accepted as a server's; sign a server \
         certificate with it, and name it in mqtt.tls as ca_file"
    )]
    SelfSigned,
    /// The certificate is for other host names.
    #[error("the broker's certificate is not valid for this host; use a name that the certificate lists")]
    CertificateName,
    /// The certificate is expired or not valid yet.
    #[error(
        "the broker's certificate is expired or not valid yet; check the certificate and the clock of this machine"
    )]
    CertificateTime,
    /// Any other problem with the certificate.
    #[error("the broker's certificate is not accepted: {0}")]
    Certificate(String),
    /// The broker aborted the handshake, for example because it requires a client certificate.
    #[error("the broker aborted the TLS handshake ({0}); check the client certificate and key")]
    TlsRefused(String),
    /// No server listens on the port.
    #[error(
        "connection refused: no server listens on this port; check mqtt.host and mqtt.port, and that the broker runs"
    )]
    ConnectionRefused,
    /// No route to the host.
    #[error("the host is unreachable: {0}; check the network and mqtt.host")]
    Unreachable(String),
    /// DNS does not resolve the host name.
    #[error("the host name does not resolve; check mqtt.host and DNS")]
    UnknownHost,
    /// The connect timed out.
    #[error("no response in time; check mqtt.host, mqtt.port and firewalls")]
    Timeout,
    /// The broker closed an established connection.
    #[error("the broker closed the connection")]
    ClosedByBroker,
    /// The established connection is dead: no response to pings, or writes block.
    #[error("the broker does not respond any more")]
    Silent,
    /// The broker answers pings, but does not acknowledge messages.
    #[error("the broker responds, but does not acknowledge messages")]
    Unacknowledged,
    /// The broker denies all subscriptions that the link needs, and there is another broker.
    #[error("the broker denies all subscriptions; check its access rules")]
    SubscriptionsDenied,
    /// The broker denies the only subscription of a short connection.
    #[error("the broker denies the subscription to {0}; check its access rules")]
    SubscriptionDenied(String),
    /// A message on a subscribed topic exceeds the maximum packet size.
    #[error(
        "received a message of {0} bytes, which exceeds the packet size limit; if it is retained, clear its topic (see \
         the broker's log), and limit the message size in the broker (Mosquitto: max_packet_size 1000000)"
    )]
    MessageTooLarge(usize),
    /// The broker sent an invalid packet.
    #[error("the broker violated the MQTT protocol: {0}")]
    Protocol(String),
    /// Any other network error.
    #[error("network error: {0}")]
    Network(String),
    /// The driver task ended, which is a bug in this program.
    #[error("the MQTT driver task ended unexpectedly; please report this bug")]
    DriverEnded,
}

/// The stage of a connection when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The broker has not accepted the connection yet.
    Connecting,
    /// The broker accepted the connection.
    Connected,
}

impl LinkFault {
    /// Whether only a user can fix the fault. Frequent retries then fill logs and may lock the account.
    pub(crate) fn needs_user_action(&self) -> bool {
        match self {
            Self::BadCredentials
            | Self::NotAuthorized
            | Self::ClientIdRefused
            | Self::ClientIdTaken
            | Self::ProtocolRefused
            | Self::NotTls
            | Self::NotMqtt
            | Self::UnknownAuthority
            | Self::SelfSigned
            | Self::CertificateName
            | Self::CertificateTime
            | Self::Certificate(_)
            | Self::TlsRefused(_) => true,
            Self::Unavailable
            | Self::ClosedBeforeAnswer
            | Self::ConnectionRefused
            | Self::Unreachable(_)
            | Self::UnknownHost
            | Self::Timeout
            | Self::ClosedByBroker
            | Self::Silent
            | Self::Unacknowledged
            | Self::SubscriptionsDenied
            | Self::SubscriptionDenied(_)
            | Self::MessageTooLarge(_)
            | Self::Protocol(_)
            | Self::Network(_)
            | Self::DriverEnded => false,
        }
    }

    /// Classifies an error of the client at this stage.
    pub(crate) fn from_client(error: &ConnectionError, stage: Stage) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => Self::from_return_code(*code),
            ConnectionError::NetworkTimeout => Self::Timeout,
            ConnectionError::FlushTimeout => Self::Silent,
            ConnectionError::Io(error) => Self::from_io(error, stage),
            ConnectionError::Tls(error) => Self::from_tls(error),
            ConnectionError::MqttState(error) => Self::from_state(error, stage),
            // The message must not contain the packet: a server that echoes sends the password back.
            ConnectionError::NotConnAck(_) => Self::NotMqtt,
            other => Self::Protocol(other.to_string()),
        }
    }

    fn from_return_code(code: ConnectReturnCode) -> Self {
        match code {
            ConnectReturnCode::BadUserNamePassword => Self::BadCredentials,
            ConnectReturnCode::NotAuthorized => Self::NotAuthorized,
            ConnectReturnCode::BadClientId => Self::ClientIdRefused,
            ConnectReturnCode::RefusedProtocolVersion => Self::ProtocolRefused,
            ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => Self::Unavailable,
        }
    }

    fn from_state(error: &StateError, stage: Stage) -> Self {
        match (error, stage) {
            (StateError::Io(error) | StateError::Deserialization(rumqttc::Error::Io(error)), _) => {
                Self::from_io(error, stage)
            }
            (StateError::ConnectionAborted, _) => Self::closed(stage),
            (StateError::AwaitPingResp, _) => Self::Silent,
            (StateError::CollisionTimeout, _) => Self::Unacknowledged,
            (_, Stage::Connecting) => Self::NotMqtt,
            (
                StateError::Deserialization(rumqttc::Error::PayloadSizeLimitExceeded(size)),
                Stage::Connected,
            ) => Self::MessageTooLarge(*size),
            (StateError::Deserialization(error), Stage::Connected) => Self::Protocol(error.to_string()),
            (error, Stage::Connected) => Self::Protocol(error.to_string()),
        }
    }

    fn from_tls(error: &TlsError) -> Self {
        match error {
            TlsError::TLS(error) => Self::from_rustls(error),
            TlsError::Io(error) => match Self::from_io(error, Stage::Connecting) {
                // A broker without TLS closes the connection on a handshake.
                Self::ClosedBeforeAnswer => Self::NotTls,
                other => other,
            },
            TlsError::DNSName(_) => Self::CertificateName,
            other => Self::Certificate(other.to_string()),
        }
    }

    fn from_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => Self::NotTls,
            rustls::Error::AlertReceived(alert) => Self::TlsRefused(format!("{alert:?}")),
            rustls::Error::InvalidCertificate(why) => match why {
                // BadSignature also means a new authority with the name of the old one.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::CertificateName
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::CertificateTime,
                // The library has no variant for it, only this text.
                CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                    Self::SelfSigned
                }
                other => Self::Certificate(other.to_string()),
            },
            other => Self::Certificate(other.to_string()),
        }
    }

    fn from_io(error: &io::Error, stage: Stage) -> Self {
        if let Some(error) = rustls_cause(error) {
            return Self::from_rustls(error);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Self::Unreachable(error.to_string()),
            io::ErrorKind::TimedOut => match stage {
                Stage::Connecting => Self::Timeout,
                Stage::Connected => Self::Silent,
            },
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::closed(stage),
            _ if is_resolver_failure(error) => Self::UnknownHost,
            _ => Self::Network(error.to_string()),
        }
    }

    fn closed(stage: Stage) -> Self {
        match stage {
            Stage::Connecting => Self::ClosedBeforeAnswer,
            Stage::Connected => Self::ClosedByBroker,
        }
    }
}

/// I/O errors wrap TLS errors.
fn rustls_cause(error: &io::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

/// The standard library has no error kind for a failed DNS lookup, only this text.
fn is_resolver_failure(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("failed to lookup address") || text.contains("could not resolve")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> ConnectionError {
        ConnectionError::Io(kind.into())
    }

    #[test]
    fn refused_logins_are_distinguished_and_need_user_action() {
        let cases = [
            (ConnectReturnCode::BadUserNamePassword, LinkFault::BadCredentials),
            (ConnectReturnCode::NotAuthorized, LinkFault::NotAuthorized),
            (ConnectReturnCode::BadClientId, LinkFault::ClientIdRefused),
            (
                ConnectReturnCode::RefusedProtocolVersion,
                LinkFault::ProtocolRefused,
            ),
        ];
        for (code, expected) in cases {
            let fault = LinkFault::from_client(&ConnectionError::ConnectionRefused(code), Stage::Connecting);
            assert_eq!(fault, expected);
            assert!(fault.needs_user_action());
        }
    }

    #[test]
    fn the_same_error_depends_on_the_stage() {
        let closed = || ConnectionError::MqttState(StateError::ConnectionAborted);
        assert_eq!(
            LinkFault::from_client(&closed(), Stage::Connecting),
            LinkFault::ClosedBeforeAnswer
        );
        assert_eq!(
            LinkFault::from_client(&closed(), Stage::Connected),
            LinkFault::ClosedByBroker
        );
        assert_eq!(
            LinkFault::from_client(&io(io::ErrorKind::TimedOut), Stage::Connecting),
            LinkFault::Timeout
        );
        assert_eq!(
            LinkFault::from_client(&io(io::ErrorKind::TimedOut), Stage::Connected),
            LinkFault::Silent
        );
    }

    #[test]
    fn certificate_and_handshake_errors_are_distinguished() {
        let wrapped = |error: rustls::Error| ConnectionError::Tls(TlsError::Io(io::Error::other(error)));
        let cases = [
            (
                wrapped(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
                LinkFault::UnknownAuthority,
            ),
            (
                wrapped(rustls::Error::InvalidCertificate(CertificateError::Expired)),
                LinkFault::CertificateTime,
            ),
            (
                wrapped(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName,
                )),
                LinkFault::CertificateName,
            ),
            (
                wrapped(rustls::Error::InvalidMessage(
                    rustls::InvalidMessage::InvalidContentType,
                )),
                LinkFault::NotTls,
            ),
            (
                ConnectionError::Tls(TlsError::Io(io::ErrorKind::UnexpectedEof.into())),
                LinkFault::NotTls,
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(LinkFault::from_client(&error, Stage::Connecting), expected);
        }
    }

    #[test]
    fn an_echoed_packet_does_not_reveal_the_password() {
        let mut connect = rumqttc::Connect::new("id");
        connect.set_credentials("user", "hunter2");
        let echoed = ConnectionError::NotConnAck(Box::new(rumqttc::Packet::Connect(connect)));
        assert!(
            format!("{echoed}").contains("hunter2"),
            "the error of the client does"
        );
        let fault = LinkFault::from_client(&echoed, Stage::Connecting);
        assert!(!format!("{fault} {fault:?}").contains("hunter2"));
    }
}
