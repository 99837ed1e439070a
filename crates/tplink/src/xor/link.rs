//! The TCP connection to an old Kasa device.

use std::{fmt, io};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::frame;
use crate::{
    Error, Limits,
    connect::{connect, is_silent},
};

/// Host and port, and the connection that the last request left. Some devices close it after each answer.
pub(crate) struct XorLink {
    host: String,
    port: u16,
    limits: Limits,
    kept: Option<TcpStream>,
}

impl XorLink {
    pub(crate) fn new(host: &str, port: u16, limits: Limits) -> Self {
        Self {
            host: host.to_owned(),
            port,
            limits,
            kept: None,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        self.kept = None;
    }

    /// One request and its answer, as JSON. The connection is kept if the answer was read to its end.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Value, Error> {
        let exchange = async {
            let mut stream = match self.kept.take().filter(is_silent) {
                Some(kept) => kept,
                None => {
                    connect(
                        &self.host,
                        self.port,
                        self.limits.connect.min(self.limits.request),
                    )
                    .await?
                }
            };
            let body = transfer(&mut stream, request).await?;
            Ok((stream, body))
        };
        let (stream, body) = timeout(self.limits.request, exchange)
            .await
            .map_err(|_| Error::NoAnswer)??;
        self.kept = Some(stream);
        serde_json::from_slice(&body).map_err(|_| Error::Unreadable("it is not JSON"))
    }
}

impl fmt::Debug for XorLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XorLink to port {}", self.port)
    }
}

async fn transfer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> Result<Vec<u8>, Error> {
    let closed = |_: io::Error| Error::Closed;
    let frame = frame::seal(request).ok_or_else(|| Error::Unsupported("a request of 4 GB".to_owned()))?;
    stream.write_all(&frame).await.map_err(closed)?;
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).await.map_err(closed)?;
    let length = frame::length(header).ok_or(Error::Unreadable("it is longer than 1 MiB"))?;
    // The memory grows with what comes, not with what is announced.
    let mut body = Vec::new();
    stream
        .take(length as u64)
        .read_to_end(&mut body)
        .await
        .map_err(closed)?;
    if body.len() < length {
        return Err(Error::Closed);
    }
    frame::open(&mut body);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};
    use tokio::io::duplex;

    use super::*;
    use crate::testing::{damage, fuzz_count};

    async fn answered(answer: &[u8]) -> Result<Vec<u8>, Error> {
        let (mut ours, mut device) = duplex(64 * 1024);
        device.write_all(answer).await.unwrap();
        device.shutdown().await.unwrap();
        transfer(&mut ours, b"{}").await
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_length() {
        let mut answer = frame::seal(br#"{"a":1}"#).unwrap();
        assert_eq!(answered(&answer[..6]).await, Err(Error::Closed));
        assert_eq!(answered(&answer[..3]).await, Err(Error::Closed));
        answer.extend(b"more");
        assert_eq!(answered(&answer).await.unwrap(), br#"{"a":1}"#);
        let long = [0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            answered(&long).await,
            Err(Error::Unreadable("it is longer than 1 MiB"))
        );
    }

    #[tokio::test]
    async fn damaged_answers_are_no_harm() {
        let mut rng = StdRng::seed_from_u64(6);
        let answer = frame::seal(br#"{"system":{"get_sysinfo":{"err_code":0,"relay_state":1}}}"#).unwrap();
        for _ in 0..fuzz_count() {
            let mut damaged = answer.clone();
            damage(&mut damaged, &mut rng);
            if let Ok(body) = answered(&damaged).await {
                assert!(body.len() <= damaged.len());
                let _ = serde_json::from_slice::<Value>(&body);
            }
        }
    }
}
