//! Why there is no connection, typed by what a person can do about it.

use std::{error::Error, io};

use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError, tokio_rustls::rustls};
use rustls::CertificateError;

/// Why the connection to the broker failed or ended. Its text says what to look at; none of it comes from
/// a packet, so none of it can contain a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// Return code 4 of CONNACK.
    #[error("the broker refused the user name or the password; check mqtt.username and mqtt.password")]
    BadCredentials,
    /// Return code 5 of CONNACK.
    #[error(
        "the broker does not allow this log-in; check mqtt.username, mqtt.password and the broker's access rules"
    )]
    NotAuthorized,
    /// Return code 2 of CONNACK.
    #[error("the broker refused the client id; choose another mqtt.client_id")]
    ClientIdRefused,
    /// Return code 1 of CONNACK.
    #[error("the broker does not speak MQTT 3.1.1")]
    ProtocolRefused,
    /// Return code 3 of CONNACK.
    #[error("the broker answers that it is not available at the moment")]
    Unavailable,
    /// Several connections in a row were closed by the broker, as it does to the older one of two clients
    /// with one id. Some brokers also close on a publish that their access rules deny (MQTT-3.3.5-2).
    #[error(
        "the broker keeps closing the connection; another client probably uses the same client id: \
         choose another mqtt.client_id for one of them. If not, its log should say why, \
         as when its access rules deny a topic"
    )]
    ClientIdTaken,
    /// The connection was closed before the broker answered CONNECT, over plain TCP.
    #[error(
        "the connection was closed before the broker answered; if this port expects TLS (often 8883), \
         switch TLS on, and check the broker's log"
    )]
    ClosedBeforeAnswer,
    /// What answers does not speak TLS.
    #[error("no TLS on this port; check mqtt.port (TLS is often on 8883), or switch TLS off")]
    NotTls,
    /// What answers does not speak MQTT.
    #[error("what answers on this port is not an MQTT broker; check mqtt.host and mqtt.port")]
    NotMqtt,
    /// No certificate authority that is trusted here signed the broker's certificate.
    #[error("the broker's certificate is signed by an unknown authority; name its CA file in the settings")]
    UnknownAuthority,
    /// The certificate is for other names.
    #[error("the broker's certificate is not valid for this host; use a name that the certificate lists")]
    CertificateName,
    /// The certificate is expired or not valid yet.
    #[error("the broker's certificate is expired or not valid yet; check it, and the clock of this machine")]
    CertificateTime,
    /// Any other objection to the certificate.
    #[error("the broker's certificate cannot be accepted: {0}")]
    Certificate(String),
    /// The broker broke the handshake off, as it does without the client certificate it wants.
    #[error("the broker broke off the TLS handshake ({0}); check the client certificate and key")]
    TlsRefused(String),
    /// Nothing listens.
    #[error(
        "connection refused: nothing listens there; check mqtt.host and mqtt.port, and that the broker runs"
    )]
    ConnectionRefused,
    /// No route.
    #[error("the host cannot be reached: {0}; check the network and mqtt.host")]
    Unreachable(String),
    /// The name does not resolve.
    #[error("the host name does not resolve; check mqtt.host and the DNS")]
    UnknownHost,
    /// No answer to the connect in time.
    #[error("no answer in time; check mqtt.host, mqtt.port and firewalls on the way")]
    Timeout,
    /// The broker closed an established connection.
    #[error("the broker closed the connection")]
    ClosedByBroker,
    /// The established connection is silent: no answer to pings, or nothing can be written.
    #[error("the broker stopped answering")]
    Silent,
    /// Pings are answered, publishes are not.
    #[error("the broker answers, but does not acknowledge messages")]
    Unacknowledged,
    /// Somebody published more than a packet of ours holds, to a topic that we listen to.
    #[error(
        "a message of {0} bytes came in, more than any command; if it is retained, clear it on its topic (the broker's \
         log names it), and bound what clients may publish (Mosquitto: max_packet_size 1000000)"
    )]
    MessageTooLarge(usize),
    /// The broker sent what MQTT does not allow here.
    #[error("the broker broke the MQTT protocol: {0}")]
    Protocol(String),
    /// Any other failure of the network.
    #[error("network failure: {0}")]
    Network(String),
    /// The task behind the link ended, which is a defect of this program.
    #[error("the task that drives the connection ended; please report this")]
    DriverEnded,
}

/// How far a connection had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The broker has not accepted it yet.
    Connecting,
    /// The broker accepted it.
    Connected,
}

