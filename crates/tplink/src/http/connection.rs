//! One HTTP request on a connection.

use std::io;

use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{
    HttpReply,
    reply_head::{BodyLength, ReplyHead},
};
use crate::{Error, limits::LONGEST_REPLY};

/// Most answers fit into this.
const USUAL_REPLY: usize = 2 * 1024;
/// The longest head of an answer.
const LONGEST_HEAD: usize = 16 * 1024;
/// The longest line before a chunk, or after the last one.
const LONGEST_LINE: usize = 1024;

/// The error of an answer that begins like none.
pub(crate) const NOT_HTTP: Error = Error::Unreadable("it is not HTTP");
const TOO_LONG: Error = Error::Unreadable("it is longer than 1 MiB");

/// Sends a request, head and body, and reads its answer. Returns the stream too, if the device keeps it open and has sent no
/// more than the answer.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: &[u8],
) -> Result<(HttpReply, Option<S>), Error> {
    stream.write_all(request).await.map_err(closed)?;
    let mut input = Input {
        stream,
        received: Vec::with_capacity(USUAL_REPLY),
    };
    let head = input.head().await?;
    let body = match head.body {
        BodyLength::Bytes(length) => input.bytes(length).await?,
        BodyLength::Chunks => input.chunks().await?,
        BodyLength::UntilClosed => input.rest().await?,
    };
    let reply = HttpReply {
        status: head.status,
        cookie: head.cookie,
        body,
    };
    let is_kept = head.is_kept && input.received.is_empty();
    Ok((reply, is_kept.then_some(input.stream)))
}

/// What comes from a device: what was received and is not used yet, and the rest.
struct Input<S> {
    stream: S,
    received: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Input<S> {
    async fn head(&mut self) -> Result<ReplyHead, Error> {
        loop {
            match ReplyHead::parse(&self.received)? {
                Some((head, length)) => {
                    self.received.drain(..length);
                    if !head.is_provisional() {
                        return Ok(head);
                    }
                }
                None if self.received.len() >= LONGEST_HEAD => return Err(NOT_HTTP),
                None => self.more().await?,
            }
        }
    }

    async fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        if length > LONGEST_REPLY {
            return Err(TOO_LONG);
        }
        while self.received.len() < length {
            self.more().await?;
        }
        let after = self.received.split_off(length);
        Ok(std::mem::replace(&mut self.received, after))
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        loop {
            let (line, length) = match httparse::parse_chunk_size(&self.received).map_err(|_| NOT_HTTP)? {
                Status::Complete(read) => read,
                Status::Partial if self.received.len() >= LONGEST_LINE => return Err(NOT_HTTP),
                Status::Partial => {
                    self.more().await?;
                    continue;
                }
            };
            self.received.drain(..line);
            if length == 0 {
                break;
            }
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > LONGEST_REPLY - body.len() {
                return Err(TOO_LONG);
            }
            body.extend(self.bytes(length).await?);
            if self.line().await? != 0 {
                return Err(NOT_HTTP);
            }
        }
        // Trailers are of no interest.
        let mut left = LONGEST_HEAD;
        loop {
            match self.line().await? {
                0 => return Ok(body),
                length => left = left.checked_sub(length).ok_or(NOT_HTTP)?,
            }
        }
    }

    /// Drops one line, and returns its length without its end.
    async fn line(&mut self) -> Result<usize, Error> {
        const END: &[u8] = b"\r\n";
        loop {
            if let Some(length) = self.received.windows(END.len()).position(|window| window == END) {
                self.received.drain(..length + END.len());
                return Ok(length);
            }
            if self.received.len() >= LONGEST_LINE {
                return Err(NOT_HTTP);
            }
            self.more().await?;
        }
    }

    async fn rest(&mut self) -> Result<Vec<u8>, Error> {
        while self.stream.read_buf(&mut self.received).await.map_err(closed)? > 0 {
            if self.received.len() > LONGEST_REPLY {
                return Err(TOO_LONG);
            }
        }
        Ok(std::mem::take(&mut self.received))
    }

    async fn more(&mut self) -> Result<(), Error> {
        match self.stream.read_buf(&mut self.received).await.map_err(closed)? {
            0 => Err(Error::Closed),
            _ => Ok(()),
        }
    }
}

