//! Opening a TCP connection.

use std::{io::ErrorKind, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::Error;

/// Resolves the name and connects.
pub(crate) async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, Error> {
    let connected = timeout(limit, TcpStream::connect((host, port))).await;
    let stream = connected
        .map_err(|_| Error::Unreachable(format!("no answer from {host} port {port} within {limit:?}")))?
        .map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Error::Refused,
            _ => Error::Unreachable(error.to_string()),
        })?;
    // A request is one write; nothing is gained by waiting for more. A socket that refuses is slower, not wrong.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Whether nothing came while the connection was idle, as far as its packets tell: neither its end nor an answer that is not
/// expected.
pub(crate) fn is_silent(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
