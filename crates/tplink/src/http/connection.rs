//! One HTTP request on a connection.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
    client::conn::http1::Builder,
    header::SET_COOKIE,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Cookie, HttpReply};
use crate::{Error, limits::LONGEST_REPLY};

/// Devices send five or six headers.
const MOST_HEADERS: usize = 64;
/// The longest head of an answer, and the largest piece in which a body is read.
const READ_BUFFER: usize = 16 * 1024;

/// The error of an answer that begins like none.
pub(crate) const NOT_HTTP: Error = Error::Unreadable("it is not HTTP");

/// Sends a request over a stream and reads its answer. Returns the stream too, if the device keeps it open. The buffers end
/// with the request: those of idle connections would be most of the memory that a device takes.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(HttpReply, Option<S>), Error> {
    let mut builder = Builder::new();
    // Some devices do not know headers in lower case.
    builder
        .title_case_headers(true)
        .max_headers(MOST_HEADERS)
        .max_buf_size(READ_BUFFER);
    let started = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, mut driver) = started.map_err(|error| classify(&error))?;
    let mut ended = false;
    let reply = {
        let answer = async {
            let response = sender.send_request(request).await;
            read(response.map_err(|error| classify(&error))?).await
        };
        let mut answer = pin!(answer);
        poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            if !ended && Pin::new(&mut driver).poll(context).is_ready() {
                ended = true;
                // What came before the end may be the whole answer.
                return answer.as_mut().poll(context);
            }
            Poll::Pending
        })
        .await?
    };
    // It sees now whether the device closes.
    let is_open = poll_fn(|context| {
        ended = ended || Pin::new(&mut driver).poll(context).is_ready();
        Poll::Ready(!ended && !sender.is_closed())
    });
    if !is_open.await {
        return Ok((reply, None));
    }
    let parts = driver.into_parts();
    let stream = parts.read_buf.is_empty().then(|| parts.io.into_inner());
    Ok((reply, stream))
}

async fn read(response: Response<Incoming>) -> Result<HttpReply, Error> {
    const TOO_LONG: Error = Error::Unreadable("it is longer than 1 MiB");
    let (head, mut incoming) = response.into_parts();
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > LONGEST_REPLY {
        return Err(TOO_LONG);
    }
    let mut body = Vec::with_capacity(announced);
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| classify(&error))?;
        // Trailers are of no interest.
        let data = frame.into_data().unwrap_or_default();
        if body.len() + data.len() > LONGEST_REPLY {
            return Err(TOO_LONG);
        }
        body.extend_from_slice(&data);
    }
    let cookie = head
        .headers
        .get_all(SET_COOKIE)
        .iter()
        .find_map(|header| Cookie::parse(header.as_bytes()));
    Ok(HttpReply {
        status: head.status.as_u16(),
        cookie,
        body,
    })
}

fn classify(error: &hyper::Error) -> Error {
    if error.is_parse() { NOT_HTTP } else { Error::Closed }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::testing::{damage, fuzz_count};

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nSet-Cookie: TP_SESSIONID=AB;TIMEOUT=60\r\nContent-Length: 5\r\n\r\nhello";

    fn request() -> Request<Full<Bytes>> {
        let request = Request::post("/app").header("Host", "device");
        request.body(Full::new(Bytes::from_static(b"{}"))).unwrap()
    }

    fn connected() -> (DuplexStream, DuplexStream) {
        duplex(4 * 1024 * 1024)
    }

    /// The answer is sent once the request is there, as by a device.
    async fn answered(bytes: &[u8], close: bool) -> Result<(HttpReply, Option<DuplexStream>), Error> {
        let (ours, mut device) = connected();
        let serve = async {
            assert!(device.read(&mut [0; 512]).await.unwrap() > 0);
            device.write_all(bytes).await.unwrap();
            if close { None } else { Some(device) }
        };
        let (reply, _device) = tokio::join!(exchange(ours, request()), serve);
        reply
    }

    #[tokio::test]
    async fn requests_and_their_answers_pass_over_one_connection() {
        let (mut ours, mut device) = connected();
        for _ in 0..3 {
            let mut sent = vec![0; 512];
            let serve = async {
                let length = device.read(&mut sent).await.unwrap();
                device.write_all(ANSWER).await.unwrap();
                length
            };
            let (reply, length) = tokio::join!(exchange(ours, request()), serve);
            let (reply, kept) = reply.unwrap();
            assert_eq!((reply.status, &reply.body[..]), (200, &b"hello"[..]));
            assert_eq!(reply.cookie.unwrap().header(), "TP_SESSIONID=AB");
            let sent = String::from_utf8_lossy(&sent[..length]);
            assert_eq!(
                sent,
                "POST /app HTTP/1.1\r\nHost: device\r\nContent-Length: 2\r\n\r\n{}"
            );
            ours = kept.unwrap();
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_or_says_more_is_not_kept() {
        let twice = [ANSWER, ANSWER].concat();
        let closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        for (bytes, close) in [
            (ANSWER, true),
            (&twice, false),
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
        let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LONGEST_REPLY + 1);
        let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; LONGEST_REPLY + 1]].concat();
        let headers = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(READ_BUFFER));
        for (bytes, expected) in [
            (announced.as_bytes(), "it is longer than 1 MiB"),
            (&endless, "it is longer than 1 MiB"),
            (headers.as_bytes(), "it is not HTTP"),
            (b"\x00\x01\x02\x03garbage\r\n\r\n", "it is not HTTP"),
        ] {
            let reply = answered(bytes, true).await;
            assert_eq!(reply.unwrap_err(), Error::Unreadable(expected));
        }
        for cut in [&ANSWER[..ANSWER.len() - 1], b""] {
            assert_eq!(answered(cut, true).await.unwrap_err(), Error::Closed);
        }
    }

    #[tokio::test]
    async fn no_redirect_is_followed() {
        let reply = answered(
            b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
            false,
        )
        .await;
        assert_eq!(reply.unwrap().0.status, 302);
    }

    /// Without a wait: the clock runs on by itself once every task waits.
    #[tokio::test(start_paused = true)]
    async fn damaged_http_is_no_harm() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..fuzz_count() {
            let mut bytes = ANSWER.to_vec();
            damage(&mut bytes, &mut rng);
            let closes = rng.random();
            let reading = tokio::time::timeout(Duration::from_millis(1), answered(&bytes, closes));
            if let Ok(Ok((reply, _))) = reading.await {
                assert!(reply.body.len() <= LONGEST_REPLY);
            }
        }
    }
}