fn closed(_: io::Error) -> Error {
    Error::Closed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::testing::{damage, fuzz_count};

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nSet-Cookie: TP_SESSIONID=AB;TIMEOUT=60\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n";
    const REQUEST: &[u8] = b"POST /app HTTP/1.1\r\nHost: device\r\nContent-Length: 2\r\n\r\n{}";

    /// The answer is sent once the request is there, as by a device.
    async fn answered(bytes: &[u8], close: bool) -> Result<(HttpReply, Option<DuplexStream>), Error> {
        let (ours, mut device) = duplex(4 * 1024 * 1024);
        let serve = async {
            assert!(device.read(&mut [0; 512]).await.unwrap() > 0);
            device.write_all(bytes).await.unwrap();
            if close { None } else { Some(device) }
        };
        let (reply, _device) = tokio::join!(exchange(ours, REQUEST), serve);
        reply
    }

    #[tokio::test]
    async fn requests_and_their_answers_pass_over_one_connection() {
        let (mut ours, mut device) = duplex(4096);
        for answer in [ANSWER, CHUNKED, ANSWER] {
            let mut sent = vec![0; 512];
            let serve = async {
                let length = device.read(&mut sent).await.unwrap();
                // However it is divided.
                for byte in answer {
                    device.write_all(&[*byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
                length
            };
            let (reply, length) = tokio::join!(exchange(ours, REQUEST), serve);
            let (reply, kept) = reply.unwrap();
            assert_eq!((reply.status, &reply.body[..]), (200, &b"hello"[..]));
            assert_eq!(&sent[..length], REQUEST);
            ours = kept.unwrap();
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_or_says_more_is_not_kept() {
        let twice = [ANSWER, ANSWER].concat();
        let closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        for (bytes, close) in [
            (&twice[..], false),
            (&closing[..], false),
            (b"HTTP/1.1 200 OK\r\n\r\nhello", true),
        ] {
            let (reply, kept) = answered(bytes, close).await.unwrap();
            assert_eq!(reply.body, b"hello");
            assert!(kept.is_none(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test]
    async fn answers_that_are_too_long_or_no_http_are_refused() {
        const HEAD: &str = "HTTP/1.1 200 OK\r\n";
        let announced = format!("{HEAD}Content-Length: {}\r\n\r\n", LONGEST_REPLY + 1);
        let endless = [format!("{HEAD}\r\n").as_bytes(), &vec![b'x'; LONGEST_REPLY + 1]].concat();
        let chunked = |chunks: &str| format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}");
        let headers = format!("{HEAD}X: {}\r\n\r\n", "x".repeat(LONGEST_HEAD));
        for (bytes, expected) in [
            (announced.as_bytes(), TOO_LONG),
            (&endless, TOO_LONG),
            (chunked("FFFFFFFF\r\n").as_bytes(), TOO_LONG),
            (chunked("2\r\nhello\r\n").as_bytes(), NOT_HTTP),
            (chunked("x\r\n").as_bytes(), NOT_HTTP),
            (
                chunked(&format!("0\r\n{}", "x".repeat(LONGEST_LINE))).as_bytes(),
                NOT_HTTP,
            ),
            (headers.as_bytes(), NOT_HTTP),
            (b"\x00\x01\x02\x03garbage\r\n\r\n", NOT_HTTP),
        ] {
            assert_eq!(answered(bytes, true).await.unwrap_err(), expected);
        }
        for cut in [
            &ANSWER[..ANSWER.len() - 1],
            &CHUNKED[..CHUNKED.len() - 1],
            &ANSWER[..20],
            b"",
        ] {
            assert_eq!(answered(cut, true).await.unwrap_err(), Error::Closed);
        }
    }

    #[tokio::test]
    async fn no_redirect_is_followed() {
        let reply = answered(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
            false,
        )
        .await;
        assert_eq!(reply.unwrap().0.status, 302);
    }

    /// Without a wait: the clock runs on by itself once every task waits.
    #[tokio::test(start_paused = true)]
    async fn damaged_http_is_no_harm() {
        let mut rng = StdRng::seed_from_u64(1);
        for round in 0..fuzz_count() {
            let mut bytes = if round % 2 == 0 { ANSWER } else { CHUNKED }.to_vec();
            damage(&mut bytes, &mut rng);
            let closes = rng.random();
            let reading = tokio::time::timeout(Duration::from_millis(1), answered(&bytes, closes));
            if let Ok(Ok((reply, _))) = reading.await {
                assert!(reply.body.len() <= LONGEST_REPLY);
            }
        }
    }
}