impl LinkFault {
    /// Whether it lasts until somebody changes something, so that trying often only fills logs and trips
    /// lock-outs.
    pub(super) fn needs_a_person(&self) -> bool {
        match self {
            Self::BadCredentials
            | Self::NotAuthorized
            | Self::ClientIdRefused
            | Self::ClientIdTaken
            | Self::ProtocolRefused
            | Self::NotTls
            | Self::NotMqtt
            | Self::UnknownAuthority
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
            | Self::MessageTooLarge(_)
            | Self::Protocol(_)
            | Self::Network(_)
            | Self::DriverEnded => false,
        }
    }

    /// What an error of the client means at this stage.
    pub(super) fn of(error: &ConnectionError, stage: Stage) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => Self::of_return_code(*code),
            ConnectionError::NetworkTimeout => Self::Timeout,
            ConnectionError::FlushTimeout => Self::Silent,
            ConnectionError::Io(error) => Self::of_io(error, stage),
            ConnectionError::Tls(error) => Self::of_tls(error),
            ConnectionError::MqttState(error) => Self::of_state(error, stage),
            // The packet itself is not shown: an echoing server would send our password back.
            ConnectionError::NotConnAck(_) => Self::NotMqtt,
            ConnectionError::RequestsDone => Self::Network(error.to_string()),
        }
    }

    fn of_return_code(code: ConnectReturnCode) -> Self {
        match code {
            ConnectReturnCode::BadUserNamePassword => Self::BadCredentials,
            ConnectReturnCode::NotAuthorized => Self::NotAuthorized,
            ConnectReturnCode::BadClientId => Self::ClientIdRefused,
            ConnectReturnCode::RefusedProtocolVersion => Self::ProtocolRefused,
            ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => Self::Unavailable,
        }
    }

    fn of_state(error: &StateError, stage: Stage) -> Self {
        match (error, stage) {
            (StateError::Io(error) | StateError::Deserialization(rumqttc::Error::Io(error)), _) => {
                Self::of_io(error, stage)
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

    fn of_tls(error: &TlsError) -> Self {
        match error {
            TlsError::TLS(error) => Self::of_rustls(error),
            TlsError::Io(error) => match Self::of_io(error, Stage::Connecting) {
                // A plain broker hangs up on a handshake.
                Self::ClosedBeforeAnswer => Self::NotTls,
                other => other,
            },
            TlsError::DNSName(_) => Self::CertificateName,
            other => Self::Certificate(other.to_string()),
        }
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => Self::NotTls,
            rustls::Error::AlertReceived(alert) => Self::TlsRefused(format!("{alert:?}")),
            rustls::Error::InvalidCertificate(why) => match why {
                // The latter is what a new authority with the old name looks like.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::CertificateName
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::CertificateTime,
                other => Self::Certificate(other.to_string()),
            },
            other => Self::Certificate(other.to_string()),
        }
    }

    fn of_io(error: &io::Error, stage: Stage) -> Self {
        if let Some(error) = rustls_cause(error) {
            return Self::of_rustls(error);
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

/// TLS errors travel inside I/O errors.
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

/// The standard library has no kind for a failed look-up, only this text.
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
    fn a_refused_login_is_told_apart_and_needs_a_person() {
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
            let fault = LinkFault::of(&ConnectionError::ConnectionRefused(code), Stage::Connecting);
            assert_eq!(fault, expected);
            assert!(fault.needs_a_person());
        }
    }

    #[test]
    fn the_same_error_means_another_thing_once_connected() {
        let closed = || ConnectionError::MqttState(StateError::ConnectionAborted);
        assert_eq!(
            LinkFault::of(&closed(), Stage::Connecting),
            LinkFault::ClosedBeforeAnswer
        );
        assert_eq!(
            LinkFault::of(&closed(), Stage::Connected),
            LinkFault::ClosedByBroker
        );
        assert_eq!(
            LinkFault::of(&io(io::ErrorKind::TimedOut), Stage::Connecting),
            LinkFault::Timeout
        );
        assert_eq!(
            LinkFault::of(&io(io::ErrorKind::TimedOut), Stage::Connected),
            LinkFault::Silent
        );
    }

    #[test]
    fn certificates_and_handshakes_are_told_apart() {
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
            assert_eq!(LinkFault::of(&error, Stage::Connecting), expected);
        }
    }

    #[test]
    fn an_echoed_packet_does_not_print_a_password() {
        let mut connect = rumqttc::Connect::new("id");
        connect.set_login("user", "hunter2");
        let echoed = ConnectionError::NotConnAck(rumqttc::Packet::Connect(connect));
        assert!(
            format!("{echoed}").contains("hunter2"),
            "the client's own text does"
        );
        let fault = LinkFault::of(&echoed, Stage::Connecting);
        assert!(!format!("{fault} {fault:?}").contains("hunter2"));
    }
}
