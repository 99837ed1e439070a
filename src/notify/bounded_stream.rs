//! A connection to a server that is not to be trusted.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// More than any conversation with a mail server has, in bytes. A reader of lines keeps a line that does not end whole.
const READ_MAX: usize = 64 * 1024;

/// What a server says first.
const GREETING: &[u8] = b"220 \r\n";

/// A connection that fails once the other side sent more than that. Answers are read as ASCII: with `?` for other bytes, which
/// are in texts only, and their encoding is not known.
#[derive(Debug)]
pub(super) struct BoundedStream<S> {
    stream: S,
    left: usize,
    /// What is read before the stream.
    first: &'static [u8],
}

impl<S> BoundedStream<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            left: READ_MAX,
            first: b"",
        }
    }

    /// To a server that said its greeting before the stream was encrypted, as it does no second time.
    pub(super) fn greeted(stream: S) -> Self {
        let first = GREETING;
        Self {
            first,
            ..Self::new(stream)
        }
    }
}

impl AsyncTokioStream for BoundedStream<TcpStream> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncTokioStream for BoundedStream<TlsStream<TcpStream>> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().0.peer_addr()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("it sends more than any mail server")));
        }
        if !self.first.is_empty() {
            let (now, later) = self.first.split_at(self.first.len().min(buf.remaining()));
            buf.put_slice(now);
            self.first = later;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection");
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf)).map_err(|error| match error.kind() {
            // Of TLS, with an advice for programmers.
            io::ErrorKind::UnexpectedEof => closed(),
            _ => error,
        })?;
        let read = buf.filled_mut().split_at_mut(before).1;
        if read.is_empty() {
            return Poll::Ready(Err(closed()));
        }
        for byte in read.iter_mut().filter(|byte| !byte.is_ascii()) {
            *byte = b'?';
        }
        let read = read.len();
        self.left = self.left.saturating_sub(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, repeat};

    use super::*;

    #[tokio::test]
    async fn more_than_any_conversation_is_not_read() {
        let mut read = Vec::new();
        let mut short = BoundedStream::greeted(repeat(b'\xfc').take(READ_MAX as u64 - 1));
        let closed = short.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(closed.to_string(), "it closed the connection");
        assert_eq!(read, [GREETING, &vec![b'?'; READ_MAX - 1]].concat());
        let mut endless = BoundedStream::new(repeat(b'y'));
        endless.read_to_end(&mut read).await.unwrap_err();
        assert!(read.len() < 4 * READ_MAX, "{}", read.len());
    }
}
